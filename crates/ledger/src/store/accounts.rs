//! Accounts: one row a customer.

use db::schema::credit_accounts;
use db::{Connection, Error, Locked, Result, Rows, column};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bytea, Nullable, Oid, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::account::{Account, AccountHead, Books};
use domain::chain::Link;
use domain::exhaustion::{Exhaustion, Overflow};
use domain::id::{CustomerId, TenantId};
use domain::{Credits, Timestamp};
use uuid::Uuid;

use super::{by_name, uuids};
use crate::Writer;

/// The columns of an account, as they are read.
macro_rules! account_columns {
    () => {
        "a.customer_id, a.version, a.changes, a.last_recorded_at, a.refills_at, a.issued, a.available, a.spent, a.expired,
             a.revoked, a.overage, a.chain, a.parked_at, a.exhaustion, a.payg_currency, a.spend_cap_minor,
             a.payg_accrued_pico::text, a.payg_due_at, a.top_up_at, a.top_up_blocked_until, a.suspended_at"
    };
}

type AccountColumns = (
    SqlUuid,
    BigInt,
    BigInt,
    Timestamptz,
    Nullable<Timestamptz>,
    BigInt,
    BigInt,
    BigInt,
    BigInt,
    BigInt,
    BigInt,
    Bytea,
    Nullable<Timestamptz>,
    Nullable<Text>,
    Text,
    Nullable<BigInt>,
    Text,
    Nullable<Timestamptz>,
    Nullable<BigInt>,
    Nullable<Timestamptz>,
    Nullable<Timestamptz>,
);

#[derive(Queryable)]
struct AccountRow {
    customer_id: Uuid,
    version: i64,
    changes: i64,
    last_recorded_at: Timestamp,
    refills_at: Option<Timestamp>,
    issued: i64,
    available: i64,
    spent: i64,
    expired: i64,
    revoked: i64,
    overage: i64,
    chain: Vec<u8>,
    parked_at: Option<Timestamp>,
    exhaustion: Option<String>,
    payg_currency: String,
    spend_cap_minor: Option<i64>,
    payg_accrued: String,
    payg_due_at: Option<Timestamp>,
    top_up_at: Option<i64>,
    top_up_blocked_until: Option<Timestamp>,
    suspended_at: Option<Timestamp>,
}

impl AccountRow {
    fn head(self, tenant: TenantId) -> Result<AccountHead> {
        let row = self;
        Ok(AccountHead {
            tenant,
            customer: CustomerId::from_uuid(row.customer_id),
            version: row.version,
            changes: row.changes,
            last_recorded_at: row.last_recorded_at,
            refills_at: row.refills_at,
            books: Books {
                issued: row.issued,
                available: row.available,
                spent: row.spent,
                expired: row.expired,
                revoked: row.revoked,
                overage: row.overage,
            },
            chain: link(row.chain)?,
            is_parked: row.parked_at.is_some(),
            overflow: Overflow {
                exhaustion: row
                    .exhaustion
                    .as_deref()
                    .map(|name| by_name(&Exhaustion::ALL, Exhaustion::name, name))
                    .transpose()?,
                currency: row.payg_currency.parse()?,
                spend_cap_minor: row.spend_cap_minor,
                accrued: row.payg_accrued.parse()?,
                due_at: row.payg_due_at,
                top_up_at: row.top_up_at.map(Credits::new).transpose()?,
                top_up_blocked_until: row.top_up_blocked_until,
            },
            is_suspended: row.suspended_at.is_some(),
        })
    }
}

pub(crate) async fn insert_account(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    now: Timestamp,
) -> Result<()> {
    diesel::insert_into(credit_accounts::table)
        .values((
            credit_accounts::tenant_id.eq(tenant.uuid()),
            credit_accounts::customer_id.eq(customer.uuid()),
            credit_accounts::last_recorded_at.eq(now),
        ))
        .execute(tx)
        .await?;
    Ok(())
}

pub(crate) async fn has_transfers_after(
    tx: &mut Connection,
    tenant: TenantId,
    instant: Timestamp,
) -> Result<bool> {
    let query = credit_accounts::table
        .filter(credit_accounts::tenant_id.eq(tenant.uuid()))
        .filter(credit_accounts::version.gt(0))
        .filter(credit_accounts::last_recorded_at.gt(instant));
    Ok(diesel::select(diesel::dsl::exists(query)).get_result(tx).await?)
}

