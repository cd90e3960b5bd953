//! Request bodies and query strings: received within limits, then read strictly.
//!
//! A body that is as it should be is read in one go ([`read`]). Any other is looked at in two steps, so
//! that each problem has its own answer. [`check_json`] asks whether the text is JSON at all: syntax,
//! depth, every key once (400 `invalid-json`). [`read_json`] asks whether it is what the route takes:
//! types, ranges, every field known (422 `invalid-field`).

use std::borrow::Cow;
use std::collections::HashSet;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use actix_web::web::BytesMut;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use domain::Refusal;
use domain::refusal::FieldError;
use futures_util::StreamExt;
use serde::de::value::{MapAccessDeserializer, StringDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_path_to_error::Segment;

use crate::error::Error;
use crate::wire::code;

/// The largest body but a batch of usage events.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;
/// The longest that a body may take to arrive.
pub(crate) const BODY_TIME_MAX: Duration = Duration::from_secs(10);
const JSON: &str = "application/json";
/// A key that is longer than any of ours is not repeated in an answer.
const REPEATED_KEY_LENGTH_MAX: usize = 64;

/// A JSON body of one shape.
pub(crate) struct Body<T> {
    pub(crate) value: T,
    text: String,
}

impl<T> Body<T> {
    /// The same, whatever its shape: what a fingerprint is taken of (R-35b).
    pub(crate) fn json(&self) -> Result<Value, Error> {
        serde_json::from_str(&self.text).map_err(|_| NotJson::Syntax.into())
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let text = receive(request, payload, BODY_BYTES_MAX);
        Box::pin(async move {
            let text = text.await?;
            Ok(Body { value: read(&text)?, text })
        })
    }
}

/// That a request has no body where a route takes none; `{}` says the same.
pub(crate) struct NoBody;

impl FromRequest for NoBody {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        // Many clients name a content type whether there is content or not.
        if is_empty(request) {
            return Box::pin(std::future::ready(Ok(NoBody)));
        }
        let body = Body::<Nothing>::from_request(request, payload);
        Box::pin(async move { body.await.map(|Body { value: Nothing {}, text: _ }| NoBody) })
    }
}

/// Receives a body as text. Without a content type and without a body it is `{}`: a client need not
/// send an object of which it would leave out every field.
pub(crate) fn receive(
    request: &HttpRequest,
    payload: &mut Payload,
    limit_bytes: usize,
) -> impl Future<Output = Result<String, Error>> + 'static {
    let is_json = is_absent(request) || media_type(request).is_some_and(|media| media == JSON);
    let checked = if is_json { Ok(()) } else { Err(Error::UnsupportedMediaType) };
    let receiving = receive_any(request, payload, limit_bytes);
    async move {
        checked?;
        receiving.await
    }
}

/// The same, whatever its media type.
pub(crate) fn receive_any(
    request: &HttpRequest,
    payload: &mut Payload,
    limit_bytes: usize,
) -> impl Future<Output = Result<String, Error>> + 'static {
    let is_absent = is_absent(request);
    let checked = check_length(request, limit_bytes);
    let mut payload = payload.take();
    async move {
        checked?;
        if is_absent {
            return Ok("{}".to_owned());
        }
        let receiving = async {
            let mut body = BytesMut::new();
            while let Some(chunk) = payload.next().await {
                let chunk = chunk.map_err(|_| Error::BodyIncomplete)?;
                if body.len() + chunk.len() > limit_bytes {
                    return Err(Error::BodyTooLarge { limit_bytes });
                }
                body.extend_from_slice(&chunk);
            }
            Ok(body)
        };
        let body = tokio::time::timeout(BODY_TIME_MAX, receiving).await.map_err(|_| Error::BodyTimeout)??;
        String::from_utf8(body.into()).map_err(|_| NotJson::Syntax.into())
    }
}

pub(crate) fn is_absent(request: &HttpRequest) -> bool {
    is_empty(request) && !request.headers().contains_key(CONTENT_TYPE)
}

fn is_empty(request: &HttpRequest) -> bool {
    let headers = request.headers();
    let announces_none = headers.get(CONTENT_LENGTH).is_none_or(|length| length.as_bytes() == b"0");
    announces_none && !headers.contains_key(TRANSFER_ENCODING)
}

