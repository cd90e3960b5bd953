//! Runs due jobs until it is told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use db::{Db, Error};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::claim::{claim, renew};
use crate::prune::prune;
use crate::settle::{Outcome, outcome, settle};
use crate::store::Claimed;

/// Does a job, given its payload. May run more than once for one job, even at once.
pub type Handler = Arc<dyn Fn(Value) -> BoxFuture<'static, db::Result<()>> + Send + Sync>;

/// A [`Handler`] from an async closure.
pub fn handler<F, Fut>(work: F) -> Handler
where
    F: Fn(Value) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = db::Result<()>> + Send + 'static,
{
    Arc::new(move |payload| work(payload).boxed())
}

/// How a worker behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Jobs that run at the same time.
    pub jobs_max: usize,
    /// How long an idle worker waits before it looks again.
    pub poll_every: Duration,
    /// How long a job stays a dead worker's. A live one renews it in time.
    pub lease: Duration,
    /// Attempts that failed before a job is parked.
    pub failures_max: i32,
    /// The same of those that were cut off: the worker died, or could not tell how the attempt ended. That says nothing against a
    /// job, but one that kills its worker each time must not do so for ever.
    pub cut_off_max: i32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            jobs_max: 4,
            poll_every: Duration::from_millis(500),
            lease: Duration::from_secs(60),
            failures_max: 8,
            cut_off_max: 32,
        }
    }
}

/// Runs the due jobs of the kinds that it has handlers for; those of other kinds it leaves alone.
pub struct Worker {
    db: Db,
    options: Options,
    handlers: BTreeMap<&'static str, Handler>,
}

const PRUNE_EVERY: Duration = Duration::from_secs(3_600);

impl Worker {
    pub fn new(db: Db, options: Options) -> Worker {
        Worker { db, options, handlers: BTreeMap::new() }
    }

    /// Adds the handler of a kind.
    pub fn on(mut self, kind: &'static str, handler: Handler) -> Worker {
        self.handlers.insert(kind, handler);
        self
    }

    /// Runs until `stop` holds true or its sender is gone; then claims nothing more and returns
    /// when the running jobs have ended. Outlives outages of the database.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut running = JoinSet::new();
        let mut prune_at = Instant::now();
        while !is_stopped(&stop) {
            if Instant::now() >= prune_at {
                prune_at = Instant::now() + PRUNE_EVERY;
                running.spawn(pruned(self.db.clone()));
            }
            let is_full = self.start_due(&mut running).await;
            tokio::select! {
                _ = stop.wait_for(|is_stopped| *is_stopped) => {}
                // A place is free, and more may be due.
                Some(_) = running.join_next() => {}
                () = tokio::time::sleep(self.options.poll_every), if !is_full => {}
            }
        }
        while running.join_next().await.is_some() {}
    }

    /// Claims as many due jobs as there are free places, and starts them. True when none is left.
    async fn start_due(&self, running: &mut JoinSet<()>) -> bool {
        while running.try_join_next().is_some() {}
        let free = self.options.jobs_max.saturating_sub(running.len());
        if free == 0 || self.handlers.is_empty() {
            return free == 0;
        }
        let kinds: Vec<&str> = self.handlers.keys().copied().collect();
        let claimed = match claim(&self.db, &kinds, free, self.options.lease).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(%error, "no jobs could be claimed");
                Vec::new()
            }
        };
        for job in claimed {
            // Only kinds with a handler were asked for.
            if let Some(handler) = self.handlers.get(job.kind.as_str()) {
                running.spawn(attempt(self.db.clone(), self.options, handler.clone(), job));
            }
        }
        running.len() >= self.options.jobs_max
    }
}

fn is_stopped(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}

/// Runs a claimed job and writes what became of it.
async fn attempt(db: Db, options: Options, handler: Handler, job: Claimed) {
    let outcome = if job.attempts - job.failures > options.cut_off_max {
        let error = "the worker died, or lost the database, in the last attempt".to_owned();
        Outcome::Parked { failures: job.failures, error }
    } else {
        outcome(&job, options.failures_max, run_leased(&db, options.lease, handler, &job).await)
    };
    match &outcome {
        Outcome::Done => {}
        Outcome::Again { after, error, .. } => {
            tracing::warn!(
                kind = job.kind,
                key = job.key,
                attempt = job.attempts,
                ?after,
                error,
                "job failed"
            );
        }
        Outcome::Parked { error, .. } => {
            tracing::error!(kind = job.kind, key = job.key, attempt = job.attempts, error, "job parked");
        }
    }
    match settle(&db, &job, &outcome).await {
        Ok(true) => {}
        Ok(false) => {
            tracing::warn!(kind = job.kind, key = job.key, "job was claimed by another worker meanwhile")
        }
        // The lease runs out and the job runs again.
        Err(error) => tracing::warn!(kind = job.kind, key = job.key, %error, "job's end was not recorded"),
    }
}

/// Runs the handler in a task of its own, so that a panic ends that and nothing else, and renews
/// the job's lease as long as it takes.
async fn run_leased(db: &Db, lease: Duration, handler: Handler, job: &Claimed) -> Result<(), String> {
    let payload = job.payload.clone();
    // The handler is called in the task too: what it does before its first await may panic as well.
    let mut work = tokio::spawn(async move { handler(payload).await });
    let mut renewals = tokio::time::interval_at(Instant::now() + lease / 3, lease / 3);
    renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ended = &mut work => {
                return match ended {
                    Ok(result) => result.map_err(|error| with_sources(&error)),
                    Err(lost) => Err(panic_message(lost)),
                };
            }
            _ = renewals.tick() => {
                // Losing the lease is no reason to stop half way: the work is idempotent.
                if let Err(error) = renew(db, job, lease).await {
                    tracing::warn!(kind = job.kind, key = job.key, %error, "job's lease was not renewed");
                }
            }
        }
    }
}

fn with_sources(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn panic_message(lost: tokio::task::JoinError) -> String {
    match lost.try_into_panic() {
        Ok(panic) => {
            let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
            format!("panicked: {}", message.unwrap_or_else(|| "no message".to_owned()))
        }
        Err(_) => "the runtime stopped".to_owned(),
    }
}

async fn pruned(db: Db) {
    match prune(&db).await {
        Ok(0) => {}
        Ok(count) => tracing::debug!(count, "done jobs pruned"),
        Err(error) => tracing::warn!(%error, "done jobs were not pruned"),
    }
}
