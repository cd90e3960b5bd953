//! All SQL of webhooks. Instants are the database's own: real time.

use std::time::Duration;

use chrono::TimeDelta;
use db::schema::webhook_endpoints::dsl;
use db::{Connection, Error, Result};
use diesel::dsl::now;
use diesel::sql_types::{
    Array, BigInt, Bytea, Integer, Interval, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, Queryable, QueryableByName};
use diesel_async::RunQueryDsl;
use domain::Timestamp;
use domain::id::{EndpointId, EventId, TenantId};
use serde_json::Value;
use uuid::Uuid;

use crate::Endpoint;

pub(crate) async fn insert_endpoint(
    tx: &mut Connection,
    tenant: TenantId,
    id: EndpointId,
    url: &str,
    sealed_secret: &[u8],
) -> Result<Timestamp> {
    let created_at = diesel::insert_into(dsl::webhook_endpoints)
        .values((
            dsl::tenant_id.eq(tenant.uuid()),
            dsl::endpoint_id.eq(id.uuid()),
            dsl::url.eq(url),
            dsl::sealed_secret.eq(sealed_secret),
            dsl::created_at.eq(now),
        ))
        .returning(dsl::created_at)
        .get_result(tx)
        .await?;
    Ok(created_at)
}

#[derive(Queryable)]
struct EndpointRow {
    endpoint_id: Uuid,
    url: String,
    created_at: Timestamp,
    disabled_at: Option<Timestamp>,
}

impl From<EndpointRow> for Endpoint {
    fn from(row: EndpointRow) -> Endpoint {
        Endpoint {
            id: EndpointId::from_uuid(row.endpoint_id),
            url: row.url,
            created_at: row.created_at,
            disabled_at: row.disabled_at,
        }
    }
}

const ENDPOINT: (dsl::endpoint_id, dsl::url, dsl::created_at, dsl::disabled_at) =
    (dsl::endpoint_id, dsl::url, dsl::created_at, dsl::disabled_at);

pub(crate) async fn endpoints(tx: &mut Connection, tenant: TenantId) -> Result<Vec<Endpoint>> {
    let rows: Vec<EndpointRow> = dsl::webhook_endpoints
        .filter(dsl::tenant_id.eq(tenant.uuid()))
        .order(dsl::endpoint_id)
        .select(ENDPOINT)
        .load(tx)
        .await?;
    Ok(rows.into_iter().map(Endpoint::from).collect())
}

/// Locks the endpoint's row, so that no delivery to it is being planned; follow with
/// [`give_up_waiting`]. None where there is no such endpoint.
pub(crate) async fn disable(
    tx: &mut Connection,
    tenant: TenantId,
    id: EndpointId,
) -> Result<Option<Endpoint>> {
    let row: Option<EndpointRow> = diesel::update(dsl::webhook_endpoints)
        .filter(dsl::tenant_id.eq(tenant.uuid()))
        .filter(dsl::endpoint_id.eq(id.uuid()))
        .set(dsl::disabled_at.eq(diesel::dsl::sql::<Nullable<Timestamptz>>("coalesce(disabled_at, now())")))
        .returning(ENDPOINT)
        .get_result(tx)
        .await
        .optional()?;
    Ok(row.map(Endpoint::from))
}

/// All that still waits for the endpoint is dead.
pub(crate) async fn give_up_waiting(
    tx: &mut Connection,
    tenant: TenantId,
    id: EndpointId,
    reason: &str,
) -> Result<()> {
    db::sql_query(
        "update webhook_deliveries \
         set state = 'dead', due_at = null, settled_at = now(), last_error = $3 \
         where tenant_id = $1 and endpoint_id = $2 and state = 'waiting'",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(id.uuid())
    .bind::<Text, _>(reason)
    .execute(tx)
    .await?;
    Ok(())
}

pub(crate) async fn tenants_with_events_all_tenants(tx: &mut Connection) -> Result<Vec<TenantId>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        tenant_id: Uuid,
    }
    let rows: Vec<Row> =
        db::sql_query("select distinct tenant_id from outbox where dispatched_at is null").load(tx).await?;
    Ok(rows.into_iter().map(|row| TenantId::from_uuid(row.tenant_id)).collect())
}

