//! What did it use? Reported events, what is kept of them without a charge, and what is not understood.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, get, post};
use domain::id::{CustomerId, ExternalId, QuarantineId};
use domain::{Refusal, TenantScope};
use serde::{Deserialize, Serialize};
use usage::{EventResult, QuarantinedEvent, Reported, UnratedEvent, Usage};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::auth::{Administers, Uses};
use crate::body::{NoBody, NoQuery, Query};
use crate::error::{Error, Problem};
use crate::page::{List, PageQuery};
use crate::path::Id;
use crate::routes::usage_events::{CloudEvent, CloudEvents, Element, EventsBody, NDJSON, OneOrMany};
use crate::routes::usage_lines::Lines;
use crate::routes::usage_receipts::{ResultOfEvent, fill, take_readable};
use crate::schema;
use crate::unbroken::unbroken;
use crate::wire::{Instant, Page, Printable, code};

/// A result for each event of a batch, in its order.
#[derive(Debug, Serialize, ToSchema)]
struct Results {
    results: Vec<ResultOfEvent>,
}

/// What a result takes, nearly always (380 bytes with one rate): a batch's answer does not have to be moved while it grows.
const RESULT_BYTES: usize = 512;

/// The answer to one event, or to a batch.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes the answer")]
enum OneOrManyResults {
    One(Box<ResultOfEvent>),
    Many(Results),
}

/// An event that is kept and not charged yet.
#[derive(Debug, Serialize, ToSchema)]
struct Unrated {
    source: String,
    id: String,
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    model: String,
    #[schema(example = "unknown-model")]
    reason: String,
    event_time: Instant,
}

/// An event whose usage is not understood: neither charged nor dropped.
#[derive(Debug, Serialize, ToSchema)]
struct QuarantinedUsage {
    #[schema(value_type = schema::QuarantineId)]
    id: QuarantineId,
    #[schema(value_type = String)]
    source: Printable<256>,
    /// As the gateway named it.
    #[schema(value_type = String)]
    event_id: Printable<128>,
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    #[schema(value_type = String)]
    model: ExternalId,
    usage_format: schema::UsageFormat,
    /// The JSON as it was received, in a string: so its numbers are what they were, whoever reads them.
    #[schema(example = r#"{"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 111}"#)]
    usage: String,
    /// Why it was not understood when it was received.
    reason: String,
    message: String,
    received_at: Instant,
}

/// Report usage
///
/// One event, or an array of up to 1,000, of which each stands by itself: the answer to a batch is 200
/// with a result for each event in order. What is answered with 2xx is never lost and counts once. After 429, 5xx
/// or no answer to a batch, send all of it again: a customer's events in it were recorded together or not at all, and
/// those that were are answered as they would have been.
///
/// An event has its token counts in our own kinds, or a vendor's `usage` as it is and the name of its format. It
/// may come as a CloudEvent too, or a batch of them, with all but its `source`, `id` and `time` in `data`.
///
/// Any number of events may come as `application/x-ndjson`, one a line: they are recorded in batches while they
/// arrive, and answered one a line, in order, in the same form. Read the answer while you send. A line with nothing
/// but a `problem` is the last: what was sent from there on is to be sent again, whether it was recorded or not.
#[utoipa::path(
    tag = "Usage",
    security(("bearer" = ["usage"])),
    params(RecordParams),
    request_body(content(
        (OneOrMany = "application/json"),
        (CloudEvent = "application/cloudevents+json"),
        (CloudEvents = "application/cloudevents-batch+json"),
        (String = "application/x-ndjson"),
    )),
    responses(
        (status = 200, description = "Accepted or a duplicate; for a batch its results", content(
            (OneOrManyResults = "application/json"),
            (String = "application/x-ndjson"),
        )),
        (status = 202, description = "One event that is kept: it has no rate yet, or its usage is not understood", body = ResultOfEvent),
        (status = 409, description = "`event-conflict`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/usage/events")]
pub(super) async fn record_usage(
    caller: Uses,
    query: Query<RecordParams>,
    body: EventsBody,
    usage: Data<Usage>,
) -> Result<HttpResponse, Error> {
    let is_backfill = query.0.backfill;
    if is_backfill {
        caller.require_backfill()?;
    }
    match body {
        EventsBody::One(mut event) => {
            event.is_backfill = is_backfill;
            let (source, id) = (event.source.clone(), event.id.clone());
            let result = usage.record(caller.scope(), vec![*event]).await?.pop();
            let result = result.ok_or_else(|| db::Error::broken("an event without a result"))?;
            respond_to_one(source, id, result)
        }
        EventsBody::Many(elements) => {
            let results = record_all(&usage, caller.scope(), elements, is_backfill).await?;
            let mut body = Vec::with_capacity(results.len() * RESULT_BYTES);
            serde_json::to_writer(&mut body, &Results { results })
                .map_err(|error| db::Error::Fault(Box::new(error)))?;
            Ok(HttpResponse::Ok().content_type("application/json").body(body))
        }
        EventsBody::Lines(payload) => {
            let lines = Lines::new(payload, usage.as_ref().clone(), caller.scope().clone(), is_backfill);
            Ok(HttpResponse::Ok().content_type(NDJSON).streaming(lines.answers()))
        }
    }
}

