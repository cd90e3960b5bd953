//! Writes an invoice with its lines.

use db::{Connection, Result};
use domain::id::{CustomerId, InvoiceId, TenantId};
use domain::invoice::InvoiceStatus;
use domain::{Currency, Money, Refusal, Timestamp};
use uuid::Uuid;

use crate::{Invoice, Line, store};

/// An invoice to be issued.
#[derive(Debug, Clone)]
pub struct NewInvoice {
    pub customer: CustomerId,
    pub currency: Currency,
    pub lines: Vec<Line>,
}

/// Issues an open invoice over the sum of its lines; refused with `amount-overflow` where that is
/// negative or too large. One over nothing needs no payment: the caller marks it paid.
pub async fn issue(
    tx: &mut Connection,
    tenant: TenantId,
    new: NewInvoice,
    now: Timestamp,
) -> Result<Invoice> {
    let invoice = Invoice {
        id: InvoiceId::from_uuid(Uuid::now_v7()),
        customer: new.customer,
        status: InvoiceStatus::Open,
        total: total(&new)?,
        created_at: now,
        paid_at: None,
    };
    store::insert_invoice(tx, tenant, &invoice, &new.lines).await?;
    Ok(invoice)
}

fn total(new: &NewInvoice) -> std::result::Result<Money, Refusal> {
    let sum = new
        .lines
        .iter()
        .try_fold(0_i64, |sum, line| sum.checked_add(line.amount_minor))
        .ok_or(Refusal::AmountOverflow)?;
    Money::new(sum, new.currency)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LineKind;

    fn invoice(amounts_minor: &[i64]) -> NewInvoice {
        NewInvoice {
            customer: CustomerId::from_uuid(Uuid::from_u128(1)),
            currency: Currency::Usd,
            lines: amounts_minor
                .iter()
                .map(|&amount_minor| Line {
                    kind: LineKind::Plan,
                    description: "a plan".to_owned(),
                    amount_minor,
                })
                .collect(),
        }
    }

    #[test]
    fn the_total_is_the_sum_and_never_negative() {
        assert_eq!(total(&invoice(&[1_600, -1_408])), Money::new(192, Currency::Usd));
        assert_eq!(total(&invoice(&[600, -600])), Money::new(0, Currency::Usd));
        assert_eq!(total(&invoice(&[600, -601])), Err(Refusal::AmountOverflow));
        assert_eq!(total(&invoice(&[i64::MAX, 1])), Err(Refusal::AmountOverflow));
    }
}
