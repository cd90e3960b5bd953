//! A tenant's API keys: issued, listed, revoked.

use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, delete, get, post};
use domain::id::ApiKeyId;
use serde::{Deserialize, Serialize};
use tenants::Tenants;
use utoipa::ToSchema;

use crate::auth::Administers;
use crate::body::{Body, NoBody, NoQuery, words};
use crate::error::{Error, Problem};
use crate::path::Id;
use crate::schema;
use crate::wire::Instant;

/// What a key may be used for. `admin` includes the others; no other includes another.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Scope {
    Read,
    Usage,
    Backfill,
    Billing,
    Catalog,
    Admin,
}

/// A key to issue.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewApiKey {
    /// What it is for, to tell it from others.
    #[schema(min_length = 1, max_length = 200, example = "gateway")]
    name: String,
    #[serde(deserialize_with = "words")]
    #[schema(min_items = 1)]
    scopes: Vec<Scope>,
}

/// A new key. It is shown this once, and stored as a digest.
#[derive(Serialize, ToSchema)]
struct IssuedApiKey {
    #[schema(value_type = schema::ApiKeyId)]
    id: ApiKeyId,
    secret: String,
}

/// A key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
struct ApiKey {
    #[schema(value_type = schema::ApiKeyId)]
    id: ApiKeyId,
    /// The key's public part.
    prefix: String,
    name: String,
    scopes: Vec<Scope>,
    created_at: Instant,
    #[schema(required)]
    revoked_at: Option<Instant>,
}

/// The tenant's keys, revoked ones included.
#[derive(Debug, Serialize, ToSchema)]
struct ApiKeys {
    data: Vec<ApiKey>,
}

/// Issue an API key
#[utoipa::path(
    tag = "API keys",
    security(("bearer" = ["admin"])),
    request_body = NewApiKey,
    responses(
        (status = 201, description = "The key; shown this once", body = IssuedApiKey),
        (status = 422, description = "`invalid-field`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/api-keys")]
pub(super) async fn issue_api_key(
    caller: Administers,
    _: NoQuery,
    new: Body<NewApiKey>,
    tenants: Data<Tenants>,
) -> Result<HttpResponse, Error> {
    let NewApiKey { name, scopes } = new.value;
    let scopes: Vec<tenants::Scope> = scopes.into_iter().map(tenants::Scope::from).collect();
    let issued = tenants.issue_key(caller.scope().tenant, &name, &scopes).await?;
    Ok(HttpResponse::Created().json(IssuedApiKey { id: issued.id, secret: issued.secret }))
}

/// List the API keys
///
/// All at once, revoked ones too: a tenant has few.
#[utoipa::path(
    tag = "API keys",
    security(("bearer" = ["admin"])),
    responses((status = 200, description = "The keys, without their secrets", body = ApiKeys)),
)]
#[get("/api-keys")]
pub(super) async fn list_api_keys(
    caller: Administers,
    _: NoQuery,
    tenants: Data<Tenants>,
) -> Result<Json<ApiKeys>, Error> {
    let keys = tenants.keys(caller.scope().tenant).await?;
    Ok(Json(ApiKeys { data: keys.into_iter().map(ApiKey::from).collect() }))
}

/// Revoke an API key
///
/// No server accepts it five seconds later. An admin key may revoke itself: issue another one before, or
/// the operator's command line has to.
#[utoipa::path(
    tag = "API keys",
    security(("bearer" = ["admin"])),
    params(("id" = schema::ApiKeyId, Path, description = "The key")),
    responses((status = 204, description = "Revoked")),
)]
#[delete("/api-keys/{id}")]
pub(super) async fn revoke_api_key(
    caller: Administers,
    _: NoQuery,
    id: Id<ApiKeyId>,
    _: NoBody,
    tenants: Data<Tenants>,
) -> Result<HttpResponse, Error> {
    tenants.revoke_key(caller.scope().tenant, id.0).await?;
    Ok(HttpResponse::NoContent().finish())
}

impl From<tenants::ApiKeyInfo> for ApiKey {
    fn from(key: tenants::ApiKeyInfo) -> Self {
        ApiKey {
            id: key.id,
            prefix: key.prefix,
            name: key.name,
            scopes: key.scopes.into_iter().map(Scope::from).collect(),
            created_at: Instant(key.created_at),
            revoked_at: key.revoked_at.map(Instant),
        }
    }
}

impl From<Scope> for tenants::Scope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Read => tenants::Scope::Read,
            Scope::Usage => tenants::Scope::Usage,
            Scope::Backfill => tenants::Scope::Backfill,
            Scope::Billing => tenants::Scope::Billing,
            Scope::Catalog => tenants::Scope::Catalog,
            Scope::Admin => tenants::Scope::Admin,
        }
    }
}

impl From<tenants::Scope> for Scope {
    fn from(scope: tenants::Scope) -> Self {
        match scope {
            tenants::Scope::Read => Scope::Read,
            tenants::Scope::Usage => Scope::Usage,
            tenants::Scope::Backfill => Scope::Backfill,
            tenants::Scope::Billing => Scope::Billing,
            tenants::Scope::Catalog => Scope::Catalog,
            tenants::Scope::Admin => Scope::Admin,
        }
    }
}
