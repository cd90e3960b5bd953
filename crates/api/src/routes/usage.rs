//! What did it use? One event, a batch, or a stream of lines; our own JSON, or CloudEvents.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Json};
use actix_web::{FromRequest, HttpRequest, HttpResponse, get, post};
use domain::credits::RateMilli;
use domain::id::{CustomerId, ExternalId, GrantId, QuarantineId};
use domain::usage as model;
use domain::usage::TokenCounts;
use domain::usage_format::UsageFormat;
use domain::{Refusal, TenantScope};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use usage::{BATCH_EVENTS_MAX, EventResult, QuarantinedEvent, Reported, UnratedEvent, Usage, UsageEvent};
use utoipa::openapi::schema::{AnyOfBuilder, ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};
use uuid::Uuid;

use crate::auth::{Administers, Uses};
use crate::body::{
    BODY_BYTES_MAX, NoBody, NoQuery, NotJson, Query, check_json, is_absent, media_type, present_word, read,
    read_json, receive, receive_any, word,
};
use crate::error::{Error, Problem};
use crate::page::{List, PageQuery};
use crate::path::Id;
use crate::routes::usage_lines::Lines;
use crate::routes::usage_reports::{PaygAmount, Tokens};
use crate::schema;
use crate::unbroken::unbroken;
use crate::wire::{Instant, Page, Printable, TokenCount, code};

/// The largest body with a batch of events.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// What a gateway reports after a request. `source` and `id` together name the event: it counts once,
/// however often it is sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Event {
    /// Who reports: a URI reference, as in CloudEvents.
    #[schema(value_type = String, min_length = 1, max_length = 256, pattern = "^[!-~]+$", example = "gateway/eu-1")]
    source: Printable<256>,
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[!-~]+$", example = "req-1")]
    id: Printable<128>,
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "mimo-v2-pro")]
    model: ExternalId,
    /// What it used. Without `usage_format` our own kinds of token, strictly; with it the vendor's object as it
    /// was received, of which everything is kept.
    #[schema(value_type = UsageOfEvent)]
    usage: Box<RawValue>,
    /// Whose `usage` it is. It is never guessed, because the same names count different tokens: cached ones are
    /// inside OpenAI's `input_tokens` and beside Anthropic's. Usage that the format does not explain is
    /// `quarantined`, and not refused.
    #[serde(default, deserialize_with = "present_word")]
    #[schema(value_type = schema::UsageFormat, required = false, nullable = false, example = "openai.chat")]
    usage_format: Option<UsageFormat>,
    #[serde(default, deserialize_with = "word")]
    outcome: Outcome,
    #[serde(default, deserialize_with = "word")]
    usage_source: UsageSource,
    /// When the request ran; the time of receipt where left out.
    time: Option<Instant>,
    /// The authorization that this usage captures.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "req-1")]
    authorization: Option<ExternalId>,
    /// The customer's own key that the request was made with, by its name: usage is reported by it too.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "key-7")]
    api_key: Option<ExternalId>,
}

/// Tokens by kind. A kind that is left out is none; `reasoning` is a part of `output`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Counts {
    #[serde(default)]
    input: TokenCount,
    #[serde(default)]
    cache_read: TokenCount,
    #[serde(default)]
    cache_write: TokenCount,
    #[serde(default)]
    output: TokenCount,
    #[serde(default)]
    reasoning: TokenCount,
}

/// Our own kinds, or a vendor's usage: an object, or the list of a stream's.
struct UsageOfEvent;

impl PartialSchema for UsageOfEvent {
    fn schema() -> RefOr<Schema> {
        let object = || ObjectBuilder::new().schema_type(Type::Object);
        AnyOfBuilder::new()
            .item(Ref::from_schema_name("Counts"))
            .item(object().description(Some("A vendor's usage object, with `usage_format`.")))
            .item(
                ArrayBuilder::new().items(object()).description(Some(
                    "The usages of a stream, in order: of `anthropic.messages` or `gemini`.",
                )),
            )
            .into()
    }
}

impl ToSchema for UsageOfEvent {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("Counts".to_owned(), Counts::schema()));
        Counts::schemas(schemas);
    }
}

/// How the request ended. What was delivered is charged in any case.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    #[default]
    Completed,
    Aborted,
    Failed,
}

/// Where the counts come from.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum UsageSource {
    #[default]
    Provider,
    Estimate,
}

