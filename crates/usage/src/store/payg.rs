//! The money parts of events: rows of those alone that have one.

use std::collections::BTreeMap;

use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::calendar::Zone;
use domain::id::{CustomerId, TenantId};
use domain::payg::{KindAmount, Pico};
use domain::rating::Unrated;
use domain::usage::TokenKind;
use domain::{Credits, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use super::{external_id, from_json, of_code, optional_id, to_json};
use crate::hours::HourKey;
use crate::payg::PaygShare;

/// A money part to be written.
pub(crate) struct NewShare<'a> {
    pub(crate) identity: Uuid,
    pub(crate) customer: CustomerId,
    pub(crate) event_time: Timestamp,
    pub(crate) model: &'a str,
    pub(crate) share: &'a PaygShare,
}

type LineColumns = (TokenKind, u64, u64, Pico);

fn lines_to_json(lines: &[KindAmount]) -> Result<Value> {
    let columns = lines.iter().map(|line| (line.kind, line.tokens, line.price_micro, line.pico));
    to_json(&columns.collect::<Vec<LineColumns>>())
}

pub(crate) fn lines_from_json(lines: Value) -> Result<Vec<KindAmount>> {
    let line = |(kind, tokens, price_micro, pico)| KindAmount { kind, tokens, price_micro, pico };
    Ok(from_json::<Vec<LineColumns>>(lines)?.into_iter().map(line).collect())
}

/// Inserts them, one statement for all of them.
pub(crate) async fn insert(
    tx: &mut Connection,
    tenant: TenantId,
    new: &[NewShare<'_>],
    now: Timestamp,
) -> Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    db::sql_query(
        "insert into usage_payg (tenant_id, recorded_at, identity, customer_id, event_time, model, currency, credits,
             pico, past_cap_pico, lines, unrated_reason)
         select $1, $2, n.identity, n.customer_id, n.event_time, n.model, n.currency, n.credits, n.pico::numeric,
             n.past_cap::numeric, n.lines, n.unrated
         from unnest($3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             as n(identity, customer_id, event_time, model, currency, credits, pico, past_cap, lines, unrated)",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Timestamptz, _>(now)
    .bind::<Array<SqlUuid>, _>(new.iter().map(|n| n.identity).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(new.iter().map(|n| n.customer.uuid()).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(new.iter().map(|n| n.event_time).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(new.iter().map(|n| n.model).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(new.iter().map(|n| n.share.currency.code()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(new.iter().map(|n| n.share.credits.get()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(new.iter().map(|n| n.share.pico.to_string()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(new.iter().map(|n| n.share.past_cap.to_string()).collect::<Vec<_>>())
    .bind::<Array<Jsonb>, _>(new.iter().map(|n| lines_to_json(&n.share.lines)).collect::<Result<Vec<_>>>()?)
    .bind::<Array<Nullable<Text>>, _>(
        new.iter().map(|n| n.share.unrated_reason.map(Unrated::code)).collect::<Vec<_>>(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Amount {
    #[diesel(sql_type = Text)]
    pico: String,
}

/// Marks the money part of a voided event, and says what it came to; none where it was invoiced, which stays.
pub(crate) async fn void(
    tx: &mut Connection,
    tenant: TenantId,
    identity: Uuid,
    now: Timestamp,
) -> Result<Option<Pico>> {
    let voided: Option<Amount> = db::sql_query(
        "update usage_payg set voided_at = $3
         where tenant_id = $1 and identity = $2 and invoice_id is null and voided_at is null
         returning pico::text as pico",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(identity)
    .bind::<Timestamptz, _>(now)
    .get_result(tx)
    .await
    .optional()?;
    voided.map(|amount| Ok(amount.pico.parse()?)).transpose()
}

#[derive(QueryableByName)]
struct HourRow {
    #[diesel(sql_type = Timestamptz)]
    hour: Timestamp,
    #[diesel(sql_type = Text)]
    model: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    band: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    api_key: Option<String>,
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = Text)]
    pico: String,
}

/// What a customer's usage of the hours from `from` until before `to` came to in money, by what the hours are cut by.
/// Voided events are no part of it. Of several calls all money is with the first.
pub(crate) async fn by_hour(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    zone: Zone,
    from: Timestamp,
    to: Timestamp,
) -> Result<BTreeMap<HourKey, (domain::Currency, Pico)>> {
    let rows: Vec<HourRow> = db::sql_query(
        "select e.event_time - (e.event_time at time zone $5 - date_trunc('hour', e.event_time at time zone $5)) as hour,
             coalesce(e.calls -> 0 ->> 0, e.model) as model,
             coalesce((e.calls -> 0 ->> 4)::bigint, e.band_prompt_tokens_max) as band, e.api_key, p.currency, sum(p.pico)::text as pico
         from usage_payg p
         join usage_events e on e.tenant_id = p.tenant_id and e.customer_id = p.customer_id
             and e.event_time = p.event_time and e.identity = p.identity
         where p.tenant_id = $1 and p.customer_id = $2 and p.event_time >= $3 and p.event_time < $4
             and not exists (select from usage_voids v
                 where v.tenant_id = p.tenant_id and v.identity = p.identity)
         group by 1, 2, 3, 4, 5",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(customer.uuid())
    .bind::<Timestamptz, _>(from)
    .bind::<Timestamptz, _>(to)
    .bind::<Text, _>(zone.name())
    .load(tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let band = row.band.map(u64::try_from).transpose();
            let key = HourKey {
                customer,
                hour: row.hour,
                model: external_id(row.model)?,
                band_prompt_tokens_max: band.map_err(|_| Error::broken("a band's bound"))?,
                api_key: optional_id(row.api_key)?,
            };
            Ok((key, (row.currency.parse()?, row.pico.parse()?)))
        })
        .collect()
}

/// The columns of a receipt's money part, of a left join.
#[derive(QueryableByName)]
pub(crate) struct ShareColumns {
    #[diesel(sql_type = Nullable<Text>)]
    payg_currency: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    payg_credits: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    payg_pico: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    payg_past_cap: Option<String>,
    #[diesel(sql_type = Nullable<Jsonb>)]
    payg_lines: Option<Value>,
    #[diesel(sql_type = Nullable<Text>)]
    payg_unrated: Option<String>,
}

impl ShareColumns {
    pub(crate) fn read(self) -> Result<Option<PaygShare>> {
        let ShareColumns { payg_currency, payg_credits, payg_pico, payg_past_cap, payg_lines, payg_unrated } =
            self;
        match (payg_currency, payg_credits, payg_pico, payg_past_cap, payg_lines) {
            (Some(currency), Some(credits), Some(pico), Some(past_cap), Some(lines)) => Ok(Some(PaygShare {
                currency: currency.parse()?,
                credits: Credits::new(credits)?,
                pico: pico.parse()?,
                past_cap: past_cap.parse()?,
                lines: lines_from_json(lines)?,
                unrated_reason: of_code(Unrated::of_code, payg_unrated)?,
            })),
            _ => Ok(None),
        }
    }
}
