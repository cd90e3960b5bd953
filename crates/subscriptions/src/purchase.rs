//! The three things that happen to a purchase, each inside the caller's transaction: it is opened
//! with its invoice, it is settled, or it ends.

use chrono::{TimeDelta, Utc};
use db::{Connection, Result};
use domain::account::Account;
use domain::dunning::Event as DunningEvent;
use domain::id::{InvoiceId, PaymentId, PurchaseId};
use domain::{Credits, Refusal, TenantScope, Timestamp};
use invoices::{Invoice, Line, NewInvoice, Payment};
use ledger::Accounts;
use scheduler::NewJob;
use serde_json::json;
use uuid::Uuid;

use crate::effect::{self, Effect};
use crate::event::About;
use crate::subscription::{Purchase, PurchaseEvent, PurchaseKind, PurchaseStatus, Subscription};
use crate::{dunning, event, jobs, status_change, store};

/// How long after its commit a payment is collected by a job, should the process that made it have
/// died before it could.
const COLLECT_AFTER: TimeDelta = TimeDelta::seconds(60);

/// A purchase to be opened.
#[derive(Debug, Clone)]
pub struct NewPurchase {
    pub id: PurchaseId,
    pub kind: PurchaseKind,
    pub cycle_number: u32,
    pub plan_code: String,
    pub catalog_version: u32,
    pub credits: Credits,
    pub lines: Vec<Line>,
    /// Pays the invoice; not needed where that is over nothing.
    pub payment_method: String,
    pub expires_at: Timestamp,
}

/// A purchase, its invoice, and the payment to collect for it; none for an invoice over nothing.
#[derive(Debug, Clone)]
pub struct Opened {
    pub purchase: Purchase,
    pub invoice: Invoice,
    pub payment: Option<Payment>,
}

/// Issues the invoice, stores the purchase as pending, and starts the payment.
pub async fn open(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &Subscription,
    new: NewPurchase,
) -> Result<Opened> {
    let invoice =
        NewInvoice { customer: subscription.customer, currency: subscription.currency, lines: new.lines };
    let invoice = invoices::issue(tx, scope.tenant, invoice, scope.now).await?;
    let purchase = Purchase {
        id: new.id,
        kind: new.kind,
        customer: subscription.customer,
        subscription: subscription.id,
        cycle_number: new.cycle_number,
        plan_code: new.plan_code,
        catalog_version: new.catalog_version,
        credits: new.credits,
        invoice: invoice.id,
        status: PurchaseStatus::Pending,
        granted_at: None,
        expires_at: new.expires_at,
        created_at: scope.now,
    };
    store::purchases::insert(tx, scope.tenant, &purchase).await?;
    let mut details = event::purchase(&purchase);
    details["amount"] = json!(invoice.total);
    details["number"] = json!(invoice.number.to_string());
    event::emit(tx, scope, event::INVOICE_ISSUED, subscription, details).await?;
    let payment = if invoice.total.is_zero() {
        None
    } else {
        let id = PaymentId::from_uuid(Uuid::now_v7());
        Some(try_payment(tx, scope, subscription, &purchase, id, &new.payment_method).await?)
    };
    Ok(Opened { purchase, invoice, payment })
}

/// Starts a payment of a purchase that is a subscription's; the dunning of a renewal waits for it.
pub async fn try_payment(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &Subscription,
    purchase: &Purchase,
    id: PaymentId,
    method: &str,
) -> Result<Payment> {
    let about = About::Subscription(subscription);
    let payment = start_payment(tx, scope, about, purchase.invoice, id, method).await?;
    dunning::follow(tx, scope, purchase, DunningEvent::TryStarted).await?;
    Ok(payment)
}

/// Adds a payment, and the job that collects it if nobody else does.
pub async fn start_payment(
    tx: &mut Connection,
    scope: &TenantScope,
    about: About<'_>,
    invoice: InvoiceId,
    id: PaymentId,
    method: &str,
) -> Result<Payment> {
    let payment = invoices::add_payment_as(tx, scope.tenant, id, invoice, method, scope.now).await?;
    let job = NewJob {
        run_at: Utc::now() + COLLECT_AFTER,
        ..jobs::for_payment(jobs::COLLECT_PAYMENT, scope.tenant, payment.id)
    };
    scheduler::enqueue(tx, job, scope.now).await?;
    let details = json!({"invoice": invoice, "payment": payment.id, "amount": payment.amount});
    about.emit(tx, scope, event::PAYMENT_CREATED, details).await?;
    Ok(payment)
}