/// One event, or 1 to 1,000 of them.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes the body; `EventsBody` reads it, each event by itself")]
enum OneOrMany {
    One(Box<Event>),
    Many(Batch),
}

/// 1 to 1,000 events.
#[derive(ToSchema)]
#[schema(min_items = 1, max_items = 1000)]
#[allow(dead_code, reason = "describes the body")]
struct Batch(Vec<Event>);

/// What became of one event.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ResultOfEvent {
    /// Null where the event had none that could be read.
    #[schema(required)]
    source: Option<String>,
    #[schema(required)]
    id: Option<String>,
    status: EventStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    receipt: Option<Receipt>,
    /// Why its usage is not understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    quarantine: Option<Quarantine>,
    /// Why it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    problem: Option<Problem>,
}

/// `accepted`: counted and charged now. `duplicate`: counted before, with this receipt. `conflict`: its
/// id was used for other content, which stays. `unrated`: kept, and charged once there is a rate.
/// `quarantined`: kept as it was sent, because its usage is not understood; nothing was counted under its id,
/// so it can be reported again, corrected, or replayed. `rejected`: invalid by itself, and not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum EventStatus {
    Accepted,
    Duplicate,
    Conflict,
    Unrated,
    Quarantined,
    Rejected,
}

/// Why a usage is not understood.
#[derive(Debug, Serialize, ToSchema)]
struct Quarantine {
    #[schema(example = "total-differs")]
    reason: String,
    #[schema(example = "/total_tokens is 111, which is not 100 + 10 = 110")]
    message: String,
}

/// Why an event cost what it did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Receipt {
    credits: i64,
    /// What no grant paid for, in Credits.
    overage: i64,
    /// What of that is billed in money, where the customer pays by the token; null where nothing is.
    #[schema(required)]
    payg: Option<MoneyPart>,
    /// Why it has no price yet.
    #[schema(required)]
    unrated_reason: Option<String>,
    #[schema(required)]
    catalog_version: Option<u32>,
    /// The upper bound of the context band; null where any length fits.
    #[schema(required)]
    band_prompt_tokens_max: Option<u64>,
    rates: Vec<Rate>,
    /// Of an event of several calls each by itself, with a band of its own: then there is no band and no rate above.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    calls: Vec<CallOfEvent>,
    /// The grants that paid, in order.
    draws: Vec<Draw>,
    hold: Hold,
    /// Why it was charged without an authorization: `not-named`, `unknown`, `expired`, `captured` (by an
    /// earlier event) or `released`.
    #[schema(required)]
    no_hold_reason: Option<String>,
    /// What was left to spend after it.
    balance_after: i64,
    /// The account's version after it.
    account_version: i64,
}

/// One call of an event of several, and what it adds to the event's cost.
#[derive(Debug, Serialize, ToSchema)]
struct CallOfEvent {
    /// Where it ran on another model than the event names; null where it is that one.
    #[schema(value_type = Option<String>, required, example = "mimo-v2-omni")]
    model: Option<ExternalId>,
    tokens: Tokens,
    credits: i64,
    /// What no grant paid for, in Credits.
    overage: i64,
    /// The upper bound of its context band, by its own prompt; null where any length fits, or it is not charged yet.
    #[schema(required)]
    band_prompt_tokens_max: Option<u64>,
    rates: Vec<Rate>,
}

/// The part of an event that is billed in money.
#[derive(Debug, Serialize, ToSchema)]
struct MoneyPart {
    /// The part of `overage` that it is for: zero of a model that has no Credit rate.
    credits: i64,
    #[serde(flatten)]
    amount: PaygAmount,
    /// What the spend cap kept from being billed, in pico-units.
    past_cap_pico: String,
    /// By kind of token; they sum to `pico`.
    lines: Vec<MoneyLine>,
    /// Why the part has no price; then it comes to nothing yet.
    #[schema(required)]
    unrated_reason: Option<String>,
}

/// What the tokens of one kind add to an event's amount.
#[derive(Debug, Serialize, ToSchema)]
struct MoneyLine {
    kind: schema::TokenKind,
    tokens: u64,
    /// Micro-units of the major unit per 1M tokens.
    #[schema(example = 1_000_000)]
    price_micro: u64,
    pico: String,
}

/// Whether the event captured its authorization.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Hold {
    Captured,
    None,
}

