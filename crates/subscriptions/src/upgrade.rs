//! Moves to a higher plan within the cycle.

use chrono::TimeDelta;
use db::{Connection, Result};
use domain::catalog::CatalogHistory;
use domain::id::{PurchaseId, QuoteId, SubscriptionId};
use domain::{Refusal, TenantScope};
use idempotency::{Claim, RequestKey};
use invoices::{Line, LineKind};
use uuid::Uuid;

use crate::collect::to_publish;
use crate::preview_upgrade::{Offer, Quote, offer};
use crate::purchase::{self, NewPurchase};
use crate::subscribe::Bought;
use crate::subscription::{PurchaseKind, Subscription};
use crate::view::Purchased;
use crate::{Subscriptions, store};

/// The plan to move to.
#[derive(Debug, Clone)]
pub struct NewUpgrade {
    pub plan_code: String,
    /// The price that was agreed on; the current one without.
    pub quote: Option<QuoteId>,
    /// Pays this difference only; the subscription's own method without.
    pub payment_method: Option<String>,
}

impl Subscriptions {
    /// Buys the difference to a higher plan; plan and Credits change when it is paid, and a failed
    /// payment leaves everything as it was. Refused: `not-found` (subscription or quote),
    /// `subscription-incomplete`, `-past-due`, `-suspended`, `-ended`, `cycle-ended`,
    /// `upgrade-pending`, `unknown-plan`, `downgrade-within-cycle`, `not-an-upgrade`,
    /// `no-price-in-currency`, `quote-not-valid`, `unknown-payment-method`, `payment-declined`.
    pub async fn upgrade(
        &self,
        scope: &TenantScope,
        subscription: SubscriptionId,
        new: NewUpgrade,
        request: &RequestKey,
    ) -> Result<Purchased> {
        if let Some(method) = &new.payment_method {
            self.fingerprint(scope, method).await?;
        }
        let history = self.catalogs.history(scope.tenant).await?;
        let bought = self
            .db
            .transaction(scope.tenant, async |tx| {
                let id = PurchaseId::from_uuid(Uuid::now_v7());
                match idempotency::claim(tx, scope.tenant, request, id.uuid(), scope.now).await? {
                    Claim::New => create(tx, scope, &history, subscription, id, &new).await,
                    Claim::Unfinished { fact } => {
                        let id = PurchaseId::from_uuid(fact);
                        let purchase = store::purchases::find(tx, scope.tenant, id).await?;
                        let accounts = to_publish(tx, scope, purchase.customer, None).await?;
                        Ok(Bought { invoice: purchase.invoice, accounts: Some(accounts) })
                    }
                }
            })
            .await?;
        self.finish(scope, bought).await
    }
}

async fn create(
    tx: &mut Connection,
    scope: &TenantScope,
    history: &CatalogHistory,
    subscription: SubscriptionId,
    id: PurchaseId,
    new: &NewUpgrade,
) -> Result<Bought> {
    let mut subscription = store::subscriptions::lock(tx, scope.tenant, subscription).await?;
    let offer = match new.quote {
        None => offer(tx, scope, history, &subscription, &new.plan_code, scope.now).await?,
        Some(quote) => quoted(tx, scope, history, &subscription, &new.plan_code, quote).await?,
    };
    let purchase = difference(scope, &subscription, id, offer, new.payment_method.as_deref());
    let mut opened = purchase::open(tx, scope, &subscription, purchase).await?;
    let accounts = match opened.payment {
        Some(_) => None,
        // Nothing to pay: it takes effect now.
        None => purchase::settle(tx, scope, &mut subscription, &mut opened.purchase, scope.now).await?,
    };
    Ok(Bought { invoice: opened.invoice.id, accounts })
}

/// The offer that a quote holds, if it still does: computed again as of the quote's own instant,
/// everything comes out as it says (R-14a).
async fn quoted(
    tx: &mut Connection,
    scope: &TenantScope,
    history: &CatalogHistory,
    subscription: &Subscription,
    plan_code: &str,
    quote: QuoteId,
) -> Result<Offer> {
    let quote = store::quotes::find(tx, scope.tenant, quote).await?;
    let offer = offer(tx, scope, history, subscription, plan_code, quote.created_at).await?;
    if quote.expires_at > scope.now && is_of(&quote, subscription, &offer) {
        Ok(offer)
    } else {
        Err(Refusal::QuoteNotValid.into())
    }
}

fn is_of(quote: &Quote, subscription: &Subscription, offer: &Offer) -> bool {
    quote.subscription == subscription.id
        && quote.cycle_number == offer.cycle.number
        && quote.from_plan_code == offer.from.code
        && quote.to_plan_code == offer.to.code
        && quote.catalog_version == offer.catalog_version
        && quote.amount == offer.price.amount
        && quote.credits == offer.price.credits
}

fn difference(
    scope: &TenantScope,
    subscription: &Subscription,
    id: PurchaseId,
    offer: Offer,
    payment_method: Option<&str>,
) -> NewPurchase {
    let life = TimeDelta::minutes(scope.policies.upgrade_pending_minutes.into());
    NewPurchase {
        id,
        kind: PurchaseKind::Upgrade,
        cycle_number: offer.cycle.number,
        plan_code: offer.to.code,
        catalog_version: offer.catalog_version,
        credits: offer.price.credits,
        lines: vec![Line {
            kind: LineKind::Upgrade,
            description: format!("Upgrade from {} to {}", offer.from.name, offer.to.name),
            amount_minor: offer.price.amount.amount_minor,
        }],
        payment_method: payment_method.unwrap_or(&subscription.payment_method).to_owned(),
        expires_at: offer.cycle.end.min(scope.now + life),
    }
}
