//! Runs of the rollover, for those who watch them.

use db::schema::rollovers;
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::id::{RolloverId, TenantId};
use domain::{Refusal, Timestamp};
use uuid::Uuid;

use super::by_name;
use crate::roll_over::Progress;
use crate::rollover_run::{Rollover, RolloverState};

#[derive(Queryable, Selectable)]
#[diesel(table_name = rollovers, check_for_backend(diesel::pg::Pg))]
struct Row {
    rollover_id: Uuid,
    state: String,
    cycles_closed: i64,
    cycles_opened: i64,
    cycles_skipped: i64,
    subscriptions_ended: i64,
    credits_expired: i64,
    requested_at: Timestamp,
    finished_at: Option<Timestamp>,
}

impl TryFrom<Row> for Rollover {
    type Error = Error;

    fn try_from(row: Row) -> Result<Rollover> {
        Ok(Rollover {
            id: RolloverId::from_uuid(row.rollover_id),
            state: by_name(&RolloverState::ALL, RolloverState::name, &row.state)?,
            progress: Progress {
                cycles_closed: row.cycles_closed,
                cycles_opened: row.cycles_opened,
                cycles_skipped: row.cycles_skipped,
                subscriptions_ended: row.subscriptions_ended,
                credits_expired: row.credits_expired,
            },
            requested_at: row.requested_at,
            finished_at: row.finished_at,
        })
    }
}

pub async fn insert(
    tx: &mut Connection,
    tenant: TenantId,
    rollover: RolloverId,
    now: Timestamp,
) -> Result<()> {
    diesel::insert_into(rollovers::table)
        .values((
            rollovers::tenant_id.eq(tenant.uuid()),
            rollovers::rollover_id.eq(rollover.uuid()),
            rollovers::state.eq(RolloverState::Queued.name()),
            rollovers::requested_at.eq(now),
        ))
        .execute(tx)
        .await?;
    Ok(())
}

pub async fn find(tx: &mut Connection, tenant: TenantId, rollover: RolloverId) -> Result<Rollover> {
    rollovers::table
        .find((tenant.uuid(), rollover.uuid()))
        .select(Row::as_select())
        .first(tx)
        .await
        .optional()?
        .ok_or(Refusal::NotFound { what: "rollover" })?
        .try_into()
}

/// Marks a run as running, unless it is done.
pub async fn begin(tx: &mut Connection, tenant: TenantId, rollover: RolloverId) -> Result<()> {
    diesel::update(rollovers::table.find((tenant.uuid(), rollover.uuid())))
        .filter(rollovers::state.ne(RolloverState::Done.name()))
        .set(rollovers::state.eq(RolloverState::Running.name()))
        .execute(tx)
        .await?;
    Ok(())
}

/// Adds a batch to a run's counts, in the batch's own transaction.
pub async fn add(
    tx: &mut Connection,
    tenant: TenantId,
    rollover: RolloverId,
    progress: &Progress,
) -> Result<()> {
    diesel::update(rollovers::table.find((tenant.uuid(), rollover.uuid())))
        .set((
            rollovers::cycles_closed.eq(rollovers::cycles_closed + progress.cycles_closed),
            rollovers::cycles_opened.eq(rollovers::cycles_opened + progress.cycles_opened),
            rollovers::cycles_skipped.eq(rollovers::cycles_skipped + progress.cycles_skipped),
            rollovers::subscriptions_ended.eq(rollovers::subscriptions_ended + progress.subscriptions_ended),
            rollovers::credits_expired.eq(rollovers::credits_expired + progress.credits_expired),
        ))
        .execute(tx)
        .await?;
    Ok(())
}

/// Marks a run as done; again, it stays as it was.
pub async fn finish(
    tx: &mut Connection,
    tenant: TenantId,
    rollover: RolloverId,
    now: Timestamp,
) -> Result<()> {
    diesel::update(rollovers::table.find((tenant.uuid(), rollover.uuid())))
        .filter(rollovers::state.ne(RolloverState::Done.name()))
        .set((rollovers::state.eq(RolloverState::Done.name()), rollovers::finished_at.eq(now)))
        .execute(tx)
        .await?;
    Ok(())
}
