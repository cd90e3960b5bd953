//! Plans that move to the newest catalogue version.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpResponse, delete, post, put};
use domain::id::{ExternalId, SubscriptionId};
use idempotency::Idempotency;
use serde::{Deserialize, Serialize};
use subscriptions::{MigratedPlan, Subscriptions};
use utoipa::ToSchema;

use super::subscriptions::{Subscription, shown};
use crate::auth::Administers;
use crate::body::{NoBody, NoQuery};
use crate::error::{Error, Problem};
use crate::idempotency::{IdempotencyKey, Key, Keyed, answer, once};
use crate::path::Id;
use crate::schema;

/// The plan whose subscriptions move.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MigratePlan {
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "standard")]
    plan: ExternalId,
}

/// What a migration has scheduled.
#[derive(Debug, Serialize, ToSchema)]
struct PlanMigration {
    plan: String,
    /// The version in force now. Which one is the newest is looked up when a subscription renews.
    to_version: u32,
    /// The plan's running subscriptions that move at their next renewal.
    subscriptions: usize,
}

/// Move a subscription to the newest catalogue version
///
/// At its next renewal: price and Credits are those of the version in force when the renewed cycle begins. If that does
/// not sell the plan any more, the subscription stays on its version.
#[utoipa::path(
    tag = "Subscriptions",
    security(("bearer" = ["admin"])),
    params(
        ("id" = schema::SubscriptionId, Path, description = "The subscription"),
        IdempotencyKey,
    ),
    responses(
        (status = 200, description = "Scheduled", body = Subscription),
        (status = 409, description = "`subscription-incomplete`, `subscription-ended`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[put("/subscriptions/{id}/migration")]
pub(super) async fn schedule_migration(
    caller: Administers,
    _: NoQuery,
    id: Id<SubscriptionId>,
    key: Key,
    _: NoBody,
    subscriptions: Data<Subscriptions>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    once(&idempotency, caller.scope(), key.0, move |scope, key| async move {
        shown(subscriptions.schedule_migration(&scope, id.0, &key).await?)
    })
    .await
}

/// Withdraw a subscription's migration
#[utoipa::path(
    tag = "Subscriptions",
    security(("bearer" = ["admin"])),
    params(
        ("id" = schema::SubscriptionId, Path, description = "The subscription"),
        IdempotencyKey,
    ),
    responses(
        (status = 200, description = "It stays on its version", body = Subscription),
        (status = 409, description = "`nothing-scheduled` and others", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[delete("/subscriptions/{id}/migration")]
pub(super) async fn withdraw_migration(
    caller: Administers,
    _: NoQuery,
    id: Id<SubscriptionId>,
    key: Key,
    _: NoBody,
    subscriptions: Data<Subscriptions>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    once(&idempotency, caller.scope(), key.0, move |scope, key| async move {
        shown(subscriptions.withdraw_migration(&scope, id.0, &key).await?)
    })
    .await
}

/// Move all subscriptions of a plan to the newest catalogue version
///
/// Each at its next renewal. A dry run of the rollover shows what each due one would pay.
#[utoipa::path(
    tag = "Subscriptions",
    security(("bearer" = ["admin"])),
    params(IdempotencyKey),
    request_body = MigratePlan,
    responses(
        (status = 200, description = "Scheduled", body = PlanMigration),
        (status = 422, description = "`unknown-plan`: the version in force does not sell it", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/plan-migrations")]
pub(super) async fn migrate_plan(
    caller: Administers,
    _: NoQuery,
    migrate: Keyed<MigratePlan>,
    subscriptions: Data<Subscriptions>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    let Keyed { value: MigratePlan { plan }, key } = migrate;
    once(&idempotency, caller.scope(), key, move |scope, key| async move {
        let MigratedPlan { to_version, scheduled } =
            subscriptions.migrate_plan(&scope, plan.as_str(), &key).await?;
        let migration = PlanMigration { plan: plan.to_string(), to_version, subscriptions: scheduled };
        answer(StatusCode::OK, &migration)
    })
    .await
}
