//! Invoices and their payments.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, get, post};
use domain::id::{CustomerId, DisputeId, InvoiceId, PaymentId};
use idempotency::Idempotency;
use invoices::{InvoiceView, Invoices};
use serde::{Deserialize, Serialize};
use subscriptions::Subscriptions;
use tenants::Tenants;
use utoipa::{IntoParams, ToSchema};

use super::refunds::Refund;
use super::subscriptions::purchased;
use crate::auth::{Bills, Caller};
use crate::body::{NoQuery, Query};
use crate::error::{Error, Problem};
use crate::idempotency::{IdempotencyKey, Keyed, once};
use crate::page::{Limit, List};
use crate::path::Id;
use crate::schema;
use crate::wire::{Instant, Money, Page, PaymentMethod};

/// What is owed for something bought. Written once; its total never changes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Invoice {
    #[schema(value_type = schema::InvoiceId)]
    id: InvoiceId,
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    status: schema::InvoiceStatus,
    total: Money,
    lines: Vec<Line>,
    /// The attempts to collect it, oldest first.
    payments: Vec<Payment>,
    /// What went back of them, oldest first.
    refunds: Vec<Refund>,
    /// What the customer's bank wants back, oldest first.
    disputes: Vec<Dispute>,
    created_at: Instant,
    /// When the payment that settled it succeeded.
    #[schema(required)]
    paid_at: Option<Instant>,
}

/// An invoice without its lines and payments.
#[derive(Debug, Serialize, ToSchema)]
struct InvoiceSummary {
    #[schema(value_type = schema::InvoiceId)]
    id: InvoiceId,
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    status: schema::InvoiceStatus,
    total: Money,
    created_at: Instant,
    #[schema(required)]
    paid_at: Option<Instant>,
}

/// A line of an invoice, in the invoice's currency.
#[derive(Debug, Serialize, ToSchema)]
struct Line {
    kind: schema::LineKind,
    description: String,
    /// Below zero for a discount.
    #[schema(example = 1_600)]
    amount_minor: i64,
}

/// One attempt to collect an invoice.
#[derive(Debug, Serialize, ToSchema)]
struct Payment {
    #[schema(value_type = schema::PaymentId)]
    id: PaymentId,
    status: schema::CollectionStatus,
    amount: Money,
    /// What has gone back or is on its way back.
    refunded: Money,
    /// The provider's name of what pays.
    method: String,
    /// What the customer has to do, where the status is `requires_action`.
    #[schema(required)]
    action: Option<PaymentAction>,
    /// The provider's reason, where it failed.
    #[schema(required)]
    failure_code: Option<String>,
    created_at: Instant,
    #[schema(required)]
    succeeded_at: Option<Instant>,
}

/// What a customer has to do before a payment goes on, such as 3-D Secure; good for this payment only.
#[derive(Debug, Serialize, ToSchema)]
struct PaymentAction {
    /// What the provider's own script in the customer's browser finishes the payment with.
    #[schema(required)]
    client_secret: Option<String>,
    /// A page of the provider's to send the customer to.
    #[schema(required)]
    redirect_url: Option<String>,
}

/// A payment that the customer's bank wants back.
#[derive(Debug, Serialize, ToSchema)]
struct Dispute {
    #[schema(value_type = schema::DisputeId)]
    id: DisputeId,
    /// The provider's own id.
    provider_ref: String,
    #[schema(value_type = schema::PaymentId)]
    payment: PaymentId,
    amount: Money,
    state: schema::DisputeState,
    /// Credits that the payment had paid for and that a lost dispute took back.
    credits_revoked: i64,
    opened_at: Instant,
    /// When the bank had decided.
    #[schema(required)]
    closed_at: Option<Instant>,
}

/// How to pay an invoice.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Pay {
    /// Pays this invoice only; the subscription's own method where left out.
    payment_method: Option<PaymentMethod>,
}

/// The query of a customer's invoices.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct InvoicesQuery {
    /// Whose invoices.
    #[param(value_type = schema::CustomerId)]
    customer: CustomerId,
    /// How many items at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Limit,
    /// The `next_cursor` of the page before; the first page without.
    cursor: Option<String>,
}

