//! The OpenAPI document, built from the routes that are registered, so that none is left out.

use actix_web::dev::ResourceDef;
use actix_web::web::Bytes;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, Object, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder, Schema,
    Type,
};
use utoipa::{Modify, OpenApi as _};
use utoipa_actix_web::AppExt;

use crate::error::{PROBLEM_CONTENT_TYPE, Problem};
use crate::routes;

/// What the routes do not say of themselves.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Tollgate",
        description = "Sells token plans, and meters what gateways use of them.\n\n\
            **Credentials**: `Authorization: Bearer` with an API key (`tg_live_...`, `tg_test_...`), or with \
            a customer's token, which reads that customer's own affairs. An operation names the scopes \
            of which a key needs one; `admin` implies all. `customer` stands for a customer's token.\n\n\
            **Amounts**: Credits are integers. Money is an integer in the currency's minor unit. Instants \
            are RFC 3339 in UTC with microseconds.\n\n\
            **Errors** are problems (RFC 9457): branch on `type`. Every answer has an `x-request-id`. \
            Unknown fields and parameters are refused.\n\n\
            **Retries**: usage events count once by `source` and `id`, authorizations by `id`, and changes \
            of subscriptions and payments by the `Idempotency-Key` header, for 24 hours. A 503 can be tried \
            again after a second.",
    ),
    tags(
        (name = "Catalogue", description = "What is sold, and what a token costs."),
        (name = "Customers", description = "Customers, their Credits and their tokens."),
        (name = "Subscriptions", description = "Plans bought, upgraded and canceled."),
        (name = "Usage", description = "May a request start, and what did it use?"),
        (name = "Adjustments", description = "What operators give and take by hand, and campaigns that give many customers the same."),
        (name = "Top-ups", description = "Credits apart from a plan: bought, and granted once they are paid."),
        (name = "Invoices", description = "What is owed, and what was paid."),
        (name = "Rollovers", description = "The end of a cycle and the beginning of the next."),
        (name = "Payment provider", description = "The account at Stripe, what it tells, and what customers pay with."),
        (name = "Webhooks", description = "Where events are sent."),
        (name = "API keys", description = "The tenant's own credentials."),
        (name = "Test clock", description = "The time of a test tenant."),
        (name = "Operation", description = "For those who run the server."),
    ),
    components(schemas(Problem)),
    modifiers(&Bearer),
)]
struct Frame;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key, or a customer's token."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// The OpenAPI document of every route.
pub fn openapi() -> OpenApi {
    let app = actix_web::App::new().into_utoipa_app().openapi(Frame::openapi());
    let (_, mut document) = app.configure(routes::register).split_for_parts();
    let components = document.components.get_or_insert_default();
    components
        .headers
        .extend(HEADERS.map(|(name, description)| (name.to_owned(), header(description).into())));
    for (path, item) in &mut document.paths.paths {
        let is_open = is_open(path);
        for (method, operation) in operations_mut(item) {
            add_problem(operation, "414", "`uri-too-long`");
            if !is_open {
                add_problems(path, method, operation);
                let_the_body_be_absent(operation, components);
            }
            add_headers(operation);
        }
    }
    document
}

/// Whether a path takes no credentials: the server's own pages, and the provider's signed webhooks.
pub(crate) fn is_open(path: &str) -> bool {
    !path.starts_with("/v1/") || path.starts_with("/v1/webhooks/")
}

/// The problems that an operation can answer with because of what it takes.
fn add_problems(path: &str, method: &str, operation: &mut Operation) {
    // An operation that takes no body still reads one, to see that it is empty.
    let has_body = method != "GET";
    let has_parameters = parameters_in(operation).any(|place| place != ParameterIn::Path);
    let problems = [
        (true, "401", "`unauthenticated`: no valid credentials"),
        (true, "403", "`insufficient-scope`, with the scope that is `needed`"),
        (true, "500", "`internal`: a fault on our side"),
        (true, "503", "`storage-unavailable`: try again after a second"),
        (path.contains('{'), "404", "`not-found`"),
        (has_body, "408", "`body-timeout`"),
        (has_body, "413", "`payload-too-large`"),
        (has_body, "415", "`unsupported-media-type`"),
        (has_body || has_parameters, "400", "`invalid-json`, `invalid-cursor`, `idempotency-key-missing`"),
        (true, "422", "`invalid-field` with `errors`, and other input that is refused"),
    ];
    for (_, status, description) in problems.into_iter().filter(|(applies, _, _)| *applies) {
        add_problem(operation, status, description);
    }
}

