//! What the payment provider sends: no credentials but its signature.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::web::{Data, Json};
use actix_web::{FromRequest, HttpRequest, post};
use domain::Refusal;
use domain::id::TenantId;
use provider_events::ProviderEvents;
use serde::Serialize;
use utoipa::ToSchema;

use crate::body::{BODY_BYTES_MAX, receive_any};
use crate::error::{Error, Problem};
use crate::unbroken::unbroken;

/// The header that a webhook is signed in.
const SIGNATURE: &str = "stripe-signature";

/// A webhook that was taken in.
#[derive(Debug, Serialize, ToSchema)]
struct Received {
    /// Whether it came for the first time; the same again changes nothing.
    is_new: bool,
}

/// The raw body, as it was signed, and its signature.
pub(super) struct Signed {
    tenant: Option<TenantId>,
    signature: Option<String>,
    body: String,
}

impl FromRequest for Signed {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let tenant = request.match_info().get("tenant").and_then(|tenant| tenant.parse().ok());
        let mut headers = request.headers().get_all(SIGNATURE);
        // Twice is none: which of the two would count?
        let signature = match (headers.next(), headers.next()) {
            (Some(header), None) => header.to_str().ok().map(str::to_owned),
            _ => None,
        };
        let body = receive_any(request, payload, BODY_BYTES_MAX);
        Box::pin(async move { Ok(Signed { tenant, signature, body: body.await? }) })
    }
}

/// Take in a webhook of Stripe's
///
/// Stripe sends its events here, signed with one of the tenant's signing secrets. It is answered once the
/// event is stored; what the event says is applied after that. A signed event that does not add up is
/// stored, has no effect, and is answered with 200 all the same: sending it again would not help.
#[utoipa::path(
    tag = "Payment provider",
    security(()),
    params(
        ("tenant" = String, Path, description = "The tenant (`ten_...`)"),
        ("Stripe-Signature" = String, Header, description = "Time and signatures, over the raw body"),
    ),
    request_body(content = String, content_type = "application/json", description = "The event"),
    responses(
        (status = 200, description = "Stored, now or before", body = Received),
        (status = 400, description = "`invalid-signature`: not signed by Stripe for this tenant within the last 5 minutes; nothing was stored", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`payload-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`storage-unavailable`: it was not stored; send it again", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/webhooks/stripe/{tenant}")]
pub(super) async fn receive_stripe_webhook(
    signed: Signed,
    events: Data<ProviderEvents>,
) -> Result<Json<Received>, Error> {
    let Signed { tenant, signature, body } = signed;
    let tenant = tenant.ok_or(Refusal::InvalidSignature)?;
    let receipt =
        unbroken(async move { events.receive(tenant, signature.as_deref(), body.as_bytes()).await }).await?;
    Ok(Json(Received { is_new: receipt.is_new }))
}
