//! Cancels a subscription at its cycle's end, or at once, and takes the former back.

use db::{Connection, Result};
use domain::account::{Cause, CauseKind, Draw};
use domain::id::SubscriptionId;
use domain::subscription::{Event, Status, after, check_changeable};
use domain::{Credits, Refusal, TenantScope, Timestamp};
use idempotency::RequestKey;
use ledger::Accounts;
use serde_json::json;

use crate::subscription::Subscription;
use crate::view::{SubscriptionView, one};
use crate::{Subscriptions, effect, event, is_repeat, purchase, status_change, store};

/// When a cancel takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelAt {
    /// Credits stay usable until then. A year goes on, cycle by cycle, to its own end (R-22b).
    CycleEnd,
    /// What is left of the plan's Credits is revoked; no money goes back. For operators.
    Once,
}

impl Subscriptions {
    /// Cancels. An incomplete subscription ends at once whatever was asked for, as soon as the
    /// provider has given its payment up; should that have succeeded instead, the subscription is
    /// active and canceled as one (R-10a). Refused: `not-found`, `subscription-ended`,
    /// `payment-pending`; at the cycle's end also what [`check_changeable`] refuses.
    pub async fn cancel(
        &self,
        scope: &TenantScope,
        subscription: SubscriptionId,
        at: CancelAt,
        request: &RequestKey,
    ) -> Result<SubscriptionView> {
        let tenant = scope.tenant;
        self.give_up_first_payment(scope, subscription).await?;
        let (view, accounts) = self
            .db
            .transaction(tenant, async |tx| {
                let is_repeat = is_repeat(tx, scope, request).await?;
                let mut subscription = store::subscriptions::lock(tx, tenant, subscription).await?;
                let accounts = match (is_repeat, subscription.status, at) {
                    (true, _, _) => None,
                    (false, Status::Incomplete, _) => {
                        withdraw(tx, scope, &mut subscription).await?;
                        None
                    }
                    (false, _, CancelAt::Once) => Some(at_once(tx, scope, &mut subscription).await?),
                    (false, _, CancelAt::CycleEnd) => set_flag(tx, scope, &mut subscription, true).await?,
                };
                Ok((one(tx, scope, subscription).await?, accounts))
            })
            .await?;
        self.publish(scope, accounts).await;
        Ok(view)
    }

    /// Takes a cancel at the cycle's end back. Refused: `not-found`, what [`check_changeable`]
    /// refuses, `nothing-scheduled`.
    pub async fn withdraw_cancel(
        &self,
        scope: &TenantScope,
        subscription: SubscriptionId,
        request: &RequestKey,
    ) -> Result<SubscriptionView> {
        let tenant = scope.tenant;
        let (view, accounts) = self
            .db
            .transaction(tenant, async |tx| {
                let is_repeat = is_repeat(tx, scope, request).await?;
                let mut subscription = store::subscriptions::lock(tx, tenant, subscription).await?;
                let accounts = if is_repeat {
                    None
                } else {
                    let accounts = set_flag(tx, scope, &mut subscription, false).await?;
                    Some(accounts.ok_or(Refusal::NothingScheduled)?)
                };
                Ok((one(tx, scope, subscription).await?, accounts))
            })
            .await?;
        self.publish(scope, accounts).await;
        Ok(view)
    }

    async fn give_up_first_payment(&self, scope: &TenantScope, subscription: SubscriptionId) -> Result<()> {
        let tenant = scope.tenant;
        let in_flight = self
            .db
            .transaction(tenant, async |tx| {
                let subscription = store::subscriptions::find(tx, tenant, subscription).await?;
                if subscription.status != Status::Incomplete {
                    return Ok(None);
                }
                let purchase = store::purchases::first_cycle(tx, tenant, subscription.id).await?;
                invoices::in_flight(tx, tenant, purchase.invoice).await
            })
            .await?;
        if let Some(payment) = in_flight {
            self.give_up(scope, &payment).await?;
        }
        Ok(())
    }
}

/// Ends an incomplete subscription that its customer does not want any more.
async fn withdraw(tx: &mut Connection, scope: &TenantScope, subscription: &mut Subscription) -> Result<()> {
    let purchase = store::purchases::first_cycle(tx, scope.tenant, subscription.id).await?;
    if invoices::in_flight(tx, scope.tenant, purchase.invoice).await?.is_some() {
        return Err(Refusal::PaymentPending.into());
    }
    expire(tx, scope, subscription, Event::CanceledAtOnce, "canceled").await
}

