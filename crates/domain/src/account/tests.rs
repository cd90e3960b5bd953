//! Rules of the account, as features.

mod properties;
mod revokes;
mod standing;
mod voids;

use std::collections::BTreeMap;

use super::*;
use crate::fixtures::{at, credits, grant_id};
use crate::policy::{LateRules, LateUsage};
use chrono::Duration;

fn after(seconds: i64) -> Timestamp {
    at("2026-03-01T00:00:00Z") + Duration::seconds(seconds)
}

fn cause(kind: CauseKind) -> Cause {
    Cause { kind, id: Uuid::from_u128(0xCA05E) }
}

/// What the ledger keeps: everything that outlives a locked account.
struct Stored {
    version: i64,
    last_recorded_at: Timestamp,
    books: Books,
    grants: BTreeMap<GrantId, Grant>,
    history: Vec<Transfer>,
}

impl Stored {
    fn empty() -> Stored {
        Stored {
            version: 0,
            last_recorded_at: after(0),
            books: Books::default(),
            grants: BTreeMap::new(),
            history: Vec::new(),
        }
    }

    /// As the ledger does for usage whose oldest charge instant is `since`.
    fn load(&self, since: i64) -> Account {
        self.load_with(since, &[])
    }

    /// The same, with these grants.
    fn load_with(&self, since: i64, named: &[GrantId]) -> Account {
        let is_wanted = |grant: &&Grant| {
            !grant.remaining().is_zero()
                || grant.expires_at.is_some_and(|expiry| expiry > after(since))
                || named.contains(&grant.id)
        };
        let open = self.grants.values().filter(is_wanted).cloned().collect();
        let customer = CustomerId::from_uuid(Uuid::from_u128(1));
        let tenant = TenantId::from_uuid(Uuid::from_u128(2));
        let opened = AccountHead::opened(tenant, customer, self.last_recorded_at);
        Account::new(AccountHead { version: self.version, books: self.books, ..opened }, open)
    }

    fn write(&mut self, account: &Account) {
        for issued in account.issued_grants() {
            let earlier = self.grants.insert(issued.id, issued.clone());
            assert_eq!(earlier, None, "a grant is issued once");
        }
        for changed in account.changed_grants() {
            let earlier = self.grants.insert(changed.id, changed.clone());
            assert!(earlier.is_some(), "a changed grant was there before");
        }
        self.history.extend(account.journal().iter().map(|posted| posted.transfer.clone()));
        self.version = account.version();
        self.last_recorded_at = account.last_recorded_at();
        self.books = account.books();
    }

    /// What must be true of every account at every version.
    fn check(&self) {
        let mut recorded_at = after(0);
        let mut books = Books::default();
        let mut grants: BTreeMap<GrantId, BTreeMap<Book, i64>> = BTreeMap::new();
        for (transfer, version) in self.history.iter().zip(1..) {
            assert_eq!(transfer.version, version, "versions are 1..n without a hole");
            assert!(transfer.recorded_at >= recorded_at, "recorded time does not fall");
            recorded_at = transfer.recorded_at;
            assert!(!transfer.credits.is_zero(), "a transfer moves something");
            assert_ne!(transfer.debit, transfer.credit, "from one book to another");
            let touches_grant = [transfer.debit, transfer.credit].contains(&Book::Available);
            assert_eq!(transfer.grant.is_some(), touches_grant, "available is a book a grant");

            let credits = transfer.credits.get();
            *books.of(transfer.debit) -= credits;
            *books.of(transfer.credit) += credits;
            if let Some(grant) = transfer.grant {
                let grant = grants.entry(grant).or_default();
                *grant.entry(transfer.debit).or_default() -= credits;
                *grant.entry(transfer.credit).or_default() += credits;
                let parts = [Book::Available, Book::Spent, Book::Expired, Book::Revoked]
                    .map(|book| grant.get(&book).copied().unwrap_or_default());
                assert!(parts.iter().all(|part| *part >= 0), "no part is below zero at any version");
                let amount = -grant.get(&Book::Issued).copied().unwrap_or_default();
                assert_eq!(amount, parts.iter().sum::<i64>(), "R-24 at version {version}");
            }
            if transfer.debit == Book::Expired || transfer.reverses.is_some() {
                self.check_reversal(transfer);
            }
            assert_eq!(books.sum(), 0, "the books sum to zero at version {version}");
        }
        assert_eq!(self.version, self.history.last().map_or(0, |transfer| transfer.version));
        assert_eq!(self.last_recorded_at, recorded_at);
        assert_eq!(self.books, books, "the balances are the sums of the history");

        assert_eq!(self.grants.len(), grants.len());
        for (id, grant) in &self.grants {
            let total = |book| grants[id].get(&book).copied().unwrap_or_default();
            assert_eq!(grant.amount.get(), -total(Book::Issued));
            assert_eq!(grant.spent.get(), total(Book::Spent));
            assert_eq!(grant.expired.get(), total(Book::Expired));
            assert_eq!(grant.revoked.get(), total(Book::Revoked));
            assert_eq!(grant.remaining().get(), total(Book::Available));
            let parts = [grant.spent, grant.expired, grant.revoked, grant.remaining()];
            assert_eq!(grant.amount.get(), parts.iter().map(|part| part.get()).sum::<i64>(), "R-24");
        }
    }

