//! Publishes a new version.

use std::sync::Arc;

use db::Result;
use domain::catalog::{Catalog, CatalogDocument};
use domain::id::TenantId;
use domain::{Refusal, Timestamp};

use crate::{Catalogs, store};

impl Catalogs {
    /// Stores the document as the tenant's next version, in force from `effective_at` on. The very
    /// document of the latest version changes nothing and answers that version. Refused with
    /// `invalid-catalog`, or with `catalog-not-later` where `effective_at` is not after the latest
    /// version's.
    pub async fn publish(
        &self,
        tenant: TenantId,
        document: CatalogDocument,
        effective_at: Timestamp,
        now: Timestamp,
    ) -> Result<Arc<Catalog>> {
        let effective_at = domain::time::truncate_to_micros(effective_at);
        let catalog = self
            .db
            .transaction(tenant, async |tx| {
                store::lock_tenant(tx, tenant).await?;
                let latest = store::latest(tx, tenant).await?;
                if let Some(latest) = &latest {
                    if latest.document() == &document {
                        return Ok(latest.clone());
                    }
                    if effective_at <= latest.effective_at() {
                        return Err(Refusal::CatalogNotLater.into());
                    }
                }
                let version = latest.map_or(0, |latest| latest.version()) + 1;
                let catalog = Catalog::new(version, effective_at, document.clone())?;
                store::insert(tx, tenant, &catalog, now).await?;
                Ok(catalog)
            })
            .await?;
        self.memory.forget(tenant);
        Ok(Arc::new(catalog))
    }
}
