//! Invoices what a customer used on pay-as-you-go: at the end of a cycle, and without a plan at the end of the
//! calendar month (R-30, R-30a). A line a model and kind of token, each rounded once.
//!
//! It is collected when it is issued. Unpaid it stays open until somebody pays it, and is not tried again by itself: the
//! retries of R-22 are a renewal's, whose cycle ends with the last of them; usage is owed for good.

use std::collections::BTreeMap;

use db::{Connection, Result};
use domain::account::Account;
use domain::id::{CustomerId, InvoiceId, PurchaseId};
use domain::payg::Pico;
use domain::{Refusal, TenantScope};
use futures_util::{StreamExt, stream};
use invoices::{Line, LineKind};
use uuid::Uuid;

use crate::roll_over::{BATCH, COLLECTED_AT_ONCE};
use crate::sale::{self, NewSale, Sold};
use crate::store::payg::Accrued;
use crate::{Subscriptions, store};

impl Subscriptions {
    /// Invoices what is due of customers in whose lives no cycle runs, and collects it.
    pub(crate) async fn invoice_due_usage(&self, scope: &TenantScope) -> Result<()> {
        let tenant = scope.tenant;
        loop {
            let (found, invoices) = self
                .db
                .transaction(tenant, async |tx| {
                    let due = store::payg::customers_due(tx, tenant, scope.now, BATCH).await?;
                    let invoices = invoice_all(tx, scope, &due).await?;
                    Ok((due.len(), invoices))
                })
                .await?;
            stream::iter(invoices)
                .for_each_concurrent(COLLECTED_AT_ONCE, async |invoice| {
                    // Its job tries again.
                    if let Err(error) = self.collect_in_flight(scope, invoice).await {
                        tracing::warn!(%invoice, %error, "an invoice of usage was not collected yet");
                    }
                })
                .await;
            if found == 0 {
                return Ok(());
            }
        }
    }
}

async fn invoice_all(
    tx: &mut Connection,
    scope: &TenantScope,
    customers: &[CustomerId],
) -> Result<Vec<InvoiceId>> {
    let mut accounts = ledger::lock(tx, scope.tenant, customers).await?;
    let mut invoices = Vec::new();
    for customer in customers {
        let account = accounts.get_mut(*customer)?;
        // Somebody else may have invoiced it while this waited for the lock.
        if account.overflow().due_at.is_some_and(|due_at| due_at <= scope.now) {
            let method = store::sales::saved_method(tx, scope.tenant, *customer).await?;
            invoices.extend(invoice(tx, scope, account, method).await?);
        }
    }
    ledger::write(tx, scope.tenant, &accounts, scope.now).await?;
    Ok(invoices)
}

/// Invoices what is accrued on an account that the caller has locked, and writes. None where nothing is, or what there is
/// rounds to nothing: that is carried over.
pub(crate) async fn invoice(
    tx: &mut Connection,
    scope: &TenantScope,
    account: &mut Account,
    payment_method: Option<String>,
) -> Result<Option<InvoiceId>> {
    let (tenant, customer, overflow) = (scope.tenant, account.customer(), *account.overflow());
    if overflow.accrued.is_zero() {
        return Ok(None);
    }
    let accrued = store::payg::accrued(tx, tenant, customer).await?;
    let lines = lines(&accrued, overflow.currency)?;
    if lines.iter().all(|line| line.amount_minor == 0) {
        account.put_accrued_off(scope.zone.month_end(scope.now));
        return Ok(None);
    }
    let new = NewSale {
        id: PurchaseId::from_uuid(Uuid::now_v7()),
        customer,
        sold: Sold::Usage,
        currency: overflow.currency,
        lines,
        payment_method,
    };
    let opened = sale::open(tx, scope, new).await?;
    let total = store::payg::mark_invoiced(tx, tenant, customer, opened.invoice.id).await?;
    account.take_accrued(total);
    Ok(Some(opened.invoice.id))
}

/// A line a model and kind, in their order; what rounds to nothing is a line all the same.
fn lines(accrued: &[Accrued], currency: domain::Currency) -> std::result::Result<Vec<Line>, Refusal> {
    let mut sums: BTreeMap<(&str, &str), Pico> = BTreeMap::new();
    for part in accrued {
        let sum = sums.entry((&part.model, part.kind.name())).or_default();
        *sum = sum.plus(part.pico)?;
    }
    let line = |((model, kind), pico): ((&str, &str), Pico)| {
        Ok(Line {
            kind: LineKind::Usage,
            description: format!("Pay-as-you-go {model}, {kind}"),
            amount_minor: pico.round_to_minor(currency)?,
        })
    };
    sums.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Currency;
    use domain::usage::TokenKind;

    #[test]
    fn a_line_is_rounded_half_to_even_once_over_all_its_events() {
        let part = |model: &str, kind, pico| Accrued {
            model: model.to_owned(),
            kind,
            pico: Pico::new(pico).unwrap(),
        };
        let cent = 10_000_000_000;
        let accrued = [
            part("pro", TokenKind::Output, cent / 2),
            part("flash", TokenKind::Input, cent / 2),
            // Rounded apart, two quarters of a cent are nothing; together with a whole one they are 1.5 cents: 2.
            part("pro", TokenKind::Input, cent / 4),
            part("pro", TokenKind::Input, cent / 4),
            part("pro", TokenKind::Input, cent),
        ];
        let lines = lines(&accrued, Currency::Usd).unwrap();
        let lines: Vec<_> = lines.iter().map(|line| (line.description.as_str(), line.amount_minor)).collect();
        assert_eq!(
            lines,
            [
                ("Pay-as-you-go flash, input", 0),
                ("Pay-as-you-go pro, input", 2),
                ("Pay-as-you-go pro, output", 0)
            ]
        );
    }
}
