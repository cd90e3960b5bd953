//! Schedules a lower plan for the next renewal, or takes that back.

use db::Result;
use domain::id::SubscriptionId;
use domain::subscription::check_changeable;
use domain::{Refusal, TenantScope};
use idempotency::RequestKey;
use serde_json::json;

use crate::preview_upgrade::current_plan;
use crate::view::{SubscriptionView, one};
use crate::{Subscriptions, event, is_repeat, store};

impl Subscriptions {
    /// From the next renewal on, this lower plan: with the next cycle, or after the year that was paid (R-22b). Replaces what was scheduled before; nothing changes
    /// until the cycle's end. Refused: `not-found`, what [`check_changeable`] refuses,
    /// `unknown-plan`, `no-price-in-currency`, `not-a-downgrade`.
    pub async fn schedule_downgrade(
        &self,
        scope: &TenantScope,
        subscription: SubscriptionId,
        plan_code: &str,
        request: &RequestKey,
    ) -> Result<SubscriptionView> {
        let tenant = scope.tenant;
        let history = self.catalogs.history(tenant).await?;
        self.db
            .transaction(tenant, async |tx| {
                let is_repeat = is_repeat(tx, scope, request).await?;
                let mut subscription = store::subscriptions::lock(tx, tenant, subscription).await?;
                if is_repeat || subscription.scheduled_plan_code.as_deref() == Some(plan_code) {
                    return one(tx, scope, subscription).await;
                }
                let end = subscription.cycle().map(|cycle| cycle.end);
                check_changeable(subscription.status, end, scope.now)?;
                let plan = history.at(scope.now).ok_or(Refusal::UnknownPlan)?.plan(plan_code)?;
                subscription.term.price(plan, subscription.currency)?;
                if plan.rank >= current_plan(&history, &subscription)?.rank {
                    return Err(Refusal::NotADowngrade.into());
                }
                subscription.scheduled_plan_code = Some(plan.code.clone());
                store::subscriptions::update(tx, tenant, &subscription).await?;
                let details = json!({"scheduled_plan": plan.code, "effective_at": subscription.renews_at()?});
                event::emit(tx, scope, event::DOWNGRADE_SCHEDULED, &subscription, details).await?;
                one(tx, scope, subscription).await
            })
            .await
    }

    /// The plan stays. Refused: `not-found`, what [`check_changeable`] refuses, `nothing-scheduled`.
    pub async fn withdraw_downgrade(
        &self,
        scope: &TenantScope,
        subscription: SubscriptionId,
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
                let end = subscription.cycle().map(|cycle| cycle.end);
                check_changeable(subscription.status, end, scope.now)?;
                let withdrawn = subscription.scheduled_plan_code.take().ok_or(Refusal::NothingScheduled)?;
                store::subscriptions::update(tx, tenant, &subscription).await?;
                let details = json!({"scheduled_plan": withdrawn, "reason": "withdrawn"});
                event::emit(tx, scope, event::DOWNGRADE_WITHDRAWN, &subscription, details).await?;
                one(tx, scope, subscription).await
            })
            .await
    }
}
