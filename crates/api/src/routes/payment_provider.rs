//! The tenant's account at the payment provider, what that has told, and what customers pay with.

use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, get, post, put};
use domain::id::{CustomerId, PaymentId};
use domain::{Refusal, Timestamp};
use provider_accounts::{AccountView, NewCredentials, ProviderAccounts, SavedMethod};
use provider_events::{ProviderEvents, State};
use serde::{Deserialize, Serialize};
use tenants::Tenants;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::auth::{Administers, Bills, Caller};
use crate::body::{Body, NoBody, NoQuery, Query};
use crate::error::{Error, Problem};
use crate::page::{Limit, List};
use crate::path::Id;
use crate::schema;
use crate::unbroken::unbroken;
use crate::wire::{Instant, Page};

/// Credentials for Stripe, in place of those before. They are shown nowhere again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewAccount {
    /// A secret or restricted key, of the tenant's own mode: `sk_test_...` or `rk_test_...` in a test
    /// tenant, `sk_live_...` or `rk_live_...` in a live one.
    #[schema(max_length = 256, example = "rk_test_0123456789abcdef")]
    secret_key: String,
    /// What Stripe signs the webhooks with that it sends here, `whsec_...`: 1 to 3, so that one can be
    /// replaced while events signed with the old one are still on their way.
    #[schema(min_items = 1, max_items = 3)]
    signing_secrets: Vec<String>,
    /// Stripe's id of the account, where its events name one. Those of any other are turned away.
    #[schema(example = "acct_1Abc")]
    account: Option<String>,
}

/// The tenant's account, without its secrets.
#[derive(Debug, Serialize, ToSchema)]
struct ProviderAccount {
    /// Always `stripe`.
    #[schema(example = "stripe")]
    provider: &'static str,
    #[schema(required)]
    account: Option<String>,
    /// Whether it moves real money.
    is_live: bool,
    /// How many signing secrets there are.
    signing_secrets: usize,
    /// In real time.
    created_at: Instant,
    /// In real time.
    changed_at: Instant,
}

/// An event that the provider told.
#[derive(Debug, Serialize, ToSchema)]
struct ProviderEvent {
    /// The provider's.
    #[schema(example = "evt_1Abc")]
    id: String,
    #[serde(rename = "type")]
    #[schema(example = "payment_intent.succeeded")]
    kind: String,
    state: schema::ProviderEventState,
    /// Why it was ignored, rejected or parked.
    #[schema(required, example = "another-amount")]
    reason: Option<String>,
    came_by: schema::ProviderEventWay,
    /// The payment that it was about.
    #[schema(value_type = Option<schema::PaymentId>, required)]
    payment: Option<PaymentId>,
    /// When the provider says it happened; null for what is no event.
    #[schema(required)]
    told_at: Option<Instant>,
    /// In real time.
    received_at: Instant,
    /// In real time; null as long as it waits to be applied.
    #[schema(required)]
    settled_at: Option<Instant>,
}

/// The query of the provider's events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Those in this state alone: `received`, `applied`, `ignored`, `rejected` or `parked`.
    state: Option<String>,
    /// How many items at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Limit,
    /// The `next_cursor` of the page before; the first page without.
    cursor: Option<String>,
}

/// A payment method that is saved for a customer.
#[derive(Debug, Serialize, ToSchema)]
struct SavedPaymentMethod {
    /// What a purchase names it by.
    #[schema(example = "pm_1Abc")]
    payment_method: String,
    #[schema(required, example = "visa")]
    brand: Option<String>,
    /// The last four digits of the card.
    #[schema(required, example = "4242")]
    last4: Option<String>,
    saved_at: Instant,
    /// Whether the provider says that the customer pays with it by default.
    is_default: bool,
}

/// A customer's saved payment methods.
#[derive(Debug, Serialize, ToSchema)]
struct SavedPaymentMethods {
    data: Vec<SavedPaymentMethod>,
}

/// What the storefront's form saves a payment method with.
#[derive(Debug, Serialize, ToSchema)]
struct PaymentMethodSetup {
    /// The provider's.
    #[schema(example = "seti_1Abc")]
    id: String,
    /// For the provider's own script in the customer's browser.
    client_secret: String,
}

