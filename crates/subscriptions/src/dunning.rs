//! An unpaid renewal: tried again on the tenant's days, and given up when the last try has failed.
//!
//! A row a renewal says how far it is. It is written by whatever happens to the renewal's payments, under the
//! subscription's lock, and a due row is what a retry is started from. So a try is made once, whichever process comes
//! first, and a customer who pays by himself in between is not charged twice: while a payment is with the provider no
//! other one is due.

use db::{Connection, Result};
use domain::account::{Cause, CauseKind};
use domain::dunning::{Event, Stage, after, next_try};
use domain::id::{InvoiceId, PaymentId, PurchaseId, SubscriptionId};
use domain::invoice::PaymentStatus;
use domain::policy::DunningEnd;
use domain::{TenantScope, Timestamp, subscription};
use futures_util::{StreamExt, stream};
use invoices::Payment;
use ledger::Accounts;
use serde_json::json;
use uuid::Uuid;

use crate::cancel::sum;
use crate::next_cycle::EndReason;
use crate::roll_over::{BATCH, COLLECTED_AT_ONCE};
use crate::subscription::{Purchase, PurchaseKind, Subscription};
use crate::{Subscriptions, event, purchase, status_change, store};

/// How far the collection of an unpaid renewal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dunning {
    pub renewal: PurchaseId,
    pub subscription: SubscriptionId,
    pub stage: Stage,
    /// Payments that have failed or were canceled.
    pub failed_tries: u32,
    /// When it is tried again; none while a try is with the provider, and after the last one.
    pub next_try_at: Option<Timestamp>,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

impl Dunning {
    fn begin(renewal: &Purchase, now: Timestamp) -> Dunning {
        Dunning {
            renewal: renewal.id,
            subscription: renewal.subscription,
            stage: Stage::Waiting,
            failed_tries: 0,
            next_try_at: None,
            started_at: now,
            ended_at: None,
        }
    }

    fn go(&mut self, event: Event, now: Timestamp) {
        self.stage = after(self.stage, event);
        self.next_try_at = None;
        if !self.stage.is_open() {
            self.ended_at.get_or_insert(now);
        }
    }
}

impl Subscriptions {
    /// Starts and collects every retry that is due. Each renewal is looked at once, so one whose provider does not
    /// answer does not hold the others up.
    pub(crate) async fn retry_due(&self, scope: &TenantScope) -> Result<()> {
        let tenant = scope.tenant;
        let mut last = None;
        loop {
            let due = self
                .db
                .transaction(tenant, async |tx| {
                    store::dunnings::due(tx, tenant, scope.now, last, BATCH).await
                })
                .await?;
            let Some((renewal, _)) = due.last() else { return Ok(()) };
            last = Some(*renewal);
            stream::iter(due)
                .for_each_concurrent(COLLECTED_AT_ONCE, async |(renewal, subscription)| {
                    if let Err(error) = self.retry(scope, renewal, subscription).await {
                        // Due still, or its payment's job collects it.
                        tracing::warn!(%renewal, %error, "an unpaid renewal was not tried again yet");
                    }
                })
                .await;
        }
    }

    async fn retry(
        &self,
        scope: &TenantScope,
        renewal: PurchaseId,
        subscription: SubscriptionId,
    ) -> Result<()> {
        let tenant = scope.tenant;
        let in_flight = self
            .db
            .transaction(tenant, async |tx| {
                let invoice = store::purchases::find(tx, tenant, renewal).await?.invoice;
                invoices::in_flight(tx, tenant, invoice).await
            })
            .await?;
        if let Some(waiting) = in_flight.filter(|payment| payment.status == PaymentStatus::RequiresAction) {
            // Its customer has not acted; the bank may not ask for one this time.
            self.give_up(scope, &waiting).await?;
        }
        let started = self
            .db
            .transaction(scope.tenant, async |tx| start_retry(tx, scope, renewal, subscription).await)
            .await?;
        if let Some(invoice) = started {
            self.collect_in_flight(scope, invoice).await?;
        }
        Ok(())
    }
}

/// A new payment with the subscription's own method, if the retry is still due once the subscription is locked.
async fn start_retry(
    tx: &mut Connection,
    scope: &TenantScope,
    renewal: PurchaseId,
    subscription: SubscriptionId,
) -> Result<Option<InvoiceId>> {
    let tenant = scope.tenant;
    let subscription = store::subscriptions::lock(tx, tenant, subscription).await?;
    let dunning = store::dunnings::find(tx, tenant, renewal).await?;
    if dunning.and_then(|dunning| dunning.next_try_at).is_none_or(|due| due > scope.now) {
        return Ok(None);
    }
    let renewal = store::purchases::find(tx, tenant, renewal).await?;
    if renewal.expires_at <= scope.now {
        // Its cycle is over, and so is it: the rollover ends it.
        return Ok(None);
    }
    let id = PaymentId::from_uuid(Uuid::now_v7());
    let method = subscription.payment_method.clone();
    purchase::try_payment(tx, scope, &subscription, &renewal, id, &method).await?;
    Ok(Some(renewal.invoice))
}

