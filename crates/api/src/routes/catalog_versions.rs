//! Versions of the catalogue: published, previewed on past usage, read back.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Json};
use actix_web::{HttpRequest, HttpResponse, get, post};
use catalog::Catalogs;
use chrono::TimeDelta;
use domain::catalog::Catalog;
use domain::{Refusal, Timestamp};
use idempotency::Idempotency;
use serde::{Deserialize, Serialize};
use usage::{Preview, PreviewSums, Usage};
use utoipa::ToSchema;

use super::catalog_document::CatalogDocument;
use super::plans::version;
use crate::auth::{Publishes, Reads};
use crate::body::{Body, NoQuery, object};
use crate::error::{Error, Problem};
use crate::idempotency::{IdempotencyKey, Keyed, answer, once};
use crate::wire::{Instant, present};

/// How far back a preview looks where it is not told.
const PREVIEW_DAYS: i64 = 7;

/// A catalogue to publish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCatalogVersion {
    /// When it comes into force; now where left out.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    effective_at: Option<Instant>,
    #[serde(deserialize_with = "object")]
    catalog: CatalogDocument,
}

/// A catalogue to try on usage of the past.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CatalogToPreview {
    /// Taken, so that the request to publish can be sent as it is; a preview rates all usage by this catalogue.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    #[allow(dead_code, reason = "a preview does not depend on it")]
    effective_at: Option<Instant>,
    #[serde(deserialize_with = "object")]
    catalog: CatalogDocument,
    /// The usage that happened from here on; seven days before `to` where left out.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    from: Option<Instant>,
    /// Until before here; now where left out. At most 31 days after `from`.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    to: Option<Instant>,
}

/// A version, without its document.
#[derive(Debug, Serialize, ToSchema)]
struct CatalogVersion {
    /// 1 for the first, rising by one.
    version: u32,
    effective_at: Instant,
    /// Whether it is the one that is sold and rated by now.
    is_in_force: bool,
    plans: usize,
    models: usize,
}

/// Every version, from the first.
#[derive(Debug, Serialize, ToSchema)]
struct CatalogVersions {
    data: Vec<CatalogVersion>,
}

/// A version with its document, in the form that it is published in.
#[derive(Debug, Serialize, ToSchema)]
struct WholeCatalogVersion {
    version: u32,
    effective_at: Instant,
    is_in_force: bool,
    catalog: CatalogDocument,
}

/// What usage was charged, beside what a catalogue would have charged for it.
#[derive(Debug, Serialize, ToSchema)]
struct CatalogPreview {
    from: Instant,
    to: Instant,
    /// False where there is more usage than one preview reads: then both sides are of the same part of it.
    is_complete: bool,
    total: PreviewedUsage,
    /// From the model that would change most, up or down. Events name their models: beyond a thousand names the
    /// rest is one row without.
    by_model: Vec<PreviewedModel>,
}

/// The usage of a model.
#[derive(Debug, Serialize, ToSchema)]
struct PreviewedModel {
    #[schema(required)]
    model: Option<String>,
    #[serde(flatten)]
    usage: PreviewedUsage,
}

/// The two sides of a preview. What has no rate costs nothing yet on that side, and is counted apart.
#[derive(Debug, Serialize, ToSchema)]
struct PreviewedUsage {
    events: u64,
    /// What was charged.
    credits_charged: i64,
    /// What this catalogue would have charged.
    credits_previewed: i64,
    /// Events that wait for a rate, or for an account to be un-parked.
    unrated: u64,
    /// Events that this catalogue has no rate for, by the reason.
    unrated_previewed: BTreeMap<&'static str, u64>,
}

/// Publish a version
///
/// What is sold and what tokens cost, all of it: a version replaces the one before from its instant on, and never
/// changes. Usage is rated by the version in force at its own time; a subscription keeps the version that it was
/// bought at. From an instant in the past only lines may be added where there were none: usage that waits for a
/// rate is charged by them.
#[utoipa::path(
    tag = "Catalogue",
    security(("bearer" = ["catalog"])),
    params(IdempotencyKey),
    request_body = NewCatalogVersion,
    responses(
        (status = 201, description = "Published", body = CatalogVersion),
        (status = 200, description = "The latest version is this very document: nothing has changed", body = CatalogVersion),
        (status = 409, description = "`catalog-not-later`: a version comes into force then or later; `catalog-in-the-past`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-catalog`, with a sentence for each of its `problems`; `invalid-field`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/catalog/versions")]
pub(super) async fn publish_catalog(
    caller: Publishes,
    _: NoQuery,
    new: Keyed<NewCatalogVersion>,
    catalogs: Data<Catalogs>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    let Keyed { value: NewCatalogVersion { effective_at, catalog }, key } = new;
    once(&idempotency, caller.scope(), key, move |scope, key| async move {
        let effective_at = effective_at.map(|at| at.0);
        let published = catalogs.publish_once(&scope, catalog.into(), effective_at, &key).await?;
        let in_force = in_force(&catalogs, scope.tenant, scope.now).await?;
        let status = if published.is_new { StatusCode::CREATED } else { StatusCode::OK };
        answer(status, &CatalogVersion::of(&published.catalog, in_force))
    })
    .await
}

