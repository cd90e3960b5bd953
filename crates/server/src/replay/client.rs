//! Asks the HTTP API, as a gateway does: patiently, and under ids that make asking again safe.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use domain::id::{CustomerId, ExternalId};
use domain::usage::TokenCounts;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::shutdown::Stop;

/// With a request's id, what makes its usage count once.
const EVENT_SOURCE: &str = "urn:tollgate:replay";
/// How long one request of the trace is tried again while the API is away or busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same for the balance, which is read before the first request and after the last.
const BALANCE_PATIENCE: Duration = Duration::from_secs(5);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The first pause between two tries; each next one is twice as long, up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// What a request and its event are about.
pub(crate) struct Request<'a> {
    /// The authorization's id and the event's.
    pub(crate) id: String,
    pub(crate) model: &'a ExternalId,
    pub(crate) usage: TokenCounts,
}

/// The answer to "may this request start?".
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Authorized {
    Granted,
    /// An earlier run was granted it; the usage may or may not have been sent.
    Before,
    OutOfCredits,
}

/// What became of a usage event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    Accepted(Charge),
    Duplicate(Charge),
    /// Kept, and charged once there is a rate for it.
    Unrated,
}

/// What an event cost, in Credits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Charge {
    /// Drawn from grants.
    pub(crate) charged: u64,
    /// What no grant paid for.
    pub(crate) overage: u64,
}

/// A customer's Credits.
#[derive(Debug, Deserialize)]
pub(crate) struct Balance {
    /// What the live grants have left.
    pub(crate) settled: u64,
    /// What running authorizations set aside of it.
    pub(crate) held: u64,
}

/// Why there is no answer to go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The API said no, or something that makes no sense.
    Failed(String),
    /// It was away or busy for as long as patience lasts.
    Away(String),
    /// It was away or busy, and the run was stopped meanwhile.
    Interrupted(String),
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoAnswer::Failed(why) | NoAnswer::Away(why) | NoAnswer::Interrupted(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for NoAnswer {}

/// An answer, and how long it took.
pub(crate) struct Timed<T> {
    pub(crate) answer: Result<T, NoAnswer>,
    /// Of the try that was answered; none if none was.
    pub(crate) elapsed: Option<Duration>,
}

/// Speaks for one key and one customer.
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    customer: CustomerId,
    retries: AtomicU64,
    stop: Stop,
}

