//! The baselines of ingest: rows like the product's, into the product's own tables, without the product.
//!
//! Nothing is priced, parsed, locked or looked up, there is no request, and what an account's balance comes to
//! is known beforehand. The rows are those of a tenant of their own.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use domain::calendar::Zone;
use domain::id::{CustomerId, TenantId};
use domain::policy::Policies;
use domain::scope::TenantMode;
use futures_util::{SinkExt, future::try_join_all, pin_mut};
use serde_json::{Value, json};
use tenants::NewTenant;
use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Transaction};
use uuid::Uuid;

use crate::compare::Turn;
use crate::cpu::{Cpu, Processes};
use crate::requests::{CREDITS_HELD, MODEL, OUTPUT_TOKENS, PROMPT_TOKENS, Random, SOURCE};
use crate::world::{World, now};

const BAND: i64 = 262_144;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `insert .. select unnest` into the tables of events, with the sums by the hour and one update of each
    /// account and grant. Each connection has customers of its own, so that none waits for the other's locks.
    Sql,
    /// The same, and what all rows have is sent once and not in an array.
    SqlAlikeOnce,
    /// As `Sql`, with the same customers in all of them. Their accounts are locked, in order, before the sums and balances are written:
    /// without it two such transactions would wait for each other in a circle.
    SqlSameCustomers,
    /// `copy` into the three tables that get a row an event; no balance, no sums.
    Copy,
}

/// Some connections that write at the same time.
pub(crate) struct Raw {
    tenant: TenantId,
    processes: Processes,
    writers: Vec<Mutex<Writer>>,
}

type Accounts = Arc<std::sync::Mutex<Vec<AccountRow>>>;

struct Writer {
    client: Client,
    accounts: Accounts,
    /// The places of the customers that are this connection's own.
    own: Range<usize>,
    statements: Vec<tokio_postgres::Statement>,
}

#[derive(Debug, Clone, Copy)]
struct AccountRow {
    customer: Uuid,
    grant: Uuid,
    version: i64,
    spent: i64,
    pool: i64,
}

/// One event with all that its rows have.
struct EventRow {
    identity: Uuid,
    content: Uuid,
    id: String,
    account: AccountRow,
    chain: Vec<u8>,
    time: DateTime<Utc>,
}

type Param<'v> = &'v (dyn ToSql + Sync);

