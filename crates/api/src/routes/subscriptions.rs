//! Subscriptions: bought, read, changed and canceled.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, delete, get, post, put};
use domain::Refusal;
use domain::id::{CustomerId, ExternalId, InvoiceId, QuoteId, SubscriptionId};
use idempotency::{Answer, Idempotency};
use serde::{Deserialize, Serialize};
use subscriptions::{
    CancelAt, NewSubscription, NewUpgrade, PromotionChoice, Purchased, Settlement, SubscriptionView,
    Subscriptions,
};
use tenants::Tenants;
use utoipa::{IntoParams, ToSchema};

use super::invoices::Invoice;
use crate::auth::{Bills, Caller};
use crate::body::{Body, NoBody, NoQuery, Query, word};
use crate::error::{Error, Problem};
use crate::idempotency::{IdempotencyKey, Key, Keyed, answer, once};
use crate::page::{Limit, List};
use crate::path::Id;
use crate::schema;
use crate::unbroken::unbroken;
use crate::wire::{Currency, Instant, Money, Page, PaymentMethod};

/// A plan to buy.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Subscribe {
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "standard")]
    plan: ExternalId,
    /// What is paid at once: a cycle, or a year of twelve.
    #[serde(default, deserialize_with = "word")]
    term: Term,
    #[serde(deserialize_with = "word")]
    currency: Currency,
    payment_method: PaymentMethod,
    /// A promotion's code, or `none` for the list price. The best one there is where left out.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "none")]
    promotion: Option<ExternalId>,
}

/// `monthly`: each cycle is paid for. `annual`: twelve cycles are paid at once, without a first-cycle promotion; each
/// grants its Credits when it begins.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Term {
    #[default]
    Monthly,
    Annual,
}

/// A customer's plan.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Subscription {
    #[schema(value_type = schema::SubscriptionId)]
    id: SubscriptionId,
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    status: schema::SubscriptionStatus,
    #[schema(example = "standard")]
    plan: String,
    /// The catalogue version that the plan was bought from.
    catalog_version: u32,
    currency: Currency,
    /// What pays the renewals.
    payment_method: String,
    /// The current or last cycle; null before the first payment.
    #[schema(required)]
    cycle: Option<Cycle>,
    term: Term,
    /// When the term ends that is paid or to be paid, and what is scheduled happens; null before the first payment.
    #[schema(required)]
    renews_at: Option<Instant>,
    /// Where cycles are calendar months, the part of the first one that this cycle covers and costs; else null.
    #[schema(required)]
    month_share: Option<MonthShare>,
    /// Off this cycle's list price, in basis points.
    discount_bps: u16,
    /// It ends when its term does: with this cycle, or with its year.
    cancel_at_cycle_end: bool,
    /// The plan from the next renewal on, where that is another one.
    #[schema(required)]
    scheduled_plan: Option<String>,
    /// It moves to the newest catalogue version at its next renewal.
    migrates: bool,
    /// The unpaid invoice of the current cycle.
    #[schema(value_type = Option<schema::InvoiceId>, required)]
    open_invoice: Option<InvoiceId>,
    #[schema(required)]
    pending_upgrade: Option<PendingUpgrade>,
    /// How the collection of an unpaid renewal goes; null unless a try has failed.
    #[schema(required)]
    dunning: Option<Dunning>,
    created_at: Instant,
    #[schema(required)]
    ended_at: Option<Instant>,
    /// The version of the customer's credit account as of this answer.
    account_version: i64,
}

/// A cycle: from its start up to, and without, its end.
#[derive(Debug, Serialize, ToSchema)]
struct Cycle {
    /// 0 for the first.
    number: u32,
    start: Instant,
    end: Instant,
}

/// Days of a month.
#[derive(Debug, Serialize, ToSchema)]
struct MonthShare {
    /// The days that are covered, the one of the purchase included.
    days: u16,
    /// The days of that month.
    of: u16,
}

/// An upgrade that waits for its payment.
#[derive(Debug, Serialize, ToSchema)]
struct PendingUpgrade {
    plan: String,
    /// What it will add to this cycle's pool.
    credits: i64,
    #[schema(value_type = schema::InvoiceId)]
    invoice: InvoiceId,
    /// When it is given up.
    expires_at: Instant,
}

/// A renewal that could not be collected yet.
#[derive(Debug, Serialize, ToSchema)]
struct Dunning {
    /// Payments of it that have failed or were canceled.
    failed_tries: u32,
    /// When it is tried again by itself; null while a payment is pending, and after the last try.
    #[schema(required)]
    next_try_at: Option<Instant>,
}

