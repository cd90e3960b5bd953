//! Runs of the rollover: started and watched.

use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, get, post};
use domain::id::RolloverId;
use serde::Serialize;
use subscriptions::Subscriptions;
use utoipa::ToSchema;

use crate::auth::Administers;
use crate::body::{NoBody, NoQuery};
use crate::error::Error;
use crate::path::Id;
use crate::schema;
use crate::unbroken::unbroken;
use crate::wire::Instant;

/// A run and how far it is.
#[derive(Debug, Serialize, ToSchema)]
struct Rollover {
    #[schema(value_type = schema::RolloverId)]
    id: RolloverId,
    state: schema::RolloverState,
    cycles_closed: i64,
    cycles_opened: i64,
    /// Cycles that were over before they could be opened.
    cycles_skipped: i64,
    subscriptions_ended: i64,
    credits_expired: i64,
    requested_at: Instant,
    #[schema(required)]
    finished_at: Option<Instant>,
}

/// Start a rollover
///
/// Closes and renews every cycle that is over. It runs by itself too; two runs at once share the work.
#[utoipa::path(
    tag = "Rollovers",
    security(("bearer" = ["admin"])),
    responses((status = 202, description = "Queued", body = Rollover)),
)]
#[post("/rollovers")]
pub(super) async fn start_rollover(
    caller: Administers,
    _: NoQuery,
    _: NoBody,
    subscriptions: Data<Subscriptions>,
) -> Result<HttpResponse, Error> {
    let scope = caller.scope().clone();
    let run = unbroken(async move {
        let id = subscriptions.start_rollover(&scope).await?;
        subscriptions.rollover(&scope, id).await
    })
    .await?;
    Ok(HttpResponse::Accepted().json(Rollover::from(run)))
}

/// Read a rollover's progress
#[utoipa::path(
    tag = "Rollovers",
    security(("bearer" = ["admin"])),
    params(("id" = schema::RolloverId, Path, description = "The run")),
    responses((status = 200, description = "The run", body = Rollover)),
)]
#[get("/rollovers/{id}")]
pub(super) async fn read_rollover(
    caller: Administers,
    _: NoQuery,
    id: Id<RolloverId>,
    subscriptions: Data<Subscriptions>,
) -> Result<Json<Rollover>, Error> {
    Ok(Json(subscriptions.rollover(caller.scope(), id.0).await?.into()))
}

impl From<subscriptions::Rollover> for Rollover {
    fn from(run: subscriptions::Rollover) -> Self {
        Rollover {
            id: run.id,
            state: schema::RolloverState(run.state),
            cycles_closed: run.progress.cycles_closed,
            cycles_opened: run.progress.cycles_opened,
            cycles_skipped: run.progress.cycles_skipped,
            subscriptions_ended: run.progress.subscriptions_ended,
            credits_expired: run.progress.credits_expired,
            requested_at: Instant(run.requested_at),
            finished_at: run.finished_at.map(Instant),
        }
    }
}
