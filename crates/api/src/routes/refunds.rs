//! Refunds of paid invoices.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpResponse, post};
use domain::id::{InvoiceId, PaymentId, RefundId};
use domain::refund::RefundStatus;
use idempotency::Idempotency;
use serde::{Deserialize, Deserializer, Serialize};
use subscriptions::Subscriptions;
use utoipa::ToSchema;

use super::usage_voids::reason;
use crate::auth::Administers;
use crate::body::NoQuery;
use crate::error::{Error, Problem};
use crate::idempotency::{IdempotencyKey, Keyed, answer, once};
use crate::path::Id;
use crate::schema;
use crate::wire::{Instant, Money};

/// Words for whoever asks later: 1 to 500 characters, no control characters.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 500, example = "the service was down for a day")]
pub(super) struct Reason(pub(super) String);

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        reason(deserializer).map(Reason)
    }
}

/// Money to give back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRefund {
    /// In the invoice's currency; all that has not gone back yet where left out.
    #[schema(value_type = Option<i64>, minimum = 1, example = 96)]
    amount_minor: Option<i64>,
    reason: Option<Reason>,
}

/// Money that goes back, or has gone.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Refund {
    #[schema(value_type = schema::RefundId)]
    id: RefundId,
    #[schema(value_type = schema::InvoiceId)]
    invoice: InvoiceId,
    #[schema(value_type = schema::PaymentId)]
    payment: PaymentId,
    amount: Money,
    status: schema::RefundStatus,
    origin: schema::RefundOrigin,
    /// The operator's words.
    #[schema(required)]
    reason: Option<String>,
    /// The provider's reason, where it failed.
    #[schema(required)]
    failure_code: Option<String>,
    /// Credits that the payment had paid for and that were taken back, of a year in each cycle since; none where it
    /// failed.
    credits_revoked: i64,
    /// Credits that should have been taken back and were spent or had expired, all refunds of the payment so
    /// far together.
    credits_short: i64,
    created_at: Instant,
    /// When the provider had decided.
    #[schema(required)]
    settled_at: Option<Instant>,
}

/// Refund an invoice
///
/// Gives money of a paid invoice back, and takes back the same share of the Credits that it had paid for, as
/// far as they are unspent. A refund that the provider refuses, or that the customer's bank sends back later, is
/// `failed`: its Credits are given back, and its amount can be refunded again.
#[utoipa::path(
    tag = "Invoices",
    security(("bearer" = ["admin"])),
    params(
        ("id" = schema::InvoiceId, Path, description = "The invoice"),
        IdempotencyKey,
    ),
    request_body = NewRefund,
    responses(
        (status = 201, description = "The refund, which the provider has decided", body = Refund),
        (status = 202, description = "Stored; the provider has not answered yet and is asked again", body = Refund),
        (status = 409, description = "`invoice-not-paid`, `already-refunded`, `payment-disputed`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`refund-too-large`, with `rest`; `invalid-field`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/invoices/{id}/refunds")]
pub(super) async fn refund_invoice(
    caller: Administers,
    _: NoQuery,
    id: Id<InvoiceId>,
    refund: Keyed<NewRefund>,
    subscriptions: Data<Subscriptions>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    let Keyed { value: NewRefund { amount_minor, reason }, key } = refund;
    once(&idempotency, caller.scope(), key, move |scope, key| async move {
        let reason = reason.map(|reason| reason.0);
        let refund = subscriptions.refund_invoice(&scope, id.0, amount_minor, reason, &key).await?;
        let status = match refund.status {
            RefundStatus::Created => StatusCode::ACCEPTED,
            RefundStatus::Succeeded | RefundStatus::Failed => StatusCode::CREATED,
        };
        answer(status, &Refund::from(refund))
    })
    .await
}

impl From<invoices::Refund> for Refund {
    fn from(refund: invoices::Refund) -> Self {
        Refund {
            id: refund.id,
            invoice: refund.invoice,
            payment: refund.payment,
            amount: refund.amount.into(),
            status: schema::RefundStatus(refund.status),
            origin: schema::RefundOrigin(refund.origin),
            reason: refund.reason,
            failure_code: refund.failure_code,
            credits_revoked: refund.credits_revoked.get(),
            credits_short: refund.credits_short.get(),
            created_at: Instant(refund.created_at),
            settled_at: refund.settled_at.map(Instant),
        }
    }
}
