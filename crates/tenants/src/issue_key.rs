//! Issues an API key.

use db::Result;
use domain::Refusal;
use domain::id::{ApiKeyId, TenantId};
use uuid::Uuid;

use crate::api_key::NewApiKey;
use crate::settings::real_now;
use crate::{Scope, Tenants, name, store};

/// A key just issued. Its text is not kept anywhere: this is the one time it is seen.
pub struct IssuedKey {
    pub id: ApiKeyId,
    /// The whole key, as it goes after `Authorization: Bearer`.
    pub secret: String,
}

impl Tenants {
    /// Issues a key of the tenant's own mode, with these scopes. Any number may be good at a time, so
    /// that one can be changed for another. Refused with `invalid-field` or `not-found`.
    pub async fn issue_key(&self, tenant: TenantId, name: &str, scopes: &[Scope]) -> Result<IssuedKey> {
        name::check(name)?;
        if scopes.is_empty() {
            return Err(Refusal::invalid_field("/scopes", "empty").into());
        }
        let id = ApiKeyId::from_uuid(Uuid::now_v7());
        let now = real_now();
        let secret = self
            .db
            .transaction(tenant, async |tx| {
                let mode = store::settings(tx, tenant).await?.mode;
                let key = NewApiKey::random(mode)?;
                store::insert_key(tx, tenant, id, &key, name, scopes, now).await?;
                Ok(key.text)
            })
            .await?;
        Ok(IssuedKey { id, secret })
    }
}
