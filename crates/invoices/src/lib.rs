//! Invoices, and the payments that try to settle them.
//!
//! An invoice is written once with all its lines and its number, which is the tenant's next one: the
//! counter's row is locked until the transaction ends, so there is no hole, and one that issues waits for
//! another of its tenant. Its total is the sum of the lines and never changes; the tenant's tax is a line
//! of its own. A refund of a paid invoice becomes a [`CreditNote`] once the money has gone back. It is
//! open until a payment succeeds (paid) or what it is for has ended (void). A payment is one
//! attempt: its id is the idempotency key towards the provider, at most one is in flight an
//! invoice, and at most one counts. Both are the database's own constraints too.
//!
//! What is bought is not known here. Whoever sells something issues the invoice in its own
//! transaction, locks it again when the provider reports, and decides what the money does:
//!
//! ```text
//!  issue ── add_payment ── (the provider, outside of any transaction) ── lock ── record_report
//!                                                                                   │
//!                                               mark_paid │ mark_refunded + void │ nothing
//! ```
//!
//! A report is an ordinary input of a state machine ([`domain::invoice::payment_after`]): repeated,
//! late or out of order it changes nothing that a later state has settled. A success for an invoice
//! that is no longer open can settle nothing, so it is stored as `refunded` at once and the caller
//! sends the money back (R-10a). Whatever goes back, of such a payment or of one that counts, is a
//! [`Refund`], and the provider is asked for it under the refund's id. A success over another amount or
//! currency than the payment's settles nothing either: the payment stays undecided with a [`Mismatch`],
//! and the caller raises the alarm.
//!
//! | verb | statements |
//! |---|---|
//! | [`issue`] | 3 |
//! | [`add_payment`] | 3 |
//! | [`lock`] | 1 |
//! | [`record_report`] | 2, or 1 where nothing changes |
//! | [`add_refund`] | 2 |
//! | [`record_refund_report`] | 4 or 5, or 3 where nothing changes |
//! | [`record_dispute`] | 2, or 1 where nothing changes |
//! | [`issue_credit_note`] | 4 |
//! | [`Invoices::read`] | 7 |

mod add_payment;
mod credit_note;
mod dispute;
mod issue;
mod read;
mod record_report;
mod refund;
mod settle;
mod store;

use domain::id::{CustomerId, InvoiceId, PaymentId};
use domain::invoice::{InvoiceStatus, PaymentStatus};
use domain::numbering::InvoiceNumber;
use domain::tax::Taxed;
use domain::{Money, Refusal, Timestamp};

pub use add_payment::{add_payment, add_payment_as};
pub use credit_note::{CreditLine, CreditLineKind, CreditNote, issue_credit_note};
pub use dispute::{Dispute, DisputeTold, disputes, is_disputed, note_revoked, record_dispute};
pub use issue::{NewInvoice, issue};
pub use read::{
    find, in_flight, lock, lock_paying, of_customer, payment, payment_by_provider_ref, read, uncollected,
};
pub use record_report::{Recorded, Report, record_report};
pub use refund::{
    Refund, add_refund, lock_payment, note_reinstated, note_taken, record_refund_report, refund,
    refund_told_of, refunds,
};
pub use settle::{mark_paid, mark_refunded, void};

/// What a line charges for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// A cycle of a plan, at list price.
    Plan,
    /// The difference to a higher plan.
    Upgrade,
    /// What a promotion takes off; never above zero.
    Discount,
    /// Credits apart from a plan.
    TopUp,
    /// Tokens of one model and kind on pay-as-you-go.
    Usage,
    /// The tax on all other lines; on top of them, or contained in them.
    Tax,
}

impl LineKind {
    pub const ALL: [LineKind; 6] = [
        LineKind::Plan,
        LineKind::Upgrade,
        LineKind::Discount,
        LineKind::TopUp,
        LineKind::Usage,
        LineKind::Tax,
    ];

    pub fn name(self) -> &'static str {
        match self {
            LineKind::Plan => "plan",
            LineKind::Upgrade => "upgrade",
            LineKind::Discount => "discount",
            LineKind::TopUp => "top_up",
            LineKind::Usage => "usage",
            LineKind::Tax => "tax",
        }
    }
}