/// Unless the operation itself says what the status means.
fn add_problem(operation: &mut Operation, status: &str, description: &str) {
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new().description(description).content(PROBLEM_CONTENT_TYPE, problem);
    operation.responses.responses.entry(status.to_owned()).or_insert_with(|| response.build().into());
}

fn parameters_in(operation: &Operation) -> impl Iterator<Item = ParameterIn> {
    operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(parameter.parameter_in.clone()),
        RefOr::Ref(_) => None,
    })
}

/// A body of which every field may be left out may be left out itself.
fn let_the_body_be_absent(operation: &mut Operation, components: &Components) {
    let Some(RefOr::T(body)) = &mut operation.request_body else { return };
    let is_optional = body.content.values().all(|content| match content {
        RefOr::T(content) => {
            content.schema.as_ref().is_some_and(|schema| requires_nothing(schema, components))
        }
        RefOr::Ref(_) => false,
    });
    if is_optional {
        body.required = Some(Required::False);
    }
}

fn requires_nothing(schema: &RefOr<Schema>, components: &Components) -> bool {
    match schema {
        RefOr::T(Schema::Object(object)) => object.required.is_empty(),
        RefOr::T(_) => false,
        RefOr::Ref(reference) => {
            let name = reference.ref_location.rsplit('/').next().unwrap_or_default();
            components.schemas.get(name).is_some_and(|schema| requires_nothing(schema, components))
        }
    }
}

/// The headers of answers: what `request_id`, `error` and `idempotency` add.
const HEADERS: [(&str, &str); 4] = [
    ("x-request-id", "The request's id: in the log too, and in a problem's `instance`."),
    ("WWW-Authenticate", "`Bearer`."),
    ("Retry-After", "In seconds: `1`."),
    ("Idempotency-Replayed", "`true` where the answer is an earlier one; else it is left out."),
];

fn header(description: &str) -> Header {
    HeaderBuilder::new().schema(Some(Object::with_type(Type::String))).description(Some(description)).build()
}

fn add_headers(operation: &mut Operation) {
    let is_keyed = parameters_in(operation).any(|place| place == ParameterIn::Header);
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        add_header(response, "x-request-id");
        let is_problem = response.content.contains_key(PROBLEM_CONTENT_TYPE);
        match status.as_str() {
            "401" => add_header(response, "WWW-Authenticate"),
            "503" if is_problem => add_header(response, "Retry-After"),
            "200" | "201" | "202" | "402" if is_keyed => add_header(response, "Idempotency-Replayed"),
            _ => {}
        }
    }
}

fn add_header(response: &mut Response, name: &str) {
    let reference = Ref::new(format!("#/components/headers/{name}"));
    response.headers.insert(name.to_owned(), RefOr::Ref(reference));
}

fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, put, post, delete, .. } = item;
    [("DELETE", delete), ("GET", get), ("POST", post), ("PUT", put)]
        .into_iter()
        .filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation)))
}

/// The document as it is served, and the methods of each path.
pub(crate) struct Document {
    pub(crate) json: Bytes,
    paths: Vec<(ResourceDef, String)>,
}

impl Document {
    pub(crate) fn new() -> db::Result<Document> {
        let mut document = openapi();
        let json = document.to_json().map_err(|error| db::Error::Fault(Box::new(error)))?;
        let paths = document.paths.paths.iter_mut().map(|(path, item)| {
            let methods: Vec<&str> = operations_mut(item).map(|(method, _)| method).collect();
            (ResourceDef::new(path.as_str()), methods.join(", "))
        });
        Ok(Document { paths: paths.collect(), json: Bytes::from(json) })
    }