/// A payment of a pending renewal has failed: past due, until the next try or, after the last one, for good. The
/// accounts to publish where it ended.
pub(crate) async fn failed(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &mut Subscription,
    renewal: &Purchase,
    payment: &Payment,
) -> Result<Option<Accounts>> {
    let before = subscription.status;
    subscription.status = subscription::after(before, subscription::Event::RenewalFailed)?;
    if subscription.status != before {
        store::subscriptions::update(tx, scope.tenant, subscription).await?;
        let failed = subscription::Event::RenewalFailed;
        status_change::moved(tx, scope, subscription, before, failed).await?;
        event::emit(tx, scope, event::PAST_DUE, subscription, event::purchase(renewal)).await?;
    }
    let dunning = try_ended(tx, scope, subscription, renewal).await?;
    let ends = dunning.next_try_at.is_none() && scope.policies.dunning_end == DunningEnd::Cancel;
    let details = json!({
        "invoice": renewal.invoice,
        "payment": payment.id,
        "amount": payment.amount,
        "failure_code": payment.failure_code,
        "waits_for_customer": payment.status == PaymentStatus::RequiresAction,
        "failed_tries": dunning.failed_tries,
        "next_try_at": dunning.next_try_at,
        "is_canceled": ends,
    });
    event::emit(tx, scope, event::RENEWAL_FAILED, subscription, details).await?;
    if ends { end_unpaid(tx, scope, subscription).await.map(Some) } else { Ok(None) }
}

/// A payment of a pending renewal has ended without money. Who had the provider cancel it may be about to pay in
/// another way, so this alone ends nothing.
pub(crate) async fn try_ended(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &Subscription,
    renewal: &Purchase,
) -> Result<Dunning> {
    let (tenant, now) = (scope.tenant, scope.now);
    let found = store::dunnings::find(tx, tenant, renewal.id).await?;
    let mut dunning = found.unwrap_or_else(|| Dunning::begin(renewal, now));
    dunning.go(Event::TryFailed, now);
    dunning.failed_tries = dunning.failed_tries.saturating_add(1);
    let cycle = subscription.cycle().filter(|cycle| cycle.number == renewal.cycle_number);
    dunning.next_try_at =
        cycle.and_then(|cycle| next_try(cycle, renewal.created_at, &scope.policies.dunning_days, now));
    store::dunnings::put(tx, tenant, &dunning).await?;
    Ok(dunning)
}

/// A renewal's payment was started, or it was paid, or it ended: the row follows, if there is one.
pub(crate) async fn follow(
    tx: &mut Connection,
    scope: &TenantScope,
    renewal: &Purchase,
    event: Event,
) -> Result<()> {
    if renewal.kind != PurchaseKind::Renewal {
        return Ok(());
    }
    if let Some(mut dunning) = store::dunnings::find(tx, scope.tenant, renewal.id).await? {
        dunning.go(event, scope.now);
        store::dunnings::put(tx, scope.tenant, &dunning).await?;
    }
    Ok(())
}

/// The last try has failed: the subscription ends now, with its cycle. Credits that the tenant gave on trust
/// (policy `renewal_grant = on_invoice`) are taken back as far as they are left.
async fn end_unpaid(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &mut Subscription,
) -> Result<Accounts> {
    let (tenant, now) = (scope.tenant, scope.now);
    let (before, ended) = (subscription.status, subscription::Event::EndedForGood);
    subscription.status = subscription::after(before, ended)?;
    subscription.ended_at = Some(now);
    store::subscriptions::update(tx, tenant, subscription).await?;
    status_change::moved(tx, scope, subscription, before, ended).await?;
    let cycle = subscription.cycle();
    if let Some(cycle) = cycle {
        store::cycles::close(tx, tenant, subscription, cycle.number, now).await?;
    }
    for mut pending in store::purchases::pending(tx, tenant, &[subscription.id]).await? {
        purchase::end(tx, scope, subscription, &mut pending, EndReason::Unpaid.name()).await?;
    }
    let mut accounts = ledger::lock(tx, tenant, &[subscription.customer]).await?;
    let account = accounts.get_mut(subscription.customer)?;
    let expired = sum(&account.expire(now)?)?;
    let cause = Cause { kind: CauseKind::Cancel, id: subscription.id.uuid() };
    let revoked = sum(&account.revoke_the_plans(cause, now)?)?;
    account.set_refills_at(None);
    // What was suspended is over.
    account.set_suspended(false);
    ledger::write(tx, tenant, &accounts, now).await?;
    if let Some(cycle) = cycle {
        event::emit_cycle_closed(tx, scope, subscription, cycle, expired).await?;
    }
    let details = json!({
        "reason": EndReason::Unpaid.name(),
        "credits_expired": expired,
        "credits_revoked": revoked,
    });
    event::emit(tx, scope, event::CANCELED, subscription, details).await?;
    Ok(accounts)
}
