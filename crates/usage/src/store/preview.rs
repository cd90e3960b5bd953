//! Usage as it was charged, in pages.

use db::{Connection, Result};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::id::TenantId;
use domain::{Credits, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use super::{TokenColumns, calls};
use crate::preview::ChargedEvent;

#[derive(QueryableByName)]
struct ChargedRow {
    #[diesel(sql_type = SqlUuid)]
    customer_id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    event_time: Timestamp,
    #[diesel(sql_type = SqlUuid)]
    identity: Uuid,
    #[diesel(sql_type = Text)]
    model: String,
    #[diesel(embed)]
    tokens: TokenColumns,
    #[diesel(sql_type = BigInt)]
    credits: i64,
    #[diesel(sql_type = Bool)]
    is_rated: bool,
    #[diesel(sql_type = Nullable<Jsonb>)]
    calls: Option<Value>,
}

/// A tenant's events from `from` until before `to`, by customer and then by time: the ones after a place.
pub(crate) async fn charged_page(
    tx: &mut Connection,
    tenant: TenantId,
    from: Timestamp,
    to: Timestamp,
    after: (Uuid, Timestamp, Uuid),
    limit: usize,
) -> Result<Vec<ChargedEvent>> {
    let limit = i64::try_from(limit).map_err(|_| domain::Refusal::AmountOverflow)?;
    let rows: Vec<ChargedRow> = db::sql_query(
        "select customer_id, event_time, identity, model, input_tokens, cache_read_tokens, cache_write_tokens,
             output_tokens, reasoning_tokens, credits, calls, unrated_reason is null as is_rated
         from usage_events e
         where tenant_id = $1 and event_time >= $2 and event_time < $3
             and not exists (select from usage_voids v where v.tenant_id = e.tenant_id and v.identity = e.identity)
             and (customer_id, event_time) >= ($4, $5) and (customer_id, event_time, identity) > ($4, $5, $6)
         order by customer_id, event_time, identity limit $7",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Timestamptz, _>(from)
    .bind::<Timestamptz, _>(to)
    .bind::<SqlUuid, _>(after.0)
    .bind::<Timestamptz, _>(after.1)
    .bind::<SqlUuid, _>(after.2)
    .bind::<BigInt, _>(limit)
    .load(tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ChargedEvent {
                place: (row.customer_id, row.event_time, row.identity),
                model: row.model,
                usage: row.tokens.try_into()?,
                calls: calls::used(row.calls)?,
                credits: Credits::new(row.credits)?,
                is_rated: row.is_rated,
            })
        })
        .collect()
}