/// Where the provider's page leads to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCheckoutPage {
    /// Where the customer goes once a method is saved: `https`, in test tenants `http` too.
    #[schema(max_length = 2048, example = "https://example.com/saved")]
    success_url: String,
    /// Where the customer goes who does not save one.
    #[schema(max_length = 2048, example = "https://example.com/account")]
    cancel_url: String,
}

/// A page of the provider's that saves a payment method.
#[derive(Debug, Serialize, ToSchema)]
struct CheckoutPage {
    /// The provider's.
    #[schema(example = "cs_1Abc")]
    id: String,
    /// To send the customer to.
    url: String,
}

/// Set the account
///
/// The tenant's credentials for Stripe. From now on every payment method but the sandbox's is Stripe's.
/// Stripe has to be told to send its events to `/v1/webhooks/stripe/` and the tenant's id.
#[utoipa::path(
    tag = "Payment provider",
    security(("bearer" = ["admin"])),
    request_body = NewAccount,
    responses((status = 200, description = "Set", body = ProviderAccount)),
)]
#[put("/payment-provider")]
pub(super) async fn set_payment_provider(
    caller: Administers,
    _: NoQuery,
    new: Body<NewAccount>,
    accounts: Data<ProviderAccounts>,
) -> Result<Json<ProviderAccount>, Error> {
    let scope = caller.scope().clone();
    let NewAccount { secret_key, signing_secrets, account } = new.value;
    let credentials = NewCredentials { secret_key, signing_secrets, account };
    let set = unbroken(async move { accounts.set_credentials(&scope, credentials).await }).await?;
    Ok(Json(set.into()))
}

/// Read the account
#[utoipa::path(
    tag = "Payment provider",
    security(("bearer" = ["admin"])),
    responses(
        (status = 200, description = "The account, without its secrets", body = ProviderAccount),
        (status = 409, description = "`no-payment-provider`: none is set", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/payment-provider")]
pub(super) async fn read_payment_provider(
    caller: Administers,
    _: NoQuery,
    accounts: Data<ProviderAccounts>,
) -> Result<Json<ProviderAccount>, Error> {
    let view = accounts.view(caller.scope().tenant).await?.ok_or(Refusal::NoPaymentProvider)?;
    Ok(Json(view.into()))
}

/// List the provider's events
///
/// What Stripe has told, in order of its ids, and what became of it. `parked` ones have had no effect,
/// and want somebody to look.
#[utoipa::path(
    tag = "Payment provider",
    security(("bearer" = ["admin"])),
    params(EventsQuery),
    responses((status = 200, description = "A page of events", body = Page<ProviderEvent>)),
)]
#[get("/provider-events")]
pub(super) async fn list_provider_events(
    caller: Administers,
    query: Query<EventsQuery>,
    events: Data<ProviderEvents>,
) -> Result<Json<Page<ProviderEvent>>, Error> {
    let EventsQuery { state, limit, cursor } = query.0;
    let state = match state {
        None => None,
        Some(name) => {
            let named = State::ALL.into_iter().find(|state| state.name() == name);
            Some(named.ok_or_else(|| Refusal::invalid_field("state", "unknown-value"))?)
        }
    };
    let owner = state.map_or("", State::name);
    let list = List { tenant: caller.scope().tenant, kind: "provider-events", owner };
    let after: Option<String> = list.after(cursor.as_deref())?;
    let found = events.list(caller.scope(), state, after.as_deref(), limit.and_one()).await?;
    Ok(Json(list.page(found, limit, |event| event.id.clone())))
}

/// List a customer's payment methods
///
/// Those that are saved at the payment provider. The sandbox saves none.
#[utoipa::path(
    tag = "Payment provider",
    security(("bearer" = ["read", "customer"])),
    params(("id" = schema::CustomerId, Path, description = "The customer")),
    responses((status = 200, description = "The methods", body = SavedPaymentMethods)),
)]
#[get("/customers/{id}/payment-methods")]
pub(super) async fn list_payment_methods(
    caller: Caller,
    _: NoQuery,
    id: Id<CustomerId>,
    tenants: Data<Tenants>,
    accounts: Data<ProviderAccounts>,
) -> Result<Json<SavedPaymentMethods>, Error> {
    caller.sees(id.0, "customer")?;
    tenants.customer(caller.scope(), id.0).await?;
    let methods = accounts.saved_methods(caller.scope(), id.0).await?;
    Ok(Json(SavedPaymentMethods { data: methods.into_iter().map(SavedPaymentMethod::from).collect() }))
}

