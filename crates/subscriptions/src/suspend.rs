//! Stops a subscription, and lets it go on: nothing is authorized meanwhile, and what was used is
//! recorded and charged. Its cycles go on. What an operator suspends, an operator lifts; what a lost dispute suspends,
//! its reinstatement lifts too (R-22a).

use db::{Connection, Result};
use domain::account::Account;
use domain::id::SubscriptionId;
use domain::subscription::{Event, Status, after};
use domain::{Refusal, TenantScope};
use idempotency::RequestKey;
use serde_json::{Value, json};

use crate::subscription::Subscription;
use crate::view::{SubscriptionView, one};
use crate::{Subscriptions, event, is_repeat, status_change, store};

impl Subscriptions {
    /// Suspends. One that is suspended stays so, until an operator lifts it. Refused: `not-found`, `subscription-incomplete`,
    /// `subscription-ended`.
    pub async fn suspend(
        &self,
        scope: &TenantScope,
        subscription: SubscriptionId,
        reason: Option<String>,
        request: &RequestKey,
    ) -> Result<SubscriptionView> {
        self.change_standing(scope, subscription, request, Change::Suspend { reason }).await
    }

    /// Lifts a suspension: it is active again, or past due while its cycle is unpaid. Refused:
    /// `not-found`, `subscription-not-suspended`.
    pub async fn resume(
        &self,
        scope: &TenantScope,
        subscription: SubscriptionId,
        request: &RequestKey,
    ) -> Result<SubscriptionView> {
        self.change_standing(scope, subscription, request, Change::Lift).await
    }

    async fn change_standing(
        &self,
        scope: &TenantScope,
        subscription: SubscriptionId,
        request: &RequestKey,
        change: Change,
    ) -> Result<SubscriptionView> {
        let tenant = scope.tenant;
        let (view, accounts) = self
            .db
            .transaction(tenant, async |tx| {
                let is_repeat = is_repeat(tx, scope, request).await?;
                let mut subscription = store::subscriptions::lock(tx, tenant, subscription).await?;
                let mut accounts = ledger::lock(tx, tenant, &[subscription.customer]).await?;
                if !is_repeat {
                    let account = accounts.get_mut(subscription.customer)?;
                    match &change {
                        Change::Suspend { reason } => {
                            let details = json!({"reason": "operator", "note": reason});
                            suspend(tx, scope, &mut subscription, account, details).await?;
                            if subscription.is_suspended_by_dispute {
                                subscription.is_suspended_by_dispute = false;
                                store::subscriptions::update(tx, tenant, &subscription).await?;
                            }
                        }
                        Change::Lift => lift(tx, scope, &mut subscription, account, json!({})).await?,
                    }
                    ledger::write(tx, tenant, &accounts, scope.now).await?;
                }
                Ok((one(tx, scope, subscription).await?, accounts))
            })
            .await?;
        // Also for a repeat: the first try may have died before it could tell.
        self.publish(scope, Some(accounts)).await?;
        Ok(view)
    }
}

enum Change {
    Suspend { reason: Option<String> },
    Lift,
}

/// Suspends a subscription that the caller has locked, with its account, which the caller writes.
pub(crate) async fn suspend(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &mut Subscription,
    account: &mut Account,
    details: Value,
) -> Result<()> {
    let before = subscription.status;
    subscription.status = after(before, Event::Suspended)?;
    if subscription.status == before {
        return Ok(());
    }
    account.set_suspended(true);
    store::subscriptions::update(tx, scope.tenant, subscription).await?;
    status_change::moved(tx, scope, subscription, before, Event::Suspended).await?;
    event::emit(tx, scope, event::SUSPENDED, subscription, details).await
}

/// Lifts the suspension of a subscription that the caller has locked, with its account, which the caller writes.
/// Refused: `subscription-not-suspended`.
pub(crate) async fn lift(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &mut Subscription,
    account: &mut Account,
    details: Value,
) -> Result<()> {
    if subscription.status != Status::Suspended {
        return Err(Refusal::SubscriptionNotSuspended.into());
    }
    let before = subscription.status;
    subscription.status = after(before, Event::Lifted)?;
    status_change::moved(tx, scope, subscription, before, Event::Lifted).await?;
    let is_paid = !store::purchases::with_paid_cycle(tx, scope.tenant, &[subscription.id]).await?.is_empty();
    if !is_paid {
        let lifted = subscription.status;
        subscription.status = after(lifted, Event::RenewalFailed)?;
        status_change::moved(tx, scope, subscription, lifted, Event::RenewalFailed).await?;
    }
    account.set_suspended(false);
    subscription.is_suspended_by_dispute = false;
    store::subscriptions::update(tx, scope.tenant, subscription).await?;
    event::emit(tx, scope, event::RESUMED, subscription, details).await?;
    if !is_paid {
        event::emit(tx, scope, event::PAST_DUE, subscription, json!({"reason": "resumed-unpaid"})).await?;
    }
    Ok(())
}
