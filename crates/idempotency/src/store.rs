//! All SQL of idempotency keys.

use chrono::TimeDelta;
use db::schema::idempotency_keys::dsl;
use db::{Connection, Error, Result};
use diesel::sql_types::{BigInt, Bytea, Interval, Jsonb, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryableByName};
use diesel_async::RunQueryDsl;
use domain::Timestamp;
use domain::id::TenantId;
use serde_json::Value;
use uuid::Uuid;

use crate::{Answer, RequestKey};

#[derive(QueryableByName)]
pub(crate) struct Held {
    #[diesel(sql_type = Bytea)]
    pub(crate) fingerprint: Vec<u8>,
    #[diesel(sql_type = SqlUuid)]
    pub(crate) fact_id: Uuid,
}

#[derive(diesel::Queryable)]
pub(crate) struct Stored {
    pub(crate) fingerprint: Vec<u8>,
    answer_status: Option<i16>,
    answer_body: Option<Value>,
}

impl Stored {
    /// The answer, if the request has one yet.
    pub(crate) fn answer(self) -> Result<Option<Answer>> {
        match (self.answer_status, self.answer_body) {
            (None, None) => Ok(None),
            (Some(status), Some(body)) => stored_answer(status, body).map(Some),
            _ => Err(Error::broken("a stored answer is half there")),
        }
    }
}

fn stored_answer(status: i16, body: Value) -> Result<Answer> {
    let status = u16::try_from(status).map_err(|_| Error::broken("a stored answer's status is negative"))?;
    Ok(Answer { status, body })
}

/// Inserts the key, or locks the row that is there; a row from before `free_before` is taken over.
/// One statement, so that no prune can come between.
pub(crate) async fn take_or_lock(
    tx: &mut Connection,
    tenant: TenantId,
    request: &RequestKey,
    fact: Uuid,
    now: Timestamp,
    free_before: Timestamp,
) -> Result<Held> {
    let held = db::sql_query(
        "insert into idempotency_keys as held (tenant_id, key, fingerprint, fact_id, created_at) \
         values ($1, $2, $3, $4, $5) \
         on conflict (tenant_id, key) do update set \
             fingerprint = case when held.created_at < $6 then excluded.fingerprint else held.fingerprint end, \
             fact_id = case when held.created_at < $6 then excluded.fact_id else held.fact_id end, \
             answer_status = case when held.created_at < $6 then null else held.answer_status end, \
             answer_body = case when held.created_at < $6 then null else held.answer_body end, \
             created_at = case when held.created_at < $6 then excluded.created_at else held.created_at end \
         returning fingerprint, fact_id",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Text, _>(request.key())
    .bind::<Bytea, _>(request.fingerprint())
    .bind::<SqlUuid, _>(fact)
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(free_before)
    .get_result(tx)
    .await?;
    Ok(held)
}

pub(crate) async fn find(
    tx: &mut Connection,
    tenant: TenantId,
    key: &str,
    free_before: Timestamp,
) -> Result<Option<Stored>> {
    let stored = dsl::idempotency_keys
        .filter(dsl::tenant_id.eq(tenant.uuid()))
        .filter(dsl::key.eq(key))
        .filter(dsl::created_at.ge(free_before))
        .select((dsl::fingerprint, dsl::answer_status, dsl::answer_body))
        .first(tx)
        .await
        .optional()?;
    Ok(stored)
}

/// Sets the answer of a claimed key that has none, and returns the one it has then.
pub(crate) async fn set_answer(
    tx: &mut Connection,
    tenant: TenantId,
    request: &RequestKey,
    answer: &Answer,
) -> Result<Option<Answer>> {
    #[derive(QueryableByName)]
    struct Kept {
        #[diesel(sql_type = SmallInt)]
        answer_status: i16,
        #[diesel(sql_type = Jsonb)]
        answer_body: Value,
    }
    let status =
        i16::try_from(answer.status).map_err(|_| Error::broken("an answer's status is no HTTP status"))?;
    let kept: Option<Kept> = db::sql_query(
        "update idempotency_keys set \
             answer_status = coalesce(answer_status, $4), answer_body = coalesce(answer_body, $5) \
         where tenant_id = $1 and key = $2 and fingerprint = $3 \
         returning answer_status, answer_body",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Text, _>(request.key())
    .bind::<Bytea, _>(request.fingerprint())
    .bind::<SmallInt, _>(status)
    .bind::<Jsonb, _>(&answer.body)
    .get_result(tx)
    .await
    .optional()?;
    let Some(Kept { answer_status, answer_body }) = kept else { return Ok(None) };
    stored_answer(answer_status, answer_body).map(Some)
}

/// Deletes up to `limit` keys that are older than `kept` and returns how many.
pub(crate) async fn delete_older_all_tenants(
    tx: &mut Connection,
    now: Timestamp,
    kept: TimeDelta,
    limit: i64,
) -> Result<usize> {
    let deleted = db::sql_query(
        "delete from idempotency_keys where (tenant_id, key) in ( \
             select tenant_id, key from idempotency_keys join tenants using (tenant_id) \
             where idempotency_keys.created_at < coalesce(clock_at, $1) - $2 \
             limit $3 for update of idempotency_keys skip locked)",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<Interval, _>(kept)
    .bind::<BigInt, _>(limit)
    .execute(tx)
    .await?;
    Ok(deleted)
}
