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
//! Whoever has changed a balance and could not tell Redis answers only once that has settled: until then others go on with the
//! balance from before.
//!
//! What Redis has of an earlier epoch is a miss, so whatever changed without it is loaded anew. A marker
//! in Redis names the epoch; whoever begins one sets it, once. Where it is gone Redis has been emptied.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use db::{Db, Result};
use hot_balances::{Away, CALL_MAX, Epoch, HotBalances};
use tokio::sync::Notify;

use crate::store;
use crate::store::HotState;

/// How long a server goes on with Redis after it last read that Redis is up.
const LEASE: Duration = Duration::from_millis(300);
/// How old a reading may be before a request takes a new one.
const FRESH: Duration = Duration::from_millis(100);
/// How long holds take to be recorded after they were granted, with some to spare.
const RECORDING: Duration = Duration::from_millis(150);
/// How long after a change it is in force on every server.
pub(crate) const SETTLE: Duration = LEASE.saturating_add(CALL_MAX).saturating_add(RECORDING);
/// How often one server looks whether Redis is back.
const PING_EVERY: Duration = Duration::from_millis(250);

/// Who decides about a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decider {
    Redis(Lease),
    Postgres,
}

/// The right to let Redis decide, for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) epoch: Epoch,
    /// An answer that comes later is not used: others may have gone on without Redis since.
    ends_at: Instant,
}

impl Lease {
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.ends_at
    }
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

impl Seen {
    fn lease(&self) -> Lease {
        Lease { epoch: self.epoch, ends_at: self.seen_at + LEASE + CALL_MAX }
    }
}

#[derive(Default)]
pub(crate) struct HotGate {
    seen: Mutex<Option<Seen>>,
    /// The epoch that was read last, also once it may no longer be used for deciding.
    last_read: Mutex<Option<(Epoch, bool)>>,
    reading: tokio::sync::Mutex<()>,
    pinged_at: Mutex<Option<Instant>>,
    /// Told when this server has begun an epoch with Redis.
    begun: Notify,
}

impl HotGate {
    /// Who decides now; while nobody may, waits until somebody does.
    pub(crate) async fn decider(&self, db: &Db, hot: &HotBalances) -> Result<Decider> {
        loop {
            let seen = self.current(db, hot).await?;
            let has_settled = seen.settles_at <= Instant::now();
            match (seen.is_up, has_settled) {
                (true, true) => return Ok(Decider::Redis(seen.lease())),
                (true, false) => return Ok(Decider::Postgres),
                (false, true) => {
                    self.look_whether_redis_is_back(db, hot, seen.epoch).await?;
                    return Ok(Decider::Postgres);
                }
                (false, false) => tokio::time::sleep_until(seen.settles_at.into()).await,
            }
        }
    }

    /// Returns when no server lets Redis decide any more that was last found away, and all that it granted is recorded.
    pub(crate) async fn until_settled(&self, db: &Db, hot: &HotBalances) -> Result<()> {
        let seen = self.current(db, hot).await?;
        if !seen.is_up {
            tokio::time::sleep_until(seen.settles_at.into()).await;
        }
        Ok(())
    }

    /// Redis' lease, where the row was just read and says so: what nearly every request is answered with.
    pub(crate) fn fresh_lease(&self) -> Option<Lease> {
        let seen = (*lock(&self.seen))?;
        let now = Instant::now();
        let is_fresh = now.saturating_duration_since(seen.seen_at) < FRESH;
        (is_fresh && seen.is_up && seen.settles_at <= now).then(|| seen.lease())
    }

    /// The epoch in which Redis decides; `None` while it does not.
    pub(crate) async fn epoch_in_redis(&self, db: &Db, hot: &HotBalances) -> Result<Option<Epoch>> {
        let seen = self.current(db, hot).await?;
        Ok((seen.is_up && seen.settles_at <= Instant::now()).then_some(seen.epoch))
    }

    /// The epoch in which Redis is told what was committed: also before it decides. Each server counts for itself when
    /// an epoch has settled, and one that counts faster may have loaded accounts already.
    pub(crate) async fn epoch_to_tell(&self, db: &Db, hot: &HotBalances) -> Result<Option<Epoch>> {
        let seen = self.current(db, hot).await?;
        Ok(seen.is_up.then_some(seen.epoch))
    }

    /// Whether an epoch that Redis does not know is about to begin there, or to be found lost: in it nothing is loaded
    /// that could be told anything.
    pub(crate) async fn is_beginning(&self, db: &Db, hot: &HotBalances, epoch: Epoch) -> Result<bool> {
        let seen = self.read(db, hot).await?;
        Ok(seen.is_up && seen.epoch == epoch && seen.settles_at > Instant::now())
    }

