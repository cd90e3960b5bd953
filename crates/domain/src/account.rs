//! A customer's credit account: its books, its open grants, and the transfers that move Credits
//! between them.
//!
//! The ledger locks and loads an [`Account`], calls its methods, and writes what they left in
//! [`Account::journal`]. Every transfer takes the account's next version, has one debit and one
//! credit book, and an amount above zero, so the sum over the books stays zero by construction.

use crate::chain::Link;
use crate::grant::{Grant, GrantSource};
use crate::id::{CustomerId, GrantId, TenantId};
use crate::{Credits, Refusal, Timestamp};
use uuid::Uuid;

/// A side of a transfer. `Available` is one book per grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Book {
    Issued,
    Available,
    Spent,
    Expired,
    Revoked,
    Overage,
}

impl Book {
    pub const ALL: [Book; 6] =
        [Book::Issued, Book::Available, Book::Spent, Book::Expired, Book::Revoked, Book::Overage];

    pub fn name(self) -> &'static str {
        match self {
            Book::Issued => "issued",
            Book::Available => "available",
            Book::Spent => "spent",
            Book::Expired => "expired",
            Book::Revoked => "revoked",
            Book::Overage => "overage",
        }
    }
}

/// Why a transfer was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CauseKind {
    /// A grant was issued; the id is the purchase's.
    Purchase,
    /// An event was charged; the id is the event's identity.
    Usage,
    /// A grant reached its expiry; the id is the grant's.
    Expiry,
    /// A subscription was canceled at once; the id is the subscription's.
    Cancel,
}

impl CauseKind {
    pub const ALL: [CauseKind; 4] =
        [CauseKind::Purchase, CauseKind::Usage, CauseKind::Expiry, CauseKind::Cancel];

    pub fn name(self) -> &'static str {
        match self {
            CauseKind::Purchase => "purchase",
            CauseKind::Usage => "usage",
            CauseKind::Expiry => "expiry",
            CauseKind::Cancel => "cancel",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cause {
    pub kind: CauseKind,
    pub id: Uuid,
}

/// One movement of Credits from the debit book to the credit book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    pub version: i64,
    pub debit: Book,
    pub credit: Book,
    /// The grant whose available book is a side; none between two account-wide books.
    pub grant: Option<GrantId>,
    pub credits: Credits,
    pub cause: Cause,
    pub event_time: Timestamp,
    pub recorded_at: Timestamp,
    /// The version of the earlier transfer that this one takes back, wholly or in part.
    pub reverses: Option<i64>,
}

/// The balances of the account-wide books, each as credits less debits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Books {
    /// Never above zero: what was ever granted, negative.
    pub issued: i64,
    /// The sum over all grants' available books.
    pub available: i64,
    pub spent: i64,
    pub expired: i64,
    pub revoked: i64,
    /// Never above zero: usage that no grant paid for.
    pub overage: i64,
}

impl Books {
    /// Zero, always.
    pub fn sum(&self) -> i64 {
        self.issued + self.available + self.spent + self.expired + self.revoked + self.overage
    }

    fn of(&mut self, book: Book) -> &mut i64 {
        match book {
            Book::Issued => &mut self.issued,
            Book::Available => &mut self.available,
            Book::Spent => &mut self.spent,
            Book::Expired => &mut self.expired,
            Book::Revoked => &mut self.revoked,
            Book::Overage => &mut self.overage,
        }
    }

    /// Moves `credits` from `debit` to `credit`; refused where a balance would leave the range.
    pub fn post(&mut self, debit: Book, credit: Book, credits: Credits) -> Result<(), Refusal> {
        let limit = Credits::MAX.get();
        let moved = credits.get();
        let debited = *self.of(debit) - moved;
        let credited = *self.of(credit) + moved;
        if debited < -limit || credited > limit {
            return Err(Refusal::AmountOverflow);
        }
        *self.of(debit) = debited;
        *self.of(credit) = credited;
        Ok(())
    }
}

/// What one grant gave or lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    pub grant: GrantId,
    pub credits: Credits,
}

/// How an event's cost was met (the receipt's second half).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    pub draws: Vec<Draw>,
    /// What no grant paid for.
    pub overage: Credits,
    /// What is left to spend at the recording time, after this charge.
    pub balance_after: Credits,
    /// The account's version after this charge.
    pub version: i64,
}

/// A grant to be issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewGrant {
    pub id: GrantId,
    pub source: GrantSource,
    pub credits: Credits,
    pub effective_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