/// List unrated usage
///
/// Events that are kept, and charged once there is a rate for them.
#[utoipa::path(
    tag = "Usage",
    security(("bearer" = ["admin"])),
    params(PageQuery),
    responses((status = 200, description = "A page of events", body = Page<Unrated>)),
)]
#[get("/usage/unrated")]
pub(super) async fn list_unrated(
    caller: Administers,
    query: Query<PageQuery>,
    usage: Data<Usage>,
) -> Result<Json<Page<Unrated>>, Error> {
    let PageQuery { limit, cursor } = query.0;
    let list = List { tenant: caller.scope().tenant, kind: "unrated", owner: "" };
    let after = list.after::<Uuid>(cursor.as_deref())?;
    let events = usage.unrated(caller.scope(), after, limit.and_one().into()).await?;
    Ok(Json(list.page(events, limit, |event| event.identity.to_string())))
}

/// List quarantined usage
///
/// Events whose usage is not understood, each with its reason and as it was sent. One leaves the list when its
/// id is counted: by a replay, or by a corrected report.
#[utoipa::path(
    tag = "Usage",
    security(("bearer" = ["admin"])),
    params(PageQuery),
    responses((status = 200, description = "A page of events", body = Page<QuarantinedUsage>)),
)]
#[get("/usage/quarantined")]
pub(super) async fn list_quarantined(
    caller: Administers,
    query: Query<PageQuery>,
    usage: Data<Usage>,
) -> Result<Json<Page<QuarantinedUsage>>, Error> {
    let PageQuery { limit, cursor } = query.0;
    let list = List { tenant: caller.scope().tenant, kind: "quarantined", owner: "" };
    let after = list.after::<Uuid>(cursor.as_deref())?;
    let events = usage.quarantined(caller.scope(), after, limit.and_one().into()).await?;
    let page: Page<QuarantinedEvent> = list.page(events, limit, |event| event.id.uuid().to_string());
    let data = page.data.into_iter().map(QuarantinedUsage::try_from).collect::<Result<_, db::Error>>()?;
    Ok(Json(Page { data, next_cursor: page.next_cursor }))
}

/// Replay quarantined usage
///
/// Its usage is read again, as it is understood now. What is understood is recorded as of when it was first
/// received: at the rate of its own time, and to the cycle that was to pay then. However often it is
/// replayed, it counts once. The answer is that to the event.
#[utoipa::path(
    tag = "Usage",
    security(("bearer" = ["admin"])),
    params(("id" = schema::QuarantineId, Path, description = "The quarantined event")),
    responses(
        (status = 200, description = "Accepted, or counted before", body = ResultOfEvent),
        (status = 202, description = "Still not understood, or without a rate", body = ResultOfEvent),
        (status = 409, description = "`event-conflict`: other content was counted under its id", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/usage/quarantined/{id}/replay")]
pub(super) async fn replay_quarantined(
    caller: Administers,
    _: NoQuery,
    id: Id<QuarantineId>,
    _: NoBody,
    usage: Data<Usage>,
) -> Result<HttpResponse, Error> {
    let (scope, usage) = (caller.scope().clone(), usage.clone());
    let (event, result) = unbroken(async move { usage.replay(&scope, id.0).await }).await?;
    respond_to_one(event.source, event.id, result)
}

/// How usage is reported.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RecordParams {
    /// `true` where the events may be older than the window of event times: for a key of scope `backfill`.
    #[serde(default, deserialize_with = "flag")]
    #[param(value_type = Option<bool>, default = false)]
    backfill: bool,
}

fn flag<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(serde::de::Error::custom(code::OUT_OF_RANGE)),
    }
}

/// Records what can be read, and answers each element in its place.
pub(super) async fn record_all(
    usage: &Usage,
    scope: &TenantScope,
    elements: Vec<Element>,
    is_backfill: bool,
) -> Result<Vec<ResultOfEvent>, db::Error> {
    let (places, mut events) = take_readable(elements);
    for event in &mut events {
        event.is_backfill = is_backfill;
    }
    fill(places, usage.record(scope, events).await?)
}

fn respond_to_one(source: Arc<str>, id: Arc<str>, result: EventResult) -> Result<HttpResponse, Error> {
    let status = match &result {
        EventResult::Accepted(_) | EventResult::Duplicate(_) => StatusCode::OK,
        EventResult::Unrated(_) | EventResult::Quarantined(_) => StatusCode::ACCEPTED,
        EventResult::Conflict => return Err(Refusal::EventConflict.into()),
        EventResult::Rejected(refusal) => return Err(Error::Rejected(refusal.clone())),
    };
    Ok(HttpResponse::build(status).json(ResultOfEvent::of(
        Some(Printable(source)),
        Some(Printable(id)),
        result,
    )))
}

impl TryFrom<QuarantinedEvent> for QuarantinedUsage {
    type Error = db::Error;

    fn try_from(quarantined: QuarantinedEvent) -> Result<Self, db::Error> {
        let QuarantinedEvent { id, event, reason, message, received_at } = quarantined;
        let Reported::Raw { format, json } = event.usage else {
            return Err(db::Error::broken("our own kinds in quarantine"));
        };
        Ok(QuarantinedUsage {
            id,
            source: Printable(event.source),
            event_id: Printable(event.id),
            customer: event.customer,
            model: event.model,
            usage_format: schema::UsageFormat(format),
            usage: json,
            reason,
            message,
            received_at: Instant(received_at),
        })
    }
}

impl From<UnratedEvent> for Unrated {
    fn from(event: UnratedEvent) -> Self {
        Unrated {
            source: event.source,
            id: event.id,
            customer: event.customer,
            model: event.model,
            reason: event.reason,
            event_time: Instant(event.event_time),
        }
    }
}
