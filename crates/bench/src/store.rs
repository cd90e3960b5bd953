//! The SQL that sets a benchmark up and looks at what is left of it; the baselines of ingest in [`raw`].

pub(crate) mod raw;

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

/// Events of the last 29 days, from number `from` until before `to`, spread over a tenant's customers and hours, with their
/// sums by the hour. They are not in the ledger: reports do not look there.
pub(crate) async fn add_month(
    admin: &mut AsyncPgConnection,
    tenant: TenantId,
    from: i64,
    to: i64,
) -> anyhow::Result<()> {
    execute(
        admin,
        "select open_usage_month(date_trunc('month', now() at time zone 'UTC')::date);
         select open_usage_month((date_trunc('month', now() at time zone 'UTC') - interval '1 month')::date);
         create temp table if not exists bench_customers as
             select customer_id, row_number() over () - 1 as n from credit_accounts;
         create index if not exists bench_customers_by_n on bench_customers (n);
         analyze bench_customers",
    )
    .await?;
    // Its foreign keys are looked at for each of the rows otherwise, which costs the most.
    execute(admin, "set session_replication_role = replica").await?;
    let events = "insert into usage_events (tenant_id, identity, customer_id, source, event_id, model, input_tokens,
             cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, outcome, usage_source, event_time,
             recorded_at, hold, hold_reason, credits, overage, catalog_version, band_prompt_tokens_max, rates, draws,
             balance_after, account_version)
         select $1, gen_random_uuid(), c.customer_id, 'urn:bench', 'event-' || k,
             case when k % 7 < 5 then 'mimo-v2-pro' else 'mimo-v2-omni' end, 1200, 0, 0, 500, 0, 'completed', 'provider', at, at,
             'none', 'not-named', 3400, 0, 1, 262144, '[[\"input\", 2000], [\"output\", 2000]]',
             jsonb_build_array(jsonb_build_array(c.customer_id, 3400)), 1, 2
         from (select k, date_trunc('minute', now()) - random() * interval '29 days' as at
               from generate_series($2, $3 - 1) as k) e
         join bench_customers c on c.n = e.k % (select count(*) from bench_customers)";
    diesel::sql_query(events)
        .bind::<SqlUuid, _>(tenant.uuid())
        .bind::<BigInt, _>(from)
        .bind::<BigInt, _>(to)
        .execute(admin)
        .await?;
    execute(
        admin,
        "truncate usage_hours;
         insert into usage_hours
         select tenant_id, customer_id, date_trunc('hour', event_time), model, band_prompt_tokens_max, '', count(*),
             sum(input_tokens), 0, 0, sum(output_tokens), 0, sum(credits), 0
         from usage_events group by 1, 2, 3, 4, 5;
         analyze",
    )
    .await
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
