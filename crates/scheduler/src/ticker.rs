//! Turns the clock into jobs.

use chrono::{DateTime, DurationRound, SecondsFormat, TimeDelta, Utc};
use db::{Db, Error, Result};
use futures_util::FutureExt;
use serde_json::json;
use tokio_cron_scheduler::{Job, JobScheduler};

use crate::{NewJob, enqueue};

/// A job at every tick of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// The job's kind. Its key is the slot's first instant, its payload `{"slot": that instant}`.
    pub kind: &'static str,
    /// A cron expression with seconds, in UTC: `0 * * * * *` is every full minute.
    pub schedule: &'static str,
    /// At most one job a slot, however often and wherever it ticks.
    pub slot: Slot,
}

/// What a tick's instant is cut to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    FiveSeconds,
    Minute,
    Hour,
}

impl Slot {
    fn start(self, instant: DateTime<Utc>) -> Result<DateTime<Utc>> {
        let length = match self {
            Slot::FiveSeconds => TimeDelta::seconds(5),
            Slot::Minute => TimeDelta::minutes(1),
            Slot::Hour => TimeDelta::hours(1),
        };
        instant.duration_trunc(length).map_err(|error| Error::Fault(Box::new(error)))
    }
}

/// A running clock. It only inserts jobs, so any number of processes may run one.
pub struct Ticker {
    scheduler: JobScheduler,
}

impl Ticker {
    /// Starts ticking; fails on a schedule that is none. Needs a multi-threaded runtime.
    pub async fn start(db: Db, ticks: &[Tick]) -> Result<Ticker> {
        let scheduler = JobScheduler::new().await.map_err(fault)?;
        for &tick in ticks {
            let db = db.clone();
            // UTC: the crate keeps a fixed offset per job, which no change of the clocks may move.
            let job =
                Job::new_async_tz(tick.schedule, Utc, move |_, _| insert_logged(db.clone(), tick).boxed());
            scheduler.add(job.map_err(fault)?).await.map_err(fault)?;
        }
        scheduler.start().await.map_err(fault)?;
        Ok(Ticker { scheduler })
    }

    /// Stops ticking.
    pub async fn stop(mut self) -> Result<()> {
        self.scheduler.shutdown().await.map_err(fault)
    }
}

async fn insert_logged(db: Db, tick: Tick) {
    // Nothing is lost with a tick: the next one finds what is due by then.
    if let Err(error) = insert(&db, tick, Utc::now()).await {
        tracing::warn!(kind = tick.kind, %error, "a tick was not stored");
    }
}

async fn insert(db: &Db, tick: Tick, now: DateTime<Utc>) -> Result<bool> {
    let slot = tick.slot.start(now)?;
    let key = slot.to_rfc3339_opts(SecondsFormat::Secs, true);
    db.all_tenants_transaction(async |tx| {
        let job = NewJob { kind: tick.kind, key: key.clone(), payload: json!({ "slot": key }), run_at: slot };
        enqueue(tx, job, now).await
    })
    .await
}

fn fault(error: tokio_cron_scheduler::JobSchedulerError) -> Error {
    Error::Fault(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_its_first_instant() {
        let tick = DateTime::parse_from_rfc3339("2026-01-31T10:59:59.987654Z").unwrap().with_timezone(&Utc);
        let start = |slot: Slot| slot.start(tick).unwrap().to_rfc3339_opts(SecondsFormat::Secs, true);
        assert_eq!(start(Slot::FiveSeconds), "2026-01-31T10:59:55Z");
        assert_eq!(start(Slot::Minute), "2026-01-31T10:59:00Z");
        assert_eq!(start(Slot::Hour), "2026-01-31T10:00:00Z");
    }
}
