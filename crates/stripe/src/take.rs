//! Takes a payment, finds out how it stands, gives it up. Never twice: see the crate's essay.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use domain::id::{CustomerId, InvoiceId, PaymentId, TenantId};
use domain::invoice::PaymentReport;
use domain::{Currency, Money, Timestamp};
use payments::{Collected, ProviderError};
use serde::Deserialize;
use stripe_core::payment_intent::{
    CancelPaymentIntent, CreatePaymentIntent, CreatePaymentIntentOffSession, ListPaymentIntent,
    RetrievePaymentIntent,
};
use stripe_shared::PaymentIntentAllowedPaymentMethodTypes;
use stripe_types::RangeQueryTs;

use crate::client::{CallError, Denied};
use crate::intent::{CUSTOMER, INVOICE, PAYMENT, TENANT};
use crate::method::is_method;
use crate::{Intent, Secret, Stripe};

/// How long after a payment was made its key is relied on. Stripe keeps one for 24 hours at least.
pub const KEY_GOOD_FOR: TimeDelta = TimeDelta::hours(12);

/// How long the second try waits for the first to end.
const PAUSE: Duration = Duration::from_millis(300);
/// Two clocks, and a payment's id that is a little older than its charge.
const CLOCKS_APART: TimeDelta = TimeDelta::hours(1);
/// Pages of 100 that a payment is looked for in.
const PAGES_MAX: usize = 20;

/// A payment of ours and what Stripe needs for it.
#[derive(Debug, Clone)]
pub struct Charge {
    pub tenant: TenantId,
    pub customer: CustomerId,
    pub invoice: InvoiceId,
    /// The idempotency key, too.
    pub payment: PaymentId,
    pub amount: Money,
    /// Stripe's customer.
    pub stripe_customer: String,
    /// A payment method of that customer's.
    pub method: String,
    /// The payment intent, where it is known.
    pub intent: Option<String>,
    /// The tenant's `now`: the time of what has no time of its own.
    pub now: Timestamp,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Intent>,
    has_more: bool,
}

impl Stripe {
    /// Takes the payment, or says how it stands if that was tried before.
    pub async fn take(&self, key: &Secret, charge: &Charge) -> Result<Collected, ProviderError> {
        if let Some(known) = self.look(key, charge, is_old(charge.payment)).await? {
            return Ok(known);
        }
        let first = match self.create(key, charge).await {
            Err(CallError::Unknown(reason)) => reason,
            answer => return self.decided(key, charge, answer).await,
        };
        tracing::warn!(payment = %charge.payment, reason = first, "the outcome of a charge is unknown");
        tokio::time::sleep(PAUSE).await;
        // The same key: Stripe answers for the charge that there is, or makes the one that there is not.
        match self.create(key, charge).await {
            Err(CallError::Unknown(reason)) => {
                self.look(key, charge, true).await?.ok_or(ProviderError::Unavailable(reason))
            }
            answer => self.decided(key, charge, answer).await,
        }
    }

    /// Gives the payment up where it has not succeeded, and says how it stands then.
    pub async fn give_up(&self, key: &Secret, charge: &Charge) -> Result<Collected, ProviderError> {
        let Some(known) = self.intent_of(key, charge, true).await? else {
            // Stripe has none. Should one come of a call that is still under way, its success is told by
            // a webhook, and goes back.
            return Ok(Collected::plain(PaymentReport::Canceled, charge.now));
        };
        let idempotency_key = format!("{}/cancel", charge.payment);
        let cancel = CancelPaymentIntent::new(known.id.as_str());
        let canceled: Result<Intent, CallError> = self.call(key, &cancel, Some(&idempotency_key)).await;
        let intent = match canceled {
            Ok(intent) => intent,
            // It has succeeded, is canceled already, or is under way at the bank.
            Err(CallError::Denied(_)) => self.intent(key, &known.id).await.map_err(unavailable)?,
            Err(error) => return Err(unavailable(error)),
        };
        let said = read(&intent, charge)?;
        // What was taken has gone back as a whole, as after a charge over another amount: it pays nothing.
        let has_gone_back = said.taken.is_some() && said.taken == intent.refunded();
        if has_gone_back {
            Ok(Collected { report: PaymentReport::Canceled, taken: None, ..said })
        } else {
            Ok(said)
        }
    }

    /// A payment intent with its charge.
    pub async fn intent(&self, key: &Secret, id: &str) -> Result<Intent, CallError> {
        let retrieve = RetrievePaymentIntent::new(id).expand(["latest_charge".to_owned()]);
        self.call(key, &retrieve, None).await
    }

    /// The payment's intent: by its id, else, where `searching`, by its metadata.
    pub async fn intent_of(
        &self,
        key: &Secret,
        charge: &Charge,
        searching: bool,
    ) -> Result<Option<Intent>, ProviderError> {
        if let Some(id) = &charge.intent {
            return self.intent(key, id).await.map(Some).map_err(unavailable);
        }
        if searching { self.find(key, charge).await.map_err(unavailable) } else { Ok(None) }
    }

    async fn look(
        &self,
        key: &Secret,
        charge: &Charge,
        searching: bool,
    ) -> Result<Option<Collected>, ProviderError> {
        let intent = self.intent_of(key, charge, searching).await?;
        intent.map(|intent| read(&intent, charge)).transpose()
    }

