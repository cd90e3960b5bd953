//! All SQL about provider events. Instants are the database's own: real time.

use chrono::TimeDelta;
use db::schema::provider_events;
use db::{Connection, Error, Result};
use diesel::dsl::now;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Interval};
use diesel_async::RunQueryDsl;
use domain::Timestamp;
use domain::id::{PaymentId, TenantId};
use uuid::Uuid;

use crate::receive::Incoming;
use crate::{CameBy, ReceivedEvent, Settled, State};

/// Whether it is new.
pub(crate) async fn insert(
    tx: &mut Connection,
    tenant: TenantId,
    incoming: &Incoming,
    body: &[u8],
) -> Result<bool> {
    let is_settled = incoming.state != State::Received;
    let inserted = diesel::insert_into(provider_events::table)
        .values((
            provider_events::tenant_id.eq(tenant.uuid()),
            provider_events::event_id.eq(&incoming.id),
            provider_events::kind.eq(&incoming.kind),
            provider_events::state.eq(incoming.state.name()),
            provider_events::reason.eq(&incoming.reason),
            provider_events::body.eq(body),
            provider_events::came_by.eq(incoming.came_by.name()),
            provider_events::told_at.eq(incoming.told_at),
            provider_events::received_at.eq(now),
            provider_events::settled_at.eq(is_settled.then(chrono::Utc::now)),
        ))
        .on_conflict_do_nothing()
        .execute(tx)
        .await?;
    Ok(inserted == 1)
}

/// The body of an event that waits to be applied; none where it was settled, or there is none.
pub(crate) async fn waiting(tx: &mut Connection, tenant: TenantId, event: &str) -> Result<Option<Vec<u8>>> {
    Ok(provider_events::table
        .find((tenant.uuid(), event))
        .filter(provider_events::state.eq(State::Received.name()))
        .select(provider_events::body)
        .first(tx)
        .await
        .optional()?)
}

/// Settles an event that waits. False where another run has settled it.
pub(crate) async fn settle(
    tx: &mut Connection,
    tenant: TenantId,
    event: &str,
    settled: &Settled,
) -> Result<bool> {
    let payment = settled.payment.as_ref().map(|payment| payment.id.uuid());
    let changed = diesel::update(provider_events::table.find((tenant.uuid(), event)))
        .filter(provider_events::state.eq(State::Received.name()))
        .set((
            provider_events::state.eq(settled.state.name()),
            provider_events::reason.eq(&settled.reason),
            provider_events::payment_id.eq(payment),
            provider_events::settled_at.eq(now),
        ))
        .execute(tx)
        .await?;
    Ok(changed == 1)
}

/// Up to `limit` events of all tenants that were settled for longer than `kept`, and are not parked.
pub(crate) async fn delete_settled_all_tenants(
    tx: &mut Connection,
    kept: TimeDelta,
    limit: i64,
) -> Result<usize> {
    let deleted = db::sql_query(
        "delete from provider_events where (tenant_id, event_id) in ( \
             select tenant_id, event_id from provider_events \
             where state in ('applied', 'ignored', 'rejected') and settled_at < now() - $1 \
             limit $2 for update skip locked)",
    )
    .bind::<Interval, _>(kept)
    .bind::<BigInt, _>(limit)
    .execute(tx)
    .await?;
    Ok(deleted)
}

type Row = (
    String,
    String,
    String,
    Option<String>,
    String,
    Option<Uuid>,
    Option<Timestamp>,
    Timestamp,
    Option<Timestamp>,
);

pub(crate) async fn list(
    tx: &mut Connection,
    tenant: TenantId,
    state: Option<State>,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<ReceivedEvent>> {
    let mut query = provider_events::table
        .filter(provider_events::tenant_id.eq(tenant.uuid()))
        .filter(provider_events::event_id.gt(after.unwrap_or_default()))
        .order(provider_events::event_id)
        .limit(limit.into())
        .select((
            provider_events::event_id,
            provider_events::kind,
            provider_events::state,
            provider_events::reason,
            provider_events::came_by,
            provider_events::payment_id,
            provider_events::told_at,
            provider_events::received_at,
            provider_events::settled_at,
        ))
        .into_boxed();
    if let Some(state) = state {
        query = query.filter(provider_events::state.eq(state.name()));
    }
    let rows: Vec<Row> = query.load(tx).await?;
    rows.into_iter().map(shown).collect()
}

fn shown(row: Row) -> Result<ReceivedEvent> {
    let (id, kind, state, reason, came_by, payment, told_at, received_at, settled_at) = row;
    let broken = |name: &str| Error::broken(format!("{id} has the unknown name {name:?}"));
    let state = State::ALL.into_iter().find(|of| of.name() == state).ok_or_else(|| broken(&state))?;
    let came_by = CameBy::ALL.into_iter().find(|by| by.name() == came_by).ok_or_else(|| broken(&came_by))?;
    let payment = payment.map(PaymentId::from_uuid);
    Ok(ReceivedEvent { id, kind, state, reason, came_by, payment, told_at, received_at, settled_at })
}