pub(crate) async fn rewind_accounts(tx: &mut Connection, tenant: TenantId, instant: Timestamp) -> Result<()> {
    let later = credit_accounts::table
        .filter(credit_accounts::tenant_id.eq(tenant.uuid()))
        .filter(credit_accounts::last_recorded_at.gt(instant));
    diesel::update(later).set(credit_accounts::last_recorded_at.eq(instant)).execute(tx).await?;
    Ok(())
}

/// Of the accounts of these customers. A join, because `= any` of many ids makes the planner read all accounts of the tenant
/// in order instead, and look for each in the list.
macro_rules! select_accounts {
    ($columns:expr, $end:expr) => {
        concat!(
            "select ",
            $columns,
            " from unnest($2) as n(id)
             join credit_accounts a on a.tenant_id = $1 and a.customer_id = n.id ",
            $end
        )
    };
}

/// Locks them in the order of their ids.
macro_rules! lock_accounts {
    ($columns:expr, $locked:literal) => {
        select_accounts!($columns, concat!("order by a.customer_id for update of a ", $locked))
    };
}

/// Locks them in the order of their ids; of those that somebody else has locked, waits for each or passes it over.
pub(crate) async fn lock_accounts(
    tx: &mut Connection,
    tenant: TenantId,
    customers: &[CustomerId],
    locked: Locked,
) -> Result<Vec<AccountHead>> {
    let rows: Vec<AccountRow> = db::sql_query_of::<AccountColumns>(match locked {
        Locked::Wait => lock_accounts!(account_columns!(), ""),
        Locked::Skip => lock_accounts!(account_columns!(), "skip locked"),
    })
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<SqlUuid>, _>(uuids(customers))
    .load(tx)
    .await?;
    rows.into_iter().map(|row| row.head(tenant)).collect()
}

/// What tells an account's row from one that was written since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) customer: CustomerId,
    pub(crate) writer: Writer,
    pub(crate) chain: Link,
}

/// Locks them in the order of their ids, and reads no more of them than that.
pub(crate) async fn lock_marks(
    tx: &mut Connection,
    tenant: TenantId,
    customers: &[CustomerId],
) -> Result<Vec<Mark>> {
    // In one row: to take hundreds apart costs more than all that they say. Of no accounts there are no arrays.
    type Columns<Uuids, Xids, Chains> = (Option<Uuids>, Option<Xids>, Option<Chains>);
    let (customers, writers, chains): Columns<Vec<Uuid>, Vec<u32>, Vec<Vec<u8>>> =
        db::sql_query_of::<(Nullable<Array<SqlUuid>>, Nullable<Array<Oid>>, Nullable<Array<Bytea>>)>(
            concat!(
                "select array_agg(customer_id), array_agg(xmin), array_agg(chain) from (",
                lock_accounts!("a.customer_id, a.xmin, a.chain", ""),
                ") locked"
            ),
        )
        .bind::<SqlUuid, _>(tenant.uuid())
        .bind::<Array<SqlUuid>, _>(uuids(customers))
        .get_result(tx)
        .await?;
    let (customers, writers) = (customers.unwrap_or_default(), writers.unwrap_or_default());
    let rows = customers.into_iter().zip(writers).zip(chains.unwrap_or_default());
    let marks = rows.map(|((customer, xmin), chain)| {
        Ok(Mark { customer: CustomerId::from_uuid(customer), writer: Writer(xmin), chain: link(chain)? })
    });
    marks.collect()
}

/// The rest of accounts that are locked.
pub(crate) async fn locked_accounts(
    mut tx: &Connection,
    tenant: TenantId,
    customers: &[CustomerId],
) -> Result<Vec<AccountHead>> {
    let rows: Vec<AccountRow> = db::sql_query_of::<AccountColumns>(select_accounts!(account_columns!(), ""))
        .bind::<SqlUuid, _>(tenant.uuid())
        .bind::<Array<SqlUuid>, _>(uuids(customers))
        .load(&mut tx)
        .await?;
    rows.into_iter().map(|row| row.head(tenant)).collect()
}

fn link(chain: Vec<u8>) -> Result<Link> {
    Ok(Link(chain.try_into().map_err(|_| Error::broken("a chain's link is not 32 bytes"))?))
}

