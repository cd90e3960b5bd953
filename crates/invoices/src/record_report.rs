//! Takes in what the provider says about a payment.

use db::{Connection, Result};
use domain::Timestamp;
use domain::id::{PaymentId, TenantId};
use domain::invoice::{InvoiceStatus, PaymentReport, PaymentStatus, payment_after};

use crate::{Action, Invoice, Mismatch, Payment, store};

/// What the provider says.
#[derive(Debug, Clone)]
pub struct Report {
    pub report: PaymentReport,
    /// When that came to be, for a success.
    pub at: Timestamp,
    /// Why, for a failure.
    pub failure_code: Option<String>,
    /// The provider's own id of the payment.
    pub provider_ref: Option<String>,
    /// What the customer has to do, where it is the customer's turn.
    pub action: Option<Action>,
    /// What the provider took, where that is not the payment's amount.
    pub mismatch: Option<Mismatch>,
}

/// A payment before and after a report.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The status before; equal to `payment.status` where the report changed nothing.
    pub before: PaymentStatus,
    pub payment: Payment,
    /// Whether this report was the first to tell of another amount.
    pub is_new_mismatch: bool,
}

impl Recorded {
    /// What the payment has just become, if anything.
    pub fn became(&self) -> Option<PaymentStatus> {
        (self.payment.status != self.before).then_some(self.payment.status)
    }
}

/// Locks the payment and moves it on as far as the report can. `invoice` is the payment's, locked.
/// A success for an invoice that is no longer open is stored as `refunded`: the caller adds the refund.
/// A success over another amount moves nothing: it is kept as the payment's mismatch.
pub async fn record_report(
    tx: &mut Connection,
    tenant: TenantId,
    invoice: &Invoice,
    payment: PaymentId,
    report: &Report,
) -> Result<Recorded> {
    let known = store::lock_payment(tx, tenant, payment).await?;
    if known.invoice != invoice.id {
        return Err(db::Error::broken(format!("{} is no payment of {}", known.id, invoice.id)));
    }
    let payment = reported(&known, invoice.status, report);
    if payment != known {
        store::update_payment(tx, tenant, &payment).await?;
    }
    let is_new_mismatch = known.mismatch.is_none() && payment.mismatch.is_some();
    Ok(Recorded { before: known.status, payment, is_new_mismatch })
}

/// The payment after a report.
fn reported(known: &Payment, invoice: InvoiceStatus, report: &Report) -> Payment {
    let mut payment = known.clone();
    payment.provider_ref = known.provider_ref.clone().or_else(|| report.provider_ref.clone());
    let has_paid = matches!(known.status, PaymentStatus::Succeeded | PaymentStatus::Refunded);
    if let (false, Some(mismatch)) = (has_paid, &report.mismatch) {
        payment.mismatch.get_or_insert_with(|| mismatch.clone());
        return payment;
    }
    payment.status = match payment_after(known.status, report.report) {
        PaymentStatus::Succeeded if !has_paid => {
            payment.succeeded_at = Some(report.at);
            payment.mismatch = None;
            if invoice == InvoiceStatus::Open { PaymentStatus::Succeeded } else { PaymentStatus::Refunded }
        }
        after => after,
    };
    if payment.status != known.status {
        payment.failure_code =
            report.failure_code.clone().filter(|_| payment.status == PaymentStatus::Failed);
    }
    payment.action = report.action.clone().or(payment.action);
    payment.action = payment.action.filter(|_| payment.status == PaymentStatus::RequiresAction);
    payment
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::InvoiceId;
    use domain::{Currency, Money};
    use uuid::Uuid;

    fn at(text: &str) -> Timestamp {
        domain::time::parse_rfc3339(text).unwrap()
    }

    fn payment(status: PaymentStatus) -> Payment {
        Payment {
            id: PaymentId::from_uuid(Uuid::from_u128(1)),
            invoice: InvoiceId::from_uuid(Uuid::from_u128(2)),
            status,
            amount: Money::new(192, Currency::Usd).unwrap(),
            method: "pm_1".to_owned(),
            provider_ref: None,
            action: None,
            mismatch: None,
            failure_code: None,
            created_at: at("2026-01-31T10:00:00Z"),
            succeeded_at: None,
            refunded: Money::new(0, Currency::Usd).unwrap(),
        }
    }

    fn report(report: PaymentReport) -> Report {
        Report {
            report,
            at: at("2026-01-31T10:00:05Z"),
            failure_code: None,
            provider_ref: Some("pi_1".to_owned()),
            action: None,
            mismatch: None,
        }
    }

    fn another_amount() -> Report {
        let mismatch = Some(Mismatch { amount_minor: 191, currency: "USD".to_owned() });
        Report { mismatch, ..report(PaymentReport::Succeeded) }
    }

    #[test]
    fn an_action_stays_as_long_as_it_is_the_customers_turn() {
        let action = Some(Action { client_secret: Some("s".to_owned()), redirect_url: None });
        let asked = Report { action: action.clone(), ..report(PaymentReport::RequiresAction) };
        let waiting = reported(&payment(PaymentStatus::Created), InvoiceStatus::Open, &asked);
        assert_eq!((waiting.status, &waiting.action), (PaymentStatus::RequiresAction, &action));
        assert_eq!(waiting.provider_ref.as_deref(), Some("pi_1"));
        // A webhook tells the same without the secret.
        let again = report(PaymentReport::RequiresAction);
        assert_eq!(reported(&waiting, InvoiceStatus::Open, &again), waiting);
        let paid = reported(&waiting, InvoiceStatus::Open, &report(PaymentReport::Succeeded));
        assert_eq!((paid.status, paid.action), (PaymentStatus::Succeeded, None));
    }

    #[test]
    fn another_amount_pays_nothing_whatever_the_state_and_the_right_one_still_does() {
        for status in [
            PaymentStatus::Created,
            PaymentStatus::RequiresAction,
            PaymentStatus::Pending,
            PaymentStatus::Failed,
            PaymentStatus::Canceled,
        ] {
            let parked = reported(&payment(status), InvoiceStatus::Open, &another_amount());
            assert_eq!((parked.status, parked.succeeded_at), (status, None));
            assert_eq!(parked.mismatch, another_amount().mismatch);
            assert_eq!(reported(&parked, InvoiceStatus::Open, &another_amount()), parked);
            let paid = reported(&parked, InvoiceStatus::Open, &report(PaymentReport::Succeeded));
            assert_eq!((paid.status, paid.mismatch), (PaymentStatus::Succeeded, None));
        }
    }

    #[test]
    fn what_was_paid_is_not_parked_by_a_later_report() {
        let paid = reported(
            &payment(PaymentStatus::Pending),
            InvoiceStatus::Open,
            &report(PaymentReport::Succeeded),
        );
        assert_eq!(reported(&paid, InvoiceStatus::Paid, &another_amount()), paid);
    }

    #[test]
    fn a_success_for_what_is_no_longer_open_goes_back() {
        let paid = reported(
            &payment(PaymentStatus::Pending),
            InvoiceStatus::Void,
            &report(PaymentReport::Succeeded),
        );
        assert_eq!(paid.status, PaymentStatus::Refunded);
    }
}