    /// The methods of a path, as `Allow` lists them; `None` for a path that is not there. A path may
    /// match two patterns, a fixed one and one with an id.
    pub(crate) fn allow(&self, path: &str) -> Option<String> {
        let matching = self.paths.iter().filter(|(pattern, _)| pattern.is_match(path));
        let methods: Vec<&str> = matching.map(|(_, methods)| methods.as_str()).collect();
        (!methods.is_empty()).then(|| methods.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    fn document() -> Value {
        serde_json::to_value(openapi()).unwrap()
    }

    fn operations(document: &Value) -> Vec<(String, Value)> {
        let mut operations = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                operations.push((format!("{method} {path}"), operation.clone()));
            }
        }
        operations
    }

    #[test]
    fn every_operation_is_described() {
        let document = document();
        let tags: BTreeSet<&str> =
            document["tags"].as_array().unwrap().iter().filter_map(|tag| tag["name"].as_str()).collect();
        let mut ids = BTreeSet::new();
        for (name, operation) in operations(&document) {
            let id = operation["operationId"].as_str().unwrap_or_default();
            assert!(!id.is_empty() && ids.insert(id.to_owned()), "{name}: its id is its own");
            assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{name}");
            let own_tags = operation["tags"].as_array().unwrap();
            assert!(own_tags.len() == 1 && tags.contains(own_tags[0].as_str().unwrap()), "{name}");
            let security = operation["security"].as_array().unwrap();
            if !is_open(name.split_once(' ').unwrap().1) {
                assert!(security[0]["bearer"].as_array().is_some_and(|scopes| !scopes.is_empty()), "{name}");
                for status in ["401", "403", "414", "422", "500", "503"] {
                    let content = &operation["responses"][status]["content"][PROBLEM_CONTENT_TYPE];
                    assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{name} {status}");
                }
            } else {
                assert_eq!(security, &[json!({})], "{name} is open");
            }
            let has_success =
                ["200", "201", "202", "204"].iter().any(|status| operation["responses"][status].is_object());
            assert!(has_success, "{name}");
        }
    }