pub(crate) async fn has_account(tx: &mut Connection, tenant: TenantId, customer: CustomerId) -> Result<bool> {
    let query = credit_accounts::table
        .filter(credit_accounts::tenant_id.eq(tenant.uuid()))
        .filter(credit_accounts::customer_id.eq(customer.uuid()));
    Ok(diesel::select(diesel::dsl::exists(query)).get_result(tx).await?)
}

/// The next accounts in id order, after this one.
pub(crate) async fn accounts_page(
    tx: &mut Connection,
    tenant: TenantId,
    after: Option<CustomerId>,
    limit: i64,
) -> Result<Vec<CustomerId>> {
    let ids: Vec<Uuid> = credit_accounts::table
        .filter(credit_accounts::tenant_id.eq(tenant.uuid()))
        .filter(credit_accounts::customer_id.gt(after.map_or(Uuid::nil(), CustomerId::uuid)))
        .order(credit_accounts::customer_id)
        .limit(limit)
        .select(credit_accounts::customer_id)
        .load(tx)
        .await?;
    Ok(ids.into_iter().map(CustomerId::from_uuid).collect())
}

/// Whether it was not parked before; the first reason stays.
pub(crate) async fn park(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    reason: &str,
    now: Timestamp,
) -> Result<bool> {
    let open = credit_accounts::table
        .filter(credit_accounts::tenant_id.eq(tenant.uuid()))
        .filter(credit_accounts::customer_id.eq(customer.uuid()))
        .filter(credit_accounts::parked_at.is_null());
    let parked = (
        credit_accounts::parked_at.eq(now),
        credit_accounts::parked_reason.eq(reason),
        credit_accounts::changes.eq(credit_accounts::changes + 1),
    );
    Ok(diesel::update(open).set(parked).execute(tx).await? > 0)
}

/// Whether it was parked.
pub(crate) async fn unpark(tx: &mut Connection, tenant: TenantId, customer: CustomerId) -> Result<bool> {
    let parked = credit_accounts::table
        .filter(credit_accounts::tenant_id.eq(tenant.uuid()))
        .filter(credit_accounts::customer_id.eq(customer.uuid()))
        .filter(credit_accounts::parked_at.is_not_null());
    let open = (
        credit_accounts::parked_at.eq(None::<Timestamp>),
        credit_accounts::parked_reason.eq(None::<String>),
        credit_accounts::changes.eq(credit_accounts::changes + 1),
    );
    Ok(diesel::update(parked).set(open).execute(tx).await? > 0)
}

/// Writes which of these accounts are suspended.
pub(crate) async fn update_standing(
    mut tx: &Connection,
    tenant: TenantId,
    accounts: &[&Account],
    now: Timestamp,
) -> Result<()> {
    for account in accounts {
        let suspended_at = account.is_suspended().then_some(now);
        diesel::update(credit_accounts::table.find((tenant.uuid(), account.customer().uuid())))
            .set(credit_accounts::suspended_at.eq(suspended_at))
            .execute(&mut tx)
            .await?;
    }
    Ok(())
}

pub(crate) async fn version(tx: &mut Connection, tenant: TenantId, customer: CustomerId) -> Result<i64> {
    Ok(credit_accounts::table
        .filter(credit_accounts::tenant_id.eq(tenant.uuid()))
        .filter(credit_accounts::customer_id.eq(customer.uuid()))
        .select(credit_accounts::version)
        .first(tx)
        .await?)
}

