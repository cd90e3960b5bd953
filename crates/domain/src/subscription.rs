//! The life of a subscription: every (state, event) pair has a defined outcome (R-9).
//!
//! ```text
//!  incomplete --paid--> active <--renewal paid / renewal failed--> past_due
//!      |                  |  \__suspended / lifted__ suspended        |
//!      | expired          |  canceled at its end, or at once          | last cycle over
//!      v                  v                                           v
//!   expired            canceled <--------------------------------- canceled
//! ```

use crate::Refusal;
use crate::calendar::{Anchor, Cycle};
use crate::policy::CatchUp;
use crate::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Waiting for its first payment.
    Incomplete,
    Active,
    /// The current cycle's invoice is unpaid.
    PastDue,
    /// Stopped by an operator or a lost dispute.
    Suspended,
    Canceled,
    /// Never paid.
    Expired,
}

impl Status {
    pub const ALL: [Status; 6] = [
        Status::Incomplete,
        Status::Active,
        Status::PastDue,
        Status::Suspended,
        Status::Canceled,
        Status::Expired,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Status::Incomplete => "incomplete",
            Status::Active => "active",
            Status::PastDue => "past_due",
            Status::Suspended => "suspended",
            Status::Canceled => "canceled",
            Status::Expired => "expired",
        }
    }

    /// A customer has at most one live subscription (R-9).
    pub fn is_live(self) -> bool {
        match self {
            Status::Incomplete | Status::Active | Status::PastDue | Status::Suspended => true,
            Status::Canceled | Status::Expired => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The first cycle's payment succeeded.
    FirstPaid,
    /// The first purchase ran out of time, or was withdrawn.
    PurchaseEnded,
    RenewalPaid,
    RenewalFailed,
    /// The cycle ended with a cancel set, or with the renewal before it never paid.
    EndedForGood,
    CanceledAtOnce,
    Suspended,
    Lifted,
}

impl Event {
    pub const ALL: [Event; 8] = [
        Event::FirstPaid,
        Event::PurchaseEnded,
        Event::RenewalPaid,
        Event::RenewalFailed,
        Event::EndedForGood,
        Event::CanceledAtOnce,
        Event::Suspended,
        Event::Lifted,
    ];
}

/// The state after an event, or why the event cannot happen in it. No catch-all arm: a new state
/// or event does not compile until each of its pairs is decided.
pub fn after(status: Status, event: Event) -> Result<Status, Refusal> {
    match (status, event) {
        (Status::Incomplete, Event::FirstPaid) => Ok(Status::Active),
        (Status::Incomplete, Event::PurchaseEnded | Event::CanceledAtOnce) => Ok(Status::Expired),
        (
            Status::Incomplete,
            Event::RenewalPaid | Event::RenewalFailed | Event::EndedForGood | Event::Suspended | Event::Lifted,
        ) => Err(Refusal::SubscriptionIncomplete),

        (Status::Active, Event::FirstPaid | Event::RenewalPaid | Event::Lifted) => Ok(Status::Active),
        (Status::Active, Event::PurchaseEnded) => Ok(Status::Active),
        (Status::Active, Event::RenewalFailed) => Ok(Status::PastDue),
        (Status::Active, Event::EndedForGood | Event::CanceledAtOnce) => Ok(Status::Canceled),
        (Status::Active, Event::Suspended) => Ok(Status::Suspended),

        (Status::PastDue, Event::RenewalPaid) => Ok(Status::Active),
        (Status::PastDue, Event::FirstPaid | Event::PurchaseEnded | Event::RenewalFailed | Event::Lifted) => {
            Ok(Status::PastDue)
        }
        (Status::PastDue, Event::EndedForGood | Event::CanceledAtOnce) => Ok(Status::Canceled),
        (Status::PastDue, Event::Suspended) => Ok(Status::Suspended),

        (
            Status::Suspended,
            Event::FirstPaid | Event::PurchaseEnded | Event::RenewalPaid | Event::RenewalFailed | Event::Suspended,
        ) => Ok(Status::Suspended),
        (Status::Suspended, Event::EndedForGood | Event::CanceledAtOnce) => Ok(Status::Canceled),
        (Status::Suspended, Event::Lifted) => Ok(Status::Active),

        (
            Status::Canceled | Status::Expired,
            Event::FirstPaid
            | Event::PurchaseEnded
            | Event::RenewalPaid
            | Event::RenewalFailed
            | Event::EndedForGood
            | Event::CanceledAtOnce
            | Event::Suspended
            | Event::Lifted,
        ) => Err(Refusal::SubscriptionEnded),
    }
}

/// Whether the plan can be changed or a cancel be set now; each "no" has its own code (R-16).
pub fn check_changeable(status: Status, cycle_end: Option<Timestamp>, now: Timestamp) -> Result<(), Refusal> {
    match status {
        Status::Incomplete => Err(Refusal::SubscriptionIncomplete),
        Status::PastDue => Err(Refusal::SubscriptionPastDue),
        Status::Suspended => Err(Refusal::SubscriptionSuspended),
        Status::Canceled | Status::Expired => Err(Refusal::SubscriptionEnded),
        Status::Active if cycle_end.is_some_and(|end| end <= now) => Err(Refusal::CycleEnded),
        Status::Active => Ok(()),
    }
}

/// What follows when a cycle is over (R-21 to R-23).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextCycle {
    /// The subscription ends with the cycle.
    Ends,
    /// Cycles that were over before they could be opened, then the one to invoice.
    Opens { skipped: Vec<Cycle>, cycle: Cycle },
}

/// Decides what follows the cycle `closing`, which ended at or before `now`. Under
/// [`CatchUp::Bill`] the very next cycle opens, over or not.
pub fn next_cycle(
    anchor: Anchor,
    closing: u32,
    ends_for_good: bool,
    catch_up: CatchUp,
    now: Timestamp,
) -> Result<NextCycle, Refusal> {
    if ends_for_good {
        return Ok(NextCycle::Ends);
    }
    let mut skipped = Vec::new();
    let mut number = closing;
    loop {
        number = number.checked_add(1).ok_or(Refusal::AmountOverflow)?;
        let cycle = anchor.cycle(number)?;
        if cycle.end > now || catch_up == CatchUp::Bill {
            return Ok(NextCycle::Opens { skipped, cycle });
        }
        skipped.push(cycle);
    }
}