    #[test]
    fn a_change_of_money_names_the_key_that_makes_it_happen_once() {
        let keyed: Vec<String> = operations(&document())
            .into_iter()
            .filter(|(_, operation)| {
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                parameters.into_iter().any(|parameter| {
                    parameter["name"] == "Idempotency-Key"
                        && parameter["in"] == "header"
                        && parameter["required"] == true
                })
            })
            .map(|(name, _)| name)
            .collect();
        let expected = [
            "post /v1/campaigns",
            "post /v1/catalog/versions",
            "put /v1/customers/{id}/exhaustion",
            "post /v1/customers/{id}/grants",
            "post /v1/customers/{id}/grants/{grant}/revoke",
            "post /v1/invoices/{id}/pay",
            "post /v1/invoices/{id}/refunds",
            "post /v1/subscriptions",
            "post /v1/subscriptions/{id}/cancel",
            "post /v1/subscriptions/{id}/resume",
            "post /v1/subscriptions/{id}/suspend",
            "delete /v1/subscriptions/{id}/cancel",
            "put /v1/subscriptions/{id}/payment-method",
            "put /v1/subscriptions/{id}/scheduled-plan",
            "delete /v1/subscriptions/{id}/scheduled-plan",
            "post /v1/subscriptions/{id}/upgrade",
            "post /v1/top-ups",
        ];
        let expected: BTreeSet<String> = expected.map(str::to_owned).into();
        assert_eq!(keyed.into_iter().collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn what_may_not_be_there_has_a_404() {
        let names_another_thing = |name: &str, operation: &Value| {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let names_a_customer = parameters.into_iter().any(|parameter| parameter["name"] == "customer");
            let bodies = ["post /v1/authorizations", "post /v1/subscriptions", "post /v1/top-ups"];
            let is_signed = name.contains("/v1/webhooks/");
            (name.contains('{') && !is_signed) || names_a_customer || bodies.contains(&name)
        };
        for (name, operation) in operations(&document()) {
            let is_documented = operation["responses"]["404"].is_object();
            assert_eq!(is_documented, names_another_thing(&name, &operation), "{name}");
        }
    }

    #[test]
    fn every_answer_has_the_headers_that_are_sent_with_it() {
        let mut replayed = 0;
        for (name, operation) in operations(&document()) {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let has = |header: &str| response["headers"][header].is_object();
                assert!(has("x-request-id"), "{name} {status}");
                assert_eq!(has("WWW-Authenticate"), status == "401", "{name} {status}");
                let is_outage = status == "503" && name != "get /readyz";
                assert_eq!(has("Retry-After"), is_outage, "{name} {status}");
                replayed += usize::from(has("Idempotency-Replayed"));
            }
        }
        assert!(replayed > 8, "{replayed}");
    }

    #[test]
    fn a_body_may_be_absent_where_all_its_fields_may() {
        let optional = operations(&document()).into_iter().filter(|(_, operation)| {
            let body = &operation["requestBody"];
            body.is_object() && body["required"] != true
        });
        let optional: Vec<String> = optional.map(|(name, _)| name).collect();
        let expected = [
            "post /v1/customers/{id}/tokens",
            "post /v1/invoices/{id}/pay",
            "post /v1/invoices/{id}/refunds",
            "post /v1/subscriptions/{id}/cancel",
            "post /v1/subscriptions/{id}/suspend",
        ];
        assert_eq!(optional, expected);
    }

    #[test]
    fn an_id_has_a_pattern_and_a_name_is_one_of_a_list() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        for (owner, field, schema) in [
            ("Subscription", "id", "SubscriptionId"),
            ("Grant", "purchase", "PurchaseId"),
            ("Quote", "id", "QuoteId"),
            ("WebhookEndpoint", "id", "EndpointId"),
        ] {
            let reference = &schemas[owner]["properties"][field]["$ref"];
            assert_eq!(reference, &json!(format!("#/components/schemas/{schema}")), "{owner}");
            let pattern = schemas[schema]["pattern"].as_str().unwrap();
            assert!(pattern.ends_with("_[0-9a-f]{32}$"), "{pattern}");
        }
        let names = json!(["queued", "running", "done"]);
        assert_eq!(schemas["RolloverState"]["enum"], names);
        assert_eq!(schemas["SubscriptionStatus"]["enum"].as_array().unwrap().len(), 6);
        assert!(!document.to_string().contains(r#""type":"string","example":"sub_"#));
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(Value::as_str));
                    members.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn out_of_credits_has_a_schema_of_its_own() {
        let document = document();
        let response = &document["paths"]["/v1/authorizations"]["post"]["responses"]["402"];
        let schema = &response["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(schema, "#/components/schemas/InsufficientQuota");
        let required = &document["components"]["schemas"]["InsufficientQuota"]["required"];
        let expected = ["type", "error", "request_id", "needed", "remaining", "resets_at", "upgrade_url"];
        assert_eq!(required, &json!(expected));
    }

    #[test]
    fn the_methods_of_a_path_are_those_of_the_document() {
        let document = Document::new().unwrap();
        let allow = |path| document.allow(path);
        assert_eq!(allow("/v1/customers").as_deref(), Some("GET, POST"));
        assert_eq!(allow("/v1/customers/cus_1/balance").as_deref(), Some("GET"));
        assert_eq!(allow("/v1/subscriptions/sub_1/scheduled-plan").as_deref(), Some("DELETE, PUT"));
        assert_eq!(allow("/v1/authorizations/price").as_deref(), Some("POST"));
        for none in ["/v1", "/v1/customers/", "/v1/customers/a/b", "/v1/customersx", "", "*"] {
            assert_eq!(allow(none), None, "{none}");
        }
    }
}