/// What a request to buy or to pay came to.
#[derive(Debug, Serialize, ToSchema)]
struct Purchase {
    subscription: Subscription,
    invoice: Invoice,
    payment_status: PaymentStatus,
}

/// `paid`: what was bought has taken effect. `requires_action`: the customer has to do something first,
/// as the payment's `action` says. `pending`: the provider has not decided yet.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PaymentStatus {
    Paid,
    RequiresAction,
    Pending,
}

/// A plan to change to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PlanChange {
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "pro")]
    plan: ExternalId,
}

/// An upgrade to buy.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Upgrade {
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "pro")]
    plan: ExternalId,
    /// The price that was agreed on; the current one where left out.
    #[schema(value_type = Option<schema::QuoteId>)]
    quote: Option<QuoteId>,
    /// Pays this difference only; the subscription's own method where left out.
    payment_method: Option<PaymentMethod>,
}

/// A locked upgrade price.
#[derive(Debug, Serialize, ToSchema)]
struct Quote {
    #[schema(value_type = schema::QuoteId)]
    id: QuoteId,
    #[schema(value_type = schema::SubscriptionId)]
    subscription: SubscriptionId,
    plan: String,
    /// The price, without the tax that comes on top of it.
    amount: Money,
    /// What is to be paid, tax included.
    total: Money,
    /// What the upgrade adds to this cycle's pool.
    credits: i64,
    expires_at: Instant,
}

/// How to cancel.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Cancel {
    /// Now instead of at the cycle's end; what is left of the plan's Credits is revoked. Needs the
    /// scope `admin`.
    #[serde(default)]
    at_once: bool,
    /// With `at_once`: whether what was paid for this cycle goes back, too, as far as it has not yet.
    #[serde(default)]
    refund: bool,
}

/// What pays the renewals from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPaymentMethod {
    payment_method: PaymentMethod,
}

/// The query of a customer's subscriptions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SubscriptionsQuery {
    /// Whose subscriptions.
    #[param(value_type = schema::CustomerId)]
    customer: CustomerId,
    /// How many items at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Limit,
    /// The `next_cursor` of the page before; the first page without.
    cursor: Option<String>,
}