/// Lets a purchase whose invoice was paid at `at` take effect, with the ledger's beats from lock to
/// write. `None` where it came too late: then nothing was changed.
pub async fn settle(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &mut Subscription,
    purchase: &mut Purchase,
    at: Timestamp,
) -> Result<Option<Accounts>> {
    let mut accounts = ledger::lock(tx, scope.tenant, &[subscription.customer]).await?;
    let account = accounts.get_mut(subscription.customer)?;
    let effect = take(tx, scope, subscription, purchase, account, at).await?;
    if effect == Effect::TooLate {
        return Ok(None);
    }
    store::subscriptions::update(tx, scope.tenant, subscription).await?;
    ledger::write(tx, scope.tenant, &accounts, scope.now).await?;
    Ok(Some(accounts))
}

/// The same on an account that the caller has locked and writes, as it does the subscription.
pub async fn take(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &mut Subscription,
    purchase: &mut Purchase,
    account: &mut Account,
    at: Timestamp,
) -> Result<Effect> {
    let (tenant, now) = (scope.tenant, scope.now);
    let was_granted = purchase.granted_at.is_some();
    let was_used_up = ledger::is_used_up(tx, tenant, account, now).await?;
    let before = subscription.status;
    let effect = effect::take(subscription, purchase, account, scope.zone, at, now)?;
    if effect == Effect::TooLate {
        return Ok(effect);
    }
    if let Some(paid) = effect::paid_event(purchase.kind) {
        status_change::moved(tx, scope, subscription, before, paid).await?;
    }
    invoices::mark_paid(tx, tenant, purchase.invoice, at).await?;
    store::purchases::update(tx, tenant, purchase).await?;
    dunning::follow(tx, scope, purchase, DunningEvent::Paid).await?;
    let kind = match purchase.kind {
        PurchaseKind::FirstCycle => {
            let cycle = subscription.cycle().ok_or(Refusal::SubscriptionIncomplete)?;
            store::cycles::open(tx, tenant, subscription, cycle, now).await?;
            event::ACTIVATED
        }
        PurchaseKind::Upgrade => event::UPGRADED,
        PurchaseKind::Renewal => event::RENEWED,
    };
    let details = event::purchase(purchase);
    event::emit(tx, scope, event::INVOICE_PAID, subscription, details.clone()).await?;
    event::emit(tx, scope, kind, subscription, details.clone()).await?;
    if !was_granted && !purchase.credits.is_zero() {
        event::emit(tx, scope, event::CREDITS_GRANTED, subscription, details).await?;
    }
    if was_used_up {
        outbox::emit_recovered(tx, tenant, account, now).await?;
    }
    Ok(effect)
}

/// Ends a pending purchase: its invoice is void, and a payment that is still undecided is canceled
/// with the provider by a job. Should that have succeeded, the money goes back (R-10a).
pub async fn end(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &Subscription,
    purchase: &mut Purchase,
    reason: &'static str,
) -> Result<()> {
    void(tx, scope, purchase.invoice).await?;
    purchase.status = purchase.status.after(PurchaseEvent::GivenUp);
    store::purchases::update(tx, scope.tenant, purchase).await?;
    dunning::follow(tx, scope, purchase, DunningEvent::GivenUp).await?;
    let mut details = event::purchase(purchase);
    details["reason"] = json!(reason);
    event::emit(tx, scope, event::INVOICE_VOIDED, subscription, details).await
}

/// Voids an open invoice, and has a job cancel the payment that is in flight for it.
pub async fn void(tx: &mut Connection, scope: &TenantScope, invoice: InvoiceId) -> Result<()> {
    let tenant = scope.tenant;
    invoices::lock(tx, tenant, invoice).await?;
    invoices::void(tx, tenant, invoice).await?;
    if let Some(payment) = invoices::in_flight(tx, tenant, invoice).await? {
        let job = jobs::for_payment(jobs::CANCEL_PAYMENT, tenant, payment.id);
        scheduler::enqueue(tx, job, scope.now).await?;
    }
    Ok(())
}
