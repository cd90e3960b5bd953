//! Accounts' balances: loaded, published, run out, forged, looked at.

use std::collections::BTreeMap;

use domain::hold::HoldEnd;
use hot_balances::{AccountKey, FillHolds, Filled, HoldAnswer, KnownHold, News, Peeked, Projection, Told};

use crate::support::{
    FIRST, Given, at, balance, credits, forged, id, key_of, new_account, on_one_redis_and_on_a_cluster,
    request,
};

on_one_redis_and_on_a_cluster! {
    an_account_that_was_never_loaded_is_a_miss
    a_balance_that_has_run_out_is_a_miss_that_keeps_its_holds
    a_fill_brings_the_holds_along
    a_fill_brings_many_holds_as_well
    a_hold_is_known_while_its_account_is_filled_anew
    a_fill_does_not_bring_back_what_has_ended_meanwhile
    a_newer_balance_is_taken_and_an_older_one_is_not
    many_accounts_are_told_at_once_each_of_its_own_change
    what_was_read_before_a_change_is_not_loaded_after_it
    loads_that_are_under_way_at_once_share_what_is_published_and_the_first_brings_the_account
    a_load_that_is_over_brings_no_balance
    an_account_that_is_not_loaded_is_not_loaded_by_a_change
    a_forged_balance_is_dropped_and_what_it_gave_is_taken_back
    live_holds_that_were_lost_have_to_be_brought_along
    accounts_are_peeked_at_and_dropped
    gathered_holds_of_many_accounts_each_get_their_own_answer
    the_keys_of_an_account_lie_in_one_slot_and_go_by_themselves
}

const LOADED: HoldAnswer = HoldAnswer::Miss { is_loaded: true };
const UNLOADED: HoldAnswer = HoldAnswer::Miss { is_loaded: false };

async fn an_account_that_was_never_loaded_is_a_miss(given: Given) {
    let stranger = given.hot.hold(new_account(), FIRST, &request("a", 1, 1, 0)).await.unwrap();
    assert_eq!(stranger, UNLOADED);
}

/// The same balance for another minute.
fn for_another_minute(projection: Projection) -> Projection {
    Projection { valid_until: Some(at(120)), ..projection }
}

async fn a_balance_that_has_run_out_is_a_miss_that_keeps_its_holds(given: Given) {
    assert_eq!(given.hold_at(50, "a", 60, 60).await, Ok(60), "until second 65");
    assert_eq!(given.hold_at(59, "b", 41, 41).await, Err(40));
    assert_eq!(given.ask(&request("b", 1, 1, 60)).await, LOADED);
    let again = for_another_minute(balance(1, 100));
    given.fill_besides(&again).await;
    assert_eq!(given.hold_at(60, "b", 41, 41).await, Err(40), "a is there still");
    assert_eq!(given.hold_at(60, "a", 60, 60).await, Ok(60), "and is known");
    assert_eq!(given.held().await, 60, "held once");
}

/// A hold as PostgreSQL knows it: of this many Credits, granted at second 0.
fn recorded(given: &Given, name: &str, count: i64, end: Option<HoldEnd>) -> KnownHold {
    let request = request(name, count, count, 0);
    let hold = request.hold(given.account.customer, credits(count), None);
    KnownHold { hold, fingerprint: request.fingerprint, end }
}

async fn a_fill_brings_the_holds_along(mut given: Given) {
    given.account = new_account();
    let live = recorded(&given, "live", 60, None);
    let ended = recorded(&given, "ended", 30, Some(HoldEnd::Captured));
    given.fill(&balance(1, 100), &[live.clone(), ended.clone()]).await;
    assert_eq!(given.hold("a", 41, 41).await, Err(40));
    let known = [given.find("live").await, given.find("ended").await];
    assert_eq!(known, [Some(live), Some(ended)]);
    assert_eq!(given.hold_at(15, "a", 100, 100).await, Ok(100));
}

async fn a_fill_brings_many_holds_as_well(mut given: Given) {
    given.account = new_account();
    let many: Vec<KnownHold> = (0..1_200).map(|n| recorded(&given, &format!("h{n}"), 1, None)).collect();
    given.fill(&balance(1, 1_201), &many).await;
    assert_eq!(given.hold("more", 2, 2).await, Err(1), "1,200 of 1,201 are held");
    assert_eq!(given.hold("one", 1, 1).await, Ok(1));
}

