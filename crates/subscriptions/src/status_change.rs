//! The history of a subscription's status: each change with the event that led to it (R-9, I-23).

use db::{Connection, Result};
use domain::TenantScope;
use domain::subscription::{Event, Status};

use crate::store;
use crate::subscription::Subscription;

/// It was made.
pub(crate) async fn created(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &Subscription,
) -> Result<()> {
    let (tenant, id) = (scope.tenant, subscription.id);
    store::statuses::append(tx, tenant, id, None, subscription.status, "created", scope.now).await
}

/// An event was applied to a subscription that had the status `before`; nothing is noted where it has it still. The
/// caller holds the subscription's lock.
pub(crate) async fn moved(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &Subscription,
    before: Status,
    event: Event,
) -> Result<()> {
    let (tenant, id, after) = (scope.tenant, subscription.id, subscription.status);
    if before == after {
        return Ok(());
    }
    store::statuses::append(tx, tenant, id, Some(before), after, event.name(), scope.now).await
}
