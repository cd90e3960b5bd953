//! Gives money back (R-10a, R-14b, R-17, R-22a): as an operator wants it, as the provider tells of it,
//! or because a payment came too late.
//!
//! One transaction locks subscription, invoice, payment and credit account, in that order as whoever
//! pays does, takes back what the money had bought, and stores the refund and a job. The provider is
//! asked after the commit, under the refund's id; what it answers settles the refund.

use chrono::{TimeDelta, Utc};
use db::{Connection, Error, Result};
use domain::account::Account;
use domain::id::{GrantId, InvoiceId, PaymentId, RefundId};
use domain::invoice::{InvoiceStatus, PaymentStatus};
use domain::refund::{RefundOrigin, RefundReport, RefundStatus, Revocation, amount};
use domain::{Credits, Money, Refusal, TenantScope, Timestamp};
use idempotency::{Claim, RequestKey};
use invoices::{Payment, Refund};
use ledger::Accounts;
use payments::{GiveBack, ProviderError};
use scheduler::NewJob;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::buyer::{self, Buyer};
use crate::collect::{to_publish, unavailable};
use crate::event::About;
use crate::paid_for::{self, PaidFor};
use crate::{Subscriptions, event, jobs};

/// How long after its commit the provider is asked by a job, should the process that stored the refund
/// have died before it could ask.
const ASK_AFTER: TimeDelta = TimeDelta::seconds(60);

/// A refund to be stored.
pub(crate) struct Wanted {
    pub(crate) id: RefundId,
    pub(crate) amount: Money,
    pub(crate) origin: RefundOrigin,
    pub(crate) provider_ref: Option<String>,
    pub(crate) reason: Option<String>,
}

/// A refund as the provider lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRefund {
    /// The provider's own id.
    pub provider_ref: String,
    /// Ours, where it was asked for here.
    pub refund: Option<RefundId>,
    pub amount: Money,
    pub report: RefundReport,
    pub failure_code: Option<String>,
}

impl Subscriptions {
    /// Gives money of a paid invoice back: `amount_minor`, or all that has not gone back yet, and revokes
    /// what that had bought (R-22a). Refused: `not-found`, `invoice-not-paid`, `payment-disputed`,
    /// `already-refunded`, `refund-too-large`, `invalid-field`. A provider that does not answer leaves
    /// the refund created: a job asks again.
    pub async fn refund_invoice(
        &self,
        scope: &TenantScope,
        invoice: InvoiceId,
        amount_minor: Option<i64>,
        reason: Option<String>,
        request: &RequestKey,
    ) -> Result<Refund> {
        let tenant = scope.tenant;
        let (refund, accounts) = self
            .db
            .transaction(tenant, async |tx| {
                let id = RefundId::from_uuid(Uuid::now_v7());
                match idempotency::claim(tx, tenant, request, id.uuid(), scope.now).await? {
                    Claim::New => by_operator(tx, scope, invoice, id, amount_minor, reason.clone()).await,
                    Claim::Unfinished { fact } => {
                        let refund = invoices::refund(tx, tenant, RefundId::from_uuid(fact)).await?;
                        let customer = invoices::find(tx, tenant, refund.invoice).await?.customer;
                        Ok((refund, to_publish(tx, scope, customer, None).await?))
                    }
                }
            })
            .await?;
        self.ledger.publish(tenant, &accounts, scope.now).await?;
        self.ask_now(scope, &[refund.id]).await?;
        self.db.transaction(tenant, async |tx| invoices::refund(tx, tenant, refund.id).await).await
    }