async fn a_hold_is_known_while_its_account_is_filled_anew(given: Given) {
    assert_eq!(given.hold("a", 60, 60).await, Ok(60));
    // In ten calls.
    let many: Vec<KnownHold> = (0..5_000).map(|n| recorded(&given, &format!("h{n}"), 0, None)).collect();
    let projection = balance(1, 100);
    let asking = async {
        for _ in 0..100 {
            assert_eq!(given.hold("a", 60, 60).await, Ok(60));
        }
    };
    tokio::join!(given.fill(&projection, &many), asking);
    assert_eq!(given.held().await, 60, "held once");
}

async fn a_fill_does_not_bring_back_what_has_ended_meanwhile(mut given: Given) {
    given.account = new_account();
    let holds = [("captured", 10), ("released", 20), ("live", 30)];
    let holds = holds.map(|(name, count)| recorded(&given, name, count, None));
    given.end(&balance(1, 100), &["captured"], HoldEnd::Captured).await;
    given.end(&balance(1, 100), &["released"], HoldEnd::Released).await;
    given.fill(&balance(1, 100), &holds).await;
    assert_eq!(given.hold("a", 71, 71).await, Err(70));
}

async fn a_newer_balance_is_taken_and_an_older_one_is_not(given: Given) {
    given.publish(&balance(3, 30), &[]).await;
    given.publish(&balance(2, 90), &[]).await;
    assert_eq!(given.hold("a", 31, 31).await, Err(30));
    // Nothing was published since that load began; what is here is newer all the same.
    given.fill(&balance(2, 90), &[]).await;
    assert_eq!(given.hold("a", 31, 31).await, Err(30));
    given.fill(&balance(4, 50), &[]).await;
    assert_eq!(given.hold("a", 51, 51).await, Err(50));
}

async fn many_accounts_are_told_at_once_each_of_its_own_change(mut given: Given) {
    // 100 accounts of 100 Credits, with holds of 10 and 20; the first ends, and account n is left with n.
    let accounts: Vec<AccountKey> = (0..100).map(|_| new_account()).collect();
    for account in &accounts {
        given.account = *account;
        given.fill(&balance(1, 100), &[]).await;
        assert_eq!(given.hold("ends", 10, 10).await, Ok(10));
        assert_eq!(given.hold("stays", 20, 20).await, Ok(20));
    }
    let projections: Vec<_> = (0..100).map(|left| balance(2, 20 + left)).collect();
    let ended = [(id("ends"), HoldEnd::Captured)];
    let news = accounts.iter().zip(&projections);
    let news: Vec<News<'_>> =
        news.map(|(account, projection)| News { account: *account, projection, ended: &ended }).collect();
    assert_eq!(given.hot.publish(FIRST, &news, at(0)).await.unwrap(), Told::Done);
    for (left, account) in accounts.iter().enumerate() {
        given.account = *account;
        assert_eq!(given.hold("next", 1_000, 1_000).await, Err(i64::try_from(left).unwrap()));
    }
}

async fn what_was_read_before_a_change_is_not_loaded_after_it(mut given: Given) {
    given.account = new_account();
    let ticket = given.begin_load(given.account).await;
    // The later of two changes is told first.
    given.publish(&balance(3, 10), &[]).await;
    given.publish(&balance(2, 60), &[]).await;
    let (account, none) = (given.account, FillHolds::All(&[]));
    for (version, available) in [(1, 100), (2, 60)] {
        let ended = given.end_load(account, &ticket, &balance(version, available), none).await;
        assert_eq!(ended, Filled::Passed);
        assert_eq!(given.ask(&request("a", 50, 50, 0)).await, UNLOADED);
    }
    assert_eq!(given.end_load(account, &ticket, &balance(3, 10), none).await, Filled::Done);
    assert_eq!(given.hold("a", 50, 50).await, Err(10));
}

async fn loads_that_are_under_way_at_once_share_what_is_published_and_the_first_brings_the_account(
    mut given: Given,
) {
    given.account = new_account();
    let (account, none) = (given.account, FillHolds::All(&[]));
    let first = given.begin_load(account).await;
    given.publish(&balance(2, 60), &[]).await;
    let second = given.begin_load(account).await;
    let before = given.end_load(account, &second, &balance(1, 100), none).await;
    assert_eq!(before, Filled::Passed, "published before it began, and noted for the first");
    assert_eq!(given.end_load(account, &first, &balance(2, 60), none).await, Filled::Done);
    assert_eq!(given.hold("a", 50, 50).await, Ok(50));
    // The other one has waited for a change that is not published yet, and knows a hold.
    let ended = recorded(&given, "ended", 30, Some(HoldEnd::Captured));
    let holds = FillHolds::All(std::slice::from_ref(&ended));
    assert_eq!(given.end_load(account, &second, &balance(3, 55), holds).await, Filled::Done);
    assert_eq!(given.find("ended").await, Some(ended));
    assert_eq!(given.hold("b", 6, 6).await, Err(5));
    assert_eq!(given.end_load(account, &second, &balance(2, 60), none).await, Filled::Done);
    assert_eq!(given.hold("b", 6, 6).await, Err(5), "what is here is newer");
}

