//! Reads and sets a test tenant's clock.

use db::Result;
use domain::scope::TenantMode;
use domain::{Refusal, TenantScope, Timestamp};

use crate::{Tenants, store};

impl Tenants {
    /// Where the clock stands; `None` where it was never set, and real time runs.
    pub async fn clock(&self, scope: &TenantScope) -> Result<Option<Timestamp>> {
        let tenant = scope.tenant;
        let settings = self.db.transaction(tenant, async |tx| store::settings(tx, tenant).await).await?;
        Ok(settings.clock_at)
    }

    /// Sets the clock to `to`, where it stands until it is set again, and returns the scope at that
    /// instant. The first time any instant is taken at which nothing
    /// is recorded yet; after that it moves forward only. What falls due
    /// on the way is for the caller to bring about. Refused with `not-a-test-tenant` or
    /// `clock-moves-back`.
    pub async fn set_clock(&self, scope: &TenantScope, to: Timestamp) -> Result<TenantScope> {
        self.write_clock(scope, to, |_| true).await?.ok_or_else(|| Refusal::ClockMovesBack.into())
    }

    /// The same from the instant that `scope` stands at; `None` where the clock is past that already, by another request:
    /// what was read there may be over.
    pub async fn move_clock_on(&self, scope: &TenantScope, to: Timestamp) -> Result<Option<TenantScope>> {
        self.write_clock(scope, to, |clock_at| clock_at == scope.now).await
    }

    /// `None` where the clock stands where it `may` not be moved from.
    async fn write_clock(
        &self,
        scope: &TenantScope,
        to: Timestamp,
        may: impl Fn(Timestamp) -> bool + Send + Sync,
    ) -> Result<Option<TenantScope>> {
        let to = domain::time::truncate_to_micros(to);
        let settings = self
            .db
            .transaction(scope.tenant, async |tx| {
                let mut settings = store::lock_settings(tx, scope.tenant).await?;
                if settings.mode != TenantMode::Test {
                    return Err(Refusal::NotATestTenant.into());
                }
                if settings.clock_at.is_some_and(|clock_at| !may(clock_at)) {
                    return Ok(None);
                }
                if settings.clock_at.is_some_and(|clock_at| to < clock_at) {
                    return Err(Refusal::ClockMovesBack.into());
                }
                if settings.clock_at.is_none() {
                    ledger::begin_clock(tx, scope.tenant, to).await?;
                }
                store::set_clock(tx, scope.tenant, to).await?;
                settings.clock_at = Some(to);
                Ok(Some(settings))
            })
            .await?;
        Ok(settings.map(|settings| settings.scope()))
    }
}
