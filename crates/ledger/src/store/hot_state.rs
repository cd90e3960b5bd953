//! Who decides about holds.

use db::{Connection, Result};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use diesel_async::RunQueryDsl;
use hot_balances::Epoch;
use std::time::Duration;

pub(crate) struct HotState {
    pub(crate) epoch: Epoch,
    pub(crate) is_up: bool,
    pub(crate) run_id: Option<String>,
    /// The epoch with Redis before this one.
    pub(crate) left: Option<Epoch>,
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
        #[diesel(sql_type = Nullable<BigInt>)]
        left_epoch: Option<i64>,
        #[diesel(sql_type = BigInt)]
        changed_ms: i64,
    }
    let row: Row = db::sql_query(
        "select epoch, is_up, run_id, left_epoch, floor(extract(epoch from clock_timestamp()
             - greatest(changed_at, clock_timestamp() - interval '1 hour')) * 1000)::bigint as changed_ms
         from hot_state",
    )
    .get_result(tx)
    .await?;
    // Below zero while its beginning is not counted yet.
    let changed_since = Duration::from_millis(u64::try_from(row.changed_ms).unwrap_or_default());
    let Row { epoch, is_up, run_id, left_epoch, .. } = row;
    Ok(HotState { epoch: Epoch(epoch), is_up, run_id, left: left_epoch.map(Epoch), changed_since })
}

/// Starts the next epoch, unless somebody else has: Redis is down, or up with this run. Waits for the
/// flushes of the epoch that ends. How long the commit takes is not known here, so until [`count_epoch`] it begins a
/// second later.
///
/// Its number is higher by a random step: a database that is restored from a backup does not begin the
/// epochs that Redis may remember.
pub(crate) async fn start_epoch(
    tx: &mut Connection,
    after: i64,
    run_id: Option<&str>,
) -> Result<Option<i64>> {
    #[derive(QueryableByName)]
    struct Started {
        #[diesel(sql_type = BigInt)]
        epoch: i64,
    }
    let started: Option<Started> = db::sql_query(
        "update hot_state
         set epoch = epoch + 1 + floor(random() * 1000000)::bigint, is_up = $2 is not null, run_id = $2,
             left_epoch = case when is_up then epoch else left_epoch end,
             changed_at = clock_timestamp() + interval '1 second'
         where epoch = $1
         returning epoch",
    )
    .bind::<BigInt, _>(after)
    .bind::<Nullable<Text>, _>(run_id)
    .get_result(tx)
    .await
    .optional()?;
    Ok(started.map(|row| row.epoch))
}

/// Counts an epoch from now on: its beginning was committed.
pub(crate) async fn count_epoch(tx: &mut Connection, epoch: i64) -> Result<()> {
    db::sql_query("update hot_state set changed_at = clock_timestamp() where epoch = $1")
        .bind::<BigInt, _>(epoch)
        .execute(tx)
        .await?;
    Ok(())
}

/// Notes the run of Redis in an epoch that did not know it: the very first one.
pub(crate) async fn note_run(tx: &mut Connection, epoch: i64, run_id: &str) -> Result<()> {
    db::sql_query("update hot_state set run_id = $2 where epoch = $1 and run_id is null")
        .bind::<BigInt, _>(epoch)
        .bind::<Text, _>(run_id)
        .execute(tx)
        .await?;
    Ok(())
}

/// How things are while PostgreSQL decides about holds: Redis is down for as long as it takes every server to know, or
/// back for less than that. None where it does not decide.
pub(crate) async fn postgres_decides(tx: &mut Connection, settle: Duration) -> Result<Option<HotState>> {
    let state = hot_state(tx).await?;
    Ok((state.is_up == (state.changed_since < settle)).then_some(state))
}
