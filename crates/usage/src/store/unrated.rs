//! Events that wait for a charge: without a rate, or of an account that is parked.

use db::schema::{usage_events, usage_voids};
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel::sql_types::Uuid as SqlUuid;
use diesel_async::RunQueryDsl;
use domain::Timestamp;
use domain::id::{CustomerId, TenantId};
use domain::rating::Unrated;
use serde_json::Value;
use uuid::Uuid;

use super::{calls, external_id, optional_id, token_counts};
use crate::UnratedEvent;
use crate::charge_kept::{KeptEvent, WhyKept};

/// A customer's events that were kept for one of the two, locked, in the order of their times.
pub(crate) async fn kept_events(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    why: WhyKept,
    limit: i64,
) -> Result<Vec<KeptEvent>> {
    let parked = Unrated::AccountParked.code();
    let of_customer = usage_events::table
        .filter(usage_events::tenant_id.eq(tenant.uuid()))
        .filter(usage_events::customer_id.eq(customer.uuid()))
        .filter(not_voided!())
        .order((usage_events::event_time, usage_events::identity))
        .limit(limit)
        .for_update()
        .select(KeptRow::as_select());
    let rows: Vec<KeptRow> = match why {
        WhyKept::Parked => of_customer.filter(usage_events::unrated_reason.eq(parked)).load(tx).await?,
        WhyKept::NoRate { latest_version } => {
            let latest = i32::try_from(latest_version).map_err(|_| Error::broken("a catalogue's version"))?;
            of_customer
                .filter(usage_events::unrated_reason.ne(parked))
                .filter(usage_events::tried_version.lt(latest))
                .load(tx)
                .await?
        }
    };
    rows.into_iter().map(KeptEvent::try_from).collect()
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = usage_events)]
struct KeptRow {
    identity: Uuid,
    model: String,
    input_tokens: i64,
    cache_read_tokens: i64,
    cache_write_tokens: i64,
    output_tokens: i64,
    reasoning_tokens: i64,
    event_time: Timestamp,
    recorded_at: Timestamp,
    hold_id: Option<String>,
    hold_reason: Option<String>,
    api_key: Option<String>,
    calls: Option<Value>,
}

impl TryFrom<KeptRow> for KeptEvent {
    type Error = Error;

    fn try_from(row: KeptRow) -> Result<Self> {
        let captured = row.hold_id.filter(|_| row.hold_reason.is_none());
        Ok(KeptEvent {
            identity: row.identity,
            model: external_id(row.model)?,
            usage: token_counts([
                row.input_tokens,
                row.cache_read_tokens,
                row.cache_write_tokens,
                row.output_tokens,
                row.reasoning_tokens,
            ])?,
            calls: calls::used(row.calls)?,
            event_time: row.event_time,
            received_at: row.recorded_at,
            captured: optional_id(captured)?,
            api_key: optional_id(row.api_key)?,
        })
    }
}

/// The customers with events that have no rate and were not tried with this version, `limit` of those after `after`.
pub(crate) async fn customers_without_rate(
    tx: &mut Connection,
    tenant: TenantId,
    latest_version: u32,
    after: Uuid,
    limit: i64,
) -> Result<Vec<CustomerId>> {
    let latest = i32::try_from(latest_version).map_err(|_| Error::broken("a catalogue's version"))?;
    let customers: Vec<Uuid> = usage_events::table
        .filter(usage_events::tenant_id.eq(tenant.uuid()))
        .filter(usage_events::unrated_reason.ne(Unrated::AccountParked.code()))
        .filter(not_voided!())
        .filter(usage_events::tried_version.lt(latest))
        .filter(usage_events::customer_id.gt(after))
        .select(usage_events::customer_id)
        .distinct()
        .order(usage_events::customer_id)
        .limit(limit)
        .load(tx)
        .await?;
    Ok(customers.into_iter().map(CustomerId::from_uuid).collect())
}

/// The tenants with events that have no rate, and a catalogue that is newer than what they were tried with.
pub(crate) async fn tenants_to_rerate_all_tenants(tx: &mut Connection) -> Result<Vec<TenantId>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        tenant_id: Uuid,
    }
    let rows: Vec<Row> = db::sql_query(
        "select distinct e.tenant_id from usage_events e
         where e.unrated_reason is not null and e.unrated_reason <> 'account-parked'
             and not exists (select from usage_voids v
                 where v.tenant_id = e.tenant_id and v.identity = e.identity)
             and e.tried_version < (select max(version) from catalog_versions c where c.tenant_id = e.tenant_id)",
    )
    .load(tx)
    .await?;
    Ok(rows.into_iter().map(|row| TenantId::from_uuid(row.tenant_id)).collect())
}

pub(crate) async fn unrated_page(
    tx: &mut Connection,
    tenant: TenantId,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<UnratedEvent>> {
    type Row = (Uuid, String, String, Uuid, String, Option<String>, Timestamp);
    let rows: Vec<Row> = usage_events::table
        .filter(usage_events::tenant_id.eq(tenant.uuid()))
        .filter(usage_events::unrated_reason.is_not_null())
        .filter(not_voided!())
        .filter(usage_events::identity.gt(after.unwrap_or_default()))
        .order(usage_events::identity)
        .limit(limit)
        .select((
            usage_events::identity,
            usage_events::source,
            usage_events::event_id,
            usage_events::customer_id,
            usage_events::model,
            usage_events::unrated_reason,
            usage_events::event_time,
        ))
        .load(tx)
        .await?;
    rows.into_iter()
        .map(|(identity, source, id, customer, model, reason, event_time)| {
            Ok(UnratedEvent {
                identity,
                source,
                id,
                customer: CustomerId::from_uuid(customer),
                model,
                reason: reason.ok_or_else(|| Error::broken("an unrated event without a reason"))?,
                event_time,
            })
        })
        .collect()
}
