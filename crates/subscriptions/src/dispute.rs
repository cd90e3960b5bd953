//! Takes in what the provider says about a dispute (R-22a). A lost one revokes all that is unspent of
//! what its payment had paid for and suspends the subscription; one that is won after it was lost gives both back, so
//! that the end is the same as where its loss was never told. Told again, late or after its reinstatement it changes
//! nothing.

use db::{Connection, Result};
use domain::account::{Cause, CauseKind};
use domain::dispute::{DisputeReport, DisputeState};
use domain::id::PaymentId;
use domain::invoice::PaymentStatus;
use domain::subscription::Status;
use domain::{Credits, Money, Refusal, TenantScope, Timestamp};
use invoices::{Dispute, DisputeTold};
use ledger::Accounts;
use serde_json::{Value, json};

use crate::buyer::{self, Buyer};
use crate::collect::to_publish;
use crate::suspend::{lift, suspend};
use crate::{Subscriptions, event, store};

impl Subscriptions {
    /// Applies a report about the dispute that the provider calls `dispute`. Refused: `not-found`,
    /// `currency-mismatch`, `invalid-field` for an id that is no id, and `invoice-not-paid` while the
    /// payment's success has not been told: tell it again after that.
    pub async fn apply_dispute(
        &self,
        scope: &TenantScope,
        payment: PaymentId,
        dispute: &str,
        report: DisputeReport,
        amount: Money,
        at: Timestamp,
    ) -> Result<()> {
        let at = domain::time::truncate_to_micros(at).min(scope.now);
        let told = DisputeTold { provider_ref: dispute, report, amount, at };
        let accounts =
            self.db.transaction(scope.tenant, async |tx| apply(tx, scope, payment, &told).await).await?;
        self.ledger.publish(scope.tenant, &accounts, scope.now).await;
        Ok(())
    }
}

async fn apply(
    tx: &mut Connection,
    scope: &TenantScope,
    payment: PaymentId,
    told: &DisputeTold<'_>,
) -> Result<Accounts> {
    let tenant = scope.tenant;
    if !(1..=255).contains(&told.provider_ref.len()) || told.provider_ref.contains('\0') {
        return Err(Refusal::invalid_field("/dispute", "malformed").into());
    }
    let invoice = invoices::payment(tx, tenant, payment).await?.invoice;
    let mut buyer = buyer::lock(tx, tenant, invoice).await?;
    invoices::lock(tx, tenant, invoice).await?;
    let payment = invoices::lock_payment(tx, tenant, payment).await?;
    if told.amount.currency != payment.amount.currency {
        return Err(Refusal::CurrencyMismatch.into());
    }
    match payment.status {
        PaymentStatus::Succeeded | PaymentStatus::Refunded => {}
        PaymentStatus::Created
        | PaymentStatus::RequiresAction
        | PaymentStatus::Pending
        | PaymentStatus::Failed
        | PaymentStatus::Canceled => {
            return Err(Refusal::InvoiceNotPaid.into());
        }
    }
    let Some((mut dispute, before)) = invoices::record_dispute(tx, tenant, &payment, told).await? else {
        return to_publish(tx, scope, buyer.customer(), None).await;
    };
    let changed = match dispute.state {
        DisputeState::Open => {
            buyer.about().emit(tx, scope, event::DISPUTE_OPENED, said(&dispute)).await?;
            None
        }
        DisputeState::Won => {
            let accounts = match before {
                Some(DisputeState::Lost) => Some(reinstate(tx, scope, &mut buyer, &mut dispute).await?),
                None | Some(DisputeState::Open | DisputeState::Won) => None,
            };
            buyer.about().emit(tx, scope, event::DISPUTE_WON, said(&dispute)).await?;
            accounts
        }
        DisputeState::Lost => {
            let grant = store::purchases::grant_of_invoice(tx, tenant, invoice).await?;
            let mut accounts =
                ledger::lock_for_void(tx, tenant, buyer.customer(), &[grant], scope.now).await?;
            let account = accounts.get_mut(buyer.customer())?;
            let cause = Cause { kind: CauseKind::Dispute, id: dispute.id.uuid() };
            let revoked = account.revoke(grant, Credits::MAX, cause, scope.now)?;
            dispute.credits_revoked = revoked.map_or(Credits::ZERO, |draw| draw.credits);
            invoices::note_revoked(tx, tenant, &dispute).await?;
            buyer.about().emit(tx, scope, event::DISPUTE_LOST, said(&dispute)).await?;
            // What was bought without a subscription stops none.
            if let Buyer::Subscription(subscription) = &mut buyer {
                match subscription.status {
                    Status::Active | Status::PastDue => {
                        subscription.is_suspended_by_dispute = true;
                        let details = json!({"reason": "dispute-lost", "dispute": dispute.id});
                        suspend(tx, scope, subscription, account, details).await?;
                    }
                    // Whoever has stopped it lets it go on.
                    Status::Suspended => {}
                    // There is nothing to stop.
                    Status::Incomplete | Status::Canceled | Status::Expired => {}
                }
            }
            ledger::write(tx, tenant, &accounts, scope.now).await?;
            Some(accounts)
        }
    };
    to_publish(tx, scope, buyer.customer(), changed).await
}

/// Gives back what a lost dispute had taken: the Credits, where no other dispute of the payment is lost, and the
/// subscription, where no other about it is and no operator has suspended it.
async fn reinstate(
    tx: &mut Connection,
    scope: &TenantScope,
    buyer: &mut Buyer,
    dispute: &mut Dispute,
) -> Result<Accounts> {
    let (tenant, customer) = (scope.tenant, buyer.customer());
    let grant = store::purchases::grant_of_invoice(tx, tenant, dispute.invoice).await?;
    let mut accounts = ledger::lock_for_void(tx, tenant, customer, &[grant], scope.now).await?;
    let account = accounts.get_mut(customer)?;
    let of_payment = invoices::disputes(tx, tenant, dispute.invoice).await?;
    if of_payment.iter().all(|other| other.state != DisputeState::Lost) {
        for mut won in of_payment {
            let cause = Cause { kind: CauseKind::Dispute, id: won.id.uuid() };
            for revoked in ledger::revoked(tx, tenant, customer, cause).await? {
                account.reinstate(&revoked, scope.now)?;
            }
            won.credits_revoked = Credits::ZERO;
            invoices::note_revoked(tx, tenant, &won).await?;
        }
        dispute.credits_revoked = Credits::ZERO;
    }
    if let Buyer::Subscription(subscription) = buyer
        && subscription.status == Status::Suspended
        && subscription.is_suspended_by_dispute
        && !store::purchases::has_lost_dispute(tx, tenant, subscription.id).await?
    {
        let details = json!({"reason": "dispute-won", "dispute": dispute.id});
        lift(tx, scope, subscription, account, details).await?;
    }
    ledger::write(tx, tenant, &accounts, scope.now).await?;
    Ok(accounts)
}

/// What an event about a dispute says of it.
fn said(dispute: &Dispute) -> Value {
    json!({
        "dispute": dispute.id,
        "provider_ref": dispute.provider_ref,
        "invoice": dispute.invoice,
        "payment": dispute.payment,
        "amount": dispute.amount,
        "credits_revoked": dispute.credits_revoked,
    })
}
