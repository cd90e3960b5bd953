//! Epochs, and a Redis that was emptied or is gone.

use domain::hold::HoldEnd;
use hot_balances::{Epoch, FillHolds, Filled, HoldAnswer, News, RenewAnswer, Told};

use crate::support::{
    FIRST, Given, at, balance, given, id, new_account, on_one_redis_and_on_a_cluster, request,
};

on_one_redis_and_on_a_cluster! {
    a_late_call_of_an_earlier_epoch_changes_nothing
    what_an_earlier_epoch_left_is_not_looked_at
    installations_that_share_a_redis_do_not_meet
}

/// Every call that can be told so says that the epoch is lost.
async fn assert_all_lost(given: &Given, epoch: Epoch) {
    let (hot, account) = (&given.hot, given.account);
    let projection = balance(9, 1_000);
    assert_eq!(hot.hold(account, epoch, &request("lost", 1, 1, 0)).await.unwrap(), HoldAnswer::Lost);
    assert_eq!(hot.renew(account, epoch, &id("a"), at(99), at(0)).await.unwrap(), RenewAnswer::Lost);
    for holds in [FillHolds::All(&[]), FillHolds::Besides(&[])] {
        assert_eq!(hot.fill(account, epoch, &given.ticket, &projection, holds).await.unwrap(), Filled::Lost);
    }
    assert_eq!(hot.begin_loads(epoch, &[account]).await.unwrap(), None);
    let news = News { account, projection: &projection, ended: &[(id("a"), HoldEnd::Released)] };
    assert_eq!(hot.publish(epoch, &[news], at(0)).await.unwrap(), Told::Lost);
    assert_eq!(hot.drop_projection(account, epoch).await.unwrap(), Told::Lost);
    assert!(hot.find(epoch, &[(account, id("a"))]).await.is_err());
}

async fn a_late_call_of_an_earlier_epoch_changes_nothing(given: Given) {
    assert_eq!(given.hold("a", 60, 60).await, Ok(60));
    given.hot.begin_epoch(Epoch(2)).await.unwrap();
    let keys = ["1", "2", "1:live", "2:live", "1:holds"].map(|part| given.key(&format!("balance:{part}")));
    let mut before = Vec::new();
    for key in &keys {
        before.push(given.redis::<Option<Vec<u8>>>(&["DUMP", key]).await);
    }
    assert_all_lost(&given, FIRST).await;
    for (key, before) in keys.iter().zip(before) {
        assert_eq!(given.redis::<Option<Vec<u8>>>(&["DUMP", key]).await, before);
    }
}

async fn what_an_earlier_epoch_left_is_not_looked_at(given: Given) {
    assert_eq!(given.hold("a", 60, 60).await, Ok(60));
    let second = Epoch(2);
    given.hot.begin_epoch(second).await.unwrap();
    let (hot, account) = (&given.hot, given.account);
    let miss = hot.hold(account, second, &request("b", 1, 1, 0)).await.unwrap();
    assert_eq!(miss, HoldAnswer::Miss { is_loaded: false });
    assert_eq!(hot.find(second, &[(account, id("a"))]).await.unwrap(), [None]);
    assert_eq!(hot.peek(second, &[account]).await.unwrap(), [None]);
    let ticket = hot.begin_loads(second, &[account]).await.unwrap().unwrap().remove(0);
    hot.fill(account, second, &ticket, &balance(1, 100), FillHolds::All(&[])).await.unwrap();
    let held = hot.hold(account, second, &request("a", 100, 100, 0)).await.unwrap();
    assert!(matches!(held, HoldAnswer::Held { hold, .. } if hold.credits.get() == 100));
}

