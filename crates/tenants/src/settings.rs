//! A tenant's row, and the scope that a request or a job gets from it.

use std::sync::Arc;

use chrono::Utc;
use db::Result;
use domain::calendar::Zone;
use domain::id::TenantId;
use domain::policy::Policies;
use domain::scope::TenantMode;
use domain::{TenantScope, Timestamp};

use crate::{Tenants, store};

/// Real time, with microseconds: the one place where requests read it.
pub(crate) fn real_now() -> Timestamp {
    domain::time::truncate_to_micros(Utc::now())
}

/// What a scope is made of, but for the instant.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) tenant: TenantId,
    pub(crate) mode: TenantMode,
    pub(crate) zone: Zone,
    pub(crate) policies: Arc<Policies>,
    /// Where the test clock stands; a test tenant without one lives in real time.
    pub(crate) clock_at: Option<Timestamp>,
}

impl Settings {
    /// The scope of a request that comes in now.
    pub(crate) fn scope(&self) -> TenantScope {
        TenantScope {
            tenant: self.tenant,
            mode: self.mode,
            zone: self.zone,
            now: self.clock_at.unwrap_or_else(real_now),
            policies: self.policies.clone(),
        }
    }
}

impl Tenants {
    /// The scope of a job or a command, with the tenant's settings as they are stored now. Refused
    /// with `not-found`.
    pub async fn scope(&self, tenant: TenantId) -> Result<TenantScope> {
        let settings = self.db.transaction(tenant, async |tx| store::settings(tx, tenant).await).await?;
        Ok(settings.scope())
    }

    /// What the tenant is called.
    pub async fn name(&self, scope: &TenantScope) -> Result<String> {
        self.db.transaction(scope.tenant, async |tx| store::name(tx, scope.tenant).await).await
    }
}