/// Where the first three of [`STATEMENTS`] come once more, for [`Way::SqlAlikeOnce`].
const ALIKE_ONCE: usize = 7;
const STATEMENTS: [&str; 10] = [
    "insert into usage_identities (tenant_id, identity, content, customer_id, event_time)
     select $1, n.* from unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::timestamptz[]) as n
     on conflict do nothing",
    "insert into transfers (tenant_id, customer_id, version, debit, credit, grant_id, credits, cause_kind, cause_id,
         event_time, recorded_at, chain)
     select $1, n.customer, n.version, 'available', 'spent', n.of_grant, n.credits, 'usage', n.cause, n.at, n.at, n.chain
     from unnest($2::uuid[], $3::bigint[], $4::uuid[], $5::bigint[], $6::uuid[], $7::timestamptz[], $8::bytea[])
         as n(customer, version, of_grant, credits, cause, at, chain)
     on conflict do nothing",
    "insert into usage_events (tenant_id, identity, customer_id, source, event_id, model, input_tokens,
         cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, outcome, usage_source, event_time,
         recorded_at, hold, hold_reason, credits, overage, catalog_version, band_prompt_tokens_max, rates, draws,
         balance_after, account_version)
     select $1, n.identity, n.customer, n.source, n.id, n.model, n.input, 0, 0, n.output, 0, 'completed', 'provider',
         n.at, n.at, 'none', 'not-named', n.credits, 0, 1, n.band, n.rates, n.draws, n.balance, n.version
     from unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[],
             $9::timestamptz[], $10::bigint[], $11::bigint[], $12::jsonb[], $13::jsonb[], $14::bigint[], $15::bigint[])
         as n(identity, customer, source, id, model, input, output, at, credits, band, rates, draws, balance, version)
     on conflict do nothing",
    "insert into usage_hours as h (tenant_id, customer_id, hour, model, band_prompt_tokens_max, api_key, events,
         input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, credits, overage)
     select $1, n.customer, $2, $3, $4, '', n.events, n.events * $5, 0, 0, n.events * $6, 0, n.events * $7, 0
     from unnest($8::uuid[], $9::bigint[]) as n(customer, events)
     on conflict (tenant_id, customer_id, hour, model, band_prompt_tokens_max, api_key) do update
     set events = h.events + excluded.events, input_tokens = h.input_tokens + excluded.input_tokens,
         output_tokens = h.output_tokens + excluded.output_tokens, credits = h.credits + excluded.credits",
    // Of two transactions with the same customers the one that drew its numbers first may be the last.
    "update grants g set spent = greatest(g.spent, n.spent) from unnest($2::uuid[], $3::bigint[]) as n(id, spent)
     where g.tenant_id = $1 and g.grant_id = n.id",
    "update credit_accounts a set version = greatest(a.version, n.version), spent = greatest(a.spent, n.spent),
         available = -issued - greatest(a.spent, n.spent), chain = n.chain
     from unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bytea[]) as n(customer, version, spent, chain)
     where a.tenant_id = $1 and a.customer_id = n.customer",
    "select count(*) from (select from unnest($2::uuid[]) as n(customer) join credit_accounts a on a.customer_id = n.customer
         where a.tenant_id = $1 order by a.customer_id for no key update of a) locked",
    "insert into usage_identities (tenant_id, identity, content, customer_id, event_time)
     select $1, n.*, $5 from unnest($2::uuid[], $3::uuid[], $4::uuid[]) as n
     on conflict do nothing",
    "insert into transfers (tenant_id, customer_id, version, debit, credit, grant_id, credits, cause_kind, cause_id,
         event_time, recorded_at, chain)
     select $1, n.customer, n.version, 'available', 'spent', n.of_grant, n.credits, 'usage', n.cause, $7, $7, n.chain
     from unnest($2::uuid[], $3::bigint[], $4::uuid[], $5::bigint[], $6::uuid[], $8::bytea[])
         as n(customer, version, of_grant, credits, cause, chain)
     on conflict do nothing",
    "insert into usage_events (tenant_id, identity, customer_id, source, event_id, model, input_tokens,
         cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, outcome, usage_source, event_time,
         recorded_at, hold, hold_reason, credits, overage, catalog_version, band_prompt_tokens_max, rates, draws,
         balance_after, account_version)
     select $1, n.identity, n.customer, $4, n.id, $6, n.input, 0, 0, n.output, 0, 'completed', 'provider',
         $9, $9, 'none', 'not-named', n.credits, 0, 1, $11, $12, n.draws, n.balance, n.version
     from unnest($2::uuid[], $3::uuid[], $5::text[], $7::bigint[], $8::bigint[], $10::bigint[], $13::jsonb[],
             $14::bigint[], $15::bigint[])
         as n(identity, customer, id, input, output, credits, draws, balance, version)
     on conflict do nothing",
];

impl Raw {
    pub(crate) async fn start(
        world: &World,
        customers: usize,
        pool: i64,
        connections: usize,
    ) -> anyhow::Result<Raw> {
        let new = NewTenant {
            name: "Raw".to_owned(),
            mode: TenantMode::Live,
            zone: Zone::UTC,
            policies: Policies::default(),
        };
        let tenant = world.tenants.create(new).await?;
        let shared = Accounts::default();
        let mut writers = Vec::new();
        for _ in 0..connections {
            let customers: Vec<CustomerId> =
                world.add_customers_of(tenant, customers / connections, pool).await?;
            let client = connect(&world.postgres_url("tollgate")).await?;
            let mut accounts = Vec::new();
            for customer in customers {
                let sql = "select grant_id from grants where customer_id = $1";
                let grant = client.query_one(sql, &[&customer.uuid()]).await?.get(0);
                // Its first transfer was the grant's.
                accounts.push(AccountRow { customer: customer.uuid(), grant, version: 1, spent: 0, pool });
            }
            let statements = try_join_all(STATEMENTS.iter().map(|sql| client.prepare(sql))).await?;
            let mut all = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let own = all.len()..all.len() + accounts.len();
            all.extend(accounts);
            drop(all);
            writers.push(Mutex::new(Writer { client, accounts: shared.clone(), own, statements }));
        }
        Ok(Raw { tenant, processes: world.processes(None), writers })
    }

    /// Lets all connections write one batch after the other.
    pub(crate) fn take(&self, way: Way, batch: usize, window: Duration, run: u32) -> anyhow::Result<Turn> {
        let count = AtomicU64::new(0);
        let writing = async {
            let (before, started) = (Cpu::now(self.processes)?, Instant::now());
            let until = started + window;
            let writers = self.writers.iter().enumerate().map(|(index, writer)| {
                let random =
                    Random::new(u64::from(run) * 1_000 + u64::try_from(index).unwrap_or_default() + 1);
                let count = &count;
                async move {
                    let mut writer = writer.lock().await;
                    writer.write_until(self.tenant.uuid(), way, batch, until, random, count).await
                }
            });
            try_join_all(writers).await?;
            let (elapsed, cpu) = (started.elapsed(), Cpu::now(self.processes)?.since(before));
            Ok(Turn::new(count.load(Ordering::Relaxed), elapsed, cpu))
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(writing))
    }

