//! Takes in what the provider says about a dispute (R-22a). A lost one revokes all that is unspent of
//! what its payment had paid for and suspends the subscription; one that is won after it was lost gives both back, so
//! that the end is the same as where its loss was never told. Told again, late or after its reinstatement it changes
//! nothing.

use db::{Connection, Result};
use domain::account::{Cause, CauseKind};
use domain::dispute::{DisputeReport, DisputeState};
use domain::id::{GrantId, PaymentId};
use domain::invoice::PaymentStatus;
use domain::refund::RefundStatus;
use domain::subscription::Status;
use domain::{Credits, Money, Refusal, TenantScope, Timestamp};
use invoices::{Dispute, DisputeTold, Payment};
use ledger::Accounts;
use serde_json::{Value, json};

use crate::buyer::{self, Buyer};
use crate::collect::to_publish;
use crate::suspend::{lift, suspend};
use crate::{Subscriptions, event, paid_for, store};

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
        self.ledger.publish(scope.tenant, &accounts, scope.now).await?;
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
                Some(DisputeState::Lost) => {
                    Some(reinstate(tx, scope, &mut buyer, &payment, &mut dispute).await?)
                }
                None | Some(DisputeState::Open | DisputeState::Won) => None,
            };
            buyer.about().emit(tx, scope, event::DISPUTE_WON, said(&dispute)).await?;
            accounts
        }
        DisputeState::Lost => {
            let paid_for = paid_for::find(tx, scope, &buyer, invoice).await?;
            let grants: Vec<GrantId> = paid_for.grant.into_iter().collect();
            let mut accounts =
                ledger::lock_for_void(tx, tenant, buyer.customer(), &grants, scope.now).await?;
            let account = accounts.get_mut(buyer.customer())?;
            paid_for.lose(account, &mut dispute, scope.now)?;
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
            paid_for::refill(tx, scope, &buyer, account).await?;
            ledger::write(tx, tenant, &accounts, scope.now).await?;
            Some(accounts)
        }
    };
    to_publish(tx, scope, buyer.customer(), changed).await
}

/// Gives back what a lost dispute had taken: the Credits, where no other dispute of the payment is lost, and the
/// subscription, where no other about it is and no operator has suspended it. What has gone back meanwhile takes its part.
async fn reinstate(
    tx: &mut Connection,
    scope: &TenantScope,
    buyer: &mut Buyer,
    payment: &Payment,
    dispute: &mut Dispute,
) -> Result<Accounts> {
    let (tenant, customer) = (scope.tenant, buyer.customer());
    let paid_for = paid_for::find(tx, scope, buyer, dispute.invoice).await?;
    let of_payment = invoices::disputes(tx, tenant, dispute.invoice).await?;
    let is_lost = of_payment.iter().any(|other| other.state == DisputeState::Lost);
    let mut revoked = Vec::new();
    for won in of_payment.iter().filter(|_| !is_lost) {
        let cause = Cause { kind: CauseKind::Dispute, id: won.id.uuid() };
        revoked.extend(ledger::revoked(tx, tenant, customer, cause).await?);
    }
    let taken_from = revoked.iter().filter_map(|revoked| revoked.grant);
    let grants: Vec<GrantId> = taken_from.chain(paid_for.grant).collect();
    let mut accounts = ledger::lock_for_void(tx, tenant, customer, &grants, scope.now).await?;
    let account = accounts.get_mut(customer)?;
    if !is_lost {
        for revoked in &revoked {
            account.reinstate(revoked, scope.now)?;
        }
        for mut won in of_payment {
            won.credits_revoked = Credits::ZERO;
            invoices::note_revoked(tx, tenant, &won).await?;
        }
        dispute.credits_revoked = Credits::ZERO;
        let mut refunds = invoices::refunds(tx, tenant, dispute.invoice).await?;
        refunds.retain(|refund| refund.payment == payment.id && refund.status != RefundStatus::Failed);
        let taken = paid_for.take_back_later(account, payment, &refunds, scope.now)?;
        for (refund, credits) in refunds.iter_mut().zip(taken).filter(|(_, credits)| !credits.is_zero()) {
            invoices::note_taken(tx, tenant, refund, credits).await?;
        }
    }
    if let Buyer::Subscription(subscription) = buyer
        && subscription.status == Status::Suspended
        && subscription.is_suspended_by_dispute
        && !store::purchases::has_lost_dispute(tx, tenant, subscription.id).await?
    {
        let details = json!({"reason": "dispute-won", "dispute": dispute.id});
        lift(tx, scope, subscription, account, details).await?;
    }
    paid_for::refill(tx, scope, buyer, account).await?;
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
