//! Ends an attempt: done, due again later, or parked.

use std::time::Duration;

use db::{Db, Result};

use crate::Options;
use crate::store::{self, Claimed};

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    Well,
    /// By an error or a panic of the work itself.
    Failed(String),
    /// A store was away, or the worker died: that says nothing against the work.
    Interrupted(String),
}

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
        error: String,
    },
}

const PAUSE_FIRST: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(3_600);
/// An error is kept for an operator to read, not to fill a disk.
const ERROR_CHARS_MAX: usize = 2_000;

/// Decides by how this attempt ended, and how those before did: 2, 8, 32, .. seconds until the next, an hour at most.
pub(crate) fn outcome(job: &Claimed, options: &Options, ended: Ended) -> Outcome {
    let (failures, error) = match ended {
        Ended::Well => return Outcome::Done,
        Ended::Failed(error) => (job.failures + 1, error),
        Ended::Interrupted(error) => (job.failures, error),
    };
    let error: String = error.chars().filter(|c| *c != '\0').take(ERROR_CHARS_MAX).collect();
    if failures >= options.failures_max || job.attempts - failures >= options.interruptions_max {
        return Outcome::Parked { error };
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
        Outcome::Parked { error } => store::park_all_tenants(tx, job, error).await,
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options {
        jobs_max: 1,
        poll_every: Duration::ZERO,
        lease: Duration::ZERO,
        failures_max: 8,
        interruptions_max: 32,
    };

    fn claimed(attempts: i32, failures: i32) -> Claimed {
        let (kind, key, payload) = ("work".to_owned(), "1".to_owned(), serde_json::Value::Null);
        Claimed { job_id: uuid::Uuid::nil(), kind, key, payload, attempts, failures }
    }

    /// The seconds until the next attempt, and the failures so far; `None` where there is no next.
    fn again(job: &Claimed, ended: Ended) -> Option<(u64, i32)> {
        match outcome(job, &OPTIONS, ended) {
            Outcome::Again { after, failures, .. } => Some((after.as_secs(), failures)),
            Outcome::Done | Outcome::Parked { .. } => None,
        }
    }

    #[test]
    fn pauses_grow_to_an_hour_and_then_the_job_is_parked() {
        let failed = || Ended::Failed("no\0".to_owned());
        let pauses: Vec<u64> = (1..)
            .map_while(|attempt| again(&claimed(attempt, attempt - 1), failed()))
            .map(|(seconds, _)| seconds)
            .collect();
        assert_eq!(pauses, [2, 8, 32, 128, 512, 2_048, 3_600]);
        assert_eq!(outcome(&claimed(8, 7), &OPTIONS, failed()), Outcome::Parked { error: "no".to_owned() });
        assert_eq!(outcome(&claimed(8, 7), &OPTIONS, Ended::Well), Outcome::Done);
    }

    #[test]
    fn an_interruption_is_no_failure_but_there_are_not_any_number_of_them() {
        let interrupted = || Ended::Interrupted("the database was away".to_owned());
        // Seven failures and then an interruption: one may still fail.
        assert_eq!(again(&claimed(8, 7), interrupted()), Some((3_600, 7)));
        assert_eq!(again(&claimed(9, 7), Ended::Failed("no".to_owned())), None);
        // 31 interruptions, and the next one.
        assert_eq!(again(&claimed(31, 0), interrupted()), Some((3_600, 0)));
        assert_eq!(again(&claimed(32, 0), interrupted()), None);
        assert_eq!(again(&claimed(38, 7), interrupted()), Some((3_600, 7)), "31 of 38");
    }
}
