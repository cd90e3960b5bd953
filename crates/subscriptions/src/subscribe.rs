//! Buys a plan.

use db::{Connection, Result};
use domain::calendar::AnchorKind;
use domain::catalog::{Catalog, Plan, Promotion};
use domain::id::{CustomerId, InvoiceId, PurchaseId, SubscriptionId};
use domain::money::DiscountBps;
use domain::month_share::MonthShare;
use domain::subscription::Status;
use domain::term::Term;
use domain::{Currency, Money, Refusal, TenantScope};
use idempotency::{Claim, RequestKey};
use invoices::{Line, LineKind};
use ledger::Accounts;
use uuid::Uuid;

use crate::collect::to_publish;
use crate::promotion::{self, PromotionChoice};
use crate::purchase::{self, NewPurchase};
use crate::store::promotions::Use;
use crate::subscription::{PurchaseKind, Subscription};
use crate::view::Purchased;
use crate::{Subscriptions, event, status_change, store};

/// What a customer wants to buy.
#[derive(Debug, Clone)]
pub struct NewSubscription {
    pub customer: CustomerId,
    pub plan_code: String,
    pub term: Term,
    pub currency: Currency,
    pub payment_method: String,
    pub promotion: PromotionChoice,
}

/// What the first transaction leaves to do: collect for this invoice, publish these accounts.
pub(crate) struct Bought {
    pub invoice: InvoiceId,
    pub accounts: Option<Accounts>,
}

impl Subscriptions {
    /// Makes an incomplete subscription, its invoice and a payment, and collects that. Refused:
    /// `not-found` (the customer), `unknown-plan`, `no-price-in-currency`, `already-subscribed`,
    /// `unknown-promotion`, `promotion-used`, `unknown-payment-method`, and `payment-declined`: then
    /// the subscription is there, incomplete, and its invoice can be paid again.
    pub async fn subscribe(
        &self,
        scope: &TenantScope,
        new: NewSubscription,
        request: &RequestKey,
    ) -> Result<Purchased> {
        let fingerprint = self.fingerprint(scope, &new.payment_method).await?;
        let history = self.catalogs.history(scope.tenant).await?;
        let catalog = history.at(scope.now).ok_or(Refusal::UnknownPlan)?;
        let bought = self
            .db
            .transaction(scope.tenant, async |tx| {
                let id = SubscriptionId::from_uuid(Uuid::now_v7());
                match idempotency::claim(tx, scope.tenant, request, id.uuid(), scope.now).await? {
                    Claim::New => create(tx, scope, catalog, id, &new, fingerprint.as_deref()).await,
                    Claim::Unfinished { fact } => {
                        let id = SubscriptionId::from_uuid(fact);
                        let purchase = store::purchases::first_cycle(tx, scope.tenant, id).await?;
                        let accounts = to_publish(tx, scope, purchase.customer, None).await?;
                        Ok(Bought { invoice: purchase.invoice, accounts: Some(accounts) })
                    }
                }
            })
            .await?;
        self.finish(scope, bought).await
    }

    /// Publishes, collects, and answers from what is stored then.
    pub(crate) async fn finish(&self, scope: &TenantScope, bought: Bought) -> Result<Purchased> {
        self.publish(scope, bought.accounts).await?;
        self.collect_in_flight(scope, bought.invoice).await?;
        self.purchased(scope, bought.invoice).await
    }
}

async fn create(
    tx: &mut Connection,
    scope: &TenantScope,
    catalog: &Catalog,
    id: SubscriptionId,
    new: &NewSubscription,
    fingerprint: Option<&str>,
) -> Result<Bought> {
    let tenant = scope.tenant;
    store::subscriptions::lock_customer(tx, tenant, new.customer).await?;
    if let Some(subscription) = store::subscriptions::live(tx, tenant, new.customer).await? {
        return Err(Refusal::AlreadySubscribed { subscription }.into());
    }
    let plan = catalog.plan(&new.plan_code)?;
    let (anchor_kind, share) = first_cut(scope, new.term);
    let list_price = share.of_money(new.term.price(plan, new.currency)?)?;
    let promotion = match new.term {
        Term::Monthly => {
            promotion::choose(tx, scope, catalog, new.customer, &plan.code, &new.promotion, list_price)
                .await?
        }
        Term::Annual => promotion::none_for_a_year(&new.promotion)?,
    };
    let mut subscription = incomplete(scope, catalog, id, new, promotion);
    (subscription.anchor_kind, subscription.share) = (anchor_kind, share);
    store::subscriptions::insert(tx, tenant, &subscription).await?;
    status_change::created(tx, scope, &subscription).await?;
    event::emit(tx, scope, event::CREATED, &subscription, serde_json::json!({})).await?;
    if let Some(promotion) = promotion {
        let used =
            Use { customer: new.customer, promotion_code: &promotion.code, subscription: id, fingerprint };
        promotion::reserve(tx, scope, used, list_price).await?;
    }
    let purchase = first_cycle(scope, catalog, plan, &subscription, promotion, list_price)?;
    let mut opened = purchase::open(tx, scope, &subscription, purchase).await?;
    let accounts = match opened.payment {
        Some(_) => None,
        // Nothing to pay: it starts now.
        None => purchase::settle(tx, scope, &mut subscription, &mut opened.purchase, scope.now).await?,
    };
    Ok(Bought { invoice: opened.invoice.id, accounts })
}