    /// Takes in all refunds of a payment as the provider lists them: one that is not known here becomes one, each is
    /// settled, and one that failed gives back what it had revoked (R-22a). The same list again changes nothing. Refused:
    /// `not-found`, `currency-mismatch`, `refund-too-large` where they come to more than was paid, and
    /// `invoice-not-paid` while the payment's success has not been told: tell it again after that.
    pub async fn apply_refunds(
        &self,
        scope: &TenantScope,
        payment: PaymentId,
        listed: &[ListedRefund],
        at: Timestamp,
    ) -> Result<()> {
        let accounts = self
            .db
            .transaction(scope.tenant, async |tx| as_listed(tx, scope, payment, listed, at).await)
            .await?;
        self.ledger.publish(scope.tenant, &accounts, scope.now).await?;
        Ok(())
    }

    /// Takes in what the provider says about a refund. One that failed gives back what it had revoked, for the money
    /// has not gone back (R-22a). Refused: `not-found`.
    pub async fn settle_refund(
        &self,
        scope: &TenantScope,
        refund: RefundId,
        report: RefundReport,
        failure_code: Option<&str>,
    ) -> Result<RefundStatus> {
        let tenant = scope.tenant;
        let (status, accounts) = self
            .db
            .transaction(tenant, async |tx| {
                let invoice = invoices::refund(tx, tenant, refund).await?.invoice;
                let buyer = buyer::lock(tx, tenant, invoice).await?;
                invoices::lock(tx, tenant, invoice).await?;
                let (status, accounts) = settle(tx, scope, &buyer, refund, report, failure_code).await?;
                Ok((status, to_publish(tx, scope, buyer.customer(), accounts).await?))
            })
            .await?;
        self.ledger.publish(tenant, &accounts, scope.now).await?;
        Ok(status)
    }

    /// Asks the provider for a refund that it may not have heard of, outside of any transaction.
    pub(crate) async fn ask_refund(&self, scope: &TenantScope, refund: RefundId) -> Result<()> {
        let tenant = scope.tenant;
        let (refund, payment) = self
            .db
            .transaction(tenant, async |tx| {
                let refund = invoices::refund(tx, tenant, refund).await?;
                let payment = invoices::payment(tx, tenant, refund.payment).await?;
                Ok((refund, payment))
            })
            .await?;
        if refund.status != RefundStatus::Created {
            return Ok(());
        }
        let request = GiveBack {
            tenant,
            refund: refund.id,
            payment: payment.id,
            provider_ref: payment.provider_ref,
            amount: refund.amount,
        };
        let (report, failure_code) = match self.provider.refund(&request).await {
            Ok(()) => (RefundReport::Succeeded, None),
            Err(ProviderError::RefundRefused(code)) => (RefundReport::Failed, Some(code)),
            Err(ProviderError::UnknownMethod) => {
                (RefundReport::Failed, Some(Refusal::UnknownPaymentMethod.code().to_owned()))
            }
            Err(error @ ProviderError::Unavailable(_)) => return Err(unavailable(error)),
        };
        self.settle_refund(scope, refund.id, report, failure_code.as_deref()).await?;
        Ok(())
    }

    /// The same for refunds that were just stored: one that the provider does not answer for is left
    /// to its job.
    pub(crate) async fn ask_now(&self, scope: &TenantScope, refunds: &[RefundId]) -> Result<()> {
        for refund in refunds {
            match self.ask_refund(scope, *refund).await {
                Err(Error::Unavailable(reason)) => {
                    tracing::warn!(%refund, reason, "a refund was not asked for yet");
                }
                answer => answer?,
            }
        }
        Ok(())
    }
}

async fn by_operator(
    tx: &mut Connection,
    scope: &TenantScope,
    invoice: InvoiceId,
    id: RefundId,
    amount_minor: Option<i64>,
    reason: Option<String>,
) -> Result<(Refund, Accounts)> {
    let tenant = scope.tenant;
    let buyer = buyer::lock(tx, tenant, invoice).await?;
    let mut payment = paying(tx, scope, invoice).await?.ok_or(Refusal::InvoiceNotPaid)?;
    if invoices::is_disputed(tx, tenant, invoice).await? {
        return Err(Refusal::PaymentDisputed.into());
    }
    let amount = amount(amount_minor, payment.amount, payment.refunded.amount_minor)?;
    let paid_for = paid_for::find(tx, scope, &buyer, invoice).await?;
    let grants: Vec<GrantId> = paid_for.grant.into_iter().collect();
    let mut accounts = ledger::lock_for_void(tx, tenant, buyer.customer(), &grants, scope.now).await?;
    let account = accounts.get_mut(buyer.customer())?;
    let wanted = Wanted { id, amount, origin: RefundOrigin::Operator, provider_ref: None, reason };
    let refund = open(tx, scope, buyer.about(), &mut payment, account, paid_for, wanted).await?;
    paid_for::refill(tx, scope, &buyer, account).await?;
    ledger::write(tx, tenant, &accounts, scope.now).await?;
    Ok((refund, accounts))
}