/// An account but for its grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountHead {
    pub tenant: TenantId,
    pub customer: CustomerId,
    /// The version of the last transfer; 0 before the first.
    pub version: i64,
    pub last_recorded_at: Timestamp,
    pub refills_at: Option<Timestamp>,
    pub books: Books,
    /// The last link of the chain over the transfers.
    pub chain: Link,
}

impl AccountHead {
    /// A new customer's account.
    pub fn opened(tenant: TenantId, customer: CustomerId, at: Timestamp) -> AccountHead {
        let (refills_at, books, chain) = (None, Books::default(), Link::START);
        AccountHead { tenant, customer, version: 0, last_recorded_at: at, refills_at, books, chain }
    }
}

/// A transfer made since the account was loaded, and its link of the account's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    pub transfer: Transfer,
    pub link: Link,
}

/// A locked account with its open grants, and what has been posted to it since it was loaded.
#[derive(Debug, Clone)]
pub struct Account {
    head: AccountHead,
    grants: Vec<Grant>,
    journal: Vec<Posted>,
    changed: std::collections::BTreeSet<GrantId>,
    issued: std::collections::BTreeSet<GrantId>,
}

impl Account {
    /// An account as it was loaded: `grants` are those with anything remaining.
    pub fn new(head: AccountHead, mut grants: Vec<Grant>) -> Account {
        grants.sort_by_key(Grant::burn_key);
        Account { head, grants, journal: Vec::new(), changed: Default::default(), issued: Default::default() }
    }

    pub fn customer(&self) -> CustomerId {
        self.head.customer
    }

    pub fn version(&self) -> i64 {
        self.head.version
    }

    pub fn last_recorded_at(&self) -> Timestamp {
        self.head.last_recorded_at
    }

    /// When the pool fills again, as far as that is paid for or will be asked for; what an
    /// out-of-Credits answer shows (R-33a). Set by whoever runs the cycles.
    pub fn refills_at(&self) -> Option<Timestamp> {
        self.head.refills_at
    }

    /// When the current cycle ends, as far as the account knows: with a refill ahead, at that; else with
    /// the plan's live grants.
    pub fn cycle_ends_at(&self, now: Timestamp) -> Option<Timestamp> {
        let live = self.grants.iter().filter(|grant| grant.source.is_the_plans() && grant.is_live(now));
        self.head.refills_at.or_else(|| live.filter_map(|grant| grant.expires_at).max())
    }

    pub fn set_refills_at(&mut self, refills_at: Option<Timestamp>) {
        self.head.refills_at = refills_at;
    }

    pub fn books(&self) -> Books {
        self.head.books
    }

    /// The last link of the chain over the transfers.
    pub fn chain(&self) -> Link {
        self.head.chain
    }

    /// The transfers made since the account was loaded, in version order.
    pub fn journal(&self) -> &[Posted] {
        &self.journal
    }