/// Subscribe
///
/// Buys a plan. The first cycle starts when it is paid, and the plan's Credits are granted. A declined
/// payment leaves an incomplete subscription, whose invoice can be paid again.
#[utoipa::path(
    tag = "Subscriptions",
    security(("bearer" = ["billing"])),
    params(IdempotencyKey),
    request_body = Subscribe,
    responses(
        (status = 201, description = "Paid and active", body = Purchase),
        (status = 202, description = "The payment is pending, or the customer has to act first", body = Purchase),
        (status = 402, description = "`payment-declined`, with `subscription` and `invoice`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such customer", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`already-subscribed`, `promotion-used`, `no-price-in-currency`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/subscriptions")]
pub(super) async fn subscribe(
    caller: Bills,
    _: NoQuery,
    new: Keyed<Subscribe>,
    subscriptions: Data<Subscriptions>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    let Keyed { value: new, key } = new;
    once(&idempotency, caller.scope(), key, move |scope, key| async move {
        purchased(subscriptions.subscribe(&scope, new.into(), &key).await?, StatusCode::CREATED)
    })
    .await
}

/// List a customer's subscriptions
///
/// From the oldest, ended ones too.
#[utoipa::path(
    tag = "Subscriptions",
    security(("bearer" = ["read", "customer"])),
    params(SubscriptionsQuery),
    responses(
        (status = 200, description = "A page of subscriptions", body = Page<Subscription>),
        (status = 404, description = "`not-found`: no such customer", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/subscriptions")]
pub(super) async fn list_subscriptions(
    caller: Caller,
    query: Query<SubscriptionsQuery>,
    tenants: Data<Tenants>,
    subscriptions: Data<Subscriptions>,
) -> Result<Json<Page<Subscription>>, Error> {
    let SubscriptionsQuery { customer, limit, cursor } = query.0;
    caller.sees(customer, "customer")?;
    let owner = customer.to_string();
    let list = List { tenant: caller.scope().tenant, kind: "subscriptions", owner: &owner };
    let after = list.after(cursor.as_deref())?;
    tenants.customer(caller.scope(), customer).await?;
    let found = subscriptions.of_customer(caller.scope(), customer, after, limit.and_one()).await?;
    Ok(Json(list.page(found, limit, |subscription| subscription.id.to_string())))
}

/// Read a subscription
#[utoipa::path(
    tag = "Subscriptions",
    security(("bearer" = ["read", "customer"])),
    params(("id" = schema::SubscriptionId, Path, description = "The subscription")),
    responses((status = 200, description = "The subscription", body = Subscription)),
)]
#[get("/subscriptions/{id}")]
pub(super) async fn read_subscription(
    caller: Caller,
    _: NoQuery,
    id: Id<SubscriptionId>,
    subscriptions: Data<Subscriptions>,
) -> Result<Json<Subscription>, Error> {
    let view = subscriptions.read(caller.scope(), id.0).await?;
    caller.sees(view.customer, "subscription")?;
    Ok(Json(view.into()))
}

/// Preview an upgrade
///
/// What it would cost and grant now, locked for a while as a quote.
#[utoipa::path(
    tag = "Subscriptions",
    security(("bearer" = ["billing"])),
    params(("id" = schema::SubscriptionId, Path, description = "The subscription")),
    request_body = PlanChange,
    responses(
        (status = 201, description = "The quote", body = Quote),
        (status = 402, description = "`subscription-suspended`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`not-an-upgrade`, `downgrade-within-cycle`, `upgrade-pending`, `subscription-past-due` and others", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/subscriptions/{id}/upgrade-preview")]
pub(super) async fn preview_upgrade(
    caller: Bills,
    _: NoQuery,
    id: Id<SubscriptionId>,
    change: Body<PlanChange>,
    subscriptions: Data<Subscriptions>,
) -> Result<HttpResponse, Error> {
    let (scope, plan) = (caller.scope().clone(), change.value.plan);
    let (quote, total) = unbroken(async move {
        let quote = subscriptions.preview_upgrade(&scope, id.0, plan.as_str()).await?;
        let total = scope.policies.tax.total(quote.amount)?;
        Ok((quote, total))
    })
    .await?;
    Ok(HttpResponse::Created().json(Quote::new(quote, total)))
}

/// Upgrade
///
/// Moves to a higher plan within the cycle. The price difference is due, and the Credit difference is
/// granted when it is paid; a failed payment leaves everything as it was.
#[utoipa::path(
    tag = "Subscriptions",
    security(("bearer" = ["billing"])),
    params(
        ("id" = schema::SubscriptionId, Path, description = "The subscription"),
        IdempotencyKey,
    ),
    request_body = Upgrade,
    responses(
        (status = 200, description = "Paid and in effect", body = Purchase),
        (status = 202, description = "The payment is pending, or the customer has to act first", body = Purchase),
        (status = 402, description = "`payment-declined`, with `subscription` and `invoice`; `subscription-suspended`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`not-an-upgrade`, `downgrade-within-cycle` with `effective_at`, `quote-not-valid`, `upgrade-pending` and others", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/subscriptions/{id}/upgrade")]
pub(super) async fn upgrade_subscription(
    caller: Bills,
    _: NoQuery,
    id: Id<SubscriptionId>,
    upgrade: Keyed<Upgrade>,
    subscriptions: Data<Subscriptions>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    let Keyed { value: upgrade, key } = upgrade;
    once(&idempotency, caller.scope(), key, move |scope, key| async move {
        purchased(subscriptions.upgrade(&scope, id.0, upgrade.into(), &key).await?, StatusCode::OK)
    })
    .await
}

/// Schedule a lower plan
///
/// From the next cycle on; of a year that was paid, from its end on. Replaces what was scheduled before; an upgrade withdraws it.
#[utoipa::path(
    tag = "Subscriptions",
    security(("bearer" = ["billing"])),
    params(
        ("id" = schema::SubscriptionId, Path, description = "The subscription"),
        IdempotencyKey,
    ),
    request_body = PlanChange,
    responses(
        (status = 200, description = "Scheduled", body = Subscription),
        (status = 402, description = "`subscription-suspended`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`not-a-downgrade` and others", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[put("/subscriptions/{id}/scheduled-plan")]
pub(super) async fn schedule_plan(
    caller: Bills,
    _: NoQuery,
    id: Id<SubscriptionId>,
    change: Keyed<PlanChange>,
    subscriptions: Data<Subscriptions>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    let Keyed { value: change, key } = change;
    once(&idempotency, caller.scope(), key, move |scope, key| async move {
        shown(subscriptions.schedule_downgrade(&scope, id.0, change.plan.as_str(), &key).await?)
    })
    .await
}

/// Withdraw the scheduled plan
#[utoipa::path(
    tag = "Subscriptions",
    security(("bearer" = ["billing"])),
    params(
        ("id" = schema::SubscriptionId, Path, description = "The subscription"),
        IdempotencyKey,
    ),
    responses(
        (status = 200, description = "The plan stays", body = Subscription),
        (status = 402, description = "`subscription-suspended`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`nothing-scheduled` and others", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[delete("/subscriptions/{id}/scheduled-plan")]
pub(super) async fn withdraw_scheduled_plan(
    caller: Bills,
    _: NoQuery,
    id: Id<SubscriptionId>,
    key: Key,
    _: NoBody,
    subscriptions: Data<Subscriptions>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    once(&idempotency, caller.scope(), key.0, move |scope, key| async move {
        shown(subscriptions.withdraw_downgrade(&scope, id.0, &key).await?)
    })
    .await
}

/// Cancel
///
/// At the cycle's end, and the Credits stay usable until then. A year that was paid goes on to its own end. A subscription that waits for its first
/// payment ends at once.
#[utoipa::path(
    tag = "Subscriptions",
    security(("bearer" = ["billing"])),
    params(
        ("id" = schema::SubscriptionId, Path, description = "The subscription"),
        IdempotencyKey,
    ),
    request_body = Cancel,
    responses(
        (status = 200, description = "Canceled, or to be so at the cycle's end", body = Subscription),
        (status = 402, description = "`subscription-suspended`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`subscription-ended`, `payment-pending`, `payment-disputed` and others", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/subscriptions/{id}/cancel")]
pub(super) async fn cancel_subscription(
    caller: Bills,
    _: NoQuery,
    id: Id<SubscriptionId>,
    cancel: Keyed<Cancel>,
    subscriptions: Data<Subscriptions>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    let Keyed { value: Cancel { at_once, refund }, key } = cancel;
    let at = match (at_once, refund) {
        (false, false) => CancelAt::CycleEnd,
        // At its end a cycle has given what was paid for it.
        (false, true) => return Err(Refusal::invalid_field("/refund", "only-at-once").into()),
        (true, refund) => {
            caller.require_admin()?;
            CancelAt::Once { refund }
        }
    };
    once(&idempotency, caller.scope(), key, move |scope, key| async move {
        shown(subscriptions.cancel(&scope, id.0, at, &key).await?)
    })
    .await
}

/// Withdraw a cancel
///
/// As long as the cycle lasts.
#[utoipa::path(
    tag = "Subscriptions",
    security(("bearer" = ["billing"])),
    params(
        ("id" = schema::SubscriptionId, Path, description = "The subscription"),
        IdempotencyKey,
    ),
    responses(
        (status = 200, description = "It goes on", body = Subscription),
        (status = 402, description = "`subscription-suspended`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`nothing-scheduled`, `subscription-ended` and others", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[delete("/subscriptions/{id}/cancel")]
pub(super) async fn withdraw_cancel(
    caller: Bills,
    _: NoQuery,
    id: Id<SubscriptionId>,
    key: Key,
    _: NoBody,
    subscriptions: Data<Subscriptions>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    once(&idempotency, caller.scope(), key.0, move |scope, key| async move {
        shown(subscriptions.withdraw_cancel(&scope, id.0, &key).await?)
    })
    .await
}

/// Change the payment method
///
/// For the payments from now on; one in flight keeps its own.
#[utoipa::path(
    tag = "Subscriptions",
    security(("bearer" = ["billing"])),
    params(
        ("id" = schema::SubscriptionId, Path, description = "The subscription"),
        IdempotencyKey,
    ),
    request_body = NewPaymentMethod,
    responses(
        (status = 200, description = "Changed", body = Subscription),
        (status = 409, description = "`subscription-ended`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[put("/subscriptions/{id}/payment-method")]
pub(super) async fn set_payment_method(
    caller: Bills,
    _: NoQuery,
    id: Id<SubscriptionId>,
    new: Keyed<NewPaymentMethod>,
    subscriptions: Data<Subscriptions>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    let Keyed { value: NewPaymentMethod { payment_method }, key } = new;
    once(&idempotency, caller.scope(), key, move |scope, key| async move {
        let method = String::from(payment_method);
        shown(subscriptions.set_payment_method(&scope, id.0, &method, &key).await?)
    })
    .await
}

/// What a settlement is on the wire; `paid` is its status where the money is there.
pub(super) fn settled(settlement: Settlement, paid: StatusCode) -> (StatusCode, PaymentStatus) {
    match settlement {
        Settlement::Paid => (paid, PaymentStatus::Paid),
        Settlement::RequiresAction => (StatusCode::ACCEPTED, PaymentStatus::RequiresAction),
        Settlement::Pending => (StatusCode::ACCEPTED, PaymentStatus::Pending),
    }
}

/// The answer to a purchase.
fn purchased(purchased: Purchased, paid: StatusCode) -> db::Result<Answer> {
    let Purchased { subscription, invoice, settlement } = purchased;
    let (status, payment_status) = settled(settlement, paid);
    let purchase = Purchase { subscription: subscription.into(), invoice: invoice.into(), payment_status };
    answer(status, &purchase)
}

pub(super) fn shown(subscription: SubscriptionView) -> db::Result<Answer> {
    answer(StatusCode::OK, &Subscription::from(subscription))
}

impl From<Subscribe> for NewSubscription {
    fn from(new: Subscribe) -> Self {
        let promotion = match new.promotion {
            None => PromotionChoice::Best,
            Some(code) if code.as_str() == "none" => PromotionChoice::None,
            Some(code) => PromotionChoice::Code(code.to_string()),
        };
        NewSubscription {
            customer: new.customer,
            plan_code: new.plan.to_string(),
            term: match new.term {
                Term::Monthly => domain::term::Term::Monthly,
                Term::Annual => domain::term::Term::Annual,
            },
            currency: new.currency.into(),
            payment_method: new.payment_method.into(),
            promotion,
        }
    }
}

impl From<Upgrade> for NewUpgrade {
    fn from(upgrade: Upgrade) -> Self {
        NewUpgrade {
            plan_code: upgrade.plan.to_string(),
            quote: upgrade.quote,
            payment_method: upgrade.payment_method.map(String::from),
        }
    }
}

impl From<SubscriptionView> for Subscription {
    fn from(view: SubscriptionView) -> Self {
        Subscription {
            id: view.id,
            customer: view.customer,
            status: schema::SubscriptionStatus(view.status),
            plan: view.plan_code,
            catalog_version: view.catalog_version,
            currency: view.currency.into(),
            payment_method: view.payment_method,
            cycle: view.cycle.map(Cycle::from),
            term: match view.term {
                domain::term::Term::Monthly => Term::Monthly,
                domain::term::Term::Annual => Term::Annual,
            },
            renews_at: view.renews_at.map(Instant),
            month_share: (!view.share.is_whole())
                .then(|| MonthShare { days: view.share.days(), of: view.share.of() }),
            migrates: view.migrates,
            discount_bps: view.discount.get(),
            cancel_at_cycle_end: view.cancel_at_cycle_end,
            scheduled_plan: view.scheduled_plan_code,
            open_invoice: view.open_invoice,
            pending_upgrade: view.pending_upgrade.map(PendingUpgrade::from),
            dunning: view.dunning.map(Dunning::from),
            created_at: Instant(view.created_at),
            ended_at: view.ended_at.map(Instant),
            account_version: view.account_version,
        }
    }
}

impl From<domain::calendar::Cycle> for Cycle {
    fn from(cycle: domain::calendar::Cycle) -> Self {
        Cycle { number: cycle.number, start: Instant(cycle.start), end: Instant(cycle.end) }
    }
}

impl From<subscriptions::PendingUpgrade> for PendingUpgrade {
    fn from(pending: subscriptions::PendingUpgrade) -> Self {
        PendingUpgrade {
            plan: pending.plan_code,
            credits: pending.credits.get(),
            invoice: pending.invoice,
            expires_at: Instant(pending.expires_at),
        }
    }
}

impl From<subscriptions::Dunning> for Dunning {
    fn from(dunning: subscriptions::Dunning) -> Self {
        Dunning { failed_tries: dunning.failed_tries, next_try_at: dunning.next_try_at.map(Instant) }
    }
}

impl Quote {
    fn new(quote: subscriptions::Quote, total: domain::Money) -> Self {
        Quote {
            id: quote.id,
            subscription: quote.subscription,
            plan: quote.to_plan_code,
            amount: quote.amount.into(),
            total: total.into(),
            credits: quote.credits.get(),
            expires_at: Instant(quote.expires_at),
        }
    }
}
