//! Decides what follows a cycle that is over: the decision alone, shared by the
//! rollover and its dry run.

use db::Result;
use domain::calendar::Cycle;
use domain::catalog::{Catalog, CatalogHistory, Plan};
use domain::subscription::{NextCycle, next_cycle};
use domain::{Money, Refusal, TenantScope};

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

/// The next cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Cycles that were over before they could be opened.
    pub skipped: Vec<Cycle>,
    pub cycle: Cycle,
    pub plan: Plan,
    pub catalog_version: u32,
    pub charge: Charge,
    /// A scheduled plan that is no longer sold, or not in this currency and for this term: the old one stays.
    pub dropped_schedule: Option<String>,
    /// What a migration to the newest version comes to.
    pub migration: Option<Migration>,
}

/// What a cycle costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charge {
    /// The list price of a term, which begins with it.
    Renewal(Money),
    /// Nothing more: it was paid for with its year (R-22b).
    Paid,
}

/// What a subscription that is to move to the newest catalogue version does at its renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migration {
    /// It renews by the version in force when the cycle begins; from this one.
    From(u32),
    /// That does not sell its plan, or not in its currency and for its term: it stays where it is.
    NotSold,
}

impl Opening {
    pub fn running(&self, running: Running) -> Running {
        Running { anchor: running.anchor, cycle: self.cycle }
    }
}

/// Decides for a subscription whose cycle is over at `scope.now`. `is_paid` is whether that cycle
/// was paid for, by itself or with its year.
pub fn decide(
    scope: &TenantScope,
    history: &CatalogHistory,
    subscription: &Subscription,
    is_paid: bool,
) -> Result<Next> {
    let running = subscription.running.ok_or(Refusal::SubscriptionIncomplete)?;
    let reason = if subscription.cancel_at_cycle_end && subscription.is_last_of_term() {
        Some(EndReason::Canceled)
    } else {
        // What no try has paid by the cycle's end ends with it.
        (!is_paid).then_some(EndReason::Unpaid)
    };
    let policy = scope.policies.catch_up;
    let next = next_cycle(running.anchor, running.cycle.number, reason.is_some(), policy, scope.now)?;
    match (next, reason) {
        (NextCycle::Opens { skipped, cycle }, None) => {
            let is_renewal = is_renewal(subscription, cycle);
            if is_renewal && subscription.cancel_at_cycle_end {
                // The year that it was canceled with ended among the cycles that were missed.
                return Ok(Next::Ends { reason: EndReason::Canceled });
            }
            let opening = if is_renewal {
                renewal(history, subscription, skipped, cycle)?
            } else {
                within_year(history, subscription, skipped, cycle)?
            };
            Ok(Next::Opens(Box::new(opening)))
        }
        (NextCycle::Ends | NextCycle::Opens { .. }, Some(reason)) => Ok(Next::Ends { reason }),
        (NextCycle::Ends, None) => Err(db::Error::broken("a cycle was followed by nothing without a reason")),
    }
}

/// Whether the term that is paid for is over before this cycle.
fn is_renewal(subscription: &Subscription, next: Cycle) -> bool {
    subscription
        .paid_with()
        .is_none_or(|paid_with| subscription.term.cycles_left(paid_with, next.number) == 0)
}

/// The plan stays until the year is over, and so does what is scheduled.
fn within_year(
    history: &CatalogHistory,
    subscription: &Subscription,
    skipped: Vec<Cycle>,
    cycle: Cycle,
) -> Result<Opening> {
    Ok(Opening {
        skipped,
        cycle,
        plan: current_plan(history, subscription)?.clone(),
        catalog_version: subscription.catalog_version,
        charge: Charge::Paid,
        dropped_schedule: None,
        migration: None,
    })
}

fn renewal(
    history: &CatalogHistory,
    subscription: &Subscription,
    skipped: Vec<Cycle>,
    cycle: Cycle,
) -> Result<Opening> {
    let catalog = history.at(cycle.start);
    let scheduled = subscription.scheduled_plan_code.as_deref();
    let sold = scheduled.and_then(|code| sold(catalog?, code, subscription));
    let dropped_schedule = if sold.is_none() { scheduled.map(str::to_owned) } else { None };
    // A scheduled plan is bought from the newest version anyway.
    let (sold, migration) = match sold {
        Some(sold) => (Some(sold), None),
        None => newest(catalog.map(AsRef::as_ref), subscription),
    };
    let (plan, catalog_version, price) = match sold {
        Some(sold) => sold,
        None => {
            // A plan that stays keeps the version it was bought from.
            let plan = current_plan(history, subscription)?;
            (plan, subscription.catalog_version, subscription.term.price(plan, subscription.currency)?)
        }
    };
    Ok(Opening {
        skipped,
        cycle,
        plan: plan.clone(),
        catalog_version,
        charge: Charge::Renewal(price),
        dropped_schedule,
        migration,
    })
}

/// A plan, the version that sells it, and what a term of it costs there.
type Sold<'a> = (&'a Plan, u32, Money);

/// The same plan in the newest version, where it is to move to that.
fn newest<'a>(
    catalog: Option<&'a Catalog>,
    subscription: &Subscription,
) -> (Option<Sold<'a>>, Option<Migration>) {
    let newer =
        catalog.filter(|catalog| subscription.migrates && catalog.version() != subscription.catalog_version);
    let Some(catalog) = newer else { return (None, None) };
    match sold(catalog, &subscription.plan_code, subscription) {
        Some(sold) => (Some(sold), Some(Migration::From(subscription.catalog_version))),
        None => (None, Some(Migration::NotSold)),
    }
}

/// A plan as this version sells it, in the subscription's currency and for its term.
fn sold<'a>(catalog: &'a Catalog, code: &str, subscription: &Subscription) -> Option<Sold<'a>> {
    let plan = catalog.plan(code).ok()?;
    let price = subscription.term.price(plan, subscription.currency).ok()?;
    Some((plan, catalog.version(), price))
}
