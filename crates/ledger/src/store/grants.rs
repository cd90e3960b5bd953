//! Grants.

use db::schema::grants;
use db::{Connection, Error, Result, Rows, column};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::account::{Account, Book};
use domain::grant::{Grant, GrantSource};
use domain::id::{CustomerId, GrantId, TenantId};
use domain::{Credits, Timestamp};
use std::collections::BTreeMap;
use uuid::Uuid;

use super::{SumRow, by_name, uuids};
use crate::GrantRow;

#[derive(Queryable, Selectable)]
#[diesel(table_name = grants)]
struct GrantDbRow {
    grant_id: Uuid,
    customer_id: Uuid,
    source: String,
    priority: i16,
    amount: i64,
    spent: i64,
    expired: i64,
    revoked: i64,
    expiry_version: Option<i64>,
    effective_at: Timestamp,
    expires_at: Option<Timestamp>,
    purchase_id: Uuid,
    created_at: Timestamp,
}

/// Its columns, in their order.
type GrantColumns = (
    SqlUuid,
    SqlUuid,
    Text,
    SmallInt,
    BigInt,
    BigInt,
    BigInt,
    BigInt,
    Nullable<BigInt>,
    Timestamptz,
    Nullable<Timestamptz>,
    SqlUuid,
    Timestamptz,
);

impl TryFrom<GrantDbRow> for Grant {
    type Error = Error;

    fn try_from(row: GrantDbRow) -> Result<Self> {
        Ok(Grant {
            id: GrantId::from_uuid(row.grant_id),
            source: by_name(&GrantSource::ALL, GrantSource::name, &row.source)?,
            priority: row.priority,
            amount: Credits::new(row.amount)?,
            spent: Credits::new(row.spent)?,
            expired: Credits::new(row.expired)?,
            revoked: Credits::new(row.revoked)?,
            expiry_version: row.expiry_version,
            effective_at: row.effective_at,
            expires_at: row.expires_at,
        })
    }
}

