//! Finds out who asks.

use std::sync::Arc;
use std::time::Instant;

use db::{Error, Result};
use domain::Refusal;
use domain::scope::TenantMode;

use crate::api_key::{self, ApiKey};
use crate::key_cache::StoredKey;
use crate::settings::real_now;
use crate::{Access, Principal, Tenants, store};

impl Tenants {
    /// Who a bearer credential belongs to: an API key (`tg_...`) or a customer token. Whatever is
    /// wrong with it, the refusal is the same `unauthenticated`.
    pub async fn authenticate(&self, bearer: &str) -> Result<Principal> {
        if bearer.starts_with(api_key::START) {
            self.authenticate_key(bearer).await
        } else {
            // Boxed: the requests with a key need not carry it about.
            Box::pin(self.authenticate_token(bearer)).await
        }
    }

    async fn authenticate_key(&self, text: &str) -> Result<Principal> {
        let presented = ApiKey::parse(text).ok_or_else(refused)?;
        let stored = match self.keys.get(presented.prefix) {
            Some(stored) => stored,
            // Boxed: every request carries it about, and hardly one runs it.
            None if presented.has_right_checksum() => Box::pin(self.look_up(presented.prefix)).await?,
            None => return Err(refused()),
        };
        if !presented.is_of(&stored.secret_sha256) || presented.mode != stored.settings.mode {
            return Err(refused());
        }
        let access = Access::Key(stored.scopes.clone());
        Ok(Principal { scope: stored.settings.scope(), access, key: Some(stored.id) })
    }

    async fn look_up(&self, prefix: &str) -> Result<Arc<StoredKey>> {
        let found_at = Instant::now();
        let stored =
            self.db.all_tenants_transaction(async |tx| store::live_key_all_tenants(tx, prefix).await).await?;
        let Some(stored) = stored.map(Arc::new) else {
            self.keys.drop_prefix(prefix);
            return Err(refused());
        };
        match stored.settings.mode {
            TenantMode::Live => self.keys.put(prefix, stored.clone(), found_at),
            // Its clock may be set any moment, and the next request is to see that.
            TenantMode::Test => {}
        }
        Ok(stored)
    }

    async fn authenticate_token(&self, token: &str) -> Result<Principal> {
        let (tenant, customer) = self.token_key.verify(token, real_now()).ok_or_else(refused)?;
        let settings = self
            .db
            .transaction(tenant, async |tx| store::settings_with_customer(tx, tenant, customer).await)
            .await?
            .ok_or_else(refused)?;
        Ok(Principal { scope: settings.scope(), access: Access::Customer(customer), key: None })
    }
}

fn refused() -> Error {
    Refusal::Unauthenticated.into()
}
