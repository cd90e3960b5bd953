//! Pays an open invoice again: of an incomplete subscription, of an unpaid renewal, of an upgrade
//! whose payment the provider has not decided (R-9, R-10a, R-22), of a top-up, of pay-as-you-go usage.

use db::{Connection, Result};
use domain::id::{InvoiceId, PaymentId};
use domain::invoice::{PaymentStatus, check_payable};
use domain::subscription::check_changeable;
use domain::{Refusal, TenantScope};
use idempotency::{Claim, RequestKey};
use invoices::Payment;
use ledger::Accounts;
use uuid::Uuid;

use crate::collect::to_publish;
use crate::event::About;
use crate::promotion;
use crate::purchase::{start_payment, try_payment};
use crate::subscribe::Bought;
use crate::subscription::PurchaseKind;
use crate::top_up::saved_method;
use crate::view::{PaidInvoice, SoldToCustomer};
use crate::{Subscriptions, store};

/// How a try to start a payment came out.
enum Started {
    Yes {
        of_subscription: bool,
        /// Of the repeat of a request.
        accounts: Option<Accounts>,
    },
    /// Another payment is in flight: it is given up first.
    InFlight { payment: Box<Payment>, of_subscription: bool },
}

/// What the caller pays with, instead of the subscription's own method.
struct Method {
    name: String,
    fingerprint: Option<String>,
}

impl Subscriptions {
    /// Adds a payment and collects it. A payment in flight is canceled with the provider first; if
    /// that has succeeded instead, it counts. Refused: `not-found`, `invoice-not-open`,
    /// `payment-pending` where the one in flight cannot be canceled, `unknown-payment-method`,
    /// `promotion-used` where a first cycle's discount would go to a card that has had one,
    /// of an upgrade what [`check_changeable`] refuses, `payment-declined`; `invalid-field` where none is named and none is saved.
    pub async fn pay_invoice(
        &self,
        scope: &TenantScope,
        invoice: InvoiceId,
        method: Option<String>,
        request: &RequestKey,
    ) -> Result<PaidInvoice> {
        let method = match method {
            Some(name) => Some(Method { fingerprint: self.fingerprint(scope, &name).await?, name }),
            None => None,
        };
        let (of_subscription, accounts) = match self.start(scope, invoice, method.as_ref(), request).await? {
            Started::Yes { of_subscription, accounts } => (of_subscription, accounts),
            Started::InFlight { payment, of_subscription } => {
                self.replace(scope, *payment, invoice, method.as_ref(), request).await?;
                (of_subscription, None)
            }
        };
        if of_subscription {
            let purchased = self.finish(scope, Bought { invoice, accounts }).await?;
            let (subscription, invoice) = (Some(purchased.subscription), purchased.invoice);
            return Ok(PaidInvoice { subscription, invoice, settlement: purchased.settlement });
        }
        let SoldToCustomer { sale: _, invoice, settlement } =
            self.finish_sale(scope, Bought { invoice, accounts }).await?;
        Ok(PaidInvoice { subscription: None, invoice, settlement })
    }

    /// Gives the payment in flight up, and starts one of our own where it took nothing.
    async fn replace(
        &self,
        scope: &TenantScope,
        in_flight: Payment,
        invoice: InvoiceId,
        method: Option<&Method>,
        request: &RequestKey,
    ) -> Result<()> {
        match self.give_up(scope, &in_flight).await? {
            PaymentStatus::Canceled | PaymentStatus::Failed => {
                match self.start(scope, invoice, method, request).await? {
                    Started::Yes { .. } => Ok(()),
                    Started::InFlight { .. } => Err(Refusal::PaymentPending.into()),
                }
            }
            PaymentStatus::Created | PaymentStatus::RequiresAction | PaymentStatus::Pending => {
                Err(Refusal::PaymentPending.into())
            }
            // It counts, or it went back: the stored state answers.
            PaymentStatus::Succeeded | PaymentStatus::Refunded => Ok(()),
        }
    }

