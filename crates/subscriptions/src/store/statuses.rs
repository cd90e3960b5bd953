//! The history of statuses: appended to, and never changed.

use db::{Connection, Result};
use diesel::sql_types::{Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::Timestamp;
use domain::id::{SubscriptionId, TenantId};
use domain::subscription::Status;

/// Appends a change. The caller holds the subscription's lock, or has just made it.
pub async fn append(
    tx: &mut Connection,
    tenant: TenantId,
    subscription: SubscriptionId,
    from: Option<Status>,
    to: Status,
    cause: &'static str,
    at: Timestamp,
) -> Result<()> {
    db::sql_query(
        "insert into subscription_statuses
             (tenant_id, subscription_id, position, from_status, to_status, cause, changed_at)
         select $1, $2, coalesce(max(position) + 1, 0), $3, $4, $5, $6 from subscription_statuses
         where tenant_id = $1 and subscription_id = $2",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(subscription.uuid())
    .bind::<Nullable<Text>, _>(from.map(Status::name))
    .bind::<Text, _>(to.name())
    .bind::<Text, _>(cause)
    .bind::<Timestamptz, _>(at)
    .execute(tx)
    .await?;
    Ok(())
}
