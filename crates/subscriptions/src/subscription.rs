//! A subscription and what was bought for it, as they are stored.

use domain::calendar::{Anchor, AnchorKind, Cycle};
use domain::id::{CustomerId, GrantId, InvoiceId, PurchaseId, SubscriptionId};
use domain::money::DiscountBps;
use domain::month_share::MonthShare;
use domain::subscription::Status;
use domain::term::Term;
use domain::{Credits, Currency, Refusal, Timestamp};

/// A customer's plan, from the first unpaid invoice to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub id: SubscriptionId,
    pub customer: CustomerId,
    pub status: Status,
    pub plan_code: String,
    /// The catalogue version that the plan was bought from.
    pub catalog_version: u32,
    /// Fixed for life.
    pub currency: Currency,
    /// The provider's name for what pays the renewals.
    pub payment_method: String,
    /// What is paid at once (R-22b).
    pub term: Term,
    /// Of an annual one that was paid, the cycle that its running year was paid with.
    pub annual_from: Option<u32>,
    /// Where its cycles are cut.
    pub anchor_kind: AnchorKind,
    /// Off this cycle's price.
    pub discount: DiscountBps,
    /// The part of a month that this cycle covers.
    pub share: MonthShare,
    /// `None` until the first payment.
    pub running: Option<Running>,
    pub cancel_at_cycle_end: bool,
    /// A lower plan from the next cycle on.
    pub scheduled_plan_code: Option<String>,
    /// It moves to the newest catalogue version at its next renewal.
    pub migrates: bool,
    /// Suspended because a dispute was lost, and by nobody else (R-22a).
    pub is_suspended_by_dispute: bool,
    pub created_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

/// The cycle that a subscription is in, or was in last, and what all its cycles are cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    pub anchor: Anchor,
    pub cycle: Cycle,
}

impl Subscription {
    pub fn cycle(&self) -> Option<Cycle> {
        self.running.map(|running| running.cycle)
    }

    /// The cycle that the running term was paid with, or is to be.
    pub fn paid_with(&self) -> Option<u32> {
        self.cycle().map(|cycle| self.annual_from.unwrap_or(cycle.number))
    }

    /// Whether the term ends with the current cycle: then it is renewed, or a cancel takes effect.
    pub fn is_last_of_term(&self) -> bool {
        match (self.cycle(), self.paid_with()) {
            (Some(cycle), Some(paid_with)) => self.term.is_last(paid_with, cycle.number),
            _ => true,
        }
    }

    /// When the running term ends, and what is scheduled happens: a monthly one with its cycle.
    pub fn renews_at(&self) -> Result<Option<Timestamp>, Refusal> {
        match (self.running, self.paid_with()) {
            (Some(running), Some(paid_with)) => self.term.ends_at(running.anchor, paid_with).map(Some),
            _ => Ok(None),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurchaseKind {
    FirstCycle,
    Upgrade,
    Renewal,
}

impl PurchaseKind {
    pub const ALL: [PurchaseKind; 3] =
        [PurchaseKind::FirstCycle, PurchaseKind::Upgrade, PurchaseKind::Renewal];

    pub fn name(self) -> &'static str {
        match self {
            PurchaseKind::FirstCycle => "first_cycle",
            PurchaseKind::Upgrade => "upgrade",
            PurchaseKind::Renewal => "renewal",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurchaseStatus {
    /// Its invoice is open.
    Pending,
    /// Its invoice was paid, and it took effect.
    Applied,
    /// It will never take effect: money that still comes for it goes back (R-10a).
    Ended,
}

impl PurchaseStatus {
    pub const ALL: [PurchaseStatus; 3] =
        [PurchaseStatus::Pending, PurchaseStatus::Applied, PurchaseStatus::Ended];

    pub fn name(self) -> &'static str {
        match self {
            PurchaseStatus::Pending => "pending",
            PurchaseStatus::Applied => "applied",
            PurchaseStatus::Ended => "ended",
        }
    }
}

/// What happens to a purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurchaseEvent {
    /// Its invoice was paid in time.
    TookEffect,
    /// Its time is over, it was withdrawn, or its payment came too late to buy anything.
    GivenUp,
}

impl PurchaseStatus {
    /// The status after an event: decided once (R-10a).
    pub fn after(self, event: PurchaseEvent) -> PurchaseStatus {
        match (self, event) {
            (PurchaseStatus::Pending, PurchaseEvent::TookEffect) => PurchaseStatus::Applied,
            (PurchaseStatus::Pending, PurchaseEvent::GivenUp) => PurchaseStatus::Ended,
            (
                PurchaseStatus::Applied | PurchaseStatus::Ended,
                PurchaseEvent::TookEffect | PurchaseEvent::GivenUp,
            ) => self,
        }
    }
}

/// Something bought for a subscription. It takes effect once, when its invoice is paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purchase {
    pub id: PurchaseId,
    pub kind: PurchaseKind,
    /// The subscription's.
    pub customer: CustomerId,
    pub subscription: SubscriptionId,
    /// The cycle that it was bought for.
    pub cycle_number: u32,
    pub plan_code: String,
    pub catalog_version: u32,
    /// What it grants.
    pub credits: Credits,
    pub invoice: InvoiceId,
    pub status: PurchaseStatus,
    /// When its Credits were granted; for a renewal that may come before the payment.
    pub granted_at: Option<Timestamp>,
    /// When a pending one is given up, if the provider agrees (R-10a).
    pub expires_at: Timestamp,
    pub created_at: Timestamp,
}

impl Purchase {
    pub fn is_pending(&self) -> bool {
        self.status == PurchaseStatus::Pending
    }

    /// The one grant that it makes; the id says so again, next to the ledger's unique constraint.
    pub fn grant(&self) -> GrantId {
        GrantId::from_uuid(self.id.uuid())
    }
}
