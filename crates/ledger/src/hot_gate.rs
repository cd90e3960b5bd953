//! Who decides about holds: Redis, or PostgreSQL while Redis is away. All servers must agree,
//! or each would grant what is left once more.
//!
//! What they agree on is one row in PostgreSQL, `hot_state`: an epoch, and whether Redis is up. A
//! server goes on with Redis for a [`LEASE`] after it last read the row; the row is read again before
//! that, by one request at a time, so no other waits for it. Whoever finds Redis away, back,
//! or restarted, starts the next epoch there, and the change is in force once it has settled: when
//! every lease from before it has run out, every call has ended, and the holds they got are recorded.
//!
//! | the row says | until it has settled | after that |
//! |---|---|---|
//! | down | nobody decides: a request waits, a second at most | PostgreSQL decides |
//! | up | PostgreSQL decides still | Redis decides |
//!
//! What Redis has of an earlier epoch is a miss, so whatever changed without it is loaded anew.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use db::{Db, Result};
use hot_balances::{Away, CALL_MAX, Epoch, HotBalances};

use crate::store;
use crate::store::HotState;

/// How long a server goes on with Redis after it last read that Redis is up.
const LEASE: Duration = Duration::from_millis(400);
/// How old a reading may be before a request takes a new one.
const FRESH: Duration = Duration::from_millis(150);
/// How long holds take to be recorded after they were granted, with some to spare.
const RECORDING: Duration = Duration::from_millis(150);
/// How long after a change it is in force on every server.
pub(crate) const SETTLE: Duration = LEASE.saturating_add(CALL_MAX).saturating_add(RECORDING);
/// How often one server looks whether Redis is back.
const PING_EVERY: Duration = Duration::from_millis(250);

/// Who decides about a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decider {
    Redis(Epoch),
    Postgres,
}

/// The row as it was last read.
#[derive(Debug, Clone, Copy)]
struct Seen {
    epoch: Epoch,
    is_up: bool,
    /// Before the reading: a lease that is counted from here ends early rather than late.
    seen_at: Instant,
    /// Counted from after the reading, for the same reason.
    settles_at: Instant,
}

#[derive(Default)]
pub(crate) struct HotGate {
    seen: Mutex<Option<Seen>>,
    reading: tokio::sync::Mutex<()>,
    pinged_at: Mutex<Option<Instant>>,
}

impl HotGate {
    /// Who decides now; while nobody may, waits until somebody does.
    pub(crate) async fn decider(&self, db: &Db, hot: &HotBalances) -> Result<Decider> {
        loop {
            let seen = self.current(db, hot).await?;
            let has_settled = seen.settles_at <= Instant::now();
            match (seen.is_up, has_settled) {
                (true, true) => return Ok(Decider::Redis(seen.epoch)),
                (true, false) => return Ok(Decider::Postgres),
                (false, true) => {
                    self.look_whether_redis_is_back(db, hot, seen.epoch).await?;
                    return Ok(Decider::Postgres);
                }
                (false, false) => tokio::time::sleep_until(seen.settles_at.into()).await,
            }
        }
    }

    /// The epoch in which Redis may be told something; `None` while it does not decide.
    pub(crate) async fn epoch_in_redis(&self, db: &Db, hot: &HotBalances) -> Result<Option<Epoch>> {
        let seen = self.current(db, hot).await?;
        Ok((seen.is_up && seen.settles_at <= Instant::now()).then_some(seen.epoch))
    }

    /// The epoch, if Redis was up when the row was last read. Takes no connection: for looking something
    /// up in the middle of a transaction, never for deciding.
    pub(crate) fn epoch_when_last_read(&self) -> Option<Epoch> {
        lock(&self.seen).filter(|seen| seen.is_up).map(|seen| seen.epoch)
    }

    /// Says for all servers that Redis is away.
    pub(crate) async fn redis_is_away(&self, db: &Db, epoch: Epoch, why: &Away) -> Result<()> {
        tracing::warn!(%why, "Redis is away; PostgreSQL decides about holds");
        // Not used again before it was read anew, even if nobody can be told now.
        *lock(&self.seen) = None;
        start_epoch(db, epoch, None).await
    }