    async fn create(&self, key: &Secret, charge: &Charge) -> Result<Intent, CallError> {
        let currency = match charge.amount.currency {
            Currency::Usd => stripe_types::Currency::USD,
            Currency::Cny => stripe_types::Currency::CNY,
        };
        let metadata: HashMap<String, String> = [
            (TENANT, charge.tenant.to_string()),
            (CUSTOMER, charge.customer.to_string()),
            (INVOICE, charge.invoice.to_string()),
            (PAYMENT, charge.payment.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let create = CreatePaymentIntent::new(charge.amount.amount_minor, currency)
            .customer(charge.stripe_customer.as_str())
            .payment_method(charge.method.as_str())
            // Without this Stripe would offer methods that need a page to come back to.
            .allowed_payment_method_types([PaymentIntentAllowedPaymentMethodTypes::Card])
            .confirm(true)
            .off_session(CreatePaymentIntentOffSession::Bool(true))
            .metadata(metadata);
        self.call(key, &create, Some(&charge.payment.to_string())).await
    }

    async fn decided(
        &self,
        key: &Secret,
        charge: &Charge,
        answer: Result<Intent, CallError>,
    ) -> Result<Collected, ProviderError> {
        let denied = match answer {
            Ok(intent) => return read(&intent, charge),
            Err(CallError::Denied(denied)) => denied,
            Err(error @ CallError::Unknown(_)) => return Err(unavailable(error)),
        };
        match (denied.kind.as_str(), &denied.intent) {
            ("card_error", Some(intent)) => match read(intent, charge)? {
                // An intent that does not tell of its own error yet.
                said if said.report == PaymentReport::Pending => Ok(failed(&denied, charge)),
                said => Ok(said),
            },
            ("card_error", None) => {
                let found = self.look(key, charge, true).await?;
                Ok(found.unwrap_or_else(|| failed(&denied, charge)))
            }
            // The key belongs to a charge with other parameters: there is one, and it counts.
            ("idempotency_error", _) => {
                let found = self.look(key, charge, true).await?;
                found.ok_or_else(|| ProviderError::Unavailable(denied.to_string()))
            }
            _ if denied.is_about_method() => Err(ProviderError::UnknownMethod),
            _ => Ok(failed(&denied, charge)),
        }
    }

    /// Looks through what the customer has been charged since the payment was made.
    async fn find(&self, key: &Secret, charge: &Charge) -> Result<Option<Intent>, CallError> {
        let since = made_at(charge.payment).unwrap_or_default() - CLOCKS_APART;
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut list = ListPaymentIntent::new()
                .customer(charge.stripe_customer.as_str())
                .created(RangeQueryTs::gte(since.timestamp()))
                .limit(100);
            if let Some(after) = &after {
                list = list.starting_after(after.as_str());
            }
            let page: Page = self.call(key, &list, None).await?;
            let last = page.data.last().map(|intent| intent.id.clone());
            let found = page.data.into_iter().find(|intent| intent.payment() == Some(charge.payment));
            if let Some(found) = found {
                // With its charge, which a list does not have.
                return self.intent(key, &found.id).await.map(Some);
            }
            match last {
                Some(last) if page.has_more => after = Some(last),
                _ => return Ok(None),
            }
        }
        Err(CallError::Unknown("the customer has too many payments to look through".to_owned()))
    }
}

impl Denied {
    /// No such method, or not this customer's.
    fn is_about_method(&self) -> bool {
        let is_named = self.param.as_deref() == Some("payment_method");
        let is_missing = self.code.as_deref() == Some("resource_missing");
        self.kind == "invalid_request_error" && (is_named || is_missing)
    }
}

fn read(intent: &Intent, charge: &Charge) -> Result<Collected, ProviderError> {
    let unreadable = |missing: crate::intent::Missing| {
        ProviderError::Unavailable(format!("{} says no {}", intent.id, missing.0))
    };
    intent.collected(None, charge.now).map_err(unreadable)
}

fn failed(denied: &Denied, charge: &Charge) -> Collected {
    let code = denied.decline_code.clone().or_else(|| denied.code.clone());
    Collected {
        failure_code: Some(code.unwrap_or_else(|| denied.kind.clone())),
        provider_ref: denied.intent.as_ref().map(|intent| intent.id.clone()),
        ..Collected::plain(PaymentReport::Failed, charge.now)
    }
}

/// When the payment was made, in real time: its id says so.
fn made_at(payment: PaymentId) -> Option<chrono::DateTime<Utc>> {
    let (seconds, nanos) = payment.uuid().get_timestamp()?.to_unix();
    chrono::DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
}

fn is_old(payment: PaymentId) -> bool {
    made_at(payment).is_none_or(|made_at| Utc::now() - made_at > KEY_GOOD_FOR)
}

pub(crate) fn unavailable(error: CallError) -> ProviderError {
    ProviderError::Unavailable(error.to_string())
}

impl Charge {
    /// Whether a text can be one of Stripe's payment methods at all: it becomes part of a path.
    pub fn takes(method: &str) -> bool {
        is_method(method)
    }
}