/// The locked payment that has paid an invoice; `None` where there was nothing to pay. Refused:
/// `invoice-not-paid`.
pub(crate) async fn paying(
    tx: &mut Connection,
    scope: &TenantScope,
    invoice: InvoiceId,
) -> Result<Option<Payment>> {
    let invoice = invoices::lock(tx, scope.tenant, invoice).await?;
    if invoice.status != InvoiceStatus::Paid {
        return Err(Refusal::InvoiceNotPaid.into());
    }
    invoices::lock_paying(tx, scope.tenant, invoice.id).await
}

/// Stores a refund with what it takes back of the Credits, its event, and the job that asks the provider
/// if nobody else does. The caller holds the locks, and writes the account.
pub(crate) async fn open(
    tx: &mut Connection,
    scope: &TenantScope,
    about: About<'_>,
    payment: &mut Payment,
    account: &mut Account,
    paid_for: PaidFor,
    wanted: Wanted,
) -> Result<Refund> {
    let taken = paid_for.take_back(account, payment, (wanted.id, wanted.amount.amount_minor), scope.now)?;
    let refund = stored(tx, scope, payment, wanted, taken, RefundStatus::Created).await?;
    let job = NewJob { run_at: Utc::now() + ASK_AFTER, ..jobs::for_refund(scope.tenant, refund.id) };
    scheduler::enqueue(tx, job, scope.now).await?;
    about.emit(tx, scope, event::REFUND_CREATED, said(&refund)).await?;
    Ok(refund)
}

/// Stores the refund of a payment that succeeded for something that is over: it had bought nothing, so
/// nothing is revoked (R-10a, R-14b).
pub(crate) async fn open_too_late(
    tx: &mut Connection,
    scope: &TenantScope,
    about: About<'_>,
    payment: PaymentId,
) -> Result<()> {
    let mut payment = invoices::lock_payment(tx, scope.tenant, payment).await?;
    let wanted = Wanted {
        id: RefundId::from_uuid(Uuid::now_v7()),
        amount: payment.amount,
        origin: RefundOrigin::TooLate,
        provider_ref: None,
        reason: None,
    };
    let refund =
        stored(tx, scope, &mut payment, wanted, Revocation::default(), RefundStatus::Created).await?;
    scheduler::enqueue(tx, jobs::for_refund(scope.tenant, refund.id), scope.now).await?;
    about.emit(tx, scope, event::REFUND_CREATED, said(&refund)).await
}