async fn a_load_that_is_over_brings_no_balance(mut given: Given) {
    given.account = new_account();
    let (account, none) = (given.account, FillHolds::All(&[]));
    // It took too long, and nobody has noted what was published since.
    let late = given.begin_load(account).await;
    given.redis::<i64>(&["DEL", &given.key("balance:1")]).await;
    given.publish(&balance(2, 10), &[]).await;
    assert_eq!(given.end_load(account, &late, &balance(1, 100), none).await, Filled::Passed);
    assert_eq!(given.ask(&request("a", 50, 50, 0)).await, UNLOADED);
    // Another one has brought the account, which was told more and dropped since, and a third has begun.
    let late = given.begin_load(account).await;
    given.fill(&balance(2, 60), &[]).await;
    given.publish(&balance(3, 10), &[]).await;
    given.hot.drop_projection(account, FIRST).await.unwrap();
    let third = given.begin_load(account).await;
    assert_eq!(given.end_load(account, &late, &balance(2, 60), none).await, Filled::Passed);
    assert_eq!(given.ask(&request("a", 50, 50, 0)).await, LOADED);
    assert_eq!(given.end_load(account, &third, &balance(3, 10), none).await, Filled::Done);
    assert_eq!(given.hold("a", 50, 50).await, Err(10));
}

async fn an_account_that_is_not_loaded_is_not_loaded_by_a_change(mut given: Given) {
    given.account = new_account();
    given.publish(&balance(1, 100), &[]).await;
    assert_eq!(given.ask(&request("a", 1, 1, 0)).await, UNLOADED, "its holds are not here");
    given.fill(&balance(1, 100), &[]).await;
    assert_eq!(given.hot.drop_projection(given.account, FIRST).await.unwrap(), Told::Done);
    given.publish(&balance(2, 50), &[]).await;
    assert_eq!(given.ask(&request("a", 1, 1, 0)).await, LOADED, "dropped until it is loaded anew");
}

async fn a_forged_balance_is_dropped_and_what_it_gave_is_taken_back(given: Given) {
    assert_eq!(given.hold("before", 60, 60).await, Ok(60));
    let written = given.written_projection(given.account).await;
    given.forge(&forged(&written, 1_000_000)).await;
    assert_eq!(given.ask(&request("a", 500, 500, 0)).await, LOADED);
    assert_eq!(given.find("a").await, None);
    assert_eq!(given.ask(&request("a", 500, 500, 0)).await, LOADED, "dropped for good");
    given.fill_besides(&balance(1, 100)).await;
    assert_eq!(given.hold("a", 41, 41).await, Err(40), "what was held before still is");
    // A refusal is believed as little, and what is signed for another account is no better.
    let rich = new_account();
    given.load(rich, &balance(9, 900), FillHolds::All(&[])).await;
    let foreign = given.written_projection(rich).await;
    let long_nonsense = [0xff; 64].to_vec();
    for forged in [forged(&written, 10), foreign, b"nonsense".to_vec(), long_nonsense] {
        given.forge(&forged).await;
        assert_eq!(given.ask(&request("b", 30, 30, 0)).await, LOADED);
        given.fill_besides(&balance(1, 100)).await;
    }
    assert_eq!(given.hold("b", 30, 30).await, Ok(30));
}

async fn live_holds_that_were_lost_have_to_be_brought_along(given: Given) {
    assert_eq!(given.hold("a", 60, 60).await, Ok(60));
    let held = given.find("a").await.unwrap();
    given.fill_besides(&balance(1, 100)).await;
    // Redis was short of memory and let go of them.
    given.redis::<i64>(&["DEL", &given.key("balance:1:live"), &given.key("balance:1:holds")]).await;
    given.hot.drop_projection(given.account, FIRST).await.unwrap();
    assert_eq!(given.ask(&request("b", 1, 1, 0)).await, LOADED);
    given.fill_besides(&balance(1, 100)).await;
    assert_eq!(given.ask(&request("b", 1, 1, 0)).await, UNLOADED);
    given.fill(&balance(1, 100), &[held]).await;
    assert_eq!(given.hold("b", 41, 41).await, Err(40));
}

