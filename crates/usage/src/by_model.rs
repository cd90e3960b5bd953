//! What a customer's usage came to, by model: a part of a cycle's statement.

use db::Result;
use domain::TenantScope;
use domain::id::CustomerId;
use domain::statement::ModelUse;

use crate::{Usage, store};

impl Usage {
    /// What the usage cost that was charged after one version of the account up to another, in the order of
    /// the models' codes. Models whose usage cost nothing are left out.
    pub async fn by_model(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        after_version: i64,
        to_version: i64,
    ) -> Result<Vec<ModelUse>> {
        let tenant = scope.tenant;
        self.parts
            .db
            .transaction(tenant, async |tx| {
                store::by_model(tx, tenant, customer, after_version, to_version).await
            })
            .await
    }
}
