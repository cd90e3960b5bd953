//! All SQL of the ledger.

use std::collections::BTreeMap;
use std::time::Duration;

use db::schema::{credit_accounts, grants, holds, transfers};
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::account::{Account, Book, Books, Cause, CauseKind, Transfer};
use domain::grant::{Grant, GrantSource};
use domain::hold::{Hold, HoldEnd};
use domain::id::{CustomerId, ExternalId, GrantId, TenantId};
use domain::{Credits, Timestamp};
use hot_balances::KnownHold;
use uuid::Uuid;

use crate::GrantRow;

// Accounts

pub(crate) struct AccountHead {
    pub(crate) customer: CustomerId,
    pub(crate) version: i64,
    pub(crate) last_recorded_at: Timestamp,
    pub(crate) refills_at: Option<Timestamp>,
    pub(crate) books: Books,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = credit_accounts)]
struct AccountRow {
    customer_id: Uuid,
    version: i64,
    last_recorded_at: Timestamp,
    refills_at: Option<Timestamp>,
    issued: i64,
    available: i64,
    spent: i64,
    expired: i64,
    revoked: i64,
    overage: i64,
}

impl From<AccountRow> for AccountHead {
    fn from(row: AccountRow) -> Self {
        AccountHead {
            customer: CustomerId::from_uuid(row.customer_id),
            version: row.version,
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
        }
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

pub(crate) async fn lock_accounts(
    tx: &mut Connection,
    tenant: TenantId,
    customers: &[CustomerId],
) -> Result<Vec<AccountHead>> {
    let rows: Vec<AccountRow> = credit_accounts::table
        .filter(credit_accounts::tenant_id.eq(tenant.uuid()))
        .filter(credit_accounts::customer_id.eq_any(uuids(customers)))
        .order(credit_accounts::customer_id)
        .for_update()
        .select(AccountRow::as_select())
        .load(tx)
        .await?;
    Ok(rows.into_iter().map(AccountHead::from).collect())
}

pub(crate) async fn has_account(tx: &mut Connection, tenant: TenantId, customer: CustomerId) -> Result<bool> {
    let query = credit_accounts::table
        .filter(credit_accounts::tenant_id.eq(tenant.uuid()))
        .filter(credit_accounts::customer_id.eq(customer.uuid()));
    Ok(diesel::select(diesel::dsl::exists(query)).get_result(tx).await?)
}

pub(crate) async fn version(tx: &mut Connection, tenant: TenantId, customer: CustomerId) -> Result<i64> {
    Ok(credit_accounts::table
        .filter(credit_accounts::tenant_id.eq(tenant.uuid()))
        .filter(credit_accounts::customer_id.eq(customer.uuid()))
        .select(credit_accounts::version)
        .first(tx)
        .await?)
}

pub(crate) async fn update_accounts(
    tx: &mut Connection,
    tenant: TenantId,
    accounts: &[&Account],
) -> Result<()> {
    if accounts.is_empty() {
        return Ok(());
    }
    let column = |of: fn(&Account) -> i64| -> Vec<i64> { accounts.iter().map(|a| of(a)).collect() };
    let customers: Vec<Uuid> = accounts.iter().map(|a| a.customer().uuid()).collect();
    let recorded: Vec<Timestamp> = accounts.iter().map(|a| a.last_recorded_at()).collect();
    let refills: Vec<Option<Timestamp>> = accounts.iter().map(|a| a.refills_at()).collect();
    diesel::sql_query(
        "update credit_accounts a
         set version = n.version, last_recorded_at = n.recorded, refills_at = n.refills, issued = n.issued,
             available = n.available, spent = n.spent, expired = n.expired, revoked = n.revoked,
             overage = n.overage
         from unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             as n(customer_id, version, recorded, refills, issued, available, spent, expired, revoked, overage)
         where a.tenant_id = $1 and a.customer_id = n.customer_id",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<SqlUuid>, _>(customers)
    .bind::<Array<BigInt>, _>(column(Account::version))
    .bind::<Array<Timestamptz>, _>(recorded)
    .bind::<Array<Nullable<Timestamptz>>, _>(refills)
    .bind::<Array<BigInt>, _>(column(|a| a.books().issued))
    .bind::<Array<BigInt>, _>(column(|a| a.books().available))
    .bind::<Array<BigInt>, _>(column(|a| a.books().spent))
    .bind::<Array<BigInt>, _>(column(|a| a.books().expired))
    .bind::<Array<BigInt>, _>(column(|a| a.books().revoked))
    .bind::<Array<BigInt>, _>(column(|a| a.books().overage))
    .execute(tx)
    .await?;
    Ok(())
}

// Transfers

#[derive(Queryable, Selectable)]
#[diesel(table_name = transfers)]
struct TransferDbRow {
    version: i64,
    debit: String,
    credit: String,
    grant_id: Option<Uuid>,
    credits: i64,
    cause_kind: String,
    cause_id: Uuid,
    event_time: Timestamp,
    recorded_at: Timestamp,
}

impl TryFrom<TransferDbRow> for Transfer {
    type Error = Error;

    fn try_from(row: TransferDbRow) -> Result<Self> {
        Ok(Transfer {
            version: row.version,
            debit: by_name(&Book::ALL, Book::name, &row.debit)?,
            credit: by_name(&Book::ALL, Book::name, &row.credit)?,
            grant: row.grant_id.map(GrantId::from_uuid),
            credits: Credits::new(row.credits)?,
            cause: Cause {
                kind: by_name(&CauseKind::ALL, CauseKind::name, &row.cause_kind)?,
                id: row.cause_id,
            },
            event_time: row.event_time,
            recorded_at: row.recorded_at,
        })
    }
}

pub(crate) async fn insert_transfers(
    tx: &mut Connection,
    tenant: TenantId,
    accounts: &[&Account],
) -> Result<()> {
    let all: Vec<(CustomerId, &Transfer)> =
        accounts.iter().flat_map(|a| a.journal().iter().map(|transfer| (a.customer(), transfer))).collect();
    if all.is_empty() {
        return Ok(());
    }
    diesel::sql_query(
        "insert into transfers (tenant_id, customer_id, version, debit, credit, grant_id, credits, cause_kind,
             cause_id, event_time, recorded_at)
         select $1, n.* from unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11) as n",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<SqlUuid>, _>(all.iter().map(|(customer, _)| customer.uuid()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(all.iter().map(|(_, t)| t.version).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(all.iter().map(|(_, t)| t.debit.name()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(all.iter().map(|(_, t)| t.credit.name()).collect::<Vec<_>>())
    .bind::<Array<Nullable<SqlUuid>>, _>(
        all.iter().map(|(_, t)| t.grant.map(GrantId::uuid)).collect::<Vec<_>>(),
    )
    .bind::<Array<BigInt>, _>(all.iter().map(|(_, t)| t.credits.get()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(all.iter().map(|(_, t)| t.cause.kind.name()).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(all.iter().map(|(_, t)| t.cause.id).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(all.iter().map(|(_, t)| t.event_time).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(all.iter().map(|(_, t)| t.recorded_at).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

pub(crate) async fn transfers_page(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    after_version: i64,
    limit: i64,
) -> Result<Vec<Transfer>> {
    let rows: Vec<TransferDbRow> = transfers::table
        .filter(transfers::tenant_id.eq(tenant.uuid()))
        .filter(transfers::customer_id.eq(customer.uuid()))
        .filter(transfers::version.gt(after_version))
        .order(transfers::version)
        .limit(limit)
        .select(TransferDbRow::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(Transfer::try_from).collect()
}

// Grants

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
    effective_at: Timestamp,
    expires_at: Option<Timestamp>,
    purchase_id: Uuid,
    created_at: Timestamp,
}

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
            effective_at: row.effective_at,
            expires_at: row.expires_at,
        })
    }
}

pub(crate) async fn open_grants(
    tx: &mut Connection,
    tenant: TenantId,
    customers: &[CustomerId],
) -> Result<BTreeMap<CustomerId, Vec<Grant>>> {
    let rows: Vec<GrantDbRow> = grants::table
        .filter(grants::tenant_id.eq(tenant.uuid()))
        .filter(grants::customer_id.eq_any(uuids(customers)))
        .filter(grants::remaining.gt(0))
        .select(GrantDbRow::as_select())
        .load(tx)
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
    rows.into_iter()
        .map(|row| {
            let (purchase_id, created_at) = (row.purchase_id, row.created_at);
            Ok(GrantRow { grant: Grant::try_from(row)?, purchase_id, created_at })
        })
        .collect()
}

/// The sum that the grants live at `now` were made with.
pub(crate) async fn live_grants_amount(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    now: Timestamp,
) -> Result<Credits> {
    let sum: SumRow = diesel::sql_query(
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
    tx: &mut Connection,
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
                .find(|transfer| transfer.grant == Some(grant.id) && transfer.debit == Book::Issued)
                .ok_or_else(|| Error::broken(format!("grant {} was never issued", grant.id)))?;
            rows.push((account.customer(), grant, issued.cause.id));
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    diesel::sql_query(
        "insert into grants (tenant_id, created_at, grant_id, customer_id, source, priority, amount, spent,
             expired, revoked, effective_at, expires_at, purchase_id)
         select $1, $2, n.* from unnest($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) as n",
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
    .bind::<Array<Timestamptz>, _>(rows.iter().map(|(_, g, _)| g.effective_at).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(rows.iter().map(|(_, g, _)| g.expires_at).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(rows.iter().map(|(_, _, purchase)| *purchase).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

pub(crate) async fn update_grants(
    tx: &mut Connection,
    tenant: TenantId,
    accounts: &[&Account],
) -> Result<()> {
    let changed: Vec<&Grant> = accounts.iter().flat_map(|a| a.changed_grants()).collect();
    if changed.is_empty() {
        return Ok(());
    }
    diesel::sql_query(
        "update grants g set spent = n.spent, expired = n.expired, revoked = n.revoked
         from unnest($2, $3, $4, $5) as n(grant_id, spent, expired, revoked)
         where g.tenant_id = $1 and g.grant_id = n.grant_id",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<SqlUuid>, _>(changed.iter().map(|g| g.id.uuid()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(changed.iter().map(|g| g.spent.get()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(changed.iter().map(|g| g.expired.get()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(changed.iter().map(|g| g.revoked.get()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

// Holds

#[derive(Queryable, Selectable)]
#[diesel(table_name = holds)]
struct HoldDbRow {
    customer_id: Uuid,
    hold_id: String,
    credits: i64,
    fingerprint: String,
    granted_at: Timestamp,
    expires_at: Timestamp,
    counts_until: Timestamp,
    ended_as: Option<String>,
}

impl TryFrom<HoldDbRow> for KnownHold {
    type Error = Error;

    fn try_from(row: HoldDbRow) -> Result<Self> {
        let end = match row.ended_as {
            None => None,
            Some(name) => Some(by_name(&[HoldEnd::Captured, HoldEnd::Released], HoldEnd::name, &name)?),
        };
        Ok(KnownHold {
            hold: Hold {
                id: row.hold_id.parse().map_err(|_| Error::broken("a hold id outside its grammar"))?,
                customer: CustomerId::from_uuid(row.customer_id),
                credits: Credits::new(row.credits)?,
                granted_at: row.granted_at,
                expires_at: row.expires_at,
                counts_until: row.counts_until,
            },
            fingerprint: row.fingerprint,
            end,
        })
    }
}

pub(crate) async fn hold(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    id: &ExternalId,
) -> Result<Option<KnownHold>> {
    let row: Option<HoldDbRow> = holds::table
        .filter(holds::tenant_id.eq(tenant.uuid()))
        .filter(holds::customer_id.eq(customer.uuid()))
        .filter(holds::hold_id.eq(id.as_str()))
        .select(HoldDbRow::as_select())
        .first(tx)
        .await
        .optional()?;
    row.map(KnownHold::try_from).transpose()
}

pub(crate) async fn holds_by_id(
    tx: &mut Connection,
    tenant: TenantId,
    ids: &[&str],
) -> Result<Vec<KnownHold>> {
    let rows: Vec<HoldDbRow> = holds::table
        .filter(holds::tenant_id.eq(tenant.uuid()))
        .filter(holds::hold_id.eq_any(ids))
        .select(HoldDbRow::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(KnownHold::try_from).collect()
}

pub(crate) async fn live_holds(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    now: Timestamp,
) -> Result<Vec<KnownHold>> {
    let rows: Vec<HoldDbRow> = holds::table
        .filter(holds::tenant_id.eq(tenant.uuid()))
        .filter(holds::customer_id.eq(customer.uuid()))
        .filter(holds::ended_as.is_null())
        .filter(holds::expires_at.gt(now))
        .select(HoldDbRow::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(KnownHold::try_from).collect()
}

/// What live holds set aside.
pub(crate) async fn held(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    now: Timestamp,
) -> Result<Credits> {
    let sum: SumRow = diesel::sql_query(
        "select coalesce(sum(credits), 0)::bigint as total from holds
         where tenant_id = $1 and customer_id = $2 and ended_as is null and counts_until > $3",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(customer.uuid())
    .bind::<Timestamptz, _>(now)
    .get_result(tx)
    .await?;
    Ok(Credits::new(sum.total)?)
}

/// Records granted holds; one that is recorded already, or has ended already, stays as it is.
pub(crate) async fn insert_holds(
    tx: &mut Connection,
    tenant: TenantId,
    granted: &[(Hold, String)],
) -> Result<()> {
    let HoldColumns { customers, ids, credits, granted_at, expires_at, counts_until, fingerprints } =
        hold_columns(granted);
    diesel::sql_query(
        "insert into holds (tenant_id, customer_id, hold_id, credits, granted_at, expires_at, counts_until,
             fingerprint)
         select $1, n.* from unnest($2, $3, $4, $5, $6, $7, $8) as n
         on conflict (tenant_id, customer_id, hold_id) do nothing",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<SqlUuid>, _>(customers)
    .bind::<Array<Text>, _>(ids)
    .bind::<Array<BigInt>, _>(credits)
    .bind::<Array<Timestamptz>, _>(granted_at)
    .bind::<Array<Timestamptz>, _>(expires_at)
    .bind::<Array<Timestamptz>, _>(counts_until)
    .bind::<Array<Text>, _>(fingerprints)
    .execute(tx)
    .await?;
    Ok(())
}

pub(crate) async fn end_holds(
    tx: &mut Connection,
    tenant: TenantId,
    ended: &[(Hold, String)],
    end: HoldEnd,
    now: Timestamp,
) -> Result<()> {
    if ended.is_empty() {
        return Ok(());
    }
    let HoldColumns { customers, ids, credits, granted_at, expires_at, counts_until, fingerprints } =
        hold_columns(ended);
    diesel::sql_query(
        "insert into holds (tenant_id, ended_as, ended_at, customer_id, hold_id, credits, granted_at,
             expires_at, counts_until, fingerprint)
         select $1, $2, $3, n.* from unnest($4, $5, $6, $7, $8, $9, $10) as n
         on conflict (tenant_id, customer_id, hold_id) do update
         set ended_as = excluded.ended_as, ended_at = excluded.ended_at
         where holds.ended_as is null",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Text, _>(end.name())
    .bind::<Timestamptz, _>(now)
    .bind::<Array<SqlUuid>, _>(customers)
    .bind::<Array<Text>, _>(ids)
    .bind::<Array<BigInt>, _>(credits)
    .bind::<Array<Timestamptz>, _>(granted_at)
    .bind::<Array<Timestamptz>, _>(expires_at)
    .bind::<Array<Timestamptz>, _>(counts_until)
    .bind::<Array<Text>, _>(fingerprints)
    .execute(tx)
    .await?;
    Ok(())
}

struct HoldColumns {
    customers: Vec<Uuid>,
    ids: Vec<String>,
    credits: Vec<i64>,
    granted_at: Vec<Timestamp>,
    expires_at: Vec<Timestamp>,
    counts_until: Vec<Timestamp>,
    fingerprints: Vec<String>,
}

/// Always in the same order: two statements that touch the same rows do not wait for each other in
/// a circle.
fn hold_columns(all: &[(Hold, String)]) -> HoldColumns {
    let mut all: Vec<&(Hold, String)> = all.iter().collect();
    all.sort_by(|(a, _), (b, _)| (a.customer, &a.id).cmp(&(b.customer, &b.id)));
    HoldColumns {
        customers: all.iter().map(|(hold, _)| hold.customer.uuid()).collect(),
        ids: all.iter().map(|(hold, _)| hold.id.to_string()).collect(),
        credits: all.iter().map(|(hold, _)| hold.credits.get()).collect(),
        granted_at: all.iter().map(|(hold, _)| hold.granted_at).collect(),
        expires_at: all.iter().map(|(hold, _)| hold.expires_at).collect(),
        counts_until: all.iter().map(|(hold, _)| hold.counts_until).collect(),
        fingerprints: all.iter().map(|(_, fingerprint)| fingerprint.clone()).collect(),
    }
}

// Who decides about holds

pub(crate) struct HotState {
    pub(crate) epoch: i64,
    pub(crate) is_up: bool,
    pub(crate) run_id: Option<String>,
    pub(crate) changed_since: Duration,
}

/// The one row that all servers agree by.
pub(crate) async fn hot_state(tx: &mut Connection) -> Result<HotState> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        epoch: i64,
        #[diesel(sql_type = Bool)]
        is_up: bool,
        #[diesel(sql_type = Nullable<Text>)]
        run_id: Option<String>,
        #[diesel(sql_type = BigInt)]
        changed_ms: i64,
    }
    let row: Row = diesel::sql_query(
        "select epoch, is_up, run_id, floor(extract(epoch from clock_timestamp()
             - greatest(changed_at, clock_timestamp() - interval '1 hour')) * 1000)::bigint as changed_ms
         from hot_state",
    )
    .get_result(tx)
    .await?;
    let changed_since = Duration::from_millis(u64::try_from(row.changed_ms).unwrap_or_default());
    Ok(HotState { epoch: row.epoch, is_up: row.is_up, run_id: row.run_id, changed_since })
}

/// Starts the next epoch, unless somebody else has: Redis is down, or up with this run.
pub(crate) async fn start_epoch(tx: &mut Connection, after: i64, run_id: Option<&str>) -> Result<()> {
    diesel::sql_query(
        "update hot_state
         set epoch = epoch + 1, is_up = $2 is not null, run_id = $2, changed_at = clock_timestamp()
         where epoch = $1",
    )
    .bind::<BigInt, _>(after)
    .bind::<Nullable<Text>, _>(run_id)
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes the run of Redis in an epoch that did not know it: the very first one.
pub(crate) async fn note_run(tx: &mut Connection, epoch: i64, run_id: &str) -> Result<()> {
    diesel::sql_query("update hot_state set run_id = $2 where epoch = $1 and run_id is null")
        .bind::<BigInt, _>(epoch)
        .bind::<Text, _>(run_id)
        .execute(tx)
        .await?;
    Ok(())
}

/// Whether PostgreSQL decides about holds at this moment: Redis is down for as long as it takes every
/// server to know, or back for less than that.
pub(crate) async fn postgres_decides(tx: &mut Connection, settle: Duration) -> Result<bool> {
    let state = hot_state(tx).await?;
    Ok(state.is_up == (state.changed_since < settle))
}

// Small things

#[derive(QueryableByName)]
struct SumRow {
    #[diesel(sql_type = BigInt)]
    total: i64,
}

fn uuids(customers: &[CustomerId]) -> Vec<Uuid> {
    customers.iter().map(|customer| customer.uuid()).collect()
}

/// The value of this stored name; a name that no value has is a broken row.
fn by_name<T: Copy>(all: &[T], name_of: fn(T) -> &'static str, name: &str) -> Result<T> {
    all.iter()
        .copied()
        .find(|value| name_of(*value) == name)
        .ok_or_else(|| Error::broken(format!("a stored name that nothing has: {name:?}")))
}
