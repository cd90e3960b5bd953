//! The OpenAPI document, and the page to browse it.

use std::sync::Arc;

use actix_web::http::header::CONTENT_ENCODING;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, get};
use utoipa_swagger_ui::Config;

use crate::error::Error;
use crate::openapi::Document;

/// The OpenAPI document
#[utoipa::path(
    tag = "Operation",
    security(()),
    responses((status = 200, description = "This document", body = Object)),
)]
#[get("/openapi.json")]
pub(super) async fn read_openapi(document: Data<Document>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(document.json.clone())
}

/// Browse the API
#[utoipa::path(
    tag = "Operation",
    security(()),
    responses((status = 200, description = "A page to read and try it", body = String, content_type = "text/html")),
)]
#[get("/docs/")]
pub(super) async fn read_docs() -> Result<HttpResponse, Error> {
    file("index.html")
}

/// A file of the page to browse the API
#[utoipa::path(
    tag = "Operation",
    security(()),
    params(("file" = String, Path, description = "The file's name", example = "swagger-ui.css")),
    responses(
        (status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, description = "No such file", body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/docs/{file}")]
pub(super) async fn read_docs_file(name: Path<String>) -> Result<HttpResponse, Error> {
    file(&name)
}

/// All files are in the binary. The validator that Swagger UI would ask on the net is switched off.
fn file(name: &str) -> Result<HttpResponse, Error> {
    let config = Config::from("/openapi.json").validator_url("none");
    let file = utoipa_swagger_ui::serve(name, Arc::new(config))
        .map_err(|error| db::Error::broken(error.to_string()))?
        .ok_or(Error::NoRoute)?;
    let mut response = HttpResponse::Ok();
    if file.gzpipped {
        response.insert_header((CONTENT_ENCODING, "gzip"));
    }
    Ok(response.content_type(file.content_type).body(file.bytes.into_owned()))
}
