//! What a refund takes of the one grant that was paid for (R-22a).

use super::*;
use crate::refund::{Bought, revocation};

#[test]
fn half_the_money_takes_what_is_left_of_half_the_grant_and_of_no_other() {
    let mut account = account_of(&[(GrantSource::Plan, 100, Some(60)), (GrantSource::TopUp, 50, None)]);
    charge(&mut account, 70, 1, 1);
    let bought = account.bought(grant_id(1), after(2)).unwrap();
    assert_eq!(bought, Bought { granted: credits(100), revoked: credits(0), remaining: credits(30) });
    let taken = revocation(bought, 600, 300);
    let revoked = account.revoke(grant_id(1), taken.revoke, cause(CauseKind::Refund), after(2)).unwrap();
    assert_eq!(revoked, Some(Draw { grant: grant_id(1), credits: credits(30) }));
    assert_eq!(taken.short, credits(20));
    assert_eq!((account.available(after(2)), account.books().revoked), (credits(50), 30));
    assert_eq!(account.books().sum(), 0);
    let last = &account.journal().last().unwrap().transfer;
    assert_eq!(
        (last.debit, last.credit, last.cause.kind),
        (Book::Available, Book::Revoked, CauseKind::Refund)
    );
}

#[test]
fn what_was_revoked_does_not_count_as_used() {
    let mut account = account_of(&[(GrantSource::Plan, 100, Some(60))]);
    charge(&mut account, 20, 1, 1);
    account.revoke(grant_id(1), credits(40), cause(CauseKind::Refund), after(2)).unwrap();
    let level = account.level(after(3));
    assert_eq!((level.available, level.limit), (credits(40), credits(60)), "a third of it is used");
}

#[test]
fn a_grant_past_its_expiry_is_left_to_expire() {
    let mut account = account_of(&[(GrantSource::Plan, 100, Some(60))]);
    assert_eq!(account.bought(grant_id(1), after(60)).unwrap().remaining, Credits::ZERO);
    let revoked = account.revoke(grant_id(1), Credits::MAX, cause(CauseKind::Dispute), after(60)).unwrap();
    assert_eq!(revoked, None);
    assert_eq!(account.bought(grant_id(9), after(1)), None, "not loaded");
    let all = account.revoke(grant_id(1), Credits::MAX, cause(CauseKind::Dispute), after(59)).unwrap();
    assert_eq!(all.map(|draw| draw.credits), Some(credits(100)));
}

#[test]
fn what_was_revoked_goes_back_to_its_grant_and_can_be_spent_again() {
    let mut account = account_of(&[(GrantSource::Plan, 100, Some(60)), (GrantSource::TopUp, 50, None)]);
    charge(&mut account, 70, 1, 1);
    account.revoke(grant_id(1), Credits::MAX, cause(CauseKind::Dispute), after(2)).unwrap();
    let revoked = account.journal().last().unwrap().transfer.clone();
    account.reinstate(&revoked, after(3)).unwrap();
    assert_eq!((account.available(after(3)), account.books().revoked), (credits(80), 0));
    let last = &account.journal().last().unwrap().transfer;
    assert_eq!((last.debit, last.credit, last.grant), (Book::Revoked, Book::Available, Some(grant_id(1))));
    assert_eq!((last.reverses, last.cause), (Some(revoked.version), revoked.cause));
    assert_eq!(charge(&mut account, 80, 4, 4).draws, draws(&[(1, 30), (2, 50)]));
    // Of a grant that is not loaded, nothing is known.
    let unknown = Transfer { grant: Some(grant_id(9)), ..revoked };
    assert_eq!(account.reinstate(&unknown, after(4)), Err(Refusal::NotFound { what: "grant" }));
}

#[test]
fn what_goes_back_to_a_grant_that_has_ended_expires_at_once() {
    let mut account = account_of(&[(GrantSource::Plan, 100, Some(60))]);
    account.revoke(grant_id(1), Credits::MAX, cause(CauseKind::Refund), after(2)).unwrap();
    let revoked = account.journal().last().unwrap().transfer.clone();
    account.reinstate(&revoked, after(60)).unwrap();
    let books = account.books();
    assert_eq!((account.available(after(60)), books.revoked, books.expired), (Credits::ZERO, 0, 100));
    assert_eq!(books.sum(), 0);
}
