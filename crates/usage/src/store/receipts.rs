//! A customer's charged events with their rates, in pages.

use db::{Connection, Result};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::calendar::Zone;
use domain::id::{CustomerId, TenantId};
use domain::rating::Rates;
use domain::{Credits, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use super::{TokenColumns, calls, count, external_id, from_json, optional_id};
use crate::hours::{HourKey, UsageSums};
use crate::report::{PartOf, ReceiptOf};

#[derive(QueryableByName)]
struct ReceiptRow {
    #[diesel(sql_type = Timestamptz)]
    event_time: Timestamp,
    #[diesel(sql_type = SqlUuid)]
    identity: Uuid,
    #[diesel(sql_type = Text)]
    model: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    band_prompt_tokens_max: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    api_key: Option<String>,
    #[diesel(embed)]
    tokens: TokenColumns,
    #[diesel(sql_type = BigInt)]
    credits: i64,
    #[diesel(sql_type = BigInt)]
    overage: i64,
    #[diesel(sql_type = Jsonb)]
    rates: Value,
    #[diesel(sql_type = Nullable<Jsonb>)]
    calls: Option<Value>,
}

/// Those that happened before `to`, in the order of their times: the ones after a place.
pub(crate) async fn page(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    zone: Zone,
    after: (Timestamp, Uuid),
    to: Timestamp,
    limit: usize,
) -> Result<Vec<ReceiptOf>> {
    let limit = i64::try_from(limit).map_err(|_| domain::Refusal::AmountOverflow)?;
    let rows: Vec<ReceiptRow> = db::sql_query(
        "select event_time, identity, model, band_prompt_tokens_max, api_key, input_tokens, cache_read_tokens,
             cache_write_tokens, output_tokens, reasoning_tokens, credits, overage, rates, calls
         from usage_events e
         where tenant_id = $1 and customer_id = $2 and unrated_reason is null
             and not exists (select from usage_voids v where v.tenant_id = e.tenant_id and v.identity = e.identity)
             and event_time >= $3 and (event_time, identity) > ($3, $4) and event_time < $5
         order by event_time, identity limit $6",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(customer.uuid())
    .bind::<Timestamptz, _>(after.0)
    .bind::<SqlUuid, _>(after.1)
    .bind::<Timestamptz, _>(to)
    .bind::<BigInt, _>(limit)
    .load(tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let tokens = row.tokens.try_into()?;
            let key = HourKey {
                customer,
                hour: zone.hour_of(row.event_time),
                model: external_id(row.model)?,
                band_prompt_tokens_max: row.band_prompt_tokens_max.map(count).transpose()?,
                api_key: optional_id(row.api_key)?,
            };
            let (credits, overage) = (Credits::new(row.credits)?, Credits::new(row.overage)?);
            let calls = calls::from_json(row.calls)?.into_iter().map(|call| PartOf {
                key: HourKey {
                    model: call.model.unwrap_or_else(|| key.model.clone()),
                    band_prompt_tokens_max: call.band_prompt_tokens_max,
                    ..key.clone()
                },
                tokens: call.usage,
                rates: call.rates,
            });
            let mut parts: Vec<PartOf> = calls.collect();
            if parts.is_empty() {
                let rates = from_json::<Rates>(row.rates)?;
                parts.push(PartOf { key, tokens, rates });
            }
            Ok(ReceiptOf {
                place: (row.event_time, row.identity),
                sums: UsageSums { events: 1, tokens, credits, overage },
                parts,
            })
        })
        .collect()
}
