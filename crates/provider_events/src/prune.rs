//! Deletes events that were settled long ago.

use chrono::TimeDelta;
use db::Result;

use crate::{ProviderEvents, store};

/// How long an event is kept once it is settled. Stripe sends one again for three days and lists it for thirty; one that
/// came again after this would be applied again, its job forgotten as well, and change nothing.
const KEPT: TimeDelta = TimeDelta::days(90);
/// Events deleted in one transaction.
const BATCH: i64 = 1_000;

impl ProviderEvents {
    /// Deletes what all tenants have had settled for longer than that; says how many those were. What is parked stays.
    pub(crate) async fn prune(&self) -> Result<usize> {
        let mut pruned = 0;
        loop {
            let batch = self
                .db
                .all_tenants_transaction(async |tx| store::delete_settled_all_tenants(tx, KEPT, BATCH).await)
                .await?;
            if batch == 0 {
                return Ok(pruned);
            }
            pruned += batch;
        }
    }
}
