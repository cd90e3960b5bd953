//! Money of a payment that goes back.
//!
//! A refund is written with its amount added to what its payment has refunded, so that no two of them
//! give back more than was paid; the database says so again. It is `created` until the provider has
//! answered for it; one that failed, also after it had succeeded, releases its amount.

use db::{Connection, Error, Result};
use domain::id::{InvoiceId, PaymentId, RefundId, TenantId};
use domain::refund::{RefundOrigin, RefundReport, RefundStatus, refund_after};
use domain::{Credits, Money, Refusal, Timestamp};

use crate::{Payment, store};

/// Money that goes back, or has gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    pub id: RefundId,
    pub payment: PaymentId,
    pub invoice: InvoiceId,
    pub amount: Money,
    pub status: RefundStatus,
    pub origin: RefundOrigin,
    /// The provider's own id, of one that the provider told of.
    pub provider_ref: Option<String>,
    /// The operator's words.
    pub reason: Option<String>,
    /// The provider's code, where it failed.
    pub failure_code: Option<String>,
    /// What it took back of the Credits that the payment had paid for; nothing where it failed (R-22a).
    pub credits_revoked: Credits,
    /// What should have been taken back and was not there any more, all refunds of the payment so far
    /// together (R-22a).
    pub credits_short: Credits,
    pub created_at: Timestamp,
    /// When the provider had decided.
    pub settled_at: Option<Timestamp>,
}

/// Stores a refund of a payment, which the caller has locked. Refused: `refund-too-large` where less
/// is left of the payment.
pub async fn add_refund(
    tx: &mut Connection,
    tenant: TenantId,
    payment: &mut Payment,
    refund: &Refund,
) -> Result<()> {
    if refund.payment != payment.id || refund.invoice != payment.invoice {
        return Err(Error::broken(format!("{} is no refund of {}", refund.id, payment.id)));
    }
    let refunded = payment.refunded.amount_minor.checked_add(refund.amount.amount_minor);
    let refunded = refunded.filter(|refunded| *refunded <= payment.amount.amount_minor);
    let Some(refunded_minor) = refunded else {
        return Err(
            Refusal::RefundTooLarge { rest: payment.amount.minus_floor_zero(payment.refunded) }.into()
        );
    };
    payment.refunded.amount_minor = refunded_minor;
    store::update_payment(tx, tenant, payment).await?;
    store::insert_refund(tx, tenant, refund).await
}

/// A refund as it stands, unlocked; `not-found` where there is none.
pub async fn refund(tx: &mut Connection, tenant: TenantId, refund: RefundId) -> Result<Refund> {
    store::refund(tx, tenant, refund).await
}

/// A payment, locked until the transaction ends; `not-found` where there is none.
pub async fn lock_payment(tx: &mut Connection, tenant: TenantId, payment: PaymentId) -> Result<Payment> {
    store::lock_payment(tx, tenant, payment).await
}

/// A refund by the provider's own id, or by ours, of a payment that the caller has locked.
pub async fn refund_told_of(
    tx: &mut Connection,
    tenant: TenantId,
    payment: PaymentId,
    ours: Option<RefundId>,
    provider_ref: &str,
) -> Result<Option<Refund>> {
    store::refund_told_of(tx, tenant, payment, ours, provider_ref).await
}

/// Writes that a refund has revoked nothing in the end.
pub async fn note_reinstated(tx: &mut Connection, tenant: TenantId, refund: &mut Refund) -> Result<()> {
    refund.credits_revoked = Credits::ZERO;
    store::update_refund(tx, tenant, refund).await
}

/// Writes that a refund has revoked so much more: what a lost dispute had kept from it, or a part of a later cycle of the
/// year that its payment had paid for.
pub async fn note_taken(
    tx: &mut Connection,
    tenant: TenantId,
    refund: &mut Refund,
    credits: Credits,
) -> Result<()> {
    refund.credits_revoked = refund.credits_revoked.plus(credits)?;
    store::update_refund(tx, tenant, refund).await
}

/// The refunds of an invoice's payments, oldest first.
pub async fn refunds(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<Vec<Refund>> {
    store::refunds(tx, tenant, invoice).await
}

/// Takes in what the provider says about a refund: locks its payment and it, and moves it on as far as
/// the report can. The refund, and whether that has just changed it.
pub async fn record_refund_report(
    tx: &mut Connection,
    tenant: TenantId,
    refund: RefundId,
    report: RefundReport,
    failure_code: Option<&str>,
    now: Timestamp,
) -> Result<(Refund, bool)> {
    let payment = store::refund(tx, tenant, refund).await?.payment;
    let mut payment = store::lock_payment(tx, tenant, payment).await?;
    let mut refund = store::lock_refund(tx, tenant, refund).await?;
    let after = refund_after(refund.status, report);
    if after == refund.status {
        return Ok((refund, false));
    }
    refund.status = after;
    refund.settled_at = Some(now);
    if after == RefundStatus::Failed {
        refund.failure_code = Some(failure_code.unwrap_or("unknown").to_owned());
        payment.refunded.amount_minor -= refund.amount.amount_minor;
        store::update_payment(tx, tenant, &payment).await?;
    }
    store::update_refund(tx, tenant, &refund).await?;
    Ok((refund, true))
}
