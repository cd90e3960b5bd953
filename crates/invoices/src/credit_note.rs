//! What a refund of a paid invoice is written down as, once the money has gone back.

use db::{Connection, Error, Result};
use domain::id::{CreditNoteId, InvoiceId, RefundId, TenantId};
use domain::numbering::CreditNoteNumber;
use domain::{Money, Timestamp};
use uuid::Uuid;

use crate::{Invoice, Refund, store};

/// What a line of a credit note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreditLineKind {
    /// What is given back.
    Refund,
    /// Its share of the invoice's tax.
    Tax,
}

impl CreditLineKind {
    pub const ALL: [CreditLineKind; 2] = [CreditLineKind::Refund, CreditLineKind::Tax];

    pub fn name(self) -> &'static str {
        match self {
            CreditLineKind::Refund => "refund",
            CreditLineKind::Tax => "tax",
        }
    }
}

/// A line of a credit note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditLine {
    pub kind: CreditLineKind,
    pub description: String,
    /// In the invoice's currency; what goes back is above zero.
    pub amount_minor: i64,
}

/// A credit note with its lines in order. Written once and final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditNote {
    pub id: CreditNoteId,
    /// Of its tenant, without a hole.
    pub number: CreditNoteNumber,
    pub refund: RefundId,
    pub invoice: InvoiceId,
    /// The refund's amount: the sum of the lines, without the tax where they contain it.
    pub total: Money,
    /// The tax in the total.
    pub tax_minor: i64,
    /// Whether the other line contains the tax, as its invoice's do.
    pub tax_is_included: bool,
    pub lines: Vec<CreditLine>,
    pub created_at: Timestamp,
}

/// Writes the credit note of a refund that has succeeded, with its share of the invoice's tax: all notes
/// of a whole invoice have exactly its tax. The caller holds the payment's lock, and then the tenant's
/// counter until its end.
pub async fn issue_credit_note(
    tx: &mut Connection,
    tenant: TenantId,
    refund: &Refund,
    now: Timestamp,
) -> Result<CreditNote> {
    let invoice = store::invoice(tx, tenant, refund.invoice).await?;
    let before_minor = store::credited_minor(tx, tenant, invoice.id).await?;
    let mut note = note(&invoice, refund, before_minor, now)?;
    note.number = store::insert_credit_note(tx, tenant, &note).await?;
    Ok(note)
}

fn note(invoice: &Invoice, refund: &Refund, before_minor: i64, now: Timestamp) -> Result<CreditNote> {
    let (total, tax) = (refund.amount, invoice.tax);
    if total.currency != invoice.total.currency {
        return Err(Error::broken(format!("{} is in another currency than {}", refund.id, invoice.id)));
    }
    let tax_minor = tax.of_refund(invoice.total.amount_minor, before_minor, total.amount_minor);
    let description = match &refund.reason {
        Some(reason) => format!("Refund of {}: {reason}", invoice.number),
        None => format!("Refund of {}", invoice.number),
    };
    let amount_minor = if tax.is_included { total.amount_minor } else { total.amount_minor - tax_minor };
    let mut lines = vec![CreditLine { kind: CreditLineKind::Refund, description, amount_minor }];
    if tax.rate_bps > 0 {
        let description = if tax.is_included { "Tax, included" } else { "Tax" }.to_owned();
        lines.push(CreditLine { kind: CreditLineKind::Tax, description, amount_minor: tax_minor });
    }
    Ok(CreditNote {
        id: CreditNoteId::from_uuid(Uuid::now_v7()),
        // The database says which, as it inserts the row.
        number: CreditNoteNumber(0),
        refund: refund.id,
        invoice: invoice.id,
        total,
        tax_minor,
        tax_is_included: tax.is_included,
        lines,
        created_at: now,
    })
}
