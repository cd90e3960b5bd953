//! The SQL that sets a benchmark up and looks at what is left of it.

use db::{Connection, Result};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use domain::Timestamp;
use domain::id::{CustomerId, TenantId};
use uuid::Uuid;

/// A superuser's connection, for what the product may not do.
pub(crate) async fn connect(url: &str) -> anyhow::Result<AsyncPgConnection> {
    Ok(AsyncPgConnection::establish(url).await?)
}

/// Runs a file's statements, or our own.
pub(crate) async fn execute(admin: &mut AsyncPgConnection, statements: &str) -> anyhow::Result<()> {
    Ok(admin.batch_execute(statements).await?)
}

/// Customers with an empty credit account each, as `Tenants::create_customer` makes one.
pub(crate) async fn insert_customers(
    tx: &mut Connection,
    tenant: TenantId,
    customers: &[CustomerId],
    now: Timestamp,
) -> Result<()> {
    let ids: Vec<Uuid> = customers.iter().map(|customer| customer.uuid()).collect();
    for statement in [
        "insert into customers (tenant_id, customer_id, external_id, created_at)
         select $1, id, id::text, $3 from unnest($2) as n(id)",
        "insert into credit_accounts (tenant_id, customer_id, last_recorded_at)
         select $1, id, $3 from unnest($2) as n(id)",
    ] {
        diesel::sql_query(statement)
            .bind::<SqlUuid, _>(tenant.uuid())
            .bind::<Array<SqlUuid>, _>(&ids)
            .bind::<Timestamptz, _>(now)
            .execute(tx)
            .await?;
    }
    Ok(())
}

/// How many of a tenant's accounts break an invariant: books that do not sum up to zero, or a version
/// that is not the number of its transfers.
pub(crate) async fn broken_accounts(tx: &mut Connection, tenant: TenantId) -> Result<i64> {
    let row: Count = diesel::sql_query(
        "select count(*) as count
         from credit_accounts a
         left join (select customer_id, count(*) as made, max(version) as latest
                    from transfers where tenant_id = $1 group by customer_id) t using (customer_id)
         where a.tenant_id = $1
           and (a.issued + a.available + a.spent + a.expired + a.revoked + a.overage <> 0
                or a.version <> coalesce(t.made, 0) or a.version <> coalesce(t.latest, 0))",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .get_result(tx)
    .await?;
    Ok(row.count)
}

/// pgledger's accounts, numbered from 1 in a table of ours that its benchmark script reads.
pub(crate) async fn make_pgledger_accounts(admin: &mut AsyncPgConnection, count: i64) -> anyhow::Result<()> {
    execute(admin, "create table bench_accounts (n bigint primary key, account text not null)").await?;
    diesel::sql_query(
        "insert into bench_accounts
         select n, (pgledger_create_account('bench ' || n, 'USD')).id from generate_series(1, $1) as n",
    )
    .bind::<BigInt, _>(count)
    .execute(admin)
    .await?;
    Ok(())
}

/// The server's version, for the report.
pub(crate) async fn version(admin: &mut AsyncPgConnection) -> anyhow::Result<String> {
    let row: Version =
        diesel::sql_query("select current_setting('server_version') as version").get_result(admin).await?;
    Ok(row.version)
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = Text)]
    version: String,
}
