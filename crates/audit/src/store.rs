//! All SQL of the audit: a file a group of invariants, a constant a check, named by its number; and the
//! pages of rows that are recomputed in Rust.
//!
//! A check is one query that returns no row when all is well. Its parameters are the tenant ($1), the
//! customer or null for all ($2), and the tenant's now ($3).

mod accounts;
mod i01_to_i10_ledger;
mod i12_to_i17_usage;
mod i18_to_i25_lifecycle;
mod i26_to_i30_system;
mod installation;
mod pages;
mod rebuild;

use db::{Connection, Result};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use domain::Timestamp;
use domain::id::{CustomerId, TenantId};
use uuid::Uuid;

pub(crate) use accounts::*;
pub(crate) use i01_to_i10_ledger::I07_CHAIN_HEAD;
pub(crate) use pages::*;
pub(crate) use rebuild::*;

use crate::finding::{Finding, Invariant};
use {i01_to_i10_ledger as ledger, i12_to_i17_usage as usage};
use {i18_to_i25_lifecycle as lifecycle, i26_to_i30_system as system};

/// One query about one invariant.
pub(crate) struct Check {
    pub(crate) invariant: Invariant,
    /// What it looks at.
    pub(crate) name: &'static str,
    is_damage: bool,
    sql: &'static str,
}

impl Check {
    const fn new(invariant: u8, name: &'static str, sql: &'static str) -> Check {
        Check { invariant: Invariant(invariant), name, is_damage: true, sql }
    }

    /// A check for work that is late, which is no damage.
    const fn late(invariant: u8, name: &'static str, sql: &'static str) -> Check {
        Check { invariant: Invariant(invariant), name, is_damage: false, sql }
    }
}

/// What is checked of each tenant, in the order of the invariants.
pub(crate) const OF_A_TENANT: [&Check; 50] = [
    &ledger::I01_TRANSFERS,
    &ledger::I02_BOOKS,
    &ledger::I03_BALANCES,
    &ledger::I03_VERSIONS,
    &ledger::I04_GRANTS,
    &ledger::I06_HOLDS,
    &ledger::I07_CHAIN_HEAD,
    &ledger::I08_REVERSALS,
    &ledger::I09_CAUSES,
    &ledger::I09_EVENTS,
    &ledger::I09_VOIDS,
    &ledger::I09_PURCHASES,
    &ledger::I09_ADJUSTMENTS,
    &ledger::I09_REFUNDS,
    &ledger::I10_HOLDS,
    &ledger::I10_ACCOUNTS,
    &usage::I12_IDENTITIES,
    &usage::I12_EFFECTS,
    &usage::I13_SUMS,
    &usage::I13_RECEIPTS,
    &usage::I13_HOURS,
    &usage::I13_MONEY,
    &usage::I13_MONEY_INVOICES,
    &usage::I17_EXPIRIES,
    &usage::I17_CLOSED,
    &usage::I17_ENDS,
    &usage::I17_VOIDS,
    &lifecycle::I18_LIVE,
    &lifecycle::I18_CONTIGUOUS,
    &lifecycle::I19_NUMBERS,
    &lifecycle::I19_CURRENT,
    &lifecycle::I20_GRANTS,
    &lifecycle::I20_PURCHASES,
    &lifecycle::I20_CYCLES,
    &lifecycle::I22_PROMOTIONS,
    &lifecycle::I23_STATUSES,
    &lifecycle::I23_HISTORY,
    &lifecycle::I23_DUNNINGS,
    &lifecycle::I23_SUSPENDED,
    &lifecycle::I24_INVOICES,
    &lifecycle::I24_NUMBERS,
    &lifecycle::I24_REFUNDS,
    &lifecycle::I24_CREDIT_NOTES,
    &lifecycle::I24_CURRENCIES,
    &lifecycle::I25_EFFECTS,
    &lifecycle::I25_CAMPAIGNS,
    &system::I26_CHANGES,
    &system::I26_EVENTS,
    &system::I28_PARENTS,
    &system::I30_EARLY,
];