/// Answers the transaction, as the rows have it from now on.
pub(crate) async fn update_accounts(
    mut tx: &Connection,
    tenant: TenantId,
    accounts: &[&Account],
) -> Result<Option<Writer>> {
    if accounts.is_empty() {
        return Ok(None);
    }
    let column_of = |of: fn(&Account) -> i64| -> Vec<i64> { accounts.iter().map(|a| of(a)).collect() };
    let customers: Vec<Uuid> = accounts.iter().map(|a| a.customer().uuid()).collect();
    let recorded: Vec<Timestamp> = accounts.iter().map(|a| a.last_recorded_at()).collect();
    let refills: Vec<Option<Timestamp>> = accounts.iter().map(|a| a.refills_at()).collect();
    let chains: Vec<[u8; 32]> = accounts.iter().map(|a| a.chain().0).collect();
    let rows = Rows::default()
        .each([
            column::<SqlUuid, _>("customer_id", customers),
            column::<BigInt, _>("version", column_of(Account::version)),
            column::<BigInt, _>("available", column_of(|a| a.books().available)),
            column::<BigInt, _>("spent", column_of(|a| a.books().spent)),
            column::<Bytea, _>("chain", chains),
            column::<BigInt, _>("changes", column_of(Account::changes)),
        ])
        .once_if_alike([column::<Timestamptz, _>("recorded", recorded)])
        .once_if_alike([column::<Nullable<Timestamptz>, _>("refills", refills)])
        .once_if_alike([column::<BigInt, _>("issued", column_of(|a| a.books().issued))])
        .once_if_alike([
            column::<BigInt, _>("expired", column_of(|a| a.books().expired)),
            column::<BigInt, _>("revoked", column_of(|a| a.books().revoked)),
            column::<BigInt, _>("overage", column_of(|a| a.books().overage)),
        ]);
    // All have the same writer: one says it for all of them.
    let written: Option<(u32,)> = db::sql_query_of::<(Oid,)>(
        "with written as (update credit_accounts a
         set version = n.version, last_recorded_at = n.recorded, refills_at = n.refills, issued = n.issued,
             available = n.available, spent = n.spent, expired = n.expired, revoked = n.revoked,
             overage = n.overage, chain = n.chain, changes = n.changes
         from (",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .rows(
        rows,
        ") n where a.tenant_id = $1 and a.customer_id = n.customer_id returning a.xmin)
         select xmin from written limit 1",
    )
    .get_result(&mut tx)
    .await
    .optional()?;
    Ok(written.map(|(xmin,)| Writer(xmin)))
}

/// Writes what is accrued and until when no top-up buys itself: of accounts that this is other of alone.
pub(crate) async fn update_overflows(
    mut tx: &Connection,
    tenant: TenantId,
    accounts: &[&Account],
) -> Result<()> {
    if accounts.is_empty() {
        return Ok(());
    }
    let overflows = || accounts.iter().map(|account| account.overflow());
    db::sql_query(
        "update credit_accounts a
         set payg_accrued_pico = n.accrued::numeric, payg_due_at = n.due_at,
             top_up_blocked_until = n.blocked_until
         from unnest($2, $3, $4, $5) as n(customer_id, accrued, due_at, blocked_until)
         where a.tenant_id = $1 and a.customer_id = n.customer_id",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<SqlUuid>, _>(accounts.iter().map(|a| a.customer().uuid()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(overflows().map(|overflow| overflow.accrued.to_string()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(overflows().map(|overflow| overflow.due_at).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(
        overflows().map(|overflow| overflow.top_up_blocked_until).collect::<Vec<_>>(),
    )
    .execute(&mut tx)
    .await?;
    Ok(())
}

/// Sets how an account goes on without Credits. Under its lock.
pub(crate) async fn set_overflow(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    set: &crate::SetOverflow,
) -> Result<()> {
    let account = credit_accounts::table
        .filter(credit_accounts::tenant_id.eq(tenant.uuid()))
        .filter(credit_accounts::customer_id.eq(customer.uuid()));
    diesel::update(account)
        .set((
            credit_accounts::exhaustion.eq(set.exhaustion.map(Exhaustion::name)),
            credit_accounts::changes.eq(credit_accounts::changes + 1),
            credit_accounts::payg_currency.eq(set.currency.code()),
            credit_accounts::spend_cap_minor.eq(set.spend_cap_minor),
            credit_accounts::top_up_at.eq(set.top_up_at.map(Credits::get)),
            credit_accounts::top_up_blocked_until.eq(None::<Timestamp>),
        ))
        .execute(tx)
        .await?;
    Ok(())
}

/// How an account goes on without Credits, unlocked; none where there is no account.
pub(crate) async fn overflow(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
) -> Result<Option<Overflow>> {
    let row: Option<AccountRow> = db::sql_query_of::<AccountColumns>(concat!(
        "select ",
        account_columns!(),
        " from credit_accounts a where a.tenant_id = $1 and a.customer_id = $2",
    ))
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(customer.uuid())
    .get_result(tx)
    .await
    .optional()?;
    row.map(|row| Ok(row.head(tenant)?.overflow)).transpose()
}
