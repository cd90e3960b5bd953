//! Writes an invoice with its lines.

use db::{Connection, Result};
use domain::id::{CustomerId, InvoiceId, TenantId};
use domain::invoice::InvoiceStatus;
use domain::numbering::InvoiceNumber;
use domain::{Currency, Money, Refusal, Timestamp};
use uuid::Uuid;

use crate::{Invoice, Line, LineKind, store};

/// An invoice to be issued.
#[derive(Debug, Clone)]
pub struct NewInvoice {
    pub customer: CustomerId,
    pub currency: Currency,
    pub lines: Vec<Line>,
}

/// Issues an open invoice over the sum of its lines, with the tenant's tax as a line more and its next
/// number; refused with `amount-overflow` where the sum is negative or too large. One over nothing needs
/// no payment: the caller marks it paid. Whoever issues holds the tenant's counter until its end.
pub async fn issue(
    tx: &mut Connection,
    tenant: TenantId,
    mut new: NewInvoice,
    now: Timestamp,
) -> Result<Invoice> {
    let sum = sum(&new)?;
    let tax = store::policies(tx, tenant).await?.tax;
    let taxed = tax.on(sum.amount_minor)?;
    if taxed.rate_bps > 0 {
        let (kind, description) = (LineKind::Tax, tax.description());
        new.lines.push(Line { kind, description, amount_minor: taxed.amount_minor });
    }
    let mut invoice = Invoice {
        id: InvoiceId::from_uuid(Uuid::now_v7()),
        // The database says which, as it inserts the row.
        number: InvoiceNumber(0),
        customer: new.customer,
        status: InvoiceStatus::Open,
        total: taxed.total(sum)?,
        tax: taxed,
        created_at: now,
        paid_at: None,
    };
    invoice.number = store::insert_invoice(tx, tenant, &invoice, &new.lines).await?;
    Ok(invoice)
}

fn sum(new: &NewInvoice) -> std::result::Result<Money, Refusal> {
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
    fn the_sum_of_the_lines_is_never_negative() {
        assert_eq!(sum(&invoice(&[1_600, -1_408])), Money::new(192, Currency::Usd));
        assert_eq!(sum(&invoice(&[600, -600])), Money::new(0, Currency::Usd));
        assert_eq!(sum(&invoice(&[600, -601])), Err(Refusal::AmountOverflow));
        assert_eq!(sum(&invoice(&[i64::MAX, 1])), Err(Refusal::AmountOverflow));
    }
}
