//! Which grants pay for an event, and what a late one takes back from an expiry (R-19a, R-25, R-30, R-32).
//!
//! An event lies in the cycle of the plan's grants that its charge instant falls into. While that cycle
//! is open, the grants that are effective by the recording pay. Once it is over, an event that captured a
//! hold, or that was received within the grace, is still that cycle's usage: only the grants of before
//! the cycle's end pay, and what they had left counts as unspent whether its expiry has been booked or not.

use super::{Account, Book, Cause, Draw, Posting, sum_of};
use crate::grant::Grant;
use crate::policy::{LateRules, LateUsage};
use crate::{Credits, Refusal, Timestamp};

/// An event's cost, and all that picks the grants which pay it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventCost {
    pub credits: Credits,
    /// Picks the cycle (R-19a).
    pub charge_instant: Timestamp,
    /// Whether it captured a hold: then it needs no grace.
    pub is_captured: bool,
    /// When it was received: what the grace is counted to.
    pub received_at: Timestamp,
    pub late: LateRules,
    pub cause: Cause,
    pub event_time: Timestamp,
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

/// The grants that may pay for an event.
enum Payers {
    /// Those that were effective before the end of the closed cycle that it lies in.
    OfClosedCycle { ended_at: Timestamp },
    /// Those that are effective by the recording, as of a charge instant.
    AsOf { charge_instant: Timestamp, recorded_at: Timestamp },
    /// None: all of it is overage.
    Nobody,
}

impl EventCost {
    /// Whether it may still be charged to what ended at `ended_at`, which is over.
    fn reaches_back_to(&self, ended_at: Timestamp) -> bool {
        self.is_captured || self.received_at <= ended_at + self.late.grace
    }

    fn may_be_paid_by(&self, grant: &Grant, payers: &Payers) -> bool {
        match *payers {
            Payers::OfClosedCycle { ended_at } => {
                grant.effective_at < ended_at && grant.is_eligible(self.charge_instant, ended_at)
            }
            Payers::AsOf { charge_instant, recorded_at } => {
                let is_over = grant.expires_at.filter(|expiry| *expiry <= recorded_at);
                grant.is_eligible(charge_instant, recorded_at)
                    && is_over.is_none_or(|expiry| self.reaches_back_to(expiry))
            }
            Payers::Nobody => false,
        }
    }
}

impl Account {
    /// Charges an event to the eligible grants in burn order; what they do not cover is overage
    /// (R-25, R-30 `absorb`). A cost of zero makes no transfer. What a grant gives that had expired takes
    /// two: one that takes the expiry back, and one that spends it. `amount-overflow`, and nothing
    /// changed, where the books would leave their range: one event of a batch can be refused.
    pub fn charge(&mut self, cost: &EventCost, now: Timestamp) -> Result<Charge, Refusal> {
        let recorded_at = self.recording_time(now);
        let payers = self.payers(cost, recorded_at);
        let overage = self.left_by(cost, &payers);
        // The whole charge on a copy first, so that no step after it can be refused. What is taken back
        // fits: it was available before it expired.
        let mut books_after = self.head.books;
        books_after.post(Book::Available, Book::Spent, cost.credits.minus_floor_zero(overage))?;
        books_after.post(Book::Overage, Book::Spent, overage)?;

        let mut left = cost.credits;
        let mut draws = Vec::new();
        for index in 0..self.grants.len() {
            let grant = &self.grants[index];
            let credits = left.min(grant.unspent());
            if credits.is_zero() || !cost.may_be_paid_by(grant, &payers) {
                continue;
            }
            draws.push(Draw { grant: grant.id, credits });
            self.draw(index, credits, cost, now)?;
            left = left.minus_floor_zero(credits);
        }
        if !overage.is_zero() {
            self.post(cost.spends(Book::Overage, overage), now)?;
        }
        Ok(Charge { draws, overage, balance_after: self.available(recorded_at), version: self.head.version })
    }

    /// What of an event's cost no grant would cover, without charging it.
    pub fn uncovered(&self, cost: &EventCost, now: Timestamp) -> Credits {
        self.left_by(cost, &self.payers(cost, self.recording_time(now)))
    }

    fn left_by(&self, cost: &EventCost, payers: &Payers) -> Credits {
        let paying = self.grants.iter().filter(|grant| cost.may_be_paid_by(grant, payers));
        cost.credits.minus_floor_zero(sum_of(paying.map(Grant::unspent)))
    }

    /// Takes `credits` from what the grant has unspent.
    fn draw(
        &mut self,
        index: usize,
        credits: Credits,
        cost: &EventCost,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let grant = &self.grants[index];
        let (id, expiry) = (Some(grant.id), grant.expiry_version);
        let taken_back = credits.minus_floor_zero(grant.remaining());
        if !taken_back.is_zero() {
            self.grants[index].expired = grant.expired.minus_floor_zero(taken_back);
            let back = Posting { credit: Book::Available, ..cost.spends(Book::Expired, taken_back) };
            self.post(Posting { grant: id, reverses: expiry, ..back }, now)?;
        }
        self.grants[index].spent = self.grants[index].spent.plus(credits)?;
        self.post(Posting { grant: id, ..cost.spends(Book::Available, credits) }, now)
    }

    fn payers(&self, cost: &EventCost, recorded_at: Timestamp) -> Payers {
        let ended = self.cycle_end_around(cost.charge_instant).filter(|end| *end <= recorded_at);
        match ended {
            Some(ended_at) if cost.reaches_back_to(ended_at) => Payers::OfClosedCycle { ended_at },
            Some(_) => match cost.late.past_grace {
                LateUsage::Current => Payers::AsOf { charge_instant: recorded_at, recorded_at },
                LateUsage::Absorb => Payers::Nobody,
            },
            None => Payers::AsOf { charge_instant: cost.charge_instant, recorded_at },
        }
    }

    /// The end of the cycle that `instant` lies in, by the plan's grants; where a new subscription began
    /// within a canceled one's cycle, the later end.
    fn cycle_end_around(&self, instant: Timestamp) -> Option<Timestamp> {
        let around = self.grants.iter().filter(|grant| grant.source.is_the_plans() && grant.is_live(instant));
        around.filter_map(|grant| grant.expires_at).max()
    }
}

impl EventCost {
    fn spends(&self, debit: Book, credits: Credits) -> Posting {
        let (cause, event_time) = (self.cause, self.event_time);
        Posting { debit, credit: Book::Spent, grant: None, credits, cause, event_time, reverses: None }
    }
}
