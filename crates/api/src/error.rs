//! The one place that maps an error to HTTP.
//!
//! A handler returns [`Error`]; the [`request_id`](crate::request_id) middleware asks [`Error::respond`]
//! for the answer, which is a problem (RFC 9457) with the request's id in `instance`. Out of Credits
//! alone has another body, which coding tools show as it is (R-33a). What a client sent is never
//! repeated, and of a fault nothing is told.

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use domain::Refusal;
use domain::policy::Policies;
use domain::refusal::{FieldError, OutOfCredits};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::body::NotJson;
use crate::wire::Instant;

/// Every problem's `type` begins with this; its code follows.
const PROBLEM_TYPE_START: &str = "https://tollgate.dev/problems/";
pub(crate) const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";

/// Why a request is not answered as it wishes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Service(#[from] db::Error),
    #[error(transparent)]
    InvalidJson(#[from] NotJson),
    #[error("the body must be application/json in UTF-8, without a content encoding")]
    UnsupportedMediaType,
    #[error("the body is larger than {limit_bytes} bytes")]
    BodyTooLarge { limit_bytes: usize },
    #[error("the body was not received in time")]
    BodyTimeout,
    #[error("the body was not received whole")]
    BodyIncomplete,
    #[error("the request's target is too long")]
    UriTooLong,
    #[error("there is no such resource")]
    NoRoute,
    #[error("the resource does not have this method")]
    MethodNotAllowed { allow: String },
    /// A single usage event that is invalid by itself (R-31).
    #[error(transparent)]
    Rejected(Refusal),
    /// The problem that an earlier try of the same request was answered with (R-35b).
    #[error("answered before")]
    Replayed(Box<Problem>),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Error::Service(refusal.into())
    }
}

/// An error as RFC 9457 has it. Some codes add members of their own: `needed`, `subscription`,
/// `invoice`, `list_price`, `effective_at`, `rest`.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize, ToSchema)]
pub(crate) struct Problem {
    /// Stable, and the thing to branch on: `https://tollgate.dev/problems/` and a code.
    #[serde(rename = "type")]
    #[schema(example = "https://tollgate.dev/problems/not-found")]
    problem_type: String,
    #[schema(example = "Not found")]
    title: String,
    /// The HTTP status.
    #[schema(example = 404)]
    status: u16,
    /// A sentence for people; its words may change.
    #[schema(example = "there is no such customer")]
    detail: String,
    /// The id of the request, as in the `x-request-id` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    instance: Option<String>,
    /// What is wrong with which field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    errors: Vec<InvalidField>,
    #[serde(flatten)]
    #[schema(ignore)]
    members: Map<String, Value>,
}

/// One invalid field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
pub(crate) struct InvalidField {
    /// A JSON pointer into the body, or the name of a query parameter.
    #[schema(example = "/usage/input")]
    pointer: String,
    /// A stable code.
    #[schema(example = "wrong-type")]
    code: String,
}

impl From<FieldError> for InvalidField {
    fn from(error: FieldError) -> Self {
        InvalidField { pointer: error.pointer, code: error.code }
    }
}

/// Out of Credits, in the shape that coding tools show as it is. There is no `Retry-After`: asking
/// again does not help.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InsufficientQuota {
    #[serde(rename = "type")]
    #[schema(example = "error")]
    kind: &'static str,
    error: BillingError,
    request_id: String,
    /// What the prompt alone costs, in Credits.
    needed: i64,
    /// What is left and not held, in Credits.
    remaining: i64,
    /// When the pool fills again; null while no paid renewal is ahead.
    #[schema(required)]
    resets_at: Option<Instant>,
    /// Where the customer may upgrade.
    #[schema(required)]
    upgrade_url: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BillingError {
    #[serde(rename = "type")]
    #[schema(example = "billing_error")]
    kind: &'static str,
    #[schema(example = "insufficient_quota")]
    code: &'static str,
    message: String,
    /// Always null.
    #[schema(value_type = Option<String>, required)]
    param: (),
}