async fn as_listed(
    tx: &mut Connection,
    scope: &TenantScope,
    payment: PaymentId,
    listed: &[ListedRefund],
    at: Timestamp,
) -> Result<Accounts> {
    let tenant = scope.tenant;
    let invoice = invoices::payment(tx, tenant, payment).await?.invoice;
    let buyer = buyer::lock(tx, tenant, invoice).await?;
    invoices::lock(tx, tenant, invoice).await?;
    let payment = invoices::lock_payment(tx, tenant, payment).await?;
    if listed.iter().any(|refund| refund.amount.currency != payment.amount.currency) {
        return Err(Refusal::CurrencyMismatch.into());
    }
    let gone = listed.iter().filter(|refund| refund.report == RefundReport::Succeeded);
    let gone = gone.map(|refund| refund.amount.amount_minor).try_fold(0_i64, i64::checked_add);
    let gone = gone.filter(|gone| *gone <= payment.amount.amount_minor);
    let gone = gone.ok_or(Refusal::RefundTooLarge { rest: payment.amount })?;
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
    let mut accounts = None;
    // First what failed: its amount may have gone back by another refund since.
    let (failed, succeeded): (Vec<&ListedRefund>, Vec<&ListedRefund>) =
        listed.iter().partition(|refund| refund.report == RefundReport::Failed);
    for refund in failed.into_iter().chain(succeeded) {
        let ListedRefund { provider_ref, refund: ours, amount, report, .. } = refund;
        let changed = match invoices::refund_told_of(tx, tenant, payment.id, *ours, provider_ref).await? {
            Some(known) => {
                let code = refund.failure_code.as_deref();
                settle(tx, scope, &buyer, known.id, *report, code).await?.1
            }
            None if *report == RefundReport::Succeeded => {
                // What is known by its amount alone is a part of what is listed.
                let refunded = invoices::lock_payment(tx, tenant, payment.id).await?.refunded;
                let unknown_minor = (gone - refunded.amount_minor).min(amount.amount_minor);
                if unknown_minor <= 0 {
                    continue;
                }
                let amount = Money { amount_minor: unknown_minor, ..*amount };
                Some(told_of(tx, scope, &buyer, payment.id, provider_ref, amount, at).await?)
            }
            None => None,
        };
        accounts = changed.or(accounts);
    }
    to_publish(tx, scope, buyer.customer(), accounts).await
}

/// Stores a refund that the provider has told of.
async fn told_of(
    tx: &mut Connection,
    scope: &TenantScope,
    buyer: &Buyer,
    payment: PaymentId,
    provider_ref: &str,
    amount: Money,
    at: Timestamp,
) -> Result<Accounts> {
    let tenant = scope.tenant;
    let mut payment = invoices::lock_payment(tx, tenant, payment).await?;
    let paid_for = paid_for::find(tx, scope, buyer, payment.invoice).await?;
    let grants: Vec<GrantId> = paid_for.grant.into_iter().collect();
    let mut accounts = ledger::lock_for_void(tx, tenant, buyer.customer(), &grants, scope.now).await?;
    let account = accounts.get_mut(buyer.customer())?;
    let wanted = Wanted {
        id: RefundId::from_uuid(Uuid::now_v7()),
        amount,
        origin: RefundOrigin::Provider,
        provider_ref: Some(provider_ref.to_owned()),
        reason: None,
    };
    let taken = paid_for.take_back(account, &payment, (wanted.id, wanted.amount.amount_minor), scope.now)?;
    let scope_then =
        TenantScope { now: domain::time::truncate_to_micros(at).min(scope.now), ..scope.clone() };
    let refund = stored(tx, &scope_then, &mut payment, wanted, taken, RefundStatus::Succeeded).await?;
    paid_for::refill(tx, scope, buyer, account).await?;
    buyer.about().emit(tx, scope, event::REFUND_CREATED, said(&refund)).await?;
    settled(tx, scope, buyer, &refund).await?;
    ledger::write(tx, tenant, &accounts, scope.now).await?;
    Ok(accounts)
}

/// Moves a refund on as far as the report can, and does what follows. The caller holds the buyer's and the invoice's
/// locks.
async fn settle(
    tx: &mut Connection,
    scope: &TenantScope,
    buyer: &Buyer,
    refund: RefundId,
    report: RefundReport,
    failure_code: Option<&str>,
) -> Result<(RefundStatus, Option<Accounts>)> {
    let tenant = scope.tenant;
    let (mut refund, is_changed) =
        invoices::record_refund_report(tx, tenant, refund, report, failure_code, scope.now).await?;
    let mut accounts = None;
    if is_changed {
        if refund.status == RefundStatus::Failed {
            accounts = Some(reinstate(tx, scope, buyer, &mut refund).await?);
        }
        settled(tx, scope, buyer, &refund).await?;
    }
    Ok((refund.status, accounts))
}