    /// Says for all servers that Redis was emptied: what it has of this epoch is not all of it.
    pub(crate) async fn redis_is_lost(&self, db: &Db, epoch: Epoch) -> Result<()> {
        tracing::warn!("Redis was emptied; PostgreSQL decides about holds for a moment");
        *lock(&self.seen) = None;
        start_epoch(db, epoch, None).await
    }

    async fn look_whether_redis_is_back(&self, db: &Db, hot: &HotBalances, epoch: Epoch) -> Result<()> {
        {
            let mut pinged_at = lock(&self.pinged_at);
            if pinged_at.is_some_and(|at| at.elapsed() < PING_EVERY) {
                return Ok(());
            }
            *pinged_at = Some(Instant::now());
        }
        // The next epoch's number is known before it is anybody's: it is either taken now or not used.
        if let Ok(run_id) = hot.run_id().await
            && hot.begin_epoch(Epoch(epoch.0 + 1)).await.is_ok()
        {
            tracing::info!("Redis is back");
            start_epoch(db, epoch, Some(&run_id)).await?;
            self.read(db, hot).await?;
        }
        Ok(())
    }

    /// The row, as read at most a lease ago.
    async fn current(&self, db: &Db, hot: &HotBalances) -> Result<Seen> {
        let known = *lock(&self.seen);
        match known {
            Some(seen) if seen.seen_at.elapsed() < FRESH => Ok(seen),
            Some(seen) if seen.seen_at.elapsed() < LEASE => match self.reading.try_lock() {
                // While PostgreSQL is away, the lease goes on to its end.
                Ok(_reading) => Ok(self.read(db, hot).await.unwrap_or(seen)),
                Err(_) => Ok(seen),
            },
            Some(_) | None => db.within_deadline(self.read_in_turn(db, hot)).await,
        }
    }

    async fn read_in_turn(&self, db: &Db, hot: &HotBalances) -> Result<Seen> {
        let _reading = self.reading.lock().await;
        let known = *lock(&self.seen);
        match known {
            // Somebody has read it while this request waited.
            Some(seen) if seen.seen_at.elapsed() < FRESH => Ok(seen),
            Some(_) | None => self.read(db, hot).await,
        }
    }

    /// Whether Redis is still the run that the row names. Where it is not, or does not say, it is put
    /// down as away: empty, or with the balances of an old dump, and others may go on with what they
    /// take for the same run.
    async fn is_same_run(&self, db: &Db, hot: &HotBalances, row: &HotState) -> Result<bool> {
        let epoch = Epoch(row.epoch);
        match (hot.run_id().await, &row.run_id) {
            (Ok(run_id), Some(known)) if run_id == *known => return Ok(true),
            (Ok(run_id), None) => match hot.begin_epoch(epoch).await {
                Ok(()) => note_run(db, epoch, &run_id).await?,
                Err(away) => self.redis_is_away(db, epoch, &away).await?,
            },
            (Ok(_), Some(_)) => {
                tracing::warn!("Redis was restarted; PostgreSQL decides about holds for a moment");
                start_epoch(db, epoch, None).await?;
            }
            (Err(away), _) => self.redis_is_away(db, epoch, &away).await?,
        }
        Ok(false)
    }

    async fn read(&self, db: &Db, hot: &HotBalances) -> Result<Seen> {
        let mut seen_at = Instant::now();
        let mut row = hot_state(db).await?;
        if row.is_up && !self.is_same_run(db, hot, &row).await? {
            seen_at = Instant::now();
            row = hot_state(db).await?;
        }
        let unsettled = SETTLE.saturating_sub(row.changed_since);
        let seen = Seen {
            epoch: Epoch(row.epoch),
            is_up: row.is_up,
            seen_at,
            settles_at: Instant::now() + unsettled,
        };
        *lock(&self.seen) = Some(seen);
        Ok(seen)
    }
}

async fn hot_state(db: &Db) -> Result<HotState> {
    db.all_tenants_transaction(async |tx| store::hot_state(tx).await).await
}

async fn start_epoch(db: &Db, after: Epoch, run_id: Option<&str>) -> Result<()> {
    db.all_tenants_transaction(async |tx| store::start_epoch(tx, after.0, run_id).await).await
}

async fn note_run(db: &Db, epoch: Epoch, run_id: &str) -> Result<()> {
    db.all_tenants_transaction(async |tx| store::note_run(tx, epoch.0, run_id).await).await
}

/// A panic elsewhere leaves these values whole: each is replaced in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
