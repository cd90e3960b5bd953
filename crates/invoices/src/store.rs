//! All SQL about invoices, their lines and payments; that about refunds, disputes and credit notes is in files
//! of their own.

mod credit_notes;
mod disputes;
mod refunds;

use db::schema::{invoice_lines, invoices, payments, tenants};
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::id::{CustomerId, InvoiceId, PaymentId, TenantId};
use domain::invoice::{InvoiceStatus, PaymentStatus};
use domain::numbering::InvoiceNumber;
use domain::policy::Policies;
use domain::tax::Taxed;
use domain::{Currency, Money, Refusal, Timestamp};
use uuid::Uuid;

use crate::{Action, Invoice, Line, LineKind, Mismatch, Payment};

pub use credit_notes::{credit_notes, credited_minor, insert_credit_note};
pub use disputes::{disputes, insert_dispute, lock_dispute, update_dispute};
pub use refunds::{insert_refund, lock_refund, refund, refund_told_of, refunds, update_refund};

#[derive(Queryable, Selectable)]
#[diesel(table_name = invoices, check_for_backend(diesel::pg::Pg))]
struct InvoiceRow {
    invoice_id: Uuid,
    customer_id: Uuid,
    status: String,
    currency: String,
    total_minor: i64,
    created_at: Timestamp,
    paid_at: Option<Timestamp>,
    number: i64,
    tax_minor: i64,
    tax_rate_bps: i16,
    tax_is_included: bool,
}

impl TryFrom<InvoiceRow> for Invoice {
    type Error = Error;

    fn try_from(row: InvoiceRow) -> Result<Invoice> {
        let id = InvoiceId::from_uuid(row.invoice_id);
        let status = InvoiceStatus::ALL
            .into_iter()
            .find(|status| status.name() == row.status)
            .ok_or_else(|| Error::broken(format!("{id} has the unknown status {:?}", row.status)))?;
        Ok(Invoice {
            id,
            customer: CustomerId::from_uuid(row.customer_id),
            status,
            total: money(row.total_minor, &row.currency, id)?,
            number: InvoiceNumber(row.number),
            tax: Taxed {
                rate_bps: u16::try_from(row.tax_rate_bps)
                    .map_err(|_| Error::broken(format!("{id} has a tax rate below 0")))?,
                amount_minor: row.tax_minor,
                is_included: row.tax_is_included,
            },
            created_at: row.created_at,
            paid_at: row.paid_at,
        })
    }
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = invoice_lines, check_for_backend(diesel::pg::Pg))]
struct LineRow {
    tenant_id: Uuid,
    invoice_id: Uuid,
    position: i16,
    kind: String,
    description: String,
    amount_minor: i64,
}

impl TryFrom<LineRow> for Line {
    type Error = Error;

    fn try_from(row: LineRow) -> Result<Line> {
        let kind = LineKind::ALL
            .into_iter()
            .find(|kind| kind.name() == row.kind)
            .ok_or_else(|| Error::broken(format!("a line has the unknown kind {:?}", row.kind)))?;
        Ok(Line { kind, description: row.description, amount_minor: row.amount_minor })
    }
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = payments, check_for_backend(diesel::pg::Pg))]
struct PaymentRow {
    tenant_id: Uuid,
    payment_id: Uuid,
    invoice_id: Uuid,
    status: String,
    amount_minor: i64,
    currency: String,
    method: String,
    failure_code: Option<String>,
    created_at: Timestamp,
    succeeded_at: Option<Timestamp>,
    provider_ref: Option<String>,
    action_client_secret: Option<String>,
    action_url: Option<String>,
    mismatch_minor: Option<i64>,
    mismatch_currency: Option<String>,
    refunded_minor: i64,
}

impl TryFrom<PaymentRow> for Payment {
    type Error = Error;

    fn try_from(row: PaymentRow) -> Result<Payment> {
        let id = PaymentId::from_uuid(row.payment_id);
        let status = PaymentStatus::ALL
            .into_iter()
            .find(|status| status.name() == row.status)
            .ok_or_else(|| Error::broken(format!("{id} has the unknown status {:?}", row.status)))?;
        Ok(Payment {
            id,
            invoice: InvoiceId::from_uuid(row.invoice_id),
            status,
            amount: money(row.amount_minor, &row.currency, id)?,
            method: row.method,
            provider_ref: row.provider_ref,
            action: match (row.action_client_secret, row.action_url) {
                (None, None) => None,
                (client_secret, redirect_url) => Some(Action { client_secret, redirect_url }),
            },
            mismatch: row
                .mismatch_minor
                .zip(row.mismatch_currency)
                .map(|(amount_minor, currency)| Mismatch { amount_minor, currency }),
            failure_code: row.failure_code,
            created_at: row.created_at,
            succeeded_at: row.succeeded_at,
            refunded: money(row.refunded_minor, &row.currency, id)?,
        })
    }
}