async fn installations_that_share_a_redis_do_not_meet(one: Given) {
    // Another one, by its secret, that is further on.
    let other = one.other_installation();
    other.begin_epoch(Epoch(7)).await.unwrap();
    assert_eq!(one.hold("a", 1, 1).await, Ok(1));
    let lost = other.hold(one.account, FIRST, &request("b", 1, 1, 0)).await.unwrap();
    assert_eq!(lost, HoldAnswer::Lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_was_emptied_says_lost_to_every_call() {
    let redis = testkit::lone_redis("hot-emptied");
    let given = given(&redis).await;
    assert_eq!(given.hold("a", 60, 60).await, Ok(60));
    given.redis::<String>(&["FLUSHALL"]).await;
    assert_all_lost(&given, FIRST).await;
    assert_eq!(given.redis::<i64>(&["DBSIZE"]).await, 0, "and nothing was written");
    given.hot.begin_epoch(Epoch(2)).await.unwrap();
    assert_all_lost(&given, FIRST).await;
    let miss = given.hot.hold(given.account, Epoch(2), &request("a", 60, 60, 0)).await.unwrap();
    assert_eq!(miss, HoldAnswer::Miss { is_loaded: false });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_which_one_master_was_emptied_says_lost_for_its_slots_alone() {
    let cluster = testkit::lone_cluster("hot-emptied");
    let mut given = given(&cluster).await;
    // The first master has the first third of the slots.
    let mut accounts = [None, None];
    while accounts.contains(&None) {
        given.account = new_account();
        given.fill(&balance(1, 100), &[]).await;
        let slot: usize = given.redis(&["CLUSTER", "KEYSLOT", &given.key("balance:1")]).await;
        accounts[usize::from(slot >= 16_384 / 3)] = Some(given.account);
    }
    let first = redis::Client::open(cluster.server_urls()[0].as_str()).unwrap();
    let mut first = first.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL").query_async::<String>(&mut first).await.unwrap();

    let [emptied, whole] = accounts.map(Option::unwrap);
    given.account = whole;
    assert_eq!(given.hold("a", 60, 60).await, Ok(60));
    given.account = emptied;
    assert_all_lost(&given, FIRST).await;
    // Holds that were gathered with one that is lost are granted none the less.
    let one = request("b", 1, 1, 0);
    let (lost, held) = tokio::join!(given.hot.hold(emptied, FIRST, &one), given.hot.hold(whole, FIRST, &one));
    assert_eq!(lost.unwrap(), HoldAnswer::Lost);
    assert!(matches!(held.unwrap(), HoldAnswer::Held { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_redis_is_named_by_its_masters() {
    for (redis, masters) in [(testkit::lone_redis("hot-run"), 1), (testkit::lone_cluster("hot-run"), 3)] {
        let given = given(&redis).await;
        let run_id = given.hot.run_id().await.unwrap();
        assert_eq!(run_id.split(' ').count(), masters, "{run_id}");
        assert_eq!(given.other_server().run_id().await.unwrap(), run_id);
        given.hot.ping().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_another_run_of_redis_is_not_used() {
    let redis = testkit::lone_redis("hot-other-run");
    let given = given(&redis).await;
    let run_id = given.hot.run_id().await.unwrap();
    given.hot.check_run(&run_id).await.unwrap();
    assert_eq!(given.hold("a", 60, 60).await, Ok(60));
    // A server that comes to another run, which says that it is in the same epoch and has the account: as
    // one that was restarted with an old dump does.
    let newcomer = given.other_server();
    assert!(newcomer.check_run("a run of before").await.is_err());
    assert!(newcomer.hold(given.account, FIRST, &request("b", 1, 1, 0)).await.is_err());
    assert!(newcomer.find(FIRST, &[(given.account, id("a"))]).await.is_err());
    assert!(newcomer.begin_epoch(FIRST).await.is_ok(), "but the next epoch can begin with it");
    newcomer.check_run(&run_id).await.unwrap();
    let held = newcomer.hold(given.account, FIRST, &request("b", 1, 1, 0)).await.unwrap();
    assert!(matches!(held, HoldAnswer::Held { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_wait_hear_that_redis_is_away() {
    for redis in [testkit::lone_redis("hot-away"), testkit::lone_cluster("hot-away")] {
        let given = given(&redis).await;
        drop(redis);
        let asking = (0..100).map(|n| {
            let (hot, account) = (given.hot.clone(), given.account);
            tokio::spawn(async move { hot.hold(account, FIRST, &request(&format!("h{n}"), 1, 1, 0)).await })
        });
        for asked in asking.collect::<Vec<_>>() {
            assert!(asked.await.unwrap().is_err());
        }
        assert!(given.hot.ping().await.is_err());
        assert!(given.hot.begin_epoch(Epoch(2)).await.is_err());
    }
}
