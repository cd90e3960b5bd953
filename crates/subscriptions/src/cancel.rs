//! Cancels a subscription at its cycle's end, or at once, and takes the former back.

use db::{Connection, Result};
use domain::account::{Cause, CauseKind, Draw};
use domain::id::{GrantId, RefundId, SubscriptionId};
use domain::refund::RefundOrigin;
use domain::subscription::{Event, Status, after, check_changeable};
use domain::{Credits, Money, Refusal, TenantScope, Timestamp};
use idempotency::RequestKey;
use invoices::Payment;
use ledger::Accounts;
use serde_json::json;
use uuid::Uuid;

use crate::collect::to_publish;
use crate::event::About;
use crate::paid_for::PaidFor;
use crate::refund::Wanted;
use crate::subscription::{Purchase, Subscription};
use crate::view::{SubscriptionView, one};
use crate::{Subscriptions, effect, event, is_repeat, purchase, refund, status_change, store};

/// When a cancel takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelAt {
    /// Credits stay usable until then. A year goes on, cycle by cycle, to its own end (R-22b).
    CycleEnd,
    /// What is left of the plan's Credits is revoked. For operators.
    Once {
        /// Whether what was paid for this cycle, and has not gone back yet, goes back.
        refund: bool,
    },
}

impl Subscriptions {
    /// Cancels. Money that goes back is asked for after the commit, and by a job where the provider does
    /// not answer. An incomplete subscription ends at once whatever was asked for, as soon as the
    /// provider has given its payment up; should that have succeeded instead, the subscription is
    /// active and canceled as one (R-10a). Refused: `not-found`, `subscription-ended`,
    /// `payment-pending`, `payment-disputed` where money should go back that is with the customer's bank; at
    /// the cycle's end also what [`check_changeable`] refuses.
    pub async fn cancel(
        &self,
        scope: &TenantScope,
        subscription: SubscriptionId,
        at: CancelAt,
        request: &RequestKey,
    ) -> Result<SubscriptionView> {
        let tenant = scope.tenant;
        self.give_up_first_payment(scope, subscription).await?;
        let (view, accounts, refunds) = self
            .db
            .transaction(tenant, async |tx| {
                let is_repeat = is_repeat(tx, scope, request).await?;
                let mut subscription = store::subscriptions::lock(tx, tenant, subscription).await?;
                let mut refunds = Vec::new();
                let accounts = match (is_repeat, subscription.status, at) {
                    (true, _, _) => None,
                    (false, Status::Incomplete, _) => {
                        withdraw(tx, scope, &mut subscription).await?;
                        None
                    }
                    (false, _, CancelAt::Once { refund }) => {
                        let accounts;
                        (accounts, refunds) = at_once(tx, scope, &mut subscription, refund).await?;
                        Some(accounts)
                    }
                    (false, _, CancelAt::CycleEnd) => set_flag(tx, scope, &mut subscription, true).await?,
                };
                let accounts = to_publish(tx, scope, subscription.customer, accounts).await?;
                Ok((one(tx, scope, subscription).await?, accounts, refunds))
            })
            .await?;
        self.ledger.publish(tenant, &accounts, scope.now).await?;
        self.ask_now(scope, &refunds).await?;
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
                let accounts = to_publish(tx, scope, subscription.customer, accounts).await?;
                Ok((one(tx, scope, subscription).await?, accounts))
            })
            .await?;
        self.ledger.publish(tenant, &accounts, scope.now).await?;
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
pub(crate) async fn refills_at(
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
    refund: bool,
) -> Result<(Accounts, Vec<RefundId>)> {
    let (tenant, now) = (scope.tenant, scope.now);
    let before = subscription.status;
    subscription.status = after(before, Event::CanceledAtOnce)?;
    subscription.ended_at = Some(now);
    store::subscriptions::update(tx, tenant, subscription).await?;
    status_change::moved(tx, scope, subscription, before, Event::CanceledAtOnce).await?;
    let cycle = subscription.cycle();
    if let Some(cycle) = cycle {
        store::cycles::close(tx, tenant, subscription, cycle.number, now).await?;
    }
    for mut pending in store::purchases::pending(tx, tenant, &[subscription.id]).await? {
        purchase::end(tx, scope, subscription, &mut pending, "canceled").await?;
    }
    let paid = match refund {
        true => refundable(tx, scope, subscription).await?,
        false => Vec::new(),
    };
    let grants: Vec<GrantId> = paid.iter().map(|(purchase, _)| purchase.grant()).collect();
    let mut accounts = ledger::lock_for_void(tx, tenant, subscription.customer, &grants, now).await?;
    let account = accounts.get_mut(subscription.customer)?;
    let mut refunds = Vec::new();
    let mut refunded_minor = 0_i64;
    for (purchase, mut payment) in paid {
        let wanted = Wanted {
            id: RefundId::from_uuid(Uuid::now_v7()),
            amount: payment.amount.minus_floor_zero(payment.refunded),
            origin: RefundOrigin::Cancel,
            provider_ref: None,
            reason: None,
        };
        let refund = refund::open(
            tx,
            scope,
            About::Subscription(subscription),
            &mut payment,
            account,
            PaidFor { grant: Some(purchase.grant()) },
            wanted,
        )
        .await?;
        refunded_minor =
            refunded_minor.checked_add(refund.amount.amount_minor).ok_or(Refusal::AmountOverflow)?;
        refunds.push(refund.id);
    }
    let expired = sum(&account.expire(now)?)?;
    let cause = Cause { kind: CauseKind::Cancel, id: subscription.id.uuid() };
    let revoked = sum(&account.revoke_the_plans(cause, now)?)?;
    account.set_refills_at(None);
    account.set_suspended(false);
    ledger::write(tx, tenant, &accounts, now).await?;
    // One that was suspended may be past its cycle's end.
    if let Some(cycle) = cycle {
        event::emit_cycle_closed(tx, scope, subscription, cycle, expired).await?;
    }
    let details = json!({
        "reason": "canceled-at-once",
        "credits_expired": expired,
        "credits_revoked": revoked,
        "refunded": !refunds.is_empty(),
        "refunded_amount": Money { amount_minor: refunded_minor, currency: subscription.currency },
        "refunds": refunds,
    });
    event::emit(tx, scope, event::CANCELED, subscription, details).await?;
    Ok((accounts, refunds))
}

/// The locked payments of the current cycle with something left to give back, and what they bought.
async fn refundable(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &Subscription,
) -> Result<Vec<(Purchase, Payment)>> {
    let Some(cycle) = subscription.cycle() else { return Ok(Vec::new()) };
    let bought = store::purchases::applied_in_cycle(tx, scope.tenant, subscription.id, cycle.number).await?;
    let mut refundable = Vec::new();
    for purchase in bought {
        let Some(payment) = refund::paying(tx, scope, purchase.invoice).await? else { continue };
        if payment.refunded == payment.amount {
            continue;
        }
        if invoices::is_disputed(tx, scope.tenant, purchase.invoice).await? {
            return Err(Refusal::PaymentDisputed.into());
        }
        refundable.push((purchase, payment));
    }
    Ok(refundable)
}

/// What some draws come to.
pub(crate) fn sum(draws: &[Draw]) -> std::result::Result<Credits, Refusal> {
    draws.iter().try_fold(Credits::ZERO, |sum, draw| sum.plus(draw.credits))
}