/// The media type of a body that is UTF-8 and not compressed, without its parameters; none of any other.
pub(crate) fn media_type(request: &HttpRequest) -> Option<Cow<'static, str>> {
    let mut codings = request.headers().get_all(CONTENT_ENCODING);
    if !codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return None;
    }
    // As nearly everybody writes it: nothing to take apart.
    if request.headers().get(CONTENT_TYPE).is_some_and(|media| media == JSON) {
        return Some(Cow::Borrowed(JSON));
    }
    let mime = request.mime_type().ok().flatten()?;
    let is_utf8 = mime.get_param("charset").is_none_or(|charset| charset == "utf-8");
    is_utf8.then(|| Cow::Owned(mime.essence_str().to_owned()))
}

fn check_length(request: &HttpRequest, limit_bytes: usize) -> Result<(), Error> {
    let announced = request.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| usize::try_from(length).is_ok_and(|length| length > limit_bytes)) {
        return Err(Error::BodyTooLarge { limit_bytes });
    }
    Ok(())
}

/// Reads a shape of ours from a text. All of them name every field and take none twice, so what reads as
/// one is JSON with every key once; what does not is looked at again, to say what is wrong with it.
pub(crate) fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Error> {
    if let Ok(Object(value)) = serde_json::from_str(text) {
        return Ok(value);
    }
    check_json(text)?;
    Ok(read_json(text)?)
}

/// Why a text is no JSON that Tollgate reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotJson {
    #[error("the body is not JSON")]
    Syntax,
    /// Which of the two counts?
    #[error("an object has the same key twice")]
    RepeatedKey,
}

/// Checks syntax, depth and keys, whatever the shape.
pub(crate) fn check_json(text: &str) -> Result<(), NotJson> {
    let checked = serde_json::from_str::<WellFormed>(text).or_else(|error| {
        // A number may be well written and too large to be read: whoever reads the field says so. Here
        // it would keep us from looking at the rest.
        let is_too_large = error.to_string().starts_with("number out of range");
        if is_too_large { serde_json::from_str(&without_numbers(text)) } else { Err(error) }
    });
    match checked {
        Ok(WellFormed) => Ok(()),
        // The one error that `WellFormed` itself makes.
        Err(error) if error.is_data() => Err(NotJson::RepeatedKey),
        Err(_) => Err(NotJson::Syntax),
    }
}

/// The text with a `0` for every well-written number. The rest stays as it is, right or wrong.
fn without_numbers(text: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let may_be_number = first == '-' || first.is_ascii_digit();
        let length = match first {
            '"' => string_length(rest),
            _ if may_be_number => rest.find(|c| !is_of_number(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        // Looked at and not converted.
        let is_number = may_be_number && serde_json::from_str::<IgnoredAny>(token).is_ok();
        replaced.push_str(if is_number { "0" } else { token });
        rest = after;
    }
    replaced
}

fn is_of_number(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E')
}

/// How long the string is that `text` begins with, in bytes and with both quotes.
fn string_length(text: &str) -> usize {
    // The quote that it begins with does not end it.
    let mut is_escaped = true;
    let is_end = |c| {
        let is_end = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    };
    text.find(is_end).map_or(text.len(), |end| end + 1)
}

/// Reads a shape from a text that is JSON; every refusal is `invalid-field`.
pub(crate) fn read_json<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Refusal> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let Object(value) = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = pointer(error.path());
        Refusal::InvalidFields(vec![field_error(&error.inner().to_string(), pointer)])
    })?;
    Ok(value)
}

/// The query string of a request. Unknown and repeated parameters are refused.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Error;
    type Future = std::future::Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(read_query(request.query_string()).map(Query).map_err(Error::from))
    }
}

/// That a request has no query string, where a route takes none.
pub(crate) struct NoQuery;

impl FromRequest for NoQuery {
    type Error = Error;
    type Future = std::future::Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        if request.query_string().is_empty() {
            return std::future::ready(Ok(NoQuery));
        }
        let read = read_query::<Nothing>(request.query_string());
        std::future::ready(read.map(|Nothing {}| NoQuery).map_err(Error::from))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

pub(crate) fn read_query<T: DeserializeOwned>(query: &str) -> Result<T, Refusal> {
    let invalid = |pointer: &str, code: &str| Refusal::invalid_field(pointer, code);
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query).map_err(|_| invalid("", "invalid"))?;
    let pairs = pairs.into_inner();
    let mut seen = HashSet::new();
    if let Some((name, _)) = pairs.iter().find(|(name, _)| !seen.insert(name.as_str())) {
        return Err(invalid(repeatable(name).unwrap_or_default(), "repeated"));
    }
    let parameters = pairs.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    serde_path_to_error::deserialize(Value::Object(parameters)).map_err(|error| {
        let mut error = field_error(&error.inner().to_string(), pointer(error.path()));
        error.pointer = error.pointer.trim_start_matches('/').to_owned();
        Refusal::InvalidFields(vec![error])
    })
}

