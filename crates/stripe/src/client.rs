//! One call: a typed request sent, its answer read.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use stripe_client_core::{StripeMethod, StripeRequest};
use url::Url;

use crate::{Intent, Secret};

/// Where Stripe's API is, and how long it is waited for.
#[derive(Debug, Clone)]
pub struct Options {
    /// `https://api.stripe.com`, but in tests.
    pub api: Url,
    /// How long one call may take.
    pub timeout: Duration,
}

/// A handle on Stripe's API; cheap to clone. Whose account it acts for, each call says.
#[derive(Debug, Clone)]
pub struct Stripe {
    http: reqwest::Client,
    api: Url,
}

/// Why a call has no answer to go on with.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// Whether it has had an effect is unknown: look, or ask again with the same key.
    #[error("the outcome at Stripe is unknown: {0}")]
    Unknown(String),
    /// Stripe said no. It has taken nothing by this call.
    #[error(transparent)]
    Denied(Box<Denied>),
}

/// Stripe's no.
#[derive(Debug, Clone, thiserror::Error)]
#[error("Stripe refuses with {status}: {kind} {code:?} {param:?}")]
pub struct Denied {
    pub status: u16,
    /// `card_error`, `invalid_request_error`, `idempotency_error` and others.
    pub kind: String,
    pub code: Option<String>,
    /// The bank's reason, of a card error.
    pub decline_code: Option<String>,
    pub param: Option<String>,
    /// The payment intent as it stands then, where the error is about one.
    pub intent: Option<Intent>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorObject,
}

#[derive(Deserialize)]
struct ErrorObject {
    #[serde(rename = "type")]
    kind: String,
    code: Option<String>,
    decline_code: Option<String>,
    param: Option<String>,
    payment_intent: Option<serde_json::Value>,
}

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 << 20;

impl Stripe {
    /// Fails where no TLS can be had.
    pub fn new(options: Options) -> Result<Stripe, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(options.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent("tollgate")
            .build()?;
        Ok(Stripe { http, api: options.api })
    }

    /// Sends a request once. `idempotency_key` belongs to whatever changes something.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        key: &Secret,
        request: &impl StripeRequest,
        idempotency_key: Option<&str>,
    ) -> Result<T, CallError> {
        let request = request.build();
        let mut url = self.api.clone();
        url.set_path(&format!("/v1{}", request.path));
        url.set_query(request.query.as_deref().filter(|query| !query.is_empty()));
        let method = match request.method {
            StripeMethod::Get => Method::GET,
            StripeMethod::Post => Method::POST,
            StripeMethod::Delete => Method::DELETE,
        };
        let mut headers = HeaderMap::new();
        headers.insert("stripe-version", HeaderValue::from_static(stripe_client_core::VERSION.as_str()));
        if let Some(idempotency_key) = idempotency_key {
            let value = HeaderValue::from_str(idempotency_key).map_err(unknown)?;
            headers.insert("idempotency-key", value);
        }
        let mut sent = self.http.request(method, url).headers(headers).bearer_auth(key.reveal());
        if let Some(body) = request.body {
            sent = sent.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        }
        let response = sent.send().await.map_err(unknown)?;
        let status = response.status();
        let body = read_body(response).await?;
        if status.is_success() { read(&body) } else { Err(refusal(status, &body)) }
    }
}

async fn read_body(mut response: reqwest::Response) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unknown)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(CallError::Unknown("the answer is too long".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(body).map_err(|error| CallError::Unknown(format!("unreadable answer: {error}")))
}

/// Without the URL, which may name a customer; never with the key, which is in a header.
fn unknown(error: impl std::error::Error) -> CallError {
    let mut text = String::new();
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = source {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        source = error.source();
    }
    CallError::Unknown(text)
}

/// What an answer other than 2xx says. Only a 4xx in Stripe's own words says that nothing was taken.
fn refusal(status: StatusCode, body: &[u8]) -> CallError {
    let is_undecided = status.is_server_error()
        || matches!(
            status,
            StatusCode::CONFLICT
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
        );
    let Ok(ErrorBody { error }) = serde_json::from_slice(body) else {
        return CallError::Unknown(format!("an answer with {status} that is not Stripe's"));
    };
    if is_undecided || !status.is_client_error() {
        let code = error.code.unwrap_or_default();
        return CallError::Unknown(format!("{status} {} {code}", error.kind));
    }
    // An intent that does not read is looked up, not guessed.
    let intent = error.payment_intent.and_then(|intent| serde_json::from_value(intent).ok());
    CallError::Denied(Box::new(Denied {
        status: status.as_u16(),
        kind: error.kind,
        code: error.code,
        decline_code: error.decline_code,
        param: error.param,
        intent,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &str) -> CallError {
        refusal(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    #[test]
    fn only_a_no_in_stripes_own_words_means_that_nothing_was_taken() {
        let card =
            r#"{"error":{"type":"card_error","code":"card_declined","decline_code":"generic_decline"}}"#;
        assert!(matches!(said(402, card), CallError::Denied(denied) if denied.kind == "card_error"));
        let request = r#"{"error":{"type":"invalid_request_error"}}"#;
        assert!(matches!(said(400, request), CallError::Denied(_)));
        for (status, body) in [
            (402, "declined"),
            (400, "{}"),
            (500, r#"{"error":{"type":"api_error"}}"#),
            (409, r#"{"error":{"type":"idempotency_error","code":"idempotency_key_in_use"}}"#),
            (429, r#"{"error":{"type":"invalid_request_error","code":"rate_limit"}}"#),
            (401, r#"{"error":{"type":"invalid_request_error"}}"#),
            (502, "<html>"),
        ] {
            assert!(matches!(said(status, body), CallError::Unknown(_)), "{status} {body}");
        }
    }

    #[test]
    fn the_intent_of_an_error_is_read_where_it_reads() {
        let error =
            |intent: &str| format!(r#"{{"error":{{"type":"card_error","payment_intent":{intent}}}}}"#);
        let known = error(r#"{"id":"pi_1","status":"requires_payment_method"}"#);
        assert!(matches!(said(402, &known), CallError::Denied(denied) if denied.intent.is_some()));
        let unknown = error(r#"{"id":7}"#);
        assert!(matches!(said(402, &unknown), CallError::Denied(denied) if denied.intent.is_none()));
    }
}
