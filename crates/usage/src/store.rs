//! All SQL of usage.

use std::collections::{BTreeMap, BTreeSet};

use db::schema::usage_events;
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::account::Draw;
use domain::credits::RateMilli;
use domain::id::{CustomerId, GrantId, TenantId};
use domain::usage::TokenKind;
use domain::{Credits, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use crate::UnratedEvent;
use crate::record::{Item, Receipt, Recorded};

/// Inserts the identities that are not there yet and returns those. `items` are in identity order.
pub(crate) async fn insert_new_identities(
    tx: &mut Connection,
    tenant: TenantId,
    items: &[&Item<'_>],
) -> Result<BTreeSet<Uuid>> {
    if items.is_empty() {
        return Ok(BTreeSet::new());
    }
    #[derive(QueryableByName)]
    struct Inserted {
        #[diesel(sql_type = SqlUuid)]
        identity: Uuid,
    }
    let inserted: Vec<Inserted> = diesel::sql_query(
        "insert into usage_identities (tenant_id, identity, content, customer_id, event_time)
         select $1, n.* from unnest($2, $3, $4, $5) as n
         on conflict (tenant_id, identity) do nothing
         returning identity",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<SqlUuid>, _>(items.iter().map(|i| i.identity).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(items.iter().map(|i| i.content).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(items.iter().map(|i| i.event.customer.uuid()).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(items.iter().map(|i| i.event_time).collect::<Vec<_>>())
    .load(tx)
    .await?;
    Ok(inserted.into_iter().map(|row| row.identity).collect())
}

#[derive(QueryableByName)]
struct AnsweredRow {
    #[diesel(sql_type = SqlUuid)]
    identity: Uuid,
    #[diesel(sql_type = SqlUuid)]
    content: Uuid,
    #[diesel(sql_type = BigInt)]
    credits: i64,
    #[diesel(sql_type = BigInt)]
    overage: i64,
    #[diesel(sql_type = Nullable<Text>)]
    unrated_reason: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    catalog_version: Option<i32>,
    #[diesel(sql_type = Nullable<BigInt>)]
    band_prompt_tokens_max: Option<i64>,
    #[diesel(sql_type = Jsonb)]
    rates: Value,
    #[diesel(sql_type = Jsonb)]
    draws: Value,
    #[diesel(sql_type = Nullable<Text>)]
    hold_reason: Option<String>,
    #[diesel(sql_type = BigInt)]
    balance_after: i64,
    #[diesel(sql_type = BigInt)]
    account_version: i64,
}

/// The content and the receipt of events that were recorded before.
pub(crate) async fn answered(
    tx: &mut Connection,
    tenant: TenantId,
    identities: &[Uuid],
) -> Result<BTreeMap<Uuid, (Uuid, Receipt)>> {
    if identities.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<AnsweredRow> = diesel::sql_query(
        "select i.identity, i.content, e.credits, e.overage, e.unrated_reason, e.catalog_version,
             e.band_prompt_tokens_max, e.rates, e.draws, e.hold_reason, e.balance_after, e.account_version
         from usage_identities i
         join usage_events e on e.tenant_id = i.tenant_id and e.customer_id = i.customer_id
             and e.event_time = i.event_time and e.identity = i.identity
         where i.tenant_id = $1 and i.identity = any($2)",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<SqlUuid>, _>(identities)
    .load(tx)
    .await?;
    rows.into_iter().map(|row| Ok((row.identity, (row.content, Receipt::try_from(row)?)))).collect()
}

impl TryFrom<AnsweredRow> for Receipt {
    type Error = Error;

    fn try_from(row: AnsweredRow) -> Result<Self> {
        let out_of_range = |_| Error::broken("a receipt's number is out of range");
        Ok(Receipt {
            credits: Credits::new(row.credits)?,
            overage: Credits::new(row.overage)?,
            unrated_reason: row.unrated_reason,
            catalog_version: row.catalog_version.map(u32::try_from).transpose().map_err(out_of_range)?,
            band_prompt_tokens_max: row
                .band_prompt_tokens_max
                .map(u64::try_from)
                .transpose()
                .map_err(out_of_range)?,
            rates: from_json::<Vec<(TokenKind, RateMilli)>>(row.rates)?,
            draws: from_json::<Vec<(GrantId, Credits)>>(row.draws)?
                .into_iter()
                .map(|(grant, credits)| Draw { grant, credits })
                .collect(),
            no_hold: row.hold_reason,
            balance_after: Credits::new(row.balance_after)?,
            version: row.account_version,
        })
    }
}

fn from_json<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| Error::Fault(Box::new(error)))
}

/// Inserts events with their receipts, one statement for all of them.
pub(crate) async fn insert_events(
    tx: &mut Connection,
    tenant: TenantId,
    recorded: &[Recorded<'_>],
    now: Timestamp,
) -> Result<()> {
    if recorded.is_empty() {
        return Ok(());
    }
    let tokens = |of: fn(&Recorded<'_>) -> u64| -> Result<Vec<i64>> {
        let counts = recorded.iter().map(|r| i64::try_from(of(r)));
        counts.collect::<std::result::Result<_, _>>().map_err(|_| domain::Refusal::AmountOverflow.into())
    };
    let texts =
        |of: for<'r> fn(&'r Recorded<'_>) -> &'r str| -> Vec<&str> { recorded.iter().map(of).collect() };
    let bands = recorded.iter().map(|r| r.receipt.band_prompt_tokens_max.map(i64::try_from).transpose());
    let bands: Vec<Option<i64>> =
        bands.collect::<std::result::Result<_, _>>().map_err(|_| Error::broken("a band's bound"))?;
    let versions = recorded.iter().map(|r| r.receipt.catalog_version.map(i32::try_from).transpose());
    let versions: Vec<Option<i32>> = versions
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| Error::broken("a catalogue's version"))?;
    let rates = recorded.iter().map(|r| to_json(&r.receipt.rates));
    let rates: Vec<Value> = rates.collect::<Result<_>>()?;
    let draws = recorded.iter().map(|r| {
        let pairs: Vec<(GrantId, Credits)> = r.receipt.draws.iter().map(|d| (d.grant, d.credits)).collect();
        to_json(&pairs)
    });
    let draws: Vec<Value> = draws.collect::<Result<_>>()?;
    diesel::sql_query(
        "insert into usage_events (tenant_id, recorded_at, identity, customer_id, source, event_id, model,
             input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, outcome,
             usage_source, event_time, hold_id, hold, hold_reason, unrated_reason, credits, overage,
             catalog_version, band_prompt_tokens_max, rates, draws, balance_after, account_version)
         select $1, $2, n.* from unnest($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
             $18, $19, $20, $21, $22, $23, $24, $25, $26, $27) as n",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Timestamptz, _>(now)
    .bind::<Array<SqlUuid>, _>(recorded.iter().map(|r| r.item.identity).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(recorded.iter().map(|r| r.item.event.customer.uuid()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(texts(|r| &r.item.event.source))
    .bind::<Array<Text>, _>(texts(|r| &r.item.event.id))
    .bind::<Array<Text>, _>(texts(|r| &r.item.event.model))
    .bind::<Array<BigInt>, _>(tokens(|r| r.item.event.usage.input)?)
    .bind::<Array<BigInt>, _>(tokens(|r| r.item.event.usage.cache_read)?)
    .bind::<Array<BigInt>, _>(tokens(|r| r.item.event.usage.cache_write)?)
    .bind::<Array<BigInt>, _>(tokens(|r| r.item.event.usage.output)?)
    .bind::<Array<BigInt>, _>(tokens(|r| r.item.event.usage.reasoning)?)
    .bind::<Array<Text>, _>(texts(|r| r.item.event.outcome.name()))
    .bind::<Array<Text>, _>(texts(|r| r.item.event.usage_source.name()))
    .bind::<Array<Timestamptz>, _>(recorded.iter().map(|r| r.item.event_time).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(
        recorded
            .iter()
            .map(|r| r.item.event.authorization.as_ref().map(|id| id.as_str()))
            .collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(texts(|r| if r.receipt.no_hold.is_none() { "captured" } else { "none" }))
    .bind::<Array<Nullable<Text>>, _>(
        recorded.iter().map(|r| r.receipt.no_hold.as_deref()).collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<Text>>, _>(
        recorded.iter().map(|r| r.receipt.unrated_reason.as_deref()).collect::<Vec<_>>(),
    )
    .bind::<Array<BigInt>, _>(recorded.iter().map(|r| r.receipt.credits.get()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(recorded.iter().map(|r| r.receipt.overage.get()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Integer>>, _>(versions)
    .bind::<Array<Nullable<BigInt>>, _>(bands)
    .bind::<Array<Jsonb>, _>(rates)
    .bind::<Array<Jsonb>, _>(draws)
    .bind::<Array<BigInt>, _>(recorded.iter().map(|r| r.receipt.balance_after.get()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(recorded.iter().map(|r| r.receipt.version).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::Fault(Box::new(error)))
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