/// A JSON pointer (RFC 6901) to where reading stopped, as far as it can be repeated.
fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => push(&mut pointer, &index.to_string()),
            Segment::Map { key } => match repeatable(key) {
                Some(key) => push(&mut pointer, key),
                None => return pointer,
            },
            Segment::Enum { variant: _ } | Segment::Unknown => return pointer,
        }
    }
    pointer
}

fn push(pointer: &mut String, token: &str) {
    pointer.push('/');
    pointer.push_str(&token.replace('~', "~0").replace('/', "~1"));
}

/// A key that is short and plain. Others are not repeated: who knows what a client put there.
fn repeatable(key: &str) -> Option<&str> {
    let is_plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    (is_plain && (1..=REPEATED_KEY_LENGTH_MAX).contains(&key.len())).then_some(key)
}

/// serde tells its errors apart by their words alone.
fn field_error(message: &str, mut pointer: String) -> FieldError {
    let message = message.split(" at line ").next().unwrap_or(message);
    if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        push(&mut pointer, field);
        return FieldError { pointer, code: "missing".to_owned() };
    }
    let by_words = [
        ("unknown field", "unknown-field"),
        ("unknown variant", "unknown-value"),
        ("invalid type", "wrong-type"),
        ("invalid value", code::OUT_OF_RANGE),
        ("number out of range", code::OUT_OF_RANGE),
        ("not an id", "not-an-id"),
        ("an id is", "not-an-id"),
    ];
    let code = code::ALL
        .into_iter()
        .find(|code| *code == message)
        .or_else(|| by_words.iter().find(|(words, _)| message.starts_with(words)).map(|(_, code)| *code))
        .unwrap_or("invalid");
    FieldError { pointer, code: code.to_owned() }
}

/// A shape that is written as an object. By itself serde would also take an array of the fields'
/// values, in the order of our source code.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Object)
    }
}

/// The same, for a field.
pub(crate) fn object<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Object::deserialize(deserializer).map(|Object(value)| value)
}

/// The same, for a list of them.
pub(crate) fn objects<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let objects = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|Object(value)| value).collect())
}

/// The same, for a field that may be left out, and is never null.
pub(crate) fn present_object<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    object(deserializer).map(Some)
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(entries))
    }
}

/// A value out of a closed list, which is written as a string. By itself serde would also take an
/// object of one key.
struct Word<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        T::deserialize(StringDeserializer::new(word)).map(Word)
    }
}

/// The same, for a field.
pub(crate) fn word<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Word::deserialize(deserializer).map(|Word(value)| value)
}

/// The same, for a field that may be left out, and is never null.
pub(crate) fn present_word<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    word(deserializer).map(Some)
}

/// The same, for a list of them.
pub(crate) fn words<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let words = Vec::<Word<T>>::deserialize(deserializer)?;
    Ok(words.into_iter().map(|Word(value)| value).collect())
}

/// Any JSON value, looked through and thrown away.
struct WellFormed;

impl<'de> Deserialize<'de> for WellFormed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WellFormed)
    }
}