/// List the versions
///
/// All at once: a tenant has few.
#[utoipa::path(
    tag = "Catalogue",
    security(("bearer" = ["read"])),
    responses((status = 200, description = "The versions, from the first", body = CatalogVersions)),
)]
#[get("/catalog/versions")]
pub(super) async fn list_catalog_versions(
    caller: Reads,
    _: NoQuery,
    catalogs: Data<Catalogs>,
) -> Result<Json<CatalogVersions>, Error> {
    let history = catalogs.history(caller.scope().tenant).await?;
    let in_force = history.at(caller.scope().now).map(|catalog| catalog.version());
    let data = history.versions().map(|catalog| CatalogVersion::of(catalog, in_force)).collect();
    Ok(Json(CatalogVersions { data }))
}

/// Read a version
#[utoipa::path(
    tag = "Catalogue",
    security(("bearer" = ["read"])),
    params(("version" = u32, Path, description = "A catalogue version", example = 1)),
    responses((status = 200, description = "The version, in the form that it was published in", body = WholeCatalogVersion)),
)]
#[get("/catalog/versions/{version}")]
pub(super) async fn read_catalog_version(
    caller: Reads,
    _: NoQuery,
    request: HttpRequest,
    catalogs: Data<Catalogs>,
) -> Result<Json<WholeCatalogVersion>, Error> {
    let history = catalogs.history(caller.scope().tenant).await?;
    let number = request.match_info().get("version").and_then(version);
    let catalog = number.and_then(|number| history.version(number));
    let catalog = catalog.ok_or(Refusal::NotFound { what: "catalogue version" })?;
    let in_force = history.at(caller.scope().now).map(|catalog| catalog.version());
    let CatalogVersion { version, effective_at, is_in_force, .. } = CatalogVersion::of(catalog, in_force);
    Ok(Json(WholeCatalogVersion { version, effective_at, is_in_force, catalog: catalog.document().into() }))
}

/// Preview a version
///
/// What a catalogue would have charged for the usage of the last seven days, or of the time that is asked for, beside
/// what was charged. It is rated as if the catalogue had been in force from the start of that time: where a dearer rate
/// waits for the next cycle, one that was paid before keeps its cheaper rates here too. Changes nothing.
#[utoipa::path(
    tag = "Catalogue",
    security(("bearer" = ["catalog"])),
    request_body = CatalogToPreview,
    responses(
        (status = 200, description = "Both sides", body = CatalogPreview),
        (status = 422, description = "`invalid-catalog`, with a sentence for each of its `problems`; `invalid-field`: `to` is not after `from`, or more than 31 days after it", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/catalog/versions/preview")]
pub(super) async fn preview_catalog(
    caller: Publishes,
    _: NoQuery,
    asked: Body<CatalogToPreview>,
    usage: Data<Usage>,
) -> Result<Json<CatalogPreview>, Error> {
    let CatalogToPreview { catalog, from, to, effective_at: _ } = asked.value;
    let to = to.map_or(caller.scope().now + TimeDelta::microseconds(1), |to| to.0);
    let from = from.map_or_else(|| to.checked_sub_signed(TimeDelta::days(PREVIEW_DAYS)), |from| Some(from.0));
    let from = from.ok_or_else(|| Refusal::invalid_field("/to", "out-of-range"))?;
    Ok(Json(usage.preview(caller.scope(), catalog.into(), from, to).await?.into()))
}

async fn in_force(
    catalogs: &Catalogs,
    tenant: domain::id::TenantId,
    now: Timestamp,
) -> db::Result<Option<u32>> {
    Ok(catalogs.history(tenant).await?.at(now).map(|catalog| catalog.version()))
}

impl CatalogVersion {
    fn of(catalog: &Catalog, in_force: Option<u32>) -> CatalogVersion {
        CatalogVersion {
            version: catalog.version(),
            effective_at: Instant(catalog.effective_at()),
            is_in_force: in_force == Some(catalog.version()),
            plans: catalog.document().plans.len(),
            models: catalog.document().models.len(),
        }
    }
}

impl From<Preview> for CatalogPreview {
    fn from(preview: Preview) -> Self {
        let Preview { from, to, is_complete, total, mut by_model } = preview;
        let change = |sums: &PreviewSums| (sums.previewed.get() - sums.charged.get()).abs();
        by_model.sort_by_key(|(_, sums)| std::cmp::Reverse(change(sums)));
        let by_model = by_model.into_iter().map(|(model, sums)| PreviewedModel { model, usage: sums.into() });
        CatalogPreview {
            from: Instant(from),
            to: Instant(to),
            is_complete,
            total: total.into(),
            by_model: by_model.collect(),
        }
    }
}

impl From<PreviewSums> for PreviewedUsage {
    fn from(sums: PreviewSums) -> Self {
        PreviewedUsage {
            events: sums.events,
            credits_charged: sums.charged.get(),
            credits_previewed: sums.previewed.get(),
            unrated: sums.unrated,
            unrated_previewed: sums.unrated_previewed,
        }
    }
}
