//! May this request start?

use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, post};
use domain::id::{CustomerId, ExternalId};
use domain::rating::Estimate;
use domain::usage::TokenCounts;
use serde::{Deserialize, Serialize};
use usage::{AuthorizeRequest, Authorized, Usage};
use utoipa::ToSchema;

use crate::auth::Uses;
use crate::body::{Body, NoQuery, object};
use crate::error::{Error, InsufficientQuota, Problem};
use crate::path::Id;
use crate::schema;
use crate::wire::{Instant, TokenCount, present};

/// A request that a gateway is about to forward.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewAuthorization {
    /// Made by you, one for each request: the same id and request answer the same authorization.
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "req-1")]
    id: ExternalId,
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "mimo-v2-pro")]
    model: ExternalId,
    #[serde(deserialize_with = "object")]
    prompt: Prompt,
    /// The most output that the request asks for, in tokens.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = u64, required = false)]
    max_output_tokens: Option<TokenCount>,
}

/// A request to price.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RequestToPrice {
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "mimo-v2-pro")]
    model: ExternalId,
    #[serde(deserialize_with = "object")]
    prompt: Prompt,
    /// The most output that the request asks for, in tokens.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = u64, required = false)]
    max_output_tokens: Option<TokenCount>,
}

/// A prompt in tokens, by kind. A kind that is left out is none.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Prompt {
    #[serde(default)]
    input: TokenCount,
    #[serde(default)]
    cache_read: TokenCount,
    #[serde(default)]
    cache_write: TokenCount,
}

/// A request may start, and its Credits are set aside.
#[derive(Debug, Serialize, ToSchema)]
struct Authorization {
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "req-1")]
    id: ExternalId,
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    /// What is set aside until the usage is reported, the authorization released or expired.
    credits_held: i64,
    #[serde(flatten)]
    estimate: Price,
    /// The most output that `credits_held` pays for; null where they cover the estimate.
    #[schema(required)]
    max_output_tokens: Option<u64>,
    granted_at: Instant,
    expires_at: Instant,
    /// The version of the balance that it was decided on.
    account_version: i64,
}

/// What a request is expected to cost.
#[derive(Debug, Serialize, ToSchema)]
struct Price {
    /// The prompt and the output that is counted on, in Credits.
    estimate_credits: i64,
    /// The prompt alone, in Credits.
    prompt_credits: i64,
    /// The output that is counted on, in tokens.
    estimate_output_tokens: u64,
}

/// Whose authorization it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Owner {
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
}

/// An authorization that runs on.
#[derive(Debug, Serialize, ToSchema)]
struct Renewed {
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "req-1")]
    id: ExternalId,
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    credits_held: i64,
    granted_at: Instant,
    expires_at: Instant,
    account_version: i64,
}

/// An authorization that holds nothing any more.
#[derive(Debug, Serialize, ToSchema)]
struct Released {
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "req-1")]
    id: ExternalId,
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    account_version: i64,
}

/// Authorize a request
///
/// Holds the estimated cost: the prompt and the output that is counted on. Where only a part of the
/// output can be paid for, all that is left is held, and `max_output_tokens` says for how much it lasts.
#[utoipa::path(
    tag = "Usage",
    security(("bearer" = ["usage"])),
    request_body = NewAuthorization,
    responses(
        (status = 201, description = "It may start", body = Authorization),
        (status = 402, description = "Out of Credits (the status is a setting of the tenant); `subscription-suspended`, as a problem", body = InsufficientQuota),
        (status = 404, description = "`not-found`: no such customer", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`authorization-reused`, `authorization-ended`, `account-parked`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/authorizations")]
pub(super) async fn authorize(
    caller: Uses,
    _: NoQuery,
    new: Body<NewAuthorization>,
    usage: Data<Usage>,
) -> Result<HttpResponse, Error> {
    let authorized = usage.authorize(caller.scope(), new.value.into()).await?;
    Ok(HttpResponse::Created().json(Authorization::from(authorized)))
}

/// Price a request
///
/// What an authorization would hold, without holding it.
#[utoipa::path(
    tag = "Usage",
    security(("bearer" = ["usage"])),
    request_body = RequestToPrice,
    responses((status = 200, description = "The expected cost", body = Price)),
)]
#[post("/authorizations/price")]
pub(super) async fn price_request(
    caller: Uses,
    _: NoQuery,
    request: Body<RequestToPrice>,
    usage: Data<Usage>,
) -> Result<Json<Price>, Error> {
    let RequestToPrice { model, prompt, max_output_tokens } = request.value;
    let output_tokens_max = max_output_tokens.map(|count| count.0);
    let estimate = usage.price(caller.scope(), model.as_str(), &prompt.into(), output_tokens_max).await?;
    Ok(Json(Price::from(&estimate)))
}