impl<'de> DeserializeSeed<'de> for WellFormed {
    type Value = WellFormed;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<WellFormed, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for WellFormed {
    type Value = WellFormed;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<WellFormed, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<WellFormed, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<WellFormed, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<WellFormed, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<WellFormed, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<WellFormed, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<WellFormed, A::Error> {
        while items.next_element_seed(WellFormed)?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<WellFormed, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if !seen.insert(key) {
                return Err(A::Error::custom("a key is there twice"));
            }
            entries.next_value_seed(WellFormed)?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;
    use domain::id::{CustomerId, ExternalId};

    use crate::wire::{Instant, Printable, TokenCount, present};

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    #[allow(dead_code, reason = "only reading is tested")]
    struct Counts {
        input: TokenCount,
        output: TokenCount,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only reading is tested")]
    struct Sample {
        #[serde(deserialize_with = "object")]
        usage: Counts,
        customer: Option<CustomerId>,
        model: Option<ExternalId>,
        source: Option<Printable<8>>,
        time: Option<Instant>,
        #[serde(default, deserialize_with = "present")]
        limit: Option<TokenCount>,
        #[serde(default, deserialize_with = "word")]
        colour: Colour,
        #[serde(default, deserialize_with = "words")]
        colours: Vec<Colour>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Colour {
        #[default]
        Red,
        Blue,
    }

    /// What a body is answered with: `ok`, `400`, or the 422's pointer and code.
    async fn outcome(body: impl Into<Vec<u8>>) -> String {
        let request = TestRequest::post().insert_header((CONTENT_TYPE, "application/json"));
        outcome_of(request.set_payload(body.into())).await
    }

    async fn outcome_of(request: TestRequest) -> String {
        let (request, mut payload) = request.to_http_parts();
        outcome_of_result(Body::<Sample>::from_request(&request, &mut payload).await)
    }

    fn outcome_of_result<T>(result: Result<T, Error>) -> String {
        match result {
            Ok(_) => "ok".to_owned(),
            Err(Error::InvalidJson(_)) => "400".to_owned(),
            Err(Error::UnsupportedMediaType) => "415".to_owned(),
            Err(Error::BodyTooLarge { .. }) => "413".to_owned(),
            Err(Error::Service(db::Error::Refused(Refusal::InvalidFields(errors)))) => {
                errors.iter().map(|error| format!("{} {}", error.pointer, error.code)).collect()
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[actix_web::test]
    async fn a_count_of_tokens_is_an_integer_and_no_mistake_in_magnitude() {
        for (count, expected) in [
            ("0", "ok"),
            ("1000000000000", "ok"),
            ("1000000000001", "/usage/input amount-overflow"),
            ("-1", "/usage/input out-of-range"),
            ("-0", "/usage/input wrong-type"),
            ("1.5", "/usage/input wrong-type"),
            ("1e3", "/usage/input wrong-type"),
            ("\"5\"", "/usage/input wrong-type"),
            ("null", "/usage/input wrong-type"),
            ("[1]", "/usage/input wrong-type"),
            ("9223372036854775808", "/usage/input amount-overflow"),
            ("18446744073709551616", "/usage/input wrong-type"),
            ("1e999", "/usage/input out-of-range"),
            ("NaN", "400"),
            ("Infinity", "400"),
            ("-Infinity", "400"),
            ("01", "400"),
            ("+1", "400"),
            ("0x10", "400"),
        ] {
            assert_eq!(outcome(format!(r#"{{"usage": {{"input": {count}}}}}"#)).await, expected, "{count}");
        }
    }

    #[actix_web::test]
    async fn each_problem_of_a_body_has_its_answer() {
        let deep = format!(r#"{{"usage": {{}}, "x": {}{}}}"#, "[".repeat(200), "]".repeat(200));
        let long_key = format!(r#"{{"usage": {{}}, "{}": 1}}"#, "k".repeat(1_000));
        for (body, expected) in [
            (r#"{"usage": {}}"#, "ok"),
            (r#" {"usage": {"input": 1, "output": 2}} "#, "ok"),
            ("", "400"),
            ("{", "400"),
            (r#"{"usage": {}} x"#, "400"),
            (r#"{"usage": {},}"#, "400"),
            (r#"{'usage': {}}"#, "400"),
            (r#"{"usage": {"input": 1, "input": 1}}"#, "400"),
            (r#"{"usage": {}, "usage": {}}"#, "400"),
            (r#"{"usage": {}, "nobody": {"a": 1, "a": 2}}"#, "400"),
            (r#"{"usage": {}, "source": "\ud800"}"#, "400"),
            ("{\"usage\": {}, \"source\": \"a\nb\"}", "400"),
            (&deep, "400"),
            ("null", " wrong-type"),
            ("[]", " wrong-type"),
            ("{}", "/usage missing"),
            (r#"{"usage": []}"#, "/usage wrong-type"),
            (r#"{"usage": [1, 2]}"#, "/usage wrong-type"),
            (r#"{"usage": {}, "tenant_id": "x"}"#, "/tenant_id unknown-field"),
            (r#"{"usage": {"image": 1}}"#, "/usage/image unknown-field"),
            (r#"{"usage": {}, "__proto__": {}}"#, "/__proto__ unknown-field"),
            (r#"{"usage": {}, "a b": 1}"#, " unknown-field"),
            (&long_key, " unknown-field"),
            (r#"{"usage": {}, "customer": "cus_1"}"#, "/customer not-an-id"),
            (r#"{"usage": {}, "customer": 7}"#, "/customer wrong-type"),
            (r#"{"usage": {}, "model": "a b"}"#, "/model not-an-id"),
            (r#"{"usage": {}, "source": "a b"}"#, "/source not-printable-ascii"),
            (r#"{"usage": {}, "source": "123456789"}"#, "/source not-printable-ascii"),
            (r#"{"usage": {}, "source": "a\u0000"}"#, "/source not-printable-ascii"),
            (r#"{"usage": {}, "time": "2026-01-31T10:00:00"}"#, "/time not-an-instant"),
            (r#"{"usage": {}, "time": null, "limit": 7}"#, "ok"),
            (r#"{"usage": {}, "limit": null}"#, "/limit wrong-type"),
            (r#"{"usage": {}, "colour": "blue", "colours": ["red", "blue"]}"#, "ok"),
            (r#"{"usage": {}, "colour": "green"}"#, "/colour unknown-value"),
            (r#"{"usage": {}, "colour": "Red"}"#, "/colour unknown-value"),
            (r#"{"usage": {}, "colour": {"blue": null}}"#, "/colour wrong-type"),
            (r#"{"usage": {}, "colour": null}"#, "/colour wrong-type"),
            (r#"{"usage": {}, "colour": 1}"#, "/colour wrong-type"),
            (r#"{"usage": {}, "colours": null}"#, "/colours wrong-type"),
            (r#"{"usage": {}, "colours": ["blue", {"red": null}]}"#, "/colours/1 wrong-type"),
            (r#"{"usage": {}, "colours": [null]}"#, "/colours/0 wrong-type"),
            (r#"{"usage": {}, "colours": ["green"]}"#, "/colours/0 unknown-value"),
        ] {
            assert_eq!(outcome(body).await, expected, "{body}");
        }
        assert_eq!(outcome(b"{\"usage\": {}, \"source\": \"\xff\"}".to_vec()).await, "400");
        assert_eq!(outcome("[".repeat(100_000)).await, "400");
    }

    #[actix_web::test]
    async fn a_number_that_is_too_large_hides_nothing_of_the_rest() {
        let long = format!(r#"{{"usage": {{"input": {}}}}}"#, "9".repeat(400));
        let deep = format!(r#"{{"a": 1e999, "b": {}{}}}"#, "[".repeat(200), "]".repeat(200));
        for (body, expected) in [
            (r#"{"usage": {"input": 1e999}}"#, "/usage/input out-of-range"),
            (r#"{"usage": {"input": -1.5E+999}}"#, "/usage/input out-of-range"),
            (&long, "/usage/input out-of-range"),
            (r#"{"usage": {"input": 1e999}, "source": "a\"1e\\"}"#, "/usage/input out-of-range"),
            (r#"{"usage": {"input": 1e999}, "usage": {}}"#, "400"),
            (r#"{"a": 1e999, "b": {"c": 1, "c": 1}}"#, "400"),
            (r#"{"a": 1e999,"#, "400"),
            (r#"{"a": 1e999}}}"#, "400"),
            (r#"{"a": 1e999, "b": "\ud800"}"#, "400"),
            (r#"{"a": 1e999, "b": "}"#, "400"),
            (r#"{"a": 1e999, "b": "\"}"#, "400"),
            ("{\"a\": 1e999, \"b\": \"c\nd\"}", "400"),
            ("{\"a\": 1e999, \"caf\u{e9}\": 1, \u{e9}}", "400"),
            (r#"{"a": 1e999, "b": 01}"#, "400"),
            (r#"{"a": 1e999, "b": 1e}"#, "400"),
            (r#"{"a": 1e999-}"#, "400"),
            (r#"{"a": 1e999 1}"#, "400"),
            (r#"{"a": 1e9991e999}"#, "400"),
            (r#"{"a": 1e999, 1: 1}"#, "400"),
            (&deep, "400"),
        ] {
            assert_eq!(outcome(body).await, expected, "{body}");
        }
    }

    #[actix_web::test]
    async fn where_none_is_taken_a_body_is_absent_or_an_empty_object() {
        let json = || TestRequest::delete().insert_header((CONTENT_TYPE, "application/json"));
        let untyped = || TestRequest::delete().set_payload("{}");
        for (request, expected) in [
            (TestRequest::delete(), "ok"),
            (TestRequest::delete().insert_header((CONTENT_LENGTH, 0)), "ok"),
            (json(), "ok"),
            (json().insert_header((CONTENT_LENGTH, 2)).set_payload("{}"), "ok"),
            (json().insert_header((TRANSFER_ENCODING, "chunked")).set_payload(" { } "), "ok"),
            (json().insert_header((CONTENT_LENGTH, 8)).set_payload(r#"{"a": 1}"#), "/a unknown-field"),
            (json().insert_header((CONTENT_LENGTH, 2)).set_payload("[]"), " wrong-type"),
            (json().insert_header((CONTENT_LENGTH, 4)).set_payload("null"), " wrong-type"),
            (json().insert_header((CONTENT_LENGTH, 1)).set_payload("{"), "400"),
            (json().insert_header((CONTENT_LENGTH, BODY_BYTES_MAX + 1)), "413"),
            (untyped().insert_header((CONTENT_LENGTH, 2)), "415"),
            (untyped().insert_header((TRANSFER_ENCODING, "chunked")), "415"),
        ] {
            let (request, mut payload) = request.to_http_parts();
            let result = NoBody::from_request(&request, &mut payload).await;
            assert_eq!(outcome_of_result(result), expected, "{request:?}");
        }
    }

    #[actix_web::test]
    async fn a_body_is_json_in_utf8_as_it_is() {
        for (content_type, expected) in [
            ("application/json", "ok"),
            ("application/json; charset=utf-8", "ok"),
            ("Application/JSON; charset=UTF-8", "ok"),
            ("application/json; charset=utf-16", "415"),
            ("application/problem+json", "415"),
            ("text/plain", "415"),
            ("application/x-www-form-urlencoded", "415"),
            ("nonsense", "415"),
        ] {
            let request = TestRequest::post().insert_header((CONTENT_TYPE, content_type));
            assert_eq!(outcome_of(request.set_payload(r#"{"usage": {}}"#)).await, expected, "{content_type}");
        }
        let untyped = TestRequest::post().insert_header((CONTENT_LENGTH, 13));
        assert_eq!(outcome_of(untyped.set_payload(r#"{"usage": {}}"#)).await, "415");
        for (coding, expected) in [("identity", "ok"), ("gzip", "415"), ("br", "415")] {
            let request = TestRequest::post()
                .insert_header((CONTENT_TYPE, "application/json"))
                .insert_header((CONTENT_ENCODING, coding));
            assert_eq!(outcome_of(request.set_payload(r#"{"usage": {}}"#)).await, expected, "{coding}");
        }
        assert_eq!(outcome_of(TestRequest::post()).await, "/usage missing", "no body is an empty object");
    }

    #[actix_web::test]
    async fn a_body_above_the_limit_is_refused_announced_or_not() {
        let announced = TestRequest::post()
            .insert_header((CONTENT_TYPE, "application/json"))
            .insert_header((CONTENT_LENGTH, BODY_BYTES_MAX + 1));
        assert_eq!(outcome_of(announced).await, "413");
        assert_eq!(outcome(vec![b' '; BODY_BYTES_MAX + 1]).await, "413");
        let mut at_limit = vec![b' '; BODY_BYTES_MAX];
        at_limit[..13].copy_from_slice(br#"{"usage": {}}"#);
        assert_eq!(outcome(at_limit).await, "ok");
    }

    #[test]
    fn a_query_names_each_known_parameter_once() {
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Params {
            customer: Option<CustomerId>,
            cursor: Option<String>,
        }
        let read = |query| match read_query::<Params>(query) {
            Ok(params) => format!("{:?}", params.cursor),
            Err(Refusal::InvalidFields(errors)) => format!("{} {}", errors[0].pointer, errors[0].code),
            Err(refusal) => refusal.to_string(),
        };
        assert_eq!(read(""), "None");
        assert_eq!(read("cursor=a%20b"), r#"Some("a b")"#);
        assert_eq!(read("cursor=a&cursor=b"), "cursor repeated");
        assert_eq!(read("customer=cus_1"), "customer not-an-id");
        assert_eq!(read("offset=1"), "offset unknown-field");
        assert_eq!(read("a[b]=1"), " unknown-field");
        assert!(read_query::<Nothing>("").is_ok());
        assert_eq!(read_query::<Nothing>("a=1").err(), Some(Refusal::invalid_field("a", "unknown-field")));
    }
}