    /// How wide the rows of both sides are: the same work is compared only where they are alike.
    pub(crate) async fn print_row_bytes(&self, product: TenantId) -> anyhow::Result<()> {
        let writer = self.writers.first().context("no connection")?.lock().await;
        for table in ["usage_identities", "usage_events", "transfers"] {
            let sql = format!(
                "select avg(pg_column_size(t.*))::float8 from (select * from {table} where tenant_id = $1 limit 100000) t"
            );
            let ours: f64 = writer.client.query_one(&sql, &[&product.uuid()]).await?.get(0);
            let raw: f64 = writer.client.query_one(&sql, &[&self.tenant.uuid()]).await?.get(0);
            println!("bytes a row of {table}: product {ours:.0}, raw {raw:.0}");
        }
        Ok(())
    }
}

impl Writer {
    async fn write_until(
        &mut self,
        tenant: Uuid,
        way: Way,
        batch: usize,
        until: Instant,
        mut random: Random,
        count: &AtomicU64,
    ) -> anyhow::Result<()> {
        while Instant::now() < until {
            let rows = self.rows(way, batch, &mut random);
            let tx = self.client.transaction().await?;
            match way {
                Way::Sql | Way::SqlAlikeOnce | Way::SqlSameCustomers => {
                    insert(&tx, &self.statements, tenant, way, &rows).await?;
                }
                Way::Copy => copy(&tx, tenant, &rows).await?,
            }
            tx.commit().await?;
            count.fetch_add(u64::try_from(batch)?, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A batch of events, in the order in which the product writes them.
    fn rows(&self, way: Way, batch: usize, random: &mut Random) -> Vec<EventRow> {
        let mut all = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let accounts =
            if way == Way::SqlSameCustomers { all.as_mut_slice() } else { &mut all[self.own.clone()] };
        let count = u64::try_from(accounts.len()).unwrap_or_default();
        let time = now();
        let rows = (0..batch).map(|number| {
            let at = usize::try_from(random.below(count)).unwrap_or_default();
            let account = &mut accounts[at];
            account.version += 1;
            account.spent += CREDITS_HELD;
            let mut bytes =
                || (u128::from(random.below(u64::MAX)) << 64) | u128::from(random.below(u64::MAX));
            let (identity, content) = (Uuid::from_u128(bytes()), Uuid::from_u128(bytes()));
            let chain = [bytes().to_be_bytes(), bytes().to_be_bytes()].concat();
            let id = format!("{:08x}-{:08x}-{number:04x}", identity.as_fields().0, content.as_fields().0);
            EventRow { identity, content, id, account: *account, chain, time }
        });
        let mut rows: Vec<EventRow> = rows.collect();
        rows.sort_by_key(|row| row.identity);
        rows
    }
}

fn rates() -> Value {
    json!([["input", 2_000], ["output", 2_000]])
}

async fn insert(
    tx: &Transaction<'_>,
    statements: &[tokio_postgres::Statement],
    tenant: Uuid,
    way: Way,
    rows: &[EventRow],
) -> anyhow::Result<()> {
    let each = rows.len();
    let identities: Vec<Uuid> = rows.iter().map(|row| row.identity).collect();
    let contents: Vec<Uuid> = rows.iter().map(|row| row.content).collect();
    let customers: Vec<Uuid> = rows.iter().map(|row| row.account.customer).collect();
    let grants: Vec<Uuid> = rows.iter().map(|row| row.account.grant).collect();
    let versions: Vec<i64> = rows.iter().map(|row| row.account.version).collect();
    let credits = vec![CREDITS_HELD; each];
    let time = rows.first().context("no rows")?.time;
    let hour = time.duration_trunc(TimeDelta::hours(1))?;
    let chains: Vec<&[u8]> = rows.iter().map(|row| row.chain.as_slice()).collect();
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let draws: Vec<Value> = rows.iter().map(|row| json!([[row.account.grant, CREDITS_HELD]])).collect();
    let balances: Vec<i64> = rows.iter().map(|row| row.account.pool - row.account.spent).collect();
    let repeated = if way == Way::SqlAlikeOnce { 0 } else { each };
    let (sources, models, times) = (vec![SOURCE; repeated], vec![MODEL; repeated], vec![time; repeated]);
    let (bands, many_rates) = (vec![BAND; repeated], vec![rates(); repeated]);
    let (first, [source, model, time, band, rates]): (usize, [Param<'_>; 5]) = match way {
        Way::SqlAlikeOnce => (ALIKE_ONCE, [&SOURCE, &MODEL, &time, &BAND, &rates()]),
        _ => (0, [&sources, &models, &times, &bands, &many_rates]),
    };
    tx.execute(&statements[first], &[&tenant, &identities, &contents, &customers, time]).await?;
    let transfers: [Param<'_>; 8] =
        [&tenant, &customers, &versions, &grants, &credits, &identities, time, &chains];
    tx.execute(&statements[first + 1], &transfers).await?;
    let (input, output) = (i64::try_from(PROMPT_TOKENS)?, i64::try_from(OUTPUT_TOKENS)?);
    tx.execute(
        &statements[first + 2],
        &[
            &tenant,
            &identities,
            &customers,
            source,
            &ids,
            model,
            &vec![input; each],
            &vec![output; each],
            time,
            &credits,
            band,
            rates,
            &draws,
            &balances,
            &versions,
        ],
    )
    .await?;

    let mut last: BTreeMap<Uuid, (&EventRow, i64)> = BTreeMap::new();
    for row in rows {
        let (latest, events) = last.entry(row.account.customer).or_insert((row, 0));
        *events += 1;
        if row.account.version > latest.account.version {
            *latest = row;
        }
    }
    let customers: Vec<Uuid> = last.keys().copied().collect();
    let grants: Vec<Uuid> = last.values().map(|(row, _)| row.account.grant).collect();
    let events: Vec<i64> = last.values().map(|(_, events)| *events).collect();
    let versions: Vec<i64> = last.values().map(|(row, _)| row.account.version).collect();
    let spent: Vec<i64> = last.values().map(|(row, _)| row.account.spent).collect();
    let chains: Vec<&[u8]> = last.values().map(|(row, _)| row.chain.as_slice()).collect();
    let hours: [Param<'_>; 9] =
        [&tenant, &hour, &MODEL, &BAND, &input, &output, &CREDITS_HELD, &customers, &events];
    if way == Way::SqlSameCustomers {
        tx.query_one(&statements[6], &[&tenant, &customers]).await?;
    }
    tx.execute(&statements[3], &hours).await?;
    tx.execute(&statements[4], &[&tenant, &grants, &spent]).await?;
    tx.execute(&statements[5], &[&tenant, &customers, &versions, &spent, &chains]).await?;
    Ok(())
}

async fn copy(tx: &Transaction<'_>, tenant: Uuid, rows: &[EventRow]) -> anyhow::Result<()> {
    let time = rows.first().context("no rows")?.time.to_rfc3339();
    let rates = rates();
    let (mut identities, mut transfers, mut events) = (String::new(), String::new(), String::new());
    for EventRow { identity, content, id, account, chain, .. } in rows {
        let AccountRow { customer, grant, version, spent, pool } = account;
        let chain: String = chain.iter().map(|byte| format!("{byte:02x}")).collect();
        let balance = pool - spent;
        writeln!(identities, "{tenant}\t{identity}\t{content}\t{customer}\t{time}")?;
        writeln!(
            transfers,
            "{tenant}\t{customer}\t{version}\tavailable\tspent\t{grant}\t{CREDITS_HELD}\tusage\t{identity}\t{time}\t{time}\t\\\\x{chain}"
        )?;
        writeln!(
            events,
            "{tenant}\t{identity}\t{customer}\t{SOURCE}\t{id}\t{MODEL}\t{PROMPT_TOKENS}\t0\t0\t{OUTPUT_TOKENS}\t0\tcompleted\t\
             provider\t{time}\t{time}\tnone\tnot-named\t{CREDITS_HELD}\t0\t1\t{BAND}\t{rates}\t[[\"{grant}\", {CREDITS_HELD}]]\t\
             {balance}\t{version}"
        )?;
    }
    copy_in(tx, "usage_identities (tenant_id, identity, content, customer_id, event_time)", identities)
        .await?;
    copy_in(
        tx,
        "transfers (tenant_id, customer_id, version, debit, credit, grant_id, credits, cause_kind, cause_id,
             event_time, recorded_at, chain)",
        transfers,
    )
    .await?;
    copy_in(
        tx,
        "usage_events (tenant_id, identity, customer_id, source, event_id, model, input_tokens, cache_read_tokens,
             cache_write_tokens, output_tokens, reasoning_tokens, outcome, usage_source, event_time, recorded_at,
             hold, hold_reason, credits, overage, catalog_version, band_prompt_tokens_max, rates, draws,
             balance_after, account_version)",
        events,
    )
    .await
}

async fn copy_in(tx: &Transaction<'_>, into: &str, text: String) -> anyhow::Result<()> {
    let sink = tx.copy_in(&format!("copy {into} from stdin")).await?;
    pin_mut!(sink);
    sink.send(std::io::Cursor::new(text.into_bytes())).await?;
    sink.finish().await?;
    Ok(())
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
