//! All SQL about adjustments.

pub(crate) mod campaigns;

use std::collections::BTreeSet;

use db::schema::adjustments;
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::id::{AdjustmentId, ApiKeyId, CustomerId, GrantId, TenantId};
use domain::{Credits, Refusal, Timestamp};
use uuid::Uuid;

use crate::{Adjusted, Adjustment, Kind};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = adjustments, check_for_backend(diesel::pg::Pg))]
struct Row {
    tenant_id: Uuid,
    adjustment_id: Uuid,
    customer_id: Uuid,
    kind: String,
    grant_id: Uuid,
    credits: i64,
    reason: String,
    made_by: Uuid,
    made_at: Timestamp,
    campaign_tag: Option<String>,
}

impl Row {
    fn new(tenant: TenantId, adjustment: &Adjustment) -> Row {
        Row {
            tenant_id: tenant.uuid(),
            adjustment_id: adjustment.id.uuid(),
            customer_id: adjustment.customer.uuid(),
            kind: adjustment.kind.name().to_owned(),
            grant_id: adjustment.grant.uuid(),
            credits: adjustment.credits.get(),
            reason: adjustment.reason.clone(),
            made_by: adjustment.made_by.uuid(),
            made_at: adjustment.made_at,
            campaign_tag: adjustment.campaign_tag.clone(),
        }
    }
}

impl TryFrom<Row> for Adjustment {
    type Error = Error;

    fn try_from(row: Row) -> Result<Adjustment> {
        Ok(Adjustment {
            id: AdjustmentId::from_uuid(row.adjustment_id),
            customer: CustomerId::from_uuid(row.customer_id),
            kind: by_name(&Kind::ALL, Kind::name, &row.kind)?,
            grant: GrantId::from_uuid(row.grant_id),
            credits: Credits::new(row.credits)?,
            reason: row.reason,
            made_by: ApiKeyId::from_uuid(row.made_by),
            made_at: row.made_at,
            campaign_tag: row.campaign_tag,
        })
    }
}

/// The value of this name; a row with another one is broken.
fn by_name<T: Copy>(all: &[T], name: fn(T) -> &'static str, text: &str) -> Result<T> {
    let found = all.iter().copied().find(|value| name(*value) == text);
    found.ok_or_else(|| Error::broken(format!("a row holds the unknown name {text:?}")))
}

pub(crate) async fn insert(tx: &mut Connection, tenant: TenantId, adjustment: &Adjustment) -> Result<()> {
    let row = Row::new(tenant, adjustment);
    diesel::insert_into(adjustments::table).values(row).execute(tx).await?;
    Ok(())
}

/// Inserts those of a campaign whose customers have none of its tag yet, and says whose they are.
pub(crate) async fn insert_new(
    tx: &mut Connection,
    tenant: TenantId,
    all: &[Adjustment],
) -> Result<BTreeSet<CustomerId>> {
    let rows: Vec<Row> = all.iter().map(|adjustment| Row::new(tenant, adjustment)).collect();
    let new: Vec<Uuid> = diesel::insert_into(adjustments::table)
        .values(rows)
        .on_conflict((adjustments::tenant_id, adjustments::campaign_tag, adjustments::customer_id))
        .do_nothing()
        .returning(adjustments::customer_id)
        .get_results(tx)
        .await?;
    Ok(new.into_iter().map(CustomerId::from_uuid).collect())
}

/// An adjustment with its grant and its account as they are now.
pub(crate) async fn adjusted(tx: &mut Connection, tenant: TenantId, id: AdjustmentId) -> Result<Adjusted> {
    let adjustment: Adjustment = adjustments::table
        .find((tenant.uuid(), id.uuid()))
        .select(Row::as_select())
        .first(tx)
        .await
        .optional()?
        .ok_or(Refusal::NotFound { what: "adjustment" })?
        .try_into()?;
    let (_, grant) = ledger::grant(tx, tenant, adjustment.grant)
        .await?
        .ok_or_else(|| Error::broken(format!("{id} has no grant")))?;
    let account_version = ledger::version(tx, tenant, adjustment.customer).await?;
    Ok(Adjusted { adjustment, grant, account_version })
}

pub(crate) async fn of_causes(
    tx: &mut Connection,
    tenant: TenantId,
    causes: &[Uuid],
) -> Result<Vec<Adjustment>> {
    let rows: Vec<Row> = adjustments::table
        .filter(adjustments::tenant_id.eq(tenant.uuid()))
        .filter(adjustments::adjustment_id.eq_any(causes))
        .select(Row::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(Adjustment::try_from).collect()
}