/// Set a payment method up
///
/// Begins to save one in the storefront's own form, by the provider's script. Once saved, it is listed
/// among the customer's, and can buy.
#[utoipa::path(
    tag = "Payment provider",
    security(("bearer" = ["billing"])),
    params(("id" = schema::CustomerId, Path, description = "The customer")),
    responses(
        (status = 201, description = "What the form needs", body = PaymentMethodSetup),
        (status = 409, description = "`no-payment-provider`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/customers/{id}/payment-method-setups")]
pub(super) async fn begin_payment_method_setup(
    caller: Bills,
    _: NoQuery,
    id: Id<CustomerId>,
    _: NoBody,
    tenants: Data<Tenants>,
    accounts: Data<ProviderAccounts>,
) -> Result<HttpResponse, Error> {
    let scope = caller.scope().clone();
    tenants.customer(&scope, id.0).await?;
    let key = Uuid::now_v7().to_string();
    let setup = unbroken(async move { accounts.begin_setup(&scope, id.0, &key).await }).await?;
    Ok(HttpResponse::Created().json(PaymentMethodSetup { id: setup.id, client_secret: setup.client_secret }))
}

/// Open a checkout page
///
/// A page of the provider's on which the customer saves a payment method, for storefronts without a
/// form of their own.
#[utoipa::path(
    tag = "Payment provider",
    security(("bearer" = ["billing"])),
    params(("id" = schema::CustomerId, Path, description = "The customer")),
    request_body = NewCheckoutPage,
    responses(
        (status = 201, description = "Where to send the customer", body = CheckoutPage),
        (status = 409, description = "`no-payment-provider`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/customers/{id}/checkout-pages")]
pub(super) async fn open_checkout_page(
    caller: Bills,
    _: NoQuery,
    id: Id<CustomerId>,
    new: Body<NewCheckoutPage>,
    tenants: Data<Tenants>,
    accounts: Data<ProviderAccounts>,
) -> Result<HttpResponse, Error> {
    let scope = caller.scope().clone();
    tenants.customer(&scope, id.0).await?;
    let key = Uuid::now_v7().to_string();
    let NewCheckoutPage { success_url, cancel_url } = new.value;
    let page =
        unbroken(async move { accounts.open_checkout(&scope, id.0, &success_url, &cancel_url, &key).await })
            .await?;
    Ok(HttpResponse::Created().json(CheckoutPage { id: page.id, url: page.url }))
}

impl From<AccountView> for ProviderAccount {
    fn from(view: AccountView) -> Self {
        ProviderAccount {
            provider: "stripe",
            account: view.account,
            is_live: view.is_live,
            signing_secrets: view.signing_secrets,
            created_at: Instant(view.created_at),
            changed_at: Instant(view.changed_at),
        }
    }
}

impl From<provider_events::ReceivedEvent> for ProviderEvent {
    fn from(event: provider_events::ReceivedEvent) -> Self {
        let instant = |at: Option<Timestamp>| at.map(Instant);
        ProviderEvent {
            id: event.id,
            kind: event.kind,
            state: schema::ProviderEventState(event.state),
            reason: event.reason,
            came_by: schema::ProviderEventWay(event.came_by),
            payment: event.payment,
            told_at: instant(event.told_at),
            received_at: Instant(event.received_at),
            settled_at: instant(event.settled_at),
        }
    }
}

impl From<SavedMethod> for SavedPaymentMethod {
    fn from(saved: SavedMethod) -> Self {
        SavedPaymentMethod {
            payment_method: saved.method,
            brand: saved.brand,
            last4: saved.last4,
            saved_at: Instant(saved.saved_at),
            is_default: saved.is_default,
        }
    }
}
