//! Ends an attempt: done, due again later, or parked.

use std::time::Duration;

use db::{Db, Result};

use crate::store::{self, Claimed};

/// What becomes of a job after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// `failures` of the attempts so far failed.
    Again {
        after: Duration,
        failures: i32,
        error: String,
    },
    Parked {
        failures: i32,
        error: String,
    },
}

const PAUSE_FIRST: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(3_600);
/// An error is kept for an operator to read, not to fill a disk.
const ERROR_CHARS_MAX: usize = 2_000;

/// Decides by how this attempt ended, and how those before did: 2, 8, 32, .. seconds until the next, an hour at most.
pub(crate) fn outcome(job: &Claimed, failures_max: i32, result: std::result::Result<(), String>) -> Outcome {
    let Err(error) = result else { return Outcome::Done };
    let error: String = error.chars().filter(|c| *c != '\0').take(ERROR_CHARS_MAX).collect();
    let failures = job.failures + 1;
    if failures >= failures_max {
        return Outcome::Parked { failures, error };
    }
    let doublings = 2 * u32::try_from(job.attempts - 1).unwrap_or(0).min(15);
    Outcome::Again { after: (PAUSE_FIRST * (1 << doublings)).min(PAUSE_MAX), failures, error }
}

/// Writes the outcome. False where another worker has claimed the job since: then its state is
/// that worker's to write.
pub(crate) async fn settle(db: &Db, job: &Claimed, outcome: &Outcome) -> Result<bool> {
    db.all_tenants_transaction(async |tx| match outcome {
        Outcome::Done => store::set_done_all_tenants(tx, job).await,
        Outcome::Again { after, failures, error } => {
            store::requeue_all_tenants(tx, job, *after, *failures, error).await
        }
        Outcome::Parked { failures, error } => store::park_all_tenants(tx, job, *failures, error).await,
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(attempts: i32, failures: i32) -> Claimed {
        let (kind, key, payload) = ("work".to_owned(), "1".to_owned(), serde_json::Value::Null);
        Claimed { job_id: uuid::Uuid::nil(), kind, key, payload, attempts, failures }
    }

    /// The seconds until the next attempt; `None` where there is none.
    fn pause(attempts: i32, failures: i32) -> Option<u64> {
        match outcome(&claimed(attempts, failures), 8, Err("no".to_owned())) {
            Outcome::Again { after, failures: counted, .. } if counted == failures + 1 => {
                Some(after.as_secs())
            }
            Outcome::Parked { failures: 8, .. } => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pauses_grow_to_an_hour_and_then_the_job_is_parked() {
        let pauses: Vec<u64> = (1..).map_while(|attempt| pause(attempt, attempt - 1)).collect();
        assert_eq!(pauses, [2, 8, 32, 128, 512, 2_048, 3_600]);
        let parked = outcome(&claimed(8, 7), 8, Err("no\0".to_owned()));
        assert_eq!(parked, Outcome::Parked { failures: 8, error: "no".to_owned() });
        assert_eq!(outcome(&claimed(8, 7), 8, Ok(())), Outcome::Done);
    }

    #[test]
    fn an_attempt_that_was_cut_off_is_no_failure() {
        // The 20th attempt; 13 were cut off, 6 failed before.
        assert_eq!(pause(20, 6), Some(3_600));
        assert_eq!(pause(21, 7), None);
    }
}
