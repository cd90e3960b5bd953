//! Who gave or took, and why.

use db::Result;
use domain::TenantScope;
use uuid::Uuid;

use crate::{Adjustment, Adjustments, store};

impl Adjustments {
    /// The adjustments among these causes of transfers, in no order.
    pub async fn of_causes(&self, scope: &TenantScope, causes: &[Uuid]) -> Result<Vec<Adjustment>> {
        if causes.is_empty() {
            return Ok(Vec::new());
        }
        let tenant = scope.tenant;
        self.db.transaction(tenant, async |tx| store::of_causes(tx, tenant, causes).await).await
    }
}