/// The rate of a kind of token.
#[derive(Debug, Serialize, ToSchema)]
struct Rate {
    kind: schema::TokenKind,
    /// Milli-Credits per token.
    #[schema(example = 1_000)]
    rate_milli: u32,
}

/// What one grant paid.
#[derive(Debug, Serialize, ToSchema)]
struct Draw {
    #[schema(value_type = schema::GrantId)]
    grant: GrantId,
    credits: i64,
}

/// A result for each event of a batch, in its order.
#[derive(Debug, Serialize, ToSchema)]
struct Results {
    results: Vec<ResultOfEvent>,
}

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
    source: String,
    /// As the gateway named it.
    event_id: String,
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    model: String,
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
/// with a result for each event in order. What is answered with 2xx is never lost and counts once.
///
/// An event has its token counts in our own kinds, or a vendor's `usage` as it is and the name of its format. It
/// may come as a CloudEvent too, or a batch of them, with all but its `source`, `id` and `time` in `data`.
///
/// Any number of events may come as `application/x-ndjson`, one a line: they are recorded in batches while they
/// arrive, and answered one a line, in order, in the same form. Read the answer while you send. A line with nothing
/// but a `problem` is the last: what was sent from there on was not recorded, and is to be sent again.
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
            Ok(HttpResponse::Ok().json(Results { results }))
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

/// The body of a report: an event, elements that may or may not be events, or lines that are yet to come.
enum EventsBody {
    One(Box<UsageEvent>),
    Many(Vec<Element>),
    Lines(Payload),
}

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Own,
    CloudEvent,
}

/// The media types of reports but for JSON.
const CLOUD_EVENT: &str = "application/cloudevents+json";
const CLOUD_EVENTS: &str = "application/cloudevents-batch+json";
const NDJSON: &str = "application/x-ndjson";

/// A usage event in the JSON of CloudEvents 1.0. Other attributes are passed over.
#[derive(Debug, Deserialize, ToSchema)]
struct CloudEvent {
    #[serde(deserialize_with = "word")]
    #[allow(dead_code, reason = "checked by being read")]
    specversion: SpecVersion,
    #[serde(rename = "type", deserialize_with = "word")]
    #[allow(dead_code, reason = "checked by being read")]
    kind: CloudEventType,
    #[schema(value_type = String, min_length = 1, max_length = 256, pattern = "^[!-~]+$", example = "gateway/eu-1")]
    source: Printable<256>,
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[!-~]+$", example = "req-1")]
    id: Printable<128>,
    /// When the request ran; the time of receipt where left out.
    time: Option<Instant>,
    #[schema(value_type = EventData)]
    data: Box<RawValue>,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
enum SpecVersion {
    #[serde(rename = "1.0")]
    One,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
enum CloudEventType {
    #[serde(rename = "dev.tollgate.usage")]
    Usage,
}

/// 1 to 1,000 events.
#[derive(ToSchema)]
#[schema(min_items = 1, max_items = 1000)]
#[allow(dead_code, reason = "describes the body")]
struct CloudEvents(Vec<CloudEvent>);

/// What a CloudEvent says of a request; see the event of our own form.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EventData {
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "mimo-v2-pro")]
    model: ExternalId,
    #[schema(value_type = UsageOfEvent)]
    usage: Box<RawValue>,
    #[serde(default, deserialize_with = "present_word")]
    #[schema(value_type = schema::UsageFormat, required = false, nullable = false, example = "openai.chat")]
    usage_format: Option<UsageFormat>,
    #[serde(default, deserialize_with = "word")]
    outcome: Outcome,
    #[serde(default, deserialize_with = "word")]
    usage_source: UsageSource,
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "req-1")]
    authorization: Option<ExternalId>,
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "key-7")]
    api_key: Option<ExternalId>,
}

/// An element of a batch, read by itself.
pub(super) struct Element {
    source: Option<String>,
    id: Option<String>,
    event: Result<UsageEvent, Problem>,
}

impl Element {
    /// A line of our own form; one that is no JSON is rejected by itself.
    pub(super) fn of_line(line: &str) -> Result<Element, Error> {
        let raw = serde_json::from_str::<&RawValue>(line).map_err(|_| Error::InvalidJson);
        match raw.and_then(|raw| read_element(Form::Own, raw)) {
            Err(Error::InvalidJson) => {
                Ok(Element { source: None, id: None, event: Err(Problem::of_rejected_json()) })
            }
            read => read,
        }
    }
}

