//! Ids in paths. A text that is no id is answered as an id that does not exist.

use std::future::{Ready, ready};
use std::str::FromStr;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use domain::Refusal;
use domain::id::{
    ApiKeyId, CampaignId, CustomerId, EndpointId, ExternalId, InvoiceId, PurchaseId, QuarantineId,
    RolloverId, SubscriptionId,
};

use crate::error::Error;

/// What a path can name.
pub(crate) trait Named: FromStr {
    /// As the services call it when there is none.
    const WHAT: &'static str;
}

impl Named for CustomerId {
    const WHAT: &'static str = "customer";
}

impl Named for SubscriptionId {
    const WHAT: &'static str = "subscription";
}

impl Named for InvoiceId {
    const WHAT: &'static str = "invoice";
}

impl Named for CampaignId {
    const WHAT: &'static str = "campaign";
}

/// Of a top-up.
impl Named for PurchaseId {
    const WHAT: &'static str = "top-up";
}

impl Named for RolloverId {
    const WHAT: &'static str = "rollover";
}

impl Named for ApiKeyId {
    const WHAT: &'static str = "API key";
}

impl Named for EndpointId {
    const WHAT: &'static str = "webhook endpoint";
}

impl Named for QuarantineId {
    const WHAT: &'static str = "quarantined event";
}

/// Of an authorization.
impl Named for ExternalId {
    const WHAT: &'static str = "authorization";
}

/// A segment of a path as it was meant: the router leaves `%`, `/` and `+` encoded.
pub(crate) fn decoded_segment(request: &HttpRequest, name: &str) -> String {
    let segment = request.match_info().get(name).unwrap_or_default();
    [("%2F", "/"), ("%2f", "/"), ("%2B", "+"), ("%2b", "+"), ("%25", "%")]
        .into_iter()
        .fold(segment.to_owned(), |segment, (encoded, plain)| segment.replace(encoded, plain))
}

/// The `id` in a path.
pub(crate) struct Id<T>(pub(crate) T);

impl<T: Named> FromRequest for Id<T> {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().get("id").and_then(|id| id.parse().ok()).map(Id);
        ready(id.ok_or(Refusal::NotFound { what: T::WHAT }.into()))
    }
}