    /// The epoch as it was last read, and whether Redis is up in it. Takes no connection, and stays there
    /// while PostgreSQL is away: for looking something up in the middle of a transaction and for telling
    /// Redis what was committed, never for deciding.
    pub(crate) fn last_seen(&self) -> Option<(Epoch, bool)> {
        *lock(&self.last_read)
    }

    /// Returns when this server has begun an epoch with Redis, in which nothing is loaded yet.
    pub(crate) async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Says for all servers that Redis is away.
    pub(crate) async fn redis_is_away(&self, db: &Db, epoch: Epoch, why: &Away) -> Result<()> {
        tracing::warn!(%why, "Redis is away; PostgreSQL decides about holds");
        self.end_epoch(db, epoch).await
    }

    /// Says for all servers that Redis was emptied: what it has of this epoch is not all of it.
    pub(crate) async fn redis_is_emptied(&self, db: &Db, epoch: Epoch) -> Result<()> {
        tracing::warn!("Redis was emptied; PostgreSQL decides about holds for a moment");
        self.end_epoch(db, epoch).await
    }

    async fn end_epoch(&self, db: &Db, epoch: Epoch) -> Result<()> {
        // Not used again before it was read anew, even if nobody can be told now.
        *lock(&self.seen) = None;
        start_epoch(db, epoch, None).await?;
        Ok(())
    }

    async fn look_whether_redis_is_back(&self, db: &Db, hot: &HotBalances, epoch: Epoch) -> Result<()> {
        {
            let mut pinged_at = lock(&self.pinged_at);
            if pinged_at.is_some_and(|at| at.elapsed() < PING_EVERY) {
                return Ok(());
            }
            *pinged_at = Some(Instant::now());
        }
        // Written with the epoch in which nobody asks Redis: one that takes no writes is not back.
        if let Ok(run_id) = hot.run_id().await
            && hot.begin_epoch(epoch).await.is_ok()
        {
            if let Some(begun) = start_epoch(db, epoch, Some(&run_id)).await? {
                tracing::info!("Redis is back");
                match hot.begin_epoch(begun).await {
                    Ok(()) => self.begun.notify_one(),
                    Err(away) => self.redis_is_away(db, begun, &away).await?,
                }
            }
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
        let epoch = row.epoch;
        let Some(run_id) = &row.run_id else {
            // The very first epoch: nobody uses Redis before its run is noted.
            match begin_first(hot, epoch).await {
                Ok(run_id) => note_run(db, epoch, &run_id).await?,
                Err(away) => self.redis_is_away(db, epoch, &away).await?,
            }
            return Ok(false);
        };
        match hot.check_run(run_id).await {
            Ok(()) => Ok(true),
            Err(away) => {
                self.redis_is_away(db, epoch, &away).await?;
                Ok(false)
            }
        }
    }

    async fn read(&self, db: &Db, hot: &HotBalances) -> Result<Seen> {
        let mut seen_at = Instant::now();
        let mut row = hot_state(db).await?;
        // Boxed: every request's future would be as deep as this one, which is seldom run.
        if row.is_up && !Box::pin(self.is_same_run(db, hot, &row)).await? {
            seen_at = Instant::now();
            row = hot_state(db).await?;
        }
        let unsettled = SETTLE.saturating_sub(row.changed_since);
        let seen =
            Seen { epoch: row.epoch, is_up: row.is_up, seen_at, settles_at: Instant::now() + unsettled };
        *lock(&self.seen) = Some(seen);
        *lock(&self.last_read) = Some((seen.epoch, seen.is_up));
        Ok(seen)
    }
}

/// Begins an epoch with whatever run of Redis answers, and says which.
async fn begin_first(hot: &HotBalances, epoch: Epoch) -> std::result::Result<String, Away> {
    let run_id = hot.run_id().await?;
    hot.begin_epoch(epoch).await?;
    Ok(run_id)
}

async fn hot_state(db: &Db) -> Result<HotState> {
    db.all_tenants_transaction(async |tx| store::hot_state(tx).await).await
}

/// The epoch that was started; none where somebody else was first.
async fn start_epoch(db: &Db, after: Epoch, run_id: Option<&str>) -> Result<Option<Epoch>> {
    let started =
        db.all_tenants_transaction(async |tx| store::start_epoch(tx, after.0, run_id).await).await?;
    let Some(epoch) = started else { return Ok(None) };
    // From when others can read of it: before, they had taken new leases.
    db.all_tenants_transaction(async |tx| store::count_epoch(tx, epoch).await).await?;
    Ok(Some(Epoch(epoch)))
}

async fn note_run(db: &Db, epoch: Epoch, run_id: &str) -> Result<()> {
    db.all_tenants_transaction(async |tx| store::note_run(tx, epoch.0, run_id).await).await
}

/// A panic elsewhere leaves these values whole: each is replaced in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
