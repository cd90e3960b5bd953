//! Prices an upgrade, and locks the price for a while (R-13 to R-14a).

use chrono::TimeDelta;
use db::{Connection, Result};
use domain::calendar::Cycle;
use domain::catalog::{CatalogHistory, Plan};
use domain::id::{QuoteId, SubscriptionId};
use domain::subscription::check_changeable;
use domain::term::{Term, YearLeft};
use domain::upgrade::{UpgradePrice, UpgradedCycle, price};
use domain::{Credits, Money, Refusal, TenantScope, Timestamp};
use uuid::Uuid;

use crate::subscription::{Purchase, PurchaseKind, Subscription};
use crate::{Subscriptions, store};

/// A locked upgrade price. Good for one subscription, for as long as nothing that it was computed
/// from has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    pub id: QuoteId,
    pub subscription: SubscriptionId,
    pub cycle_number: u32,
    pub from_plan_code: String,
    pub to_plan_code: String,
    /// The version that the new plan is sold by.
    pub catalog_version: u32,
    pub amount: Money,
    /// What the upgrade would add to this cycle's pool.
    pub credits: Credits,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

/// An upgrade that may be bought now.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    pub cycle: Cycle,
    pub from: Plan,
    pub to: Plan,
    pub catalog_version: u32,
    pub price: UpgradePrice,
}

impl Subscriptions {
    /// What an upgrade would cost and grant now, as a quote. Refused as [`Subscriptions::upgrade`]
    /// would be.
    pub async fn preview_upgrade(
        &self,
        scope: &TenantScope,
        subscription: SubscriptionId,
        plan_code: &str,
    ) -> Result<Quote> {
        let (tenant, now) = (scope.tenant, scope.now);
        let history = self.catalogs.history(tenant).await?;
        let life = TimeDelta::minutes(scope.policies.quote_minutes.into());
        self.db
            .transaction(tenant, async |tx| {
                let subscription = store::subscriptions::find(tx, tenant, subscription).await?;
                let offer = offer(tx, scope, &history, &subscription, plan_code, now).await?;
                let quote = Quote {
                    id: QuoteId::from_uuid(Uuid::now_v7()),
                    subscription: subscription.id,
                    cycle_number: offer.cycle.number,
                    from_plan_code: offer.from.code,
                    to_plan_code: offer.to.code,
                    catalog_version: offer.catalog_version,
                    amount: offer.price.amount,
                    credits: offer.price.credits,
                    created_at: now,
                    expires_at: offer.cycle.end.min(now + life),
                };
                store::quotes::insert(tx, tenant, &quote).await?;
                Ok(quote)
            })
            .await
    }
}

/// Checks that the plan can be changed and prices the change as of `priced_at`: now, or the
/// instant of a quote.
pub(crate) async fn offer(
    tx: &mut Connection,
    scope: &TenantScope,
    history: &CatalogHistory,
    subscription: &Subscription,
    plan_code: &str,
    priced_at: Timestamp,
) -> Result<Offer> {
    let pending = store::purchases::pending(tx, scope.tenant, &[subscription.id]).await?;
    let cycle = check_upgradable(scope, subscription, &pending)?;
    let catalog = history.at(scope.now).ok_or(Refusal::UnknownPlan)?;
    let from = current_plan(history, subscription)?;
    let to = catalog.plan(plan_code)?;
    let paid_with = subscription.paid_with().filter(|_| subscription.term == Term::Annual);
    let upgraded = UpgradedCycle {
        cycle,
        discount: subscription.discount,
        share: subscription.share,
        year: paid_with.map(|paid_with| YearLeft::of(paid_with, cycle)),
        renews_at: subscription.renews_at()?.unwrap_or(cycle.end),
        currency: subscription.currency,
    };
    let policies = &scope.policies;
    let price = price(from, to, upgraded, policies.upgrade_discount, policies.upgrade_pricing, priced_at)?;
    Ok(Offer { cycle, from: from.clone(), to: to.clone(), catalog_version: catalog.version(), price })
}

/// The cycle that can be upgraded now, or why none can.
fn check_upgradable(
    scope: &TenantScope,
    subscription: &Subscription,
    pending: &[Purchase],
) -> std::result::Result<Cycle, Refusal> {
    let cycle = subscription.cycle();
    check_changeable(subscription.status, cycle.map(|cycle| cycle.end), scope.now)?;
    let waits = |kind| pending.iter().any(|purchase| purchase.kind == kind);
    if waits(PurchaseKind::Renewal) {
        // Active still, with a renewal that the provider has not decided: unpaid all the same.
        return Err(Refusal::SubscriptionPastDue);
    }
    if waits(PurchaseKind::Upgrade) {
        return Err(Refusal::UpgradePending);
    }
    cycle.ok_or(Refusal::SubscriptionIncomplete)
}

/// The plan that a subscription is on, in the version it was bought from.
pub(crate) fn current_plan<'a>(history: &'a CatalogHistory, subscription: &Subscription) -> Result<&'a Plan> {
    history
        .version(subscription.catalog_version)
        .and_then(|catalog| catalog.plan(&subscription.plan_code).ok())
        .ok_or_else(|| {
            db::Error::broken(format!(
                "{} is on {} of catalogue version {}, which is not there",
                subscription.id, subscription.plan_code, subscription.catalog_version
            ))
        })
}
