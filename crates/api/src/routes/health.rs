//! Whether this server lives, and whether it can serve.

use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, get};
use db::Db;
use ledger::Ledger;
use serde::Serialize;
use utoipa::ToSchema;

/// This process answers.
#[derive(Debug, Serialize, ToSchema)]
struct Health {
    #[schema(example = "ok")]
    status: &'static str,
}

/// What this server depends on.
#[derive(Debug, Serialize, ToSchema)]
struct Readiness {
    /// `ready`; `degraded` without Redis, where PostgreSQL decides alone, right and slower;
    /// `unavailable` without PostgreSQL.
    #[schema(example = "ready")]
    status: &'static str,
    /// `up` or `down`.
    #[schema(example = "up")]
    postgres: &'static str,
    /// `up` or `down`.
    #[schema(example = "up")]
    redis: &'static str,
}

/// Liveness
#[utoipa::path(
    tag = "Operation",
    security(()),
    responses((status = 200, description = "Alive", body = Health)),
)]
#[get("/healthz")]
pub(super) async fn read_health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Readiness
#[utoipa::path(
    tag = "Operation",
    security(()),
    responses(
        (status = 200, description = "Ready, or degraded without Redis", body = Readiness),
        (status = 503, description = "PostgreSQL is away", body = Readiness),
    ),
)]
#[get("/readyz")]
pub(super) async fn read_readiness(db: Data<Db>, ledger: Data<Ledger>) -> HttpResponse {
    let (postgres, redis) = futures_util::join!(db.ping(), ledger.ping_hot());
    let word = |is_up| if is_up { "up" } else { "down" };
    let (mut response, status) = match (postgres.is_ok(), redis.is_ok()) {
        (true, true) => (HttpResponse::Ok(), "ready"),
        (true, false) => (HttpResponse::Ok(), "degraded"),
        (false, _) => (HttpResponse::ServiceUnavailable(), "unavailable"),
    };
    response.json(Readiness { status, postgres: word(postgres.is_ok()), redis: word(redis.is_ok()) })
}
