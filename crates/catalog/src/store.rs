//! All SQL of the catalogue.

use db::schema::catalog_versions::dsl;
use db::{Connection, Error, Result};
use diesel::sql_types::Uuid as SqlUuid;
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, Queryable};
use diesel_async::RunQueryDsl;
use domain::catalog::Catalog;
use domain::id::TenantId;
use domain::{Refusal, Timestamp};
use serde_json::Value;

#[derive(Queryable)]
struct Row {
    version: i32,
    effective_at: Timestamp,
    document: Value,
}

impl Row {
    /// Checks the stored document as if it were new.
    fn into_catalog(self) -> Result<Catalog> {
        let version = version_from(self.version)?;
        let broken = |why: String| Error::broken(format!("stored catalogue version {version}: {why}"));
        let document = serde_json::from_value(self.document).map_err(|error| broken(error.to_string()))?;
        Catalog::new(version, self.effective_at, document).map_err(|refusal| match refusal {
            Refusal::InvalidCatalog { problems } => broken(problems.join("; ")),
            other => broken(other.to_string()),
        })
    }
}

fn version_from(stored: i32) -> Result<u32> {
    u32::try_from(stored).map_err(|_| Error::broken("a catalogue version below 0"))
}

fn version_to_store(version: u32) -> Result<i32> {
    i32::try_from(version).map_err(|_| Refusal::AmountOverflow.into())
}

/// Makes other publishers of this tenant wait. Refused with `not-found`.
pub(crate) async fn lock_tenant(tx: &mut Connection, tenant: TenantId) -> Result<()> {
    let locked = db::sql_query("select from tenants where tenant_id = $1 for no key update")
        .bind::<SqlUuid, _>(tenant.uuid())
        .execute(tx)
        .await?;
    if locked == 1 { Ok(()) } else { Err(Refusal::NotFound { what: "tenant" }.into()) }
}

pub(crate) async fn latest(tx: &mut Connection, tenant: TenantId) -> Result<Option<Catalog>> {
    let row: Option<Row> = dsl::catalog_versions
        .filter(dsl::tenant_id.eq(tenant.uuid()))
        .order(dsl::version.desc())
        .select((dsl::version, dsl::effective_at, dsl::document))
        .first(tx)
        .await
        .optional()?;
    row.map(Row::into_catalog).transpose()
}

/// A version that a key stands for: it was stored with the key.
pub(crate) async fn version(tx: &mut Connection, tenant: TenantId, version: Option<u32>) -> Result<Catalog> {
    let absent = || Error::broken("a key stands for a catalogue version that is not there");
    let version = version_to_store(version.ok_or_else(absent)?)?;
    let row: Option<Row> = dsl::catalog_versions
        .find((tenant.uuid(), version))
        .select((dsl::version, dsl::effective_at, dsl::document))
        .first(tx)
        .await
        .optional()?;
    row.ok_or_else(absent)?.into_catalog()
}

pub(crate) async fn versions_after(
    tx: &mut Connection,
    tenant: TenantId,
    version: u32,
) -> Result<Vec<Catalog>> {
    let rows: Vec<Row> = dsl::catalog_versions
        .filter(dsl::tenant_id.eq(tenant.uuid()))
        .filter(dsl::version.gt(version_to_store(version)?))
        .order(dsl::version)
        .select((dsl::version, dsl::effective_at, dsl::document))
        .load(tx)
        .await?;
    rows.into_iter().map(Row::into_catalog).collect()
}

pub(crate) async fn insert(
    tx: &mut Connection,
    tenant: TenantId,
    catalog: &Catalog,
    now: Timestamp,
) -> Result<()> {
    let document = serde_json::to_value(catalog.document()).map_err(|error| Error::Fault(Box::new(error)))?;
    diesel::insert_into(dsl::catalog_versions)
        .values((
            dsl::tenant_id.eq(tenant.uuid()),
            dsl::version.eq(version_to_store(catalog.version())?),
            dsl::effective_at.eq(catalog.effective_at()),
            dsl::document.eq(document),
            dsl::published_at.eq(now),
        ))
        .execute(tx)
        .await?;
    Ok(())
}
