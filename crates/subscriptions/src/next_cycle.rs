//! Decides what follows a cycle that is over: the decision alone, shared by the
//! rollover and its dry run.

use db::Result;
use domain::calendar::Cycle;
use domain::catalog::{CatalogHistory, Plan};
use domain::subscription::{NextCycle, next_cycle};
use domain::{Money, Refusal, TenantScope, Timestamp};

use crate::preview_upgrade::current_plan;
use crate::subscription::{Running, Subscription};

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The subscription ends with its cycle.
    Ends {
        reason: EndReason,
    },
    Opens(Box<Opening>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// A cancel was set.
    Canceled,
    /// The cycle that is over was never paid.
    Unpaid,
}

impl EndReason {
    pub fn name(self) -> &'static str {
        match self {
            EndReason::Canceled => "canceled",
            EndReason::Unpaid => "unpaid",
        }
    }
}

/// The next cycle to invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Cycles that were over before they could be opened.
    pub skipped: Vec<Cycle>,
    pub cycle: Cycle,
    pub plan: Plan,
    pub catalog_version: u32,
    /// The plan's list price.
    pub price: Money,
    /// A scheduled plan that is no longer sold, or not in this currency: the old one stays.
    pub dropped_schedule: Option<String>,
}

impl Opening {
    pub fn running(&self, running: Running) -> Running {
        Running { anchor: running.anchor, cycle: self.cycle }
    }
}

/// Decides for a subscription whose cycle is over at `scope.now`. `is_paid` is whether that cycle
/// was paid for.
pub fn decide(
    scope: &TenantScope,
    history: &CatalogHistory,
    subscription: &Subscription,
    is_paid: bool,
) -> Result<Next> {
    let running = subscription.running.ok_or(Refusal::SubscriptionIncomplete)?;
    let reason = if subscription.cancel_at_cycle_end {
        Some(EndReason::Canceled)
    } else {
        // What no try has paid by the cycle's end ends with it.
        (!is_paid).then_some(EndReason::Unpaid)
    };
    let policy = scope.policies.catch_up;
    let next = next_cycle(running.anchor, running.cycle.number, reason.is_some(), policy, scope.now)?;
    match (next, reason) {
        (NextCycle::Opens { skipped, cycle }, None) => {
            opening(history, subscription, skipped, cycle).map(|opening| Next::Opens(Box::new(opening)))
        }
        (NextCycle::Ends | NextCycle::Opens { .. }, Some(reason)) => Ok(Next::Ends { reason }),
        (NextCycle::Ends, None) => Err(db::Error::broken("a cycle was followed by nothing without a reason")),
    }
}

fn opening(
    history: &CatalogHistory,
    subscription: &Subscription,
    skipped: Vec<Cycle>,
    cycle: Cycle,
) -> Result<Opening> {
    let scheduled = subscription.scheduled_plan_code.as_deref();
    let sold = scheduled.and_then(|code| sold_at(history, code, subscription, cycle.start));
    let dropped_schedule = if sold.is_none() { scheduled.map(str::to_owned) } else { None };
    let (plan, catalog_version, price) = match sold {
        Some(sold) => sold,
        None => {
            // A plan that stays keeps the version it was bought from.
            let plan = current_plan(history, subscription)?;
            (plan, subscription.catalog_version, plan.price(subscription.currency)?)
        }
    };
    Ok(Opening { skipped, cycle, plan: plan.clone(), catalog_version, price, dropped_schedule })
}

/// The scheduled plan in the catalogue in force when the cycle begins, if it is sold then.
fn sold_at<'a>(
    history: &'a CatalogHistory,
    code: &str,
    subscription: &Subscription,
    at: Timestamp,
) -> Option<(&'a Plan, u32, Money)> {
    let catalog = history.at(at)?;
    let plan = catalog.plan(code).ok()?;
    let price = plan.price(subscription.currency).ok()?;
    Some((plan, catalog.version(), price))
}