/// Plans the deliveries of up to `events_max` waiting events, the oldest first, skipping those that
/// another planner has. Returns how many events it took. The endpoints are locked against being
/// disabled meanwhile.
pub(crate) async fn plan(tx: &mut Connection, tenant: TenantId, events_max: i64) -> Result<i64> {
    let taken = db::sql_query(
        "with events as ( \
             select event_id from outbox where tenant_id = $1 and dispatched_at is null \
             order by event_id limit $2 for update skip locked), \
         endpoints as ( \
             select endpoint_id from webhook_endpoints \
             where tenant_id = $1 and disabled_at is null for share), \
         planned as ( \
             insert into webhook_deliveries (tenant_id, event_id, endpoint_id, state, due_at, created_at) \
             select $1, event_id, endpoint_id, 'waiting', now(), now() from events, endpoints \
             on conflict do nothing) \
         update outbox set dispatched_at = now() from events \
         where outbox.tenant_id = $1 and outbox.event_id = events.event_id",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<BigInt, _>(events_max)
    .execute(tx)
    .await?;
    i64::try_from(taken).map_err(|error| Error::Fault(Box::new(error)))
}

/// The endpoints that have a delivery due and no job at it.
pub(crate) async fn endpoints_due_all_tenants(tx: &mut Connection) -> Result<Vec<(TenantId, EndpointId)>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        tenant_id: Uuid,
        #[diesel(sql_type = SqlUuid)]
        endpoint_id: Uuid,
    }
    let rows: Vec<Row> = db::sql_query(
        "select tenant_id, endpoint_id from webhook_endpoints e \
         where disabled_at is null and (leased_until is null or leased_until <= now()) \
             and exists ( \
                 select 1 from webhook_deliveries d \
                 where d.tenant_id = e.tenant_id and d.endpoint_id = e.endpoint_id \
                     and d.state = 'waiting' and (d.due_at <= now() or d.due_by_clock <= ( \
                         select clock_at from tenants t where t.tenant_id = d.tenant_id)))",
    )
    .load(tx)
    .await?;
    let named = |row: Row| (TenantId::from_uuid(row.tenant_id), EndpointId::from_uuid(row.endpoint_id));
    Ok(rows.into_iter().map(named).collect())
}

/// An endpoint that is ours until the lease ends.
#[derive(QueryableByName)]
pub(crate) struct Leased {
    #[diesel(sql_type = Text)]
    pub(crate) url: String,
    #[diesel(sql_type = Bytea)]
    pub(crate) sealed_secret: Vec<u8>,
    /// Also what tells our lease from a later one.
    #[diesel(sql_type = Timestamptz)]
    leased_until: Timestamp,
}

/// None where the endpoint is disabled, or another job's.
pub(crate) async fn lease(
    tx: &mut Connection,
    tenant: TenantId,
    id: EndpointId,
    lease: Duration,
) -> Result<Option<Leased>> {
    let leased = db::sql_query(
        "update webhook_endpoints set leased_until = now() + $3 \
         where tenant_id = $1 and endpoint_id = $2 and disabled_at is null \
             and (leased_until is null or leased_until <= now()) \
         returning url, sealed_secret, leased_until",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(id.uuid())
    .bind::<Interval, _>(TimeDelta::from_std(lease).map_err(|error| Error::Fault(Box::new(error)))?)
    .get_result(tx)
    .await
    .optional()?;
    Ok(leased)
}

pub(crate) async fn release(
    tx: &mut Connection,
    tenant: TenantId,
    id: EndpointId,
    leased: &Leased,
) -> Result<()> {
    diesel::update(dsl::webhook_endpoints)
        .filter(dsl::tenant_id.eq(tenant.uuid()))
        .filter(dsl::endpoint_id.eq(id.uuid()))
        .filter(dsl::leased_until.eq(leased.leased_until))
        .set(dsl::leased_until.eq(None::<Timestamp>))
        .execute(tx)
        .await?;
    Ok(())
}

/// A message to send, with its event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Delivery {
    pub(crate) event: EventId,
    /// Failed ones.
    pub(crate) attempts: u32,
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) payload: Value,
    pub(crate) occurred_at: Timestamp,
}

#[derive(QueryableByName)]
struct DeliveryRow {
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    subject: String,
    #[diesel(sql_type = Jsonb)]
    payload: Value,
    #[diesel(sql_type = Timestamptz)]
    occurred_at: Timestamp,
}

