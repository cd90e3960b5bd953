//! Disputes, a row each.

use db::schema::disputes;
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::dispute::DisputeState;
use domain::id::{DisputeId, InvoiceId, PaymentId, TenantId};
use domain::{Credits, Timestamp};
use uuid::Uuid;

use super::money;
use crate::dispute::Dispute;

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = disputes, check_for_backend(diesel::pg::Pg))]
struct Row {
    tenant_id: Uuid,
    dispute_id: Uuid,
    provider_ref: String,
    payment_id: Uuid,
    invoice_id: Uuid,
    amount_minor: i64,
    currency: String,
    state: String,
    credits_revoked: i64,
    opened_at: Timestamp,
    closed_at: Option<Timestamp>,
}

impl TryFrom<Row> for Dispute {
    type Error = Error;

    fn try_from(row: Row) -> Result<Dispute> {
        let id = DisputeId::from_uuid(row.dispute_id);
        let broken = |what: &str| Error::broken(format!("{id} has an unknown {what}"));
        let state = DisputeState::ALL.into_iter().find(|state| state.name() == row.state);
        Ok(Dispute {
            id,
            payment: PaymentId::from_uuid(row.payment_id),
            invoice: InvoiceId::from_uuid(row.invoice_id),
            amount: money(row.amount_minor, &row.currency, id)?,
            state: state.ok_or_else(|| broken("state"))?,
            credits_revoked: Credits::new(row.credits_revoked).map_err(|_| broken("count of Credits"))?,
            opened_at: row.opened_at,
            closed_at: row.closed_at,
            provider_ref: row.provider_ref,
        })
    }
}

pub async fn insert_dispute(tx: &mut Connection, tenant: TenantId, dispute: &Dispute) -> Result<()> {
    let row = Row {
        tenant_id: tenant.uuid(),
        dispute_id: dispute.id.uuid(),
        provider_ref: dispute.provider_ref.clone(),
        payment_id: dispute.payment.uuid(),
        invoice_id: dispute.invoice.uuid(),
        amount_minor: dispute.amount.amount_minor,
        currency: dispute.amount.currency.code().to_owned(),
        state: dispute.state.name().to_owned(),
        credits_revoked: dispute.credits_revoked.get(),
        opened_at: dispute.opened_at,
        closed_at: dispute.closed_at,
    };
    diesel::insert_into(disputes::table).values(row).execute(tx).await?;
    Ok(())
}

/// Writes what can change of a dispute.
pub async fn update_dispute(tx: &mut Connection, tenant: TenantId, dispute: &Dispute) -> Result<()> {
    diesel::update(disputes::table.find((tenant.uuid(), dispute.id.uuid())))
        .set((
            disputes::state.eq(dispute.state.name()),
            disputes::credits_revoked.eq(dispute.credits_revoked.get()),
            disputes::closed_at.eq(dispute.closed_at),
        ))
        .execute(tx)
        .await?;
    Ok(())
}

/// By the provider's own id.
pub async fn lock_dispute(
    tx: &mut Connection,
    tenant: TenantId,
    provider_ref: &str,
) -> Result<Option<Dispute>> {
    disputes::table
        .filter(disputes::tenant_id.eq(tenant.uuid()))
        .filter(disputes::provider_ref.eq(provider_ref))
        .select(Row::as_select())
        .for_no_key_update()
        .first(tx)
        .await
        .optional()?
        .map(Dispute::try_from)
        .transpose()
}

/// Of an invoice, oldest first.
pub async fn disputes(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<Vec<Dispute>> {
    let rows: Vec<Row> = disputes::table
        .filter(disputes::tenant_id.eq(tenant.uuid()))
        .filter(disputes::invoice_id.eq(invoice.uuid()))
        .order(disputes::dispute_id)
        .select(Row::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(Dispute::try_from).collect()
}
