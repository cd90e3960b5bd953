//! The servers as a client sees them: an answer, or not knowing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::Method;
use serde_json::Value;

use crate::history::{Micros, Outcome, Try, Why};

/// How long a client waits for an answer before it asks again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2_500);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_000);

/// How many server processes there are.
pub(crate) const SERVERS: usize = 2;

/// Both servers. The address of each changes with every restart.
pub(crate) struct Site {
    http: reqwest::Client,
    servers: [Server; SERVERS],
    began: Instant,
}

#[derive(Default)]
struct Server {
    base: Mutex<String>,
    in_flight: AtomicUsize,
}

/// A request to be sent, once or more often.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    /// The tenant's API key.
    pub(crate) bearer: &'a str,
    pub(crate) idempotency_key: Option<&'a str>,
    pub(crate) body: Option<String>,
}

/// An answer that says whether something was done: 2xx or 4xx.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Site {
    pub(crate) fn new() -> anyhow::Result<Site> {
        let http = reqwest::Client::builder()
            .timeout(ATTEMPT_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .build()?;
        Ok(Site { http, servers: Default::default(), began: Instant::now() })
    }

    /// Microseconds since the run began.
    pub(crate) fn now(&self) -> Micros {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn set_base(&self, server: usize, base: &str) {
        *self.servers[server].base.lock().unwrap_or_else(PoisonError::into_inner) = base.to_owned();
    }

    fn base(&self, server: usize) -> String {
        self.servers[server].base.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests that wait for their answer, on both servers.
    pub(crate) fn in_flight(&self) -> usize {
        self.servers.iter().map(|server| server.in_flight.load(Ordering::Relaxed)).sum()
    }

    /// Sends once. Returns what to write down, and the answer where there is one.
    pub(crate) async fn send(&self, server: usize, call: &Call<'_>) -> (Try, Option<Reply>) {
        let url = format!("{}{}", self.base(server), call.path);
        let mut request = self.http.request(call.method.clone(), url).bearer_auth(call.bearer);
        if let Some(key) = call.idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = &call.body {
            request = request.header("Content-Type", "application/json").body(body.clone());
        }
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        let invoked = self.now();
        self.servers[server].in_flight.fetch_add(1, Ordering::Relaxed);
        let answered = answer(request).await;
        self.servers[server].in_flight.fetch_sub(1, Ordering::Relaxed);
        let ended = self.now();
        let (outcome, reply) = match answered {
            Ok(reply) => (outcome_of(reply.status), Some(reply)),
            Err(outcome) => (outcome, None),
        };
        let reply = reply.filter(|_| matches!(outcome, Outcome::Ok(_) | Outcome::Refused(_)));
        (Try { invoked, ended, wall, server, outcome }, reply)
    }

    /// Whether the server says that it can serve.
    pub(crate) async fn is_ready(&self, server: usize) -> bool {
        let request = self.http.get(format!("{}/readyz", self.base(server)));
        request.send().await.is_ok_and(|response| response.status().as_u16() == 200)
    }
}

fn outcome_of(status: u16) -> Outcome {
    match status {
        200..300 => Outcome::Ok(status),
        // The server has not had all of it in time, as one that was frozen: it may be sent again.
        408 => Outcome::Unknown(Why::TimedOut),
        503 => Outcome::Unknown(Why::Unavailable),
        500.. => Outcome::Unknown(Why::Fault),
        _ => Outcome::Refused(status),
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Reply, Outcome> {
    let response = request.send().await.map_err(why)?;
    let status = response.status().as_u16();
    // Cut off in its middle, an answer is none.
    let text = response.text().await.map_err(|_| Outcome::Unknown(Why::Broke))?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(Reply { status, body })
}

fn why(error: reqwest::Error) -> Outcome {
    if error.is_connect() {
        Outcome::NotSent
    } else if error.is_timeout() {
        Outcome::Unknown(Why::TimedOut)
    } else {
        Outcome::Unknown(Why::Broke)
    }
}