fn money(amount_minor: i64, currency: &str, whose: impl std::fmt::Display) -> Result<Money> {
    let broken = |_| Error::broken(format!("{whose} has the amount {amount_minor} {currency:?}"));
    let currency: Currency = currency.parse().map_err(broken)?;
    Money::new(amount_minor, currency).map_err(broken)
}

/// What the tenant has set otherwise.
pub async fn policies(tx: &mut Connection, tenant: TenantId) -> Result<Policies> {
    let stored: serde_json::Value =
        tenants::table.find(tenant.uuid()).select(tenants::policies).first(tx).await?;
    serde_json::from_value(stored).map_err(|error| Error::broken(format!("{tenant}: policies: {error}")))
}

/// Says which number the database has given it: the tenant's next one.
pub async fn insert_invoice(
    tx: &mut Connection,
    tenant: TenantId,
    invoice: &Invoice,
    lines: &[Line],
) -> Result<InvoiceNumber> {
    let rate_bps = i16::try_from(invoice.tax.rate_bps)
        .map_err(|_| Error::broken(format!("{tenant} has a tax rate of {}", invoice.tax.rate_bps)))?;
    let number: i64 = diesel::insert_into(invoices::table)
        .values((
            invoices::tenant_id.eq(tenant.uuid()),
            invoices::invoice_id.eq(invoice.id.uuid()),
            invoices::customer_id.eq(invoice.customer.uuid()),
            invoices::status.eq(invoice.status.name()),
            invoices::currency.eq(invoice.total.currency.code()),
            invoices::total_minor.eq(invoice.total.amount_minor),
            invoices::created_at.eq(invoice.created_at),
            invoices::paid_at.eq(invoice.paid_at),
            invoices::tax_minor.eq(invoice.tax.amount_minor),
            invoices::tax_rate_bps.eq(rate_bps),
            invoices::tax_is_included.eq(invoice.tax.is_included),
        ))
        .returning(invoices::number)
        .get_result(tx)
        .await?;
    let rows: Vec<LineRow> = (0..)
        .zip(lines)
        .map(|(position, line)| LineRow {
            tenant_id: tenant.uuid(),
            invoice_id: invoice.id.uuid(),
            position,
            kind: line.kind.name().to_owned(),
            description: line.description.clone(),
            amount_minor: line.amount_minor,
        })
        .collect();
    diesel::insert_into(invoice_lines::table).values(rows).execute(tx).await?;
    Ok(InvoiceNumber(number))
}

pub async fn insert_payment(tx: &mut Connection, tenant: TenantId, payment: &Payment) -> Result<()> {
    let row = PaymentRow {
        tenant_id: tenant.uuid(),
        payment_id: payment.id.uuid(),
        invoice_id: payment.invoice.uuid(),
        status: payment.status.name().to_owned(),
        amount_minor: payment.amount.amount_minor,
        currency: payment.amount.currency.code().to_owned(),
        method: payment.method.clone(),
        failure_code: payment.failure_code.clone(),
        created_at: payment.created_at,
        succeeded_at: payment.succeeded_at,
        provider_ref: None,
        action_client_secret: None,
        action_url: None,
        mismatch_minor: None,
        mismatch_currency: None,
        refunded_minor: payment.refunded.amount_minor,
    };
    diesel::insert_into(payments::table).values(row).execute(tx).await?;
    Ok(())
}

