//! Top-ups: Credits apart from a plan.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, get, post};
use domain::id::{CustomerId, ExternalId, InvoiceId, PurchaseId};
use idempotency::Idempotency;
use serde::{Deserialize, Serialize};
use subscriptions::{NewTopUp, Subscriptions, TopUpView};
use tenants::Tenants;
use utoipa::{IntoParams, ToSchema};

use super::invoices::Invoice;
use super::subscriptions::{PaymentStatus, settled};
use crate::auth::{Bills, Caller};
use crate::body::{NoQuery, Query, word};
use crate::error::{Error, Problem};
use crate::idempotency::{IdempotencyKey, Keyed, answer, once};
use crate::page::{Limit, List};
use crate::path::Id;
use crate::schema;
use crate::wire::{Currency, Instant, Page, PaymentMethod};

/// A top-up to buy. What it costs and grants is the catalogue's to say.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BuyTopUp {
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "topup-10m")]
    top_up: ExternalId,
    #[serde(deserialize_with = "word")]
    currency: Currency,
    /// The method of the customer's live subscription where left out.
    payment_method: Option<PaymentMethod>,
}

/// Credits that were bought apart from a plan.
#[derive(Debug, Serialize, ToSchema)]
struct TopUp {
    #[schema(value_type = schema::PurchaseId)]
    id: PurchaseId,
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    #[schema(example = "topup-10m")]
    top_up: String,
    /// The catalogue version that it was bought from.
    catalog_version: u32,
    #[schema(example = 10_000_000)]
    credits: i64,
    status: schema::PurchaseStatus,
    /// Whether it was bought by itself because the Credits ran out.
    automatic: bool,
    #[schema(value_type = schema::InvoiceId)]
    invoice: InvoiceId,
    /// When it is given up, if it is not paid by then.
    expires_at: Instant,
    /// When its Credits were granted.
    #[schema(required)]
    granted_at: Option<Instant>,
    created_at: Instant,
}

/// What a request to buy a top-up came to.
#[derive(Debug, Serialize, ToSchema)]
struct TopUpPurchase {
    top_up: TopUp,
    invoice: Invoice,
    payment_status: PaymentStatus,
}

/// The query of a customer's top-ups.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TopUpsQuery {
    /// Whose top-ups.
    #[param(value_type = schema::CustomerId)]
    customer: CustomerId,
    /// How many items at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Limit,
    /// The `next_cursor` of the page before; the first page without.
    cursor: Option<String>,
}

/// Buy a top-up
///
/// Its Credits are granted when it is paid, and no cycle's end takes them. A declined payment leaves an open
/// invoice, which can be paid again until the top-up is given up.
#[utoipa::path(
    tag = "Top-ups",
    security(("bearer" = ["billing"])),
    params(IdempotencyKey),
    request_body = BuyTopUp,
    responses(
        (status = 201, description = "Paid and granted", body = TopUpPurchase),
        (status = 202, description = "The payment is pending", body = TopUpPurchase),
        (status = 402, description = "`payment-declined`, with `invoice`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such customer", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`no-price-in-currency`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`unknown-top-up`, `unknown-payment-method`, `invalid-field` where there is no method to pay with", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/top-ups")]
pub(super) async fn buy_top_up(
    caller: Bills,
    _: NoQuery,
    new: Keyed<BuyTopUp>,
    subscriptions: Data<Subscriptions>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    let Keyed { value: new, key } = new;
    once(&idempotency, caller.scope(), key, move |scope, key| async move {
        let bought = subscriptions.buy_top_up(&scope, new.into(), &key).await?;
        let (status, payment_status) = settled(bought.settlement, StatusCode::CREATED);
        let (top_up, invoice) = (bought.top_up.into(), bought.invoice.into());
        answer(status, &TopUpPurchase { top_up, invoice, payment_status })
    })
    .await
}

/// List a customer's top-ups
///
/// From the oldest, those that were never paid too.
#[utoipa::path(
    tag = "Top-ups",
    security(("bearer" = ["read", "customer"])),
    params(TopUpsQuery),
    responses(
        (status = 200, description = "A page of top-ups", body = Page<TopUp>),
        (status = 404, description = "`not-found`: no such customer", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/top-ups")]
pub(super) async fn list_top_ups(
    caller: Caller,
    query: Query<TopUpsQuery>,
    tenants: Data<Tenants>,
    subscriptions: Data<Subscriptions>,
) -> Result<Json<Page<TopUp>>, Error> {
    let TopUpsQuery { customer, limit, cursor } = query.0;
    caller.sees(customer, "customer")?;
    let owner = customer.to_string();
    let list = List { tenant: caller.scope().tenant, kind: "top-ups", owner: &owner };
    let after = list.after(cursor.as_deref())?;
    tenants.customer(caller.scope(), customer).await?;
    let found = subscriptions.top_ups(caller.scope(), customer, after, limit.and_one()).await?;
    Ok(Json(list.page(found, limit, |top_up| top_up.id.to_string())))
}

/// Read a top-up
#[utoipa::path(
    tag = "Top-ups",
    security(("bearer" = ["read", "customer"])),
    params(("id" = schema::PurchaseId, Path, description = "The top-up")),
    responses((status = 200, description = "The top-up", body = TopUp)),
)]
#[get("/top-ups/{id}")]
pub(super) async fn read_top_up(
    caller: Caller,
    _: NoQuery,
    id: Id<PurchaseId>,
    subscriptions: Data<Subscriptions>,
) -> Result<Json<TopUp>, Error> {
    let view = subscriptions.read_top_up(caller.scope(), id.0).await?;
    caller.sees(view.customer, "top-up")?;
    Ok(Json(view.into()))
}

impl From<BuyTopUp> for NewTopUp {
    fn from(new: BuyTopUp) -> Self {
        NewTopUp {
            customer: new.customer,
            top_up_code: new.top_up.to_string(),
            currency: new.currency.into(),
            payment_method: new.payment_method.map(String::from),
        }
    }
}

impl From<TopUpView> for TopUp {
    fn from(view: TopUpView) -> Self {
        TopUp {
            id: view.id,
            customer: view.customer,
            top_up: view.top_up_code,
            catalog_version: view.catalog_version,
            credits: view.credits.get(),
            status: schema::PurchaseStatus(view.status),
            automatic: view.is_automatic,
            invoice: view.invoice,
            expires_at: Instant(view.expires_at),
            granted_at: view.granted_at.map(Instant),
            created_at: Instant(view.created_at),
        }
    }
}
