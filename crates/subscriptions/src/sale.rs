//! Something that a customer buys without a subscription: a top-up, or what it used on pay-as-you-go. It is
//! opened with its invoice, it takes effect once when that is paid, or it ends.

use chrono::TimeDelta;
use db::{Connection, Result};
use domain::account::{Account, Cause, CauseKind, NewGrant};
use domain::grant::GrantSource;
use domain::id::{CustomerId, GrantId, InvoiceId, PaymentId, PurchaseId};
use domain::{Credits, Currency, Refusal, TenantScope, Timestamp};
use invoices::{Invoice, Line, NewInvoice, Payment};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::event::About;
use crate::purchase::{start_payment, void};
use crate::subscription::{PurchaseEvent, PurchaseStatus};
use crate::{event, store};

/// What was sold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sold {
    TopUp(SoldTopUp),
    /// Pay-as-you-go usage. It was used, so it is owed until it is paid.
    Usage,
}

/// A top-up as it was sold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoldTopUp {
    pub code: String,
    pub catalog_version: u32,
    pub credits: Credits,
    /// How many days of 24 hours the Credits last; none for ever.
    pub lasts_days: Option<u32>,
    /// Bought by itself because the Credits ran out.
    pub is_automatic: bool,
    /// When it is given up while it is pending, if the provider agrees (R-10a).
    pub expires_at: Timestamp,
}

/// A purchase without a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    pub id: PurchaseId,
    pub customer: CustomerId,
    pub sold: Sold,
    pub invoice: InvoiceId,
    pub status: PurchaseStatus,
    /// When its Credits were granted; of usage, when it was paid.
    pub granted_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

/// A sale to be opened.
#[derive(Debug, Clone)]
pub struct NewSale {
    pub id: PurchaseId,
    pub customer: CustomerId,
    pub sold: Sold,
    pub currency: Currency,
    pub lines: Vec<Line>,
    /// Pays the invoice; without one it waits for somebody to pay it.
    pub payment_method: Option<String>,
}

/// A sale, its invoice, and the payment to collect for it.
#[derive(Debug, Clone)]
pub struct OpenedSale {
    pub sale: Sale,
    pub invoice: Invoice,
    pub payment: Option<Payment>,
}

impl Sold {
    /// As the database calls its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Sold::TopUp(_) => "top_up",
            Sold::Usage => "usage",
        }
    }
}

impl Sale {
    pub fn is_pending(&self) -> bool {
        self.status == PurchaseStatus::Pending
    }

    pub fn is_automatic(&self) -> bool {
        matches!(&self.sold, Sold::TopUp(top_up) if top_up.is_automatic)
    }

    /// Whether it can still be paid at `now`.
    pub fn is_payable(&self, now: Timestamp) -> bool {
        match &self.sold {
            Sold::TopUp(top_up) => now < top_up.expires_at,
            Sold::Usage => true,
        }
    }

    fn details(&self) -> Value {
        let top_up = match &self.sold {
            Sold::TopUp(top_up) => Some(top_up),
            Sold::Usage => None,
        };
        json!({
            "purchase": self.id,
            "kind": self.sold.kind(),
            "top_up": top_up.map(|top_up| &top_up.code),
            "credits": top_up.map_or(Credits::ZERO, |top_up| top_up.credits),
            "automatic": self.is_automatic(),
            "invoice": self.invoice,
        })
    }
}

/// Issues the invoice, stores the sale as pending, and starts the payment.
pub async fn open(tx: &mut Connection, scope: &TenantScope, new: NewSale) -> Result<OpenedSale> {
    let invoice = NewInvoice { customer: new.customer, currency: new.currency, lines: new.lines };
    let invoice = invoices::issue(tx, scope.tenant, invoice, scope.now).await?;
    let sale = Sale {
        id: new.id,
        customer: new.customer,
        sold: new.sold,
        invoice: invoice.id,
        status: PurchaseStatus::Pending,
        granted_at: None,
        created_at: scope.now,
    };
    store::sales::insert(tx, scope.tenant, &sale).await?;
    let about = About::Customer(sale.customer);
    let mut details = sale.details();
    details["amount"] = json!(invoice.total);
    details["number"] = json!(invoice.number.to_string());
    about.emit(tx, scope, event::INVOICE_ISSUED, details).await?;
    let payment = match new.payment_method {
        Some(method) if !invoice.total.is_zero() => {
            let id = PaymentId::from_uuid(Uuid::now_v7());
            Some(start_payment(tx, scope, about, invoice.id, id, &method).await?)
        }
        Some(_) | None => None,
    };
    Ok(OpenedSale { sale, invoice, payment })
}

/// Lets a pending sale that was paid at `at` take effect. The caller has locked the customer's account, and
/// writes it.
pub async fn take(
    tx: &mut Connection,
    scope: &TenantScope,
    sale: &mut Sale,
    account: &mut Account,
    at: Timestamp,
) -> Result<()> {
    let (tenant, now, about) = (scope.tenant, scope.now, About::Customer(sale.customer));
    let was_used_up = ledger::is_used_up(tx, tenant, account, now).await?;
    if let Sold::TopUp(top_up) = &sale.sold {
        issue(account, sale.id, top_up, at, now)?;
    }
    sale.status = sale.status.after(PurchaseEvent::TookEffect);
    sale.granted_at = Some(now);
    invoices::mark_paid(tx, tenant, sale.invoice, at).await?;
    store::sales::update(tx, tenant, sale).await?;
    about.emit(tx, scope, event::INVOICE_PAID, sale.details()).await?;
    if let Sold::TopUp(_) = &sale.sold {
        about.emit(tx, scope, event::TOP_UP_GRANTED, sale.details()).await?;
        about.emit(tx, scope, event::CREDITS_GRANTED, sale.details()).await?;
    }
    if was_used_up {
        outbox::emit_recovered(tx, tenant, account, now).await?;
    }
    Ok(())
}

fn issue(
    account: &mut Account,
    id: PurchaseId,
    top_up: &SoldTopUp,
    at: Timestamp,
    now: Timestamp,
) -> std::result::Result<(), Refusal> {
    let lasts = top_up.lasts_days.map(|days| TimeDelta::days(days.into()));
    let expires_at = match lasts {
        Some(lasts) => Some(at.checked_add_signed(lasts).ok_or(Refusal::AmountOverflow)?),
        None => None,
    };
    let grant = NewGrant {
        id: GrantId::from_uuid(id.uuid()),
        source: GrantSource::TopUp,
        credits: top_up.credits,
        effective_at: at,
        expires_at,
    };
    account.issue(grant, Cause { kind: CauseKind::Purchase, id: id.uuid() }, now)
}

/// Ends a pending sale: its invoice is void. Should the payment that was in flight have succeeded, the money
/// goes back (R-10a).
pub async fn end(
    tx: &mut Connection,
    scope: &TenantScope,
    sale: &mut Sale,
    reason: &'static str,
) -> Result<()> {
    void(tx, scope, sale.invoice).await?;
    sale.status = sale.status.after(PurchaseEvent::GivenUp);
    store::sales::update(tx, scope.tenant, sale).await?;
    let mut details = sale.details();
    details["reason"] = json!(reason);
    About::Customer(sale.customer).emit(tx, scope, event::INVOICE_VOIDED, details).await
}
