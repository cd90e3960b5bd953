//! What a provider's report is to its payment, before it is applied: is that the payment's money?

use db::{Connection, Result};
use domain::id::{CustomerId, PaymentId};
use domain::invoice::PaymentReport;
use domain::{TenantScope, Timestamp};
use invoices::{Action, Mismatch, Payment, Report};
use ledger::Accounts;
use outbox::NewEvent;
use payments::Collected;
use serde_json::json;

use crate::event;

/// The report in the words of `invoices`. A success over another amount or currency than the
/// payment's is told apart here.
pub async fn read(
    tx: &mut Connection,
    scope: &TenantScope,
    payment: PaymentId,
    collected: &Collected,
    at: Timestamp,
) -> Result<Report> {
    let amount = invoices::payment(tx, scope.tenant, payment).await?.amount;
    let taken = collected.taken.as_ref().filter(|_| collected.report == PaymentReport::Succeeded);
    let mismatch = taken
        .filter(|taken| !taken.is(amount))
        .map(|taken| Mismatch { amount_minor: taken.amount_minor, currency: taken.currency.clone() });
    let action = collected.action.as_ref().map(|action| Action {
        client_secret: action.client_secret.clone(),
        redirect_url: action.redirect_url.clone(),
    });
    let failure_code = collected.failure_code.clone();
    let provider_ref = collected.provider_ref.clone();
    Ok(Report { report: collected.report, at, failure_code, provider_ref, action, mismatch })
}

/// Parks the customer's account and raises the alarm: somebody paid, and not what was asked for.
/// What to publish, if anything.
pub async fn park(
    tx: &mut Connection,
    scope: &TenantScope,
    customer: CustomerId,
    payment: &Payment,
) -> Result<Option<Accounts>> {
    let Some(mismatch) = &payment.mismatch else { return Ok(None) };
    let taken = format!("{} {}", mismatch.amount_minor, mismatch.currency);
    let reason = format!("{} was paid with {taken} (minor units) instead of {}", payment.id, payment.amount);
    let (_, accounts) = ledger::park(tx, scope, customer, &reason).await?;
    let payload = json!({
        "customer": customer,
        "invoice": payment.invoice,
        "payment": payment.id,
        "amount": payment.amount,
        "taken": {"amount_minor": mismatch.amount_minor, "currency": mismatch.currency},
    });
    let alert = NewEvent { kind: event::PAYMENT_MISMATCHED, subject: payment.id.to_string(), payload };
    outbox::emit(tx, scope.tenant, alert, scope.now).await?;
    Ok(Some(accounts))
}