impl Client {
    pub(crate) fn new(url: &Url, key: &str, customer: CustomerId, stop: Stop) -> anyhow::Result<Client> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {key}"))
            .map_err(|_| anyhow::anyhow!("the API key is not printable ASCII"))?;
        bearer.set_sensitive(true);
        let http = reqwest::Client::builder()
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            // The environment's proxy is for the world outside.
            .no_proxy()
            .build()
            .context("cannot make an HTTP client")?;
        let base = url.as_str().trim_end_matches('/').to_owned();
        Ok(Client { http, base, customer, retries: AtomicU64::new(0), stop })
    }

    /// How often a request was sent again.
    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    pub(crate) async fn authorize(&self, request: &Request<'_>) -> Timed<Authorized> {
        let TokenCounts { input, cache_read, cache_write, output, .. } = request.usage;
        let body = json!({
            "id": request.id,
            "customer": self.customer,
            "model": request.model,
            "prompt": { "input": input, "cache_read": cache_read, "cache_write": cache_write },
            "max_output_tokens": output,
        });
        self.ask(Question::post("authorize", "/v1/authorizations", &body), authorized).await
    }

    /// Reports the usage, naming the authorization. No time is sent: the event is the same event
    /// whenever it is sent.
    pub(crate) async fn record(&self, request: &Request<'_>) -> Timed<Recorded> {
        let TokenCounts { input, cache_read, cache_write, output, .. } = request.usage;
        let body = json!({
            "source": EVENT_SOURCE,
            "id": request.id,
            "customer": self.customer,
            "model": request.model,
            "usage": { "input": input, "cache_read": cache_read, "cache_write": cache_write, "output": output },
            "authorization": request.id,
        });
        self.ask(Question::post("usage event", "/v1/usage/events", &body), recorded).await
    }

    pub(crate) async fn balance(&self) -> Result<Balance, NoAnswer> {
        let path = format!("/v1/customers/{}/balance", self.customer);
        let read = |status, body: &Value| match status {
            StatusCode::OK => Balance::deserialize(body).ok(),
            _ => None,
        };
        let question = Question { what: "balance", path: &path, body: None, patience: BALANCE_PATIENCE };
        self.ask(question, read).await.answer
    }

    /// Sends a request until it is answered, or patience is at its end. `read` makes sense of the
    /// answer, or does not.
    async fn ask<T>(
        &self,
        question: Question<'_>,
        read: impl Fn(StatusCode, &Value) -> Option<T>,
    ) -> Timed<T> {
        let Question { what, path, body, patience } = question;
        let url = format!("{}{path}", self.base);
        let give_up_at = Instant::now() + patience;
        let mut pause = PAUSE_FIRST;
        loop {
            let request = match body {
                Some(body) => self.http.post(&url).json(body),
                None => self.http.get(&url),
            };
            let left = give_up_at.saturating_duration_since(Instant::now());
            let request = request.timeout(ATTEMPT_TIMEOUT.min(left));
            let (why, at_least) = match attempt(request).await {
                Ok(Answer { status, body, elapsed, .. }) if !is_try_again(status, &body) => {
                    let answer = read(status, &body)
                        .ok_or_else(|| NoAnswer::Failed(format!("{what}: {}", describe(status, &body))));
                    return Timed { answer, elapsed: Some(elapsed) };
                }
                Ok(answer) => (describe(answer.status, &answer.body), answer.retry_after),
                Err(why) => (why, None),
            };
            let why = format!("{what}: {why}");
            let wait = jittered(at_least.unwrap_or(pause));
            if Instant::now() + wait >= give_up_at {
                return Timed { answer: Err(NoAnswer::Away(why)), elapsed: None };
            }
            if self.is_stopped_within(wait).await {
                return Timed { answer: Err(NoAnswer::Interrupted(why)), elapsed: None };
            }
            pause = (pause * 2).min(PAUSE_MAX);
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn is_stopped_within(&self, wait: Duration) -> bool {
        let mut stop = self.stop.clone();
        tokio::time::timeout(wait, stop.wait_for(|stop| *stop)).await.is_ok()
    }
}

/// What is asked, with a body or for reading.
struct Question<'a> {
    what: &'static str,
    path: &'a str,
    body: Option<&'a Value>,
    /// How long it is asked again while the API is away or busy.
    patience: Duration,
}

impl<'a> Question<'a> {
    fn post(what: &'static str, path: &'a str, body: &'a Value) -> Question<'a> {
        Question { what, path, body: Some(body), patience: PATIENCE }
    }
}

struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    /// Null where it is no JSON.
    body: Value,
    elapsed: Duration,
}

async fn attempt(request: RequestBuilder) -> Result<Answer, String> {
    let asked_at = Instant::now();
    let told = |error: reqwest::Error| format!("{:#}", anyhow::Error::from(error.without_url()));
    let response = request.send().await.map_err(told)?;
    let (status, retry_after) = (response.status(), retry_after(response.headers()));
    let bytes = response.bytes().await.map_err(told)?;
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Ok(Answer { status, retry_after, body, elapsed: asked_at.elapsed() })
}

/// In seconds; a date is passed over, and the usual pause made.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Up to a quarter longer, so that those who were turned away together do not come back together.
fn jittered(wait: Duration) -> Duration {
    let part = getrandom::u32().map_or(0, |random| random % 256);
    wait + wait / 1_024 * part
}

/// Whether the API, or a proxy before it, says that it cannot answer just now. A tenant may have
/// chosen 429 for "out of Credits", and that is an answer.
fn is_try_again(status: StatusCode, body: &Value) -> bool {
    let is_busy = matches!(
        status,
        StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::GATEWAY_TIMEOUT
            | StatusCode::REQUEST_TIMEOUT
    );
    is_busy && !is_out_of_credits(body)
}

fn is_out_of_credits(body: &Value) -> bool {
    body["error"]["code"] == "insufficient_quota"
}

/// The code of a problem: the last part of its type.
fn problem_code(body: &Value) -> Option<&str> {
    body["type"].as_str()?.rsplit('/').next()
}

fn describe(status: StatusCode, body: &Value) -> String {
    match (problem_code(body), body["detail"].as_str()) {
        (Some(code), Some(detail)) => format!("{} {code}: {detail}", status.as_u16()),
        _ => format!("{status}, in a shape that is not Tollgate's"),
    }
}

