//! What every request gets: an id of ours, a span in the log, and an answer that names the id.
//!
//! An id that the client sends is ignored: it would go into the log and into the answers of others.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpResponse};
use domain::policy::Policies;
use tenants::Principal;
use tracing::Instrument;
use uuid::Uuid;

use crate::error::{Error, respond_to_foreign};
use crate::unread::RequestBody;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Far longer than any of ours, cursors included.
const URI_LENGTH_MAX: usize = 4_096;

/// The outermost middleware: from here on a request has an id, and whatever went wrong inside has
/// become an answer.
pub(crate) async fn answer(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let mut id = Uuid::encode_buffer();
    let id: &str = Uuid::now_v7().hyphenated().encode_lower(&mut id);
    let span = tracing::info_span!(
        "request",
        id,
        method = request.method().as_str(),
        route = tracing::field::Empty,
        status = tracing::field::Empty,
    );
    let is_kept_out_of_caches = request.path().starts_with("/v1");
    let is_too_long =
        request.uri().path_and_query().is_some_and(|target| target.as_str().len() > URI_LENGTH_MAX);
    let request_body = RequestBody::lend_to(&mut request);
    let response = if is_too_long {
        request.error_response(Error::UriTooLong)
    } else {
        next.call(request).instrument(span.clone()).await?.map_into_boxed_body()
    };

    let _entered = span.enter();
    // The route's pattern and not the path: what a client wrote stays out of the log.
    if !span.is_disabled() {
        span.record("route", response.request().match_pattern().unwrap_or_default());
    }
    let mut response = match replacement(&response, id) {
        Some(answer) => response.into_response(answer),
        None => response,
    };
    span.record("status", response.status().as_u16());
    tracing::debug!("answered");
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(HEADER, id);
    }
    if is_kept_out_of_caches {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(match request_body {
        Some(request_body) => request_body.keep_until_written(response),
        None => response,
    })
}

/// What an error is answered with; `None` where there is none.
fn replacement<B>(response: &ServiceResponse<B>, id: &str) -> Option<HttpResponse> {
    let error = response.response().error()?;
    let Some(error) = error.as_error::<Error>() else {
        return Some(respond_to_foreign(error, id.to_owned()));
    };
    let extensions = response.request().extensions();
    let policies = extensions.get::<Principal>().map(|principal| principal.scope.policies.clone());
    Some(match policies {
        Some(policies) => error.respond(&policies, id.to_owned()),
        None => error.respond(&Policies::default(), id.to_owned()),
    })
}