/// List a customer's invoices
///
/// From the oldest, without lines and payments.
#[utoipa::path(
    tag = "Invoices",
    security(("bearer" = ["read", "customer"])),
    params(InvoicesQuery),
    responses(
        (status = 200, description = "A page of invoices", body = Page<InvoiceSummary>),
        (status = 404, description = "`not-found`: no such customer", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/invoices")]
pub(super) async fn list_invoices(
    caller: Caller,
    query: Query<InvoicesQuery>,
    tenants: Data<Tenants>,
    invoices: Data<Invoices>,
) -> Result<Json<Page<InvoiceSummary>>, Error> {
    let InvoicesQuery { customer, limit, cursor } = query.0;
    caller.sees(customer, "customer")?;
    let owner = customer.to_string();
    let list = List { tenant: caller.scope().tenant, kind: "invoices", owner: &owner };
    let after = list.after(cursor.as_deref())?;
    tenants.customer(caller.scope(), customer).await?;
    let found = invoices.of_customer(caller.scope().tenant, customer, after, limit.and_one()).await?;
    Ok(Json(list.page(found, limit, |invoice| invoice.id.to_string())))
}

/// Read an invoice
#[utoipa::path(
    tag = "Invoices",
    security(("bearer" = ["read", "customer"])),
    params(("id" = schema::InvoiceId, Path, description = "The invoice")),
    responses((status = 200, description = "The invoice", body = Invoice)),
)]
#[get("/invoices/{id}")]
pub(super) async fn read_invoice(
    caller: Caller,
    _: NoQuery,
    id: Id<InvoiceId>,
    invoices: Data<Invoices>,
) -> Result<Json<Invoice>, Error> {
    let view = invoices.read(caller.scope().tenant, id.0).await?;
    caller.sees(view.invoice.customer, "invoice")?;
    Ok(Json(view.into()))
}

/// Pay an invoice
///
/// Tries an open invoice again: of a subscription that waits for its first payment, or of an unpaid
/// renewal. A payment that is in flight is given up first.
#[utoipa::path(
    tag = "Invoices",
    security(("bearer" = ["billing"])),
    params(
        ("id" = schema::InvoiceId, Path, description = "The invoice"),
        IdempotencyKey,
    ),
    request_body = Pay,
    responses(
        (status = 200, description = "Paid", body = super::subscriptions::Purchase),
        (status = 202, description = "The payment is pending, or the customer has to act first", body = super::subscriptions::Purchase),
        (status = 402, description = "`payment-declined`, with `subscription` and `invoice`; `subscription-suspended`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`invoice-not-open`, `payment-pending`, `promotion-used`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/invoices/{id}/pay")]
pub(super) async fn pay_invoice(
    caller: Bills,
    _: NoQuery,
    id: Id<InvoiceId>,
    pay: Keyed<Pay>,
    subscriptions: Data<Subscriptions>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    let Keyed { value: Pay { payment_method }, key } = pay;
    once(&idempotency, caller.scope(), key, move |scope, key| async move {
        let method = payment_method.map(String::from);
        purchased(subscriptions.pay_invoice(&scope, id.0, method, &key).await?, StatusCode::OK)
    })
    .await
}

impl From<invoices::Invoice> for InvoiceSummary {
    fn from(invoice: invoices::Invoice) -> Self {
        InvoiceSummary {
            id: invoice.id,
            customer: invoice.customer,
            status: schema::InvoiceStatus(invoice.status),
            total: invoice.total.into(),
            created_at: Instant(invoice.created_at),
            paid_at: invoice.paid_at.map(Instant),
        }
    }
}

impl From<InvoiceView> for Invoice {
    fn from(view: InvoiceView) -> Self {
        let InvoiceView { invoice, lines, payments, refunds, disputes } = view;
        Invoice {
            id: invoice.id,
            customer: invoice.customer,
            status: schema::InvoiceStatus(invoice.status),
            total: invoice.total.into(),
            lines: lines.into_iter().map(Line::from).collect(),
            payments: payments.into_iter().map(Payment::from).collect(),
            refunds: refunds.into_iter().map(Refund::from).collect(),
            disputes: disputes.into_iter().map(Dispute::from).collect(),
            created_at: Instant(invoice.created_at),
            paid_at: invoice.paid_at.map(Instant),
        }
    }
}

impl From<invoices::Line> for Line {
    fn from(line: invoices::Line) -> Self {
        Line {
            kind: schema::LineKind(line.kind),
            description: line.description,
            amount_minor: line.amount_minor,
        }
    }
}

impl From<invoices::Dispute> for Dispute {
    fn from(dispute: invoices::Dispute) -> Self {
        Dispute {
            id: dispute.id,
            provider_ref: dispute.provider_ref,
            payment: dispute.payment,
            amount: dispute.amount.into(),
            state: schema::DisputeState(dispute.state),
            credits_revoked: dispute.credits_revoked.get(),
            opened_at: Instant(dispute.opened_at),
            closed_at: dispute.closed_at.map(Instant),
        }
    }
}

impl From<invoices::Payment> for Payment {
    fn from(payment: invoices::Payment) -> Self {
        Payment {
            id: payment.id,
            status: schema::CollectionStatus(payment.status),
            amount: payment.amount.into(),
            refunded: payment.refunded.into(),
            method: payment.method,
            action: payment.action.map(|action| PaymentAction {
                client_secret: action.client_secret,
                redirect_url: action.redirect_url,
            }),
            failure_code: payment.failure_code,
            created_at: Instant(payment.created_at),
            succeeded_at: payment.succeeded_at.map(Instant),
        }
    }
}
