//! The checker can fail: each true story is told once more with one lie in it, and the lie is found.

mod story;

use story::{Story, event, name, operation, receipt};

use super::*;
use crate::history::{Answer, EventAnswer, HoldUse, List, Outcome, Request, SentEvent, Try, Why};

/// Tells the true story with one change, and expects the change to be found by this check.
#[track_caller]
fn lie(check: &str, change: impl FnOnce(&mut Story)) {
    let mut story = Story::true_one();
    change(&mut story);
    let findings = story.findings();
    assert!(findings.violations_of(check) > 0, "{check} found nothing; others: {:?}", found(&findings));
}

fn found(findings: &Findings) -> Vec<(&'static str, &[String])> {
    let violated = findings.tallies.iter().filter(|(_, tally)| tally.violations > 0);
    violated.map(|(check, tally)| (*check, tally.examples.as_slice())).collect()
}

fn unknown() -> Try {
    Try { invoked: 0, ended: 1, wall: 0, server: 1, outcome: Outcome::Unknown(Why::Broke) }
}

#[test]
fn a_true_story_has_no_violation() {
    for story in [Story::true_one(), Story::true_one().with_upgrade()] {
        let findings = story.findings();
        assert_eq!(found(&findings), []);
        for check in [
            LOST,
            DOUBLED,
            RECEIPT,
            COST,
            EFFECT,
            SAME_ANSWER,
            ORDER,
            REPLAY,
            LISTS,
            BOOKS,
            OVER_GRANTED,
            FORGOTTEN,
        ] {
            assert!(findings.tallies[check].checked > 0, "{check} checked nothing");
        }
    }
}

#[test]
fn a_lost_event_is_found() {
    lie(LOST, |story| drop(story.books.events.remove(0)));
}

#[test]
fn a_doubled_event_is_found() {
    lie(DOUBLED, |story| story.books.events.push(story.books.events[0].clone()));
    // Stored once, and charged twice.
    lie(EFFECT, |story| {
        let mut again = story.transfers()[1].clone();
        again.version = 4;
        story.transfers().push(again);
    });
    // Accepted twice.
    lie(DOUBLED, |story| story.answer(7, story.operations[1].answer.clone().expect("an answer")));
}

#[test]
fn a_charge_that_was_not_acknowledged_so_is_found() {
    lie(RECEIPT, |story| story.books.events[0].overage = 1);
    lie(RECEIPT, |story| story.books.events[1].captured = false);
    lie(EFFECT, |story| story.transfers()[1].credits = 99);
    lie(EFFECT, |story| drop(story.transfers().remove(1)));
    lie(EFFECT, |story| story.books.events.clear());
}

#[test]
fn a_price_that_is_off_by_one_is_found() {
    lie(COST, |story| {
        story.answer(
            1,
            Answer::Usage(vec![EventAnswer::Accepted(receipt(101, 1_999_899, 2, HoldUse::NotNamed))]),
        );
    });
    lie(COST, |story| story.books.events[0].credits = 101);
}

#[test]
fn what_nobody_sent_and_what_was_refused_is_found() {
    lie(PHANTOM, |story| story.books.events[0].name = None);
    lie(PHANTOM, |story| story.books.events[0].input = 99);
    lie(REFUSED, |story| {
        let refused = Answer::Usage(vec![EventAnswer::Rejected]);
        for index in [1, 7] {
            story.answer(index, refused.clone());
        }
    });
    // A purchase that was refused, and granted all the same.
    lie(REFUSED, |story| {
        story.answer(0, Answer::Refused { status: 409, code: "already-subscribed".to_owned() });
    });
}

#[test]
fn half_a_batch_is_found() {
    // Its outcome was unknown; asked again, one event is new and one is not.
    lie(UNKNOWN, |story| {
        let events = vec![event(2, 100, None), event(9, 1, None)];
        story.operations[1].request = Request::Usage(events);
        story.operations[1].tries.insert(0, unknown());
        let first = receipt(100, 1_999_900, 2, HoldUse::NotNamed);
        story.answer(1, Answer::Usage(vec![EventAnswer::Duplicate(first), EventAnswer::Accepted(first)]));
    });
    // It was never answered; one of its two events is stored.
    lie(UNKNOWN, |story| {
        story.operations[1].request = Request::Usage(vec![event(2, 100, None), event(9, 1, None)]);
        story.operations[1].answer = None;
        story.operations.remove(7);
    });
}

#[test]
fn of_a_batch_each_account_is_there_by_itself() {
    let mut story = Story::true_one();
    let of_another = SentEvent { account: 1, ..event(9, 1, None) };
    story.operations[1].request = Request::Usage(vec![event(2, 100, None), of_another]);
    story.operations[1].answer = None;
    story.operations.remove(7);
    let unknown = &story.findings().tallies[UNKNOWN];
    assert_eq!((unknown.checked, unknown.violations), (2, 0));
}

