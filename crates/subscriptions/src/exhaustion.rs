//! How a customer goes on without Credits: set, and read.

use db::{Connection, Result};
use domain::exhaustion::{Exhaustion, Overflow};
use domain::id::CustomerId;
use domain::payg::Pico;
use domain::policy::SPEND_CAP_MINOR_MAX;
use domain::{Credits, Currency, Refusal, TenantScope, Timestamp};
use idempotency::RequestKey;
use ledger::SetOverflow;
use outbox::NewEvent;
use serde_json::json;

use crate::{Subscriptions, is_repeat, store};

const SET: &str = "customer.exhaustion_set";
/// The most automatic top-ups a cycle, and the longest cool-off: 31 days.
const PER_CYCLE_MAX: u32 = 1_000;
const COOL_OFF_MINUTES_MAX: u32 = 44_640;

/// A top-up that buys itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoTopUp {
    pub top_up_code: String,
    pub currency: Currency,
    /// So many Credits are left when one is bought.
    pub at_credits_left: Credits,
    /// At most so many a cycle, or without a plan a calendar month; failed ones count.
    pub per_cycle_max: u32,
    /// So long after one has failed none is bought.
    pub cool_off_minutes: u32,
}

/// What is to be set. All of it: what is left out is the tenant's policy, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewExhaustion {
    pub exhaustion: Option<Exhaustion>,
    /// Of pay-as-you-go; the live subscription's where left out, else US dollars.
    pub currency: Option<Currency>,
    pub spend_cap_minor: Option<i64>,
    pub auto_top_up: Option<AutoTopUp>,
    /// Pays top-ups and usage; the live subscription's own where left out.
    pub payment_method: Option<String>,
}

/// How a customer goes on without Credits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExhaustionView {
    pub customer: CustomerId,
    /// As set for the customer.
    pub set: Option<Exhaustion>,
    /// What applies: the tenant's policy where nothing is set.
    pub exhaustion: Exhaustion,
    pub currency: Currency,
    /// What applies, likewise.
    pub spend_cap_minor: i64,
    /// What is not invoiced yet.
    pub accrued: Pico,
    /// When that is invoiced, unless a cycle ends before.
    pub due_at: Option<Timestamp>,
    pub auto_top_up: Option<AutoTopUp>,
    /// No top-up buys itself before.
    pub top_up_blocked_until: Option<Timestamp>,
    pub payment_method: Option<String>,
}

/// What is stored apart from the account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Settings {
    pub(crate) payment_method: Option<String>,
    pub(crate) top_up: Option<TopUpSettings>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopUpSettings {
    pub(crate) code: String,
    pub(crate) currency: Currency,
    pub(crate) per_cycle_max: u32,
    pub(crate) cool_off_minutes: u32,
}

impl Subscriptions {
    /// Sets it. Refused: `not-found`; `no-price-in-currency` where a customer who pays in a currency without pay-as-you-go
    /// prices asks for it, or the top-up has none; `unknown-top-up`; `usage-not-invoiced` where the currency would change
    /// under what is accrued; `invalid-field`; `unknown-payment-method`, `card-data-refused`.
    pub async fn set_exhaustion(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        new: NewExhaustion,
        request: &RequestKey,
    ) -> Result<ExhaustionView> {
        let tenant = scope.tenant;
        check(&new)?;
        if let Some(method) = &new.payment_method {
            self.fingerprint(scope, method).await?;
        }
        let history = self.catalogs.history(tenant).await?;
        let catalog = history.at(scope.now);
        let set = self
            .db
            .transaction(tenant, async |tx| {
                if is_repeat(tx, scope, request).await? {
                    return read(tx, scope, customer).await;
                }
                let mut accounts = ledger::lock(tx, tenant, &[customer]).await?;
                let overflow = *accounts.get_mut(customer)?.overflow();
                let own = store::payg::live_currency(tx, tenant, customer).await?;
                let currency = new.currency.or(own).unwrap_or(Currency::Usd);
                if new.exhaustion == Some(Exhaustion::Payg) {
                    let is_priced = catalog.is_some_and(|catalog| catalog.has_payg_prices(currency));
                    if !is_priced || own.is_some_and(|own| own != currency) {
                        // Whoever pays a plan in one currency pays usage in it, too.
                        let currency = own.unwrap_or(currency);
                        return Err(Refusal::NoPriceInCurrency { currency }.into());
                    }
                }
                if overflow.currency != currency && !overflow.accrued.is_zero() {
                    return Err(Refusal::UsageNotInvoiced.into());
                }
                if let Some(auto) = &new.auto_top_up {
                    let catalog = catalog.ok_or(Refusal::UnknownTopUp)?;
                    catalog.top_up(&auto.top_up_code)?.price(auto.currency)?;
                }
                let set = SetOverflow {
                    exhaustion: new.exhaustion,
                    currency,
                    spend_cap_minor: new.spend_cap_minor,
                    top_up_at: new.auto_top_up.as_ref().map(|auto| auto.at_credits_left),
                };
                ledger::set_overflow(tx, tenant, customer, &set).await?;
                store::payg::set_settings(tx, tenant, customer, &settings(&new), scope.now).await?;
                let payload = json!({
                    "customer": customer,
                    "exhaustion": new.exhaustion.map(Exhaustion::name),
                    "spend_cap_minor": new.spend_cap_minor,
                    "currency": currency,
                    "top_up": new.auto_top_up.as_ref().map(|auto| &auto.top_up_code),
                });
                let event = NewEvent { kind: SET, subject: customer.to_string(), payload };
                outbox::emit(tx, tenant, event, scope.now).await?;
                read(tx, scope, customer).await
            })
            .await?;
        // Redis says of an account how its customer goes on.
        self.ledger.republish(scope, customer).await?;
        Ok(set)
    }

