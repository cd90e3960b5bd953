//! What is shown of a subscription, and of a purchase after its payment was tried.

use db::{Connection, Result};
use domain::calendar::Cycle;
use domain::id::{CustomerId, InvoiceId, PurchaseId, SubscriptionId};
use domain::invoice::{InvoiceStatus, PaymentStatus};
use domain::money::DiscountBps;
use domain::month_share::MonthShare;
use domain::subscription::{Status, check_changeable};
use domain::term::Term;
use domain::{Credits, Currency, Refusal, TenantScope, Timestamp};
use invoices::{InvoiceView, Payment};

use crate::dunning::Dunning;
use crate::sale::Sale;
use crate::subscription::{Purchase, PurchaseKind, Subscription};
use crate::{Subscriptions, store};

/// A subscription with all that a storefront shows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionView {
    pub id: SubscriptionId,
    pub customer: CustomerId,
    pub status: Status,
    pub plan_code: String,
    /// The catalogue version that the plan was bought from.
    pub catalog_version: u32,
    pub currency: Currency,
    pub payment_method: String,
    /// The current or last cycle; `None` before the first payment.
    pub cycle: Option<Cycle>,
    /// What is paid at once (R-22b).
    pub term: Term,
    /// When the term ends that is paid, or to be paid: what is scheduled happens then. `None` before the first payment.
    pub renews_at: Option<Timestamp>,
    /// The part of a month that this cycle covers.
    pub share: MonthShare,
    /// Off the price of this cycle.
    pub discount: DiscountBps,
    pub cancel_at_cycle_end: bool,
    /// The plan from the next cycle on, where that is another one.
    pub scheduled_plan_code: Option<String>,
    /// It moves to the newest catalogue version at its next renewal.
    pub migrates: bool,
    /// The unpaid invoice of the current cycle.
    pub open_invoice: Option<InvoiceId>,
    pub pending_upgrade: Option<PendingUpgrade>,
    /// How the collection of an unpaid renewal goes, once a try has failed.
    pub dunning: Option<Dunning>,
    pub created_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// The version of the customer's credit account as of this view (R-35a).
    pub account_version: i64,
}

/// An upgrade that waits for its payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingUpgrade {
    pub purchase: PurchaseId,
    pub plan_code: String,
    pub credits: Credits,
    pub invoice: InvoiceId,
    /// When it is given up.
    pub expires_at: Timestamp,
}

/// What a request to buy or to pay came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purchased {
    pub subscription: SubscriptionView,
    pub invoice: InvoiceView,
    pub settlement: Settlement,
}

/// What paying an invoice came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidInvoice {
    /// None where the invoice is of something that was bought without one.
    pub subscription: Option<SubscriptionView>,
    pub invoice: InvoiceView,
    pub settlement: Settlement,
}

/// What a request to buy a top-up came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SoldToCustomer {
    pub(crate) sale: Sale,
    pub(crate) invoice: InvoiceView,
    pub(crate) settlement: Settlement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// The invoice is paid, and what it was for has taken effect.
    Paid,
    /// The customer has to do something first; the payment says what.
    RequiresAction,
    /// The provider has not decided yet.
    Pending,
}

impl Subscriptions {
    /// Refused: `not-found`.
    pub async fn read(&self, scope: &TenantScope, subscription: SubscriptionId) -> Result<SubscriptionView> {
        let tenant = scope.tenant;
        self.db
            .snapshot(tenant, async |tx| {
                let subscription = store::subscriptions::find(tx, tenant, subscription).await?;
                one(tx, scope, subscription).await
            })
            .await
    }

    /// A customer's subscriptions from the oldest, `limit` of those after `after`. A customer that
    /// does not exist has none: callers that must tell the two apart ask `tenants`.
    pub async fn of_customer(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        after: Option<SubscriptionId>,
        limit: u32,
    ) -> Result<Vec<SubscriptionView>> {
        let tenant = scope.tenant;
        self.db
            .snapshot(tenant, async |tx| {
                let found = store::subscriptions::of_customer(tx, tenant, customer, after, limit).await?;
                let ids: Vec<SubscriptionId> = found.iter().map(|subscription| subscription.id).collect();
                let pending = store::purchases::pending(tx, tenant, &ids).await?;
                let dunnings = store::dunnings::open(tx, tenant, &ids).await?;
                // A customer that has none may not exist, and has no account to read then.
                let version = match found.is_empty() {
                    true => 0,
                    false => ledger::version(tx, tenant, customer).await?,
                };
                let view = |subscription| view(subscription, &pending, &dunnings, version);
                found.into_iter().map(view).collect()
            })
            .await
    }

