//! A customer's credit account: its books, its open grants, and the transfers that move Credits
//! between them.
//!
//! The ledger locks and loads an [`Account`], calls its methods, and writes what they left in
//! [`Account::journal`]. Every transfer takes the account's next version, has one debit and one
//! credit book, and an amount above zero, so the sum over the books stays zero by construction.

mod charge;
mod revoke;
#[cfg(test)]
mod tests;
mod void;

use crate::alert::Level;
use crate::chain::Link;
use crate::exhaustion::Overflow;
use crate::grant::{Grant, GrantSource};
use crate::id::{CustomerId, GrantId, TenantId};
use crate::payg::Pico;
use crate::{Credits, Refusal, Timestamp};
use uuid::Uuid;

pub use charge::{Charge, EventCost};
pub use void::{Void, Voided};

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
    /// An event was voided; the id is the event's identity.
    Void,
    /// An operator gave or took by hand; the id is the adjustment's.
    Adjustment,
    /// Money went back; the id is the refund's.
    Refund,
    /// A dispute was lost; the id is the dispute's.
    Dispute,
    /// A cycle turned: the pool of one that its term had paid for, or what was carried into it; the id is the
    /// grant's (R-20, R-22b).
    Cycle,
}

impl CauseKind {
    pub const ALL: [CauseKind; 9] = [
        CauseKind::Purchase,
        CauseKind::Usage,
        CauseKind::Expiry,
        CauseKind::Cancel,
        CauseKind::Void,
        CauseKind::Adjustment,
        CauseKind::Refund,
        CauseKind::Dispute,
        CauseKind::Cycle,
    ];

    pub fn name(self) -> &'static str {
        match self {
            CauseKind::Purchase => "purchase",
            CauseKind::Usage => "usage",
            CauseKind::Expiry => "expiry",
            CauseKind::Cancel => "cancel",
            CauseKind::Void => "void",
            CauseKind::Adjustment => "adjustment",
            CauseKind::Refund => "refund",
            CauseKind::Dispute => "dispute",
            CauseKind::Cycle => "cycle",
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
    /// How often something else that Redis is told of has changed: whether it may spend, when it refills, how it goes on
    /// without Credits.
    pub changes: i64,
    pub last_recorded_at: Timestamp,
    pub refills_at: Option<Timestamp>,
    pub books: Books,
    /// The last link of the chain over the transfers.
    pub chain: Link,
    /// Whether it spends nothing until an operator has looked at it.
    pub is_parked: bool,
    /// How it goes on without Credits.
    pub overflow: Overflow,
    /// Whether its customer's subscription is suspended.
    pub is_suspended: bool,
}

impl AccountHead {
    /// A new customer's account.
    pub fn opened(tenant: TenantId, customer: CustomerId, at: Timestamp) -> AccountHead {
        let (refills_at, books, chain) = (None, Books::default(), Link::START);
        let (is_parked, is_suspended) = (false, false);
        AccountHead {
            tenant,
            customer,
            version: 0,
            changes: 0,
            last_recorded_at: at,
            refills_at,
            books,
            chain,
            is_parked,
            overflow: Overflow::NONE,
            is_suspended,
        }
    }
}

/// A transfer made since the account was loaded, and its link of the account's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    pub transfer: Transfer,
    pub link: Link,
}

/// A movement that is about to be posted.
struct Posting {
    debit: Book,
    credit: Book,
    grant: Option<GrantId>,
    credits: Credits,
    cause: Cause,
    event_time: Timestamp,
    reverses: Option<i64>,
}

/// A locked account with its grants, and what has been posted to it since it was loaded.
#[derive(Debug, Clone)]
pub struct Account {
    head: AccountHead,
    grants: Vec<Grant>,
    journal: Vec<Posted>,
    /// Each once; seldom more than one or two.
    changed: Vec<GrantId>,
    issued: Vec<GrantId>,
    has_other_refill: bool,
    has_other_overflow: bool,
    has_other_standing: bool,
}

impl Account {
    /// An account as it was loaded: `grants` are those with anything remaining, for usage those that
    /// ended at or after its charge instant as well, and for a void those that had paid.
    pub fn new(head: AccountHead, mut grants: Vec<Grant>) -> Account {
        grants.sort_by_key(Grant::burn_key);
        let (journal, changed, issued) = Default::default();
        let (has_other_refill, has_other_overflow, has_other_standing) = Default::default();
        Account {
            head,
            grants,
            journal,
            changed,
            issued,
            has_other_refill,
            has_other_overflow,
            has_other_standing,
        }
    }

    pub fn customer(&self) -> CustomerId {
        self.head.customer
    }

    pub fn version(&self) -> i64 {
        self.head.version
    }

    /// How often something of it has changed without a transfer, this time included.
    pub fn changes(&self) -> i64 {
        self.head.changes + i64::from(self.has_other_refill || self.has_other_standing)
    }