    async fn start(
        &self,
        scope: &TenantScope,
        invoice: InvoiceId,
        method: Option<&Method>,
        request: &RequestKey,
    ) -> Result<Started> {
        self.db
            .transaction(scope.tenant, async |tx| {
                let id = PaymentId::from_uuid(Uuid::now_v7());
                match idempotency::claim(tx, scope.tenant, request, id.uuid(), scope.now).await? {
                    Claim::New => start(tx, scope, invoice, id, method).await,
                    Claim::Unfinished { fact } => {
                        let id = PaymentId::from_uuid(fact);
                        resume(tx, scope, invoice, id, method).await
                    }
                }
            })
            .await
    }
}

/// The payment that this request promised may be there already, or may have had to wait for
/// another one's end.
async fn resume(
    tx: &mut Connection,
    scope: &TenantScope,
    invoice: InvoiceId,
    id: PaymentId,
    method: Option<&Method>,
) -> Result<Started> {
    match invoices::payment(tx, scope.tenant, id).await {
        Ok(_) => {
            let subscription = store::subscriptions::lock_by_invoice(tx, scope.tenant, invoice).await?;
            let customer = invoices::find(tx, scope.tenant, invoice).await?.customer;
            let accounts = Some(to_publish(tx, scope, customer, None).await?);
            Ok(Started::Yes { of_subscription: subscription.is_some(), accounts })
        }
        Err(db::Error::Refused(Refusal::NotFound { .. })) => start(tx, scope, invoice, id, method).await,
        Err(error) => Err(error),
    }
}

async fn start(
    tx: &mut Connection,
    scope: &TenantScope,
    invoice: InvoiceId,
    id: PaymentId,
    method: Option<&Method>,
) -> Result<Started> {
    let tenant = scope.tenant;
    let Some(subscription) = store::subscriptions::lock_by_invoice(tx, tenant, invoice).await? else {
        return start_of_sale(tx, scope, invoice, id, method).await;
    };
    let invoice = invoices::lock(tx, tenant, invoice).await?;
    let purchase = store::purchases::of_invoice(tx, tenant, invoice.id).await?;
    check_payable(invoice.status)?;
    if purchase.expires_at <= scope.now {
        // Its time is up, whether or not it has been given up yet.
        return Err(Refusal::InvoiceNotOpen.into());
    }
    if purchase.kind == PurchaseKind::Upgrade {
        // It would take no effect: the money would only go back.
        let end = subscription.cycle().map(|cycle| cycle.end);
        check_changeable(subscription.status, end, scope.now)?;
    }
    if let Some(payment) = invoices::in_flight(tx, tenant, invoice.id).await? {
        return Ok(Started::InFlight { payment: Box::new(payment), of_subscription: true });
    }
    if let (PurchaseKind::FirstCycle, Some(method)) = (purchase.kind, method) {
        promotion::move_to_card(tx, scope, &subscription, invoice.id, method.fingerprint.as_deref()).await?;
    }
    let name = method.map_or(subscription.payment_method.as_str(), |method| &method.name);
    try_payment(tx, scope, &subscription, &purchase, id, name).await?;
    Ok(Started::Yes { of_subscription: true, accounts: None })
}

async fn start_of_sale(
    tx: &mut Connection,
    scope: &TenantScope,
    invoice: InvoiceId,
    id: PaymentId,
    method: Option<&Method>,
) -> Result<Started> {
    let tenant = scope.tenant;
    let customer = store::sales::of_invoice(tx, tenant, invoice).await?.customer;
    ledger::lock(tx, tenant, &[customer]).await?;
    let invoice = invoices::lock(tx, tenant, invoice).await?;
    let sale = store::sales::of_invoice(tx, tenant, invoice.id).await?;
    check_payable(invoice.status)?;
    if !sale.is_payable(scope.now) {
        return Err(Refusal::InvoiceNotOpen.into());
    }
    if let Some(payment) = invoices::in_flight(tx, tenant, invoice.id).await? {
        return Ok(Started::InFlight { payment: Box::new(payment), of_subscription: false });
    }
    let name = match method {
        Some(method) => method.name.clone(),
        None => saved_method(tx, tenant, customer).await?,
    };
    start_payment(tx, scope, About::Customer(customer), invoice.id, id, &name).await?;
    Ok(Started::Yes { of_subscription: false, accounts: None })
}