#[test]
fn another_answer_to_the_same_request_is_found() {
    lie(SAME_ANSWER, |story| {
        story.answer(
            7,
            Answer::Usage(vec![EventAnswer::Duplicate(receipt(100, 1_999_901, 2, HoldUse::NotNamed))]),
        );
    });
    lie(SAME_ANSWER, |story| {
        let mut again = story.operations[2].clone();
        again.is_repeat = true;
        again.answer = Some(Answer::Held { credits: 60, version: 2, digest: 10 });
        story.operations.push(again);
    });
    lie(SAME_ANSWER, |story| {
        let mut again = story.operations[0].clone();
        again.answer = Some(Answer::Refused { status: 409, code: "already-subscribed".to_owned() });
        story.operations.push(again);
    });
    // A duplicate, although nothing was sent before.
    lie(SAME_ANSWER, |story| {
        story.answer(
            1,
            Answer::Usage(vec![EventAnswer::Duplicate(receipt(100, 1_999_900, 2, HoldUse::NotNamed))]),
        );
    });
}

#[test]
fn a_purchase_without_its_grant_and_a_grant_without_its_purchase_are_found() {
    lie(PURCHASES, |story| drop(story.transfers().remove(0)));
    lie(PURCHASES, |story| story.books.purchases.clear());
    lie(PURCHASES, |story| story.books.subscriptions.clear());
    lie(PURCHASES, |story| story.books.invoices[0].status = "open".to_owned());
    // Sold to two.
    lie(PURCHASES, |story| {
        let mut other = story.operations[0].clone();
        other.key = "c1-77".to_owned();
        story.operations.push(other);
    });
}

#[test]
fn an_answer_that_makes_no_sense_is_found() {
    lie(EXPECTED, |story| story.answer(4, Answer::Refused { status: 404, code: "not-found".to_owned() }));
    lie(EXPECTED, |story| story.answer(4, Answer::Strange("?".to_owned())));
    lie(EXPECTED, |story| story.answer(7, Answer::Usage(vec![EventAnswer::Conflict])));
    lie(FAULTS, |story| {
        story.operations[4].tries.insert(0, Try { outcome: Outcome::Unknown(Why::Fault), ..unknown() });
    });
}

#[test]
fn a_version_that_goes_back_is_found() {
    // Read after version 3 was answered.
    let older = Answer::Balance { version: 2, settled: 1_999_900, held: 0, available: 1_999_900 };
    lie(ORDER, |story| story.answer(4, older.clone()));
    lie(MONOTONIC, |story| story.answer(4, older));
    // Made after version 2 was answered.
    lie(ORDER, |story| {
        story.answer(
            3,
            Answer::Usage(vec![EventAnswer::Accepted(receipt(50, 1_999_850, 2, HoldUse::Captured))]),
        );
    });
}

#[test]
fn a_version_that_goes_back_right_after_a_fault_of_redis_is_counted_apart() {
    let mut story = Story::true_one();
    story.answer(2, Answer::Held { credits: 60, version: 1, digest: 9 });
    let Story { customers, operations, books } = &story;
    let mut findings = Findings::default();
    let redis_faults = [2_900_000];
    check_all(&Evidence { customers, operations, books, redis_faults: &redis_faults }, &mut findings);
    assert_eq!(findings.violations_of(AFTER_REDIS), 1, "{:?}", found(&findings));
}

#[test]
fn a_balance_that_is_off_by_one_is_found() {
    lie(REPLAY, |story| {
        story.answer(4, Answer::Balance { version: 3, settled: 1_999_851, held: 0, available: 1_999_851 });
    });
    lie(REPLAY, |story| {
        story.answer(
            3,
            Answer::Usage(vec![EventAnswer::Accepted(receipt(50, 1_999_849, 3, HoldUse::Captured))]),
        );
    });
    // A version that nobody accounts for.
    lie(REPLAY, |story| {
        story.answer(
            3,
            Answer::Usage(vec![EventAnswer::Accepted(receipt(50, 1_999_850, 4, HoldUse::Captured))]),
        );
    });
    let mut findings = Findings::default();
    let story = Story::true_one();
    let read = Answer::Balance { version: 3, settled: 1_999_849, held: 0, available: 1_999_849 };
    check_balances(&story.customers, &[(0, read)], &story.books, &mut findings);
    assert_eq!(findings.violations_of(AT_REST), 1);
}

#[test]
fn a_balance_from_before_a_purchase_at_the_version_after_it_is_found() {
    let mut story = Story::true_one().with_upgrade();
    let read = Answer::Balance { version: 4, settled: 1_999_850, held: 0, available: 1_999_850 };
    story.operations.push(operation(10, "", Request::Balance, read));
    assert_eq!(story.findings().violations_of(REPLAY), 1);
}

