//! What the payment provider tells, and what becomes of it.
//!
//! This is a crate of its own because it stands above two others that must not know of each other:
//! `provider_accounts` knows what a signature is checked with and what the provider calls our customers,
//! `subscriptions` knows what a payment, a refund and a dispute do.
//!
//! # The walk of a webhook
//! 1. [`ProviderEvents::receive`] checks the signature over the raw body, whose event it is (mode and
//!    account), and whether it is anything that Tollgate acts on. One transaction stores the event if it is
//!    new and enqueues the job that applies it; after the commit it is answered. What cannot be stored is
//!    not answered for: the provider sends it again.
//! 2. [`jobs::APPLY`] finds the payment that the event is about, and hands what it says to the same
//!    functions that take in the provider's answers. These are monotone, so an event may come twice, late,
//!    or before what it follows from.
//! 3. [`jobs::REREAD`], once a minute and tenant, lists what the provider has told lately and takes in what
//!    never came, by the same two steps.
//!
//! # What is parked
//! An event that is signed and does not say what it has to, or is about money of ours in a way that does not
//! add up (an unknown payment, another invoice, another amount or currency), is stored, answered with 200,
//! since sending it again would not help, and *parked*: it has no effect, an event of ours raises the alarm
//! (`provider_event.parked`), and an operator finds it in the list. Another amount parks the customer's
//! account, too.
//!
//! What is settled otherwise is deleted after ninety days.
//!
//! An event of the other mode or of another account is *rejected*: kept for whoever wonders, and nothing
//! else.
//!
//! Round trips: receiving costs one read and one transaction of two statements; applying is the reads that
//! find the payment, and what the payment costs.

mod apply;
pub mod jobs;
mod list;
mod prune;
mod receive;
mod reread;
mod store;

use db::Db;
use invoices::Payment;
use provider_accounts::ProviderAccounts;
use subscriptions::Subscriptions;
use tenants::Tenants;

pub use list::ReceivedEvent;
pub use receive::Receipt;

/// The events of all tenants; cheap to clone.
#[derive(Clone)]
pub struct ProviderEvents {
    pub db: Db,
    pub tenants: Tenants,
    pub accounts: ProviderAccounts,
    pub subscriptions: Subscriptions,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Stored, and not looked at yet.
    Received,
    Applied,
    /// Nothing that Tollgate acts on.
    Ignored,
    /// Of the other mode or another account.
    Rejected,
    /// It does not add up: somebody has to look.
    Parked,
}

impl State {
    pub const ALL: [State; 5] =
        [State::Received, State::Applied, State::Ignored, State::Rejected, State::Parked];

    pub fn name(self) -> &'static str {
        match self {
            State::Received => "received",
            State::Applied => "applied",
            State::Ignored => "ignored",
            State::Rejected => "rejected",
            State::Parked => "parked",
        }
    }
}

/// By which way an event came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CameBy {
    Webhook,
    /// It never came, and was found in the provider's list.
    Reread,
}

impl CameBy {
    pub const ALL: [CameBy; 2] = [CameBy::Webhook, CameBy::Reread];

    pub fn name(self) -> &'static str {
        match self {
            CameBy::Webhook => "webhook",
            CameBy::Reread => "reread",
        }
    }
}

/// How an event was settled: its state, why, and the payment that it was about.
#[derive(Debug, Clone)]
pub(crate) struct Settled {
    pub(crate) state: State,
    pub(crate) reason: Option<String>,
    pub(crate) payment: Option<Payment>,
}

impl Settled {
    pub(crate) fn applied(payment: Option<Payment>) -> Settled {
        Settled { state: State::Applied, reason: None, payment }
    }

    pub(crate) fn ignored() -> Settled {
        Settled { state: State::Ignored, reason: Some("not-acted-on".to_owned()), payment: None }
    }

    pub(crate) fn parked(reason: impl Into<String>, payment: Option<Payment>) -> Settled {
        Settled { state: State::Parked, reason: Some(reason.into()), payment }
    }
}