async fn accounts_are_peeked_at_and_dropped(given: Given) {
    assert_eq!(given.hold("a", 60, 60).await, Ok(60));
    let accounts = [new_account(), given.account];
    let mut expected = Peeked { projection: balance(1, 100), is_signed: true, held: credits(60) };
    assert_eq!(given.hot.peek(FIRST, &accounts).await.unwrap(), [None, Some(expected.clone())]);

    let written = given.written_projection(given.account).await;
    given.forge(&forged(&written, 200)).await;
    expected = Peeked { projection: balance(1, 200), is_signed: false, held: credits(60) };
    assert_eq!(given.hot.peek(FIRST, &accounts).await.unwrap(), [None, Some(expected)]);

    assert_eq!(given.hot.drop_projection(given.account, FIRST).await.unwrap(), Told::Done);
    assert_eq!(given.hot.peek(FIRST, &accounts).await.unwrap(), [None, None]);
    assert_eq!(given.ask(&request("b", 1, 1, 0)).await, LOADED);
    // Nothing comes of dropping what is not there.
    assert_eq!(given.hot.drop_projection(accounts[0], FIRST).await.unwrap(), Told::Done);
    assert_eq!(given.hot.hold(accounts[0], FIRST, &request("b", 1, 1, 0)).await.unwrap(), UNLOADED);
}

async fn gathered_holds_of_many_accounts_each_get_their_own_answer(given: Given) {
    // 20 accounts of 0, 10, 20 .. 190 Credits, of which every third is not loaded; 10 holds of each.
    let mut available = BTreeMap::new();
    for n in 0..20 {
        let account = new_account();
        available.insert(account, (n, n * 10));
        if n % 3 != 0 {
            let balance = balance(n, n * 10);
            given.load(account, &balance, FillHolds::All(&[])).await;
        }
    }
    let asking = (0..10).flat_map(|_| available.keys().copied()).enumerate().map(|(n, account)| {
        let hot = given.hot.clone();
        tokio::spawn(async move {
            let request = request(&format!("h{n}"), 10, 10, 0);
            (account, request.id.clone(), hot.hold(account, FIRST, &request).await.unwrap())
        })
    });
    let mut granted: BTreeMap<_, i64> = BTreeMap::new();
    for asked in asking.collect::<Vec<_>>() {
        let (account, id, answer) = asked.await.unwrap();
        let (n, _) = available[&account];
        match answer {
            HoldAnswer::Held { hold, version, .. } => {
                assert_eq!((hold.id, hold.customer, version), (id, account.customer, n));
                *granted.entry(account).or_default() += hold.credits.get();
            }
            HoldAnswer::Short { unheld, .. } => assert_eq!(unheld, credits(0)),
            answer => assert_eq!((answer, n % 3), (UNLOADED, 0)),
        }
    }
    for (account, (n, all)) in available {
        let expected = if n % 3 == 0 { 0 } else { all.min(100) };
        assert_eq!(granted.get(&account).copied().unwrap_or_default(), expected, "{n}");
    }
}

async fn the_keys_of_an_account_lie_in_one_slot_and_go_by_themselves(given: Given) {
    assert_eq!(given.hold("a", 1, 1).await, Ok(1));
    assert_eq!(given.hold("b", 1, 1).await, Ok(1));
    given.publish(&balance(2, 50), &["a"]).await;
    given.fill_besides(&balance(2, 50)).await;
    let keys = ["", ":live", ":holds", ":kept"].map(|more| given.key(&format!("balance:1{more}")));
    let a_day_ms = 24 * 3_600 * 1_000;
    for key in &keys {
        let left_ms: i64 = given.redis(&["PTTL", key]).await;
        assert!(0 < left_ms && left_ms <= a_day_ms, "{key}: {left_ms}");
    }
    // One in use, which is told anew and never filled, keeps its own.
    given.redis::<i64>(&["PEXPIRE", &given.key("balance:1"), "1000"]).await;
    given.publish(&balance(3, 50), &[]).await;
    let left_ms: i64 = given.redis(&["PTTL", &given.key("balance:1")]).await;
    assert!(a_day_ms - 10_000 < left_ms && left_ms <= a_day_ms, "{left_ms}");
    // Of an account that a load has begun to bring they go as well.
    let begun = new_account();
    given.begin_load(begun).await;
    let left_ms: i64 = given.redis(&["PTTL", &key_of(begun, "balance:1")]).await;
    assert!(0 < left_ms && left_ms <= 10_000, "{left_ms}");
    if given.is_cluster() {
        let mut slots = Vec::new();
        for key in &keys {
            slots.push(given.redis::<i64>(&["CLUSTER", "KEYSLOT", key]).await);
        }
        assert!(slots.iter().all(|slot| *slot == slots[0]), "{slots:?}");
    }
}
