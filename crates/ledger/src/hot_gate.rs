//! Who decides about holds: Redis, or PostgreSQL while Redis is away. All servers must agree,
//! or each would grant what is left once more.
//!
//! What they agree on is one row in PostgreSQL, `hot_state`: an epoch, and whether Redis is up. A
//! server goes on with Redis for a [`LEASE`] after it last read the row; the row is read again before
//! that, by one request at a time, so no other waits for it. Whoever finds Redis away, or back,
//! starts the next epoch there, and the change is in force once it has settled: when every lease
//! from before it has run out, every call has ended, and the holds they got are recorded.
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
use hot_balances::{CALL_MAX, Epoch, HotBalances};

use crate::store;

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
            let seen = self.current(db).await?;
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
    pub(crate) async fn epoch_in_redis(&self, db: &Db) -> Result<Option<Epoch>> {
        let seen = self.current(db).await?;
        Ok((seen.is_up && seen.settles_at <= Instant::now()).then_some(seen.epoch))
    }

    /// Whether Redis was up when the row was last read. Takes no connection: for looking something up
    /// in the middle of a transaction, never for deciding.
    pub(crate) fn was_up(&self) -> bool {
        lock(&self.seen).is_some_and(|seen| seen.is_up)
    }

    /// Says for all servers that Redis is away.
    pub(crate) async fn redis_is_away(&self, db: &Db, epoch: Epoch, why: &hot_balances::Away) -> Result<()> {
        tracing::warn!(%why, "Redis is away; PostgreSQL decides about holds");
        // Not used again before it was read anew, even if nobody can be told now.
        *lock(&self.seen) = None;
        db.all_tenants_transaction(async |tx| store::change_hot_state(tx, epoch.0, false).await).await?;
        self.read(db).await.map(drop)
    }

    async fn look_whether_redis_is_back(&self, db: &Db, hot: &HotBalances, epoch: Epoch) -> Result<()> {
        {
            let mut pinged_at = lock(&self.pinged_at);
            if pinged_at.is_some_and(|at| at.elapsed() < PING_EVERY) {
                return Ok(());
            }
            *pinged_at = Some(Instant::now());
        }
        if hot.ping().await.is_ok() {
            tracing::info!("Redis is back");
            db.all_tenants_transaction(async |tx| store::change_hot_state(tx, epoch.0, true).await).await?;
            self.read(db).await?;
        }
        Ok(())
    }

    /// The row, as read at most a lease ago.
    async fn current(&self, db: &Db) -> Result<Seen> {
        let known = *lock(&self.seen);
        match known {
            Some(seen) if seen.seen_at.elapsed() < FRESH => Ok(seen),
            Some(seen) if seen.seen_at.elapsed() < LEASE => match self.reading.try_lock() {
                // While PostgreSQL is away, the lease goes on to its end.
                Ok(_reading) => Ok(self.read(db).await.unwrap_or(seen)),
                Err(_) => Ok(seen),
            },
            Some(_) | None => {
                let _reading = self.reading.lock().await;
                match *lock(&self.seen) {
                    // Somebody has read it while this request waited.
                    Some(seen) if seen.seen_at.elapsed() < FRESH => return Ok(seen),
                    Some(_) | None => {}
                }
                self.read(db).await
            }
        }
    }

    async fn read(&self, db: &Db) -> Result<Seen> {
        let seen_at = Instant::now();
        let row = db.all_tenants_transaction(async |tx| store::hot_state(tx).await).await?;
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

/// A panic elsewhere leaves these values whole: each is replaced in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
