//! Invoices as people file them.

use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::web::{self, Data};
use actix_web::{HttpResponse, get};
use domain::calendar::Zone;
use domain::id::InvoiceId;
use domain::invoice::PaymentStatus;
use invoice_pdf::{Paper, PaperCreditNote, PaperLine, PaperPayment};
use invoices::{CreditNote, InvoiceView, Invoices, Line, LineKind, Payment};
use tenants::{Customer, Tenants};

use crate::auth::Caller;
use crate::body::NoQuery;
use crate::error::{Error, Problem};
use crate::path::Id;
use crate::schema;

/// Read an invoice as a PDF
///
/// A4 pages with the invoice's lines, tax and total, its payments and its credit notes. A character that no font
/// here has is drawn as an empty box.
#[utoipa::path(
    tag = "Invoices",
    security(("bearer" = ["read", "customer"])),
    params(("id" = schema::InvoiceId, Path, description = "The invoice")),
    responses(
        (status = 200, description = "The invoice", body = Vec<u8>, content_type = "application/pdf"),
        (status = 404, description = "`not-found`: no such invoice", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/invoices/{id}/pdf")]
pub(super) async fn read_invoice_pdf(
    caller: Caller,
    _: NoQuery,
    id: Id<InvoiceId>,
    invoices: Data<Invoices>,
    tenants: Data<Tenants>,
) -> Result<HttpResponse, Error> {
    let scope = caller.scope();
    let view = invoices.read(scope.tenant, id.0).await?;
    caller.sees(view.invoice.customer, "invoice")?;
    let buyer = tenants.customer(scope, view.invoice.customer).await?;
    let paper = paper(view, tenants.name(scope).await?, buyer, scope.zone);
    let file = format!("inline; filename=\"{}.pdf\"", paper.number);
    let fault = |error: String| db::Error::broken(error);
    let rendered = web::block(move || invoice_pdf::render(&paper)).await;
    let pdf =
        rendered.map_err(|error| fault(error.to_string()))?.map_err(|error| fault(error.to_string()))?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/pdf"))
        .insert_header((CONTENT_DISPOSITION, file))
        .body(pdf))
}

fn paper(view: InvoiceView, seller: String, buyer: Customer, zone: Zone) -> Paper {
    let InvoiceView { invoice, lines, payments, credit_notes, .. } = view;
    let line = |line: Line| PaperLine {
        is_tax: line.kind == LineKind::Tax,
        description: line.description,
        amount_minor: line.amount_minor,
    };
    let payment = |payment: &Payment| {
        let paid_at = payment.succeeded_at.filter(|_| payment.status == PaymentStatus::Succeeded)?;
        Some(PaperPayment { paid_on: zone.date_of(paid_at), amount_minor: payment.amount.amount_minor })
    };
    let note = |note: CreditNote| PaperCreditNote {
        number: note.number,
        issued_on: zone.date_of(note.created_at),
        total_minor: note.total.amount_minor,
        tax_minor: note.tax_minor,
    };
    Paper {
        seller,
        buyer: buyer.name,
        buyer_ref: buyer.external_id.to_string(),
        number: invoice.number,
        status: invoice.status,
        issued_on: zone.date_of(invoice.created_at),
        paid_on: invoice.paid_at.map(|paid_at| zone.date_of(paid_at)),
        lines: lines.into_iter().map(line).collect(),
        tax: invoice.tax,
        total: invoice.total,
        payments: payments.iter().filter_map(payment).collect(),
        credit_notes: credit_notes.into_iter().map(note).collect(),
    }
}
