//! One account's holds.

use std::collections::BTreeSet;

use domain::Timestamp;
use domain::exhaustion::Exhaustion;
use domain::hold::HoldEnd;
use hot_balances::{HoldAnswer, News, Projection, RenewAnswer};

use crate::support::{
    FIRST, Given, at, balance, credits, fingerprint, id, on_one_redis_and_on_a_cluster, request,
};

on_one_redis_and_on_a_cluster! {
    a_hold_takes_the_estimate_or_all_that_is_left_or_nothing
    the_same_id_answers_the_same_hold
    sixty_four_at_once_never_hold_more_than_is_left
    a_capture_frees_the_hold_with_the_new_balance
    a_release_frees_the_hold_once
    a_hold_of_nothing_ends_like_any_other
    many_holds_of_an_account_are_as_good_as_few
    an_ended_hold_is_forgotten_two_hours_past_its_expiry
    a_hold_runs_out_by_the_askers_time
    a_hold_of_an_ended_cycle_no_longer_counts
    a_renewed_hold_counts_for_longer_and_never_for_less
    a_renewed_hold_counts_no_longer_than_its_cycle
    an_ended_hold_is_not_renewed
    holds_are_found_in_the_order_asked_for
    a_caller_that_goes_away_breaks_no_other
}

async fn a_hold_takes_the_estimate_or_all_that_is_left_or_nothing(given: Given) {
    assert_eq!(given.hold("a", 60, 50).await, Ok(60), "the whole estimate fits");
    assert_eq!(given.hold("b", 60, 30).await, Ok(40), "only the prompt fits: all that is left");
    assert_eq!(given.hold("c", 2, 1).await, Err(0), "nothing is left");
    assert_eq!(given.hold("free", 0, 0).await, Ok(0), "what costs nothing is never refused");
    let short = given.ask(&request("d", 2, 1, 0)).await;
    let (refills_at, exhaustion, valid_until) = (Some(at(1_000)), Some(Exhaustion::Payg), Some(at(60)));
    assert_eq!(short, HoldAnswer::Short { unheld: credits(0), refills_at, exhaustion, valid_until });
}

async fn the_same_id_answers_the_same_hold(given: Given) {
    let first = request("a", 60, 50, 0);
    let HoldAnswer::Held { hold, version: 1, .. } = given.ask(&first).await else { panic!() };
    assert_eq!(hold, first.hold(given.account.customer, credits(60), None));
    // Another request under the same id, when nothing is left for it: the ledger tells them apart.
    given.publish(&balance(2, 60), &[]).await;
    let HoldAnswer::Known { known, version: 2 } = given.ask(&request("a", 61, 61, 1)).await else { panic!() };
    assert_eq!((known.hold, known.fingerprint, known.end), (hold, fingerprint(60, 50), None));
    assert_eq!(given.held().await, 60, "held once");
}

async fn sixty_four_at_once_never_hold_more_than_is_left(given: Given) {
    given.publish(&balance(2, 1_000), &[]).await;
    let servers = [given.hot.clone(), given.other_server()];
    let asking = (0..64).map(|n| {
        let (hot, account) = (servers[n % 2].clone(), given.account);
        tokio::spawn(async move { hot.hold(account, FIRST, &request(&format!("h{n}"), 30, 30, 0)).await })
    });
    let mut granted = 0;
    for asked in asking.collect::<Vec<_>>() {
        match asked.await.unwrap().unwrap() {
            HoldAnswer::Held { hold, .. } => granted += hold.credits.get(),
            HoldAnswer::Short { unheld, .. } => assert!(unheld.get() < 30),
            answer => panic!("{answer:?}"),
        }
    }
    assert_eq!((granted, given.held().await), (990, 990), "33 times 30 of 1,000");
}

async fn a_capture_frees_the_hold_with_the_new_balance(given: Given) {
    assert_eq!(given.hold("a", 60, 50).await, Ok(60));
    given.publish(&balance(2, 90), &["a"]).await;
    assert_eq!(given.hold("b", 91, 90).await, Ok(90));
    assert_eq!(given.find("a").await.unwrap().end, Some(HoldEnd::Captured));
    let again = given.ask(&request("a", 60, 50, 0)).await;
    assert!(matches!(again, HoldAnswer::Known { known, .. } if known.end == Some(HoldEnd::Captured)));
}

async fn a_release_frees_the_hold_once(given: Given) {
    assert_eq!(given.hold("a", 60, 60).await, Ok(60));
    assert_eq!(given.hold("b", 30, 30).await, Ok(30));
    for _ in 0..2 {
        given.end(&balance(1, 100), &["a"], HoldEnd::Released).await;
        assert_eq!(given.held().await, 30);
    }
    assert_eq!(given.hold("c", 71, 71).await, Err(70));
    assert_eq!(given.find("a").await.unwrap().end, Some(HoldEnd::Released));
}

