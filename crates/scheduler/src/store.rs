//! All SQL of the job queue. The queue belongs to no tenant. Due times, leases and ages are told by
//! the database's clock, so that the workers' machines need not agree on theirs.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use db::schema::jobs::dsl;
use db::{Connection, Error, Result};
use diesel::sql_types::{Array, BigInt, Integer, Interval, Jsonb, Text, Uuid as SqlUuid};
use diesel::{ExpressionMethods, QueryableByName};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use crate::NewJob;

/// A job that is ours until its lease ends.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub(crate) struct Claimed {
    #[diesel(sql_type = SqlUuid)]
    pub(crate) job_id: Uuid,
    #[diesel(sql_type = Text)]
    pub(crate) kind: String,
    #[diesel(sql_type = Text)]
    pub(crate) key: String,
    #[diesel(sql_type = Jsonb)]
    pub(crate) payload: Value,
    /// This one included. Also what tells our claim from a later one.
    #[diesel(sql_type = Integer)]
    pub(crate) attempts: i32,
    /// How many of those before failed; the others were cut off.
    #[diesel(sql_type = Integer)]
    pub(crate) failures: i32,
}

pub(crate) async fn insert(tx: &mut Connection, id: Uuid, job: NewJob, now: DateTime<Utc>) -> Result<bool> {
    let inserted = diesel::insert_into(dsl::jobs)
        .values((
            dsl::job_id.eq(id),
            dsl::kind.eq(job.kind),
            dsl::key.eq(job.key),
            dsl::payload.eq(job.payload),
            dsl::run_at.eq(job.run_at),
            dsl::created_at.eq(now),
        ))
        .on_conflict((dsl::kind, dsl::key))
        .do_nothing()
        .execute(tx)
        .await?;
    Ok(inserted == 1)
}

pub(crate) async fn claim_due_all_tenants(
    tx: &mut Connection,
    kinds: &[&str],
    jobs_max: usize,
    lease: Duration,
) -> Result<Vec<Claimed>> {
    let jobs_max = i64::try_from(jobs_max).map_err(|_| Error::broken("too many jobs at once"))?;
    let claimed = db::sql_query(
        "with due as ( \
             select job_id from jobs \
             where state = 'queued' and run_at <= now() \
                 and (leased_until is null or leased_until <= now()) and kind = any ($1) \
             order by run_at limit $2 for update skip locked) \
         update jobs set attempts = attempts + 1, leased_until = now() + $3 \
         from due where jobs.job_id = due.job_id \
         returning jobs.job_id, kind, key, payload, attempts, failures",
    )
    .bind::<Array<Text>, _>(kinds)
    .bind::<BigInt, _>(jobs_max)
    .bind::<Interval, _>(interval(lease)?)
    .load(tx)
    .await?;
    Ok(claimed)
}

pub(crate) async fn set_lease_all_tenants(
    tx: &mut Connection,
    job: &Claimed,
    lease: Duration,
) -> Result<bool> {
    let changed = db::sql_query(
        "update jobs set leased_until = now() + $3 \
         where job_id = $1 and attempts = $2 and state = 'queued'",
    )
    .bind::<SqlUuid, _>(job.job_id)
    .bind::<Integer, _>(job.attempts)
    .bind::<Interval, _>(interval(lease)?)
    .execute(tx)
    .await?;
    Ok(changed == 1)
}

pub(crate) async fn set_done_all_tenants(tx: &mut Connection, job: &Claimed) -> Result<bool> {
    let changed = db::sql_query(
        "update jobs set state = 'done', leased_until = null, last_error = null, finished_at = now() \
         where job_id = $1 and attempts = $2 and state = 'queued'",
    )
    .bind::<SqlUuid, _>(job.job_id)
    .bind::<Integer, _>(job.attempts)
    .execute(tx)
    .await?;
    Ok(changed == 1)
}

pub(crate) async fn requeue_all_tenants(
    tx: &mut Connection,
    job: &Claimed,
    after: Duration,
    failures: i32,
    error: &str,
) -> Result<bool> {
    let changed = db::sql_query(
        "update jobs set leased_until = null, last_error = $3, run_at = now() + $4, failures = $5 \
         where job_id = $1 and attempts = $2 and state = 'queued'",
    )
    .bind::<SqlUuid, _>(job.job_id)
    .bind::<Integer, _>(job.attempts)
    .bind::<Text, _>(error)
    .bind::<Interval, _>(interval(after)?)
    .bind::<Integer, _>(failures)
    .execute(tx)
    .await?;
    Ok(changed == 1)
}

pub(crate) async fn park_all_tenants(
    tx: &mut Connection,
    job: &Claimed,
    failures: i32,
    error: &str,
) -> Result<bool> {
    let changed = db::sql_query(
        "update jobs set state = 'parked', leased_until = null, last_error = $3, failures = $4, finished_at = now() \
         where job_id = $1 and attempts = $2 and state = 'queued'",
    )
    .bind::<SqlUuid, _>(job.job_id)
    .bind::<Integer, _>(job.attempts)
    .bind::<Text, _>(error)
    .bind::<Integer, _>(failures)
    .execute(tx)
    .await?;
    Ok(changed == 1)
}

pub(crate) async fn delete_done_all_tenants(
    tx: &mut Connection,
    kept: Duration,
    limit: i64,
) -> Result<usize> {
    let deleted = db::sql_query(
        "delete from jobs where job_id in ( \
             select job_id from jobs where state = 'done' and finished_at < now() - $1 \
             limit $2 for update skip locked)",
    )
    .bind::<Interval, _>(interval(kept)?)
    .bind::<BigInt, _>(limit)
    .execute(tx)
    .await?;
    Ok(deleted)
}

fn interval(duration: Duration) -> Result<TimeDelta> {
    TimeDelta::from_std(duration).map_err(|error| Error::Fault(Box::new(error)))
}
