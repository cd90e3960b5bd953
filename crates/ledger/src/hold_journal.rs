//! Records granted holds in PostgreSQL, off the path of the request that got them.
//!
//! A hold granted in Redis waits here until the next flush, some milliseconds. While PostgreSQL is
//! away they gather; once the oldest has waited for [`UNRECORDED_MAX`], no more are granted.
//!
//! A flush writes one packed row a tenant, in a transaction that shares a lock on the row that says
//! which epoch it is: when the next epoch has begun, all of the last one is there. Whoever comes too
//! late for that writes a row a hold instead, where those who decide in the new epoch look as well.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use db::{Db, Error, Result};
use domain::hold::{Fingerprint, Hold};
use domain::id::{CustomerId, ExternalId, TenantId};
use hot_balances::{Epoch, KnownHold};
use tokio::sync::{Notify, watch};

use crate::{Ledger, packed, store};

/// The longest that a granted hold may stay unrecorded before authorizing stops.
const UNRECORDED_MAX: Duration = Duration::from_secs(1);
/// How long holds gather before they are written in one row.
const GATHER: Duration = Duration::from_millis(20);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone)]
struct Waiting {
    tenant: TenantId,
    epoch: Epoch,
    granted: (Hold, Fingerprint),
}

/// What waits, what is being written, and since when the first of both does: asked for by every request. In the order in which
/// they came, which costs each of them least; the few that are looked for are looked for together.
#[derive(Default)]
struct Unrecorded {
    waiting: Vec<Waiting>,
    waiting_since: Option<Instant>,
    writing: Arc<Vec<Waiting>>,
    writing_since: Option<Instant>,
}

#[derive(Default)]
pub(crate) struct HoldJournal {
    unrecorded: Mutex<Unrecorded>,
    /// Held while a flush writes, so that whoever asks for a flush also waits for one under way.
    flushing: tokio::sync::Mutex<()>,
    arrived: Notify,
}

impl HoldJournal {
    /// Takes over a hold that Redis granted or renewed in `epoch`.
    pub(crate) fn record_later(&self, tenant: TenantId, epoch: Epoch, hold: Hold, fingerprint: Fingerprint) {
        let mut unrecorded = self.unrecorded();
        unrecorded.waiting.push(Waiting { tenant, epoch, granted: (hold, fingerprint) });
        unrecorded.waiting_since.get_or_insert_with(Instant::now);
        drop(unrecorded);
        self.arrived.notify_one();
    }

    /// Those of the customers' own holds that are not recorded yet; of one that was renewed meanwhile the last comes last.
    pub(crate) fn find(&self, tenant: TenantId, named: &[(CustomerId, ExternalId)]) -> Vec<KnownHold> {
        let named: HashSet<_> = named.iter().map(|(customer, id)| (*customer, id)).collect();
        let unrecorded = self.unrecorded();
        let found = unrecorded.writing.iter().chain(&unrecorded.waiting).filter(|waiting| {
            let (hold, _) = &waiting.granted;
            waiting.tenant == tenant && named.contains(&(hold.customer, &hold.id))
        });
        found.map(|w| KnownHold { hold: w.granted.0.clone(), fingerprint: w.granted.1, end: None }).collect()
    }

    /// Refuses to go on while recorded holds lag too far behind granted ones.
    pub(crate) fn check_is_recording(&self) -> Result<()> {
        if self.oldest().is_some_and(|age| age > UNRECORDED_MAX) {
            return Err(Error::Unavailable("holds cannot be recorded".to_owned()));
        }
        Ok(())
    }

