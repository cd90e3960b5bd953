//! One HTTP request to a receiver.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use db::{Error, Result};
use domain::Timestamp;
use domain::id::EventId;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Response, StatusCode, redirect};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::OnceCell;
use url::Url;

use crate::secret::Secret;
use crate::store::Delivery;
use crate::{AllowList, url_rules};

/// For the whole of it: resolving, connecting, sending, and the answer.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How much of an answer is read: nothing in it matters, but a receiver should not see its answer
/// cut off.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const USER_AGENT: &str = concat!("Tollgate/", env!("CARGO_PKG_VERSION"), " (webhooks)");
/// What is kept of an error for its reader.
const ERROR_CHARS_MAX: usize = 500;

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Delivered {
        status: u16,
    },
    /// 410: the receiver wants no more.
    Gone,
    Failed {
        status: Option<u16>,
        error: String,
    },
}

/// The body. Those of Standard Webhooks are `type`, `timestamp` and `data`.
#[derive(Serialize)]
struct Message<'a> {
    id: EventId,
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: String,
    /// What it happened to.
    subject: &'a str,
    data: &'a Value,
}

/// Sends to public addresses, and to those that are allowed.
pub(crate) struct Sender {
    allowed: Arc<AllowList>,
    client: OnceCell<Client>,
}

impl Sender {
    pub(crate) fn new(allowed: Arc<AllowList>) -> Sender {
        Sender { allowed, client: OnceCell::new() }
    }

    /// Made when it is first wanted: only a process that sends needs the system's root certificates.
    pub(crate) async fn client(&self) -> Result<&Client> {
        self.client.get_or_try_init(async || build(self.allowed.clone())).await
    }

    pub(crate) async fn send(
        &self,
        client: &Client,
        url: &Url,
        secret: &Secret,
        delivery: &Delivery,
    ) -> Answer {
        // A name is looked at when it is resolved, an address never is.
        if !url_rules::may_connect(url, &self.allowed) {
            return Answer::Failed { status: None, error: Blocked.to_string() };
        }
        let body = match body(delivery) {
            Ok(body) => body,
            Err(error) => return Answer::Failed { status: None, error: error.to_string() },
        };
        let timestamp = Utc::now().timestamp();
        let sent = client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", delivery.event.to_string())
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", secret.signature(delivery.event, timestamp, &body))
            .body(body)
            .send()
            .await;
        match sent {
            Ok(response) => {
                let status = response.status();
                read_some(response).await;
                answer(status)
            }
            Err(error) => Answer::Failed { status: None, error: explain(&error) },
        }
    }
}

fn build(allowed: Arc<AllowList>) -> Result<Client> {
    Client::builder()
        .user_agent(USER_AGENT)
        .timeout(TIMEOUT)
        .redirect(redirect::Policy::none())
        // A proxy would resolve names by itself.
        .no_proxy()
        .dns_resolver(Resolver(allowed))
        // Each attempt resolves and connects anew: messages are rare, and a connection that its
        // receiver has forgotten would fail one.
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|error| Error::Fault(Box::new(error)))
}

fn body(delivery: &Delivery) -> serde_json::Result<String> {
    serde_json::to_string(&Message {
        id: delivery.event,
        kind: &delivery.kind,
        timestamp: rfc3339(delivery.occurred_at),
        subject: &delivery.subject,
        data: &delivery.payload,
    })
}

fn rfc3339(instant: Timestamp) -> String {
    instant.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// The status alone decides.
fn answer(status: StatusCode) -> Answer {
    let code = status.as_u16();
    if status.is_success() {
        Answer::Delivered { status: code }
    } else if status == StatusCode::GONE {
        Answer::Gone
    } else if status.is_redirection() {
        Answer::Failed { status: Some(code), error: format!("answered {code}; redirects are not followed") }
    } else {
        Answer::Failed { status: Some(code), error: format!("answered {code}") }
    }
}

/// Reads the answer's beginning and forgets it. It may break off, or be too slow: the head has told
/// what there is to know.
async fn read_some(mut response: Response) {
    let mut read = 0;
    while read < ANSWER_BYTES_MAX
        && let Ok(Some(chunk)) = response.chunk().await
    {
        read += chunk.len();
    }
}

/// The innermost cause, without the URL.
fn explain(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    let mut cause: &dyn StdError = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string().chars().filter(|c| *c != '\0').take(ERROR_CHARS_MAX).collect()
}

/// The reason of a message that was not sent for where it would have gone.
#[derive(Debug, thiserror::Error)]
#[error("blocked: the host is not on the public internet")]
struct Blocked;

/// Resolves as the system does, and refuses a name of which any address is not permitted. What it
/// returns is what is connected to, so nothing can change in between.
struct Resolver(Arc<AllowList>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.0.clone();
        Box::pin(async move {
            // Port 0 stands for the URL's.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if !found.iter().all(|address| allowed.permits(address.ip())) {
                return Err(Blocked.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use uuid::Uuid;

    #[test]
    fn a_body_is_told_in_one_form() {
        let delivery = Delivery {
            event: EventId::from_uuid(Uuid::from_u128(1)),
            attempts: 0,
            kind: "subscription.activated".to_owned(),
            subject: "sub_1".to_owned(),
            payload: json!({"b": 1, "a": "caf\u{e9}"}),
            occurred_at: domain::time::parse_rfc3339("2026-01-31T10:00:00.5Z").unwrap(),
        };
        assert_eq!(
            body(&delivery).unwrap(),
            "{\"id\":\"evt_00000000000000000000000000000001\",\"type\":\"subscription.activated\",\
             \"timestamp\":\"2026-01-31T10:00:00.500Z\",\"subject\":\"sub_1\",\
             \"data\":{\"a\":\"caf\u{e9}\",\"b\":1}}"
        );
    }

    /// Past the look at the URL's text: a name that gives nothing away is only known when it is resolved.
    #[tokio::test]
    async fn a_name_that_resolves_to_the_inside_is_not_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let accepted = tokio::spawn(async move { listener.accept().await.map(drop) });
        let closed = build(Arc::default()).unwrap();
        let error = closed.post(&url).send().await.unwrap_err();
        assert_eq!(explain(&error), Blocked.to_string());
        assert!(!accepted.is_finished(), "nobody has connected");

        let open = build(Arc::new("127.0.0.1, ::1".parse().unwrap())).unwrap();
        let error = open.post(&url).send().await.unwrap_err();
        assert_ne!(explain(&error), Blocked.to_string());
        accepted.await.unwrap().unwrap();
    }

    #[test]
    fn the_status_decides() {
        for (code, expected) in [
            (200, Answer::Delivered { status: 200 }),
            (204, Answer::Delivered { status: 204 }),
            (410, Answer::Gone),
            (404, Answer::Failed { status: Some(404), error: "answered 404".to_owned() }),
            (429, Answer::Failed { status: Some(429), error: "answered 429".to_owned() }),
            (
                302,
                Answer::Failed {
                    status: Some(302),
                    error: "answered 302; redirects are not followed".to_owned(),
                },
            ),
        ] {
            assert_eq!(answer(StatusCode::from_u16(code).unwrap()), expected);
        }
    }
}