    /// What takes back names what it takes back, the other way round, and never more of it than there was (I-8).
    fn check_reversal(&self, transfer: &Transfer) {
        let reverses = transfer.reverses.expect("what takes back names what it takes back");
        assert!(reverses < transfer.version);
        let original = &self.history[usize::try_from(reverses - 1).unwrap()];
        assert_eq!((original.debit, original.credit), (transfer.credit, transfer.debit));
        assert_eq!((original.grant, original.reverses), (transfer.grant, None));
        if original.credit == Book::Expired {
            assert_eq!(transfer.cause.kind, CauseKind::Usage);
            let spent = &self.history[usize::try_from(transfer.version).unwrap()];
            assert_eq!((spent.debit, spent.credit), (Book::Available, Book::Spent), "and is spent at once");
            assert_eq!((spent.grant, spent.cause), (transfer.grant, transfer.cause));
            assert!(spent.credits >= transfer.credits);
            return;
        }
        assert_eq!((original.cause.kind, transfer.cause.kind), (CauseKind::Usage, CauseKind::Void));
        assert_eq!((original.cause.id, original.credits), (transfer.cause.id, transfer.credits));
        let times = self.history.iter().filter(|other| other.reverses == Some(reverses)).count();
        assert_eq!(times, 1, "an event is voided once");
    }
}

/// An account of these grants, all effective at 0: (source, Credits, expiry).
fn account_of(grants: &[(GrantSource, i64, Option<i64>)]) -> Account {
    let mut account = Stored::empty().load(0);
    for ((source, amount, expiry), number) in grants.iter().zip(1..) {
        let new = NewGrant {
            id: grant_id(number),
            source: *source,
            credits: credits(*amount),
            effective_at: after(0),
            expires_at: expiry.map(after),
        };
        account.issue(new, cause(CauseKind::Purchase), after(0)).unwrap();
    }
    account
}

/// Usage that named no hold, with a minute of grace.
fn event(cost: i64, charge_instant: i64, received: i64) -> EventCost {
    EventCost {
        credits: credits(cost),
        charge_instant: after(charge_instant),
        is_captured: false,
        received_at: after(received),
        late: LateRules { grace: Duration::seconds(60), past_grace: LateUsage::Current },
        cause: cause(CauseKind::Usage),
        event_time: after(charge_instant),
    }
}

fn charge(account: &mut Account, cost: i64, charge_instant: i64, now: i64) -> Charge {
    let event = event(cost, charge_instant, now);
    let uncovered = account.uncovered(&event, after(now));
    let charge = account.charge(&event, after(now)).unwrap();
    assert_eq!(charge.overage, uncovered, "what no grant covers is known before it is charged");
    charge
}

fn draws(of: &[(u128, i64)]) -> Vec<Draw> {
    of.iter().map(|(grant, count)| Draw { grant: grant_id(*grant), credits: credits(*count) }).collect()
}