/// What is checked of the tenant's time, apart from the rest: it is no damage.
pub(crate) const LATE: &Check = &system::I30_LATE;

/// What is checked once, of all tenants together.
pub(crate) const OF_THE_INSTALLATION: [&Check; 4] = [
    &installation::I07_PRIVILEGES,
    &installation::I11_COLUMNS,
    &installation::I28_KEYS,
    &installation::I28_TENANTS,
];

/// The most findings of one check that are named. One row is enough to park an account, and a store
/// that is wrong all over is not to be read into memory.
pub(crate) const FINDINGS_MAX: i64 = 500;

#[derive(QueryableByName)]
struct FindingRow {
    #[diesel(sql_type = Nullable<SqlUuid>)]
    customer_id: Option<Uuid>,
    #[diesel(sql_type = Text)]
    in_table: String,
    #[diesel(sql_type = Text)]
    row_key: String,
    #[diesel(sql_type = Text)]
    found: String,
    #[diesel(sql_type = Text)]
    expected: String,
}

/// For what reads a whole tenant: joins read each table once, whatever the planner takes for the number of rows. What
/// PostgreSQL had counted is gone when it dies, and a table that seems empty is joined by a loop in a loop; and for the first
/// rows of many, where in truth there is none, it merges by customer and compares all of one with all of the other. Nothing
/// is compiled: what is off looks dear to the planner where it cannot be left out, and a small tenant waits for that.
const READS_ALL: &str =
    "set local enable_nestloop = off; set local enable_mergejoin = off; set local jit = off;
    set local work_mem = '128MB'";

/// The first [`FINDINGS_MAX`] rows of a tenant that a check finds wrong.
pub(crate) async fn run(
    tx: &mut Connection,
    tenant: TenantId,
    check: &Check,
    customer: Option<CustomerId>,
    now: Timestamp,
) -> Result<Vec<Finding>> {
    if customer.is_none() {
        tx.batch_execute(READS_ALL).await?;
    }
    let rows = rows(tx, check, Some(tenant.uuid()), customer, now).await?;
    Ok(rows.into_iter().map(|row| row.finding(check, Some(tenant))).collect())
}

/// The same of what belongs to no tenant.
pub(crate) async fn run_all_tenants(
    tx: &mut Connection,
    check: &Check,
    now: Timestamp,
) -> Result<Vec<Finding>> {
    let rows = rows(tx, check, None, None, now).await?;
    Ok(rows.into_iter().map(|row| row.finding(check, None)).collect())
}

async fn rows(
    tx: &mut Connection,
    check: &Check,
    tenant: Option<Uuid>,
    customer: Option<CustomerId>,
    now: Timestamp,
) -> Result<Vec<FindingRow>> {
    // The condition gives each parameter a type, also where the check has no use for it.
    let sql = format!(
        "select customer_id, in_table, row_key, found, expected from ({}) as finding
         where coalesce($1::uuid, $2::uuid) is distinct from '00000000-0000-0000-0000-000000000000'::uuid
             and $3::timestamptz is not null
         limit $4",
        check.sql
    );
    Ok(diesel::sql_query(sql)
        .bind::<Nullable<SqlUuid>, _>(tenant)
        .bind::<Nullable<SqlUuid>, _>(customer.map(CustomerId::uuid))
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(FINDINGS_MAX)
        .load(tx)
        .await?)
}

impl FindingRow {
    fn finding(self, check: &Check, tenant: Option<TenantId>) -> Finding {
        Finding {
            invariant: check.invariant,
            tenant,
            customer: self.customer_id.map(CustomerId::from_uuid),
            table: self.in_table,
            key: self.row_key,
            found: self.found,
            expected: self.expected,
            is_damage: check.is_damage,
        }
    }
}