    /// Refused: `not-found`.
    pub async fn read_exhaustion(&self, scope: &TenantScope, customer: CustomerId) -> Result<ExhaustionView> {
        self.db.transaction(scope.tenant, async |tx| read(tx, scope, customer).await).await
    }
}

fn check(new: &NewExhaustion) -> std::result::Result<(), Refusal> {
    if new.spend_cap_minor.is_some_and(|cap| !(0..=SPEND_CAP_MINOR_MAX).contains(&cap)) {
        return Err(Refusal::invalid_field("/spend_cap_minor", "out-of-range"));
    }
    match (&new.auto_top_up, new.exhaustion) {
        (None, Some(Exhaustion::TopUp)) => Err(Refusal::invalid_field("/auto_top_up", "missing")),
        (Some(auto), _) if !(1..=PER_CYCLE_MAX).contains(&auto.per_cycle_max) => {
            Err(Refusal::invalid_field("/auto_top_up/per_cycle_max", "out-of-range"))
        }
        (Some(auto), _) if auto.cool_off_minutes > COOL_OFF_MINUTES_MAX => {
            Err(Refusal::invalid_field("/auto_top_up/cool_off_minutes", "out-of-range"))
        }
        (Some(_) | None, _) => Ok(()),
    }
}

fn settings(new: &NewExhaustion) -> Settings {
    Settings {
        payment_method: new.payment_method.clone(),
        top_up: new.auto_top_up.as_ref().map(|auto| TopUpSettings {
            code: auto.top_up_code.clone(),
            currency: auto.currency,
            per_cycle_max: auto.per_cycle_max,
            cool_off_minutes: auto.cool_off_minutes,
        }),
    }
}

async fn read(tx: &mut Connection, scope: &TenantScope, customer: CustomerId) -> Result<ExhaustionView> {
    let overflow = ledger::overflow(tx, scope.tenant, customer).await?;
    let overflow: Overflow = overflow.ok_or(Refusal::NotFound { what: "customer" })?;
    let settings = store::payg::settings(tx, scope.tenant, customer).await?;
    let auto_top_up = settings.top_up.zip(overflow.top_up_at).map(|(top_up, at_credits_left)| AutoTopUp {
        top_up_code: top_up.code,
        currency: top_up.currency,
        at_credits_left,
        per_cycle_max: top_up.per_cycle_max,
        cool_off_minutes: top_up.cool_off_minutes,
    });
    Ok(ExhaustionView {
        customer,
        set: overflow.exhaustion,
        exhaustion: overflow.exhaustion(&scope.policies),
        currency: overflow.currency,
        spend_cap_minor: overflow.spend_cap_minor.unwrap_or(scope.policies.spend_cap_minor),
        accrued: overflow.accrued,
        due_at: overflow.due_at,
        auto_top_up,
        top_up_blocked_until: overflow.top_up_blocked_until,
        payment_method: settings.payment_method,
    })
}