impl TryFrom<DeliveryRow> for Delivery {
    type Error = Error;

    fn try_from(row: DeliveryRow) -> Result<Delivery> {
        Ok(Delivery {
            event: EventId::from_uuid(row.event_id),
            attempts: u32::try_from(row.attempts).map_err(|_| Error::broken("a delivery's attempts"))?,
            kind: row.kind,
            subject: row.subject,
            payload: row.payload,
            occurred_at: row.occurred_at,
        })
    }
}

/// What is due to the endpoint, by real time or by its tenant's test clock, the longest due first.
pub(crate) async fn due(
    tx: &mut Connection,
    tenant: TenantId,
    id: EndpointId,
    deliveries_max: i64,
) -> Result<Vec<Delivery>> {
    let rows: Vec<DeliveryRow> = db::sql_query(
        "select event_id, attempts, kind, subject, payload, occurred_at \
         from webhook_deliveries join outbox using (tenant_id, event_id) \
         where tenant_id = $1 and endpoint_id = $2 and state = 'waiting' \
             and (due_at <= now() or due_by_clock <= (select clock_at from tenants where tenant_id = $1)) \
         order by due_at, event_id limit $3",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(id.uuid())
    .bind::<BigInt, _>(deliveries_max)
    .load(tx)
    .await?;
    rows.into_iter().map(Delivery::try_from).collect()
}

/// What became of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) event: EventId,
    pub(crate) attempts_before: u32,
    pub(crate) end: AttemptEnd,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AttemptEnd {
    Delivered {
        status: u16,
    },
    /// The endpoint wants no more.
    Gone,
    /// Due again after the pause; dead without one.
    Failed {
        status: Option<u16>,
        error: String,
        pause: Option<Duration>,
    },
}

/// Writes attempts of the endpoint's deliveries, but for those that have been settled, or attempted by
/// another job, in the meantime.
pub(crate) async fn record(
    tx: &mut Connection,
    tenant: TenantId,
    id: EndpointId,
    attempts: &[Attempt],
) -> Result<()> {
    let fault = |error: std::num::TryFromIntError| Error::Fault(Box::new(error));
    let (mut events, mut counts, mut states) = (Vec::new(), Vec::new(), Vec::new());
    let (mut statuses, mut errors, mut pauses) = (Vec::new(), Vec::new(), Vec::new());
    for attempt in attempts {
        let (state, status, error, pause) = match &attempt.end {
            AttemptEnd::Delivered { status } => ("delivered", Some(*status), None, None),
            AttemptEnd::Gone => ("dead", Some(410), Some("the endpoint is gone (410)"), None),
            AttemptEnd::Failed { status, error, pause } => {
                let state = if pause.is_some() { "waiting" } else { "dead" };
                (state, *status, Some(error.as_str()), *pause)
            }
        };
        events.push(attempt.event.uuid());
        counts.push(i32::try_from(attempt.attempts_before).map_err(fault)?);
        states.push(state);
        statuses.push(status.map(i16::try_from).transpose().map_err(fault)?);
        errors.push(error);
        pauses.push(pause.map(|pause| i64::try_from(pause.as_millis())).transpose().map_err(fault)?);
    }
    db::sql_query(
        "update webhook_deliveries d \
         set attempts = d.attempts + 1, state = a.state, last_status = a.status, last_error = a.error, \
             due_at = now() + a.pause_ms * interval '1 millisecond', \
             due_by_clock = (select clock_at from tenants where tenant_id = $1) \
                 + a.pause_ms * interval '1 millisecond', \
             settled_at = case when a.state <> 'waiting' then now() end \
         from unnest($3, $4, $5, $6, $7, $8) as a (event_id, attempts, state, status, error, pause_ms) \
         where d.tenant_id = $1 and d.endpoint_id = $2 and d.event_id = a.event_id \
             and d.state = 'waiting' and d.attempts = a.attempts",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(id.uuid())
    .bind::<Array<SqlUuid>, _>(events)
    .bind::<Array<Integer>, _>(counts)
    .bind::<Array<Text>, _>(states)
    .bind::<Array<Nullable<SmallInt>>, _>(statuses)
    .bind::<Array<Nullable<Text>>, _>(errors)
    .bind::<Array<Nullable<BigInt>>, _>(pauses)
    .execute(tx)
    .await?;
    Ok(())
}
