//! Moves subscriptions to the newest catalogue version, at their next renewal: one, or all of a plan.
//!
//! Nothing changes before it: what was bought is kept until it is paid for anew. Which version is the newest is looked
//! up when the renewed cycle begins. Where that does not sell the plan in the subscription's currency and for its
//! term, it stays where it is, and an event says so.

use db::Result;
use domain::id::SubscriptionId;
use domain::subscription::check_changeable;
use domain::{Refusal, TenantScope};
use idempotency::RequestKey;
use serde_json::json;

use crate::view::{SubscriptionView, one};
use crate::{Subscriptions, event, is_repeat, store};

/// What the migration of a plan has scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigratedPlan {
    /// The version in force now.
    pub to_version: u32,
    /// The plan's running subscriptions that move at their next renewal.
    pub scheduled: usize,
}

impl Subscriptions {
    /// Has one subscription move at its next renewal. Done twice it is done once. Refused: `not-found`, what
    /// [`check_changeable`] refuses of a subscription that is not past due.
    pub async fn schedule_migration(
        &self,
        scope: &TenantScope,
        subscription: SubscriptionId,
        request: &RequestKey,
    ) -> Result<SubscriptionView> {
        self.set_migration(scope, subscription, true, request).await
    }

    /// It stays on its version. Refused: as for the schedule, and `nothing-scheduled`.
    pub async fn withdraw_migration(
        &self,
        scope: &TenantScope,
        subscription: SubscriptionId,
        request: &RequestKey,
    ) -> Result<SubscriptionView> {
        self.set_migration(scope, subscription, false, request).await
    }

    async fn set_migration(
        &self,
        scope: &TenantScope,
        subscription: SubscriptionId,
        migrates: bool,
        request: &RequestKey,
    ) -> Result<SubscriptionView> {
        let tenant = scope.tenant;
        self.db
            .transaction(tenant, async |tx| {
                let is_repeat = is_repeat(tx, scope, request).await?;
                let mut subscription = store::subscriptions::lock(tx, tenant, subscription).await?;
                if is_repeat {
                    return one(tx, scope, subscription).await;
                }
                match check_changeable(subscription.status, None, scope.now) {
                    // It renews still, if it is paid, or lifted.
                    Ok(()) | Err(Refusal::SubscriptionPastDue | Refusal::SubscriptionSuspended) => {}
                    Err(no) => return Err(no.into()),
                }
                if subscription.migrates == migrates {
                    return if migrates {
                        one(tx, scope, subscription).await
                    } else {
                        Err(Refusal::NothingScheduled.into())
                    };
                }
                subscription.migrates = migrates;
                store::subscriptions::update(tx, tenant, &subscription).await?;
                let (kind, details) = if migrates {
                    (event::MIGRATION_SCHEDULED, json!({"effective_at": subscription.renews_at()?}))
                } else {
                    let version = subscription.catalog_version;
                    (event::MIGRATION_WITHDRAWN, json!({"version": version, "reason": "withdrawn"}))
                };
                event::emit(tx, scope, kind, &subscription, details).await?;
                one(tx, scope, subscription).await
            })
            .await
    }

    /// Has every running subscription of a plan that was bought from another version than the one in force move at
    /// its next renewal. Refused: `unknown-plan` where that version does not sell it.
    pub async fn migrate_plan(
        &self,
        scope: &TenantScope,
        plan_code: &str,
        request: &RequestKey,
    ) -> Result<MigratedPlan> {
        let tenant = scope.tenant;
        let history = self.catalogs.history(tenant).await?;
        let catalog = history.at(scope.now).ok_or(Refusal::UnknownPlan)?;
        catalog.plan(plan_code)?;
        let to_version = catalog.version();
        self.db
            .transaction(tenant, async |tx| {
                if !is_repeat(tx, scope, request).await? {
                    let new = store::subscriptions::migrate_plan(tx, tenant, plan_code, to_version).await?;
                    for subscription in &new {
                        let details = json!({"effective_at": subscription.renews_at()?});
                        event::emit(tx, scope, event::MIGRATION_SCHEDULED, subscription, details).await?;
                    }
                }
                let scheduled = store::subscriptions::count_migrating(tx, tenant, plan_code).await?;
                Ok(MigratedPlan { to_version, scheduled })
            })
            .await
    }
}