impl FromRequest for EventsBody {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        if is_absent(request) {
            let text = receive(request, payload, BATCH_BYTES_MAX);
            return Box::pin(async move { read_events(Form::Own, &text.await?) });
        }
        let form = match media_type(request).as_deref() {
            Some("application/json") => Form::Own,
            Some(CLOUD_EVENT | CLOUD_EVENTS) => Form::CloudEvent,
            Some(NDJSON) => {
                let lines = EventsBody::Lines(payload.take());
                return Box::pin(async move { Ok(lines) });
            }
            _ => return Box::pin(async { Err(Error::UnsupportedMediaType) }),
        };
        let text = receive_any(request, payload, BATCH_BYTES_MAX);
        Box::pin(async move { read_events(form, &text.await?) })
    }
}

fn read_events(form: Form, text: &str) -> Result<EventsBody, Error> {
    if text.trim_ascii_start().starts_with('[') {
        let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| Error::InvalidJson)?;
        if !(1..=BATCH_EVENTS_MAX).contains(&elements.len()) {
            return Err(Refusal::invalid_field("", "out-of-range").into());
        }
        let elements: Result<Vec<Element>, Error> =
            elements.into_iter().map(|raw| read_element(form, raw)).collect();
        return Ok(EventsBody::Many(elements?));
    }
    if text.len() > BODY_BYTES_MAX {
        return Err(Error::BodyTooLarge { limit_bytes: BODY_BYTES_MAX });
    }
    Ok(EventsBody::One(Box::new(read_event(form, text)?)))
}

fn read_event(form: Form, text: &str) -> Result<UsageEvent, Error> {
    match form {
        Form::Own => read::<Event>(text)?.read(),
        Form::CloudEvent => {
            // Attributes that are not ours are passed over: so the text is looked at by itself.
            check_json(text)?;
            read_json::<CloudEvent>(text)?.read()
        }
    }
}

/// Where an element is no JSON, the batch is none. All else is the element's own affair.
fn read_element(form: Form, raw: &RawValue) -> Result<Element, Error> {
    match check_json(raw.get()) {
        Ok(()) => {}
        Err(NotJson::Syntax) => return Err(Error::InvalidJson),
        Err(NotJson::RepeatedKey) => {
            return Ok(Element { source: None, id: None, event: Err(Problem::of_rejected_json()) });
        }
    }
    Ok(match read_event(form, raw.get()) {
        Ok(event) => {
            let (source, id) = (Some(event.source.clone()), Some(event.id.clone()));
            Element { source, id, event: Ok(event) }
        }
        Err(Error::Service(db::Error::Refused(refusal))) => {
            let Named { source, id } = serde_json::from_str(raw.get()).unwrap_or_default();
            Element { source, id, event: Err(Problem::of_rejected(&refusal)) }
        }
        Err(error) => return Err(error),
    })
}

/// How an element that is no event calls itself, if it does so at all.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    #[serde(deserialize_with = "printable_or_none::<_, 256>")]
    source: Option<String>,
    #[serde(deserialize_with = "printable_or_none::<_, 128>")]
    id: Option<String>,
}

fn printable_or_none<'de, D, const MAX: usize>(deserializer: D) -> Result<Option<String>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(Printable::<MAX>::deserialize(value).ok().map(|text| text.0))
}