#[test]
fn a_charge_burns_promotion_then_rollover_then_plan_then_adjustment_then_top_up() {
    use GrantSource::{Adjustment, Plan, Promotion, Rollover, TopUp, Upgrade};
    let mut account = account_of(&[
        (TopUp, 10, None),
        (Adjustment, 10, None),
        (Upgrade, 10, Some(100)),
        (Plan, 10, Some(100)),
        (Rollover, 10, Some(100)),
        (Promotion, 10, None),
    ]);
    let charge = charge(&mut account, 55, 1, 1);
    // Plan and upgrade share a priority, an expiry and an effective instant: the lower id first.
    assert_eq!(charge.draws, draws(&[(6, 10), (5, 10), (3, 10), (4, 10), (2, 10), (1, 5)]));
    let sources: Vec<_> = charge.draws.iter().map(|draw| account.source_of(draw.grant).unwrap()).collect();
    assert_eq!(sources, [Promotion, Rollover, Upgrade, Plan, Adjustment, TopUp]);
    assert_eq!(account.source_of(grant_id(7)), None);
    assert_eq!((charge.overage, charge.balance_after), (credits(0), credits(5)));
    assert_eq!(charge.version, 12, "six grants, six draws");
}

#[test]
fn of_equal_priority_the_earliest_expiry_burns_first_and_none_last() {
    let mut account = account_of(&[
        (GrantSource::Promotion, 10, None),
        (GrantSource::Promotion, 10, Some(200)),
        (GrantSource::Promotion, 10, Some(100)),
    ]);
    assert_eq!(charge(&mut account, 25, 1, 1).draws, draws(&[(3, 10), (2, 10), (1, 5)]));
}

#[test]
fn of_equal_expiry_the_earliest_effective_burns_first_and_then_the_lowest_id() {
    let mut account = account_of(&[]);
    for (id, effective) in [(4, 0), (3, 0), (2, -10), (1, 5)] {
        let new = NewGrant {
            id: grant_id(id),
            source: GrantSource::Plan,
            credits: credits(10),
            effective_at: after(effective),
            expires_at: Some(after(60)),
        };
        account.issue(new, cause(CauseKind::Purchase), after(5)).unwrap();
    }
    assert_eq!(charge(&mut account, 40, 6, 6).draws, draws(&[(2, 10), (3, 10), (4, 10), (1, 10)]));
}

#[test]
fn what_no_grant_pays_for_is_overage_and_the_balance_goes_to_zero() {
    let mut account = account_of(&[(GrantSource::Plan, 100, Some(50))]);
    let charge = charge(&mut account, 130, 1, 1);
    assert_eq!(charge.draws, draws(&[(1, 100)]));
    assert_eq!((charge.overage, charge.balance_after), (credits(30), credits(0)));
    let books = Books { issued: -100, spent: 130, overage: -30, ..Default::default() };
    assert_eq!(account.books(), books);
}

#[test]
fn a_cost_of_zero_moves_nothing() {
    let mut account = account_of(&[(GrantSource::Plan, 100, None)]);
    let charge = charge(&mut account, 0, 1, 1);
    assert_eq!((charge.draws, charge.overage, charge.version), (vec![], credits(0), 1));
    assert_eq!(account.journal().len(), 1, "only the grant");
}

#[test]
fn a_stream_that_began_before_the_cycles_end_charges_the_old_cycle_after_it() {
    // Given a cycle that ends at 60 and the next one's grant, when usage of 59 is recorded at 61,
    // the old cycle pays; from 60 on the new one does (R-19, R-19a).
    let cycles = [(GrantSource::Plan, 100, Some(60)), (GrantSource::Plan, 100, Some(120))];
    let mut account = account_of(&cycles);
    let late = charge(&mut account, 30, 59, 61);
    assert_eq!(late.draws, draws(&[(1, 30)]));
    assert_eq!(late.balance_after, credits(100), "what is left of the old cycle is no balance");
    let mut account = account_of(&cycles);
    assert_eq!(charge(&mut account, 30, 60, 61).draws, draws(&[(2, 30)]));
}