impl InsufficientQuota {
    fn new(out: &OutOfCredits, policies: &Policies, request_id: String) -> InsufficientQuota {
        let (needed, remaining) = (out.needed, out.remaining);
        let message = match out.resets_at {
            None => format!("Out of Credits: {needed} needed, {remaining} left."),
            Some(resets_at) => {
                let day = resets_at.format("%Y-%m-%d %H:%M UTC");
                format!(
                    "Out of Credits: {needed} needed, {remaining} left. The plan's pool fills again at {day}."
                )
            }
        };
        InsufficientQuota {
            kind: "error",
            error: BillingError { kind: "billing_error", code: "insufficient_quota", message, param: () },
            request_id,
            needed: needed.get(),
            remaining: remaining.get(),
            resets_at: out.resets_at.map(Instant),
            upgrade_url: policies.upgrade_url.clone(),
        }
    }
}

impl Problem {
    pub(crate) fn of(refusal: &Refusal) -> Problem {
        let (status, members) = status_and_members(refusal);
        let mut problem = Problem::new(refusal.code(), status, refusal.to_string());
        if let Refusal::InvalidFields(fields) = refusal {
            problem.errors = fields.iter().cloned().map(InvalidField::from).collect();
        }
        if let Value::Object(members) = members {
            problem.members = members;
        }
        problem
    }

    /// An event that is invalid by itself is `rejected`, for whatever reason, and that is 422 (R-31).
    pub(crate) fn of_rejected(refusal: &Refusal) -> Problem {
        Problem { status: StatusCode::UNPROCESSABLE_ENTITY.as_u16(), ..Problem::of(refusal) }
    }

    /// An event of several that is no JSON by itself.
    pub(crate) fn of_rejected_json(why: NotJson) -> Problem {
        Problem::new("invalid-json", StatusCode::UNPROCESSABLE_ENTITY, why.to_string())
    }

