//! Takes due jobs, for a while.

use std::time::Duration;

use db::{Db, Result};

use crate::store::{self, Claimed};

/// Up to `jobs_max` due jobs of these kinds, each leased to the caller and its attempt counted.
pub(crate) async fn claim(db: &Db, kinds: &[&str], jobs_max: usize, lease: Duration) -> Result<Vec<Claimed>> {
    db.all_tenants_transaction(async |tx| store::claim_due_all_tenants(tx, kinds, jobs_max, lease).await)
        .await
}

/// Puts the end of a running job's lease off. False where the job is no longer the caller's.
pub(crate) async fn renew(db: &Db, job: &Claimed, lease: Duration) -> Result<bool> {
    db.all_tenants_transaction(async |tx| store::set_lease_all_tenants(tx, job, lease).await).await
}
