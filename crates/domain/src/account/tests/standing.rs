//! What an account knows of itself besides its Credits: its cycle, whether it is parked, its books' range.

use super::*;
use crate::payg::Pico;

fn untouched() -> Account {
    Stored::empty().load(0)
}

#[test]
fn the_cycle_ends_with_the_refill_or_else_with_the_plans_last_live_grant() {
    let mut account = account_of(&[
        (GrantSource::Plan, 10, Some(100)),
        (GrantSource::Upgrade, 10, Some(200)),
        (GrantSource::Promotion, 10, Some(900)),
    ]);
    assert_eq!(account.refills_at(), None);
    assert_eq!(account.cycle_ends_at(after(1)), Some(after(200)), "no promotion's end is a cycle's");
    assert_eq!(account.cycle_ends_at(after(200)), None, "nothing of the plan's is live any more");
    account.set_refills_at(Some(after(300)));
    assert_eq!(account.refills_at(), Some(after(300)));
    assert_eq!(account.cycle_ends_at(after(1)), Some(after(300)));
}

#[test]
fn a_plans_grant_that_is_used_up_does_not_say_when_the_cycle_ends() {
    let mut account = account_of(&[(GrantSource::Plan, 10, Some(100)), (GrantSource::TopUp, 10, Some(500))]);
    charge(&mut account, 10, 1, 1);
    assert_eq!(account.cycle_ends_at(after(2)), None);
}

#[test]
fn a_parked_account_does_not_spend_and_any_other_does() {
    let opened = AccountHead::opened(
        TenantId::from_uuid(Uuid::from_u128(2)),
        CustomerId::from_uuid(Uuid::from_u128(1)),
        after(0),
    );
    for (is_parked, answer) in [(false, Ok(())), (true, Err(Refusal::AccountParked))] {
        let account = Account::new(AccountHead { is_parked, ..opened }, Vec::new());
        assert_eq!((account.is_parked(), account.check_spends()), (is_parked, answer));
    }
}

#[test]
fn a_suspended_account_authorizes_nothing_and_spends_what_it_used() {
    let mut account = account_of(&[(GrantSource::Plan, 10, Some(100))]);
    assert_eq!((account.check_authorizes(), account.has_other_standing()), (Ok(()), false));
    account.set_suspended(true);
    assert_eq!(account.check_authorizes(), Err(Refusal::SubscriptionSuspended));
    assert_eq!((account.check_spends(), account.is_changed()), (Ok(()), true));
    assert_eq!(charge(&mut account, 4, 1, 1).draws, draws(&[(1, 4)]));
    account.set_suspended(false);
    assert_eq!(account.check_authorizes(), Ok(()));
}

#[test]
fn an_account_is_changed_by_a_refill_a_standing_or_a_transfer_and_by_nothing_else() {
    let mut account = untouched();
    account.set_suspended(false);
    account.set_refills_at(None);
    assert!(!account.is_changed() && !account.has_other_standing());
    account.set_suspended(true);
    assert!(account.is_changed() && account.has_other_standing());

    let mut account = untouched();
    account.set_refills_at(Some(after(300)));
    account.set_refills_at(Some(after(300)));
    assert!(account.is_changed(), "it is set to what it was just set to, and that is not stored yet");

    let mut account = account_of(&[(GrantSource::Plan, 10, Some(100))]);
    assert!(account.is_changed());
    charge(&mut account, 4, 1, 1);
    assert_eq!(account.issued_grants().count(), 1);
    assert_eq!(account.changed_grants().count(), 0, "one that is new is stored as it is now");
}

#[test]
fn whatever_is_told_of_an_account_makes_its_revision_a_later_one() {
    let mut account = account_of(&[(GrantSource::Plan, 10, Some(100))]);
    assert_eq!((account.version(), account.changes(), account.revision()), (1, 0, 1));
    account.set_suspended(true);
    assert_eq!((account.version(), account.changes(), account.revision()), (1, 1, 2));
    charge(&mut account, 4, 1, 1);
    account.set_refills_at(Some(after(300)));
    assert_eq!((account.version(), account.changes(), account.revision()), (2, 1, 3), "stored once");
}

#[test]
fn what_is_accrued_first_says_when_all_of_it_is_due() {
    let pico = |count| Pico::new(count).unwrap();
    let state = |account: &Account| (account.overflow().accrued.get(), account.overflow().due_at);
    let mut account = untouched();
    account.accrue(Pico::ZERO, after(10)).unwrap();
    assert_eq!((state(&account), account.has_other_overflow()), ((0, None), false));
    account.accrue(pico(7), after(10)).unwrap();
    account.accrue(pico(3), after(20)).unwrap();
    assert_eq!((state(&account), account.has_other_overflow()), ((10, Some(after(10))), true));
    account.take_accrued(pico(4));
    assert_eq!(state(&account), (6, Some(after(10))));
    account.put_accrued_off(after(30));
    assert_eq!(state(&account), (6, Some(after(30))));
    account.take_accrued(pico(9));
    assert_eq!(state(&account), (0, None));
    account.put_accrued_off(after(40));
    assert_eq!(state(&account), (0, None), "nothing is due where nothing is accrued");
}

#[test]
fn a_book_goes_to_the_end_of_its_range_and_not_past_it() {
    let mut books = Books::default();
    books.post(Book::Issued, Book::Available, Credits::MAX).unwrap();
    assert_eq!((books.issued, books.available), (-Credits::MAX.get(), Credits::MAX.get()));
    let full = books;
    assert_eq!(books.post(Book::Issued, Book::Spent, credits(1)), Err(Refusal::AmountOverflow));
    assert_eq!(books.post(Book::Overage, Book::Available, credits(1)), Err(Refusal::AmountOverflow));
    assert_eq!(books, full, "a refused posting changes nothing");
}

#[test]
fn the_sum_of_the_books_counts_each_of_them() {
    for book in Book::ALL {
        let mut books = Books::default();
        *books.of(book) = 7;
        assert_eq!(books.sum(), 7, "{}", book.name());
    }
}
