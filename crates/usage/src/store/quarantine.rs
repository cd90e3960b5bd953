//! Usage that is not understood.

use std::collections::BTreeMap;

use db::schema::{usage_identities, usage_quarantined};
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel::sql_types::{Array, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::Timestamp;
use domain::id::{CustomerId, ExternalId, QuarantineId, TenantId};
use domain::usage::{Outcome, UsageSource};
use domain::usage_format::UsageFormat;
use uuid::Uuid;

use super::{external_id, optional_id};
use crate::quarantine::QuarantinedEvent;
use crate::record::{Kept, Reported, UsageEvent};

/// Keeps events that are not understood, one statement for all of them, and returns the content of the first
/// under each identity, which stays.
pub(crate) async fn keep_in_quarantine(
    tx: &mut Connection,
    tenant: TenantId,
    kept: &[Kept<'_>],
) -> Result<BTreeMap<Uuid, Uuid>> {
    if kept.is_empty() {
        return Ok(BTreeMap::new());
    }
    #[derive(QueryableByName)]
    struct First {
        #[diesel(sql_type = SqlUuid)]
        identity: Uuid,
        #[diesel(sql_type = SqlUuid)]
        content: Uuid,
    }
    // In the order of identities, as in `insert_new_identities`; a stable sort, so that of two the first is kept.
    let mut kept: Vec<&Kept<'_>> = kept.iter().collect();
    kept.sort_by_key(|kept| kept.item.identity);
    let texts =
        |of: for<'k> fn(&'k Kept<'_>) -> &'k str| -> Vec<&str> { kept.iter().map(|k| of(k)).collect() };
    let firsts: Vec<First> = db::sql_query(
        "with sent as (select * from unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
             as n(identity, content, customer_id, source, event_id, model, usage_format, usage, outcome,
                 usage_source, sent_time, hold_id, reason, message, received_at, api_key)),
         new as (insert into usage_quarantined (tenant_id, identity, content, customer_id, source, event_id, model,
                 usage_format, usage, outcome, usage_source, sent_time, hold_id, reason, message, received_at, api_key)
             select $1, sent.* from sent
             on conflict (tenant_id, identity) do nothing
             returning identity, content)
         select identity, content from new
         union all
         select q.identity, q.content from usage_quarantined q
         where q.tenant_id = $1 and q.identity = any($2)",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<SqlUuid>, _>(kept.iter().map(|k| k.item.identity).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(kept.iter().map(|k| k.item.content).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(kept.iter().map(|k| k.item.event.customer.uuid()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(texts(|k| &k.item.event.source))
    .bind::<Array<Text>, _>(texts(|k| &k.item.event.id))
    .bind::<Array<Text>, _>(texts(|k| k.item.event.model.as_str()))
    .bind::<Array<Text>, _>(texts(|k| k.format.name()))
    .bind::<Array<Text>, _>(texts(|k| k.json))
    .bind::<Array<Text>, _>(texts(|k| k.item.event.outcome.name()))
    .bind::<Array<Text>, _>(texts(|k| k.item.event.usage_source.name()))
    .bind::<Array<Nullable<Timestamptz>>, _>(kept.iter().map(|k| k.item.event.time).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(
        kept.iter().map(|k| k.item.event.authorization.as_ref().map(|id| id.as_str())).collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(texts(|k| k.why.reason.code()))
    .bind::<Array<Text>, _>(texts(|k| &k.why.message))
    .bind::<Array<Timestamptz>, _>(kept.iter().map(|k| k.item.received_at).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(
        kept.iter().map(|k| k.item.event.api_key.as_ref().map(ExternalId::as_str)).collect::<Vec<_>>(),
    )
    .load(tx)
    .await?;
    Ok(firsts.into_iter().map(|first| (first.identity, first.content)).collect())
}

/// The open entries, in the order of their identities: those under whose identity nothing was counted.
pub(crate) async fn quarantined_page(
    tx: &mut Connection,
    tenant: TenantId,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<QuarantinedEvent>> {
    let counted = usage_identities::table
        .filter(usage_identities::tenant_id.eq(tenant.uuid()))
        .filter(usage_identities::identity.eq(usage_quarantined::identity));
    let rows: Vec<QuarantinedRow> = usage_quarantined::table
        .filter(usage_quarantined::tenant_id.eq(tenant.uuid()))
        .filter(usage_quarantined::identity.gt(after.unwrap_or_default()))
        .filter(diesel::dsl::not(diesel::dsl::exists(counted)))
        .order(usage_quarantined::identity)
        .limit(limit)
        .select(QuarantinedRow::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(QuarantinedEvent::try_from).collect()
}

/// An entry, open or not.
pub(crate) async fn quarantined(
    tx: &mut Connection,
    tenant: TenantId,
    identity: Uuid,
) -> Result<Option<QuarantinedEvent>> {
    let row: Option<QuarantinedRow> = usage_quarantined::table
        .filter(usage_quarantined::tenant_id.eq(tenant.uuid()))
        .filter(usage_quarantined::identity.eq(identity))
        .select(QuarantinedRow::as_select())
        .first(tx)
        .await
        .optional()?;
    row.map(QuarantinedEvent::try_from).transpose()
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = usage_quarantined)]
struct QuarantinedRow {
    identity: Uuid,
    customer_id: Uuid,
    source: String,
    event_id: String,
    model: String,
    usage_format: String,
    usage: String,
    outcome: String,
    usage_source: String,
    sent_time: Option<Timestamp>,
    hold_id: Option<String>,
    reason: String,
    message: String,
    received_at: Timestamp,
    api_key: Option<String>,
}

impl TryFrom<QuarantinedRow> for QuarantinedEvent {
    type Error = Error;

    fn try_from(row: QuarantinedRow) -> Result<Self> {
        let unknown = || Error::broken("a name that is not in its list");
        Ok(QuarantinedEvent {
            id: QuarantineId::from_uuid(row.identity),
            event: UsageEvent {
                source: row.source.into(),
                id: row.event_id.into(),
                customer: CustomerId::from_uuid(row.customer_id),
                model: external_id(row.model)?,
                usage: Reported::Raw {
                    format: UsageFormat::of_name(&row.usage_format).ok_or_else(unknown)?,
                    json: row.usage,
                },
                outcome: Outcome::of_name(&row.outcome).ok_or_else(unknown)?,
                usage_source: UsageSource::of_name(&row.usage_source).ok_or_else(unknown)?,
                time: row.sent_time,
                authorization: optional_id(row.hold_id)?,
                api_key: optional_id(row.api_key)?,
                first_received_at: Some(row.received_at),
                // Its time was accepted when it was received.
                is_backfill: true,
            },
            reason: row.reason,
            message: row.message,
            received_at: row.received_at,
        })
    }
}
