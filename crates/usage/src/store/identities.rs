//! The identities of events, and what they were answered with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use db::{Connection, Error, Result, Rows, column};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::Credits;
use domain::account::Draw;
use domain::hold::NoHold;
use domain::id::{GrantId, TenantId};
use domain::rating::{Rates, Unrated};
use serde_json::Value;
use uuid::Uuid;

use super::{calls, from_json, of_code};
use crate::record::{Item, Receipt};

/// Inserts identities that are taken for new; says no where one was there, and then the transaction has failed back to
/// its savepoint. `items` are in identity order.
pub(crate) async fn insert_identities(
    tx: &mut Connection,
    tenant: TenantId,
    items: &[&Item<'_>],
) -> Result<bool> {
    let inserted = rows(tenant, items).insert_into("usage_identities").execute(tx).await;
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
    let inserted: Vec<Inserted> = rows(tenant, items)
        .insert_into("usage_identities")
        .then(" on conflict (tenant_id, identity) do nothing returning identity")
        .load(tx)
        .await?;
    Ok(inserted.into_iter().map(|row| row.identity).collect())
}

fn rows(tenant: TenantId, items: &[&Item<'_>]) -> Rows<'static> {
    Rows::default()
        .once::<SqlUuid, _>("tenant_id", tenant.uuid())
        .each([
            column::<SqlUuid, _>("identity", items.iter().map(|i| i.identity).collect()),
            column::<SqlUuid, _>("content", items.iter().map(|i| i.content).collect()),
            column::<SqlUuid, _>("customer_id", items.iter().map(|i| i.event.customer.uuid()).collect()),
        ])
        .once_if_alike([column::<Timestamptz, _>("event_time", items.iter().map(|i| i.event_time).collect())])
}

#[derive(QueryableByName)]
pub(super) struct AnsweredRow {
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
    payg: super::payg::ShareColumns,
}

/// The content and the receipt of events that were recorded before.
pub(crate) async fn answered(
    tx: &mut Connection,
    tenant: TenantId,
    identities: &[Uuid],
) -> Result<BTreeMap<Uuid, (Uuid, Arc<Receipt>)>> {
    if identities.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<AnsweredRow> = db::sql_query(answered!("", "and i.identity = any($2)"))
        .bind::<SqlUuid, _>(tenant.uuid())
        .bind::<Array<SqlUuid>, _>(identities)
        .load(tx)
        .await?;
    rows.into_iter().map(|row| Ok((row.identity, (row.content, Arc::new(Receipt::try_from(row)?))))).collect()
}

impl TryFrom<AnsweredRow> for Receipt {
    type Error = Error;

    fn try_from(row: AnsweredRow) -> Result<Self> {
        let out_of_range = |_| Error::broken("a receipt's number is out of range");
        Ok(Receipt {
            credits: Credits::new(row.credits)?,
            overage: Credits::new(row.overage)?,
            payg: row.payg.read()?,
            unrated_reason: of_code(Unrated::of_code, row.unrated_reason)?,
            catalog_version: row.catalog_version.map(u32::try_from).transpose().map_err(out_of_range)?,
            band_prompt_tokens_max: row
                .band_prompt_tokens_max
                .map(u64::try_from)
                .transpose()
                .map_err(out_of_range)?,
            rates: from_json::<Rates>(row.rates)?,
            calls: calls::from_json(row.calls)?,
            draws: from_json::<Vec<(GrantId, Credits)>>(row.draws)?
                .into_iter()
                .map(|(grant, credits)| Draw { grant, credits })
                .collect(),
            no_hold: of_code(NoHold::of_code, row.hold_reason)?,
            balance_after: Credits::new(row.balance_after)?,
            version: row.account_version,
        })
    }
}
