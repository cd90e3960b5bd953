//! Serves a tenant's versions from memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use db::{Error, Result};
use domain::catalog::CatalogHistory;
use domain::id::TenantId;

use crate::{Catalogs, store};

/// For how long nobody asks whether there are newer versions.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// What is known of every tenant that was asked for.
#[derive(Default)]
pub(crate) struct Memory {
    tenants: Mutex<HashMap<TenantId, Arc<Known>>>,
}

/// What is known of one tenant.
#[derive(Default)]
struct Known {
    served: Mutex<Option<Served>>,
    /// Held by the one request that asks the database.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Served {
    history: Arc<CatalogHistory>,
    asked_at: Instant,
}

impl Memory {
    fn known(&self, tenant: TenantId) -> Arc<Known> {
        locked(&self.tenants).entry(tenant).or_default().clone()
    }

    /// Makes the next reader ask the database. What a reader that is asking already finds goes to
    /// the record that is dropped here, so it cannot hide the version just published.
    pub(crate) fn forget(&self, tenant: TenantId) {
        locked(&self.tenants).remove(&tenant);
    }
}

impl Known {
    fn served(&self) -> Option<Served> {
        locked(&self.served).clone()
    }

    fn serve(&self, history: Arc<CatalogHistory>) -> Arc<CatalogHistory> {
        *locked(&self.served) = Some(Served { history: history.clone(), asked_at: Instant::now() });
        history
    }
}

impl Served {
    fn is_fresh(&self) -> bool {
        self.asked_at.elapsed() < FRESH_FOR
    }
}

/// A panic elsewhere leaves these maps whole: every change to them is one assignment.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Catalogs {
    /// All versions of a tenant's catalogue, at most a second behind what is stored. Empty for a
    /// tenant that has published nothing.
    pub async fn history(&self, tenant: TenantId) -> Result<Arc<CatalogHistory>> {
        let known = self.memory.known(tenant);
        match known.served() {
            Some(served) if served.is_fresh() => Ok(served.history),
            // Boxed: every request carries this future about, and hardly one runs it.
            stale => Box::pin(self.ask(tenant, &known, stale)).await,
        }
    }

    async fn ask(
        &self,
        tenant: TenantId,
        known: &Known,
        stale: Option<Served>,
    ) -> Result<Arc<CatalogHistory>> {
        let _asking = match &stale {
            None => known.asking.lock().await,
            Some(stale) => match known.asking.try_lock() {
                Ok(asking) => asking,
                Err(_) => return Ok(stale.history.clone()),
            },
        };
        // Another request may have asked while this one waited.
        let stale = match known.served() {
            Some(served) if served.is_fresh() => return Ok(served.history),
            served => served,
        };
        match (self.load(tenant, stale.as_ref().map(|stale| &*stale.history)).await, stale) {
            (Ok(history), _) => Ok(known.serve(history)),
            (Err(Error::Unavailable(reason)), Some(stale)) => {
                tracing::warn!(%tenant, reason, "catalogue not refreshed; serving the versions in memory");
                Ok(known.serve(stale.history))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The versions at hand and those published since.
    async fn load(&self, tenant: TenantId, at_hand: Option<&CatalogHistory>) -> Result<Arc<CatalogHistory>> {
        let latest = at_hand.and_then(CatalogHistory::latest).map_or(0, |catalog| catalog.version());
        let newer =
            self.db.transaction(tenant, async |tx| store::versions_after(tx, tenant, latest).await).await?;
        let at_hand = (1..=latest).filter_map(|version| at_hand?.version(version).cloned());
        Ok(Arc::new(CatalogHistory::new(at_hand.chain(newer.into_iter().map(Arc::new)).collect())))
    }
}
