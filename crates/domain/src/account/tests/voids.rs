//! What a void gives back, and to whom (R-25b, R-33).

use super::*;

/// Voids the event that was charged by these transfers of the journal.
fn void(account: &mut Account, charged: std::ops::Range<usize>, now: i64) -> Voided {
    let charged: Vec<_> = account.journal()[charged].iter().map(|posted| posted.transfer.clone()).collect();
    account.void(&Void { event: charged[0].cause.id, charged: &charged }, after(now)).unwrap()
}

type Moved = (Book, Book, Option<GrantId>, i64, Option<i64>);

/// From, to, of which grant, how much, and what it reverses: the journal from this place on.
fn moved(account: &Account, from: usize) -> Vec<Moved> {
    let posted = account.journal()[from..].iter().map(|posted| &posted.transfer);
    posted.map(|of| (of.debit, of.credit, of.grant, of.credits.get(), of.reverses)).collect()
}

#[test]
fn what_an_event_drew_goes_back_to_the_same_grants_last_draw_first() {
    let mut account = account_of(&[(GrantSource::Promotion, 10, None), (GrantSource::Plan, 100, Some(60))]);
    // 10 and 100 of the grants, and 20 of nobody's.
    charge(&mut account, 130, 1, 1);
    let voided = void(&mut account, 2..5, 2);
    assert_eq!(
        moved(&account, 5),
        [
            (Book::Spent, Book::Overage, None, 20, Some(5)),
            (Book::Spent, Book::Available, Some(grant_id(2)), 100, Some(4)),
            (Book::Spent, Book::Available, Some(grant_id(1)), 10, Some(3)),
        ]
    );
    let (returned, spendable, overage) = (credits(110), credits(110), credits(20));
    assert_eq!(voided, Voided { returned, spendable, overage, balance_after: credits(110), version: 8 });
    assert_eq!(account.books(), Books { issued: -110, available: 110, ..Default::default() });
    let transfer = &account.journal()[5].transfer;
    let of_the_void = Cause { kind: CauseKind::Void, ..cause(CauseKind::Usage) };
    assert_eq!((transfer.cause, transfer.event_time), (of_the_void, after(2)));
}

#[test]
fn what_goes_back_to_a_grant_that_ended_since_expires_at_once() {
    // Given 60 of the plan's 100 spent, and 40 that expired with it at 60, when the 60 are voided, then they
    // have expired too, and the next pool is as it was.
    let mut account = rolled_over();
    let voided = void(&mut account, 1..2, 70);
    assert_eq!(
        moved(&account, 4),
        [
            (Book::Spent, Book::Available, Some(grant_id(1)), 60, Some(2)),
            (Book::Available, Book::Expired, Some(grant_id(1)), 60, None),
        ]
    );
    assert_eq!((voided.returned, voided.spendable), (credits(60), credits(0)));
    assert_eq!((voided.balance_after, account.books().expired), (credits(100), 100));
    // Late usage of that cycle may take back all of it: nobody has spent it.
    let late = charge(&mut account, 110, 59, 119);
    assert_eq!((late.draws, late.overage), (draws(&[(1, 100)]), credits(10)));
}

#[test]
fn of_a_draw_on_two_cycles_only_what_is_not_over_can_be_spent_again() {
    let grants = [(GrantSource::Plan, 30, Some(60)), (GrantSource::TopUp, 50, None)];
    let mut account = account_of(&grants);
    charge(&mut account, 40, 1, 1);
    let voided = void(&mut account, 2..4, 60);
    assert_eq!((voided.returned, voided.spendable), (credits(40), credits(10)));
    assert_eq!((voided.balance_after, account.books().expired), (credits(50), 30));
    // The plan's expiry was not booked yet, and there is nothing left to expire.
    assert_eq!(account.expire(after(60)), Ok(draws(&[])));
}

#[test]
fn a_late_charge_is_voided_to_where_it_was_before_it() {
    let mut account = rolled_over();
    let before = account.books();
    charge(&mut account, 30, 59, 119);
    let voided = void(&mut account, 4..6, 119);
    assert_eq!((voided.returned, voided.spendable), (credits(30), credits(0)));
    assert_eq!(account.books(), before);
    // As often as somebody likes.
    assert_eq!(charge(&mut account, 40, 59, 119).draws, draws(&[(1, 40)]));
}

#[test]
fn an_event_that_cost_nothing_is_voided_without_a_transfer() {
    let mut account = account_of(&[(GrantSource::Plan, 100, None)]);
    let event = cause(CauseKind::Usage).id;
    let voided = account.void(&Void { event, charged: &[] }, after(1)).unwrap();
    assert_eq!((voided.returned, voided.balance_after, voided.version), (credits(0), credits(100), 1));
}

#[test]
fn a_void_whose_grant_is_not_loaded_is_refused() {
    let mut account = account_of(&[(GrantSource::Plan, 100, None)]);
    charge(&mut account, 100, 1, 1);
    let charged = [account.journal()[1].transfer.clone()];
    let mut other = Stored::empty().load(0);
    let refused = other.void(&Void { event: charged[0].cause.id, charged: &charged }, after(1));
    assert_eq!(refused, Err(Refusal::NotFound { what: "grant" }));
}