/// The grants with anything remaining, with `ended_after` those that are used up or expired but
/// whose time ended after it, and those that are named. No customer is named twice.
pub(crate) async fn open_grants(
    mut tx: &Connection,
    tenant: TenantId,
    customers: &[CustomerId],
    ended_after: Option<Timestamp>,
    named: &[GrantId],
) -> Result<BTreeMap<CustomerId, Vec<Grant>>> {
    // Look-ups by index for each customer, however many there are and whatever the planner thinks of that: hence the
    // offset. Each part is what one partial index has; the last is not looked at where nothing is named.
    let rows: Vec<GrantDbRow> = db::sql_query_of::<GrantColumns>(
        "select g.grant_id, g.customer_id, g.source, g.priority, g.amount, g.spent, g.expired, g.revoked,
             g.expiry_version, g.effective_at, g.expires_at, g.purchase_id, g.created_at
         from unnest($2) as n(id)
         cross join lateral (
             select * from grants
             where tenant_id = $1 and customer_id = n.id and not is_used_up
             union all
             select * from grants
             where tenant_id = $1 and customer_id = n.id and is_used_up and expires_at > $3
             union all
             select * from grants
             where tenant_id = $1 and customer_id = n.id and is_used_up and (expires_at > $3) is not true
                 and grant_id = any($4) and cardinality($4) > 0
             offset 0) g",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<SqlUuid>, _>(uuids(customers))
    .bind::<Nullable<Timestamptz>, _>(ended_after)
    .bind::<Array<SqlUuid>, _>(named.iter().map(|id| id.uuid()).collect::<Vec<_>>())
    .load(&mut tx)
    .await?;
    let mut by_customer: BTreeMap<CustomerId, Vec<Grant>> = BTreeMap::new();
    for row in rows {
        let customer = CustomerId::from_uuid(row.customer_id);
        by_customer.entry(customer).or_default().push(Grant::try_from(row)?);
    }
    Ok(by_customer)
}

pub(crate) async fn grants_page(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    after: Option<GrantId>,
    limit: i64,
) -> Result<Vec<GrantRow>> {
    let rows: Vec<GrantDbRow> = grants::table
        .filter(grants::tenant_id.eq(tenant.uuid()))
        .filter(grants::customer_id.eq(customer.uuid()))
        .filter(grants::grant_id.gt(after.map_or(Uuid::nil(), GrantId::uuid)))
        .order(grants::grant_id)
        .limit(limit)
        .select(GrantDbRow::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(GrantRow::try_from).collect()
}

impl TryFrom<GrantDbRow> for GrantRow {
    type Error = Error;

    fn try_from(row: GrantDbRow) -> Result<Self> {
        let (purchase_id, created_at) = (row.purchase_id, row.created_at);
        Ok(GrantRow { grant: Grant::try_from(row)?, purchase_id, created_at })
    }
}

pub(crate) async fn grant(
    tx: &mut Connection,
    tenant: TenantId,
    grant: GrantId,
) -> Result<Option<(CustomerId, GrantRow)>> {
    let row: Option<GrantDbRow> = grants::table
        .find((tenant.uuid(), grant.uuid()))
        .select(GrantDbRow::as_select())
        .first(tx)
        .await
        .optional()?;
    row.map(|row| Ok((CustomerId::from_uuid(row.customer_id), row.try_into()?))).transpose()
}

/// The sum that the grants live at `now` were made with.
pub(crate) async fn live_grants_amount(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    now: Timestamp,
) -> Result<Credits> {
    let sum: SumRow = db::sql_query(
        "select coalesce(sum(amount - revoked), 0)::bigint as total from grants
         where tenant_id = $1 and customer_id = $2 and effective_at <= $3
             and (expires_at is null or expires_at > $3)",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(customer.uuid())
    .bind::<Timestamptz, _>(now)
    .get_result(tx)
    .await?;
    Ok(Credits::new(sum.total)?)
}

pub(crate) async fn insert_grants(
    mut tx: &Connection,
    tenant: TenantId,
    accounts: &[&Account],
    now: Timestamp,
) -> Result<()> {
    let mut rows = Vec::new();
    for account in accounts {
        for grant in account.issued_grants() {
            let issued = account
                .journal()
                .iter()
                .map(|posted| &posted.transfer)
                .find(|transfer| transfer.grant == Some(grant.id) && transfer.debit == Book::Issued)
                .ok_or_else(|| Error::broken(format!("grant {} was never issued", grant.id)))?;
            rows.push((account.customer(), grant, issued.cause.id));
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    db::sql_query(
        "insert into grants (tenant_id, created_at, grant_id, customer_id, source, priority, amount, spent,
             expired, revoked, expiry_version, effective_at, expires_at, purchase_id)
         select $1, $2, n.* from unnest($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) as n",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Timestamptz, _>(now)
    .bind::<Array<SqlUuid>, _>(rows.iter().map(|(_, g, _)| g.id.uuid()).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(rows.iter().map(|(customer, _, _)| customer.uuid()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(rows.iter().map(|(_, g, _)| g.source.name()).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(rows.iter().map(|(_, g, _)| g.priority).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(rows.iter().map(|(_, g, _)| g.amount.get()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(rows.iter().map(|(_, g, _)| g.spent.get()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(rows.iter().map(|(_, g, _)| g.expired.get()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(rows.iter().map(|(_, g, _)| g.revoked.get()).collect::<Vec<_>>())
    .bind::<Array<Nullable<BigInt>>, _>(rows.iter().map(|(_, g, _)| g.expiry_version).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(rows.iter().map(|(_, g, _)| g.effective_at).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(rows.iter().map(|(_, g, _)| g.expires_at).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(rows.iter().map(|(_, _, purchase)| *purchase).collect::<Vec<_>>())
    .execute(&mut tx)
    .await?;
    Ok(())
}

pub(crate) async fn update_grants(
    mut tx: &Connection,
    tenant: TenantId,
    accounts: &[&Account],
) -> Result<()> {
    let changed: Vec<&Grant> = accounts.iter().flat_map(|a| a.changed_grants()).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let rows = Rows::default()
        .each([
            column::<SqlUuid, _>("grant_id", changed.iter().map(|g| g.id.uuid()).collect()),
            column::<BigInt, _>("spent", changed.iter().map(|g| g.spent.get()).collect()),
        ])
        // Those that are drawn on are neither, nearly always.
        .once_if_alike([
            column::<BigInt, _>("expired", changed.iter().map(|g| g.expired.get()).collect()),
            column::<BigInt, _>("revoked", changed.iter().map(|g| g.revoked.get()).collect()),
            column::<Nullable<BigInt>, _>(
                "expiry_version",
                changed.iter().map(|g| g.expiry_version).collect(),
            ),
        ]);
    db::sql_query(
        "update grants g
         set spent = n.spent, expired = n.expired, revoked = n.revoked, expiry_version = n.expiry_version
         from (",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .rows(rows, ") n where g.tenant_id = $1 and g.grant_id = n.grant_id")
    .execute(&mut tx)
    .await?;
    Ok(())
}

/// By the grants of plans, in the order of what is asked.
pub(crate) async fn paid_cycle_starts(
    tx: &mut Connection,
    tenant: TenantId,
    asked: &[(CustomerId, Timestamp)],
) -> Result<Vec<Option<Timestamp>>> {
    #[derive(QueryableByName)]
    struct Start {
        #[diesel(sql_type = Nullable<Timestamptz>)]
        starts_at: Option<Timestamp>,
    }
    let rows: Vec<Start> = db::sql_query(
        "select (select max(g.effective_at) from grants g
                 where g.tenant_id = $1 and g.customer_id = n.customer_id and g.source = 'plan'
                     and g.effective_at <= n.at and g.expires_at > n.at) as starts_at
         from unnest($2, $3) with ordinality as n (customer_id, at, place) order by n.place",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<SqlUuid>, _>(asked.iter().map(|(customer, _)| customer.uuid()).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(asked.iter().map(|(_, at)| *at).collect::<Vec<_>>())
    .load(tx)
    .await?;
    Ok(rows.into_iter().map(|row| row.starts_at).collect())
}
