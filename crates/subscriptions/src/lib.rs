//! Subscriptions: bought, paid, upgraded, canceled, and rolled over month by month.
//!
//! # The walk of a purchase
//! A first cycle, an upgrade and a renewal are one thing, a *purchase*: something that takes effect
//! once, when its invoice is paid.
//!
//! 1. One transaction claims the request's key, locks (customer or subscription), decides in
//!    `domain`, and stores the pending purchase, its invoice, a payment, an event, and a job that
//!    collects the payment should this process die before it does.
//! 2. The provider is asked outside of any transaction, under the payment's id: asked again, by
//!    whomever, it takes no money twice.
//! 3. [`Subscriptions::apply_payment`] takes in what it says: one function for answers, jobs and
//!    webhooks. A success lets the purchase take effect (`effect`) under the locks of subscription,
//!    invoice, payment and credit account; where it came too late the money goes back (R-10a, R-14b).
//! 4. The answer is read from what is stored. So the repeat of a request that died anywhere goes
//!    on from its purchase and ends with the same answer.
//!
//! # The walk of a month
//! A tick only enqueues [`jobs::FIND_DUE`]; that enqueues [`jobs::RUN_DUE`] for each tenant with
//! anything due by its own clock; that gives up what was never paid, tries unpaid renewals again
//! (`dunning`), and calls [`Subscriptions::roll_over`] until nothing is due. Any number of processes may do so at once.
//!
//! What may become of a subscription, a purchase, an invoice, a payment and an unpaid renewal is drawn in `STATES.md`,
//! which a test compares with the code.
//!
//! # Round trips to PostgreSQL, the ends of transactions left out
//! | verb | statements |
//! |---|---|
//! | [`Subscriptions::subscribe`], paid at once | 47 in 4 transactions |
//! | [`Subscriptions::upgrade`], paid at once | 39 in 4 transactions |
//! | [`Subscriptions::roll_over`] | 9 a batch, 15 a subscription that goes on; then 20 to collect its renewal |
//! | [`Subscriptions::read`] | 3 |
//!
//! Money moves a few times a month and customer: here plain statements beat clever ones.
//!
//! # What never happens
//! The provider is never called inside a transaction. Nothing is decided by a clock that is read
//! here: `now` is the scope's, and only a job's `run_at` is real time. No cycle bound is computed
//! from another one.

mod advance_clock;
mod apply_payment;
mod apply_sale_payment;
mod auto_top_up;
mod buyer;
mod cancel;
mod collect;
mod dispute;
mod downgrade;
mod dunning;
mod effect;
mod event;
mod exhaustion;
pub mod jobs;
mod migrate_plan;
mod next_cycle;
mod paid_for;
mod pay_invoice;
mod payment_method;
mod plan_rollover;
mod preview_upgrade;
mod promotion;
mod provider_report;
mod purchase;
mod read_cycle;
mod refund;
mod roll_over;
mod rollover_run;
mod run_due;
mod sale;
#[cfg(test)]
mod states;
mod status_change;
mod store;
mod subscribe;
mod subscription;
mod suspend;
mod top_up;
mod upgrade;
mod usage_invoice;
mod view;

use std::sync::Arc;

use catalog::Catalogs;
use db::{Connection, Db, Result};
use domain::TenantScope;
use idempotency::{Claim, RequestKey};
use ledger::Ledger;
use payments::PaymentProvider;
use tenants::Tenants;
use uuid::Uuid;

pub use advance_clock::ADVANCE_DAYS_MAX;
pub use cancel::CancelAt;
pub use dunning::Dunning;
pub use exhaustion::{AutoTopUp, ExhaustionView, NewExhaustion};
pub use migrate_plan::MigratedPlan;
pub use next_cycle::{Charge, EndReason, Migration, Next, Opening};
pub use plan_rollover::PlannedRollover;
pub use preview_upgrade::Quote;
pub use promotion::PromotionChoice;
pub use read_cycle::CycleView;
pub use refund::ListedRefund;
pub use roll_over::{BATCH, Progress};
pub use rollover_run::{Rollover, RolloverState};
pub use subscribe::NewSubscription;
pub use subscription::PurchaseStatus;
pub use top_up::{BoughtTopUp, NewTopUp, TopUpView};
pub use upgrade::NewUpgrade;
pub use view::{PaidInvoice, PendingUpgrade, Purchased, Settlement, SubscriptionView};

/// The service.
#[derive(Clone)]
pub struct Subscriptions {
    pub db: Db,
    pub catalogs: Catalogs,
    pub ledger: Ledger,
    pub tenants: Tenants,
    pub provider: Arc<dyn PaymentProvider>,
}

/// Claims the key of a change that is one transaction. True where an earlier try of the same
/// request has committed it: then there is nothing left to do but answer.
async fn is_repeat(tx: &mut Connection, scope: &TenantScope, request: &RequestKey) -> Result<bool> {
    let claim = idempotency::claim(tx, scope.tenant, request, Uuid::now_v7(), scope.now).await?;
    Ok(matches!(claim, Claim::Unfinished { .. }))
}
