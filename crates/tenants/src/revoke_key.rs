//! Lists and revokes API keys.

use db::Result;
use domain::id::{ApiKeyId, TenantId};
use domain::{Refusal, Timestamp};

use crate::settings::real_now;
use crate::{Scope, Tenants, store};

/// What is known of a key; not the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyInfo {
    pub id: ApiKeyId,
    /// The key's public part, by which its holder knows it.
    pub prefix: String,
    pub name: String,
    pub scopes: Vec<Scope>,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

impl Tenants {
    /// The tenant's keys, revoked ones included, the oldest first.
    pub async fn keys(&self, tenant: TenantId) -> Result<Vec<ApiKeyInfo>> {
        self.db.transaction(tenant, async |tx| store::keys(tx, tenant).await).await
    }

    /// Revokes a key: at once here, within two seconds in other processes. Revoking it again changes
    /// nothing. Refused with `not-found`.
    pub async fn revoke_key(&self, tenant: TenantId, key: ApiKeyId) -> Result<()> {
        let now = real_now();
        let is_there =
            self.db.transaction(tenant, async |tx| store::revoke_key(tx, tenant, key, now).await).await?;
        if !is_there {
            return Err(Refusal::NotFound { what: "API key" }.into());
        }
        self.keys.forget(key);
        Ok(())
    }
}
