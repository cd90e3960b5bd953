//! Deletes keys that are past their time.

use db::Result;
use domain::Timestamp;

use crate::{Idempotency, KEPT, store};

/// Keys deleted in one transaction.
const BATCH: i64 = 1_000;

impl Idempotency {
    /// Deletes the keys of all tenants that are older than 24 hours, by the test clock of a tenant
    /// that has one and by `now`, the real time, for the others. Returns how many.
    pub async fn prune(&self, now: Timestamp) -> Result<usize> {
        let mut pruned = 0;
        loop {
            let batch = self
                .db
                .all_tenants_transaction(async |tx| {
                    store::delete_older_all_tenants(tx, now, KEPT, BATCH).await
                })
                .await?;
            if batch == 0 {
                return Ok(pruned);
            }
            pruned += batch;
        }
    }
}
