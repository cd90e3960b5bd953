//! Takes in what the provider says about the payment of something that was bought without a subscription: the
//! other half of `apply_payment`, under the lock of the customer's credit account.

use db::{Connection, Result};
use domain::TenantScope;
use domain::id::{InvoiceId, PaymentId};
use domain::invoice::PaymentStatus;
use payments::Collected;

use crate::apply_payment::{Applied, give_back};
use crate::auto_top_up::blocked_until;
use crate::event::About;
use crate::{effect, event, provider_report, sale, store};

pub(crate) async fn apply_to_sale(
    tx: &mut Connection,
    scope: &TenantScope,
    invoice: InvoiceId,
    payment: PaymentId,
    collected: &Collected,
) -> Result<Applied> {
    let tenant = scope.tenant;
    let customer = store::sales::of_invoice(tx, tenant, invoice).await?.customer;
    let mut accounts = ledger::lock(tx, tenant, &[customer]).await?;
    let invoice = invoices::lock(tx, tenant, invoice).await?;
    let mut sale = store::sales::of_invoice(tx, tenant, invoice.id).await?;
    let at = effect::success_instant(collected.at, sale.created_at, scope.now);
    let report = provider_report::read(tx, scope, payment, collected, at).await?;
    let recorded = invoices::record_report(tx, tenant, &invoice, payment, &report).await?;
    let became = recorded.became();
    let mut status = recorded.payment.status;
    if recorded.is_new_mismatch
        && let Some(parked) = provider_report::park(tx, scope, customer, &recorded.payment).await?
    {
        accounts = parked;
    }
    let payment = recorded.payment;
    let about = About::Customer(customer);
    match became {
        None | Some(PaymentStatus::Created) => {}
        Some(PaymentStatus::RequiresAction) => {
            about.emit(tx, scope, event::PAYMENT_REQUIRES_ACTION, event::payment(&payment)).await?;
        }
        Some(PaymentStatus::Pending) => {
            about.emit(tx, scope, event::PAYMENT_PENDING, event::payment(&payment)).await?;
        }
        Some(PaymentStatus::Succeeded) if sale.is_pending() => {
            sale::take(tx, scope, &mut sale, accounts.get_mut(customer)?, report.at).await?;
            ledger::write(tx, tenant, &accounts, scope.now).await?;
        }
        Some(PaymentStatus::Succeeded) => {
            status = PaymentStatus::Refunded;
            invoices::mark_refunded(tx, tenant, payment.id).await?;
            give_back(tx, scope, about, &payment).await?;
        }
        Some(PaymentStatus::Refunded) => give_back(tx, scope, about, &payment).await?,
        Some(PaymentStatus::Failed) => {
            about.emit(tx, scope, event::PAYMENT_FAILED, event::payment(&payment)).await?;
            // Nobody is there to pay it another way: it is tried again later, if it may.
            if sale.is_pending() && sale.is_automatic() {
                sale::end(tx, scope, &mut sale, "payment-failed").await?;
                let until = blocked_until(tx, scope, customer).await?;
                accounts.get_mut(customer)?.block_top_ups(until);
                ledger::write(tx, tenant, &accounts, scope.now).await?;
            }
        }
        Some(PaymentStatus::Canceled) => {
            about.emit(tx, scope, event::PAYMENT_CANCELED, event::payment(&payment)).await?;
        }
    }
    Ok(Applied { status, accounts })
}
