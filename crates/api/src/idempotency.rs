//! Requests that have one effect however often they are sent (R-35b).

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use domain::{Refusal, TenantScope};
use idempotency::{Answer, Idempotency, RequestKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::IntoParams;

use crate::body::Body;
use crate::error::{Error, Problem};
use crate::unbroken::unbroken;

pub(crate) const HEADER: &str = "idempotency-key";
/// Says that an answer is an earlier one.
pub(crate) const REPLAYED: (&str, &str) = ("idempotency-replayed", "true");

/// The header that makes a change happen once.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "describes the header; `request_key` reads it")]
pub(crate) struct IdempotencyKey {
    /// Made by you, one for each change you want: 1 to 255 printable ASCII characters. The same request
    /// with the same key has one effect, and gets the same answer for 24 hours.
    #[param(
        rename = "Idempotency-Key",
        min_length = 1,
        max_length = 255,
        example = "8e03978e-40d5-43dd-bc93-6894a57f9324"
    )]
    idempotency_key: String,
}

/// A body and the key that it was sent with.
pub(crate) struct Keyed<T> {
    pub(crate) value: T,
    pub(crate) key: RequestKey,
}

impl<T: DeserializeOwned + 'static> FromRequest for Keyed<T> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        // Checked before the body is waited for; the fingerprint is taken after it.
        let checked = request_key(request, &Value::Null);
        let body = Body::from_request(request, payload);
        let request = request.clone();
        Box::pin(async move {
            checked?;
            let body: Body<T> = body.await?;
            let key = request_key(&request, &body.json()?)?;
            Ok(Keyed { value: body.value, key })
        })
    }
}

/// The key of a request without a body.
pub(crate) struct Key(pub(crate) RequestKey);

impl FromRequest for Key {
    type Error = Error;
    type Future = std::future::Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(request_key(request, &Value::Null).map(Key).map_err(Error::from))
    }
}

fn request_key(request: &HttpRequest, body: &Value) -> Result<RequestKey, Refusal> {
    let mut headers = request.headers().get_all(HEADER);
    let header = match (headers.next(), headers.next()) {
        (None, _) => None,
        // What is no text, or is there twice, is no key.
        (Some(header), None) => Some(header.to_str().unwrap_or_default()),
        (Some(_), Some(_)) => Some(""),
    };
    RequestKey::new(header, request.method().as_str(), request.path(), body)
}

/// An answer that can be kept.
pub(crate) fn answer(status: StatusCode, body: &impl Serialize) -> db::Result<Answer> {
    let body = serde_json::to_value(body).map_err(|error| db::Error::Fault(Box::new(error)))?;
    Ok(Answer { status: status.as_u16(), body })
}

/// Answers a request that was answered before as it was then; else calls the verb, and keeps its
/// answer where there is an effect to answer for: 2xx and 402. A refusal before any effect leaves the
/// key free for a corrected request.
pub(crate) async fn once<V, F>(
    idempotency: &Idempotency,
    scope: &TenantScope,
    key: RequestKey,
    verb: V,
) -> Result<HttpResponse, Error>
where
    V: FnOnce(TenantScope, RequestKey) -> F + 'static,
    F: Future<Output = db::Result<Answer>> + 'static,
{
    let (idempotency, scope) = (idempotency.clone(), scope.clone());
    let (answer, is_replay) = unbroken(async move {
        if let Some(earlier) = idempotency.replay(scope.tenant, &key, scope.now).await? {
            return Ok((earlier, true));
        }
        let outcome = verb(scope.clone(), key.clone()).await;
        let own = match &outcome {
            Ok(answer) => Some(answer.clone()),
            Err(error) => declined(error)?,
        };
        let Some(own) = own else { return outcome.map(|answer| (answer, false)) };
        // Told only once it is kept: a repeat must not be told another. Where it cannot be, the effect is
        // there and its key is claimed, and a repeat goes on from it.
        let kept = idempotency.remember(scope.tenant, &key, own.clone()).await?;
        if kept == own { outcome.map(|answer| (answer, false)) } else { Ok((kept, true)) }
    })
    .await?;
    respond(answer, is_replay)
}