/// The places of a batch: rejected, or waiting for the next result.
fn take_readable(elements: Vec<Element>) -> (Vec<ResultOfEvent>, Vec<UsageEvent>) {
    let mut events = Vec::with_capacity(elements.len());
    let place = |Element { source, id, event }| {
        let problem = match event {
            Ok(event) => {
                events.push(event);
                None
            }
            Err(problem) => Some(problem),
        };
        ResultOfEvent { source, id, status: EventStatus::Rejected, receipt: None, quarantine: None, problem }
    };
    let places = elements.into_iter().map(place).collect();
    (places, events)
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

fn fill(mut places: Vec<ResultOfEvent>, results: Vec<EventResult>) -> Result<Vec<ResultOfEvent>, db::Error> {
    let mut results = results.into_iter();
    for place in places.iter_mut().filter(|place| place.problem.is_none()) {
        let result = results.next().ok_or_else(|| db::Error::broken("an event without a result"))?;
        let (source, id) = (place.source.take(), place.id.take());
        *place = ResultOfEvent::of(source, id, result);
    }
    Ok(places)
}

fn respond_to_one(source: String, id: String, result: EventResult) -> Result<HttpResponse, Error> {
    let status = match &result {
        EventResult::Accepted(_) | EventResult::Duplicate(_) => StatusCode::OK,
        EventResult::Unrated(_) | EventResult::Quarantined(_) => StatusCode::ACCEPTED,
        EventResult::Conflict => return Err(Refusal::EventConflict.into()),
        EventResult::Rejected(refusal) => return Err(Error::Rejected(refusal.clone())),
    };
    Ok(HttpResponse::build(status).json(ResultOfEvent::of(Some(source), Some(id), result)))
}

impl ResultOfEvent {
    fn of(source: Option<String>, id: Option<String>, result: EventResult) -> ResultOfEvent {
        let mut quarantine = None;
        let (status, receipt, problem) = match result {
            EventResult::Accepted(receipt) => (EventStatus::Accepted, Some(receipt), None),
            EventResult::Duplicate(receipt) => (EventStatus::Duplicate, Some(receipt), None),
            EventResult::Conflict => {
                (EventStatus::Conflict, None, Some(Problem::of(&Refusal::EventConflict)))
            }
            EventResult::Unrated(receipt) => (EventStatus::Unrated, Some(receipt), None),
            EventResult::Quarantined(why) => {
                quarantine = Some(Quarantine { reason: why.reason.code().to_owned(), message: why.message });
                (EventStatus::Quarantined, None, None)
            }
            EventResult::Rejected(refusal) => {
                (EventStatus::Rejected, None, Some(Problem::of_rejected(&refusal)))
            }
        };
        ResultOfEvent { source, id, status, receipt: receipt.map(Receipt::from), quarantine, problem }
    }
}

impl CloudEvent {
    fn read(self) -> Result<UsageEvent, Error> {
        let data = read::<EventData>(self.data.get()).map_err(|error| within("/data", error))?;
        let event = Event {
            source: self.source,
            id: self.id,
            customer: data.customer,
            model: data.model,
            usage: data.usage,
            usage_format: data.usage_format,
            outcome: data.outcome,
            usage_source: data.usage_source,
            time: self.time,
            authorization: data.authorization,
            api_key: data.api_key,
        };
        event.read().map_err(|error| within("/data", error))
    }
}

impl Event {
    /// Reads its usage too: our own kinds strictly, and a vendor's only as far as it is JSON.
    fn read(self) -> Result<UsageEvent, Error> {
        let json = self.usage.get();
        let usage = match self.usage_format {
            None => Reported::Counts(read::<Counts>(json).map_err(|error| within("/usage", error))?.into()),
            Some(format) => {
                check_json(json)?;
                Reported::Raw { format, json: json.to_owned() }
            }
        };
        Ok(UsageEvent {
            source: self.source.0,
            id: self.id.0,
            customer: self.customer,
            model: self.model.as_str().to_owned(),
            usage,
            outcome: match self.outcome {
                Outcome::Completed => model::Outcome::Completed,
                Outcome::Aborted => model::Outcome::Aborted,
                Outcome::Failed => model::Outcome::Failed,
            },
            usage_source: match self.usage_source {
                UsageSource::Provider => model::UsageSource::Provider,
                UsageSource::Estimate => model::UsageSource::Estimate,
            },
            time: self.time.map(|time| time.0),
            authorization: self.authorization,
            api_key: self.api_key,
            first_received_at: None,
            is_backfill: false,
        })
    }
}

/// A refusal of what lies in a field, by its pointer in the whole.
fn within(field: &str, error: Error) -> Error {
    match error {
        Error::Service(db::Error::Refused(Refusal::InvalidFields(mut errors))) => {
            for error in &mut errors {
                error.pointer.insert_str(0, field);
            }
            Refusal::InvalidFields(errors).into()
        }
        other => other,
    }
}

impl From<Counts> for TokenCounts {
    fn from(counts: Counts) -> Self {
        TokenCounts {
            input: counts.input.0,
            cache_read: counts.cache_read.0,
            cache_write: counts.cache_write.0,
            output: counts.output.0,
            reasoning: counts.reasoning.0,
        }
    }
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
            source: event.source,
            event_id: event.id,
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

impl From<usage::Receipt> for Receipt {
    fn from(receipt: usage::Receipt) -> Self {
        let draws = receipt.draws.iter();
        Receipt {
            credits: receipt.credits.get(),
            overage: receipt.overage.get(),
            payg: receipt.payg.map(MoneyPart::from),
            unrated_reason: receipt.unrated_reason,
            catalog_version: receipt.catalog_version,
            band_prompt_tokens_max: receipt.band_prompt_tokens_max,
            rates: shown(&receipt.rates),
            calls: receipt.calls.into_iter().map(CallOfEvent::from).collect(),
            draws: draws.map(|draw| Draw { grant: draw.grant, credits: draw.credits.get() }).collect(),
            hold: if receipt.no_hold.is_none() { Hold::Captured } else { Hold::None },
            no_hold_reason: receipt.no_hold,
            balance_after: receipt.balance_after.get(),
            account_version: receipt.version,
        }
    }
}

fn shown(rates: &[(model::TokenKind, RateMilli)]) -> Vec<Rate> {
    rates.iter().map(|(kind, rate)| Rate { kind: schema::TokenKind(*kind), rate_milli: rate.0 }).collect()
}

impl From<usage::CallReceipt> for CallOfEvent {
    fn from(call: usage::CallReceipt) -> Self {
        CallOfEvent {
            model: call.model,
            tokens: call.usage.into(),
            credits: call.credits.get(),
            overage: call.overage.get(),
            band_prompt_tokens_max: call.band_prompt_tokens_max,
            rates: shown(&call.rates),
        }
    }
}

impl From<usage::PaygShare> for MoneyPart {
    fn from(share: usage::PaygShare) -> Self {
        let line = |line: &domain::payg::KindAmount| MoneyLine {
            kind: schema::TokenKind(line.kind),
            tokens: line.tokens,
            price_micro: line.price_micro,
            pico: line.pico.to_string(),
        };
        MoneyPart {
            credits: share.credits.get(),
            amount: PaygAmount::from((share.currency, share.pico)),
            past_cap_pico: share.past_cap.to_string(),
            lines: share.lines.iter().map(line).collect(),
            unrated_reason: share.unrated_reason,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn event() -> Value {
        json!({
            "source": "gateway/1",
            "id": "req-1",
            "customer": format!("cus_{:032x}", 1),
            "model": "mimo-v2-pro",
            "usage": {"input": 10, "output": 2},
        })
    }

    fn but(field: &str, value: Value) -> Value {
        let mut event = event();
        event[field] = value;
        event
    }

    fn refused(text: &str) -> String {
        match read_events(Form::Own, text) {
            Ok(_) => "ok".to_owned(),
            Err(Error::InvalidJson) => "400".to_owned(),
            Err(Error::BodyTooLarge { .. }) => "413".to_owned(),
            Err(Error::Service(db::Error::Refused(Refusal::InvalidFields(errors)))) => {
                format!("{} {}", errors[0].pointer, errors[0].code)
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn one_event_is_read_strictly() {
        assert_eq!(refused(&event().to_string()), "ok");
        for (field, value, expected) in [
            ("source", json!(""), "/source not-printable-ascii"),
            ("source", json!("x".repeat(257)), "/source not-printable-ascii"),
            ("id", json!("x".repeat(129)), "/id not-printable-ascii"),
            ("id", json!("caf\u{e9}"), "/id not-printable-ascii"),
            ("model", json!("a/b"), "/model not-an-id"),
            ("customer", json!("someone"), "/customer not-an-id"),
            ("usage", json!(null), "/usage wrong-type"),
            ("usage", json!({"input": -1}), "/usage/input out-of-range"),
            ("usage", json!({"images": 1}), "/usage/images unknown-field"),
            ("outcome", json!("fine"), "/outcome unknown-value"),
            ("outcome", json!({"completed": null}), "/outcome wrong-type"),
            ("usage_source", json!(null), "/usage_source wrong-type"),
            ("time", json!("2026-12-31T23:59:60Z"), "/time not-an-instant"),
            ("credits", json!(1), "/credits unknown-field"),
            ("usage_format", json!("openai"), "/usage_format unknown-value"),
            ("usage_format", json!(null), "/usage_format wrong-type"),
            ("usage_format", json!({"gemini": null}), "/usage_format wrong-type"),
            ("usage", json!([{"input": 1}]), "/usage wrong-type"),
            ("usage", json!({"input": 1.5}), "/usage/input wrong-type"),
        ] {
            assert_eq!(refused(&but(field, value).to_string()), expected, "{field}");
        }
    }

    #[test]
    fn with_a_format_the_usage_is_taken_as_it_is() {
        let with = |usage: &str| event().to_string().replace(r#"{"input":10,"output":2}"#, usage);
        for usage in [r#"{ "a": 1.0, "b": [null] }"#, "null", "7", "[]", r#"{"a": 1e999}"#] {
            assert_ne!(refused(&with(usage)), "ok", "without one it is ours: {usage}");
            let text = with(usage).replacen('{', r#"{"usage_format":"gemini","#, 1);
            let Ok(EventsBody::One(event)) = read_events(Form::Own, &text) else { panic!("{text}") };
            let raw = Reported::Raw { format: UsageFormat::Gemini, json: usage.to_owned() };
            assert_eq!(event.usage, raw);
            let Ok(EventsBody::Many(elements)) = read_events(Form::Own, &format!("[{text}]")) else {
                panic!("{text}")
            };
            assert_eq!(elements[0].event.as_ref().unwrap().usage, raw);
        }
        for usage in
            [r#"{"a": 1, "a": 2}"#, r#"{"a": NaN}"#, &format!("{}{}", "[".repeat(200), "]".repeat(200))]
        {
            assert_eq!(refused(&with(usage).replacen('{', r#"{"usage_format":"gemini","#, 1)), "400");
        }
    }

    #[test]
    fn a_batch_is_an_array_of_1_to_1000() {
        assert_eq!(refused("[]"), " out-of-range");
        let many = |count| json!(vec![event(); count]).to_string();
        assert_eq!(refused(&many(1)), "ok");
        assert_eq!(refused(&many(1_000)), "ok");
        assert_eq!(refused(&many(1_001)), " out-of-range");
        assert_eq!(refused(&"[".repeat(100_000)), "400");
        assert_eq!(refused(&format!("[{}{}]", "[".repeat(200), "]".repeat(200))), "400");
        assert_eq!(refused("[{\"usage\": {\"input\": NaN}}]"), "400");
        assert_eq!(refused(&format!("[{} ", event())), "400");
        assert_eq!(refused("[1e999, {\"a\": 1e999}]"), "ok", "each is its own affair");
        assert_eq!(refused("[{\"a\": 1e999}"), "400");
        assert_eq!(refused("[{\"a\": 1e999}]]"), "400");
        assert_eq!(refused(&format!("{}{}", event(), " ".repeat(BODY_BYTES_MAX))), "413");
    }

    #[test]
    fn in_a_batch_a_bad_element_is_rejected_in_its_place() {
        let batch = format!(
            r#"[{good}, {bad}, 7, {{"id": "a", "id": "b"}}, {unnamed}, {good}]"#,
            good = event(),
            bad = but("usage", json!({"output": 1.5})),
            unnamed = but("source", json!("a b")),
        );
        let Ok(EventsBody::Many(elements)) = read_events(Form::Own, &batch) else { panic!("a batch") };
        let (places, events) = take_readable(elements);
        assert_eq!(events.len(), 2);
        let results =
            fill(places, vec![EventResult::Conflict, EventResult::Rejected(Refusal::AmountOverflow)]);
        let results = json!(results.unwrap());
        let shown: Vec<_> = results
            .as_array()
            .unwrap()
            .iter()
            .map(|result| {
                let problem_type = result["problem"]["type"].as_str().unwrap();
                let code = problem_type.rsplit('/').next().unwrap().to_owned();
                (result["status"].as_str().unwrap().to_owned(), code, result["id"].clone())
            })
            .collect();
        let expected = [
            ("conflict", "event-conflict", json!("req-1")),
            ("rejected", "invalid-field", json!("req-1")),
            ("rejected", "invalid-field", json!(null)),
            ("rejected", "invalid-json", json!(null)),
            ("rejected", "invalid-field", json!("req-1")),
            ("rejected", "amount-overflow", json!("req-1")),
        ];
        let expected: Vec<_> =
            expected.map(|(status, code, id)| (status.to_owned(), code.to_owned(), id)).to_vec();
        assert_eq!(shown, expected);
        assert_eq!(
            results[1]["problem"]["errors"],
            json!([{"pointer": "/usage/output", "code": "wrong-type"}])
        );
        assert_eq!(results[4]["source"], json!(null), "not repeated: it is no source");
    }
}
