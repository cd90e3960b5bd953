//! Events with their receipts.

use db::{Connection, Error, Result, Rows, column};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::Timestamp;
use domain::hold::NoHold;
use domain::id::{CustomerId, ExternalId, TenantId};
use domain::rating::{Rates, Unrated};
use domain::usage::{Outcome, UsageSource};
use serde_json::Value;
use uuid::Uuid;

use super::as_json::{AsJson, Draws};
use super::identities::AnsweredRow;
use super::voids::void_of;
use super::{TokenColumns, calls, external_id, optional_id};
use crate::charge_kept::KeptEvent;
use crate::read_event::RecordedEvent;
use crate::record::{Receipt, Recorded};

/// Inserts events with their receipts, one statement for all of them.
pub(crate) async fn insert_events(
    mut tx: &Connection,
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
    let names = |of: for<'r> fn(&'r Recorded<'_>) -> Option<&'r ExternalId>| -> Vec<Option<&str>> {
        recorded.iter().map(|r| of(r).map(ExternalId::as_str)).collect()
    };
    let times: Vec<Timestamp> = recorded.iter().map(|r| r.item.event_time).collect();
    let no_holds: Vec<Option<&str>> = recorded.iter().map(|r| r.receipt.no_hold.map(NoHold::code)).collect();
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
    } = receipt_columns(recorded.iter().map(|r| r.receipt.as_ref()))?;
    let each = |value: fn(&Recorded<'_>) -> Uuid| -> Vec<Uuid> { recorded.iter().map(value).collect() };
    let tried = tried_versions(recorded.iter().map(|r| (r.receipt.as_ref(), r.item.latest_version)))?;
    Rows::default()
        .once::<SqlUuid, _>("tenant_id", tenant.uuid())
        .once::<Timestamptz, _>("recorded_at", now)
        .each([
            column::<SqlUuid, _>("identity", each(|r| r.item.identity)),
            column::<SqlUuid, _>("customer_id", each(|r| r.item.event.customer.uuid())),
            column::<Text, _>("event_id", texts(|r| &r.item.event.id)),
            column::<BigInt, _>("input_tokens", tokens(|r| r.usage.input)?),
            column::<BigInt, _>("output_tokens", tokens(|r| r.usage.output)?),
            column::<BigInt, _>("credits", credits),
            column::<Jsonb, _>("draws", draws),
            column::<BigInt, _>("balance_after", balances),
            column::<BigInt, _>("account_version", account_versions),
        ])
        .once_if_alike([column::<Text, _>("source", texts(|r| &r.item.event.source))])
        .once_if_alike([column::<Timestamptz, _>("event_time", times)])
        .once_if_alike([
            column::<Text, _>("model", texts(|r| r.item.event.model.as_str())),
            column::<Nullable<BigInt>, _>("band_prompt_tokens_max", bands),
            column::<Jsonb, _>("rates", rates),
        ])
        .once_if_alike([
            column::<BigInt, _>("cache_read_tokens", tokens(|r| r.usage.cache_read)?),
            column::<BigInt, _>("cache_write_tokens", tokens(|r| r.usage.cache_write)?),
            column::<BigInt, _>("reasoning_tokens", tokens(|r| r.usage.reasoning)?),
        ])
        .once_if_alike([
            column::<Nullable<Text>, _>("hold_id", names(|r| r.item.event.authorization.as_ref())),
            column::<Nullable<Text>, _>("api_key", names(|r| r.item.event.api_key.as_ref())),
        ])
        // What few events have other of than the rest.
        .once_if_alike([
            column::<Text, _>("outcome", texts(|r| r.item.event.outcome.name())),
            column::<Text, _>("usage_source", texts(|r| r.item.event.usage_source.name())),
            column::<Text, _>(
                "hold",
                texts(|r| if r.receipt.no_hold.is_none() { "captured" } else { "none" }),
            ),
            column::<Nullable<Text>, _>("hold_reason", no_holds),
            column::<Nullable<Text>, _>("unrated_reason", unrated),
            column::<BigInt, _>("overage", overage),
            column::<Nullable<Integer>, _>("catalog_version", versions),
            column::<Nullable<Jsonb>, _>("calls", calls),
            column::<Nullable<Integer>, _>("tried_version", tried),
        ])
        .insert_into("usage_events")
        .execute(&mut tx)
        .await?;
    Ok(())
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

/// Of each event that has no rate, the version that was the latest when one was looked for.
fn tried_versions<'r>(receipts: impl Iterator<Item = (&'r Receipt, u32)>) -> Result<Vec<Option<i32>>> {
    let tried = receipts.map(|(receipt, latest)| receipt.unrated_reason.is_some().then_some(latest));
    let tried: std::result::Result<Vec<_>, _> =
        tried.map(|tried| tried.map(i32::try_from).transpose()).collect();
    tried.map_err(|_| Error::broken("a catalogue's version"))
}

/// The columns of receipts, in the order of the events that they are of.
struct ReceiptColumns<'r> {
    unrated: Vec<Option<&'r str>>,
    credits: Vec<i64>,
    overage: Vec<i64>,
    versions: Vec<Option<i32>>,
    bands: Vec<Option<i64>>,
    rates: Vec<AsJson<Rates>>,
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
        unrated: receipts.clone().map(|r| r.unrated_reason.map(Unrated::code)).collect(),
        credits: receipts.clone().map(|r| r.credits.get()).collect(),
        overage: receipts.clone().map(|r| r.overage.get()).collect(),
        versions: versions.map_err(|_| Error::broken("a catalogue's version"))?,
        bands: bands.map_err(|_| Error::broken("a band's bound"))?,
        rates: receipts.clone().map(|r| AsJson(r.rates)).collect(),
        calls: receipts.clone().map(|r| calls::to_json(&r.calls)).collect::<Result<_>>()?,
        draws: receipts.clone().map(|r| AsJson(Draws(&r.draws))).collect(),
        balances: receipts.clone().map(|r| r.balance_after.get()).collect(),
        account_versions: receipts.map(|r| r.version).collect(),
    })
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
            model: external_id(row.model)?,
            usage: row.tokens.try_into()?,
            outcome: outcome.ok_or_else(|| Error::broken("an unknown outcome"))?,
            usage_source: usage_source.ok_or_else(|| Error::broken("an unknown source of usage"))?,
            event_time: row.event_time,
            recorded_at: row.recorded_at,
            authorization: optional_id(row.hold_id)?,
            api_key: optional_id(row.api_key)?,
            receipt: Receipt::try_from(row.answered)?,
            void: None,
        })
    }
}
