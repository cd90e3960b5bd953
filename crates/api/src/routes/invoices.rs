//! Invoices and their payments.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, get, post};
use domain::id::{CreditNoteId, CustomerId, DisputeId, InvoiceId, PaymentId, RefundId};
use idempotency::Idempotency;
use invoices::{InvoiceView, Invoices};
use serde::{Deserialize, Serialize};
use subscriptions::{PaidInvoice, Subscriptions};
use tenants::Tenants;
use utoipa::{IntoParams, ToSchema};

use super::refunds::Refund;
use super::subscriptions::{PaymentStatus, Subscription, settled};
use crate::auth::{Bills, Caller};
use crate::body::{NoQuery, Query};
use crate::error::{Error, Problem};
use crate::idempotency::{IdempotencyKey, Keyed, answer, once};
use crate::page::{Limit, List};
use crate::path::Id;
use crate::schema;
use crate::wire::{Instant, Money, Page, PaymentMethod};

/// What is owed for something bought. Written once; its total never changes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Invoice {
    #[schema(value_type = schema::InvoiceId)]
    id: InvoiceId,
    /// The tenant's own, without a hole.
    #[schema(example = "INV-000123")]
    number: String,
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    status: schema::InvoiceStatus,
    total: Money,
    tax: Tax,
    lines: Vec<Line>,
    /// The attempts to collect it, oldest first.
    payments: Vec<Payment>,
    /// What went back of them, oldest first.
    refunds: Vec<Refund>,
    /// What the customer's bank wants back, oldest first.
    disputes: Vec<Dispute>,
    /// Of the refunds that have succeeded, also where they failed later, oldest first.
    credit_notes: Vec<CreditNote>,
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
    /// The tenant's own, without a hole.
    #[schema(example = "INV-000123")]
    number: String,
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    status: schema::InvoiceStatus,
    total: Money,
    created_at: Instant,
    #[schema(required)]
    paid_at: Option<Instant>,
}

/// The tax in an invoice's total.
#[derive(Debug, Serialize, ToSchema)]
struct Tax {
    /// In basis points: 1300 is 13%.
    #[schema(example = 1_300)]
    rate_bps: u16,
    /// In the invoice's currency.
    amount_minor: i64,
    /// Whether the other lines contain it; else it comes on top of them.
    is_included: bool,
}

/// What a refund of a paid invoice is written down as, once the money has gone back. Final; one whose refund has
/// failed since counts no longer.
#[derive(Debug, Serialize, ToSchema)]
struct CreditNote {
    #[schema(value_type = schema::CreditNoteId)]
    id: CreditNoteId,
    /// The tenant's own, without a hole.
    #[schema(example = "CN-000123")]
    number: String,
    #[schema(value_type = schema::RefundId)]
    refund: RefundId,
    total: Money,
    /// The tax in the total.
    tax_minor: i64,
    lines: Vec<CreditLine>,
    created_at: Instant,
}

/// A line of a credit note, in the invoice's currency.
#[derive(Debug, Serialize, ToSchema)]
struct CreditLine {
    kind: schema::CreditLineKind,
    description: String,
    amount_minor: i64,
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

/// What paying an invoice came to.
#[derive(Debug, Serialize, ToSchema)]
struct InvoicePayment {
    /// Null where the invoice is of what was bought without one: a top-up, or pay-as-you-go usage.
    #[schema(required)]
    subscription: Option<Subscription>,
    invoice: Invoice,
    payment_status: PaymentStatus,
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
    /// Credits that the payment had paid for and that a lost dispute took back; none once it is won.
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
    /// Pays this invoice only; the subscription's own method, or the customer's saved one, where left out.
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
/// Tries an open invoice again: of a subscription that waits for its first payment, of an unpaid
/// renewal, of a top-up, or of pay-as-you-go usage. A payment that is in flight is given up first.
#[utoipa::path(
    tag = "Invoices",
    security(("bearer" = ["billing"])),
    params(
        ("id" = schema::InvoiceId, Path, description = "The invoice"),
        IdempotencyKey,
    ),
    request_body = Pay,
    responses(
        (status = 200, description = "Paid", body = InvoicePayment),
        (status = 202, description = "The payment is pending, or the customer has to act first", body = InvoicePayment),
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
        let paid = subscriptions.pay_invoice(&scope, id.0, method, &key).await?;
        let PaidInvoice { subscription, invoice, settlement } = paid;
        let (status, payment_status) = settled(settlement, StatusCode::OK);
        let subscription = subscription.map(Subscription::from);
        answer(status, &InvoicePayment { subscription, invoice: invoice.into(), payment_status })
    })
    .await
}

impl From<invoices::Invoice> for InvoiceSummary {
    fn from(invoice: invoices::Invoice) -> Self {
        InvoiceSummary {
            id: invoice.id,
            number: invoice.number.to_string(),
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
        let InvoiceView { invoice, lines, payments, refunds, disputes, credit_notes } = view;
        Invoice {
            id: invoice.id,
            number: invoice.number.to_string(),
            customer: invoice.customer,
            status: schema::InvoiceStatus(invoice.status),
            total: invoice.total.into(),
            tax: Tax {
                rate_bps: invoice.tax.rate_bps,
                amount_minor: invoice.tax.amount_minor,
                is_included: invoice.tax.is_included,
            },
            lines: lines.into_iter().map(Line::from).collect(),
            payments: payments.into_iter().map(Payment::from).collect(),
            refunds: refunds.into_iter().map(Refund::from).collect(),
            disputes: disputes.into_iter().map(Dispute::from).collect(),
            credit_notes: credit_notes.into_iter().map(CreditNote::from).collect(),
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

impl From<invoices::CreditNote> for CreditNote {
    fn from(note: invoices::CreditNote) -> Self {
        let line = |line: invoices::CreditLine| CreditLine {
            kind: schema::CreditLineKind(line.kind),
            description: line.description,
            amount_minor: line.amount_minor,
        };
        CreditNote {
            id: note.id,
            number: note.number.to_string(),
            refund: note.refund,
            total: note.total.into(),
            tax_minor: note.tax_minor,
            lines: note.lines.into_iter().map(line).collect(),
            created_at: Instant(note.created_at),
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
