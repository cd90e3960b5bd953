//! Voided events.

use db::schema::usage_voids;
use db::{Connection, Result};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::id::{ApiKeyId, TenantId};
use domain::{Credits, Timestamp};
use uuid::Uuid;

use crate::read_event::RecordedEvent;
use crate::void::EventVoid;

/// Stores that an event was voided: once.
pub(crate) async fn insert_void(
    tx: &mut Connection,
    tenant: TenantId,
    identity: Uuid,
    event: &RecordedEvent,
    void: &EventVoid,
) -> Result<()> {
    diesel::insert_into(usage_voids::table)
        .values((
            usage_voids::tenant_id.eq(tenant.uuid()),
            usage_voids::identity.eq(identity),
            usage_voids::customer_id.eq(event.customer.uuid()),
            usage_voids::event_time.eq(event.event_time),
            usage_voids::voided_at.eq(void.at),
            usage_voids::reason.eq(&void.reason),
            usage_voids::voided_by.eq(void.by.map(ApiKeyId::uuid)),
            usage_voids::credits.eq(event.receipt.credits.get()),
            usage_voids::overage.eq(event.receipt.overage.get()),
            usage_voids::spendable.eq(void.spendable.get()),
            usage_voids::balance_after.eq(void.balance_after.get()),
            usage_voids::account_version.eq(void.version),
        ))
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn void_of(
    tx: &mut Connection,
    tenant: TenantId,
    identity: Uuid,
) -> Result<Option<EventVoid>> {
    type Row = (Timestamp, String, Option<Uuid>, i64, i64, i64);
    let row: Option<Row> = usage_voids::table
        .find((tenant.uuid(), identity))
        .select((
            usage_voids::voided_at,
            usage_voids::reason,
            usage_voids::voided_by,
            usage_voids::spendable,
            usage_voids::balance_after,
            usage_voids::account_version,
        ))
        .first(tx)
        .await
        .optional()?;
    row.map(|(at, reason, by, spendable, balance_after, version)| {
        let by = by.map(ApiKeyId::from_uuid);
        let (spendable, balance_after) = (Credits::new(spendable)?, Credits::new(balance_after)?);
        Ok(EventVoid { at, reason, by, spendable, balance_after, version })
    })
    .transpose()
}
