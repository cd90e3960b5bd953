//! What the money of an invoice has paid for: what goes when that goes back (R-22a). A payment has a grant of its own; that
//! of a year has paid for a part of the pool of every later cycle as well (R-22b), and the running one is what can still be
//! taken of it.

use db::{Connection, Result};
use domain::account::{Account, Cause, CauseKind};
use domain::id::{GrantId, InvoiceId, PaymentId, RefundId};
use domain::refund::{RefundStatus, Revocation, YearPart, revocation, revocation_in_year};
use domain::{Credits, Refusal, TenantScope, Timestamp};
use invoices::{Payment, Refund};

use crate::buyer::Buyer;
use crate::cancel::refills_at;
use crate::store;
use crate::store::due::RUNNING;
use crate::subscription::Subscription;

/// What can be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PaidFor {
    /// The grant that its purchase made.
    Grant(GrantId),
    /// Its part of the pool of the running cycle of a year, which an earlier cycle was paid with.
    Pool { grant: Option<GrantId>, parts: Vec<PartPaid> },
}

/// A part of the pool of each later cycle of a year, and what has paid for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartPaid {
    pub(crate) invoice: InvoiceId,
    pub(crate) payment: PaymentId,
    pub(crate) part: YearPart,
}

/// What the payment of an invoice has paid for. The caller holds the buyer's lock. Refused: `not-found`.
pub(crate) async fn find(
    tx: &mut Connection,
    scope: &TenantScope,
    buyer: &Buyer,
    invoice: InvoiceId,
) -> Result<PaidFor> {
    if let Buyer::Subscription(subscription) = buyer
        && let Some(pool) = of_year(tx, scope, subscription, invoice).await?
    {
        return Ok(pool);
    }
    Ok(PaidFor::Grant(store::purchases::grant_of_invoice(tx, scope.tenant, invoice).await?))
}

async fn of_year(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &Subscription,
    invoice: InvoiceId,
) -> Result<Option<PaidFor>> {
    let tenant = scope.tenant;
    let (Some(cycle), Some(paid_with)) = (subscription.cycle(), subscription.annual_from) else {
        return Ok(None);
    };
    let bought_in = store::purchases::of_invoice(tx, tenant, invoice).await?.cycle_number;
    if !(paid_with..cycle.number).contains(&bought_in) {
        return Ok(None);
    }
    let grant = store::cycles::pool(tx, tenant, subscription.id, cycle.number).await?;
    let parts = store::purchases::parts_of_year(tx, tenant, subscription.id, paid_with, cycle.number).await?;
    Ok(Some(PaidFor::Pool { grant, parts }))
}

/// Sets when the pool fills again after money of a year has gone, or has come back: one whose money is all gone pays for no
/// further cycle. The caller holds the locks of buyer and account, and writes the account.
pub(crate) async fn refill(
    tx: &mut Connection,
    scope: &TenantScope,
    buyer: &Buyer,
    account: &mut Account,
) -> Result<()> {
    if let Buyer::Subscription(subscription) = buyer
        && subscription.annual_from.is_some()
        && RUNNING.contains(&subscription.status)
    {
        account.set_refills_at(refills_at(tx, scope, subscription).await?);
    }
    Ok(())
}

impl PaidFor {
    /// The grant that it takes from.
    pub(crate) fn grant(&self) -> Option<GrantId> {
        match self {
            PaidFor::Grant(grant) => Some(*grant),
            PaidFor::Pool { grant, .. } => *grant,
        }
    }

    /// The most that a payment has paid for of that grant.
    pub(crate) fn credits_max(&self, payment: PaymentId) -> Credits {
        match self {
            PaidFor::Grant(_) => Credits::MAX,
            PaidFor::Pool { parts, .. } => {
                let own = parts.iter().find(|paid| paid.payment == payment);
                own.map_or(Credits::ZERO, |paid| paid.part.credits)
            }
        }
    }

