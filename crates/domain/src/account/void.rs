//! Takes an event's charge back: each draw returns to the grant that it came from, the last one first (R-25b, R-33).
//!
//! Nothing is edited: every transfer of the charge gets one that moves the same Credits the other way round and
//! names it. What a grant gets back that has ended since expires in the next transfer; from then on it is as any
//! other Credit of that cycle that nobody spent, so late usage may take it back.

use uuid::Uuid;

use super::{Account, Book, Cause, CauseKind, Posting, Transfer};
use crate::{Credits, Refusal, Timestamp};

/// An event that is to be voided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Void<'a> {
    /// The event's identity.
    pub event: Uuid,
    /// The transfers that charged it, in the order of their versions; none where it cost nothing.
    pub charged: &'a [Transfer],
}

/// What a void came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voided {
    /// What went back to grants.
    pub returned: Credits,
    /// How much of that can be spent again; the rest expired at once.
    pub spendable: Credits,
    /// What no grant had paid for, and nobody has to any more.
    pub overage: Credits,
    /// What is left to spend at the recording time, after this void.
    pub balance_after: Credits,
    /// The account's version after this void.
    pub version: i64,
}

impl Account {
    /// Reverses what charged an event. The grants that had paid have to be loaded, whatever is left of them:
    /// `not-found`, and the account is not to be written, where one is not.
    pub fn void(&mut self, void: &Void<'_>, now: Timestamp) -> Result<Voided, Refusal> {
        let recorded_at = self.recording_time(now);
        let (mut returned, mut overage) = (Credits::ZERO, Credits::ZERO);
        let before = self.available(recorded_at);
        for transfer in void.charged.iter().rev() {
            match (transfer.debit, transfer.credit) {
                (Book::Available, Book::Spent) => {
                    self.give_back(void, transfer, now)?;
                    returned = returned.plus(transfer.credits)?;
                }
                (Book::Overage, Book::Spent) => {
                    self.post(void.moves_back(transfer, now), now)?;
                    overage = overage.plus(transfer.credits)?;
                }
                // What a late charge took back of an expiry it spent in its next transfer, which is reversed.
                _ => {}
            }
        }
        let balance_after = self.available(recorded_at);
        let spendable = balance_after.minus_floor_zero(before);
        Ok(Voided { returned, spendable, overage, balance_after, version: self.head.version })
    }

    /// Returns one draw to its grant, and expires it where the grant has ended.
    fn give_back(&mut self, void: &Void<'_>, draw: &Transfer, now: Timestamp) -> Result<(), Refusal> {
        let recorded_at = self.recording_time(now);
        let index = self.grants.iter().position(|grant| Some(grant.id) == draw.grant);
        let index = index.ok_or(Refusal::NotFound { what: "grant" })?;
        self.grants[index].spent = self.grants[index].spent.minus_floor_zero(draw.credits);
        self.post(void.moves_back(draw, now), now)?;
        let grant = &mut self.grants[index];
        if grant.expires_at.is_none_or(|expiry| expiry > recorded_at) {
            return Ok(());
        }
        grant.expired = grant.expired.plus(draw.credits)?;
        let (debit, credit) = (Book::Available, Book::Expired);
        self.post(Posting { debit, credit, reverses: None, ..void.moves_back(draw, now) }, now)?;
        self.grants[index].expiry_version.get_or_insert(self.head.version);
        Ok(())
    }
}

impl Void<'_> {
    fn moves_back(&self, transfer: &Transfer, now: Timestamp) -> Posting {
        Posting {
            debit: transfer.credit,
            credit: transfer.debit,
            grant: transfer.grant,
            credits: transfer.credits,
            cause: Cause { kind: CauseKind::Void, id: self.event },
            event_time: now,
            reverses: Some(transfer.version),
        }
    }
}
