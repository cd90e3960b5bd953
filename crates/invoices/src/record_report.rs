//! Takes in what the provider says about a payment.

use db::{Connection, Result};
use domain::Timestamp;
use domain::id::{PaymentId, TenantId};
use domain::invoice::{InvoiceStatus, PaymentReport, PaymentStatus, payment_after};

use crate::{Invoice, Payment, store};

/// What the provider says.
#[derive(Debug, Clone)]
pub struct Report {
    pub report: PaymentReport,
    /// When that came to be, for a success.
    pub at: Timestamp,
    /// Why, for a failure.
    pub failure_code: Option<String>,
}

/// A payment before and after a report.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The status before; equal to `payment.status` where the report changed nothing.
    pub before: PaymentStatus,
    pub payment: Payment,
}

impl Recorded {
    /// What the payment has just become, if anything.
    pub fn became(&self) -> Option<PaymentStatus> {
        (self.payment.status != self.before).then_some(self.payment.status)
    }
}

/// Locks the payment and moves it on as far as the report can. `invoice` is the payment's, locked.
/// A success for an invoice that is no longer open is stored as `refunded`: the caller adds the refund.
pub async fn record_report(
    tx: &mut Connection,
    tenant: TenantId,
    invoice: &Invoice,
    payment: PaymentId,
    report: &Report,
) -> Result<Recorded> {
    let mut payment = store::lock_payment(tx, tenant, payment).await?;
    if payment.invoice != invoice.id {
        return Err(db::Error::broken(format!("{} is no payment of {}", payment.id, invoice.id)));
    }
    let before = payment.status;
    let after = match payment_after(before, report.report) {
        PaymentStatus::Succeeded if before != PaymentStatus::Succeeded => {
            payment.succeeded_at = Some(report.at);
            if invoice.status == InvoiceStatus::Open {
                PaymentStatus::Succeeded
            } else {
                PaymentStatus::Refunded
            }
        }
        after => after,
    };
    if after != before {
        payment.status = after;
        payment.failure_code = report.failure_code.clone().filter(|_| after == PaymentStatus::Failed);
        store::update_payment(tx, tenant, &payment).await?;
    }
    Ok(Recorded { before, payment })
}
