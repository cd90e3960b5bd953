//! Subscriptions that an operator stops, and lets go on.

use actix_web::web::Data;
use actix_web::{HttpResponse, post};
use domain::id::SubscriptionId;
use idempotency::Idempotency;
use serde::Deserialize;
use subscriptions::Subscriptions;
use utoipa::ToSchema;

use super::refunds::Reason;
use super::subscriptions::{Subscription, shown};
use crate::auth::Administers;
use crate::body::{NoBody, NoQuery};
use crate::error::{Error, Problem};
use crate::idempotency::{IdempotencyKey, Key, Keyed, once};
use crate::path::Id;
use crate::schema;

/// Why a subscription is suspended.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Suspend {
    reason: Option<Reason>,
}

/// Suspend a subscription
///
/// Nothing is authorized until it is resumed: 402 `subscription-suspended`. Usage that happened is recorded and
/// charged, and the cycles go on. One that is suspended stays so.
#[utoipa::path(
    tag = "Subscriptions",
    security(("bearer" = ["admin"])),
    params(
        ("id" = schema::SubscriptionId, Path, description = "The subscription"),
        IdempotencyKey,
    ),
    request_body = Suspend,
    responses(
        (status = 200, description = "Suspended", body = Subscription),
        (status = 409, description = "`subscription-incomplete`, `subscription-ended`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/subscriptions/{id}/suspend")]
pub(super) async fn suspend_subscription(
    caller: Administers,
    _: NoQuery,
    id: Id<SubscriptionId>,
    suspend: Keyed<Suspend>,
    subscriptions: Data<Subscriptions>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    let Keyed { value: Suspend { reason }, key } = suspend;
    once(&idempotency, caller.scope(), key, move |scope, key| async move {
        shown(subscriptions.suspend(&scope, id.0, reason.map(|reason| reason.0), &key).await?)
    })
    .await
}

/// Resume a subscription
///
/// It is active again, or past due while its cycle is unpaid.
#[utoipa::path(
    tag = "Subscriptions",
    security(("bearer" = ["admin"])),
    params(
        ("id" = schema::SubscriptionId, Path, description = "The subscription"),
        IdempotencyKey,
    ),
    responses(
        (status = 200, description = "It goes on", body = Subscription),
        (status = 409, description = "`subscription-not-suspended`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/subscriptions/{id}/resume")]
pub(super) async fn resume_subscription(
    caller: Administers,
    _: NoQuery,
    id: Id<SubscriptionId>,
    key: Key,
    _: NoBody,
    subscriptions: Data<Subscriptions>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    once(&idempotency, caller.scope(), key.0, move |scope, key| async move {
        shown(subscriptions.resume(&scope, id.0, &key).await?)
    })
    .await
}