/// Ends an incomplete subscription with its purchase, and releases its promotion.
pub(crate) async fn expire(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &mut Subscription,
    why: Event,
    reason: &'static str,
) -> Result<()> {
    let tenant = scope.tenant;
    let mut purchase = store::purchases::first_cycle(tx, tenant, subscription.id).await?;
    purchase::end(tx, scope, subscription, &mut purchase, reason).await?;
    store::promotions::release(tx, tenant, subscription.id).await?;
    let before = subscription.status;
    subscription.status = after(before, why)?;
    subscription.ended_at = Some(scope.now);
    store::subscriptions::update(tx, tenant, subscription).await?;
    status_change::moved(tx, scope, subscription, before, why).await?;
    event::emit(tx, scope, event::EXPIRED, subscription, json!({"reason": reason})).await
}

/// Sets or takes back the cancel at the cycle's end. `None` where it was so already.
async fn set_flag(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &mut Subscription,
    cancel: bool,
) -> Result<Option<Accounts>> {
    let tenant = scope.tenant;
    let end = subscription.cycle().map(|cycle| cycle.end);
    check_changeable(subscription.status, end, scope.now)?;
    if subscription.cancel_at_cycle_end == cancel {
        return Ok(None);
    }
    subscription.cancel_at_cycle_end = cancel;
    store::subscriptions::update(tx, tenant, subscription).await?;
    let kind = if cancel { event::CANCEL_SET } else { event::CANCEL_WITHDRAWN };
    event::emit(tx, scope, kind, subscription, json!({"effective_at": subscription.renews_at()?})).await?;
    let refills_at = refills_at(tx, scope, subscription).await?;
    let mut accounts = ledger::lock(tx, tenant, &[subscription.customer]).await?;
    accounts.get_mut(subscription.customer)?.set_refills_at(refills_at);
    ledger::write(tx, tenant, &accounts, scope.now).await?;
    Ok(Some(accounts))
}

/// Nothing refills while the renewal is unpaid (R-33a).
async fn refills_at(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &Subscription,
) -> Result<Option<Timestamp>> {
    let paid = store::purchases::with_paid_cycle(tx, scope.tenant, &[subscription.id]).await?;
    Ok(if paid.is_empty() { None } else { effect::refills_at(subscription) })
}

async fn at_once(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &mut Subscription,
) -> Result<Accounts> {
    let (tenant, now) = (scope.tenant, scope.now);
    let before = subscription.status;
    subscription.status = after(before, Event::CanceledAtOnce)?;
    subscription.ended_at = Some(now);
    store::subscriptions::update(tx, tenant, subscription).await?;
    status_change::moved(tx, scope, subscription, before, Event::CanceledAtOnce).await?;
    if let Some(cycle) = subscription.cycle() {
        store::cycles::close(tx, tenant, subscription, cycle.number, now).await?;
    }
    for mut pending in store::purchases::pending(tx, tenant, &[subscription.id]).await? {
        purchase::end(tx, scope, subscription, &mut pending, "canceled").await?;
    }
    let mut accounts = ledger::lock(tx, tenant, &[subscription.customer]).await?;
    let account = accounts.get_mut(subscription.customer)?;
    let expired = sum(&account.expire(now)?)?;
    let cause = Cause { kind: CauseKind::Cancel, id: subscription.id.uuid() };
    let revoked = sum(&account.revoke_the_plans(cause, now)?)?;
    account.set_refills_at(None);
    ledger::write(tx, tenant, &accounts, now).await?;
    let details = json!({
        "reason": "canceled-at-once",
        "credits_expired": expired,
        "credits_revoked": revoked,
        "refunded": false,
    });
    event::emit(tx, scope, event::CANCELED, subscription, details).await?;
    Ok(accounts)
}

/// What some draws come to.
pub(crate) fn sum(draws: &[Draw]) -> std::result::Result<Credits, Refusal> {
    draws.iter().try_fold(Credits::ZERO, |sum, draw| sum.plus(draw.credits))
}
