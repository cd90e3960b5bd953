//! Unpaid renewals, and when they are tried again.

use db::schema::dunnings;
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::Timestamp;
use domain::dunning::Stage;
use domain::id::{PurchaseId, SubscriptionId, TenantId};
use uuid::Uuid;

use super::{by_name, to_i32, to_u32};
use crate::dunning::Dunning;

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = dunnings, check_for_backend(diesel::pg::Pg), treat_none_as_null = true)]
struct Row {
    tenant_id: Uuid,
    purchase_id: Uuid,
    subscription_id: Uuid,
    stage: String,
    failed_tries: i32,
    next_try_at: Option<Timestamp>,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
}

impl TryFrom<Row> for Dunning {
    type Error = Error;

    fn try_from(row: Row) -> Result<Dunning> {
        Ok(Dunning {
            renewal: PurchaseId::from_uuid(row.purchase_id),
            subscription: SubscriptionId::from_uuid(row.subscription_id),
            stage: by_name(&Stage::ALL, Stage::name, &row.stage)?,
            failed_tries: to_u32(row.failed_tries)?,
            next_try_at: row.next_try_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
        })
    }
}

/// Writes it as it is now. The caller holds the subscription's lock.
pub async fn put(tx: &mut Connection, tenant: TenantId, dunning: &Dunning) -> Result<()> {
    let row = Row {
        tenant_id: tenant.uuid(),
        purchase_id: dunning.renewal.uuid(),
        subscription_id: dunning.subscription.uuid(),
        stage: dunning.stage.name().to_owned(),
        failed_tries: to_i32(dunning.failed_tries)?,
        next_try_at: dunning.next_try_at,
        started_at: dunning.started_at,
        ended_at: dunning.ended_at,
    };
    diesel::insert_into(dunnings::table)
        .values(&row)
        .on_conflict((dunnings::tenant_id, dunnings::purchase_id))
        .do_update()
        .set(&row)
        .execute(tx)
        .await?;
    Ok(())
}

/// That of a renewal; none where no payment of it has failed.
pub async fn find(tx: &mut Connection, tenant: TenantId, renewal: PurchaseId) -> Result<Option<Dunning>> {
    let row: Option<Row> = dunnings::table
        .find((tenant.uuid(), renewal.uuid()))
        .select(Row::as_select())
        .first(tx)
        .await
        .optional()?;
    row.map(Dunning::try_from).transpose()
}

/// Those of some subscriptions that are not over.
pub async fn open(
    tx: &mut Connection,
    tenant: TenantId,
    subscriptions: &[SubscriptionId],
) -> Result<Vec<Dunning>> {
    let ids: Vec<Uuid> = subscriptions.iter().map(|id| id.uuid()).collect();
    let rows: Vec<Row> = dunnings::table
        .filter(dunnings::tenant_id.eq(tenant.uuid()))
        .filter(dunnings::subscription_id.eq_any(ids))
        .filter(dunnings::ended_at.is_null())
        .select(Row::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(Dunning::try_from).collect()
}

/// The renewals whose next try is due at `now`, with their subscriptions: `limit` of those after `after`.
pub async fn due(
    tx: &mut Connection,
    tenant: TenantId,
    now: Timestamp,
    after: Option<PurchaseId>,
    limit: u32,
) -> Result<Vec<(PurchaseId, SubscriptionId)>> {
    let found: Vec<(Uuid, Uuid)> = dunnings::table
        .filter(dunnings::tenant_id.eq(tenant.uuid()))
        .filter(dunnings::next_try_at.le(now))
        .filter(dunnings::purchase_id.gt(after.map_or(Uuid::nil(), PurchaseId::uuid)))
        .order(dunnings::purchase_id)
        .limit(limit.into())
        .select((dunnings::purchase_id, dunnings::subscription_id))
        .load(tx)
        .await?;
    let ids =
        |(renewal, subscription)| (PurchaseId::from_uuid(renewal), SubscriptionId::from_uuid(subscription));
    Ok(found.into_iter().map(ids).collect())
}