    /// What goes once `refunded_minor` of a payment have gone back, all refunds added up.
    fn loss(
        &self,
        account: &Account,
        payment: &Payment,
        refunded_minor: i64,
        now: Timestamp,
    ) -> std::result::Result<Revocation, Refusal> {
        // What was bought may grant nothing.
        let Some(bought) = self.grant().and_then(|grant| account.bought(grant, now)) else {
            return Ok(Revocation::default());
        };
        match self {
            PaidFor::Grant(_) => Ok(revocation(bought, payment.amount.amount_minor, refunded_minor)),
            PaidFor::Pool { parts, .. } => {
                let then = parts.iter().map(|paid| match paid.payment == payment.id {
                    true => YearPart { refunded_minor, ..paid.part },
                    false => paid.part,
                });
                revocation_in_year(bought, &then.collect::<Vec<_>>())
            }
        }
    }

    /// Revokes what a refund takes, as far as it is still there.
    pub(crate) fn take_back(
        &self,
        account: &mut Account,
        payment: &Payment,
        (refund, amount_minor): (RefundId, i64),
        now: Timestamp,
    ) -> std::result::Result<Revocation, Refusal> {
        let refunded_minor = payment.refunded.amount_minor.checked_add(amount_minor);
        let refunded_minor = refunded_minor.ok_or(Refusal::AmountOverflow)?;
        let taken = self.loss(account, payment, refunded_minor, now)?;
        self.revoke(account, refund, taken.revoke, now)?;
        Ok(taken)
    }

    /// Revokes what refunds would have taken, had a lost dispute not taken all of it before them; says of each how much it
    /// was. What they found missing stays missing. `refunds` are the payment's, oldest first.
    pub(crate) fn take_back_later(
        &self,
        account: &mut Account,
        payment: &Payment,
        refunds: &[Refund],
        now: Timestamp,
    ) -> std::result::Result<Vec<Credits>, Refusal> {
        let (mut refunded_minor, mut taken) = (0_i64, Vec::new());
        for refund in refunds {
            refunded_minor =
                refunded_minor.checked_add(refund.amount.amount_minor).ok_or(Refusal::AmountOverflow)?;
            let loss = self.loss(account, payment, refunded_minor, now)?;
            let missing = loss.revoke.plus(loss.short)?.minus_floor_zero(refund.credits_short);
            let credits = missing.min(loss.revoke);
            self.revoke(account, refund.id, credits, now)?;
            taken.push(credits);
        }
        Ok(taken)
    }

    /// Has a cycle of a year that begins after refunds do without what they take of it, each by itself: one that fails
    /// later gives its own back. Says how much all of them take. The caller holds the locks of buyer and account, and
    /// writes the account.
    pub(crate) async fn take_back_at_once(
        &self,
        tx: &mut Connection,
        scope: &TenantScope,
        account: &mut Account,
    ) -> Result<Credits> {
        let mut all = Credits::ZERO;
        let PaidFor::Pool { parts, .. } = self else { return Ok(all) };
        for PartPaid { invoice, payment, part } in parts.iter().filter(|paid| paid.part.refunded_minor > 0) {
            let mut refunds = invoices::refunds(tx, scope.tenant, *invoice).await?;
            refunds.retain(|refund| refund.payment == *payment && refund.status != RefundStatus::Failed);
            let amounts: Vec<i64> = refunds.iter().map(|refund| refund.amount.amount_minor).collect();
            for (refund, credits) in refunds.iter_mut().zip(part.lost_to_each(&amounts)?) {
                let taken = self.revoke(account, refund.id, credits, scope.now)?;
                invoices::note_taken(tx, scope.tenant, refund, taken).await?;
                all = all.plus(taken)?;
            }
        }
        Ok(all)
    }

    /// Revokes so much, or what is left of it, and says how much that was.
    fn revoke(
        &self,
        account: &mut Account,
        refund: RefundId,
        credits: Credits,
        now: Timestamp,
    ) -> std::result::Result<Credits, Refusal> {
        let Some(grant) = self.grant() else { return Ok(Credits::ZERO) };
        let cause = Cause { kind: CauseKind::Refund, id: refund.uuid() };
        let revoked = account.revoke(grant, credits, cause, now)?;
        Ok(revoked.map_or(Credits::ZERO, |draw| draw.credits))
    }
}