async fn many_holds_of_an_account_are_as_good_as_few(given: Given) {
    given.publish(&balance(2, 2_000), &[]).await;
    for n in 0..600 {
        assert_eq!(given.hold_at(n / 120, &format!("h{n}"), 2, 2).await, Ok(2));
        assert_eq!(given.hold_at(n / 120, &format!("h{n}"), 2, 2).await, Ok(2), "the same once more");
    }
    assert_eq!(given.held().await, 1_200);
    assert_eq!(given.hold_at(5, "too-many", 801, 801).await, Err(800));
    let live = given.hot.live(FIRST, &[given.account]).await.unwrap();
    let ids: BTreeSet<String> = live.iter().map(|known| known.hold.id.to_string()).collect();
    assert_eq!((live.len(), ids.len()), (600, 600));

    // The first and the last; and one that is renewed runs on.
    given.end(&balance(3, 2_000), &["h0", "h599"], HoldEnd::Released).await;
    assert_eq!(given.held().await, 1_196);
    assert_eq!(given.find("h0").await.unwrap().end, Some(HoldEnd::Released));
    assert_eq!(given.find("h599").await.unwrap().end, Some(HoldEnd::Released));
    for hold in ["h1", "h598"] {
        assert_eq!(times(renew(&given, hold, 40, 5).await), (at(40), at(40)));
    }
    // 120 a second began at 0 to 4, and run for 15: of those of second 0 only h1 is left.
    let held_at =
        async |second| given.hot.held(given.account, FIRST, at(second)).await.unwrap().unwrap().get();
    assert_eq!((held_at(14).await, held_at(15).await, held_at(19).await), (1_196, 960, 4));
    assert_eq!(given.hold_at(15, "x", 1_041, 1_041).await, Err(1_040));
    assert_eq!(given.hold_at(19, "x", 1_997, 1_997).await, Err(1_996));
    assert_eq!(given.hold_at(40, "x", 2_000, 2_000).await, Ok(2_000));
}

async fn an_ended_hold_is_forgotten_two_hours_past_its_expiry(given: Given) {
    for name in ["captured", "expired"] {
        assert_eq!(given.hold(name, 10, 10).await, Ok(10), "until second 15");
    }
    given.publish(&balance(2, 90), &["captured"]).await;
    assert_eq!(given.hold_at(15, "c", 1, 1).await, Ok(1), "until second 30");
    let two_hours = 2 * 3_600;
    for (second, is_known) in [(two_hours + 14, true), (two_hours + 15, false)] {
        let ended = [(id("c"), HoldEnd::Released)];
        let news = News { account: given.account, projection: &balance(3, 90), ended: &ended };
        given.hot.publish(FIRST, &[news], at(second)).await.unwrap();
        for name in ["captured", "expired"] {
            assert_eq!(given.find(name).await.is_some(), is_known, "{name} at {second}");
        }
    }
    assert!(given.find("c").await.is_some(), "for 15 seconds more");
}

async fn a_hold_of_nothing_ends_like_any_other(given: Given) {
    for name in ["a", "b"] {
        assert_eq!(given.hold(name, 0, 0).await, Ok(0));
    }
    given.publish(&balance(2, 100), &["a"]).await;
    given.end(&balance(2, 100), &["b"], HoldEnd::Released).await;
    assert_eq!(given.hold("c", 100, 100).await, Ok(100));
    assert_eq!(given.find("a").await.unwrap().end, Some(HoldEnd::Captured));
    assert_eq!(given.find("b").await.unwrap().end, Some(HoldEnd::Released));
}

async fn a_hold_runs_out_by_the_askers_time(given: Given) {
    assert_eq!(given.hold_at(0, "a", 60, 60).await, Ok(60), "until second 15");
    assert_eq!(given.hold_at(5, "b", 40, 40).await, Ok(40), "until second 20");
    assert_eq!(given.hold_at(14, "c", 1, 1).await, Err(0));
    assert_eq!(given.hold_at(15, "c", 61, 61).await, Err(60));
    for known in ["a", "b"] {
        let HoldAnswer::Known { known, .. } = given.ask(&request(known, 1, 1, 15)).await else {
            panic!("{known}")
        };
        assert_eq!(known.is_live(at(15)), known.hold.id == id("b"));
    }
    assert_eq!(given.hold_at(20, "c", 101, 101).await, Err(100));
    assert_eq!(given.hold_at(20, "c", 100, 100).await, Ok(100));
}

/// 100 Credits, of a cycle that ends at second 10.
fn of_a_cycle(version: i64) -> Projection {
    Projection { cycle_ends_at: Some(at(10)), ..balance(version, 100) }
}