    /// How long the oldest hold has been waiting to be recorded.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let unrecorded = self.unrecorded();
        unrecorded.writing_since.or(unrecorded.waiting_since).map(|since| since.elapsed())
    }

    /// Records everything that waits now, within a transaction's deadline, the wait for another flush
    /// included. On an error it all goes on waiting.
    pub(crate) async fn flush(&self, db: &Db) -> Result<()> {
        {
            let unrecorded = self.unrecorded();
            if unrecorded.waiting.is_empty() && unrecorded.writing.is_empty() {
                return Ok(());
            }
        }
        db.within_deadline(self.flush_in_turn(db)).await
    }

    async fn flush_in_turn(&self, db: &Db) -> Result<()> {
        let _flushing = self.flushing.lock().await;
        let taken = self.take_all();
        let mut batches: BTreeMap<(TenantId, i64), Vec<&(Hold, Fingerprint)>> = BTreeMap::new();
        for Waiting { tenant, epoch, granted } in taken.iter() {
            batches.entry((*tenant, epoch.0)).or_default().push(granted);
        }
        for ((tenant, epoch), granted) in &batches {
            db.transaction(*tenant, async |tx| record(tx, *tenant, *epoch, granted).await).await?;
        }
        let mut unrecorded = self.unrecorded();
        unrecorded.writing = Arc::default();
        unrecorded.writing_since = None;
        Ok(())
    }

    /// Moves what waits to what is being written: together with what an earlier flush took and could not
    /// write, or was dropped with.
    fn take_all(&self) -> Arc<Vec<Waiting>> {
        let mut unrecorded = self.unrecorded();
        // The next flush takes about as many: the list need not grow under the lock.
        let next = Vec::with_capacity(unrecorded.waiting.len());
        let waiting = std::mem::replace(&mut unrecorded.waiting, next);
        let waiting_since = unrecorded.waiting_since.take();
        // What is being written belongs to this flush alone: the turn is held.
        if unrecorded.writing.is_empty() {
            unrecorded.writing = Arc::new(waiting);
        } else {
            Arc::make_mut(&mut unrecorded.writing).extend(waiting);
        }
        unrecorded.writing_since = unrecorded.writing_since.or(waiting_since);
        unrecorded.writing.clone()
    }

    fn unrecorded(&self) -> MutexGuard<'_, Unrecorded> {
        // Each change is one step: a panic elsewhere leaves the lists whole.
        self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn record(
    tx: &mut db::Connection,
    tenant: TenantId,
    epoch: i64,
    granted: &[&(Hold, Fingerprint)],
) -> Result<()> {
    let Some(expires_max) = granted.iter().map(|(hold, _)| hold.expires_at).max() else { return Ok(()) };
    let packed = packed::pack(granted.iter().copied())?;
    if store::insert_hold_batch(tx, tenant, epoch, &packed, expires_max).await? {
        return Ok(());
    }
    // Each once, as it runs longest: one statement writes no row twice.
    let mut longest: HashMap<_, &(Hold, Fingerprint)> = HashMap::new();
    for one in granted {
        let known = longest.entry((one.0.customer, &one.0.id)).or_insert(one);
        if known.0.expires_at < one.0.expires_at {
            *known = one;
        }
    }
    let granted: Vec<(Hold, Fingerprint)> = longest.into_values().cloned().collect();
    store::insert_holds(tx, tenant, &granted).await
}

impl Ledger {
    /// Records holds as they are granted, until `stop` turns true and everything is recorded.
    pub async fn run_journal(&self, mut stop: watch::Receiver<bool>) {
        loop {
            let is_stopped = tokio::select! {
                () = self.journal.arrived.notified() => false,
                _ = stop.wait_for(|stop| *stop) => true,
            };
            if is_stopped {
                break;
            }
            tokio::time::sleep(GATHER).await;
            if let Err(error) = self.journal.flush(&self.db).await {
                tracing::warn!(%error, "granted holds are not recorded yet");
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                self.journal.arrived.notify_one();
            }
        }
        if let Err(error) = self.journal.flush(&self.db).await {
            tracing::error!(%error, "holds were granted and not recorded; they run out by their time");
        }
    }

    /// How long the oldest granted hold has been waiting to be recorded; none where none waits.
    pub fn oldest_unrecorded_hold(&self) -> Option<Duration> {
        self.journal.oldest()
    }
}
