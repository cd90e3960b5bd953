//! Accounts as the projection has them, many at a time and without a lock.

use db::{Connection, Result};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Nullable, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::Timestamp;
use domain::id::{CustomerId, TenantId};
use uuid::Uuid;

use super::uuids;

/// What an account's projection has to say at an instant.
#[derive(QueryableByName)]
pub(crate) struct Due {
    #[diesel(sql_type = SqlUuid)]
    pub(crate) customer_id: Uuid,
    #[diesel(sql_type = BigInt)]
    pub(crate) revision: i64,
    #[diesel(sql_type = BigInt)]
    pub(crate) available: i64,
    /// The next instant at which `available` changes by itself.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub(crate) changes_at: Option<Timestamp>,
}

/// Customers with an account, in the order of their ids, those after `after`.
pub(crate) async fn customers_page(
    tx: &mut Connection,
    tenant: TenantId,
    after: Uuid,
    limit: i64,
) -> Result<Vec<CustomerId>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        customer_id: Uuid,
    }
    let rows: Vec<Row> = db::sql_query(
        "select customer_id from credit_accounts where tenant_id = $1 and customer_id > $2
         order by customer_id limit $3",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(after)
    .bind::<BigInt, _>(limit)
    .load(tx)
    .await?;
    Ok(rows.into_iter().map(|row| CustomerId::from_uuid(row.customer_id)).collect())
}

/// In one statement, so that each account's revision and value belong together.
pub(crate) async fn due_projections(
    tx: &mut Connection,
    tenant: TenantId,
    customers: &[CustomerId],
    now: Timestamp,
) -> Result<Vec<Due>> {
    let rows = db::sql_query(
        "select a.customer_id, a.version + a.changes as revision,
             coalesce(sum(g.remaining) filter (where g.effective_at <= $3
                 and (g.expires_at is null or g.expires_at > $3)), 0)::bigint as available,
             least(min(g.effective_at) filter (where g.effective_at > $3),
                 min(g.expires_at) filter (where g.expires_at > $3)) as changes_at
         from credit_accounts a
         left join grants g on g.tenant_id = a.tenant_id and g.customer_id = a.customer_id and not g.is_used_up
         where a.tenant_id = $1 and a.customer_id = any ($2)
         group by a.customer_id, a.version, a.changes",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<SqlUuid>, _>(uuids(customers))
    .bind::<Timestamptz, _>(now)
    .load(tx)
    .await?;
    Ok(rows)
}
