//! What becomes of an invoice, and of a payment that paid for nothing.

use db::{Connection, Error, Result};
use domain::Timestamp;
use domain::id::{InvoiceId, PaymentId, TenantId};
use domain::invoice::{InvoiceStatus, PaymentStatus};

use crate::store;

/// Marks an open invoice as paid at `at`. The caller holds its lock and has seen it open.
pub async fn mark_paid(
    tx: &mut Connection,
    tenant: TenantId,
    invoice: InvoiceId,
    at: Timestamp,
) -> Result<()> {
    let changed = store::close_invoice(tx, tenant, invoice, InvoiceStatus::Paid, Some(at)).await?;
    if changed { Ok(()) } else { Err(Error::broken(format!("{invoice} was paid without being open"))) }
}

/// Makes an open invoice void: what it is for has ended. One that is void or paid stays so.
pub async fn void(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<()> {
    store::close_invoice(tx, tenant, invoice, InvoiceStatus::Void, None).await?;
    Ok(())
}

/// Marks a payment that succeeded as given back (R-10a, R-14b). The caller adds the refund itself in
/// the same transaction.
pub async fn mark_refunded(tx: &mut Connection, tenant: TenantId, payment: PaymentId) -> Result<()> {
    let mut payment = store::lock_payment(tx, tenant, payment).await?;
    match payment.status {
        PaymentStatus::Refunded => Ok(()),
        PaymentStatus::Succeeded => {
            payment.status = PaymentStatus::Refunded;
            store::update_payment(tx, tenant, &payment).await
        }
        PaymentStatus::Created
        | PaymentStatus::RequiresAction
        | PaymentStatus::Pending
        | PaymentStatus::Failed
        | PaymentStatus::Canceled => {
            Err(Error::broken(format!("{} was refunded without having succeeded", payment.id)))
        }
    }
}
