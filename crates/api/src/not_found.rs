//! What no route answers: a path that is not there, or one that is there with other methods.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use crate::error::Error;
use crate::openapi::Document;

/// 405 with `Allow` where the OpenAPI document has the path, else 404. HEAD and OPTIONS are methods
/// like any other, and a header that names another method is not looked at.
pub(crate) async fn not_found(request: HttpRequest, document: Data<Document>) -> Result<HttpResponse, Error> {
    match document.allow(request.path()) {
        Some(allow) => Err(Error::MethodNotAllowed { allow }),
        None => Err(Error::NoRoute),
    }
}
