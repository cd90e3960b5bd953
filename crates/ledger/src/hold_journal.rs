//! Records granted holds in PostgreSQL, off the path of the request that got them.
//!
//! A hold granted in Redis waits here until the next flush, a few milliseconds. While PostgreSQL is
//! away they gather; once the oldest has waited for [`UNRECORDED_MAX`], no more are granted.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use db::{Db, Error, Result};
use domain::hold::Hold;
use domain::id::{CustomerId, ExternalId, TenantId};
use hot_balances::KnownHold;
use tokio::sync::{Notify, watch};

use crate::{Ledger, store};

/// The longest that a granted hold may stay unrecorded before authorizing stops.
const UNRECORDED_MAX: Duration = Duration::from_secs(1);
/// How long holds gather before they are written in one statement.
const GATHER: Duration = Duration::from_millis(5);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct Waiting {
    hold: Hold,
    fingerprint: String,
    since: Instant,
}

type Key = (TenantId, CustomerId, ExternalId);

/// What waits, and since when the first of it does: asked for by every request.
#[derive(Default)]
struct Unrecorded {
    holds: HashMap<Key, Waiting>,
    oldest: Option<Instant>,
}

#[derive(Default)]
pub(crate) struct HoldJournal {
    waiting: Mutex<Unrecorded>,
    /// Held while a flush writes, so that whoever asks for a flush also waits for one under way.
    flushing: tokio::sync::Mutex<()>,
    arrived: Notify,
}

impl HoldJournal {
    pub(crate) fn record_later(&self, tenant: TenantId, hold: Hold, fingerprint: String) {
        let key = (tenant, hold.customer, hold.id.clone());
        let since = Instant::now();
        let mut waiting = self.waiting();
        waiting.holds.insert(key, Waiting { hold, fingerprint, since });
        waiting.oldest.get_or_insert(since);
        self.arrived.notify_one();
    }

    /// Those of the customers' own holds that are not recorded yet.
    pub(crate) fn find(&self, tenant: TenantId, named: &[(CustomerId, ExternalId)]) -> Vec<KnownHold> {
        let waiting = self.waiting();
        let found =
            named.iter().filter_map(|(customer, id)| waiting.holds.get(&(tenant, *customer, id.clone())));
        found
            .map(|w| KnownHold { hold: w.hold.clone(), fingerprint: w.fingerprint.clone(), end: None })
            .collect()
    }

    /// Refuses to go on while recorded holds lag too far behind granted ones.
    pub(crate) fn check_is_recording(&self) -> Result<()> {
        let oldest = self.waiting().oldest;
        if oldest.is_some_and(|since| since.elapsed() > UNRECORDED_MAX) {
            return Err(Error::Unavailable("holds cannot be recorded".to_owned()));
        }
        Ok(())
    }

    /// Records everything that waits now, within a transaction's deadline, the wait for another flush
    /// included. On an error it all goes on waiting.
    pub(crate) async fn flush(&self, db: &Db) -> Result<()> {
        if self.waiting().holds.is_empty() {
            return Ok(());
        }
        db.within_deadline(self.flush_in_turn(db)).await
    }

    async fn flush_in_turn(&self, db: &Db) -> Result<()> {
        let _flushing = self.flushing.lock().await;
        let mut by_tenant: BTreeMap<TenantId, Vec<(Key, Waiting)>> = BTreeMap::new();
        for (key, waiting) in &self.waiting().holds {
            by_tenant.entry(key.0).or_default().push((key.clone(), waiting.clone()));
        }
        for (tenant, entries) in by_tenant {
            let holds: Vec<(Hold, String)> =
                entries.iter().map(|(_, w)| (w.hold.clone(), w.fingerprint.clone())).collect();
            db.transaction(tenant, async |tx| store::insert_holds(tx, tenant, &holds).await).await?;
            let mut waiting = self.waiting();
            for (key, _) in &entries {
                waiting.holds.remove(key);
            }
            waiting.oldest = waiting.holds.values().map(|waiting| waiting.since).min();
        }
        Ok(())
    }

    fn waiting(&self) -> MutexGuard<'_, Unrecorded> {
        // Each entry is put in or taken out in one step: a panic elsewhere leaves the map whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
}