/// The 402 to keep; `None` for any other error.
fn declined(error: &db::Error) -> db::Result<Option<Answer>> {
    let db::Error::Refused(refusal) = error else { return Ok(None) };
    let problem = Problem::of(refusal);
    match problem.status() {
        StatusCode::PAYMENT_REQUIRED => answer(StatusCode::PAYMENT_REQUIRED, &problem).map(Some),
        _ => Ok(None),
    }
}

fn respond(answer: Answer, is_replay: bool) -> Result<HttpResponse, Error> {
    let status = StatusCode::from_u16(answer.status).map_err(|error| db::Error::Fault(Box::new(error)))?;
    if !status.is_success() {
        let problem =
            serde_json::from_value(answer.body).map_err(|error| db::Error::Fault(Box::new(error)))?;
        return Err(Error::Replayed(Box::new(problem)));
    }
    let mut response = HttpResponse::build(status);
    if is_replay {
        response.insert_header(REPLAYED);
    }
    Ok(response.json(answer.body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::CONTENT_TYPE;
    use actix_web::test::TestRequest;
    use domain::id::{InvoiceId, SubscriptionId};
    use domain::policy::Policies;
    use serde_json::json;
    use uuid::Uuid;

    fn code(request: TestRequest) -> &'static str {
        match request_key(&request.to_http_request(), &Value::Null) {
            Ok(_) => "ok",
            Err(refusal) => refusal.code(),
        }
    }

    #[test]
    fn a_key_is_one_header_of_1_to_255_printable_characters() {
        assert_eq!(code(TestRequest::post()), "idempotency-key-missing");
        for (key, expected) in [
            (&b"k"[..], "ok"),
            (&[b'k'; 255], "ok"),
            (&[b'k'; 256], "idempotency-key-invalid"),
            (b"", "idempotency-key-invalid"),
            (b"a b", "idempotency-key-invalid"),
            ("caf\u{e9}".as_bytes(), "idempotency-key-invalid"),
        ] {
            assert_eq!(code(TestRequest::post().insert_header((HEADER, key))), expected, "{key:?}");
        }
        let twice = TestRequest::post().append_header((HEADER, "a")).append_header((HEADER, "b"));
        assert_eq!(code(twice), "idempotency-key-invalid");
    }

    #[test]
    fn only_a_402_is_kept_of_all_errors() {
        let refusal = Refusal::PaymentDeclined {
            subscription: Some(SubscriptionId::from_uuid(Uuid::from_u128(1))),
            invoice: InvoiceId::from_uuid(Uuid::from_u128(2)),
        };
        let kept = declined(&refusal.into()).unwrap().unwrap();
        assert_eq!(kept.status, 402);
        assert_eq!(kept.body["type"], "https://tollgate.dev/problems/payment-declined");
        for error in [
            db::Error::Refused(Refusal::UnknownPlan),
            db::Error::Unavailable(String::new()),
            db::Error::broken("a row"),
        ] {
            assert_eq!(declined(&error).unwrap(), None, "{error}");
        }
    }

    #[test]
    fn a_replay_says_so_and_is_the_same_answer() {
        let first = respond(Answer { status: 201, body: json!({"id": 1}) }, false).unwrap();
        assert!(!first.headers().contains_key(REPLAYED.0));
        let again = respond(Answer { status: 201, body: json!({"id": 1}) }, true).unwrap();
        assert_eq!(again.status().as_u16(), 201);
        assert_eq!(again.headers().get(REPLAYED.0).unwrap(), "true");
    }

    #[actix_web::test]
    async fn a_replayed_problem_names_the_request_at_hand() {
        let problem = Problem::of(&Refusal::PaymentDeclined {
            subscription: Some(SubscriptionId::from_uuid(Uuid::from_u128(1))),
            invoice: InvoiceId::from_uuid(Uuid::from_u128(2)),
        });
        let kept = answer(StatusCode::PAYMENT_REQUIRED, &problem).unwrap();
        let error = respond(kept, true).unwrap_err();
        let response = error.respond(&Policies::default(), "this-request".to_owned());
        assert_eq!(response.status().as_u16(), 402);
        assert_eq!(response.headers().get(REPLAYED.0).unwrap(), "true");
        assert_eq!(response.headers().get(CONTENT_TYPE).unwrap(), crate::error::PROBLEM_CONTENT_TYPE);
        let body = actix_web::body::to_bytes(response.into_body()).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["instance"], "this-request");
        assert_eq!(body["invoice"], format!("inv_{:032x}", 2));
    }
}
