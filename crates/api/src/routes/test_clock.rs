//! The clock of a test tenant.

use actix_web::web::{Data, Json};
use actix_web::{get, post, put};
use chrono::Datelike;
use domain::{TenantScope, Timestamp};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use subscriptions::Subscriptions;
use tenants::Tenants;
use utoipa::ToSchema;

use crate::auth::{Administers, Reads};
use crate::body::{Body, NoQuery};
use crate::error::{Error, Problem};
use crate::unbroken::unbroken;
use crate::wire::{Instant, code};

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
    now: ClockInstant,
}

/// How far to advance the clock.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AdvanceClock {
    to: ClockInstant,
}

/// Where a clock can stand: from the year 2000 on, and before the year 9000. So every instant that
/// follows from it, such as a cycle's end, can be written too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-01-31T10:00:00Z")]
struct ClockInstant(Timestamp);

impl<'de> Deserialize<'de> for ClockInstant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Instant(instant) = Instant::deserialize(deserializer)?;
        if !(2000..9000).contains(&instant.year()) {
            return Err(D::Error::custom(code::OUT_OF_RANGE));
        }
        Ok(ClockInstant(instant))
    }
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
/// Stops at every instant at which something is due, and lets it happen then. At most two years (731
/// days) at once.
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

#[cfg(test)]
mod tests {
    use domain::Refusal;

    use super::*;
    use crate::body::read_json;

    #[test]
    fn a_clock_stands_between_the_years_2000_and_9000() {
        let refused = |to: &str| {
            let text = format!(r#"{{"to": "{to}"}}"#);
            read_json::<AdvanceClock>(&text).err()
        };
        for good in ["2000-01-01T00:00:00Z", "8999-12-31T23:59:59.999999Z", "1999-12-31T23:00:00-01:00"] {
            assert_eq!(refused(good), None, "{good}");
        }
        for bad in ["1999-12-31T23:59:59.999999Z", "9000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"] {
            assert_eq!(refused(bad), Some(Refusal::invalid_field("/to", "out-of-range")), "{bad}");
        }
        let now = read_json::<SetClock>(r#"{"now": "9999-12-31T23:59:59Z"}"#).err();
        assert_eq!(now, Some(Refusal::invalid_field("/now", "out-of-range")));
    }
}
