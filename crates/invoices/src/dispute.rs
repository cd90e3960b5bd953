//! A payment that the customer's bank wants back: what is stored of it. What it does to Credits and
//! subscription is decided by whoever sold what it paid for.

use db::{Connection, Error, Result};
use domain::dispute::{DisputeReport, DisputeState, dispute_after};
use domain::id::{DisputeId, InvoiceId, PaymentId, TenantId};
use domain::{Credits, Money, Timestamp};
use uuid::Uuid;

use crate::{Payment, store};

/// A dispute as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispute {
    pub id: DisputeId,
    /// The provider's own id.
    pub provider_ref: String,
    pub payment: PaymentId,
    pub invoice: InvoiceId,
    /// What is disputed.
    pub amount: Money,
    pub state: DisputeState,
    /// What losing it took of the Credits that the payment had paid for; nothing where it was won in the end (R-22a).
    pub credits_revoked: Credits,
    pub opened_at: Timestamp,
    /// When the bank had decided, the last time that it did.
    pub closed_at: Option<Timestamp>,
}

/// What the provider says about a dispute.
#[derive(Debug, Clone)]
pub struct DisputeTold<'a> {
    /// The provider's own id.
    pub provider_ref: &'a str,
    pub report: DisputeReport,
    pub amount: Money,
    pub at: Timestamp,
}

/// Takes in what is told of a dispute of a payment, which the caller has locked. The dispute where it
/// has moved on, and the state that it had before, if it was known; `None` where nothing changed.
pub async fn record_dispute(
    tx: &mut Connection,
    tenant: TenantId,
    payment: &Payment,
    told: &DisputeTold<'_>,
) -> Result<Option<(Dispute, Option<DisputeState>)>> {
    let known = store::lock_dispute(tx, tenant, told.provider_ref).await?;
    if let Some(known) = known.as_ref().filter(|known| known.payment != payment.id) {
        return Err(Error::broken(format!("{} is of {} and not of {}", known.id, known.payment, payment.id)));
    }
    let before = known.as_ref().map(|known| known.state);
    let state = dispute_after(before, told.report);
    let closed_at = (state != DisputeState::Open).then_some(told.at);
    let dispute = match known {
        Some(known) if known.state == state => return Ok(None),
        Some(known) => {
            let dispute = Dispute { state, closed_at, ..known };
            store::update_dispute(tx, tenant, &dispute).await?;
            dispute
        }
        None => {
            let dispute = Dispute {
                id: DisputeId::from_uuid(Uuid::now_v7()),
                provider_ref: told.provider_ref.to_owned(),
                payment: payment.id,
                invoice: payment.invoice,
                amount: told.amount,
                state,
                credits_revoked: Credits::ZERO,
                opened_at: told.at,
                closed_at,
            };
            store::insert_dispute(tx, tenant, &dispute).await?;
            dispute
        }
    };
    Ok(Some((dispute, before)))
}

/// Writes what a dispute has revoked.
pub async fn note_revoked(tx: &mut Connection, tenant: TenantId, dispute: &Dispute) -> Result<()> {
    store::update_dispute(tx, tenant, dispute).await
}

/// The disputes of an invoice's payments, oldest first.
pub async fn disputes(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<Vec<Dispute>> {
    store::disputes(tx, tenant, invoice).await
}

/// Whether the money of an invoice's payment is with the customer's bank, or may go there.
pub async fn is_disputed(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<bool> {
    let disputes = store::disputes(tx, tenant, invoice).await?;
    Ok(disputes.iter().any(|dispute| dispute.state.holds_the_money()))
}