    fn new(code: &str, status: StatusCode, detail: String) -> Problem {
        Problem {
            problem_type: format!("{PROBLEM_TYPE_START}{code}"),
            title: title(code),
            status: status.as_u16(),
            detail,
            instance: None,
            errors: Vec::new(),
            members: Map::new(),
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// `not-found` is titled "Not found".
fn title(code: &str) -> String {
    let mut words = code.replace(['-', '_'], " ");
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
}

/// The status of every refusal, and what its problem says more than others.
fn status_and_members(refusal: &Refusal) -> (StatusCode, Value) {
    use StatusCode as S;
    match refusal {
        Refusal::InvalidFields(_) | Refusal::AmountOverflow | Refusal::EventTimeOutOfRange => {
            (S::UNPROCESSABLE_ENTITY, Value::Null)
        }
        Refusal::InvalidCursor | Refusal::IdempotencyKeyMissing | Refusal::IdempotencyKeyInvalid => {
            (S::BAD_REQUEST, Value::Null)
        }
        Refusal::IdempotencyKeyReused => (S::UNPROCESSABLE_ENTITY, Value::Null),

        Refusal::Unauthenticated => (S::UNAUTHORIZED, Value::Null),
        Refusal::InsufficientScope { needed } => (S::FORBIDDEN, json!({ "needed": needed })),
        Refusal::NotFound { what: _ } => (S::NOT_FOUND, Value::Null),

        Refusal::UnknownPlan | Refusal::UnknownTopUp | Refusal::NotRated { reason: _ } => {
            (S::UNPROCESSABLE_ENTITY, Value::Null)
        }
        Refusal::NoPriceInCurrency { currency: _ } => (S::CONFLICT, Value::Null),
        Refusal::InvalidCatalog { problems } => (S::UNPROCESSABLE_ENTITY, json!({ "problems": problems })),
        Refusal::CatalogNotLater | Refusal::CatalogInThePast => (S::CONFLICT, Value::Null),

        Refusal::CustomerExists => (S::CONFLICT, Value::Null),

        Refusal::AlreadySubscribed { subscription } => (S::CONFLICT, json!({ "subscription": subscription })),
        Refusal::PromotionUsed { list_price } => (S::CONFLICT, json!({ "list_price": list_price })),
        Refusal::UnknownPromotion => (S::UNPROCESSABLE_ENTITY, Value::Null),
        Refusal::DowngradeWithinCycle { effective_at } => {
            (S::CONFLICT, json!({ "effective_at": Instant(*effective_at) }))
        }
        Refusal::QuoteNotValid
        | Refusal::NotAnUpgrade
        | Refusal::NotADowngrade
        | Refusal::UpgradePending
        | Refusal::NothingScheduled
        | Refusal::SubscriptionIncomplete
        | Refusal::SubscriptionPastDue
        | Refusal::SubscriptionNotSuspended
        | Refusal::SubscriptionEnded
        | Refusal::CycleEnded => (S::CONFLICT, Value::Null),
        Refusal::SubscriptionSuspended => (S::PAYMENT_REQUIRED, Value::Null),

        Refusal::PaymentDeclined { subscription: Some(subscription), invoice } => {
            (S::PAYMENT_REQUIRED, json!({ "subscription": subscription, "invoice": invoice }))
        }
        // Bought without a subscription.
        Refusal::PaymentDeclined { subscription: None, invoice } => {
            (S::PAYMENT_REQUIRED, json!({ "invoice": invoice }))
        }
        Refusal::InvoiceNotOpen | Refusal::PaymentPending => (S::CONFLICT, Value::Null),
        Refusal::InvoiceNotPaid
        | Refusal::AlreadyRefunded
        | Refusal::PaymentDisputed
        | Refusal::CurrencyMismatch => (S::CONFLICT, Value::Null),
        Refusal::RefundTooLarge { rest } => (S::UNPROCESSABLE_ENTITY, json!({ "rest": rest })),
        Refusal::UnknownPaymentMethod | Refusal::CardDataRefused => (S::UNPROCESSABLE_ENTITY, Value::Null),
        Refusal::NoPaymentProvider => (S::CONFLICT, Value::Null),
        Refusal::InvalidSignature => (S::BAD_REQUEST, Value::Null),

        // Its body is R-33a's and its status the tenant's: see `Error::respond`.
        Refusal::OutOfCredits(OutOfCredits { needed: _, remaining: _, resets_at: _ }) => {
            (S::PAYMENT_REQUIRED, Value::Null)
        }
        Refusal::AccountParked
        | Refusal::AuthorizationReused
        | Refusal::AuthorizationEnded
        | Refusal::AuthorizationNotRenewable
        | Refusal::AuthorizationForeign
        | Refusal::EventConflict => (S::CONFLICT, Value::Null),

        Refusal::MoreThanRemains { remaining } => (S::CONFLICT, json!({ "remaining": remaining })),
        Refusal::CampaignDiffers | Refusal::UsageNotInvoiced => (S::CONFLICT, Value::Null),

        Refusal::UrlNotAllowed { reason: _ } => (S::UNPROCESSABLE_ENTITY, Value::Null),

        Refusal::NotATestTenant | Refusal::ClockMovesBack => (S::CONFLICT, Value::Null),
    }
}

impl Error {
    /// The answer. A fault is logged here, once.
    pub(crate) fn respond(&self, policies: &Policies, request_id: String) -> HttpResponse {
        if let Error::Service(db::Error::Refused(Refusal::OutOfCredits(out))) = self {
            let status =
                StatusCode::from_u16(policies.out_of_credits_status).unwrap_or(StatusCode::PAYMENT_REQUIRED);
            return HttpResponse::build(status).json(InsufficientQuota::new(out, policies, request_id));
        }
        let mut problem = self.problem();
        problem.instance = Some(request_id);
        let mut response = HttpResponse::build(problem.status());
        self.add_headers(&mut response);
        response.insert_header((CONTENT_TYPE, PROBLEM_CONTENT_TYPE)).body(json!(problem).to_string())
    }

    pub(crate) fn problem(&self) -> Problem {
        use StatusCode as S;
        match self {
            Error::Service(db::Error::Refused(refusal)) => Problem::of(refusal),
            Error::Service(db::Error::Unavailable(reason)) => {
                tracing::warn!(reason, "storage unavailable");
                let detail = "a store is away or too slow; try again".to_owned();
                Problem::new("storage-unavailable", S::SERVICE_UNAVAILABLE, detail)
            }
            Error::Service(db::Error::Fault(source)) => {
                tracing::error!(error = %source, source = ?source, "fault");
                Problem::internal()
            }
            Error::InvalidJson(_) => Problem::new("invalid-json", S::BAD_REQUEST, self.to_string()),
            Error::UnsupportedMediaType => {
                Problem::new("unsupported-media-type", S::UNSUPPORTED_MEDIA_TYPE, self.to_string())
            }
            Error::BodyTooLarge { limit_bytes: _ } => {
                Problem::new("payload-too-large", S::PAYLOAD_TOO_LARGE, self.to_string())
            }
            Error::BodyTimeout => Problem::new("body-timeout", S::REQUEST_TIMEOUT, self.to_string()),
            Error::BodyIncomplete => Problem::new("body-incomplete", S::BAD_REQUEST, self.to_string()),
            Error::UriTooLong => Problem::new("uri-too-long", S::URI_TOO_LONG, self.to_string()),
            Error::NoRoute => Problem::new("not-found", S::NOT_FOUND, self.to_string()),
            Error::MethodNotAllowed { allow: _ } => {
                Problem::new("method-not-allowed", S::METHOD_NOT_ALLOWED, self.to_string())
            }
            Error::Rejected(refusal) => Problem::of_rejected(refusal),
            Error::Replayed(problem) => (**problem).clone(),
        }
    }

    fn add_headers(&self, response: &mut HttpResponseBuilder) {
        match self {
            Error::Service(db::Error::Refused(Refusal::Unauthenticated)) => {
                response.insert_header((WWW_AUTHENTICATE, "Bearer"));
            }
            Error::Service(db::Error::Unavailable(_)) => {
                response.insert_header((RETRY_AFTER, "1"));
            }
            Error::MethodNotAllowed { allow } => {
                response.insert_header((ALLOW, allow.as_str()));
            }
            Error::Replayed(_) => {
                response.insert_header(crate::idempotency::REPLAYED);
            }
            Error::Service(db::Error::Refused(_) | db::Error::Fault(_))
            | Error::InvalidJson(_)
            | Error::UnsupportedMediaType
            | Error::BodyTooLarge { .. }
            | Error::BodyTimeout
            | Error::BodyIncomplete
            | Error::UriTooLong
            | Error::NoRoute
            | Error::Rejected(_) => {}
        }
    }
}

impl Problem {
    fn internal() -> Problem {
        Problem::new(
            "internal",
            StatusCode::INTERNAL_SERVER_ERROR,
            "something went wrong on our side".to_owned(),
        )
    }
}

/// What a handler's `Err` becomes until the middleware, which knows the request, answers it.
impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        StatusCode::INTERNAL_SERVER_ERROR
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

/// The answer to an error that is none of ours: a fault.
pub(crate) fn respond_to_foreign(error: &actix_web::Error, request_id: String) -> HttpResponse {
    tracing::error!(%error, "fault in the web server");
    let problem = Problem { instance: Some(request_id), ..Problem::internal() };
    HttpResponse::InternalServerError()
        .insert_header((CONTENT_TYPE, PROBLEM_CONTENT_TYPE))
        .body(json!(problem).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::to_bytes;
    use domain::id::{InvoiceId, SubscriptionId};
    use domain::{Credits, Currency, Money};
    use uuid::Uuid;

    fn all_refusals() -> Vec<(Refusal, u16)> {
        let subscription = SubscriptionId::from_uuid(Uuid::from_u128(1));
        let invoice = InvoiceId::from_uuid(Uuid::from_u128(2));
        let list_price = Money { amount_minor: 1_600, currency: Currency::Usd };
        let effective_at = domain::time::parse_rfc3339("2026-02-28T10:00:00Z").unwrap();
        vec![
            (Refusal::invalid_field("/plan", "missing"), 422),
            (Refusal::AmountOverflow, 422),
            (Refusal::EventTimeOutOfRange, 422),
            (Refusal::InvalidCursor, 400),
            (Refusal::IdempotencyKeyMissing, 400),
            (Refusal::IdempotencyKeyInvalid, 400),
            (Refusal::IdempotencyKeyReused, 422),
            (Refusal::Unauthenticated, 401),
            (Refusal::InsufficientScope { needed: "billing" }, 403),
            (Refusal::NotFound { what: "customer" }, 404),
            (Refusal::UnknownPlan, 422),
            (Refusal::NotRated { reason: "unknown-model".to_owned() }, 422),
            (Refusal::NoPriceInCurrency { currency: Currency::Cny }, 409),
            (Refusal::InvalidCatalog { problems: vec!["there is no plan".to_owned()] }, 422),
            (Refusal::CatalogNotLater, 409),
            (Refusal::CustomerExists, 409),
            (Refusal::AlreadySubscribed { subscription }, 409),
            (Refusal::PromotionUsed { list_price }, 409),
            (Refusal::UnknownPromotion, 422),
            (Refusal::UnknownTopUp, 422),
            (Refusal::MoreThanRemains { remaining: Credits::ZERO }, 409),
            (Refusal::CampaignDiffers, 409),
            (Refusal::UsageNotInvoiced, 409),
            (Refusal::QuoteNotValid, 409),
            (Refusal::DowngradeWithinCycle { effective_at }, 409),
            (Refusal::NotAnUpgrade, 409),
            (Refusal::NotADowngrade, 409),
            (Refusal::UpgradePending, 409),
            (Refusal::NothingScheduled, 409),
            (Refusal::SubscriptionIncomplete, 409),
            (Refusal::SubscriptionPastDue, 409),
            (Refusal::SubscriptionSuspended, 402),
            (Refusal::SubscriptionNotSuspended, 409),
            (Refusal::SubscriptionEnded, 409),
            (Refusal::CycleEnded, 409),
            (Refusal::PaymentDeclined { subscription: Some(subscription), invoice }, 402),
            (Refusal::InvoiceNotOpen, 409),
            (Refusal::PaymentPending, 409),
            (Refusal::InvoiceNotPaid, 409),
            (Refusal::AlreadyRefunded, 409),
            (Refusal::RefundTooLarge { rest: list_price }, 422),
            (Refusal::PaymentDisputed, 409),
            (Refusal::CurrencyMismatch, 409),
            (Refusal::UnknownPaymentMethod, 422),
            (Refusal::CardDataRefused, 422),
            (Refusal::NoPaymentProvider, 409),
            (Refusal::InvalidSignature, 400),
            (Refusal::OutOfCredits(out_of_credits()), 402),
            (Refusal::AccountParked, 409),
            (Refusal::AuthorizationReused, 409),
            (Refusal::AuthorizationEnded, 409),
            (Refusal::AuthorizationNotRenewable, 409),
            (Refusal::AuthorizationForeign, 409),
            (Refusal::EventConflict, 409),
            (Refusal::UrlNotAllowed { reason: "the scheme must be https" }, 422),
            (Refusal::NotATestTenant, 409),
            (Refusal::ClockMovesBack, 409),
        ]
    }

    fn out_of_credits() -> OutOfCredits {
        OutOfCredits { needed: Credits::new(700).unwrap(), remaining: Credits::ZERO, resets_at: None }
    }

    async fn body_of(response: HttpResponse) -> Value {
        serde_json::from_slice(&to_bytes(response.into_body()).await.unwrap()).unwrap()
    }

    #[actix_web::test]
    async fn every_refusal_has_its_status_and_a_problem_of_its_code() {
        for (refusal, status) in all_refusals() {
            let code = refusal.code();
            let response = Error::from(refusal).respond(&Policies::default(), "r".to_owned());
            assert_eq!(response.status().as_u16(), status, "{code}");
            let content_type = response.headers().get(CONTENT_TYPE).unwrap().to_str().unwrap().to_owned();
            let body = body_of(response).await;
            if code == "insufficient_quota" {
                assert_eq!(content_type, "application/json");
                continue;
            }
            assert_eq!(content_type, PROBLEM_CONTENT_TYPE, "{code}");
            assert_eq!(body["type"], format!("https://tollgate.dev/problems/{code}"));
            assert_eq!(body["status"], status, "{code}");
            assert_eq!(body["instance"], "r", "{code}");
            assert!(body["title"].as_str().is_some_and(|title| !title.is_empty()));
            assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        }
    }

    #[actix_web::test]
    async fn a_problem_says_what_a_client_needs_to_go_on() {
        let members = [
            ("already-subscribed", "subscription", json!(format!("sub_{:032x}", 1))),
            ("refund-too-large", "rest", json!({"amount_minor": 1_600, "currency": "USD"})),
            ("promotion-used", "list_price", json!({"amount_minor": 1_600, "currency": "USD"})),
            ("downgrade-within-cycle", "effective_at", json!("2026-02-28T10:00:00.000000Z")),
            ("payment-declined", "invoice", json!(format!("inv_{:032x}", 2))),
            ("payment-declined", "subscription", json!(format!("sub_{:032x}", 1))),
            ("insufficient-scope", "needed", json!("billing")),
            ("invalid-field", "errors", json!([{"pointer": "/plan", "code": "missing"}])),
        ];
        for (code, member, value) in members {
            let (refusal, _) = all_refusals().into_iter().find(|(r, _)| r.code() == code).unwrap();
            let body = body_of(Error::from(refusal).respond(&Policies::default(), String::new())).await;
            assert_eq!(body[member], value, "{code}");
        }
    }

    #[actix_web::test]
    async fn out_of_credits_has_the_shape_that_coding_tools_show_and_the_tenants_status() {
        let policies = Policies {
            out_of_credits_status: 429,
            upgrade_url: Some("https://example.com/plans".to_owned()),
            ..Policies::default()
        };
        let response =
            Error::from(Refusal::OutOfCredits(out_of_credits())).respond(&policies, "r".to_owned());
        assert_eq!(response.status().as_u16(), 429);
        assert!(!response.headers().contains_key(RETRY_AFTER));
        let expected = json!({
            "type": "error",
            "error": {
                "type": "billing_error",
                "code": "insufficient_quota",
                "message": "Out of Credits: 700 needed, 0 left.",
                "param": null,
            },
            "request_id": "r",
            "needed": 700,
            "remaining": 0,
            "resets_at": null,
            "upgrade_url": "https://example.com/plans",
        });
        assert_eq!(body_of(response).await, expected);
    }

    #[actix_web::test]
    async fn an_outage_says_try_again_and_a_fault_says_nothing() {
        let away = Error::from(db::Error::Unavailable("connection to 10.0.0.7 refused".to_owned()));
        let response = away.respond(&Policies::default(), String::new());
        assert_eq!(response.status().as_u16(), 503);
        assert_eq!(response.headers().get(RETRY_AFTER).unwrap(), "1");
        assert!(!body_of(response).await.to_string().contains("10.0.0.7"));
        let fault = Error::from(db::Error::broken("select secret from api_keys"));
        let response = fault.respond(&Policies::default(), String::new());
        assert_eq!(response.status().as_u16(), 500);
        let body = body_of(response).await;
        assert_eq!(body["type"], "https://tollgate.dev/problems/internal");
        assert!(!body.to_string().contains("secret"));
    }

    #[test]
    fn headers_that_a_status_calls_for() {
        let header = |error: Error, name| {
            error.respond(&Policies::default(), String::new()).headers().get(name).cloned()
        };
        assert_eq!(header(Refusal::Unauthenticated.into(), WWW_AUTHENTICATE).unwrap(), "Bearer");
        let allow = Error::MethodNotAllowed { allow: "GET, POST".to_owned() };
        assert_eq!(header(allow, ALLOW).unwrap(), "GET, POST");
    }
}
