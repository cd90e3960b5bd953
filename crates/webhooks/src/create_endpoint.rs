//! Creates an endpoint.

use db::Result;
use domain::id::EndpointId;
use domain::{TenantScope, Timestamp};
use uuid::Uuid;

use crate::secret::Secret;
use crate::{Webhooks, store, url_rules};

/// An endpoint just created. Its secret is not kept in the clear: this is the one time it is seen.
pub struct CreatedEndpoint {
    pub id: EndpointId,
    /// In the spelling that is sent to.
    pub url: String,
    /// `whsec_` and base64, as the libraries of Standard Webhooks take it.
    pub secret: String,
    /// In real time.
    pub created_at: Timestamp,
}

impl Webhooks {
    /// Creates an endpoint, which gets every event of the tenant from now on. Refused with
    /// `url-not-allowed`.
    pub async fn create_endpoint(&self, scope: &TenantScope, url: &str) -> Result<CreatedEndpoint> {
        let url = String::from(url_rules::check(url, scope.mode, &self.allowed)?);
        let (tenant, id) = (scope.tenant, EndpointId::from_uuid(Uuid::now_v7()));
        let secret = Secret::random()?;
        let sealed = self.key.seal(&secret, tenant, id)?;
        let created_at = self
            .db
            .transaction(tenant, async |tx| store::insert_endpoint(tx, tenant, id, &url, &sealed).await)
            .await?;
        Ok(CreatedEndpoint { id, url, secret: secret.text(), created_at })
    }
}