    /// What the purchase behind an invoice has come to, from what is stored: the answer of the verb
    /// that made it, and of every repeat. A snapshot: an invoice read before its payment's commit and
    /// payments read after it would look like a decline. Refused: `payment-declined` where no payment is left to
    /// wait for; where the money went back, with what ended in the meantime.
    pub(crate) async fn purchased(&self, scope: &TenantScope, invoice: InvoiceId) -> Result<Purchased> {
        let tenant = scope.tenant;
        self.db
            .snapshot(tenant, async |tx| {
                let purchase = store::purchases::of_invoice(tx, tenant, invoice).await?;
                let subscription = store::subscriptions::find(tx, tenant, purchase.subscription).await?;
                let invoice = invoices::read(tx, tenant, invoice).await?;
                let subscription = one(tx, scope, subscription).await?;
                let settlement = settlement(scope, &subscription, &invoice)?;
                Ok(Purchased { subscription, invoice, settlement })
            })
            .await
    }
}

impl Subscriptions {
    /// The same of what was bought without a subscription.
    pub(crate) async fn sold(&self, scope: &TenantScope, invoice: InvoiceId) -> Result<SoldToCustomer> {
        let tenant = scope.tenant;
        self.db
            .snapshot(tenant, async |tx| {
                let sale = store::sales::of_invoice(tx, tenant, invoice).await?;
                let invoice = invoices::read(tx, tenant, invoice).await?;
                let settlement = sale_settlement(&invoice)?;
                Ok(SoldToCustomer { sale, invoice, settlement })
            })
            .await
    }
}

/// The payment that may still pay an invoice: what is in flight for one that is void by now buys nothing.
fn awaited(invoice: &InvoiceView) -> Option<&Payment> {
    invoice.in_flight().filter(|_| invoice.invoice.status == InvoiceStatus::Open)
}

/// Whose turn it is while a payment is not decided.
fn undecided(payment: &Payment) -> Settlement {
    match payment.status {
        PaymentStatus::RequiresAction => Settlement::RequiresAction,
        _ => Settlement::Pending,
    }
}

fn sale_settlement(invoice: &InvoiceView) -> Result<Settlement> {
    if invoice.invoice.status == InvoiceStatus::Paid {
        return Ok(Settlement::Paid);
    }
    if let Some(payment) = awaited(invoice) {
        return Ok(undecided(payment));
    }
    if invoice.payments.iter().any(|payment| payment.status == PaymentStatus::Refunded) {
        return Err(Refusal::InvoiceNotOpen.into());
    }
    Err(Refusal::PaymentDeclined { subscription: None, invoice: invoice.invoice.id }.into())
}

fn settlement(
    scope: &TenantScope,
    subscription: &SubscriptionView,
    invoice: &InvoiceView,
) -> Result<Settlement> {
    if invoice.invoice.status == InvoiceStatus::Paid {
        return Ok(Settlement::Paid);
    }
    if let Some(payment) = awaited(invoice) {
        return Ok(undecided(payment));
    }
    if invoice.payments.iter().any(|payment| payment.status == PaymentStatus::Refunded) {
        check_changeable(subscription.status, subscription.cycle.map(|cycle| cycle.end), scope.now)?;
        return Err(Refusal::InvoiceNotOpen.into());
    }
    let subscription = Some(subscription.id);
    Err(Refusal::PaymentDeclined { subscription, invoice: invoice.invoice.id }.into())
}

/// The view of one subscription, in the caller's transaction.
pub async fn one(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: Subscription,
) -> Result<SubscriptionView> {
    let pending = store::purchases::pending(tx, scope.tenant, &[subscription.id]).await?;
    let dunnings = store::dunnings::open(tx, scope.tenant, &[subscription.id]).await?;
    let version = ledger::version(tx, scope.tenant, subscription.customer).await?;
    view(subscription, &pending, &dunnings, version)
}

fn view(
    subscription: Subscription,
    pending: &[Purchase],
    dunnings: &[Dunning],
    account_version: i64,
) -> Result<SubscriptionView> {
    let mut own = pending.iter().filter(|purchase| purchase.subscription == subscription.id);
    let upgrade = own.clone().find(|purchase| purchase.kind == PurchaseKind::Upgrade);
    let cycle = own.find(|purchase| purchase.kind != PurchaseKind::Upgrade);
    Ok(SubscriptionView {
        id: subscription.id,
        customer: subscription.customer,
        status: subscription.status,
        catalog_version: subscription.catalog_version,
        currency: subscription.currency,
        cycle: subscription.cycle(),
        term: subscription.term,
        renews_at: subscription.renews_at()?,
        share: subscription.share,
        migrates: subscription.migrates,
        discount: subscription.discount,
        cancel_at_cycle_end: subscription.cancel_at_cycle_end,
        open_invoice: cycle.map(|purchase| purchase.invoice),
        pending_upgrade: upgrade.map(|purchase| PendingUpgrade {
            purchase: purchase.id,
            plan_code: purchase.plan_code.clone(),
            credits: purchase.credits,
            invoice: purchase.invoice,
            expires_at: purchase.expires_at,
        }),
        dunning: dunnings.iter().find(|dunning| dunning.subscription == subscription.id).cloned(),
        created_at: subscription.created_at,
        ended_at: subscription.ended_at,
        account_version,
        plan_code: subscription.plan_code,
        payment_method: subscription.payment_method,
        scheduled_plan_code: subscription.scheduled_plan_code,
    })
}