fn authorized(status: StatusCode, body: &Value) -> Option<Authorized> {
    match status {
        StatusCode::CREATED => Some(Authorized::Granted),
        StatusCode::CONFLICT if problem_code(body) == Some("authorization-ended") => Some(Authorized::Before),
        _ if is_out_of_credits(body) => Some(Authorized::OutOfCredits),
        _ => None,
    }
}

fn recorded(status: StatusCode, body: &Value) -> Option<Recorded> {
    match (status, body["status"].as_str()?) {
        (StatusCode::OK, "accepted") => charge(body).map(Recorded::Accepted),
        (StatusCode::OK, "duplicate") => charge(body).map(Recorded::Duplicate),
        (StatusCode::ACCEPTED, "unrated") => Some(Recorded::Unrated),
        _ => None,
    }
}

fn charge(body: &Value) -> Option<Charge> {
    let receipt = &body["receipt"];
    let (credits, overage) = (receipt["credits"].as_u64()?, receipt["overage"].as_u64()?);
    Some(Charge { charged: credits.checked_sub(overage)?, overage })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(code: &str) -> Value {
        json!({"type": format!("https://tollgate.dev/problems/{code}"), "title": "T", "detail": "a sentence"})
    }

    fn out_of_credits() -> Value {
        json!({"type": "error", "error": {"type": "billing_error", "code": "insufficient_quota"}})
    }

    #[test]
    fn an_authorization_is_granted_ended_refused_or_none_of_these() {
        let authorized = |status: u16, body: Value| authorized(StatusCode::from_u16(status).unwrap(), &body);
        assert_eq!(authorized(201, json!({"id": "x"})), Some(Authorized::Granted));
        assert_eq!(authorized(409, problem("authorization-ended")), Some(Authorized::Before));
        for status in [402, 403, 429] {
            assert_eq!(authorized(status, out_of_credits()), Some(Authorized::OutOfCredits));
        }
        for (status, code) in [
            (402, "subscription-suspended"),
            (403, "insufficient-scope"),
            (409, "authorization-reused"),
            (422, "not-rated"),
            (500, "internal"),
        ] {
            assert_eq!(authorized(status, problem(code)), None, "{code}");
        }
    }

    #[test]
    fn an_event_is_accepted_known_or_unrated_and_its_receipt_says_the_charge() {
        let recorded = |status: u16, body: Value| recorded(StatusCode::from_u16(status).unwrap(), &body);
        let result = |status: &str, credits: i64, overage: i64| json!({"status": status, "receipt": {"credits": credits, "overage": overage}});
        let charge = Charge { charged: 70, overage: 30 };
        assert_eq!(recorded(200, result("accepted", 100, 30)), Some(Recorded::Accepted(charge)));
        assert_eq!(recorded(200, result("duplicate", 100, 30)), Some(Recorded::Duplicate(charge)));
        assert_eq!(recorded(202, result("unrated", 0, 0)), Some(Recorded::Unrated));
        for nonsense in [
            (200, result("accepted", 30, 100)),
            (200, result("accepted", -1, 0)),
            (200, json!({"status": "accepted"})),
            (200, Value::Null),
            (409, problem("event-conflict")),
        ] {
            assert_eq!(recorded(nonsense.0, nonsense.1.clone()), None, "{}", nonsense.1);
        }
    }

    #[test]
    fn only_an_api_that_cannot_answer_is_asked_again() {
        let is_try_again =
            |status: u16, body: &Value| is_try_again(StatusCode::from_u16(status).unwrap(), body);
        for status in [408, 429, 502, 503, 504] {
            assert!(is_try_again(status, &Value::Null), "{status}");
        }
        for status in [200, 400, 401, 402, 404, 409, 422, 500] {
            assert!(!is_try_again(status, &problem("any")), "{status}");
        }
        assert!(!is_try_again(429, &out_of_credits()));
    }

    #[test]
    fn a_pause_is_at_least_what_was_asked_for_and_little_more() {
        for _ in 0..100 {
            let wait = jittered(Duration::from_secs(2));
            assert!(
                (Duration::from_millis(2_000)..=Duration::from_millis(2_500)).contains(&wait),
                "{wait:?}"
            );
        }
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("Wed, 21 Oct 2026 07:28:00 GMT"));
        assert_eq!(retry_after(&headers), None);
    }
}
