//! A customer's credit account: its books, its open grants, and the transfers that move Credits
//! between them.
//!
//! The ledger locks and loads an [`Account`], calls its methods, and writes what they left in
//! [`Account::journal`]. Every transfer takes the account's next version, has one debit and one
//! credit book, and an amount above zero, so the sum over the books stays zero by construction.

use crate::grant::{Grant, GrantSource};
use crate::id::{CustomerId, GrantId};
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
    pub const ALL: [CauseKind; 4] = [CauseKind::Purchase, CauseKind::Usage, CauseKind::Expiry, CauseKind::Cancel];

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

/// A locked account with its open grants, and what has been posted to it since it was loaded.
#[derive(Debug, Clone)]
pub struct Account {
    customer: CustomerId,
    version: i64,
    last_recorded_at: Timestamp,
    books: Books,
    grants: Vec<Grant>,
    journal: Vec<Transfer>,
    changed: std::collections::BTreeSet<GrantId>,
    issued: std::collections::BTreeSet<GrantId>,
}

impl Account {
    /// An account as it was loaded: `grants` are those with anything remaining.
    pub fn new(
        customer: CustomerId,
        version: i64,
        last_recorded_at: Timestamp,
        books: Books,
        mut grants: Vec<Grant>,
    ) -> Account {
        grants.sort_by_key(Grant::burn_key);
        Account {
            customer,
            version,
            last_recorded_at,
            books,
            grants,
            journal: Vec::new(),
            changed: Default::default(),
            issued: Default::default(),
        }
    }

    pub fn customer(&self) -> CustomerId {
        self.customer
    }

    pub fn version(&self) -> i64 {
        self.version
    }

    pub fn last_recorded_at(&self) -> Timestamp {
        self.last_recorded_at
    }

    pub fn books(&self) -> Books {
        self.books
    }

    /// The transfers made since the account was loaded, in version order.
    pub fn journal(&self) -> &[Transfer] {
        &self.journal
    }

    /// The grants issued since the account was loaded.
    pub fn issued_grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.iter().filter(|grant| self.issued.contains(&grant.id))
    }

    /// The loaded grants that a transfer has touched.
    pub fn changed_grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.iter().filter(|grant| self.changed.contains(&grant.id) && !self.issued.contains(&grant.id))
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

    /// Issues a grant. `amount-overflow` where the books would leave their range.
    pub fn issue(&mut self, new: NewGrant, cause: Cause, now: Timestamp) -> Result<(), Refusal> {
        if new.credits.is_zero() {
            return Ok(());
        }
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
        self.post(Book::Issued, Book::Available, Some(new.id), new.credits, cause, new.effective_at, now)
    }

    /// Charges `cost` to the eligible grants in burn order; what they do not cover is overage
    /// (R-25, R-30 `absorb`). A cost of zero makes no transfer.
    pub fn charge(
        &mut self,
        cost: Credits,
        charge_instant: Timestamp,
        cause: Cause,
        event_time: Timestamp,
        now: Timestamp,
    ) -> Result<Charge, Refusal> {
        let mut left = cost;
        let mut draws = Vec::new();
        for index in 0..self.grants.len() {
            let grant = &self.grants[index];
            let credits = left.min(grant.remaining());
            if credits.is_zero() || !grant.is_eligible(charge_instant, now) {
                continue;
            }
            let id = grant.id;
            self.grants[index].spent = grant.spent.plus(credits)?;
            self.post(Book::Available, Book::Spent, Some(id), credits, cause, event_time, now)?;
            draws.push(Draw { grant: id, credits });
            left = left.minus_floor_zero(credits);
        }
        if !left.is_zero() {
            self.post(Book::Overage, Book::Spent, None, left, cause, event_time, now)?;
        }
        Ok(Charge { draws, overage: left, balance_after: self.available(now), version: self.version })
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

    /// Revokes what is left of the plan's grants; no other grant is touched (R-25a).
    pub fn revoke_the_plans(&mut self, cause: Cause, now: Timestamp) -> Result<Vec<Draw>, Refusal> {
        let mut draws = Vec::new();
        for index in 0..self.grants.len() {
            let grant = &self.grants[index];
            let (id, credits) = (grant.id, grant.remaining());
            if credits.is_zero() || !grant.source.is_the_plans() || !grant.is_live(now) {
                continue;
            }
            self.grants[index].revoked = grant.revoked.plus(credits)?;
            self.post(Book::Available, Book::Revoked, Some(id), credits, cause, now, now)?;
            draws.push(Draw { grant: id, credits });
        }
        Ok(draws)
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
        self.books.post(debit, credit, credits)?;
        self.version += 1;
        // Recorded time never falls as the version rises, whichever request got the lock first.
        self.last_recorded_at = self.last_recorded_at.max(now);
        self.changed.extend(grant);
        self.journal.push(Transfer {
            version: self.version,
            debit,
            credit,
            grant,
            credits,
            cause,
            event_time,
            recorded_at: self.last_recorded_at,
        });
        Ok(())
    }
}

fn sum<'a>(grants: impl Iterator<Item = &'a Grant>) -> Credits {
    // The available book is the sum over more grants than these, and it is kept in range.
    grants.fold(Credits::ZERO, |total, grant| total.plus(grant.remaining()).unwrap_or(Credits::MAX))
}
