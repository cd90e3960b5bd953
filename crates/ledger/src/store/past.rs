//! The past, from the transfers.

use db::schema::transfers;
use db::{Connection, Result};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::account::Book;
use domain::grant::GrantSource;
use domain::id::{CustomerId, TenantId};
use domain::statement::Movement;
use domain::{Credits, Timestamp};

use super::{SumRow, by_name};
use crate::as_of::PastGrant;
use crate::movements::Cut;

/// The last version that was recorded by then; 0 before the first.
pub(crate) async fn version_at(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    at: Timestamp,
) -> Result<i64> {
    let last = transfers::table
        .filter(transfers::tenant_id.eq(tenant.uuid()))
        .filter(transfers::customer_id.eq(customer.uuid()))
        .filter(transfers::recorded_at.le(at))
        .order(transfers::version.desc())
        .select(transfers::version)
        .first::<i64>(tx)
        .await
        .optional()?;
    Ok(last.unwrap_or(0))
}

pub(crate) async fn recorded_at(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    version: i64,
) -> Result<Option<Timestamp>> {
    let transfer = transfers::table.find((tenant.uuid(), customer.uuid(), version));
    Ok(transfer.select(transfers::recorded_at).first(tx).await.optional()?)
}

/// The last version before a cut; 0 before the first.
pub(crate) async fn version_of_cut(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    cut: Cut,
) -> Result<i64> {
    let is_before = transfers::recorded_at.lt(cut.at).or(transfers::cause_kind
        .eq_any(["expiry", "cancel"])
        .and(transfers::event_time.le(cut.at))
        .and(transfers::recorded_at.le(cut.done_at)));
    let last = transfers::table
        .filter(transfers::tenant_id.eq(tenant.uuid()))
        .filter(transfers::customer_id.eq(customer.uuid()))
        .filter(is_before)
        .order(transfers::version.desc())
        .select(transfers::version)
        .first::<i64>(tx)
        .await
        .optional()?;
    Ok(last.unwrap_or(0))
}

#[derive(QueryableByName)]
struct PastGrantRow {
    #[diesel(sql_type = Timestamptz)]
    effective_at: Timestamp,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    expires_at: Option<Timestamp>,
    #[diesel(sql_type = BigInt)]
    granted: i64,
    #[diesel(sql_type = BigInt)]
    remaining: i64,
}

/// What the transfers up to a version come to, a grant.
pub(crate) async fn past_grants(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    version: i64,
) -> Result<Vec<PastGrant>> {
    let rows: Vec<PastGrantRow> = db::sql_query(
        "select g.effective_at, g.expires_at, t.granted, t.remaining
         from (
             select grant_id,
                 (sum(case when debit in ('issued', 'revoked') then credits when credit = 'revoked' then -credits
                     else 0 end))::bigint as granted,
                 sum(case when credit = 'available' then credits else -credits end)::bigint as remaining
             from transfers
             where tenant_id = $1 and customer_id = $2 and version <= $3 and grant_id is not null
             group by grant_id
         ) t
         join grants g on g.tenant_id = $1 and g.grant_id = t.grant_id",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(customer.uuid())
    .bind::<BigInt, _>(version)
    .load(tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(PastGrant {
                effective_at: row.effective_at,
                expires_at: row.expires_at,
                granted: Credits::new(row.granted)?,
                remaining: Credits::new(row.remaining)?,
            })
        })
        .collect()
}

/// Usage up to a version that no grant paid for, less what was voided of it.
pub(crate) async fn past_overage(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    version: i64,
) -> Result<Credits> {
    let sum: SumRow = db::sql_query(
        "select coalesce(sum(case when debit = 'overage' then credits else -credits end), 0)::bigint as total
         from transfers
         where tenant_id = $1 and customer_id = $2 and version <= $3 and 'overage' in (debit, credit)",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(customer.uuid())
    .bind::<BigInt, _>(version)
    .get_result(tx)
    .await?;
    Ok(Credits::new(sum.total)?)
}

#[derive(QueryableByName)]
struct MovementRow {
    #[diesel(sql_type = Text)]
    debit: String,
    #[diesel(sql_type = Text)]
    credit: String,
    #[diesel(sql_type = Nullable<Text>)]
    source: Option<String>,
    #[diesel(sql_type = BigInt)]
    credits: i64,
}

/// What moved after one version up to another, by books and by the grant's source.
pub(crate) async fn movements(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    after_version: i64,
    to_version: i64,
) -> Result<Vec<Movement>> {
    let rows: Vec<MovementRow> = db::sql_query(
        "select t.debit, t.credit, g.source, sum(t.credits)::bigint as credits
         from transfers t
         left join grants g on g.tenant_id = t.tenant_id and g.grant_id = t.grant_id
         where t.tenant_id = $1 and t.customer_id = $2 and t.version > $3 and t.version <= $4
         group by t.debit, t.credit, g.source
         order by t.debit, t.credit, g.source",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(customer.uuid())
    .bind::<BigInt, _>(after_version)
    .bind::<BigInt, _>(to_version)
    .load(tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let source = row.source.map(|name| by_name(&GrantSource::ALL, GrantSource::name, &name));
            Ok(Movement {
                debit: by_name(&Book::ALL, Book::name, &row.debit)?,
                credit: by_name(&Book::ALL, Book::name, &row.credit)?,
                source: source.transpose()?,
                credits: Credits::new(row.credits)?,
            })
        })
        .collect()
}
