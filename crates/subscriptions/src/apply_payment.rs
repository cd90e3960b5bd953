//! Takes in what the provider says about a payment, wherever it says it: in its answer, to a job,
//! or by a webhook. One function, so that all of them meet the same rules; repeated or out of order
//! a report changes nothing that a later state has settled.
//!
//! One transaction: lock the subscription, the invoice, the payment, and, for a success, the
//! credit account; decide; write; commit; publish. What was bought without a subscription is in
//! `apply_sale_payment`.

use db::{Connection, Result};
use domain::TenantScope;
use domain::id::PaymentId;
use domain::invoice::PaymentStatus;
use invoices::Payment;
use ledger::Accounts;
use payments::Collected;

use crate::apply_sale_payment::apply_to_sale;
use crate::collect::to_publish;
use crate::event::About;
use crate::subscription::{Purchase, PurchaseKind, Subscription};
use crate::{Subscriptions, dunning, effect, event, provider_report, purchase, refund, store};

/// A payment's status after a report, and the accounts to publish.
pub(crate) struct Applied {
    pub(crate) status: PaymentStatus,
    pub(crate) accounts: Accounts,
}

impl Subscriptions {
    /// Applies a report, and says how the payment stands then: `refunded` where it succeeded for
    /// something that is over. Refused: `not-found`.
    pub async fn apply_payment(
        &self,
        scope: &TenantScope,
        payment: PaymentId,
        collected: &Collected,
    ) -> Result<PaymentStatus> {
        let applied =
            self.db.transaction(scope.tenant, async |tx| apply(tx, scope, payment, collected).await).await?;
        self.ledger.publish(scope.tenant, &applied.accounts, scope.now).await?;
        Ok(applied.status)
    }
}

async fn apply(
    tx: &mut Connection,
    scope: &TenantScope,
    payment: PaymentId,
    collected: &Collected,
) -> Result<Applied> {
    let tenant = scope.tenant;
    let invoice = invoices::payment(tx, tenant, payment).await?.invoice;
    let Some(mut subscription) = store::subscriptions::lock_by_invoice(tx, tenant, invoice).await? else {
        return apply_to_sale(tx, scope, invoice, payment, collected).await;
    };
    let invoice = invoices::lock(tx, tenant, invoice).await?;
    let mut purchase = store::purchases::of_invoice(tx, tenant, invoice.id).await?;
    let at = effect::success_instant(collected.at, purchase.created_at, scope.now);
    let report = provider_report::read(tx, scope, payment, collected, at).await?;
    let recorded = invoices::record_report(tx, tenant, &invoice, payment, &report).await?;
    let became = recorded.became();
    let was_customers_turn = recorded.before == PaymentStatus::RequiresAction;
    let mut status = recorded.payment.status;
    let mut accounts = None;
    if recorded.is_new_mismatch {
        accounts = provider_report::park(tx, scope, invoice.customer, &recorded.payment).await?;
    }
    let payment = recorded.payment;
    match became {
        None | Some(PaymentStatus::Created) => {}
        Some(PaymentStatus::RequiresAction) => {
            emit(tx, scope, event::PAYMENT_REQUIRES_ACTION, &subscription, &payment).await?;
            if purchase.kind == PurchaseKind::Renewal && purchase.is_pending() {
                // Nobody is there when a renewal is charged: unpaid it is, until the customer has acted.
                accounts = dunning::failed(tx, scope, &mut subscription, &purchase, &payment).await?;
            }
        }
        Some(PaymentStatus::Pending) => {
            emit(tx, scope, event::PAYMENT_PENDING, &subscription, &payment).await?;
        }
        Some(PaymentStatus::Succeeded) => {
            if purchase.kind == PurchaseKind::FirstCycle {
                // What has worked pays the renewals too, whatever was tried before it.
                subscription.payment_method = payment.method.clone();
            }
            accounts = purchase::settle(tx, scope, &mut subscription, &mut purchase, report.at).await?;
            if accounts.is_none() {
                status = PaymentStatus::Refunded;
                too_late(tx, scope, &subscription, &mut purchase, &payment).await?;
            }
        }
        Some(PaymentStatus::Refunded) => {
            give_back(tx, scope, About::Subscription(&subscription), &payment).await?;
        }
        // A renewal's try that waited for its customer has counted as failed.
        Some(PaymentStatus::Failed) if was_customers_turn && purchase.kind == PurchaseKind::Renewal => {
            emit(tx, scope, event::PAYMENT_FAILED, &subscription, &payment).await?;
        }
        Some(PaymentStatus::Failed) => {
            accounts = failed(tx, scope, &mut subscription, &mut purchase, &payment).await?;
        }
        Some(PaymentStatus::Canceled) => {
            emit(tx, scope, event::PAYMENT_CANCELED, &subscription, &payment).await?;
            if purchase.kind == PurchaseKind::Renewal && purchase.is_pending() && !was_customers_turn {
                dunning::try_ended(tx, scope, &subscription, &purchase).await?;
            }
        }
    }
    let accounts = to_publish(tx, scope, invoice.customer, accounts).await?;
    Ok(Applied { status, accounts })
}

/// A success for a purchase that is open and can no longer take effect (R-14b).
async fn too_late(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &Subscription,
    purchase: &mut Purchase,
    payment: &Payment,
) -> Result<()> {
    invoices::mark_refunded(tx, scope.tenant, payment.id).await?;
    if purchase.is_pending() {
        purchase::end(tx, scope, subscription, purchase, "paid-too-late").await?;
    }
    give_back(tx, scope, About::Subscription(subscription), payment).await
}

/// The payment is stored as refunded; so is the refund, and a job has the provider do it.
pub(crate) async fn give_back(
    tx: &mut Connection,
    scope: &TenantScope,
    about: About<'_>,
    payment: &Payment,
) -> Result<()> {
    refund::open_too_late(tx, scope, about, payment.id).await?;
    about.emit(tx, scope, event::PAYMENT_REFUNDED, event::payment(payment)).await
}

/// A failure ends an upgrade and leaves everything as it was; it makes a subscription past
/// due where the renewal is unpaid, and after the last try it ends it; a first purchase can be
/// paid again.
async fn failed(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &mut Subscription,
    purchase: &mut Purchase,
    payment: &Payment,
) -> Result<Option<Accounts>> {
    emit(tx, scope, event::PAYMENT_FAILED, subscription, payment).await?;
    if !purchase.is_pending() {
        return Ok(None);
    }
    match purchase.kind {
        PurchaseKind::FirstCycle => Ok(None),
        PurchaseKind::Upgrade => {
            purchase::end(tx, scope, subscription, purchase, "payment-failed").await?;
            Ok(None)
        }
        PurchaseKind::Renewal => dunning::failed(tx, scope, subscription, purchase, payment).await,
    }
}

async fn emit(
    tx: &mut Connection,
    scope: &TenantScope,
    kind: &'static str,
    subscription: &Subscription,
    payment: &Payment,
) -> Result<()> {
    event::emit(tx, scope, kind, subscription, event::payment(payment)).await
}