    /// Which of two copies of the account is newer: of transfers alone the version says it, and not of a
    /// suspension.
    pub fn revision(&self) -> i64 {
        self.version() + self.changes()
    }

    pub fn last_recorded_at(&self) -> Timestamp {
        self.head.last_recorded_at
    }

    /// When the pool fills again, as far as that is paid for or will be asked for; what an
    /// out-of-Credits answer shows (R-33a). Set by whoever runs the cycles.
    pub fn refills_at(&self) -> Option<Timestamp> {
        self.head.refills_at
    }

    /// Whether it spends nothing for now: no authorization is granted, and usage is kept.
    pub fn is_parked(&self) -> bool {
        self.head.is_parked
    }

    /// Refuses a parked account with `account-parked`.
    pub fn check_spends(&self) -> Result<(), Refusal> {
        if self.is_parked() { Err(Refusal::AccountParked) } else { Ok(()) }
    }

    /// Whether its customer's subscription is suspended: no authorization is granted, and usage that
    /// happened is charged as ever.
    pub fn is_suspended(&self) -> bool {
        self.head.is_suspended
    }

    /// Set by whoever suspends the subscription, lifts that, or ends it.
    pub fn set_suspended(&mut self, is_suspended: bool) {
        self.has_other_standing |= is_suspended != self.head.is_suspended;
        self.head.is_suspended = is_suspended;
    }

    /// Whether it is suspended or not other than when it was loaded.
    pub fn has_other_standing(&self) -> bool {
        self.has_other_standing
    }

    /// Refuses to authorize on a parked account, and on one whose subscription is suspended with
    /// `subscription-suspended`.
    pub fn check_authorizes(&self) -> Result<(), Refusal> {
        self.check_spends()?;
        if self.is_suspended() { Err(Refusal::SubscriptionSuspended) } else { Ok(()) }
    }

    /// When the current cycle ends, as far as the account knows: with a refill ahead, at that; else with
    /// the plan's live grants that have anything left.
    pub fn cycle_ends_at(&self, now: Timestamp) -> Option<Timestamp> {
        let has_credits = |grant: &&Grant| !grant.remaining().is_zero();
        let live = self.grants.iter().filter(|grant| grant.source.is_the_plans() && grant.is_live(now));
        let live = live.filter(has_credits);
        self.head.refills_at.or_else(|| live.filter_map(|grant| grant.expires_at).max())
    }

    pub fn set_refills_at(&mut self, refills_at: Option<Timestamp>) {
        self.has_other_refill |= refills_at != self.head.refills_at;
        self.head.refills_at = refills_at;
    }

    /// How it goes on without Credits.
    pub fn overflow(&self) -> &Overflow {
        &self.head.overflow
    }

    /// Whether that is other than when it was loaded: what is accrued, or until when no top-up buys itself.
    pub fn has_other_overflow(&self) -> bool {
        self.has_other_overflow
    }

    /// Accrues money for usage; what is accrued first says when all of it is due (R-30a).
    pub fn accrue(&mut self, pico: Pico, due_at: Timestamp) -> Result<(), Refusal> {
        if !pico.is_zero() {
            self.head.overflow.accrued = self.head.overflow.accrued.plus(pico)?;
            self.head.overflow.due_at.get_or_insert(due_at);
            self.has_other_overflow = true;
        }
        Ok(())
    }

    /// Takes accrued money out: it was invoiced, or what it was for was voided.
    pub fn take_accrued(&mut self, pico: Pico) {
        let overflow = &mut self.head.overflow;
        overflow.accrued = overflow.accrued.minus_floor_zero(pico);
        overflow.due_at = overflow.due_at.filter(|_| !overflow.accrued.is_zero());
        self.has_other_overflow = true;
    }

    /// Puts off when what is accrued is due: too little to be invoiced.
    pub fn put_accrued_off(&mut self, due_at: Timestamp) {
        self.head.overflow.due_at = self.head.overflow.due_at.map(|_| due_at);
        self.has_other_overflow = true;
    }

    /// Lets no top-up buy itself before `until`.
    pub fn block_top_ups(&mut self, until: Timestamp) {
        self.head.overflow.top_up_blocked_until = Some(until);
        self.has_other_overflow = true;
    }

    pub fn books(&self) -> Books {
        self.head.books
    }

    /// The last link of the chain over the transfers.
    pub fn chain(&self) -> Link {
        self.head.chain
    }

    /// Whether anything about it is other than when it was loaded.
    pub fn is_changed(&self) -> bool {
        self.has_other_refill || self.has_other_standing || !self.journal.is_empty()
    }

    /// The transfers made since the account was loaded, in version order.
    pub fn journal(&self) -> &[Posted] {
        &self.journal
    }

