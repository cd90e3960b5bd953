//! Starts an attempt to collect an invoice.

use db::{Connection, Result};
use domain::id::{InvoiceId, PaymentId, TenantId};
use domain::invoice::{PaymentStatus, check_payable};
use domain::{Money, Refusal, Timestamp};
use uuid::Uuid;

use crate::{Payment, store};

/// Adds a payment over the invoice's total. Refused with `invoice-not-open` where the invoice is
/// paid or void, and with `payment-pending` where another payment is in flight. The provider is
/// to be called after the commit, with the payment's id as its key.
pub async fn add_payment(
    tx: &mut Connection,
    tenant: TenantId,
    invoice: InvoiceId,
    method: &str,
    now: Timestamp,
) -> Result<Payment> {
    let id = PaymentId::from_uuid(Uuid::now_v7());
    add_payment_as(tx, tenant, id, invoice, method, now).await
}

/// The same, under an id that the caller has promised to a request.
pub async fn add_payment_as(
    tx: &mut Connection,
    tenant: TenantId,
    id: PaymentId,
    invoice: InvoiceId,
    method: &str,
    now: Timestamp,
) -> Result<Payment> {
    let invoice = store::lock_invoice(tx, tenant, invoice).await?;
    check_payable(invoice.status)?;
    // The invoice is locked, so nobody adds one between this look and the insert.
    if store::in_flight(tx, tenant, invoice.id).await?.is_some() {
        return Err(Refusal::PaymentPending.into());
    }
    let payment = Payment {
        id,
        invoice: invoice.id,
        status: PaymentStatus::Created,
        amount: invoice.total,
        method: method.to_owned(),
        provider_ref: None,
        action: None,
        mismatch: None,
        failure_code: None,
        created_at: now,
        succeeded_at: None,
        refunded: Money { amount_minor: 0, ..invoice.total },
    };
    store::insert_payment(tx, tenant, &payment).await?;
    Ok(payment)
}