    /// The grants issued since the account was loaded.
    pub fn issued_grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.iter().filter(|grant| self.issued.contains(&grant.id))
    }

    /// The loaded grants that a transfer has touched.
    pub fn changed_grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants
            .iter()
            .filter(|grant| self.changed.contains(&grant.id) && !self.issued.contains(&grant.id))
    }

    /// What can be spent at `at`: the live grants' rest, whether or not their expiry is booked yet.
    pub fn available(&self, at: Timestamp) -> Credits {
        sum(self.grants.iter().filter(|grant| grant.is_live(at)))
    }

    /// The next instant after `at` at which [`Account::available`] changes by itself.
    pub fn valid_until(&self, at: Timestamp) -> Option<Timestamp> {
        self.grants
            .iter()
            .filter(|grant| !grant.remaining().is_zero())
            .flat_map(|grant| [Some(grant.effective_at), grant.expires_at])
            .flatten()
            .filter(|boundary| *boundary > at)
            .min()
    }

    /// Issues a grant. `amount-overflow`, and nothing changed, where the books would leave their range.
    pub fn issue(&mut self, new: NewGrant, cause: Cause, now: Timestamp) -> Result<(), Refusal> {
        if new.credits.is_zero() {
            return Ok(());
        }
        // Posted first: it is the only step that can refuse.
        self.post(Book::Issued, Book::Available, Some(new.id), new.credits, cause, new.effective_at, now)?;
        self.grants.push(Grant {
            id: new.id,
            source: new.source,
            priority: new.source.priority(),
            amount: new.credits,
            spent: Credits::ZERO,
            expired: Credits::ZERO,
            revoked: Credits::ZERO,
            effective_at: new.effective_at,
            expires_at: new.expires_at,
        });
        self.grants.sort_by_key(Grant::burn_key);
        self.issued.insert(new.id);
        Ok(())
    }

    /// Charges `cost` to the eligible grants in burn order; what they do not cover is overage
    /// (R-25, R-30 `absorb`). A cost of zero makes no transfer. `amount-overflow`, and nothing
    /// changed, where the books would leave their range: one event of a batch can be refused.
    pub fn charge(
        &mut self,
        cost: Credits,
        charge_instant: Timestamp,
        cause: Cause,
        event_time: Timestamp,
        now: Timestamp,
    ) -> Result<Charge, Refusal> {
        let recorded_at = self.recording_time(now);
        let payable = sum(self.grants.iter().filter(|grant| grant.is_eligible(charge_instant, recorded_at)));
        let overage = cost.minus_floor_zero(payable);
        // The whole charge on a copy first, so that no step after it can be refused.
        let mut books_after = self.head.books;
        books_after.post(Book::Available, Book::Spent, cost.minus_floor_zero(overage))?;
        books_after.post(Book::Overage, Book::Spent, overage)?;

        let mut left = cost;
        let mut draws = Vec::new();
        for index in 0..self.grants.len() {
            let grant = &self.grants[index];
            let credits = left.min(grant.remaining());
            if credits.is_zero() || !grant.is_eligible(charge_instant, recorded_at) {
                continue;
            }
            let id = grant.id;
            self.grants[index].spent = grant.spent.plus(credits)?;
            self.post(Book::Available, Book::Spent, Some(id), credits, cause, event_time, now)?;
            draws.push(Draw { grant: id, credits });
            left = left.minus_floor_zero(credits);
        }
        if !overage.is_zero() {
            self.post(Book::Overage, Book::Spent, None, overage, cause, event_time, now)?;
        }
        Ok(Charge { draws, overage, balance_after: self.available(recorded_at), version: self.head.version })
    }

    /// Books the expiry of every grant whose expiry is at or before `now`.
    pub fn expire(&mut self, now: Timestamp) -> Result<Vec<Draw>, Refusal> {
        let is_due = |grant: &Grant| grant.expires_at.is_some_and(|expiry| expiry <= now);
        let mut draws = Vec::new();
        for index in 0..self.grants.len() {
            let grant = &self.grants[index];
            let (id, credits) = (grant.id, grant.remaining());
            let Some(expires_at) = grant.expires_at.filter(|_| is_due(grant) && !credits.is_zero()) else {
                continue;
            };
            self.grants[index].expired = grant.expired.plus(credits)?;
            let cause = Cause { kind: CauseKind::Expiry, id: id.uuid() };
            self.post(Book::Available, Book::Expired, Some(id), credits, cause, expires_at, now)?;
            draws.push(Draw { grant: id, credits });
        }
        Ok(draws)
    }

    /// Revokes what is left of the plan's grants, those that are yet to become effective
    /// included; no other grant is touched (R-25a). What is past its expiry is left to expire.
    pub fn revoke_the_plans(&mut self, cause: Cause, now: Timestamp) -> Result<Vec<Draw>, Refusal> {
        let recorded_at = self.recording_time(now);
        let is_over = |grant: &Grant| grant.expires_at.is_some_and(|expiry| expiry <= recorded_at);
        let mut draws = Vec::new();
        for index in 0..self.grants.len() {
            let grant = &self.grants[index];
            let (id, credits) = (grant.id, grant.remaining());
            if credits.is_zero() || !grant.source.is_the_plans() || is_over(grant) {
                continue;
            }
            self.grants[index].revoked = grant.revoked.plus(credits)?;
            self.post(Book::Available, Book::Revoked, Some(id), credits, cause, now, now)?;
            draws.push(Draw { grant: id, credits });
        }
        Ok(draws)
    }

    /// The time that a transfer posted at `now` is recorded with: it never falls as the version
    /// rises, whichever request got the lock first. A grant that was issued while this request
    /// waited for the lock is effective by it (R-19a).
    fn recording_time(&self, now: Timestamp) -> Timestamp {
        self.head.last_recorded_at.max(now)
    }

    #[allow(clippy::too_many_arguments, reason = "these are a transfer's columns")]
    fn post(
        &mut self,
        debit: Book,
        credit: Book,
        grant: Option<GrantId>,
        credits: Credits,
        cause: Cause,
        event_time: Timestamp,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.head.books.post(debit, credit, credits)?;
        self.head.version += 1;
        self.head.last_recorded_at = self.recording_time(now);
        self.changed.extend(grant);
        let transfer = Transfer {
            version: self.head.version,
            debit,
            credit,
            grant,
            credits,
            cause,
            event_time,
            recorded_at: self.head.last_recorded_at,
            reverses: None,
        };
        let link = self.head.chain.next(self.head.tenant, self.head.customer, &transfer);
        self.head.chain = link;
        self.journal.push(Posted { transfer, link });
        Ok(())
    }
}