    /// Makes it the account as it is loaded once what was posted is stored: with the grants that have anything remaining, and
    /// those that ended after `ended_after`.
    pub fn settle(&mut self, ended_after: Timestamp) {
        let has_ended_after = |grant: &Grant| grant.expires_at.is_some_and(|expiry| expiry > ended_after);
        self.grants.retain(|grant| !grant.remaining().is_zero() || has_ended_after(grant));
        let (head, grants) =
            (AccountHead { changes: self.changes(), ..self.head }, std::mem::take(&mut self.grants));
        *self = Account::new(head, grants);
    }

    /// What a loaded grant was made for.
    pub fn source_of(&self, grant: GrantId) -> Option<GrantSource> {
        self.grants.iter().find(|other| other.id == grant).map(|grant| grant.source)
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
        sum_of(self.grants.iter().filter(|grant| grant.is_live(at)).map(Grant::remaining))
    }

    /// What can be spent at `at` of what the live grants were made with, without what was revoked of them; a grant without
    /// an end that is used up is no part of either.
    pub fn level(&self, at: Timestamp) -> Level {
        let live = self.grants.iter().filter(|grant| grant.is_live(at));
        let counted = live.filter(|grant| grant.expires_at.is_some() || !grant.remaining().is_zero());
        let made_with = counted.map(|grant| grant.amount.minus_floor_zero(grant.revoked));
        Level { available: self.available(at), limit: sum_of(made_with) }
    }

    /// Whether nothing is left at `now` and usage took the last of it: what ended unspent, or was taken back, leaves nothing
    /// either. None where the transfers before those of the journal have to say so: the last that took anything.
    pub fn is_used_up(&self, now: Timestamp) -> Option<bool> {
        let has_ended = |grant: &Grant| grant.expires_at.is_some_and(|expiry| expiry <= now);
        let has_rest = self.grants.iter().any(|grant| has_ended(grant) && !grant.remaining().is_zero());
        if self.version() == 0 || has_rest || !self.available(now).is_zero() {
            return Some(false);
        }
        let mut taken = self.journal.iter().rev().map(|posted| &posted.transfer);
        let last = taken.find(|transfer| transfer.debit == Book::Available);
        last.map(|transfer| transfer.cause.kind == CauseKind::Usage)
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
        self.issue_with(new, new.source.priority(), cause, now)
    }

    /// The same with another priority than the source's own.
    pub fn issue_with(
        &mut self,
        new: NewGrant,
        priority: i16,
        cause: Cause,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if new.credits.is_zero() {
            return Ok(());
        }
        // Posted first: it is the only step that can refuse.
        self.post(
            Posting {
                debit: Book::Issued,
                credit: Book::Available,
                grant: Some(new.id),
                credits: new.credits,
                cause,
                event_time: new.effective_at,
                reverses: None,
            },
            now,
        )?;
        self.grants.push(Grant {
            id: new.id,
            source: new.source,
            priority,
            amount: new.credits,
            spent: Credits::ZERO,
            expired: Credits::ZERO,
            revoked: Credits::ZERO,
            expiry_version: None,
            effective_at: new.effective_at,
            expires_at: new.expires_at,
        });
        self.grants.sort_by_key(Grant::burn_key);
        self.issued.push(new.id);
        Ok(())
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
            let (debit, credit, event_time) = (Book::Available, Book::Expired, expires_at);
            let grant = Some(id);
            self.post(Posting { debit, credit, grant, credits, cause, event_time, reverses: None }, now)?;
            self.grants[index].expiry_version = Some(self.head.version);
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
            let (debit, credit, event_time) = (Book::Available, Book::Revoked, now);
            let grant = Some(id);
            self.post(Posting { debit, credit, grant, credits, cause, event_time, reverses: None }, now)?;
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

    fn post(&mut self, posting: Posting, now: Timestamp) -> Result<(), Refusal> {
        let Posting { debit, credit, grant, credits, cause, event_time, reverses } = posting;
        self.head.books.post(debit, credit, credits)?;
        self.head.version += 1;
        self.head.last_recorded_at = self.recording_time(now);
        self.changed.extend(grant.filter(|grant| !self.changed.contains(grant)));
        let transfer = Transfer {
            version: self.head.version,
            debit,
            credit,
            grant,
            credits,
            cause,
            event_time,
            recorded_at: self.head.last_recorded_at,
            reverses,
        };
        let link = self.head.chain.next(self.head.tenant, self.head.customer, &transfer);
        self.head.chain = link;
        // Most accounts of a batch have one transfer in it.
        self.journal.reserve_exact(usize::from(self.journal.is_empty()));
        self.journal.push(Posted { transfer, link });
        Ok(())
    }
}

/// The sum of what grants have: the books keep it in range.
fn sum_of(parts: impl Iterator<Item = Credits>) -> Credits {
    parts.fold(Credits::ZERO, |total, part| total.plus(part).unwrap_or(Credits::MAX))
}