/// A cycle of 100 Credits that ended at 60 with 40 of them unspent, and the next one of 100.
fn rolled_over() -> Account {
    let mut account = account_of(&[(GrantSource::Plan, 100, Some(60))]);
    charge(&mut account, 60, 1, 1);
    account.expire(after(60)).unwrap();
    let next = NewGrant {
        id: grant_id(2),
        source: GrantSource::Plan,
        credits: credits(100),
        effective_at: after(60),
        expires_at: Some(after(120)),
    };
    account.issue(next, cause(CauseKind::Purchase), after(60)).unwrap();
    account
}

#[test]
fn late_usage_takes_back_what_its_cycle_let_expire_and_never_more() {
    let mut account = rolled_over();
    let expiry = account.journal()[2].transfer.clone();
    assert_eq!((expiry.credit, expiry.credits), (Book::Expired, credits(40)));
    let late = charge(&mut account, 30, 59, 119);
    assert_eq!((late.draws, late.overage), (draws(&[(1, 30)]), credits(0)));
    let pair: Vec<_> = account.journal()[4..]
        .iter()
        .map(|posted| &posted.transfer)
        .map(|transfer| (transfer.debit, transfer.credit, transfer.credits.get(), transfer.reverses))
        .collect();
    assert_eq!(
        pair,
        [
            (Book::Expired, Book::Available, 30, Some(expiry.version)),
            (Book::Available, Book::Spent, 30, None)
        ]
    );
    assert_eq!(late.balance_after, credits(100), "the new pool is untouched");
    // 10 are left of what expired; the rest of the usage is overage of the old cycle.
    let more = charge(&mut account, 25, 59, 119);
    assert_eq!((more.draws, more.overage), (draws(&[(1, 10)]), credits(15)));
    assert_eq!((account.books().expired, account.available(after(119))), (0, credits(100)));
}

#[test]
fn past_the_grace_late_usage_is_the_open_cycles_or_nobodys() {
    // The grace is 60 seconds from the cycle's end at 60.
    let late = event(30, 59, 121);
    let charge = rolled_over().charge(&late, after(121)).unwrap();
    assert_eq!((charge.draws, charge.overage), (draws(&[]), credits(30)), "120 was the next cycle's end");
    let mut account = rolled_over();
    let renewed = NewGrant {
        id: grant_id(3),
        source: GrantSource::Plan,
        credits: credits(100),
        effective_at: after(120),
        expires_at: Some(after(180)),
    };
    account.issue(renewed, cause(CauseKind::Purchase), after(120)).unwrap();
    assert_eq!(account.charge(&late, after(121)).unwrap().draws, draws(&[(3, 30)]));
    let absorbed = EventCost { late: LateRules { past_grace: LateUsage::Absorb, ..late.late }, ..late };
    assert_eq!(account.charge(&absorbed, after(121)).unwrap().overage, credits(30));
    // Usage that captured a hold needs no grace.
    let captured = EventCost { is_captured: true, ..absorbed };
    assert_eq!(account.charge(&captured, after(121)).unwrap().draws, draws(&[(1, 30)]));
    // What was received in time and is recorded later was received in time.
    let received = EventCost { received_at: after(120), ..late };
    assert_eq!(account.charge(&received, after(500)).unwrap().draws, draws(&[(1, 10)]));
}

#[test]
fn late_usage_of_a_cycle_that_was_spent_is_overage_and_not_the_next_cycles() {
    let mut account = account_of(&[(GrantSource::Plan, 100, Some(60)), (GrantSource::TopUp, 5, None)]);
    charge(&mut account, 100, 1, 1);
    let next = NewGrant {
        id: grant_id(3),
        source: GrantSource::Plan,
        credits: credits(100),
        effective_at: after(60),
        expires_at: Some(after(120)),
    };
    account.issue(next, cause(CauseKind::Purchase), after(60)).unwrap();
    let late = charge(&mut account, 30, 59, 61);
    assert_eq!((late.draws, late.overage), (draws(&[(2, 5)]), credits(25)));
}