/// Renew an authorization
///
/// For a request that takes longer: it gets its time again, counted from now, up to the longest life that
/// the tenant's settings allow. Renewing it again changes nothing for the worse.
#[utoipa::path(
    tag = "Usage",
    security(("bearer" = ["usage"])),
    params(("id" = String, Path, description = "The authorization", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "req-1")),
    request_body = Owner,
    responses(
        (status = 200, description = "Renewed", body = Renewed),
        (status = 404, description = "`not-found`: no such authorization of this customer", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`authorization-ended`, `authorization-not-renewable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/authorizations/{id}/renew")]
pub(super) async fn renew_authorization(
    caller: Uses,
    _: NoQuery,
    id: Id<ExternalId>,
    owner: Body<Owner>,
    usage: Data<Usage>,
) -> Result<Json<Renewed>, Error> {
    let renewed = usage.renew(caller.scope(), owner.value.customer, &id.0).await?;
    Ok(Json(Renewed {
        id: renewed.hold.id,
        customer: renewed.hold.customer,
        credits_held: renewed.hold.credits.get(),
        granted_at: Instant(renewed.hold.granted_at),
        expires_at: Instant(renewed.hold.expires_at),
        account_version: renewed.version,
    }))
}

/// Release an authorization
///
/// What it holds becomes available without a charge. Releasing it again changes nothing.
#[utoipa::path(
    tag = "Usage",
    security(("bearer" = ["usage"])),
    params(("id" = String, Path, description = "The authorization", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "req-1")),
    request_body = Owner,
    responses(
        (status = 200, description = "Released", body = Released),
        (status = 409, description = "`authorization-ended`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/authorizations/{id}/release")]
pub(super) async fn release_authorization(
    caller: Uses,
    _: NoQuery,
    id: Id<ExternalId>,
    owner: Body<Owner>,
    usage: Data<Usage>,
) -> Result<Json<Released>, Error> {
    let (id, customer) = (id.0, owner.value.customer);
    let account_version = usage.release(caller.scope(), customer, &id).await?;
    Ok(Json(Released { id, customer, account_version }))
}

impl From<NewAuthorization> for AuthorizeRequest {
    fn from(new: NewAuthorization) -> Self {
        AuthorizeRequest {
            id: new.id,
            customer: new.customer,
            model: new.model,
            prompt: new.prompt.into(),
            output_tokens_max: new.max_output_tokens.map(|count| count.0),
        }
    }
}

impl From<Prompt> for TokenCounts {
    fn from(prompt: Prompt) -> Self {
        TokenCounts {
            input: prompt.input.0,
            cache_read: prompt.cache_read.0,
            cache_write: prompt.cache_write.0,
            ..TokenCounts::default()
        }
    }
}

impl From<&Estimate> for Price {
    fn from(estimate: &Estimate) -> Self {
        Price {
            estimate_credits: estimate.full.get(),
            prompt_credits: estimate.prompt_only.get(),
            estimate_output_tokens: estimate.output_tokens,
        }
    }
}

impl From<Authorized> for Authorization {
    fn from(authorized: Authorized) -> Self {
        let Authorized { hold, version, estimate, max_output_tokens } = authorized;
        Authorization {
            estimate: Price::from(&estimate),
            id: hold.id,
            customer: hold.customer,
            credits_held: hold.credits.get(),
            max_output_tokens,
            granted_at: Instant(hold.granted_at),
            expires_at: Instant(hold.expires_at),
            account_version: version,
        }
    }
}
