//! The routes, a file a noun. A handler extracts, calls one service and shapes the answer.

mod adjustments;
mod api_keys;
mod authorizations;
mod campaigns;
mod catalog_document;
mod catalog_versions;
mod customers;
mod documents;
mod estimates;
mod exhaustion;
mod health;
mod invoice_pdfs;
mod invoices;
mod ledger;
mod migrations;
mod payment_provider;
mod plans;
mod provider_webhooks;
mod refunds;
mod rollovers;
mod statements;
mod subscriptions;
mod suspensions;
mod test_clock;
mod top_ups;
mod usage;
mod usage_events;
mod usage_lines;
mod usage_receipts;
mod usage_reports;
mod usage_voids;
mod webhook_endpoints;

use actix_web::middleware::from_fn;
use utoipa_actix_web::scope;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::not_found::not_found;
use crate::{auth, request_id};

/// Registers every route, and so puts it into the OpenAPI document too.
pub(crate) fn register(config: &mut ServiceConfig<'_>) {
    // A path is compared with one route after the other: first those that gateways call all the time.
    let v1 = scope("/v1")
        .service(authorizations::authorize)
        .service(usage::record_usage)
        .service(plans::list_plans)
        .service(plans::read_rate_card)
        .service(plans::read_rate_card_version)
        .service(catalog_versions::publish_catalog)
        .service(catalog_versions::list_catalog_versions)
        .service(catalog_versions::preview_catalog)
        .service(catalog_versions::read_catalog_version)
        .service(customers::create_customer)
        .service(customers::list_customers)
        .service(customers::read_customer)
        .service(ledger::read_balance)
        .service(ledger::list_grants)
        .service(ledger::list_transfers)
        .service(customers::mint_customer_token)
        .service(subscriptions::subscribe)
        .service(subscriptions::list_subscriptions)
        .service(subscriptions::read_subscription)
        .service(statements::read_statement)
        .service(subscriptions::preview_upgrade)
        .service(subscriptions::upgrade_subscription)
        .service(subscriptions::schedule_plan)
        .service(subscriptions::withdraw_scheduled_plan)
        .service(subscriptions::cancel_subscription)
        .service(subscriptions::withdraw_cancel)
        .service(subscriptions::set_payment_method)
        .service(suspensions::suspend_subscription)
        .service(suspensions::resume_subscription)
        .service(migrations::schedule_migration)
        .service(migrations::withdraw_migration)
        .service(migrations::migrate_plan)
        .service(authorizations::price_request)
        .service(authorizations::renew_authorization)
        .service(authorizations::release_authorization)
        .service(usage::list_unrated)
        .service(usage_reports::read_event)
        .service(usage_voids::void_event)
        .service(usage_reports::read_usage)
        .service(estimates::estimate_sessions)
        .service(estimates::forecast_usage)
        .service(usage::list_quarantined)
        .service(usage::replay_quarantined)
        .service(invoices::list_invoices)
        .service(invoices::read_invoice)
        .service(invoice_pdfs::read_invoice_pdf)
        .service(invoices::pay_invoice)
        .service(exhaustion::set_exhaustion)
        .service(exhaustion::read_exhaustion)
        .service(adjustments::grant_credits)
        .service(adjustments::revoke_grant)
        .service(campaigns::start_campaign)
        .service(campaigns::list_campaigns)
        .service(campaigns::read_campaign)
        .service(top_ups::buy_top_up)
        .service(top_ups::list_top_ups)
        .service(top_ups::read_top_up)
        .service(refunds::refund_invoice)
        .service(rollovers::start_rollover)
        .service(rollovers::read_rollover)
        .service(api_keys::issue_api_key)
        .service(api_keys::list_api_keys)
        .service(api_keys::revoke_api_key)
        .service(payment_provider::set_payment_provider)
        .service(payment_provider::read_payment_provider)
        .service(payment_provider::list_provider_events)
        .service(payment_provider::list_payment_methods)
        .service(payment_provider::begin_payment_method_setup)
        .service(payment_provider::open_checkout_page)
        .service(provider_webhooks::receive_stripe_webhook)
        .service(webhook_endpoints::create_webhook_endpoint)
        .service(webhook_endpoints::list_webhook_endpoints)
        .service(webhook_endpoints::disable_webhook_endpoint)
        .service(test_clock::read_test_clock)
        .service(test_clock::set_test_clock)
        .service(test_clock::advance_test_clock)
        .default_service(actix_web::web::to(not_found))
        .map(|v1| v1.wrap(from_fn(auth::authenticate)));
    let all = scope("")
        .service(v1)
        .service(health::read_health)
        .service(health::read_readiness)
        .service(documents::read_openapi)
        .service(documents::read_docs)
        .service(documents::read_docs_file)
        .default_service(actix_web::web::to(not_found))
        .map(|all| all.wrap(from_fn(request_id::answer)));
    // What is no path at all, as in `OPTIONS *`, is in no scope.
    let rest = actix_web::web::to(not_found).wrap(from_fn(request_id::answer));
    config.service(all).default_service(rest);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_http::Request;
    use actix_web::body::BoxBody;
    use actix_web::dev::{Service, ServiceResponse};
    use actix_web::http::Method;
    use actix_web::http::header::{ALLOW, CACHE_CONTROL, WWW_AUTHENTICATE};
    use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
    use actix_web::web::Data;
    use actix_web::{App, Error};
    use serde_json::Value;
    use tenants::{Tenants, TokenKey};

    use super::*;
    use crate::openapi::Document;

    /// Every route, with nothing behind it: what is answered here is answered without a service.
    async fn app() -> impl Service<Request, Response = ServiceResponse<BoxBody>, Error = Error> {
        let db = db::Db::new(db::Options {
            url: "postgres://127.0.0.1:1/nowhere".to_owned(),
            connections_max: 1,
            deadline: Duration::from_secs(1),
        });
        let token_key = TokenKey::from_pem(&TokenKey::generate().unwrap()).unwrap();
        let tenants = Data::new(Tenants::new(db.unwrap(), token_key));
        let document = Data::new(Document::new().unwrap());
        init_service(
            App::new()
                .app_data(tenants)
                .app_data(document)
                .configure(|config| register(&mut ServiceConfig::new(config))),
        )
        .await
    }

    /// Every operation as (method, path with an id in it).
    fn operations() -> Vec<(Method, String)> {
        let document = serde_json::to_value(crate::openapi()).unwrap();
        let mut operations = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let path = path
                .replace("{id}", "x")
                .replace("{version}", "1")
                .replace("{tenant}", "x")
                .replace("{file}", "index.html");
            for method in item.as_object().unwrap().keys() {
                operations.push((method.to_uppercase().parse().unwrap(), path.clone()));
            }
        }
        operations
    }

    #[actix_web::test]
    async fn every_operation_asks_for_credentials_before_it_looks_at_anything_else() {
        let app = app().await;
        let mut bodies = std::collections::BTreeSet::new();
        for (method, path) in operations().into_iter().filter(|(_, path)| !crate::openapi::is_open(path)) {
            for body in ["", "{", "{}"] {
                let request = TestRequest::with_uri(&path).method(method.clone()).set_payload(body);
                let response = call_service(&app, request.to_request()).await;
                assert_eq!(response.status().as_u16(), 401, "{method} {path}");
                assert_eq!(response.headers().get(WWW_AUTHENTICATE).unwrap(), "Bearer");
                assert_eq!(response.headers().get(CACHE_CONTROL).unwrap(), "no-store");
                let id = response.headers().get("x-request-id").unwrap().to_str().unwrap().to_owned();
                let mut body: Value = read_body_json(response).await;
                assert_eq!(body["instance"].take(), Value::String(id));
                bodies.insert(body.to_string());
            }
        }
        assert_eq!(bodies.len(), 1, "one body for every cause");
    }

    #[actix_web::test]
    async fn a_credential_that_is_none_is_refused_alike_whatever_it_looks_like() {
        let app = app().await;
        let mut bodies = std::collections::BTreeSet::new();
        for header in
            ["", "Bearer", "Bearer ", "Basic dTpw", "Bearer tg_live_x", "Bearer a.b.c", "Bearer \u{e9}"]
        {
            let request = TestRequest::get().uri("/v1/plans").insert_header(("authorization", header));
            let response = call_service(&app, request.to_request()).await;
            assert_eq!(response.status().as_u16(), 401, "{header}");
            let mut body: Value = read_body_json(response).await;
            body["instance"].take();
            bodies.insert(body.to_string());
        }
        assert_eq!(bodies.len(), 1);
    }

    #[actix_web::test]
    async fn a_method_that_a_path_does_not_have_is_405_and_says_which_it_has() {
        let app = app().await;
        for (method, path, allow) in [
            ("POST", "/v1/plans", "GET"),
            ("HEAD", "/v1/plans", "GET"),
            ("OPTIONS", "/v1/customers", "GET, POST"),
            ("PATCH", "/v1/customers", "GET, POST"),
            ("TRACE", "/v1/test-clock", "GET, PUT"),
            ("DELETE", "/v1/customers/cus_1", "GET"),
            ("GET", "/v1/subscriptions/sub_1/cancel", "DELETE, POST"),
            ("PUT", "/v1/usage/events", "POST"),
            ("POST", "/healthz", "GET"),
            ("DELETE", "/openapi.json", "GET"),
            ("POST", "/docs/", "GET"),
        ] {
            let request = TestRequest::with_uri(path)
                .method(method.parse().unwrap())
                .insert_header(("x-http-method-override", "GET"));
            let response = call_service(&app, request.to_request()).await;
            assert_eq!(response.status().as_u16(), 405, "{method} {path}");
            assert_eq!(response.headers().get(ALLOW).unwrap(), allow, "{method} {path}");
        }
    }

    #[actix_web::test]
    async fn a_path_that_is_not_there_is_a_problem() {
        let app = app().await;
        for path in [
            "/",
            "/v1",
            "/v1/",
            "/v1/nothing",
            "/v1/plans/",
            "/v1//plans",
            "/v1/customers/a%2fb/none",
            "/metrics",
            "/debug",
            "/docs/none.js",
            "/docs/..%2f..%2fetc%2fpasswd",
            "/v1/%00",
            "/v1/%ff",
        ] {
            let response = call_service(&app, TestRequest::get().uri(path).to_request()).await;
            assert_eq!(response.status().as_u16(), 404, "{path}");
            assert_eq!(response.headers().get("content-type").unwrap(), "application/problem+json", "{path}");
            assert!(response.headers().contains_key("x-request-id"), "{path}");
        }
    }

    #[actix_web::test]
    async fn what_is_no_path_or_too_long_a_one_is_a_problem_too() {
        let app = app().await;
        let long = format!("/v1/plans?{}", "a".repeat(10_000));
        for (method, target, status) in [(Method::OPTIONS, "*", 404), (Method::GET, &long, 414)] {
            let request = TestRequest::default().method(method).uri(target).to_request();
            let response = call_service(&app, request).await;
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers().get("content-type").unwrap(), "application/problem+json");
            assert!(response.headers().contains_key("x-request-id"));
        }
    }

    #[actix_web::test]
    async fn a_clients_own_request_id_is_not_taken_over() {
        let app = app().await;
        let request = TestRequest::get().uri("/healthz").insert_header(("x-request-id", "mine"));
        let response = call_service(&app, request.to_request()).await;
        let id = response.headers().get("x-request-id").unwrap().to_str().unwrap();
        assert_eq!(id.parse::<uuid::Uuid>().unwrap().get_version_num(), 7);
    }

    #[actix_web::test]
    async fn what_needs_no_credentials_is_served_without() {
        let app = app().await;
        for (path, content_type) in [
            ("/healthz", "application/json"),
            ("/openapi.json", "application/json"),
            ("/docs/", "text/html"),
            ("/docs/swagger-ui.css", "text/css"),
            ("/docs/swagger-initializer.js", "text/javascript"),
        ] {
            let response = call_service(&app, TestRequest::get().uri(path).to_request()).await;
            assert_eq!(response.status().as_u16(), 200, "{path}");
            let sent = response.headers().get("content-type").unwrap().to_str().unwrap();
            assert!(sent.starts_with(content_type), "{path}: {sent}");
        }
    }
}