pub async fn invoice(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<Invoice> {
    invoices::table
        .find((tenant.uuid(), invoice.uuid()))
        .select(InvoiceRow::as_select())
        .first(tx)
        .await
        .optional()?
        .ok_or(Refusal::NotFound { what: "invoice" })?
        .try_into()
}

pub async fn lock_invoice(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<Invoice> {
    invoices::table
        .find((tenant.uuid(), invoice.uuid()))
        .select(InvoiceRow::as_select())
        .for_no_key_update()
        .first(tx)
        .await
        .optional()?
        .ok_or(Refusal::NotFound { what: "invoice" })?
        .try_into()
}

pub async fn lines(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<Vec<Line>> {
    let rows: Vec<LineRow> = invoice_lines::table
        .filter(invoice_lines::tenant_id.eq(tenant.uuid()))
        .filter(invoice_lines::invoice_id.eq(invoice.uuid()))
        .order(invoice_lines::position)
        .select(LineRow::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(Line::try_from).collect()
}

pub async fn payments(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<Vec<Payment>> {
    let rows: Vec<PaymentRow> = payments::table
        .filter(payments::tenant_id.eq(tenant.uuid()))
        .filter(payments::invoice_id.eq(invoice.uuid()))
        .order(payments::payment_id)
        .select(PaymentRow::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(Payment::try_from).collect()
}

pub async fn payment(tx: &mut Connection, tenant: TenantId, payment: PaymentId) -> Result<Payment> {
    payments::table
        .find((tenant.uuid(), payment.uuid()))
        .select(PaymentRow::as_select())
        .first(tx)
        .await
        .optional()?
        .ok_or(Refusal::NotFound { what: "payment" })?
        .try_into()
}

pub async fn lock_payment(tx: &mut Connection, tenant: TenantId, payment: PaymentId) -> Result<Payment> {
    payments::table
        .find((tenant.uuid(), payment.uuid()))
        .select(PaymentRow::as_select())
        .for_no_key_update()
        .first(tx)
        .await
        .optional()?
        .ok_or(Refusal::NotFound { what: "payment" })?
        .try_into()
}

pub async fn payment_by_provider_ref(
    tx: &mut Connection,
    tenant: TenantId,
    provider_ref: &str,
) -> Result<Option<Payment>> {
    payments::table
        .filter(payments::tenant_id.eq(tenant.uuid()))
        .filter(payments::provider_ref.eq(provider_ref))
        .select(PaymentRow::as_select())
        .first(tx)
        .await
        .optional()?
        .map(Payment::try_from)
        .transpose()
}

pub async fn lock_paying(
    tx: &mut Connection,
    tenant: TenantId,
    invoice: InvoiceId,
) -> Result<Option<Payment>> {
    payments::table
        .filter(payments::tenant_id.eq(tenant.uuid()))
        .filter(payments::invoice_id.eq(invoice.uuid()))
        .filter(payments::status.eq(PaymentStatus::Succeeded.name()))
        .select(PaymentRow::as_select())
        .for_no_key_update()
        .first(tx)
        .await
        .optional()?
        .map(Payment::try_from)
        .transpose()
}

pub async fn in_flight(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<Option<Payment>> {
    payments::table
        .filter(payments::tenant_id.eq(tenant.uuid()))
        .filter(payments::invoice_id.eq(invoice.uuid()))
        .filter(payments::status.eq_any(PaymentStatus::UNDECIDED.map(PaymentStatus::name)))
        .select(PaymentRow::as_select())
        .first(tx)
        .await
        .optional()?
        .map(Payment::try_from)
        .transpose()
}

pub async fn uncollected(
    tx: &mut Connection,
    tenant: TenantId,
    now: Timestamp,
    after: Option<PaymentId>,
    limit: u32,
) -> Result<Vec<Payment>> {
    let rows: Vec<PaymentRow> = payments::table
        .filter(payments::tenant_id.eq(tenant.uuid()))
        .filter(payments::status.eq(PaymentStatus::Created.name()))
        .filter(payments::created_at.le(now))
        .filter(payments::payment_id.gt(after.map_or(Uuid::nil(), PaymentId::uuid)))
        .order(payments::payment_id)
        .limit(limit.into())
        .select(PaymentRow::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(Payment::try_from).collect()
}

pub async fn of_customer(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    after: Option<InvoiceId>,
    limit: u32,
) -> Result<Vec<Invoice>> {
    let rows: Vec<InvoiceRow> = invoices::table
        .filter(invoices::tenant_id.eq(tenant.uuid()))
        .filter(invoices::customer_id.eq(customer.uuid()))
        .filter(invoices::invoice_id.gt(after.map_or(Uuid::nil(), InvoiceId::uuid)))
        .order(invoices::invoice_id)
        .limit(limit.into())
        .select(InvoiceRow::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(Invoice::try_from).collect()
}

/// Whether the invoice was open, and is now `status`.
pub async fn close_invoice(
    tx: &mut Connection,
    tenant: TenantId,
    invoice: InvoiceId,
    status: InvoiceStatus,
    paid_at: Option<Timestamp>,
) -> Result<bool> {
    let changed = diesel::update(invoices::table.find((tenant.uuid(), invoice.uuid())))
        .filter(invoices::status.eq(InvoiceStatus::Open.name()))
        .set((invoices::status.eq(status.name()), invoices::paid_at.eq(paid_at)))
        .execute(tx)
        .await?;
    Ok(changed == 1)
}

/// Writes what can change of a payment.
pub async fn update_payment(tx: &mut Connection, tenant: TenantId, payment: &Payment) -> Result<()> {
    let (action, mismatch) = (payment.action.as_ref(), payment.mismatch.as_ref());
    diesel::update(payments::table.find((tenant.uuid(), payment.id.uuid())))
        .set((
            payments::status.eq(payment.status.name()),
            payments::failure_code.eq(&payment.failure_code),
            payments::succeeded_at.eq(payment.succeeded_at),
            payments::provider_ref.eq(&payment.provider_ref),
            payments::action_client_secret.eq(action.and_then(|action| action.client_secret.as_ref())),
            payments::action_url.eq(action.and_then(|action| action.redirect_url.as_ref())),
            payments::mismatch_minor.eq(mismatch.map(|mismatch| mismatch.amount_minor)),
            payments::mismatch_currency.eq(mismatch.map(|mismatch| &mismatch.currency)),
            payments::refunded_minor.eq(payment.refunded.amount_minor),
        ))
        .execute(tx)
        .await?;
    Ok(())
}
