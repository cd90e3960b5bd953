//! The REST API: routes, extractors, problems and the OpenAPI document.
//!
//! # The walk of a request
//! 1. [`request_id`] gives it an id and a span in the log, and keeps its body until it is answered
//!    ([`unread`]).
//! 2. [`auth`] finds out who asks, before the route is chosen.
//! 3. The handler's extractors, in order: the right that the route needs, ids of the path, the query or
//!    the body. Each either proves something or answers.
//! 4. The handler calls one service and shapes the answer. Where a client may repeat a change,
//!    [`idempotency`] stands between the two.
//! 5. On the way out `request_id` turns an error into its answer: [`error`] is the one place that
//!    maps a refusal to HTTP.
//!
//! Wire shapes live with their routes and nowhere else: no type of a service is serialised. There is
//! no rule here, no SQL, and nothing of Redis.

mod auth;
mod body;
mod error;
mod idempotency;
mod not_found;
mod openapi;
mod page;
mod path;
mod request_id;
mod routes;
mod schema;
mod unbroken;
mod unread;
mod wire;

use actix_web::web::{Data, ServiceConfig};
use adjustments::Adjustments;
use catalog::Catalogs;
use db::Db;
use invoices::Invoices;
use ledger::Ledger;
use provider_accounts::ProviderAccounts;
use provider_events::ProviderEvents;
use subscriptions::Subscriptions;
use tenants::Tenants;
use usage::Usage;
use webhooks::Webhooks;

pub use openapi::openapi;

/// What the handlers call.
#[derive(Clone)]
pub struct Services {
    /// For readiness only.
    pub db: Db,
    pub tenants: Tenants,
    pub catalogs: Catalogs,
    pub subscriptions: Subscriptions,
    pub invoices: Invoices,
    pub usage: Usage,
    pub ledger: Ledger,
    pub adjustments: Adjustments,
    pub webhooks: Webhooks,
    pub provider_accounts: ProviderAccounts,
    pub provider_events: ProviderEvents,
    pub idempotency: ::idempotency::Idempotency,
}

/// The whole API, for `App::configure` of every worker:
/// `HttpServer::new(move || App::new().configure(api.clone()))`.
pub fn configure(services: Services) -> db::Result<impl Fn(&mut ServiceConfig) + Clone + Send + 'static> {
    let Services { db, tenants, catalogs, subscriptions, invoices, usage, ledger, .. } = services;
    let Services { adjustments, webhooks, provider_accounts, provider_events, idempotency, .. } = services;
    let document = Data::new(openapi::Document::new()?);
    let (db, tenants, catalogs) = (Data::new(db), Data::new(tenants), Data::new(catalogs));
    let (subscriptions, invoices) = (Data::new(subscriptions), Data::new(invoices));
    let (usage, ledger, adjustments) = (Data::new(usage), Data::new(ledger), Data::new(adjustments));
    let (webhooks, idempotency) = (Data::new(webhooks), Data::new(idempotency));
    let (provider_accounts, provider_events) = (Data::new(provider_accounts), Data::new(provider_events));
    Ok(move |config: &mut ServiceConfig| {
        config
            .app_data(document.clone())
            .app_data(db.clone())
            .app_data(tenants.clone())
            .app_data(catalogs.clone())
            .app_data(subscriptions.clone())
            .app_data(invoices.clone())
            .app_data(usage.clone())
            .app_data(ledger.clone())
            .app_data(adjustments.clone())
            .app_data(webhooks.clone())
            .app_data(provider_accounts.clone())
            .app_data(provider_events.clone())
            .app_data(idempotency.clone());
        routes::register(&mut utoipa_actix_web::service_config::ServiceConfig::new(config));
    })
}