#[test]
fn usage_within_a_canceled_cycle_that_another_began_in_is_the_open_ones() {
    // Given a plan until 60 that was canceled at 10 and another from 20 until 80, when usage of 30 is
    // recorded at 70, then it is not late: the second cycle is open.
    let mut account = account_of(&[(GrantSource::Plan, 100, Some(60))]);
    account.revoke_the_plans(cause(CauseKind::Cancel), after(10)).unwrap();
    let second = NewGrant {
        id: grant_id(2),
        source: GrantSource::Plan,
        credits: credits(100),
        effective_at: after(20),
        expires_at: Some(after(80)),
    };
    account.issue(second, cause(CauseKind::Purchase), after(20)).unwrap();
    let absorbing = LateRules { grace: Duration::zero(), past_grace: LateUsage::Absorb };
    let usage = EventCost { late: absorbing, ..event(30, 30, 70) };
    assert_eq!(account.charge(&usage, after(70)).unwrap().draws, draws(&[(2, 30)]));
}

#[test]
fn a_grant_that_begins_later_than_the_recording_pays_nothing() {
    let mut account = account_of(&[]);
    let new = NewGrant {
        id: grant_id(1),
        source: GrantSource::Plan,
        credits: credits(100),
        effective_at: after(50),
        expires_at: None,
    };
    account.issue(new, cause(CauseKind::Purchase), after(0)).unwrap();
    assert_eq!(account.available(after(49)), credits(0));
    assert_eq!(account.valid_until(after(49)), Some(after(50)), "when it begins, the balance changes");
    assert_eq!(charge(&mut account, 10, 49, 49).overage, credits(10));
    assert_eq!(charge(&mut account, 10, 49, 50).draws, draws(&[(1, 10)]));
}

#[test]
fn a_request_that_waited_for_the_lock_spends_what_was_issued_meanwhile() {
    // Given usage that came at 10 and got the lock after a grant of 11 was recorded, then it is
    // recorded at 11 too, and the grant is effective by then.
    let mut account = account_of(&[]);
    let new = NewGrant {
        id: grant_id(1),
        source: GrantSource::Plan,
        credits: credits(100),
        effective_at: after(11),
        expires_at: None,
    };
    account.issue(new, cause(CauseKind::Purchase), after(11)).unwrap();
    let charge = charge(&mut account, 30, 10, 10);
    assert_eq!((charge.overage, charge.balance_after), (credits(0), credits(70)));
    assert_eq!(account.journal()[1].transfer.recorded_at, after(11));
    let revoked = account.revoke_the_plans(cause(CauseKind::Cancel), after(10)).unwrap();
    assert_eq!(revoked, draws(&[(1, 70)]));
}

#[test]
fn the_rest_of_each_grant_expires_once_at_its_expiry() {
    let mut account = account_of(&[
        (GrantSource::Plan, 100, Some(60)),
        (GrantSource::Upgrade, 50, Some(60)),
        (GrantSource::TopUp, 70, None),
    ]);
    charge(&mut account, 40, 1, 1);
    assert_eq!(account.expire(after(59)), Ok(vec![]), "never before");
    assert_eq!(account.available(after(60)), credits(70), "booked or not, it is no balance");
    assert_eq!(account.expire(after(60)), Ok(draws(&[(1, 60), (2, 50)])));
    assert_eq!(account.expire(after(60)), Ok(vec![]));
    assert_eq!(account.expire(after(99)), Ok(vec![]), "twice is once");
    let expiry = &account.journal().last().unwrap().transfer;
    assert_eq!((expiry.debit, expiry.credit), (Book::Available, Book::Expired));
    assert_eq!(expiry.cause, Cause { kind: CauseKind::Expiry, id: grant_id(2).uuid() });
}

