//! Voids: what an event cost goes back to where it came from.

use actix_web::web::{Data, Json};
use actix_web::{HttpRequest, post};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use usage::Usage;
use utoipa::ToSchema;

use crate::auth::Administers;
use crate::body::{Body, Query};
use crate::error::{Error, Problem};
use crate::path::decoded_segment;
use crate::routes::usage_reports::{EventParams, EventView};
use crate::unbroken::unbroken;
use crate::wire::code;

/// The longest reason, in characters.
const REASON_LENGTH_MAX: usize = 500;

/// Why an event is voided.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Void {
    /// For whoever asks later. No control characters.
    #[serde(deserialize_with = "reason")]
    #[schema(min_length = 1, max_length = 500, example = "the gateway counted a retry twice")]
    reason: String,
}

pub(super) fn reason<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let is_valid =
        (1..=REASON_LENGTH_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if is_valid { Ok(text) } else { Err(D::Error::custom(code::OUT_OF_RANGE)) }
}

/// Void an event
///
/// What it cost goes back to the grants that had paid, the last one that was drawn on first, and `voided` says how
/// much of that became spendable: what goes back to a grant that has ended expires at once. Reports leave the event out;
/// the ledger and statements show it as charged and as voided. It stays counted: sent again it is a repeat, and what
/// should have been counted is reported under another id. One that waits for its charge is never charged. An event
/// is voided once: another try is answered with the first one's effect and reason, whatever its own reason is.
#[utoipa::path(
    tag = "Usage",
    security(("bearer" = ["admin"])),
    params(
        ("id" = String, Path, description = "The event's id, percent-encoded", example = "req-1"),
        EventParams,
    ),
    responses(
        (status = 200, description = "The event, voided now or before", body = EventView),
        (status = 404, description = "`not-found`: no such event was counted; one in quarantine was not", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`account-parked`: until an operator has looked at the account", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/usage/events/{id}/void")]
pub(super) async fn void_event(
    caller: Administers,
    request: HttpRequest,
    query: Query<EventParams>,
    void: Body<Void>,
    usage: Data<Usage>,
) -> Result<Json<EventView>, Error> {
    let id = decoded_segment(&request, "id");
    let (scope, by) = (caller.scope().clone(), Some(caller.key()?));
    let (source, reason) = (query.0.source.0, void.value.reason);
    let voided = unbroken(async move { usage.void(&scope, &source, &id, &reason, by).await }).await?;
    Ok(Json(EventView::of(voided)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_a_line_of_text() {
        let read =
            |reason: &str| serde_json::from_value::<Void>(serde_json::json!({"reason": reason})).is_ok();
        assert!(read("重复计费 – twice"));
        assert!(read(&"ü".repeat(500)));
        assert!(!read(&"ü".repeat(501)));
        assert!(!read(""));
        assert!(!read("two\nlines"));
    }
}
