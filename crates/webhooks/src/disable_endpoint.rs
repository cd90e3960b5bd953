//! Disables an endpoint.

use db::Result;
use domain::id::EndpointId;
use domain::{Refusal, TenantScope};

use crate::{Endpoint, Webhooks, store};

impl Webhooks {
    /// Nothing more is sent to the endpoint, and what still waits for it is dead. An endpoint that is
    /// disabled already stays as it is. Refused with `not-found`.
    pub async fn disable_endpoint(&self, scope: &TenantScope, id: EndpointId) -> Result<Endpoint> {
        let tenant = scope.tenant;
        self.db
            .transaction(tenant, async |tx| {
                let disabled = store::disable(tx, tenant, id).await?;
                let endpoint = disabled.ok_or(Refusal::NotFound { what: "webhook endpoint" })?;
                store::give_up_waiting(tx, tenant, id, "the endpoint was disabled").await?;
                Ok(endpoint)
            })
            .await
    }
}
