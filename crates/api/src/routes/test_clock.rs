//! The clock of a test tenant.

use actix_web::web::{Data, Json};
use actix_web::{get, post, put};
use domain::TenantScope;
use serde::{Deserialize, Serialize};
use subscriptions::Subscriptions;
use tenants::Tenants;
use utoipa::ToSchema;

use crate::auth::{Administers, Reads};
use crate::body::{Body, NoQuery};
use crate::error::{Error, Problem};
use crate::unbroken::unbroken;
use crate::wire::Instant;

/// What time it is for the tenant.
#[derive(Debug, Serialize, ToSchema)]
struct TestClock {
    now: Instant,
    /// Whether the clock was set, and stands still. It never is in a live tenant.
    is_set: bool,
}

/// Where to set the clock.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SetClock {
    now: Instant,
}

/// How far to advance the clock.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AdvanceClock {
    to: Instant,
}

/// Read the clock
#[utoipa::path(
    tag = "Test clock",
    security(("bearer" = ["read"])),
    responses((status = 200, description = "The tenant's time", body = TestClock)),
)]
#[get("/test-clock")]
pub(super) async fn read_test_clock(
    caller: Reads,
    _: NoQuery,
    tenants: Data<Tenants>,
) -> Result<Json<TestClock>, Error> {
    let clock_at = tenants.clock(caller.scope()).await?;
    Ok(Json(TestClock { now: Instant(clock_at.unwrap_or(caller.scope().now)), is_set: clock_at.is_some() }))
}

/// Set the clock
///
/// The first time to any instant, after that forward only. Nothing that falls due on the way happens;
/// advance the clock for that.
#[utoipa::path(
    tag = "Test clock",
    security(("bearer" = ["admin"])),
    request_body = SetClock,
    responses(
        (status = 200, description = "The tenant's time", body = TestClock),
        (status = 409, description = "`not-a-test-tenant`, `clock-moves-back`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[put("/test-clock")]
pub(super) async fn set_test_clock(
    caller: Administers,
    _: NoQuery,
    set: Body<SetClock>,
    tenants: Data<Tenants>,
) -> Result<Json<TestClock>, Error> {
    let scope = caller.scope().clone();
    let scope = unbroken(async move { tenants.set_clock(&scope, set.value.now.0).await }).await?;
    Ok(Json(TestClock::set(&scope)))
}

/// Advance the clock
///
/// Stops at every instant at which something is due, and lets it happen then.
#[utoipa::path(
    tag = "Test clock",
    security(("bearer" = ["admin"])),
    request_body = AdvanceClock,
    responses(
        (status = 200, description = "The tenant's time", body = TestClock),
        (status = 409, description = "`not-a-test-tenant`, `clock-moves-back`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/test-clock/advance")]
pub(super) async fn advance_test_clock(
    caller: Administers,
    _: NoQuery,
    advance: Body<AdvanceClock>,
    subscriptions: Data<Subscriptions>,
    tenants: Data<Tenants>,
) -> Result<Json<TestClock>, Error> {
    let scope = caller.scope().clone();
    let scope = unbroken(async move {
        subscriptions.advance_clock(&scope, advance.value.to.0).await?;
        tenants.scope(scope.tenant).await
    })
    .await?;
    Ok(Json(TestClock::set(&scope)))
}

impl TestClock {
    fn set(scope: &TenantScope) -> TestClock {
        TestClock { now: Instant(scope.now), is_set: true }
    }
}
