//! Credit notes and their lines.

use std::collections::BTreeMap;

use db::schema::{credit_note_lines, credit_notes, refunds};
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::Timestamp;
use domain::id::{CreditNoteId, InvoiceId, RefundId, TenantId};
use domain::numbering::CreditNoteNumber;
use domain::refund::RefundStatus;
use uuid::Uuid;

use super::money;
use crate::credit_note::{CreditLine, CreditLineKind, CreditNote};

#[derive(Queryable, Selectable)]
#[diesel(table_name = credit_notes, check_for_backend(diesel::pg::Pg))]
struct Row {
    credit_note_id: Uuid,
    number: i64,
    refund_id: Uuid,
    invoice_id: Uuid,
    currency: String,
    total_minor: i64,
    tax_minor: i64,
    tax_is_included: bool,
    created_at: Timestamp,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = credit_note_lines, check_for_backend(diesel::pg::Pg))]
struct LineRow {
    tenant_id: Uuid,
    credit_note_id: Uuid,
    position: i16,
    kind: String,
    description: String,
    amount_minor: i64,
}

impl TryFrom<LineRow> for CreditLine {
    type Error = Error;

    fn try_from(row: LineRow) -> Result<CreditLine> {
        let kind = CreditLineKind::ALL
            .into_iter()
            .find(|kind| kind.name() == row.kind)
            .ok_or_else(|| Error::broken(format!("a credit note has the unknown line {:?}", row.kind)))?;
        Ok(CreditLine { kind, description: row.description, amount_minor: row.amount_minor })
    }
}

/// Says which number the database has given it: the tenant's next one.
pub async fn insert_credit_note(
    tx: &mut Connection,
    tenant: TenantId,
    note: &CreditNote,
) -> Result<CreditNoteNumber> {
    let number: i64 = diesel::insert_into(credit_notes::table)
        .values((
            credit_notes::tenant_id.eq(tenant.uuid()),
            credit_notes::credit_note_id.eq(note.id.uuid()),
            credit_notes::refund_id.eq(note.refund.uuid()),
            credit_notes::invoice_id.eq(note.invoice.uuid()),
            credit_notes::currency.eq(note.total.currency.code()),
            credit_notes::total_minor.eq(note.total.amount_minor),
            credit_notes::tax_minor.eq(note.tax_minor),
            credit_notes::tax_is_included.eq(note.tax_is_included),
            credit_notes::created_at.eq(note.created_at),
        ))
        .returning(credit_notes::number)
        .get_result(tx)
        .await?;
    let rows: Vec<LineRow> = (0..)
        .zip(&note.lines)
        .map(|(position, line)| LineRow {
            tenant_id: tenant.uuid(),
            credit_note_id: note.id.uuid(),
            position,
            kind: line.kind.name().to_owned(),
            description: line.description.clone(),
            amount_minor: line.amount_minor,
        })
        .collect();
    diesel::insert_into(credit_note_lines::table).values(rows).execute(tx).await?;
    Ok(CreditNoteNumber(number))
}

/// What the credit notes of an invoice come to, but for those whose refund has failed since.
pub async fn credited_minor(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<i64> {
    let totals: Vec<i64> = credit_notes::table
        .inner_join(
            refunds::table.on(refunds::tenant_id
                .eq(credit_notes::tenant_id)
                .and(refunds::refund_id.eq(credit_notes::refund_id))),
        )
        .filter(refunds::status.ne(RefundStatus::Failed.name()))
        .filter(credit_notes::tenant_id.eq(tenant.uuid()))
        .filter(credit_notes::invoice_id.eq(invoice.uuid()))
        .select(credit_notes::total_minor)
        .load(tx)
        .await?;
    totals
        .into_iter()
        .try_fold(0_i64, i64::checked_add)
        .ok_or_else(|| Error::broken(format!("the credit notes of {invoice} are over more than there is")))
}

/// Of an invoice, oldest first.
pub async fn credit_notes(
    tx: &mut Connection,
    tenant: TenantId,
    invoice: InvoiceId,
) -> Result<Vec<CreditNote>> {
    let rows: Vec<Row> = credit_notes::table
        .filter(credit_notes::tenant_id.eq(tenant.uuid()))
        .filter(credit_notes::invoice_id.eq(invoice.uuid()))
        .order(credit_notes::number)
        .select(Row::as_select())
        .load(tx)
        .await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.credit_note_id).collect();
    let line_rows: Vec<LineRow> = credit_note_lines::table
        .filter(credit_note_lines::tenant_id.eq(tenant.uuid()))
        .filter(credit_note_lines::credit_note_id.eq_any(ids))
        .order((credit_note_lines::credit_note_id, credit_note_lines::position))
        .select(LineRow::as_select())
        .load(tx)
        .await?;
    let mut lines: BTreeMap<Uuid, Vec<CreditLine>> = BTreeMap::new();
    for row in line_rows {
        lines.entry(row.credit_note_id).or_default().push(row.try_into()?);
    }
    let mut notes = Vec::new();
    for row in rows {
        let id = CreditNoteId::from_uuid(row.credit_note_id);
        notes.push(CreditNote {
            id,
            number: CreditNoteNumber(row.number),
            refund: RefundId::from_uuid(row.refund_id),
            invoice: InvoiceId::from_uuid(row.invoice_id),
            total: money(row.total_minor, &row.currency, id)?,
            tax_minor: row.tax_minor,
            tax_is_included: row.tax_is_included,
            lines: lines.remove(&row.credit_note_id).unwrap_or_default(),
            created_at: row.created_at,
        });
    }
    Ok(notes)
}
