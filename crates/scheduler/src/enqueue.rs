//! Stores a job.

use chrono::{DateTime, Utc};
use db::{Connection, Result};
use serde_json::Value;
use uuid::Uuid;

use crate::store;

/// Work for later.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Which handler does it.
    pub kind: &'static str,
    /// Which piece of work it is: once per (kind, key).
    pub key: String,
    pub payload: Value,
    /// Not before this instant of real time.
    pub run_at: DateTime<Utc>,
}

impl NewJob {
    /// A job that is due as soon as it is committed.
    pub fn due_at_once(kind: &'static str, key: String, payload: Value) -> NewJob {
        NewJob { kind, key, payload, run_at: Utc::now() }
    }
}

/// Stores the job in the caller's transaction. False where its kind and key were there already:
/// then nothing was changed. `now` is only kept as the time of making.
pub async fn enqueue(tx: &mut Connection, job: NewJob, now: DateTime<Utc>) -> Result<bool> {
    store::insert(tx, Uuid::now_v7(), job, now).await
}
