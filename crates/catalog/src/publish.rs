//! Publishes a new version.

use std::sync::Arc;

use db::{Connection, Result};
use domain::catalog::{Catalog, CatalogDocument};
use domain::id::TenantId;
use domain::{Refusal, TenantScope, Timestamp};
use idempotency::{Claim, RequestKey};
use uuid::Uuid;

use crate::{Catalogs, store};

/// What a request to publish came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub catalog: Arc<Catalog>,
    /// Whether this request made the version; else it is the latest one, whose document is the very same.
    pub is_new: bool,
}

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
                match latest {
                    Some(latest) if latest.document() == &document => Ok(latest),
                    latest => publish_next(tx, tenant, latest.as_ref(), &document, effective_at, now).await,
                }
            })
            .await?;
        self.memory.forget(tenant);
        Ok(Arc::new(catalog))
    }

    /// The same for a request, which has one effect however often it is sent; in force from now on where it
    /// does not say. Refused as [`Catalogs::publish`] is, and with `catalog-in-the-past` where `effective_at`
    /// is past and the document does more than add lines for what had none: whoever publishes by a file is an
    /// operator, and knows what usage was charged since then.
    pub async fn publish_once(
        &self,
        scope: &TenantScope,
        document: CatalogDocument,
        effective_at: Option<Timestamp>,
        request: &RequestKey,
    ) -> Result<Published> {
        let (tenant, now) = (scope.tenant, domain::time::truncate_to_micros(scope.now));
        let effective_at = domain::time::truncate_to_micros(effective_at.unwrap_or(now));
        // What makes no sense is told first, whenever it was to come into force.
        let checked = Catalog::new(1, effective_at, document.clone())?;
        let (catalog, is_new) = self
            .db
            .transaction(tenant, async |tx| {
                // Before the key: it stands for the version's number, which is known under this lock. Nothing else
                // that claims a key waits for it.
                store::lock_tenant(tx, tenant).await?;
                let latest = store::latest(tx, tenant).await?;
                let is_new = latest.as_ref().is_none_or(|latest| latest.document() != &document);
                let next = latest.as_ref().map_or(0, Catalog::version) + u32::from(is_new);
                match idempotency::claim(tx, tenant, request, fact_of(next), scope.now).await? {
                    Claim::Unfinished { fact } => {
                        Ok((store::version(tx, tenant, version_of(fact)).await?, true))
                    }
                    Claim::New => match latest {
                        Some(latest) if !is_new => Ok((latest, false)),
                        latest => {
                            check_past(latest.as_ref(), &checked, now)?;
                            let next =
                                publish_next(tx, tenant, latest.as_ref(), &document, effective_at, now);
                            Ok((next.await?, true))
                        }
                    },
                }
            })
            .await?;
        self.memory.forget(tenant);
        Ok(Published { catalog: Arc::new(catalog), is_new })
    }
}

/// Under the tenant's lock.
async fn publish_next(
    tx: &mut Connection,
    tenant: TenantId,
    latest: Option<&Catalog>,
    document: &CatalogDocument,
    effective_at: Timestamp,
    now: Timestamp,
) -> Result<Catalog> {
    if latest.is_some_and(|latest| effective_at <= latest.effective_at()) {
        return Err(Refusal::CatalogNotLater.into());
    }
    let version = latest.map_or(0, Catalog::version) + 1;
    let catalog = Catalog::new(version, effective_at, document.clone())?;
    store::insert(tx, tenant, &catalog, now).await?;
    Ok(catalog)
}

/// What was sold and charged is not changed after the fact.
fn check_past(latest: Option<&Catalog>, next: &Catalog, now: Timestamp) -> std::result::Result<(), Refusal> {
    if next.effective_at() >= now {
        return Ok(());
    }
    match latest {
        Some(latest) if next.effective_at() <= latest.effective_at() => Err(Refusal::CatalogNotLater),
        Some(latest) if next.only_adds_lines_to(latest.document()) => Ok(()),
        Some(_) | None => Err(Refusal::CatalogInThePast),
    }
}

/// A version's number as a key's fact: it is unique among the tenant's.
fn fact_of(version: u32) -> Uuid {
    Uuid::from_u128(version.into())
}

fn version_of(fact: Uuid) -> Option<u32> {
    u32::try_from(fact.as_u128()).ok()
}