fn sum<'a>(grants: impl Iterator<Item = &'a Grant>) -> Credits {
    // The available book is the sum over more grants than these, and it is kept in range.
    grants.fold(Credits::ZERO, |total, grant| total.plus(grant.remaining()).unwrap_or(Credits::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::fixtures::{at, credits, grant_id};
    use crate::model::{Fate, ModelAccount};
    use chrono::Duration;
    use proptest::prelude::*;

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

        fn load(&self) -> Account {
            let open = self.grants.values().filter(|grant| !grant.remaining().is_zero()).cloned().collect();
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
                    assert!(grant[&Book::Available] >= 0, "no grant is overdrawn at any version");
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
    }

    /// An account of these grants, all effective at 0: (source, Credits, expiry).
    fn account_of(grants: &[(GrantSource, i64, Option<i64>)]) -> Account {
        let mut account = Stored::empty().load();
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

    fn charge(account: &mut Account, cost: i64, charge_instant: i64, now: i64) -> Charge {
        let cause = cause(CauseKind::Usage);
        account
            .charge(credits(cost), after(charge_instant), cause, after(charge_instant), after(now))
            .unwrap()
    }

    fn draws(of: &[(u128, i64)]) -> Vec<Draw> {
        of.iter().map(|(grant, count)| Draw { grant: grant_id(*grant), credits: credits(*count) }).collect()
    }

    #[test]
    fn a_charge_burns_promotion_then_rollover_then_plan_then_adjustment_then_top_up() {
        let mut account = account_of(&[
            (GrantSource::TopUp, 10, None),
            (GrantSource::Adjustment, 10, None),
            (GrantSource::Upgrade, 10, Some(100)),
            (GrantSource::Plan, 10, Some(100)),
            (GrantSource::Rollover, 10, Some(100)),
            (GrantSource::Promotion, 10, None),
        ]);
        let charge = charge(&mut account, 55, 1, 1);
        // Plan and upgrade share a priority, an expiry and an effective instant: the lower id first.
        assert_eq!(charge.draws, draws(&[(6, 10), (5, 10), (3, 10), (4, 10), (2, 10), (1, 5)]));
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
        account.charge(credits(Credits::MAX.get() - 50), after(1), usage, after(1), after(1)).unwrap();
        let new = NewGrant {
            id: grant_id(2),
            source: GrantSource::TopUp,
            credits: credits(80),
            effective_at: after(1),
            expires_at: None,
        };
        account.issue(new, cause(CauseKind::Purchase), after(1)).unwrap();
        let (books, version) = (account.books(), account.version());
        assert_eq!(
            account.charge(credits(60), after(2), usage, after(2), after(2)),
            Err(Refusal::AmountOverflow)
        );
        assert_eq!(account.issue(NewGrant { credits: Credits::MAX, ..new }, usage, after(2)), {
            Err(Refusal::AmountOverflow)
        });
        assert_eq!((account.books(), account.version()), (books, version));
        assert_eq!(account.available(after(2)), credits(80));
        assert_eq!(account.issued_grants().count(), 2);
        assert_eq!(charge(&mut account, 50, 3, 3).draws, draws(&[(2, 50)]), "what fits is charged");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Issue { source: usize, amount: usize, begins_in: i64, lasts: Option<i64> },
        Charge { cost: usize, began_ago: i64 },
        Expire,
        Revoke,
    }

    fn steps() -> impl Strategy<Value = Vec<(i64, bool, Step)>> {
        let issue = (0usize..6, 0usize..12, -3i64..3, prop::option::weighted(0.7, 1i64..12))
            .prop_map(|(source, amount, begins_in, lasts)| Step::Issue { source, amount, begins_in, lasts });
        let charge = (0usize..20, 0i64..6).prop_map(|(cost, began_ago)| Step::Charge { cost, began_ago });
        let step = prop_oneof![4 => issue, 6 => charge, 2 => Just(Step::Expire), 1 => Just(Step::Revoke)];
        // Time passes, stands, or goes back by a little: who gets the lock first is chance.
        prop::collection::vec((-2i64..4, any::<bool>(), step), 1..40)
    }

    proptest! {
        #[test]
        fn any_history_moves_the_credits_that_the_model_moves_and_replays_to_the_same_state(
            steps in steps()
        ) {
            let mut stored = Stored::empty();
            let mut account = stored.load();
            let mut model = ModelAccount::new(0);
            let mut now = 0;
            for ((passes, is_committed, step), number) in steps.into_iter().zip(1u128..) {
                now += passes;
                match step {
                    Step::Issue { source, amount, begins_in, lasts } => {
                        // Ids in no order, so that they break ties against the order of issue.
                        let (id, source) = (number * 7_919 % 10_007, GrantSource::ALL[source]);
                        let (begins, ends) = (now + begins_in, lasts.map(|lasts| now + begins_in + lasts));
                        let new = NewGrant {
                            id: grant_id(id),
                            source,
                            credits: credits(i64::try_from(amount).unwrap()),
                            effective_at: after(begins),
                            expires_at: ends.map(after),
                        };
                        account.issue(new, cause(CauseKind::Purchase), after(now)).unwrap();
                        if amount > 0 {
                            model.issue(id, source, amount, (begins, ends), now);
                        }
                    }
                    Step::Charge { cost, began_ago } => {
                        let charge =
                            charge(&mut account, i64::try_from(cost).unwrap(), now - began_ago, now);
                        let drawn = model.charge(cost, now - began_ago, now);
                        let one_by_one: Vec<_> = charge
                            .draws
                            .iter()
                            .map(|draw| (Some(draw.grant.uuid().as_u128()), draw.credits))
                            .chain([(None, charge.overage)])
                            .flat_map(|(grant, count)| (0..count.get()).map(move |_| grant))
                            .collect();
                        prop_assert_eq!(one_by_one, drawn);
                        prop_assert_eq!(charge.version, account.version());
                    }
                    Step::Expire => {
                        account.expire(after(now)).unwrap();
                        prop_assert_eq!(account.expire(after(now)), Ok(vec![]), "twice is once");
                        model.expire(now);
                    }
                    Step::Revoke => {
                        account.revoke_the_plans(cause(CauseKind::Cancel), after(now)).unwrap();
                        model.revoke_the_plans(now);
                    }
                }
                for instant in [now - 2, now, now + 5] {
                    let available = usize::try_from(account.available(after(instant)).get()).unwrap();
                    prop_assert_eq!(available, model.available(instant));
                    let changes_at = account.valid_until(after(instant));
                    let constant_to = changes_at.map_or(after(instant + 20), |at| at - Duration::seconds(1));
                    prop_assert_eq!(account.available(after(instant)), account.available(constant_to));
                }
                if is_committed {
                    stored.write(&account);
                    stored.check();
                    account = stored.load();
                }
            }
            stored.write(&account);
            stored.check();
            prop_assert_eq!(stored.books.overage, -i64::try_from(model.overage).unwrap());
            prop_assert_eq!(stored.grants.len(), model.grants.len());
            for expected in &model.grants {
                let grant = &stored.grants[&grant_id(expected.id)];
                let parts = [grant.spent, grant.expired, grant.revoked, grant.remaining()]
                    .map(|part| usize::try_from(part.get()).unwrap());
                let [spent, expired, revoked] =
                    [Fate::Spent, Fate::Expired, Fate::Revoked].map(|fate| expected.count(fate));
                prop_assert_eq!(parts, [spent, expired, revoked, expected.remaining()]);
            }
        }

        #[test]
        fn a_book_never_leaves_its_range(moves in prop::collection::vec((0usize..6, 0usize..6, any::<u64>()), 1..20)) {
            let mut books = Books::default();
            for (debit, credit, amount) in moves {
                let amount = credits(i64::try_from(amount >> 11).unwrap());
                let before = books;
                if debit != credit && books.post(Book::ALL[debit], Book::ALL[credit], amount).is_err() {
                    prop_assert_eq!(books, before);
                }
                prop_assert_eq!(books.sum(), 0);
                for book in Book::ALL {
                    prop_assert!(books.of(book).abs() <= Credits::MAX.get());
                }
            }
        }
    }
}