/// Where the cycles will be cut, and the part of a month that the first one costs: a year is always one of whole
/// cycles, from its activation.
fn first_cut(scope: &TenantScope, term: Term) -> (AnchorKind, MonthShare) {
    match (term, scope.policies.cycle_anchor) {
        (Term::Monthly, AnchorKind::CalendarMonth) => {
            (AnchorKind::CalendarMonth, MonthShare::left(scope.zone, scope.now))
        }
        (Term::Monthly, AnchorKind::Anniversary) | (Term::Annual, _) => {
            (AnchorKind::Anniversary, MonthShare::WHOLE)
        }
    }
}

fn incomplete(
    scope: &TenantScope,
    catalog: &Catalog,
    id: SubscriptionId,
    new: &NewSubscription,
    promotion: Option<&Promotion>,
) -> Subscription {
    Subscription {
        id,
        customer: new.customer,
        status: Status::Incomplete,
        plan_code: new.plan_code.clone(),
        catalog_version: catalog.version(),
        currency: new.currency,
        payment_method: new.payment_method.clone(),
        term: new.term,
        annual_from: None,
        anchor_kind: AnchorKind::Anniversary,
        share: MonthShare::WHOLE,
        discount: promotion.map_or(DiscountBps::NONE, |promotion| promotion.first_cycle_discount_bps),
        running: None,
        cancel_at_cycle_end: false,
        scheduled_plan_code: None,
        migrates: false,
        is_suspended_by_dispute: false,
        created_at: scope.now,
        ended_at: None,
    }
}

fn first_cycle(
    scope: &TenantScope,
    catalog: &Catalog,
    plan: &Plan,
    subscription: &Subscription,
    promotion: Option<&Promotion>,
    list_price: Money,
) -> Result<NewPurchase> {
    let life = chrono::TimeDelta::minutes(scope.policies.incomplete_minutes.into());
    Ok(NewPurchase {
        id: PurchaseId::from_uuid(Uuid::now_v7()),
        kind: PurchaseKind::FirstCycle,
        cycle_number: 0,
        plan_code: plan.code.clone(),
        catalog_version: catalog.version(),
        credits: subscription.share.of_credits(plan.credits_per_cycle)?,
        lines: lines(subscription, plan, list_price, promotion)?,
        payment_method: subscription.payment_method.clone(),
        expires_at: scope.now.checked_add_signed(life).ok_or(Refusal::AmountOverflow)?,
    })
}

/// The plan at list price, and what the promotion takes off.
fn lines(
    subscription: &Subscription,
    plan: &Plan,
    list_price: Money,
    promotion: Option<&Promotion>,
) -> Result<Vec<Line>> {
    let mut lines = vec![term_line(subscription.term, plan, list_price)];
    let share = subscription.share;
    if !share.is_whole() {
        lines[0].description = format!("{}, {} of {} days", plan.name, share.days(), share.of());
    }
    if let Some(promotion) = promotion {
        let price = promotion.first_cycle_discount_bps.apply(list_price);
        let off = price.amount_minor.checked_sub(list_price.amount_minor).ok_or(Refusal::AmountOverflow)?;
        lines.push(Line {
            kind: LineKind::Discount,
            description: format!("Promotion {}", promotion.code),
            amount_minor: off,
        });
    }
    Ok(lines)
}

/// A term of a plan at list price.
pub(crate) fn term_line(term: Term, plan: &Plan, list_price: Money) -> Line {
    let what = match term {
        Term::Monthly => "one cycle",
        Term::Annual => "a year of 12 cycles",
    };
    Line {
        kind: LineKind::Plan,
        description: format!("{}, {what}", plan.name),
        amount_minor: list_price.amount_minor,
    }
}
