//! When a paid cycle began: its pool is a grant that is effective from then on.

use db::{Connection, Result};
use domain::Timestamp;
use domain::id::{CustomerId, TenantId};

use crate::store;

/// When the paid cycle began that a customer was in at an instant; none where it was in none. In the order of what
/// is asked. One round trip, or none where nothing is asked.
pub async fn paid_cycle_starts(
    tx: &mut Connection,
    tenant: TenantId,
    asked: &[(CustomerId, Timestamp)],
) -> Result<Vec<Option<Timestamp>>> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    store::paid_cycle_starts(tx, tenant, asked).await
}