async fn a_hold_of_an_ended_cycle_no_longer_counts(given: Given) {
    given.publish(&of_a_cycle(2), &[]).await;
    let HoldAnswer::Held { hold, .. } = given.ask(&request("a", 70, 70, 0)).await else { panic!() };
    assert_eq!((hold.expires_at, hold.counts_until), (at(15), at(10)));
    assert_eq!(given.find("a").await.unwrap().hold, hold);
    assert_eq!(given.hold_at(9, "b", 31, 31).await, Err(30));
    assert_eq!(given.hold_at(10, "b", 100, 100).await, Ok(100));
}

async fn renew(given: &Given, hold: &str, until: i64, second: i64) -> RenewAnswer {
    given.hot.renew(given.account, FIRST, &id(hold), at(until), at(second)).await.unwrap()
}

/// When a renewed hold runs out, and until when it counts.
fn times(answer: RenewAnswer) -> (Timestamp, Timestamp) {
    let RenewAnswer::Renewed { known, version } = answer else { panic!("{answer:?}") };
    assert_eq!((known.end, version > 0), (None, true));
    (known.hold.expires_at, known.hold.counts_until)
}

async fn a_renewed_hold_counts_for_longer_and_never_for_less(given: Given) {
    assert_eq!(given.hold("a", 60, 60).await, Ok(60), "until second 15");
    assert_eq!(times(renew(&given, "a", 14, 1).await), (at(15), at(15)), "not shortened");
    assert_eq!(times(renew(&given, "a", 40, 14).await), (at(40), at(40)));
    assert_eq!(given.hold_at(39, "b", 41, 41).await, Err(40));
    assert_eq!(given.held().await, 60, "no balance has moved");
    assert_eq!(given.hold_at(40, "b", 100, 100).await, Ok(100));
}

async fn a_renewed_hold_counts_no_longer_than_its_cycle(given: Given) {
    given.publish(&of_a_cycle(2), &[]).await;
    assert_eq!(given.hold("a", 60, 60).await, Ok(60));
    assert_eq!(times(renew(&given, "a", 40, 5).await), (at(40), at(10)));
    assert_eq!(given.hold_at(10, "b", 100, 100).await, Ok(100), "the next cycle's");
    assert_eq!(times(renew(&given, "a", 50, 20).await), (at(50), at(10)), "it still runs");
    assert_eq!(given.held().await, 100);
}

async fn an_ended_hold_is_not_renewed(given: Given) {
    for name in ["captured", "released", "expired"] {
        assert_eq!(given.hold(name, 10, 10).await, Ok(10));
    }
    given.publish(&balance(2, 90), &["captured"]).await;
    given.end(&balance(2, 90), &["released"], HoldEnd::Released).await;
    for (name, end) in [("captured", Some(HoldEnd::Captured)), ("released", Some(HoldEnd::Released))] {
        assert!(matches!(renew(&given, name, 40, 1).await, RenewAnswer::Ended(known) if known.end == end));
    }
    let expired = renew(&given, "expired", 40, 15).await;
    assert!(matches!(expired, RenewAnswer::Ended(known) if known.end.is_none()));
    assert_eq!(renew(&given, "unheard-of", 40, 1).await, RenewAnswer::Unknown);
    let run_out = given.hot.renew(given.account, FIRST, &id("expired"), at(99), at(14)).await.unwrap();
    assert!(matches!(run_out, RenewAnswer::Renewed { .. }));
    let no_balance = given.hot.renew(given.account, FIRST, &id("expired"), at(200), at(60)).await.unwrap();
    assert_eq!(no_balance, RenewAnswer::Miss { is_loaded: true });
}

async fn holds_are_found_in_the_order_asked_for(given: Given) {
    for (name, full) in [("a", 1), ("b", 2)] {
        assert_eq!(given.hold(name, full, full).await, Ok(full));
    }
    let named = ["b", "x", "a"].map(|name| (given.account, id(name)));
    let found = given.hot.find(FIRST, &named).await.unwrap();
    let found: Vec<Option<i64>> = found.into_iter().map(|known| Some(known?.hold.credits.get())).collect();
    assert_eq!(found, [Some(2), None, Some(1)]);
    assert_eq!(given.hot.find(FIRST, &[]).await.unwrap(), []);
}

async fn a_caller_that_goes_away_breaks_no_other(given: Given) {
    // Each is polled until it has been put among those that wait, and half of them are dropped then.
    let mut staying = Vec::new();
    for n in 0..32 {
        let (hot, account) = (given.hot.clone(), given.account);
        let asked = async move { hot.hold(account, FIRST, &request(&format!("h{n}"), 1, 1, 0)).await };
        if n % 2 == 0 {
            let mut asked = Box::pin(asked);
            // It may even have its answer by then.
            std::future::poll_fn(|context| std::task::Poll::Ready(asked.as_mut().poll(context).is_ready()))
                .await;
        } else {
            staying.push(tokio::spawn(asked));
        }
    }
    for asked in staying {
        assert!(matches!(asked.await.unwrap().unwrap(), HoldAnswer::Held { .. }));
    }
}
