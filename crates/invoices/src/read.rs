//! Looks at invoices and payments inside the caller's transaction.

use db::{Connection, Result};
use domain::Timestamp;
use domain::id::{CustomerId, InvoiceId, PaymentId, TenantId};

use crate::{Invoice, InvoiceView, Payment, store};

/// An invoice, locked until the transaction ends; `not-found` where there is none.
pub async fn lock(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<Invoice> {
    store::lock_invoice(tx, tenant, invoice).await
}

/// An invoice as it stands, unlocked and without its lines; `not-found` where there is none.
pub async fn find(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<Invoice> {
    store::invoice(tx, tenant, invoice).await
}

/// The payment that has paid an invoice, locked until the transaction ends.
pub async fn lock_paying(
    tx: &mut Connection,
    tenant: TenantId,
    invoice: InvoiceId,
) -> Result<Option<Payment>> {
    store::lock_paying(tx, tenant, invoice).await
}

/// A payment as it stands, unlocked; `not-found` where there is none.
pub async fn payment(tx: &mut Connection, tenant: TenantId, payment: PaymentId) -> Result<Payment> {
    store::payment(tx, tenant, payment).await
}

/// The payment that the provider calls `provider_ref`, if any.
pub async fn payment_by_provider_ref(
    tx: &mut Connection,
    tenant: TenantId,
    provider_ref: &str,
) -> Result<Option<Payment>> {
    store::payment_by_provider_ref(tx, tenant, provider_ref).await
}

/// The payment of an invoice that the provider may still take money for.
pub async fn in_flight(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<Option<Payment>> {
    store::in_flight(tx, tenant, invoice).await
}

/// Payments that were stored by `now` and that the provider may not have heard of, `limit` of those after
/// `after`.
pub async fn uncollected(
    tx: &mut Connection,
    tenant: TenantId,
    now: Timestamp,
    after: Option<PaymentId>,
    limit: u32,
) -> Result<Vec<Payment>> {
    store::uncollected(tx, tenant, now, after, limit).await
}

/// An invoice with its lines and payments; `not-found` where there is none.
pub async fn read(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<InvoiceView> {
    let invoice = store::invoice(tx, tenant, invoice).await?;
    let lines = store::lines(tx, tenant, invoice.id).await?;
    let payments = store::payments(tx, tenant, invoice.id).await?;
    let refunds = store::refunds(tx, tenant, invoice.id).await?;
    let disputes = store::disputes(tx, tenant, invoice.id).await?;
    let credit_notes = store::credit_notes(tx, tenant, invoice.id).await?;
    Ok(InvoiceView { invoice, lines, payments, refunds, disputes, credit_notes })
}

/// A customer's invoices from the oldest, `limit` of those after `after`.
pub async fn of_customer(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    after: Option<InvoiceId>,
    limit: u32,
) -> Result<Vec<Invoice>> {
    store::of_customer(tx, tenant, customer, after, limit).await
}
