//! Refunds, a row each.

use db::schema::refunds;
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::id::{InvoiceId, PaymentId, RefundId, TenantId};
use domain::refund::{RefundOrigin, RefundStatus};
use domain::{Credits, Refusal, Timestamp};
use uuid::Uuid;

use super::money;
use crate::refund::Refund;

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = refunds, check_for_backend(diesel::pg::Pg))]
struct Row {
    tenant_id: Uuid,
    refund_id: Uuid,
    payment_id: Uuid,
    invoice_id: Uuid,
    amount_minor: i64,
    currency: String,
    status: String,
    origin: String,
    reason: Option<String>,
    failure_code: Option<String>,
    credits_revoked: i64,
    credits_short: i64,
    created_at: Timestamp,
    settled_at: Option<Timestamp>,
    provider_ref: Option<String>,
}

impl TryFrom<Row> for Refund {
    type Error = Error;

    fn try_from(row: Row) -> Result<Refund> {
        let id = RefundId::from_uuid(row.refund_id);
        let broken = |what: &str| Error::broken(format!("{id} has an unknown {what}"));
        let credits = |count| Credits::new(count).map_err(|_| broken("count of Credits"));
        let status = RefundStatus::ALL.into_iter().find(|status| status.name() == row.status);
        let origin = RefundOrigin::ALL.into_iter().find(|origin| origin.name() == row.origin);
        Ok(Refund {
            id,
            payment: PaymentId::from_uuid(row.payment_id),
            invoice: InvoiceId::from_uuid(row.invoice_id),
            amount: money(row.amount_minor, &row.currency, id)?,
            status: status.ok_or_else(|| broken("status"))?,
            origin: origin.ok_or_else(|| broken("origin"))?,
            reason: row.reason,
            failure_code: row.failure_code,
            credits_revoked: credits(row.credits_revoked)?,
            credits_short: credits(row.credits_short)?,
            created_at: row.created_at,
            settled_at: row.settled_at,
            provider_ref: row.provider_ref,
        })
    }
}

pub async fn insert_refund(tx: &mut Connection, tenant: TenantId, refund: &Refund) -> Result<()> {
    let row = Row {
        tenant_id: tenant.uuid(),
        refund_id: refund.id.uuid(),
        payment_id: refund.payment.uuid(),
        invoice_id: refund.invoice.uuid(),
        amount_minor: refund.amount.amount_minor,
        currency: refund.amount.currency.code().to_owned(),
        status: refund.status.name().to_owned(),
        origin: refund.origin.name().to_owned(),
        reason: refund.reason.clone(),
        failure_code: refund.failure_code.clone(),
        credits_revoked: refund.credits_revoked.get(),
        credits_short: refund.credits_short.get(),
        created_at: refund.created_at,
        settled_at: refund.settled_at,
        provider_ref: refund.provider_ref.clone(),
    };
    diesel::insert_into(refunds::table).values(row).execute(tx).await?;
    Ok(())
}

pub async fn refund(tx: &mut Connection, tenant: TenantId, refund: RefundId) -> Result<Refund> {
    refunds::table
        .find((tenant.uuid(), refund.uuid()))
        .select(Row::as_select())
        .first(tx)
        .await
        .optional()?
        .ok_or(Refusal::NotFound { what: "refund" })?
        .try_into()
}

pub async fn lock_refund(tx: &mut Connection, tenant: TenantId, refund: RefundId) -> Result<Refund> {
    refunds::table
        .find((tenant.uuid(), refund.uuid()))
        .select(Row::as_select())
        .for_no_key_update()
        .first(tx)
        .await
        .optional()?
        .ok_or(Refusal::NotFound { what: "refund" })?
        .try_into()
}

/// Of a payment, by the provider's own id or by ours, locked.
pub async fn refund_told_of(
    tx: &mut Connection,
    tenant: TenantId,
    payment: PaymentId,
    ours: Option<RefundId>,
    provider_ref: &str,
) -> Result<Option<Refund>> {
    refunds::table
        .filter(refunds::tenant_id.eq(tenant.uuid()))
        .filter(refunds::payment_id.eq(payment.uuid()))
        .filter(
            refunds::provider_ref
                .eq(provider_ref)
                .or(refunds::refund_id.eq(ours.map_or(Uuid::nil(), |ours| ours.uuid()))),
        )
        .select(Row::as_select())
        .for_no_key_update()
        .first(tx)
        .await
        .optional()?
        .map(Refund::try_from)
        .transpose()
}

/// Of an invoice, oldest first.
pub async fn refunds(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<Vec<Refund>> {
    let rows: Vec<Row> = refunds::table
        .filter(refunds::tenant_id.eq(tenant.uuid()))
        .filter(refunds::invoice_id.eq(invoice.uuid()))
        .order(refunds::refund_id)
        .select(Row::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(Refund::try_from).collect()
}

/// Writes what can change of a refund.
pub async fn update_refund(tx: &mut Connection, tenant: TenantId, refund: &Refund) -> Result<()> {
    diesel::update(refunds::table.find((tenant.uuid(), refund.id.uuid())))
        .set((
            refunds::status.eq(refund.status.name()),
            refunds::failure_code.eq(&refund.failure_code),
            refunds::settled_at.eq(refund.settled_at),
            refunds::credits_revoked.eq(refund.credits_revoked.get()),
            refunds::credits_short.eq(refund.credits_short.get()),
        ))
        .execute(tx)
        .await?;
    Ok(())
}
