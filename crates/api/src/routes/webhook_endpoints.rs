//! Where a tenant wants its events sent.

use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, delete, get, post};
use domain::id::EndpointId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use webhooks::Webhooks;

use crate::auth::Administers;
use crate::body::{Body, NoBody, NoQuery};
use crate::error::{Error, Problem};
use crate::path::Id;
use crate::schema;
use crate::unbroken::unbroken;
use crate::wire::Instant;

/// An endpoint to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewWebhookEndpoint {
    /// `https`, on the public internet; in test tenants `http` too. Redirects are not followed.
    #[schema(max_length = 2048, example = "https://example.com/tollgate")]
    url: String,
}

/// A new endpoint. The secret is shown this once.
#[derive(Serialize, ToSchema)]
struct CreatedWebhookEndpoint {
    #[schema(value_type = schema::EndpointId)]
    id: EndpointId,
    #[schema(example = "https://example.com/tollgate")]
    url: String,
    /// What the signatures are made with, as the libraries of Standard Webhooks take it.
    #[schema(example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDC2FVsBQIhrs=")]
    secret: String,
    /// In real time.
    created_at: Instant,
}

/// An endpoint, without its secret.
#[derive(Debug, Serialize, ToSchema)]
struct WebhookEndpoint {
    #[schema(value_type = schema::EndpointId)]
    id: EndpointId,
    #[schema(example = "https://example.com/tollgate")]
    url: String,
    /// In real time.
    created_at: Instant,
    /// Since when nothing is sent there: it was disabled, or answered 410. In real time.
    #[schema(required)]
    disabled_at: Option<Instant>,
}

/// The tenant's endpoints, disabled ones included.
#[derive(Debug, Serialize, ToSchema)]
struct WebhookEndpoints {
    data: Vec<WebhookEndpoint>,
}

/// Create a webhook endpoint
///
/// Every event from now on is posted there, signed as Standard Webhooks has it, until the answer is 2xx:
/// eight attempts over 28 hours. An event may arrive more than once, with the same `webhook-id`, and in
/// any order. 410 disables the endpoint.
#[utoipa::path(
    tag = "Webhooks",
    security(("bearer" = ["admin"])),
    request_body = NewWebhookEndpoint,
    responses(
        (status = 201, description = "The endpoint, and its secret; shown this once", body = CreatedWebhookEndpoint),
        (status = 422, description = "`url-not-allowed`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/webhook-endpoints")]
pub(super) async fn create_webhook_endpoint(
    caller: Administers,
    _: NoQuery,
    new: Body<NewWebhookEndpoint>,
    webhooks: Data<Webhooks>,
) -> Result<HttpResponse, Error> {
    let scope = caller.scope().clone();
    let created = unbroken(async move { webhooks.create_endpoint(&scope, &new.value.url).await }).await?;
    Ok(HttpResponse::Created().json(CreatedWebhookEndpoint {
        id: created.id,
        url: created.url,
        secret: created.secret,
        created_at: Instant(created.created_at),
    }))
}

/// List the webhook endpoints
///
/// All at once, disabled ones too: a tenant has few.
#[utoipa::path(
    tag = "Webhooks",
    security(("bearer" = ["admin"])),
    responses((status = 200, description = "The endpoints, without their secrets", body = WebhookEndpoints)),
)]
#[get("/webhook-endpoints")]
pub(super) async fn list_webhook_endpoints(
    caller: Administers,
    _: NoQuery,
    webhooks: Data<Webhooks>,
) -> Result<Json<WebhookEndpoints>, Error> {
    let endpoints = webhooks.endpoints(caller.scope()).await?;
    Ok(Json(WebhookEndpoints { data: endpoints.into_iter().map(WebhookEndpoint::from).collect() }))
}

/// Disable a webhook endpoint
///
/// Nothing more is sent there, and it stays so. Disabled again, it answers the same.
#[utoipa::path(
    tag = "Webhooks",
    security(("bearer" = ["admin"])),
    params(("id" = schema::EndpointId, Path, description = "The endpoint")),
    responses((status = 200, description = "The endpoint", body = WebhookEndpoint)),
)]
#[delete("/webhook-endpoints/{id}")]
pub(super) async fn disable_webhook_endpoint(
    caller: Administers,
    _: NoQuery,
    id: Id<EndpointId>,
    _: NoBody,
    webhooks: Data<Webhooks>,
) -> Result<Json<WebhookEndpoint>, Error> {
    let scope = caller.scope().clone();
    let endpoint = unbroken(async move { webhooks.disable_endpoint(&scope, id.0).await }).await?;
    Ok(Json(endpoint.into()))
}

impl From<webhooks::Endpoint> for WebhookEndpoint {
    fn from(endpoint: webhooks::Endpoint) -> Self {
        WebhookEndpoint {
            id: endpoint.id,
            url: endpoint.url,
            created_at: Instant(endpoint.created_at),
            disabled_at: endpoint.disabled_at.map(Instant),
        }
    }
}
