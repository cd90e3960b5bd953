//! Lists endpoints.

use db::Result;
use domain::id::EndpointId;
use domain::{TenantScope, Timestamp};

use crate::{Webhooks, store};

/// Where a tenant wants its events sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub id: EndpointId,
    pub url: String,
    /// In real time.
    pub created_at: Timestamp,
    /// Since when nothing is sent there: its owner, or the endpoint itself (410), said so. In real time.
    pub disabled_at: Option<Timestamp>,
}

impl Webhooks {
    /// The tenant's endpoints, disabled ones too, the oldest first.
    pub async fn endpoints(&self, scope: &TenantScope) -> Result<Vec<Endpoint>> {
        let tenant = scope.tenant;
        self.db.transaction(tenant, async |tx| store::endpoints(tx, tenant).await).await
    }
}