#[test]
fn a_row_that_is_missing_from_a_list_or_there_twice_is_found() {
    let listed = |ids: &[&str]| Answer::Listed(ids.iter().map(|id| (*id).to_owned()).collect());
    for ids in [&["1", "3"][..], &["1", "2"], &["1", "2", "2", "3"], &["2", "1", "3"], &[]] {
        lie(LISTS, |story| story.answer(5, listed(ids)));
    }
    let customer = format!("cus_{:032x}", 1);
    lie(LISTS, |story| story.answer(6, listed(&[])));
    lie(LISTS, |story| story.answer(6, listed(&[&customer, &customer])));
    // A visitor who was there before.
    lie(LISTS, |story| {
        let created = Answer::Created { customer: format!("cus_{:032x}", 2) };
        story.operations.insert(6, operation(5, "v", Request::CreateCustomer { tenant: 0 }, created));
    });
    for list in [List::Invoices, List::Subscriptions, List::Grants] {
        lie(LISTS, |story| story.operations.push(operation(9, "", Request::List(list), listed(&[]))));
    }
}

#[test]
fn books_that_do_not_come_of_their_transfers_are_found() {
    lie(BOOKS, |story| story.books.accounts[0].available += 1);
    lie(BOOKS, |story| story.books.accounts[0].spent -= 1);
    lie(BOOKS, |story| story.books.accounts[0].version = 4);
    lie(BOOKS, |story| story.transfers()[1].version = 3);
    lie(BOOKS, |story| drop(story.transfers().remove(1)));
    lie(BOOKS, |story| story.books.grants[0].remaining -= 1);
    lie(BOOKS, |story| story.books.grants.clear());
    lie(BOOKS, |story| story.books.accounts.clear());
    // Spent before it was granted.
    lie(BOOKS, |story| {
        story.transfers().swap(0, 1);
        for (version, transfer) in (1..).zip(story.transfers()) {
            transfer.version = version;
        }
    });
}

#[test]
fn an_authorization_beyond_what_was_left_is_found() {
    // 1,999,900 are left at version 2.
    lie(OVER_GRANTED, |story| story.answer(2, Answer::Held { credits: 1_999_901, version: 2, digest: 9 }));
    // Each fits alone, and the first still runs.
    lie(OVER_GRANTED, |story| {
        let other = Answer::Held { credits: 1_999_900, version: 2, digest: 1 };
        let held_for_long =
            operation(2, "c1-8", Request::Authorize { hold: name(8), estimate: 1_999_900 }, other);
        story.operations.insert(2, held_for_long);
    });
}

#[test]
fn an_authorization_that_is_forgotten_is_found() {
    lie(FORGOTTEN, |story| {
        story.answer(
            3,
            Answer::Usage(vec![EventAnswer::Accepted(receipt(50, 1_999_850, 3, HoldUse::Unknown))]),
        );
    });
    lie(FORGOTTEN, |story| {
        let not_found = Answer::Refused { status: 404, code: "not-found".to_owned() };
        story.operations[3] = operation(4, "c1-4", Request::Release { hold: name(4) }, not_found);
    });
    // Nobody holds anything any more, says the balance while the authorization runs.
    lie(HELD, |story| {
        story.operations.remove(3);
        story.operations[3].client = 0;
    });
}

#[test]
fn what_is_held_by_a_try_that_was_given_up_may_be_its_estimate_and_no_more() {
    // The client heard nothing of its first try, and 402 of the next; the first was granted after that.
    let with_held = |held: i64| {
        let mut story = Story::true_one();
        let refused = Answer::Refused { status: 402, code: "insufficient_quota".to_owned() };
        let mut authorize = operation(9, "c1-8", Request::Authorize { hold: name(8), estimate: 70 }, refused);
        authorize.tries.insert(0, Try { invoked: 8_900_000, ended: 8_950_000, ..unknown() });
        let available = 1_999_850 - held;
        let read = Answer::Balance { version: 3, settled: 1_999_850, held, available };
        let mut observed = operation(10, "", Request::Balance, read);
        observed.client = 0;
        story.operations.extend([authorize, observed]);
        story.findings()
    };
    for held in [0, 70] {
        assert_eq!(found(&with_held(held)), []);
    }
    assert_eq!(with_held(71).violations_of(HELD), 1);
    // Of one whose tries were all answered nothing is held.
    lie(HELD, |story| {
        let refused = Answer::Refused { status: 402, code: "insufficient_quota".to_owned() };
        let authorize = operation(9, "c1-8", Request::Authorize { hold: name(8), estimate: 70 }, refused);
        let read = Answer::Balance { version: 3, settled: 1_999_850, held: 1, available: 1_999_849 };
        let mut observed = operation(10, "", Request::Balance, read);
        observed.client = 0;
        story.operations.extend([authorize, observed]);
    });
}
