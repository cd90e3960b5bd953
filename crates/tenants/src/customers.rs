//! Reads customers.

use db::Result;
use domain::id::CustomerId;
use domain::{Refusal, TenantScope};

use crate::{Customer, Tenants, store};

impl Tenants {
    /// Refused with `not-found`.
    pub async fn customer(&self, scope: &TenantScope, id: CustomerId) -> Result<Customer> {
        self.db
            .transaction(scope.tenant, async |tx| store::customer(tx, scope.tenant, id).await)
            .await?
            .ok_or_else(|| Refusal::NotFound { what: "customer" }.into())
    }

    /// Up to `limit` customers in order of their ids, which is the order they were created in: the
    /// first ones, or those after `after`.
    pub async fn customers(
        &self,
        scope: &TenantScope,
        after: Option<CustomerId>,
        limit: u32,
    ) -> Result<Vec<Customer>> {
        self.db
            .transaction(scope.tenant, async |tx| store::customers(tx, scope.tenant, after, limit).await)
            .await
    }
}
