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
    status: Alive,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Alive {
    Ok,
}

/// What this server depends on.
#[derive(Debug, Serialize, ToSchema)]
struct Readiness {
    status: Condition,
    postgres: Store,
    redis: Store,
}

/// `ready`; `degraded` without Redis, where PostgreSQL decides alone, right and slower; `unavailable`
/// without PostgreSQL.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Condition {
    Ready,
    Degraded,
    Unavailable,
}

/// Whether a store answers.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Store {
    Up,
    Down,
}

/// Liveness
#[utoipa::path(
    tag = "Operation",
    security(()),
    responses((status = 200, description = "Alive", body = Health)),
)]
#[get("/healthz")]
pub(super) async fn read_health() -> Json<Health> {
    Json(Health { status: Alive::Ok })
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
    let store = |is_up| if is_up { Store::Up } else { Store::Down };
    let (mut response, status) = match (postgres.is_ok(), redis.is_ok()) {
        (true, true) => (HttpResponse::Ok(), Condition::Ready),
        (true, false) => (HttpResponse::Ok(), Condition::Degraded),
        (false, _) => (HttpResponse::ServiceUnavailable(), Condition::Unavailable),
    };
    response.json(Readiness { status, postgres: store(postgres.is_ok()), redis: store(redis.is_ok()) })
}