#[test]
fn an_account_is_used_up_where_usage_took_the_last_of_it() {
    let plan = [(GrantSource::Plan, 100, Some(60))];
    assert_eq!(account_of(&[]).is_used_up(after(1)), Some(false), "there never was anything");
    let mut spent = account_of(&plan);
    charge(&mut spent, 99, 1, 1);
    assert_eq!(spent.is_used_up(after(1)), Some(false));
    charge(&mut spent, 9, 2, 2);
    assert_eq!(spent.is_used_up(after(2)), Some(true));
    assert_eq!(spent.is_used_up(after(60)), Some(true), "after its cycle, too");
    let issued = NewGrant {
        id: grant_id(2),
        source: GrantSource::TopUp,
        credits: credits(1),
        effective_at: after(70),
        expires_at: None,
    };
    spent.issue(issued, cause(CauseKind::Purchase), after(61)).unwrap();
    assert_eq!((spent.is_used_up(after(69)), spent.is_used_up(after(70))), (Some(true), Some(false)));

    let mut ended = account_of(&plan);
    charge(&mut ended, 99, 1, 1);
    assert_eq!(ended.is_used_up(after(60)), Some(false), "1 was left, and is not booked as expired yet");
    ended.expire(after(60)).unwrap();
    assert_eq!(ended.is_used_up(after(60)), Some(false), "and is now");
    let mut revoked = account_of(&plan);
    revoked.revoke_the_plans(cause(CauseKind::Cancel), after(3)).unwrap();
    assert_eq!(revoked.is_used_up(after(3)), Some(false));
    revoked.settle(after(0));
    assert_eq!(revoked.is_used_up(after(3)), None, "what was loaded does not say");
}

#[test]
fn an_immediate_cancel_takes_the_plans_grants_and_no_other() {
    let mut account = account_of(&[
        (GrantSource::Promotion, 10, None),
        (GrantSource::Plan, 10, Some(60)),
        (GrantSource::Upgrade, 10, Some(60)),
        (GrantSource::Plan, 10, Some(20)),
        (GrantSource::Rollover, 10, Some(60)),
        (GrantSource::Adjustment, 10, None),
        (GrantSource::TopUp, 10, None),
    ]);
    let revoked = account.revoke_the_plans(cause(CauseKind::Cancel), after(30)).unwrap();
    assert_eq!(revoked, draws(&[(2, 10), (3, 10)]), "the one that ended at 20 expires instead");
    assert_eq!(account.expire(after(30)), Ok(draws(&[(4, 10)])));
    assert_eq!(account.available(after(30)), credits(40));
    assert_eq!(account.revoke_the_plans(cause(CauseKind::Cancel), after(30)), Ok(vec![]));
}

#[test]
fn the_balance_is_good_until_the_next_boundary_of_a_grant_with_credits() {
    let mut account = account_of(&[
        (GrantSource::Promotion, 5, Some(40)),
        (GrantSource::Plan, 10, Some(60)),
        (GrantSource::TopUp, 10, None),
    ]);
    assert_eq!(account.valid_until(after(0)), Some(after(40)));
    charge(&mut account, 5, 1, 1);
    assert_eq!(account.valid_until(after(1)), Some(after(60)), "an empty grant changes nothing");
    assert_eq!(account.valid_until(after(60)), None);
}

#[test]
fn a_refused_event_leaves_the_account_as_it_was() {
    // Given usage that fills the spent book, a second such event of the batch is refused whole.
    let mut account = account_of(&[(GrantSource::Plan, 100, None)]);
    let usage = cause(CauseKind::Usage);
    charge(&mut account, Credits::MAX.get() - 50, 1, 1);
    let new = NewGrant {
        id: grant_id(2),
        source: GrantSource::TopUp,
        credits: credits(80),
        effective_at: after(1),
        expires_at: None,
    };
    account.issue(new, cause(CauseKind::Purchase), after(1)).unwrap();
    let (books, version) = (account.books(), account.version());
    assert_eq!(account.charge(&event(60, 2, 2), after(2)), Err(Refusal::AmountOverflow));
    assert_eq!(account.issue(NewGrant { credits: Credits::MAX, ..new }, usage, after(2)), {
        Err(Refusal::AmountOverflow)
    });
    assert_eq!((account.books(), account.version()), (books, version));
    assert_eq!(account.available(after(2)), credits(80));
    assert_eq!(account.issued_grants().count(), 2);
    assert_eq!(charge(&mut account, 50, 3, 3).draws, draws(&[(2, 50)]), "what fits is charged");
}
