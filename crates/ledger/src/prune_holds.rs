//! Deletes packed holds that nobody can ask for any more.

use db::Result;
use domain::Timestamp;

use crate::{Ledger, store};

impl Ledger {
    /// Deletes the packed rows whose last hold has run out: by the test clock of a tenant that has one
    /// and by `now`, the real time, for the others. Returns how many.
    pub async fn prune_holds(&self, now: Timestamp) -> Result<usize> {
        self.db.all_tenants_transaction(async |tx| store::prune_hold_batches_all_tenants(tx, now).await).await
    }
}