/// Gives back what a refund had revoked. What later ones take is counted anew without it, and a lost dispute takes the rest.
async fn reinstate(
    tx: &mut Connection,
    scope: &TenantScope,
    buyer: &Buyer,
    refund: &mut Refund,
) -> Result<Accounts> {
    let (tenant, customer) = (scope.tenant, buyer.customer());
    let paid_for = paid_for::find(tx, scope, buyer, refund.invoice).await?;
    let revoked = ledger::revoked(tx, tenant, customer, paid_for::of_refund(refund.id)).await?;
    let taken_from = revoked.iter().filter_map(|revoked| revoked.grant);
    let grants: Vec<GrantId> = taken_from.chain(paid_for.grant).collect();
    let mut accounts = ledger::lock_for_void(tx, tenant, customer, &grants, scope.now).await?;
    let account = accounts.get_mut(customer)?;
    for revoked in &revoked {
        account.reinstate(revoked, scope.now)?;
    }
    invoices::note_reinstated(tx, tenant, refund).await?;
    let of_grant = revoked.iter().filter(|revoked| revoked.grant == paid_for.grant);
    let given_back = of_grant.map(|revoked| revoked.credits).try_fold(Credits::ZERO, Credits::plus)?;
    paid_for.take_back_again(tx, scope, refund, given_back, account).await?;
    paid_for::refill(tx, scope, buyer, account).await?;
    ledger::write(tx, tenant, &accounts, scope.now).await?;
    Ok(accounts)
}

async fn stored(
    tx: &mut Connection,
    scope: &TenantScope,
    payment: &mut Payment,
    wanted: Wanted,
    taken: Revocation,
    status: RefundStatus,
) -> Result<Refund> {
    let Wanted { id, amount, origin, provider_ref, reason } = wanted;
    let refund = Refund {
        id,
        payment: payment.id,
        invoice: payment.invoice,
        amount,
        status,
        origin,
        provider_ref,
        reason,
        failure_code: None,
        credits_revoked: taken.revoke,
        credits_short: taken.short,
        created_at: scope.now,
        settled_at: (status != RefundStatus::Created).then_some(scope.now),
    };
    invoices::add_refund(tx, scope.tenant, payment, &refund).await?;
    Ok(refund)
}

/// What follows once the provider has decided.
async fn settled(tx: &mut Connection, scope: &TenantScope, buyer: &Buyer, refund: &Refund) -> Result<()> {
    let about = buyer.about();
    match refund.status {
        RefundStatus::Created => Ok(()),
        RefundStatus::Failed => about.emit(tx, scope, event::REFUND_FAILED, said(refund)).await,
        RefundStatus::Succeeded => {
            about.emit(tx, scope, event::REFUND_SUCCEEDED, said(refund)).await?;
            match refund.origin {
                // Its invoice is void: there is nothing to credit.
                RefundOrigin::TooLate => Ok(()),
                RefundOrigin::Operator | RefundOrigin::Cancel | RefundOrigin::Provider => {
                    let note = invoices::issue_credit_note(tx, scope.tenant, refund, scope.now).await?;
                    let details = json!({
                        "credit_note": note.id,
                        "number": note.number.to_string(),
                        "invoice": note.invoice,
                        "refund": note.refund,
                        "amount": note.total,
                    });
                    about.emit(tx, scope, event::CREDIT_NOTE_ISSUED, details).await
                }
            }
        }
    }
}

/// What an event about a refund says of it.
fn said(refund: &Refund) -> Value {
    json!({
        "refund": refund.id,
        "invoice": refund.invoice,
        "payment": refund.payment,
        "amount": refund.amount,
        "origin": refund.origin.name(),
        "credits_revoked": refund.credits_revoked,
        "credits_short": refund.credits_short,
        "failure_code": refund.failure_code,
    })
}
