//! All SQL of usage.

mod as_json;
mod calls;
pub(crate) mod payg;
pub(crate) mod preview;
pub(crate) mod receipts;
pub(crate) mod retention;

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use db::schema::{usage_events, usage_hours, usage_identities, usage_quarantined, usage_voids};
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel::sql_types::{
    Array, BigInt, Bool, Date, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use domain::account::Draw;
use domain::credits::RateMilli;
use domain::id::{ApiKeyId, CustomerId, ExternalId, GrantId, QuarantineId, TenantId};
use domain::rating::Unrated;
use domain::statement::ModelUse;
use domain::usage::{Outcome, TokenCounts, TokenKind, UsageSource};
use domain::usage_format::UsageFormat;
use domain::{Credits, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use self::as_json::{AsJson, Draws};
use crate::UnratedEvent;
use crate::charge_kept::{KeptEvent, WhyKept};
use crate::hours::{HourKey, Hours, UsageSums};
use crate::quarantine::QuarantinedEvent;
use crate::read_event::RecordedEvent;
use crate::record::{Item, Kept, Receipt, Recorded, Reported, UsageEvent};
use crate::void::EventVoid;

/// Events by their identities, of the tenant `$1`: the columns of an [`AnsweredRow`] and others, where a condition
/// holds.
macro_rules! answered {
    ($other_columns:literal, $condition:literal) => {
        concat!(
            "select i.identity, i.content, e.credits, e.overage, e.unrated_reason, e.catalog_version,
                 e.band_prompt_tokens_max, e.rates, e.calls, e.draws, e.hold_reason, e.balance_after, e.account_version,
                 p.currency as payg_currency, p.credits as payg_credits, p.pico::text as payg_pico,
                 p.past_cap_pico::text as payg_past_cap, p.lines as payg_lines, p.unrated_reason as payg_unrated",
            $other_columns,
            // One index look-up an event, whatever the planner thinks of a month that is new: hence the offset.
            " from usage_identities i
             cross join lateral (select * from usage_events e
                 where e.tenant_id = i.tenant_id and e.customer_id = i.customer_id and e.event_time = i.event_time
                     and e.identity = i.identity offset 0) e
             left join usage_payg p on p.tenant_id = i.tenant_id and p.identity = i.identity
             where i.tenant_id = $1 ",
            $condition
        )
    };
}

/// That an event was not voided: one that waits for its charge is never charged after that.
macro_rules! not_voided {
    () => {
        diesel::dsl::not(diesel::dsl::exists(
            usage_voids::table
                .filter(usage_voids::tenant_id.eq(usage_events::tenant_id))
                .filter(usage_voids::identity.eq(usage_events::identity)),
        ))
    };
}

/// Inserts identities that are taken for new; says no where one was there, and then the transaction has failed back to
/// its savepoint. `items` are in identity order.
pub(crate) async fn insert_identities(
    tx: &mut Connection,
    tenant: TenantId,
    items: &[&Item<'_>],
) -> Result<bool> {
    let inserted = db::sql_query(
        "insert into usage_identities (tenant_id, identity, content, customer_id, event_time)
         select $1, unnest($2), unnest($3), unnest($4), unnest($5)",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<SqlUuid>, _>(items.iter().map(|i| i.identity).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(items.iter().map(|i| i.content).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(items.iter().map(|i| i.event.customer.uuid()).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(items.iter().map(|i| i.event_time).collect::<Vec<_>>())
    .execute(tx)
    .await;
    match inserted {
        Ok(_) => Ok(true),
        Err(error) if db::is_unique_violation(&error, "usage_identities_pkey") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

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
    let inserted: Vec<Inserted> = db::sql_query(
        "insert into usage_identities (tenant_id, identity, content, customer_id, event_time)
         select $1, unnest($2), unnest($3), unnest($4), unnest($5)
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
    #[diesel(sql_type = Nullable<Jsonb>)]
    calls: Option<Value>,
    #[diesel(sql_type = Jsonb)]
    draws: Value,
    #[diesel(sql_type = Nullable<Text>)]
    hold_reason: Option<String>,
    #[diesel(sql_type = BigInt)]
    balance_after: i64,
    #[diesel(sql_type = BigInt)]
    account_version: i64,
    #[diesel(embed)]
    payg: payg::ShareColumns,
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
    let rows: Vec<AnsweredRow> = db::sql_query(answered!("", "and i.identity = any($2)"))
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
            payg: row.payg.read()?,
            unrated_reason: row.unrated_reason,
            catalog_version: row.catalog_version.map(u32::try_from).transpose().map_err(out_of_range)?,
            band_prompt_tokens_max: row
                .band_prompt_tokens_max
                .map(u64::try_from)
                .transpose()
                .map_err(out_of_range)?,
            rates: from_json::<Vec<(TokenKind, RateMilli)>>(row.rates)?,
            calls: calls::from_json(row.calls)?,
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
    let ReceiptColumns {
        unrated,
        credits,
        overage,
        versions,
        bands,
        rates,
        calls,
        draws,
        balances,
        account_versions,
    } = receipt_columns(recorded.iter().map(|r| &r.receipt))?;
    db::sql_query(
        "insert into usage_events (tenant_id, recorded_at, identity, customer_id, source, event_id, model,
             input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, outcome,
             usage_source, event_time, hold_id, hold, hold_reason, unrated_reason, credits, overage,
             catalog_version, band_prompt_tokens_max, rates, calls, draws, balance_after, account_version, api_key,
             tried_version)
         select $1, $2, unnest($3), unnest($4), unnest($5), unnest($6), unnest($7), unnest($8), unnest($9), unnest($10),
             unnest($11), unnest($12), unnest($13), unnest($14), unnest($15), unnest($16), unnest($17),
             unnest($18), unnest($19), unnest($20), unnest($21), unnest($22), unnest($23), unnest($24),
             unnest($25), unnest($26), unnest($27), unnest($28), unnest($29), unnest($30)",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Timestamptz, _>(now)
    .bind::<Array<SqlUuid>, _>(recorded.iter().map(|r| r.item.identity).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(recorded.iter().map(|r| r.item.event.customer.uuid()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(texts(|r| &r.item.event.source))
    .bind::<Array<Text>, _>(texts(|r| &r.item.event.id))
    .bind::<Array<Text>, _>(texts(|r| &r.item.event.model))
    .bind::<Array<BigInt>, _>(tokens(|r| r.usage.input)?)
    .bind::<Array<BigInt>, _>(tokens(|r| r.usage.cache_read)?)
    .bind::<Array<BigInt>, _>(tokens(|r| r.usage.cache_write)?)
    .bind::<Array<BigInt>, _>(tokens(|r| r.usage.output)?)
    .bind::<Array<BigInt>, _>(tokens(|r| r.usage.reasoning)?)
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
    .bind::<Array<Nullable<Text>>, _>(unrated)
    .bind::<Array<BigInt>, _>(credits)
    .bind::<Array<BigInt>, _>(overage)
    .bind::<Array<Nullable<Integer>>, _>(versions)
    .bind::<Array<Nullable<BigInt>>, _>(bands)
    .bind::<Array<Jsonb>, _>(rates)
    .bind::<Array<Nullable<Jsonb>>, _>(calls)
    .bind::<Array<Jsonb>, _>(draws)
    .bind::<Array<BigInt>, _>(balances)
    .bind::<Array<BigInt>, _>(account_versions)
    .bind::<Array<Nullable<Text>>, _>(
        recorded.iter().map(|r| r.item.event.api_key.as_ref().map(ExternalId::as_str)).collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<Integer>>, _>(tried_versions(
        recorded.iter().map(|r| (&r.receipt, r.item.latest_version)),
    )?)
    .execute(tx)
    .await?;
    Ok(())
}

/// Of each event that has no rate, the version that was the latest when one was looked for.
fn tried_versions<'r>(receipts: impl Iterator<Item = (&'r Receipt, u32)>) -> Result<Vec<Option<i32>>> {
    let tried = receipts.map(|(receipt, latest)| receipt.unrated_reason.is_some().then_some(latest));
    let tried: std::result::Result<Vec<_>, _> =
        tried.map(|tried| tried.map(i32::try_from).transpose()).collect();
    tried.map_err(|_| Error::broken("a catalogue's version"))
}

/// Adds to the sums by the hour, one statement for all of them. Under the accounts' locks.
pub(crate) async fn add_to_hours(tx: &mut Connection, tenant: TenantId, hours: &Hours) -> Result<()> {
    if hours.is_empty() {
        return Ok(());
    }
    let count = |of: fn(&UsageSums) -> u64| -> Result<Vec<i64>> {
        let counts = hours.iter().map(|(_, sums)| i64::try_from(of(sums)));
        counts.collect::<std::result::Result<_, _>>().map_err(|_| domain::Refusal::AmountOverflow.into())
    };
    let bands = hours.iter().map(|(key, _)| i64::try_from(key.band_prompt_tokens_max.unwrap_or_default()));
    let bands: std::result::Result<Vec<i64>, _> = bands.collect();
    db::sql_query(
        "insert into usage_hours as h (tenant_id, customer_id, hour, model, band_prompt_tokens_max, api_key, events,
             input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, credits, overage)
         select $1, unnest($2), unnest($3), unnest($4), unnest($5), unnest($6), unnest($7), unnest($8), unnest($9),
             unnest($10), unnest($11), unnest($12), unnest($13), unnest($14)
         on conflict (tenant_id, customer_id, hour, model, band_prompt_tokens_max, api_key) do update
         set events = h.events + excluded.events, input_tokens = h.input_tokens + excluded.input_tokens,
             cache_read_tokens = h.cache_read_tokens + excluded.cache_read_tokens,
             cache_write_tokens = h.cache_write_tokens + excluded.cache_write_tokens,
             output_tokens = h.output_tokens + excluded.output_tokens,
             reasoning_tokens = h.reasoning_tokens + excluded.reasoning_tokens,
             credits = h.credits + excluded.credits, overage = h.overage + excluded.overage",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<SqlUuid>, _>(hours.iter().map(|(key, _)| key.customer.uuid()).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(hours.iter().map(|(key, _)| key.hour).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(hours.iter().map(|(key, _)| key.model.as_str()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(bands.map_err(|_| Error::broken("a band's bound"))?)
    .bind::<Array<Text>, _>(
        hours.iter().map(|(key, _)| key.api_key.as_ref().map_or("", ExternalId::as_str)).collect::<Vec<_>>(),
    )
    .bind::<Array<BigInt>, _>(count(|sums| sums.events)?)
    .bind::<Array<BigInt>, _>(count(|sums| sums.tokens.input)?)
    .bind::<Array<BigInt>, _>(count(|sums| sums.tokens.cache_read)?)
    .bind::<Array<BigInt>, _>(count(|sums| sums.tokens.cache_write)?)
    .bind::<Array<BigInt>, _>(count(|sums| sums.tokens.output)?)
    .bind::<Array<BigInt>, _>(count(|sums| sums.tokens.reasoning)?)
    .bind::<Array<BigInt>, _>(hours.iter().map(|(_, sums)| sums.credits.get()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(hours.iter().map(|(_, sums)| sums.overage.get()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Takes one event from the sum of its hour. Under the account's lock.
pub(crate) async fn take_from_hour(
    tx: &mut Connection,
    tenant: TenantId,
    key: &HourKey,
    of_event: &UsageSums,
) -> Result<()> {
    let number =
        |count: u64| i64::try_from(count).map_err(|_| Error::broken("a count that was stored is too large"));
    let row = (
        tenant.uuid(),
        key.customer.uuid(),
        key.hour,
        key.model.as_str(),
        number(key.band_prompt_tokens_max.unwrap_or_default())?,
        key.api_key.as_ref().map_or("", ExternalId::as_str),
    );
    let taken = (
        usage_hours::events.eq(usage_hours::events - number(of_event.events)?),
        usage_hours::input_tokens.eq(usage_hours::input_tokens - number(of_event.tokens.input)?),
        usage_hours::cache_read_tokens
            .eq(usage_hours::cache_read_tokens - number(of_event.tokens.cache_read)?),
        usage_hours::cache_write_tokens
            .eq(usage_hours::cache_write_tokens - number(of_event.tokens.cache_write)?),
        usage_hours::output_tokens.eq(usage_hours::output_tokens - number(of_event.tokens.output)?),
        usage_hours::reasoning_tokens.eq(usage_hours::reasoning_tokens - number(of_event.tokens.reasoning)?),
        usage_hours::credits.eq(usage_hours::credits - of_event.credits.get()),
        usage_hours::overage.eq(usage_hours::overage - of_event.overage.get()),
    );
    match diesel::update(usage_hours::table.find(row)).set(taken).execute(tx).await? {
        1 => Ok(()),
        _ => Err(Error::broken("a charged event is in no hour")),
    }
}

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

/// Of calls that are not the first of their event an hour may have tokens and no events.
#[diesel::dsl::auto_type(no_type_alias)]
fn adds_anything() -> _ {
    usage_hours::events
        .gt(0_i64)
        .or(usage_hours::input_tokens.gt(0_i64))
        .or(usage_hours::cache_read_tokens.gt(0_i64))
        .or(usage_hours::cache_write_tokens.gt(0_i64))
        .or(usage_hours::output_tokens.gt(0_i64))
}

/// A customer's sums of the hours from `from` until before `to`; those whose events were all voided are none.
pub(crate) async fn hours(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<(HourKey, UsageSums)>> {
    let rows: Vec<HourRow> = usage_hours::table
        .filter(usage_hours::tenant_id.eq(tenant.uuid()))
        .filter(usage_hours::customer_id.eq(customer.uuid()))
        .filter(usage_hours::hour.ge(from))
        .filter(usage_hours::hour.lt(to))
        .filter(adds_anything())
        .select(HourRow::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(HourRow::read).collect()
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = usage_hours)]
struct HourRow {
    customer_id: Uuid,
    hour: Timestamp,
    model: String,
    band_prompt_tokens_max: i64,
    api_key: String,
    events: i64,
    input_tokens: i64,
    cache_read_tokens: i64,
    cache_write_tokens: i64,
    output_tokens: i64,
    reasoning_tokens: i64,
    credits: i64,
    overage: i64,
}

impl HourRow {
    fn read(self) -> Result<(HourKey, UsageSums)> {
        let band = Some(count(self.band_prompt_tokens_max)?).filter(|max| *max > 0);
        let api_key = Some(self.api_key).filter(|key| !key.is_empty());
        let key = HourKey {
            customer: CustomerId::from_uuid(self.customer_id),
            hour: self.hour,
            model: self.model,
            band_prompt_tokens_max: band,
            api_key: external_id(api_key)?,
        };
        let tokens = token_counts([
            self.input_tokens,
            self.cache_read_tokens,
            self.cache_write_tokens,
            self.output_tokens,
            self.reasoning_tokens,
        ])?;
        let (credits, overage) = (Credits::new(self.credits)?, Credits::new(self.overage)?);
        Ok((key, UsageSums { events: count(self.events)?, tokens, credits, overage }))
    }
}

fn count(stored: i64) -> Result<u64> {
    u64::try_from(stored).map_err(|_| Error::broken("a count below zero"))
}

/// The tokens by kind of a query in SQL.
#[derive(QueryableByName)]
struct TokenColumns {
    #[diesel(sql_type = BigInt)]
    input_tokens: i64,
    #[diesel(sql_type = BigInt)]
    cache_read_tokens: i64,
    #[diesel(sql_type = BigInt)]
    cache_write_tokens: i64,
    #[diesel(sql_type = BigInt)]
    output_tokens: i64,
    #[diesel(sql_type = BigInt)]
    reasoning_tokens: i64,
}

impl TryFrom<TokenColumns> for TokenCounts {
    type Error = Error;

    fn try_from(row: TokenColumns) -> Result<Self> {
        token_counts([
            row.input_tokens,
            row.cache_read_tokens,
            row.cache_write_tokens,
            row.output_tokens,
            row.reasoning_tokens,
        ])
    }
}

/// In the order of the columns.
fn token_counts(stored: [i64; 5]) -> Result<TokenCounts> {
    let [input, cache_read, cache_write, output, reasoning] = stored;
    Ok(TokenCounts {
        input: count(input)?,
        cache_read: count(cache_read)?,
        cache_write: count(cache_write)?,
        output: count(output)?,
        reasoning: count(reasoning)?,
    })
}

fn external_id(text: Option<String>) -> Result<Option<ExternalId>> {
    text.map(|id| id.parse()).transpose().map_err(|_| Error::broken("an id outside its grammar"))
}

/// Opens the partition of a month; says whether it had to.
pub(crate) async fn open_month_all_tenants(tx: &mut Connection, first_day: NaiveDate) -> Result<bool> {
    #[derive(QueryableByName)]
    struct Opened {
        #[diesel(sql_type = Bool)]
        opened: bool,
    }
    let opened: Opened = db::sql_query("select open_usage_month($1) as opened")
        .bind::<Date, _>(first_day)
        .get_result(tx)
        .await?;
    Ok(opened.opened)
}

/// The event of an identity.
pub(crate) async fn recorded_event(
    tx: &mut Connection,
    tenant: TenantId,
    identity: Uuid,
) -> Result<Option<RecordedEvent>> {
    let row: Option<RecordedRow> = db::sql_query(answered!(
        ", e.source, e.event_id, e.customer_id, e.model, e.input_tokens, e.cache_read_tokens, e.cache_write_tokens,
         e.output_tokens, e.reasoning_tokens, e.outcome, e.usage_source, e.event_time, e.recorded_at, e.hold_id,
         e.api_key",
        "and i.identity = $2"
    ))
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(identity)
    .get_result(tx)
    .await
    .optional()?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(RecordedEvent { void: void_of(tx, tenant, identity).await?, ..row.try_into()? }))
}

async fn void_of(tx: &mut Connection, tenant: TenantId, identity: Uuid) -> Result<Option<EventVoid>> {
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

#[derive(QueryableByName)]
struct RecordedRow {
    #[diesel(embed)]
    answered: AnsweredRow,
    #[diesel(sql_type = Text)]
    source: String,
    #[diesel(sql_type = Text)]
    event_id: String,
    #[diesel(sql_type = SqlUuid)]
    customer_id: Uuid,
    #[diesel(sql_type = Text)]
    model: String,
    #[diesel(embed)]
    tokens: TokenColumns,
    #[diesel(sql_type = Text)]
    outcome: String,
    #[diesel(sql_type = Text)]
    usage_source: String,
    #[diesel(sql_type = Timestamptz)]
    event_time: Timestamp,
    #[diesel(sql_type = Timestamptz)]
    recorded_at: Timestamp,
    #[diesel(sql_type = Nullable<Text>)]
    hold_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    api_key: Option<String>,
}

impl TryFrom<RecordedRow> for RecordedEvent {
    type Error = Error;

    fn try_from(row: RecordedRow) -> Result<Self> {
        let outcome = Outcome::of_name(&row.outcome);
        let usage_source = UsageSource::of_name(&row.usage_source);
        Ok(RecordedEvent {
            source: row.source,
            id: row.event_id,
            customer: CustomerId::from_uuid(row.customer_id),
            model: row.model,
            usage: row.tokens.try_into()?,
            outcome: outcome.ok_or_else(|| Error::broken("an unknown outcome"))?,
            usage_source: usage_source.ok_or_else(|| Error::broken("an unknown source of usage"))?,
            event_time: row.event_time,
            recorded_at: row.recorded_at,
            authorization: external_id(row.hold_id)?,
            api_key: external_id(row.api_key)?,
            receipt: Receipt::try_from(row.answered)?,
            void: None,
        })
    }
}

/// The columns of receipts, in the order of the events that they are of.
struct ReceiptColumns<'r> {
    unrated: Vec<Option<&'r str>>,
    credits: Vec<i64>,
    overage: Vec<i64>,
    versions: Vec<Option<i32>>,
    bands: Vec<Option<i64>>,
    rates: Vec<AsJson<&'r [(TokenKind, RateMilli)]>>,
    calls: Vec<Option<Value>>,
    draws: Vec<AsJson<Draws<'r>>>,
    balances: Vec<i64>,
    account_versions: Vec<i64>,
}

fn receipt_columns<'r>(receipts: impl Iterator<Item = &'r Receipt> + Clone) -> Result<ReceiptColumns<'r>> {
    let bands = receipts.clone().map(|r| r.band_prompt_tokens_max.map(i64::try_from).transpose());
    let bands: std::result::Result<_, _> = bands.collect();
    let versions = receipts.clone().map(|r| r.catalog_version.map(i32::try_from).transpose());
    let versions: std::result::Result<_, _> = versions.collect();
    Ok(ReceiptColumns {
        unrated: receipts.clone().map(|r| r.unrated_reason.as_deref()).collect(),
        credits: receipts.clone().map(|r| r.credits.get()).collect(),
        overage: receipts.clone().map(|r| r.overage.get()).collect(),
        versions: versions.map_err(|_| Error::broken("a catalogue's version"))?,
        bands: bands.map_err(|_| Error::broken("a band's bound"))?,
        rates: receipts.clone().map(|r| AsJson(r.rates.as_slice())).collect(),
        calls: receipts.clone().map(|r| calls::to_json(&r.calls)).collect::<Result<_>>()?,
        draws: receipts.clone().map(|r| AsJson(Draws(&r.draws))).collect(),
        balances: receipts.clone().map(|r| r.balance_after.get()).collect(),
        account_versions: receipts.map(|r| r.version).collect(),
    })
}

/// What was charged, and what was voided, after one version of the account up to another, by model.
pub(crate) async fn by_model(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    after_version: i64,
    to_version: i64,
) -> Result<Vec<ModelUse>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        model: String,
        #[diesel(sql_type = BigInt)]
        spent: i64,
        #[diesel(sql_type = BigInt)]
        overage: i64,
        #[diesel(sql_type = BigInt)]
        voided: i64,
        #[diesel(sql_type = BigInt)]
        overage_voided: i64,
    }
    let rows: Vec<Row> = db::sql_query(
        "select model, sum(spent)::bigint as spent, sum(overage)::bigint as overage,
             sum(voided)::bigint as voided, sum(overage_voided)::bigint as overage_voided
         from (
             -- Of several calls each is of its own model.
             select coalesce(c.call ->> 0, e.model) as model,
                 coalesce((c.call ->> 2)::bigint - (c.call ->> 3)::bigint, e.credits - e.overage) as spent,
                 coalesce((c.call ->> 3)::bigint, e.overage) as overage, 0 as voided, 0 as overage_voided
             from usage_events e left join lateral jsonb_array_elements(e.calls) as c (call) on true
             where e.tenant_id = $1 and e.customer_id = $2 and e.account_version > $3 and e.account_version <= $4
                 and e.credits > 0
             union all
             -- Of events that were dropped the ledger says what they cost.
             select '', case when debit = 'available' then credits else 0 end,
                 case when debit = 'overage' then credits else 0 end, 0, 0
             from transfers
             where tenant_id = $1 and customer_id = $2 and version > $3 and version <= $4
                 and cause_kind = 'usage' and credit = 'spent' and event_time < usage_kept_from()
             union all
             select coalesce(c.call ->> 0, e.model, ''), 0, 0,
                 coalesce((c.call ->> 2)::bigint - (c.call ->> 3)::bigint, v.credits - v.overage),
                 coalesce((c.call ->> 3)::bigint, v.overage)
             from usage_voids v
             left join usage_events e on e.tenant_id = v.tenant_id and e.customer_id = v.customer_id
                 and e.event_time = v.event_time and e.identity = v.identity
             left join lateral jsonb_array_elements(e.calls) as c (call) on true
             where v.tenant_id = $1 and v.customer_id = $2 and v.account_version > $3
                 and v.account_version <= $4 and v.credits > 0) moved
         group by model order by model",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(customer.uuid())
    .bind::<BigInt, _>(after_version)
    .bind::<BigInt, _>(to_version)
    .load(tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ModelUse {
                model: row.model,
                spent: Credits::new(row.spent)?,
                overage: Credits::new(row.overage)?,
                voided: Credits::new(row.voided)?,
                overage_voided: Credits::new(row.overage_voided)?,
            })
        })
        .collect()
}

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
            model: row.model,
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
            captured: external_id(captured)?,
            api_key: external_id(row.api_key)?,
        })
    }
}

/// Gives events that were kept their receipts.
pub(crate) async fn update_receipts(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    kept: &[KeptEvent],
    receipts: &[Receipt],
    latest_version: u32,
) -> Result<()> {
    if kept.is_empty() {
        return Ok(());
    }
    let ReceiptColumns {
        unrated,
        credits,
        overage,
        versions,
        bands,
        rates,
        calls,
        draws,
        balances,
        account_versions,
    } = receipt_columns(receipts.iter())?;
    db::sql_query(
        "update usage_events e
         set unrated_reason = n.unrated, credits = n.credits, overage = n.overage,
             catalog_version = n.catalog_version, band_prompt_tokens_max = n.band, rates = n.rates, calls = n.calls,
             draws = n.draws, balance_after = n.balance_after, account_version = n.account_version,
             tried_version = n.tried_version
         from unnest($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) as n(identity, event_time, unrated,
             credits, overage, catalog_version, band, rates, calls, draws, balance_after, account_version,
             tried_version)
         where e.tenant_id = $1 and e.customer_id = $2 and e.event_time = n.event_time
             and e.identity = n.identity and e.unrated_reason is not null",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(customer.uuid())
    .bind::<Array<SqlUuid>, _>(kept.iter().map(|event| event.identity).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(kept.iter().map(|event| event.event_time).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(unrated)
    .bind::<Array<BigInt>, _>(credits)
    .bind::<Array<BigInt>, _>(overage)
    .bind::<Array<Nullable<Integer>>, _>(versions)
    .bind::<Array<Nullable<BigInt>>, _>(bands)
    .bind::<Array<Jsonb>, _>(rates)
    .bind::<Array<Nullable<Jsonb>>, _>(calls)
    .bind::<Array<Jsonb>, _>(draws)
    .bind::<Array<BigInt>, _>(balances)
    .bind::<Array<BigInt>, _>(account_versions)
    .bind::<Array<Nullable<Integer>>, _>(tried_versions(receipts.iter().map(|receipt| (receipt, latest_version)))?)
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
    .bind::<Array<Text>, _>(texts(|k| &k.item.event.model))
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
                source: row.source,
                id: row.event_id,
                customer: CustomerId::from_uuid(row.customer_id),
                model: row.model,
                usage: Reported::Raw {
                    format: UsageFormat::of_name(&row.usage_format).ok_or_else(unknown)?,
                    json: row.usage,
                },
                outcome: Outcome::of_name(&row.outcome).ok_or_else(unknown)?,
                usage_source: UsageSource::of_name(&row.usage_source).ok_or_else(unknown)?,
                time: row.sent_time,
                authorization: external_id(row.hold_id)?,
                api_key: external_id(row.api_key)?,
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
