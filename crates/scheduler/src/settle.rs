//! Ends an attempt: done, due again later, or parked.

use std::time::Duration;

use db::{Db, Result};

use crate::store::{self, Claimed};

/// What becomes of a job after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Again { after: Duration, error: String },
    Parked { error: String },
}

const PAUSE_FIRST: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(3_600);
/// An error is kept for an operator to read, not to fill a disk.
const ERROR_CHARS_MAX: usize = 2_000;

/// Decides by the attempt's result: 2, 8, 32, .. seconds until the next, an hour at most.
pub(crate) fn outcome(attempt: i32, attempts_max: i32, result: std::result::Result<(), String>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(error) => {
            let error: String = error.chars().filter(|c| *c != '\0').take(ERROR_CHARS_MAX).collect();
            if attempt >= attempts_max {
                return Outcome::Parked { error };
            }
            let doublings = 2 * u32::try_from(attempt - 1).unwrap_or(0).min(15);
            Outcome::Again { after: (PAUSE_FIRST * (1 << doublings)).min(PAUSE_MAX), error }
        }
    }
}

/// Writes the outcome. False where another worker has claimed the job since: then its state is
/// that worker's to write.
pub(crate) async fn settle(db: &Db, job: &Claimed, outcome: &Outcome) -> Result<bool> {
    db.all_tenants_transaction(async |tx| match outcome {
        Outcome::Done => store::set_done_all_tenants(tx, job).await,
        Outcome::Again { after, error } => store::requeue_all_tenants(tx, job, *after, error).await,
        Outcome::Parked { error } => store::park_all_tenants(tx, job, error).await,
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_an_hour_and_then_the_job_is_parked() {
        let pauses: Vec<u64> = (1..)
            .map_while(|attempt| match outcome(attempt, 8, Err("no".to_owned())) {
                Outcome::Again { after, .. } => Some(after.as_secs()),
                Outcome::Done | Outcome::Parked { .. } => None,
            })
            .collect();
        assert_eq!(pauses, [2, 8, 32, 128, 512, 2_048, 3_600]);
        assert_eq!(outcome(8, 8, Err("no\0".to_owned())), Outcome::Parked { error: "no".to_owned() });
        assert_eq!(outcome(8, 8, Ok(())), Outcome::Done);
        let Outcome::Again { after, .. } = outcome(i32::MAX - 1, i32::MAX, Err(String::new())) else {
            panic!("not the last attempt")
        };
        assert_eq!(after, PAUSE_MAX);
    }
}
