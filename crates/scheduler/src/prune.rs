//! Deletes jobs that were done days ago.

use std::time::Duration;

use db::{Db, Result};

use crate::store;

/// How long a done job is kept, and with it the promise that its key is not worked twice.
const DONE_KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Jobs deleted in one transaction.
const BATCH: i64 = 1_000;

/// Returns how many were deleted. Parked jobs stay until an operator decides.
pub(crate) async fn prune(db: &Db) -> Result<usize> {
    let mut pruned = 0;
    loop {
        let batch = db
            .all_tenants_transaction(async |tx| store::delete_done_all_tenants(tx, DONE_KEPT, BATCH).await)
            .await?;
        if batch == 0 {
            return Ok(pruned);
        }
        pruned += batch;
    }
}
