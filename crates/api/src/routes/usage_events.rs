//! How usage events arrive: our own JSON or CloudEvents; one, a batch, or lines.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use domain::Refusal;
use domain::id::{CustomerId, ExternalId};
use domain::usage as model;
use domain::usage::TokenCounts;
use domain::usage_format::UsageFormat;
use serde::Deserialize;
use serde_json::value::RawValue;
use usage::{BATCH_EVENTS_MAX, Reported, UsageEvent};
use utoipa::openapi::schema::{AnyOfBuilder, ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::body::{
    BODY_BYTES_MAX, NotJson, check_json, is_absent, media_type, present_word, read, read_json, receive,
    receive_any, word,
};
use crate::error::{Error, Problem};
use crate::schema;
use crate::wire::{Instant, Printable, TokenCount};

/// The largest body with a batch of events.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// What a gateway reports after a request. `source` and `id` together name the event: it counts once,
/// however often it is sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Event<'a> {
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
    #[serde(borrow)]
    #[schema(value_type = UsageOfEvent)]
    usage: &'a RawValue,
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
pub(super) enum OneOrMany {
    One(Box<Event<'static>>),
    Many(Batch),
}

/// 1 to 1,000 events.
#[derive(ToSchema)]
#[schema(min_items = 1, max_items = 1000)]
#[allow(dead_code, reason = "describes the body")]
pub(super) struct Batch(Vec<Event<'static>>);

/// The body of a report: an event, elements that may or may not be events, or lines that are yet to come.
pub(super) enum EventsBody {
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
pub(super) const NDJSON: &str = "application/x-ndjson";

/// A usage event in the JSON of CloudEvents 1.0. Other attributes are passed over.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct CloudEvent<'a> {
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
    #[serde(borrow)]
    #[schema(value_type = EventData)]
    data: &'a RawValue,
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
pub(super) struct CloudEvents(Vec<CloudEvent<'static>>);

/// What a CloudEvent says of a request; see the event of our own form.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EventData<'a> {
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "mimo-v2-pro")]
    model: ExternalId,
    #[serde(borrow)]
    #[schema(value_type = UsageOfEvent)]
    usage: &'a RawValue,
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
    pub(super) source: Option<Printable<256>>,
    pub(super) id: Option<Printable<128>>,
    pub(super) event: Result<UsageEvent, Problem>,
}

impl Element {
    /// A line of our own form; one that is no JSON is rejected by itself.
    pub(super) fn of_line(line: &str) -> Result<Element, Error> {
        let raw = serde_json::from_str::<&RawValue>(line).map_err(|_| NotJson::Syntax.into());
        match raw.and_then(|raw| read_element(Form::Own, raw)) {
            Err(Error::InvalidJson(why)) => Ok(Element::of_no_json(why)),
            read => read,
        }
    }

    fn of_no_json(why: NotJson) -> Element {
        Element { source: None, id: None, event: Err(Problem::of_rejected_json(why)) }
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
        let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| NotJson::Syntax)?;
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
    Ok(match read_event(form, raw.get()) {
        Ok(event) => {
            let (source, id) = (Printable(event.source.clone()), Printable(event.id.clone()));
            Element { source: Some(source), id: Some(id), event: Ok(event) }
        }
        Err(Error::Service(db::Error::Refused(refusal))) => {
            let Named { source, id } = serde_json::from_str(raw.get()).unwrap_or_default();
            Element { source, id, event: Err(Problem::of_rejected(&refusal)) }
        }
        Err(Error::InvalidJson(why @ NotJson::RepeatedKey)) => Element::of_no_json(why),
        Err(error) => return Err(error),
    })
}

/// How an element that is no event calls itself, if it does so at all.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    #[serde(deserialize_with = "printable_or_none")]
    source: Option<Printable<256>>,
    #[serde(deserialize_with = "printable_or_none")]
    id: Option<Printable<128>>,
}

fn printable_or_none<'de, D, const MAX: usize>(deserializer: D) -> Result<Option<Printable<MAX>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(Printable::deserialize(value).ok())
}

impl CloudEvent<'_> {
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

impl Event<'_> {
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
            model: self.model,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::usage_receipts::{fill, take_readable};
    use serde_json::{Value, json};
    use usage::EventResult;

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
            Err(Error::InvalidJson(_)) => "400".to_owned(),
            Err(Error::BodyTooLarge { .. }) => "413".to_owned(),
            Err(Error::Service(db::Error::Refused(Refusal::InvalidFields(errors)))) => {
                format!("{} {}", errors[0].pointer, errors[0].code)
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn an_event_with_a_key_twice_is_told_so_and_the_others_are_read() {
        let text = format!(r#"[{}, {{"source": "a", "source": "b"}}]"#, event());
        let Ok(EventsBody::Many(elements)) = read_events(Form::Own, &text) else { panic!("no batch") };
        assert!(elements[0].event.is_ok());
        let problem = serde_json::to_value(elements[1].event.as_ref().err()).unwrap();
        assert_eq!(problem["detail"], "an object has the same key twice");
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
