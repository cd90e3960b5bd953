//! Holds, as they are recorded.

use std::collections::BTreeSet;

use db::schema::{hold_batches, holds};
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bytea, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::hold::{Fingerprint, Hold, HoldEnd};
use domain::id::{CustomerId, ExternalId, TenantId};
use domain::{Credits, Timestamp};
use hot_balances::KnownHold;
use uuid::Uuid;

use super::{SumRow, by_name, uuids};

#[derive(Queryable, QueryableByName, Selectable)]
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

/// What is read of holds, that are called `h`.
macro_rules! select_holds {
    ($from:literal) => {
        concat!(
            "select h.customer_id, h.hold_id, h.credits, h.fingerprint, h.granted_at, h.expires_at,
                 h.counts_until, h.ended_as ",
            $from
        )
    };
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
            fingerprint: Fingerprint::from_hex(&row.fingerprint)
                .ok_or_else(|| Error::broken("a hold's fingerprint is none"))?,
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

/// Holds by their customers and ids.
pub(crate) async fn holds_named(
    tx: &mut Connection,
    tenant: TenantId,
    named: &BTreeSet<(CustomerId, ExternalId)>,
) -> Result<Vec<KnownHold>> {
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<HoldDbRow> = db::sql_query(select_holds!(
        "from unnest($2, $3) as n(customer_id, hold_id)
         join holds h on h.tenant_id = $1 and h.customer_id = n.customer_id and h.hold_id = n.hold_id"
    ))
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<SqlUuid>, _>(named.iter().map(|(customer, _)| customer.uuid()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(named.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>())
    .load(tx)
    .await?;
    rows.into_iter().map(KnownHold::try_from).collect()
}

/// Holds by their ids, whosever they are. Each looked up by itself: `= any` was planned while there were few, and went on
/// reading all of the tenant's until the table was analysed.
pub(crate) async fn holds_by_id(
    tx: &mut Connection,
    tenant: TenantId,
    ids: &[&str],
) -> Result<Vec<KnownHold>> {
    let rows: Vec<HoldDbRow> = db::sql_query(select_holds!(
        "from unnest($2) as n(hold_id)
         cross join lateral (select * from holds where tenant_id = $1 and hold_id = n.hold_id offset 0) h"
    ))
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<Text>, _>(ids)
    .load(tx)
    .await?;
    rows.into_iter().map(KnownHold::try_from).collect()
}

/// The live holds of these customers, and of these ids those that have ended too.
pub(crate) async fn live_holds_and(
    tx: &mut Connection,
    tenant: TenantId,
    customers: &[CustomerId],
    now: Timestamp,
    ids: &[&str],
) -> Result<Vec<KnownHold>> {
    let is_live = holds::ended_as.is_null().and(holds::expires_at.gt(now));
    let rows: Vec<HoldDbRow> = holds::table
        .filter(holds::tenant_id.eq(tenant.uuid()))
        .filter(holds::customer_id.eq_any(uuids(customers)))
        .filter(is_live.or(holds::hold_id.eq_any(ids)))
        .select(HoldDbRow::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(KnownHold::try_from).collect()
}

/// The holds of these customers that have ended before their time was up, which it is not yet at `now`:
/// of each customer at most `each_max`, those that would have run longest.
pub(crate) async fn holds_ended_early(
    tx: &mut Connection,
    tenant: TenantId,
    customers: &[CustomerId],
    now: Timestamp,
    each_max: i64,
) -> Result<Vec<KnownHold>> {
    let rows: Vec<HoldDbRow> = db::sql_query(select_holds!(
        "from unnest($2) as c(customer_id)
         cross join lateral (
             select * from holds
             where tenant_id = $1 and customer_id = c.customer_id and ended_as is not null and expires_at > $3
             order by expires_at desc limit $4
         ) h"
    ))
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<SqlUuid>, _>(uuids(customers))
    .bind::<Timestamptz, _>(now)
    .bind::<BigInt, _>(each_max)
    .load(tx)
    .await?;
    rows.into_iter().map(KnownHold::try_from).collect()
}

/// What the live holds that have rows set aside.
pub(crate) async fn held(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    now: Timestamp,
) -> Result<Credits> {
    let sum: SumRow = db::sql_query(
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

/// Records holds that Redis granted in `epoch`, packed, and says whether that epoch still goes on. Until
/// the transaction ends, no other begins.
pub(crate) async fn insert_hold_batch(
    tx: &mut Connection,
    tenant: TenantId,
    epoch: i64,
    packed: &[u8],
    expires_max: Timestamp,
) -> Result<bool> {
    let inserted = db::sql_query(
        "insert into hold_batches (tenant_id, batch_id, epoch, holds, expires_max)
         select $1, $2, $3, $4, $5 from (select from hot_state where epoch = $3 for share) as goes_on",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(Uuid::now_v7())
    .bind::<BigInt, _>(epoch)
    .bind::<Bytea, _>(packed)
    .bind::<Timestamptz, _>(expires_max)
    .execute(tx)
    .await?;
    Ok(inserted == 1)
}

/// The packed holds of the epochs before `epoch`, but for those that have all run out.
pub(crate) async fn hold_batches_before(
    tx: &mut Connection,
    tenant: TenantId,
    epoch: i64,
    now: Timestamp,
) -> Result<Vec<Vec<u8>>> {
    Ok(hold_batches::table
        .filter(hold_batches::tenant_id.eq(tenant.uuid()))
        .filter(hold_batches::epoch.lt(epoch))
        .filter(hold_batches::expires_max.gt(now))
        .select(hold_batches::holds)
        .load(tx)
        .await?)
}

/// Deletes the packed holds that have all run out, each by its tenant's time; answers how many rows.
pub(crate) async fn prune_hold_batches_all_tenants(tx: &mut Connection, now: Timestamp) -> Result<usize> {
    Ok(db::sql_query(
        "delete from hold_batches b using tenants t
         where t.tenant_id = b.tenant_id and b.expires_max < coalesce(t.clock_at, $1)",
    )
    .bind::<Timestamptz, _>(now)
    .execute(tx)
    .await?)
}

/// Records granted and renewed holds, a row each; one that has ended already stays as it is.
pub(crate) async fn insert_holds(
    tx: &mut Connection,
    tenant: TenantId,
    granted: &[(Hold, Fingerprint)],
) -> Result<()> {
    let HoldColumns { customers, ids, credits, granted_at, expires_at, counts_until, fingerprints } =
        hold_columns(granted);
    db::sql_query(
        "insert into holds (tenant_id, customer_id, hold_id, credits, granted_at, expires_at, counts_until,
             fingerprint)
         select $1, n.* from unnest($2, $3, $4, $5, $6, $7, $8) as n
         on conflict (tenant_id, customer_id, hold_id) do update
         set expires_at = greatest(holds.expires_at, excluded.expires_at),
             counts_until = greatest(holds.counts_until, excluded.counts_until)
         where holds.ended_as is null",
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
    ended: &[(Hold, Fingerprint)],
    end: HoldEnd,
    now: Timestamp,
) -> Result<()> {
    if ended.is_empty() {
        return Ok(());
    }
    let HoldColumns { customers, ids, credits, granted_at, expires_at, counts_until, fingerprints } =
        hold_columns(ended);
    db::sql_query(
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
fn hold_columns(all: &[(Hold, Fingerprint)]) -> HoldColumns {
    let mut all: Vec<&(Hold, Fingerprint)> = all.iter().collect();
    all.sort_by(|(a, _), (b, _)| (a.customer, &a.id).cmp(&(b.customer, &b.id)));
    HoldColumns {
        customers: all.iter().map(|(hold, _)| hold.customer.uuid()).collect(),
        ids: all.iter().map(|(hold, _)| hold.id.to_string()).collect(),
        credits: all.iter().map(|(hold, _)| hold.credits.get()).collect(),
        granted_at: all.iter().map(|(hold, _)| hold.granted_at).collect(),
        expires_at: all.iter().map(|(hold, _)| hold.expires_at).collect(),
        counts_until: all.iter().map(|(hold, _)| hold.counts_until).collect(),
        fingerprints: all.iter().map(|(_, fingerprint)| fingerprint.hex(&mut [0; 32]).to_owned()).collect(),
    }
}
