//! What the money of an invoice has paid for: what goes when that goes back (R-22a). A payment has a grant of its own; that
//! of a year, or of an upgrade within it, has one in each later cycle of the year as well (R-22b), and the running one's is
//! what can still be taken of it.

use db::{Connection, Result};
use domain::account::{Account, Cause, CauseKind};
use domain::dispute::DisputeState;
use domain::id::{GrantId, InvoiceId, RefundId};
use domain::invoice::PaymentStatus;
use domain::refund::{RefundStatus, Revocation, revocation, revocation_anew};
use domain::{Credits, Refusal, TenantScope, Timestamp};
use invoices::{Dispute, InvoiceView, Payment, Refund};

use crate::buyer::Buyer;
use crate::cancel::refills_at;
use crate::store;
use crate::store::due::RUNNING;

/// The grant that can be taken back; none where the running cycle of a year has none for the payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PaidFor {
    pub(crate) grant: Option<GrantId>,
}

/// What the payment of an invoice has paid for. The caller holds the buyer's lock. Refused: `not-found`.
pub(crate) async fn find(
    tx: &mut Connection,
    scope: &TenantScope,
    buyer: &Buyer,
    invoice: InvoiceId,
) -> Result<PaidFor> {
    let tenant = scope.tenant;
    if let Buyer::Subscription(subscription) = buyer
        && let (Some(cycle), Some(paid_with)) = (subscription.cycle(), subscription.annual_from)
    {
        let bought = store::purchases::of_invoice(tx, tenant, invoice).await?;
        let is_earlier = (paid_with..cycle.number).contains(&bought.cycle_number);
        let cycle = (subscription.id, cycle.number);
        let grant = match is_earlier {
            true => store::cycles::grant_for(tx, tenant, cycle, bought.id).await?,
            false => Some(bought.grant()),
        };
        return Ok(PaidFor { grant });
    }
    Ok(PaidFor { grant: Some(store::purchases::grant_of_invoice(tx, tenant, invoice).await?) })
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
    /// What goes once `refunded_minor` of a payment have gone back, all refunds added up.
    fn loss(self, account: &Account, payment: &Payment, refunded_minor: i64, now: Timestamp) -> Revocation {
        // What was bought may grant nothing.
        let bought = self.grant.and_then(|grant| account.bought(grant, now));
        bought.map_or(Revocation::default(), |bought| {
            revocation(bought, payment.amount.amount_minor, refunded_minor)
        })
    }

    /// Revokes what a refund takes, as far as it is still there.
    pub(crate) fn take_back(
        self,
        account: &mut Account,
        payment: &Payment,
        (refund, amount_minor): (RefundId, i64),
        now: Timestamp,
    ) -> std::result::Result<Revocation, Refusal> {
        let refunded_minor = payment.refunded.amount_minor.checked_add(amount_minor);
        let refunded_minor = refunded_minor.ok_or(Refusal::AmountOverflow)?;
        let taken = self.loss(account, payment, refunded_minor, now);
        self.revoke(account, of_refund(refund), taken.revoke, now)?;
        Ok(taken)
    }

    /// Revokes what refunds would have taken, had a lost dispute not taken all of it before them; says of each how much it
    /// was. What they found missing stays missing. `refunds` are the payment's, oldest first.
    pub(crate) fn take_back_later(
        self,
        account: &mut Account,
        payment: &Payment,
        refunds: &[Refund],
        now: Timestamp,
    ) -> std::result::Result<Vec<Credits>, Refusal> {
        let (mut refunded_minor, mut taken) = (0_i64, Vec::new());
        for refund in refunds {
            refunded_minor = with(refunded_minor, refund)?;
            let loss = self.loss(account, payment, refunded_minor, now);
            let missing = loss.revoke.plus(loss.short)?.minus_floor_zero(refund.credits_short);
            taken.push(self.revoke(account, of_refund(refund.id), missing.min(loss.revoke), now)?);
        }
        Ok(taken)
    }

    /// Has a cycle of a year that begins after money of `invoice` has gone do without what that takes of it, each refund and
    /// each lost dispute by itself: one that comes to nothing later gives its own back. Says how much all of them take. The
    /// caller holds the locks of buyer and account, and writes the account.
    pub(crate) async fn take_back_at_once(
        self,
        tx: &mut Connection,
        scope: &TenantScope,
        invoice: InvoiceId,
        account: &mut Account,
    ) -> Result<Credits> {
        let (tenant, now) = (scope.tenant, scope.now);
        let (mut refunded_minor, mut all) = (0_i64, Credits::ZERO);
        let InvoiceView { payments, refunds, .. } = invoices::read(tx, tenant, invoice).await?;
        // Another that was given back had paid for nothing.
        if let Some(payment) = payments.iter().find(|payment| payment.status == PaymentStatus::Succeeded) {
            let stay =
                |refund: &Refund| refund.payment == payment.id && refund.status != RefundStatus::Failed;
            for mut refund in refunds.into_iter().filter(stay) {
                refunded_minor = with(refunded_minor, &refund)?;
                let loss = self.loss(account, payment, refunded_minor, now);
                let taken = self.revoke(account, of_refund(refund.id), loss.revoke, now)?;
                invoices::note_taken(tx, tenant, &mut refund, taken).await?;
                all = all.plus(taken)?;
            }
        }
        Ok(all.plus(self.lose_to_all(tx, scope, invoice, account).await?)?)
    }

    /// Counts anew, where a refund has come to nothing and has given so much back that has not expired, what the refunds of
    /// its payment after it take: each as much as it would have taken then. A lost dispute takes what that leaves. The caller
    /// holds the locks of buyer and account, and writes the account.
    pub(crate) async fn take_back_again(
        self,
        tx: &mut Connection,
        scope: &TenantScope,
        failed: &Refund,
        given_back: Credits,
        account: &mut Account,
    ) -> Result<()> {
        let (tenant, now) = (scope.tenant, scope.now);
        let Some(grant) = self.grant.filter(|_| !given_back.is_zero()) else { return Ok(()) };
        if account.bought(grant, now).is_none_or(|bought| bought.remaining.is_zero()) {
            return Ok(());
        }
        let payment = invoices::payment(tx, tenant, failed.payment).await?;
        let mut earlier = invoices::refunds(tx, tenant, failed.invoice).await?;
        let is_failed = |refund: &Refund| refund.id == failed.id;
        earlier.retain(|refund| {
            let stays = refund.status != RefundStatus::Failed;
            refund.payment == failed.payment && (stays || is_failed(refund))
        });
        let place = earlier.iter().position(is_failed).unwrap_or(earlier.len());
        let mut later = earlier.split_off(place);
        later.retain(|refund| !is_failed(refund));
        let mut had = Vec::new();
        for refund in &later {
            let cause = of_refund(refund.id);
            let mut credits = Credits::ZERO;
            for revoked in ledger::revoked(tx, tenant, account.customer(), cause).await? {
                if revoked.grant == Some(grant) {
                    account.reinstate(&revoked, now)?;
                    credits = credits.plus(revoked.credits)?;
                }
            }
            had.push(credits);
        }
        let mut refunded_minor = earlier.iter().try_fold(0, with)?;
        let mut given_back = given_back;
        for (refund, had) in later.iter_mut().zip(had) {
            refunded_minor = with(refunded_minor, refund)?;
            let loss = self.loss(account, &payment, refunded_minor, now);
            let Revocation { revoke, short } = revocation_anew(loss, had, given_back, refund.credits_short)?;
            self.revoke(account, of_refund(refund.id), revoke, now)?;
            given_back = given_back.minus_floor_zero(revoke.minus_floor_zero(had));
            refund.credits_revoked = refund.credits_revoked.minus_floor_zero(had);
            refund.credits_short = short;
            invoices::note_taken(tx, tenant, refund, revoke).await?;
        }
        self.lose_to_all(tx, scope, failed.invoice, account).await?;
        Ok(())
    }

    /// Has each lost dispute of an invoice take what is left, and says how much that was.
    async fn lose_to_all(
        self,
        tx: &mut Connection,
        scope: &TenantScope,
        invoice: InvoiceId,
        account: &mut Account,
    ) -> Result<Credits> {
        let mut all = Credits::ZERO;
        for mut dispute in invoices::disputes(tx, scope.tenant, invoice).await? {
            if dispute.state == DisputeState::Lost {
                all = all.plus(self.lose(account, &mut dispute, scope.now)?)?;
                invoices::note_revoked(tx, scope.tenant, &dispute).await?;
            }
        }
        Ok(all)
    }

    /// Revokes all that is unspent for a lost dispute, notes it there, and says how much that was.
    pub(crate) fn lose(
        self,
        account: &mut Account,
        dispute: &mut Dispute,
        now: Timestamp,
    ) -> std::result::Result<Credits, Refusal> {
        let cause = Cause { kind: CauseKind::Dispute, id: dispute.id.uuid() };
        let taken = self.revoke(account, cause, Credits::MAX, now)?;
        dispute.credits_revoked = dispute.credits_revoked.plus(taken)?;
        Ok(taken)
    }

    /// Revokes so much, or what is left of it, and says how much that was.
    fn revoke(
        self,
        account: &mut Account,
        cause: Cause,
        credits: Credits,
        now: Timestamp,
    ) -> std::result::Result<Credits, Refusal> {
        let Some(grant) = self.grant else { return Ok(Credits::ZERO) };
        let revoked = account.revoke(grant, credits, cause, now)?;
        Ok(revoked.map_or(Credits::ZERO, |draw| draw.credits))
    }
}

/// What has gone back of a payment with this refund.
fn with(refunded_minor: i64, refund: &Refund) -> std::result::Result<i64, Refusal> {
    refunded_minor.checked_add(refund.amount.amount_minor).ok_or(Refusal::AmountOverflow)
}

/// The cause of what a refund revokes.
pub(crate) fn of_refund(refund: RefundId) -> Cause {
    Cause { kind: CauseKind::Refund, id: refund.uuid() }
}