/// An invoice without its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    pub id: InvoiceId,
    /// Of its tenant, without a hole.
    pub number: InvoiceNumber,
    pub customer: CustomerId,
    pub status: InvoiceStatus,
    /// The sum of the lines, without the tax where they contain it.
    pub total: Money,
    /// The tax in the total.
    pub tax: Taxed,
    pub created_at: Timestamp,
    /// When the payment that settled it succeeded.
    pub paid_at: Option<Timestamp>,
}

/// A line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub kind: LineKind,
    pub description: String,
    /// In the invoice's currency; negative for a discount.
    pub amount_minor: i64,
}

/// One attempt to collect an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    pub id: PaymentId,
    pub invoice: InvoiceId,
    pub status: PaymentStatus,
    pub amount: Money,
    /// The provider's name for the card or account that pays.
    pub method: String,
    /// The provider's own id of the payment, once it has told one.
    pub provider_ref: Option<String>,
    /// What the customer has to do, as long as it is the customer's turn.
    pub action: Option<Action>,
    /// Set where the provider took something else than the amount: the payment pays nothing until an
    /// operator has looked at it.
    pub mismatch: Option<Mismatch>,
    /// The provider's reason, where it failed.
    pub failure_code: Option<String>,
    pub created_at: Timestamp,
    /// Set for a payment that was refunded later, too.
    pub succeeded_at: Option<Timestamp>,
    /// What has gone back or is on its way back, all refunds that have not failed together.
    pub refunded: Money,
}

/// What a customer has to do before a payment goes on; good for that payment only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    pub client_secret: Option<String>,
    pub redirect_url: Option<String>,
}

/// What a provider took instead of the payment's amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    pub amount_minor: i64,
    /// The provider's name of the currency, which need not be one of ours.
    pub currency: String,
}

/// An invoice with its lines in order, and its payments, refunds, disputes and credit notes, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceView {
    pub invoice: Invoice,
    pub lines: Vec<Line>,
    pub payments: Vec<Payment>,
    pub refunds: Vec<Refund>,
    pub disputes: Vec<Dispute>,
    pub credit_notes: Vec<CreditNote>,
}

impl InvoiceView {
    /// What the lines come to without their discounts and their tax. Refused: `amount-overflow`.
    pub fn list_price(&self) -> Result<Money, Refusal> {
        let is_listed = |line: &&Line| !matches!(line.kind, LineKind::Discount | LineKind::Tax);
        let listed = self.lines.iter().filter(is_listed);
        let sum = listed.map(|line| line.amount_minor).try_fold(0_i64, i64::checked_add);
        Money::new(sum.ok_or(Refusal::AmountOverflow)?, self.invoice.total.currency)
    }

    /// The payment that the provider may still take money for.
    pub fn in_flight(&self) -> Option<&Payment> {
        self.payments.iter().find(|payment| payment.status.is_undecided())
    }
}

/// The reads that open their own transaction.
#[derive(Clone)]
pub struct Invoices {
    db: db::Db,
}

impl Invoices {
    pub fn new(db: db::Db) -> Invoices {
        Invoices { db }
    }

    /// An invoice with its lines and payments; `not-found` for another tenant's (R-37).
    pub async fn read(&self, tenant: domain::id::TenantId, invoice: InvoiceId) -> db::Result<InvoiceView> {
        self.db.snapshot(tenant, async |tx| read(tx, tenant, invoice).await).await
    }

    /// A customer's invoices from the oldest, `limit` of those after `after`. A customer that does
    /// not exist has none: callers that must tell the two apart ask `tenants`.
    pub async fn of_customer(
        &self,
        tenant: domain::id::TenantId,
        customer: CustomerId,
        after: Option<InvoiceId>,
        limit: u32,
    ) -> db::Result<Vec<Invoice>> {
        self.db.transaction(tenant, async |tx| of_customer(tx, tenant, customer, after, limit).await).await
    }
}
