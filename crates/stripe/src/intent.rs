//! A payment intent, as far as Tollgate reads it, and what it says of a payment.

use std::collections::BTreeMap;

use chrono::DateTime;
use domain::Timestamp;
use domain::id::{InvoiceId, PaymentId, TenantId};
use domain::invoice::PaymentReport;
use payments::{Collected, NextAction, Taken};
use serde::Deserialize;

use crate::Unreadable;

/// The names of our ids in Stripe's metadata.
pub(crate) const TENANT: &str = "tollgate_tenant";
pub(crate) const CUSTOMER: &str = "tollgate_customer";
pub(crate) const INVOICE: &str = "tollgate_invoice";
pub(crate) const PAYMENT: &str = "tollgate_payment";
pub(crate) const REFUND: &str = "tollgate_refund";

/// The code of a charge that was declined because the bank wants the customer.
const AUTHENTICATION_REQUIRED: &str = "authentication_required";

/// A payment intent.
#[derive(Debug, Clone, Deserialize)]
pub struct Intent {
    pub id: String,
    status: String,
    currency: Option<String>,
    amount_received: Option<i64>,
    created: Option<i64>,
    client_secret: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    next_action: Option<Action>,
    last_payment_error: Option<LastError>,
    latest_charge: Option<IdOr<LatestCharge>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Action {
    redirect_to_url: Option<Redirect>,
}

#[derive(Debug, Clone, Deserialize)]
struct Redirect {
    url: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct LastError {
    code: Option<String>,
    decline_code: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct LatestCharge {
    created: Option<i64>,
    amount_refunded: Option<i64>,
}

/// An object, or its id alone where it was not asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum IdOr<T> {
    Id(String),
    Object(T),
}

/// A field is missing that the status calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missing(pub(crate) &'static str);

impl Intent {
    /// The payment of ours that it was made for, by its metadata.
    pub fn payment(&self) -> Option<PaymentId> {
        self.metadata.get(PAYMENT)?.parse().ok()
    }

    /// Whose it says it is.
    pub fn tenant(&self) -> Option<TenantId> {
        self.metadata.get(TENANT)?.parse().ok()
    }

    /// The invoice that it was made for, by its metadata.
    pub fn invoice(&self) -> Option<InvoiceId> {
        self.metadata.get(INVOICE)?.parse().ok()
    }

    /// What has been given back of it so far; none where the charge was not asked for.
    pub fn refunded(&self) -> Option<Taken> {
        let Some(IdOr::Object(charge)) = &self.latest_charge else { return None };
        Some(Taken { amount_minor: charge.amount_refunded?, currency: self.currency()? })
    }

    fn currency(&self) -> Option<String> {
        self.currency.as_deref().map(str::to_uppercase)
    }

    /// What it says of its payment as it stands now.
    pub fn told(&self, now: Timestamp) -> Result<Collected, Unreadable> {
        Ok(self.collected(None, now)?)
    }

    /// What it says of its payment. `at` is when it came to be so, where the message tells; the charge's
    /// or the intent's own time otherwise, else `now`.
    pub(crate) fn collected(&self, at: Option<Timestamp>, now: Timestamp) -> Result<Collected, Missing> {
        let error = self.last_payment_error.as_ref();
        let error_code = error.and_then(|error| error.code.as_deref());
        let wants_customer = error_code == Some(AUTHENTICATION_REQUIRED);
        let report = match self.status.as_str() {
            "succeeded" => PaymentReport::Succeeded,
            "canceled" => PaymentReport::Canceled,
            "requires_action" => PaymentReport::RequiresAction,
            "requires_payment_method" if wants_customer => PaymentReport::RequiresAction,
            "requires_payment_method" if error.is_some() => PaymentReport::Failed,
            // `processing`; and what an intent is only for a moment before it is confirmed.
            _ => PaymentReport::Pending,
        };
        let taken = match report {
            PaymentReport::Succeeded => Some(Taken {
                amount_minor: self.amount_received.ok_or(Missing("amount_received"))?,
                currency: self.currency().ok_or(Missing("currency"))?,
            }),
            _ => None,
        };
        let failure_code = match report {
            PaymentReport::Failed => {
                error.and_then(|error| error.decline_code.clone().or_else(|| error.code.clone()))
            }
            _ => None,
        };
        let action = (report == PaymentReport::RequiresAction).then(|| NextAction {
            client_secret: self.client_secret.clone(),
            redirect_url: self
                .next_action
                .as_ref()
                .and_then(|action| action.redirect_to_url.as_ref()?.url.clone()),
        });
        let at = at.or_else(|| self.charged_at()).unwrap_or(now);
        let provider_ref = Some(self.id.clone());
        Ok(Collected { report, at, failure_code, provider_ref, taken, action })
    }

    fn charged_at(&self) -> Option<Timestamp> {
        let charge = match &self.latest_charge {
            Some(IdOr::Object(charge)) => charge.created,
            Some(IdOr::Id(_)) | None => None,
        };
        DateTime::from_timestamp(charge.or(self.created)?, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        domain::time::parse_rfc3339("2026-01-31T10:00:00Z").unwrap()
    }

    fn collected(intent: Value) -> Result<Collected, Missing> {
        serde_json::from_value::<Intent>(intent).unwrap().collected(None, now())
    }

    #[test]
    fn a_status_is_a_report() {
        use PaymentReport::{Canceled, Failed, Pending, RequiresAction, Succeeded};
        let declined = json!({"code": "card_declined", "decline_code": "insufficient_funds"});
        let wants_customer = json!({"code": "authentication_required"});
        for (status, error, report) in [
            ("succeeded", Value::Null, Succeeded),
            ("succeeded", declined.clone(), Succeeded),
            ("processing", Value::Null, Pending),
            ("requires_action", Value::Null, RequiresAction),
            ("requires_payment_method", declined, Failed),
            ("requires_payment_method", wants_customer, RequiresAction),
            ("requires_payment_method", Value::Null, Pending),
            ("canceled", Value::Null, Canceled),
            ("something_new", Value::Null, Pending),
        ] {
            let intent = json!({"id": "pi_1", "status": status, "last_payment_error": error,
                "amount_received": 192, "currency": "usd"});
            assert_eq!(collected(intent).unwrap().report, report, "{status}");
        }
    }

    #[test]
    fn a_success_says_what_was_taken_and_when() {
        let intent = json!({"id": "pi_1", "status": "succeeded", "amount_received": 468, "currency": "cny",
            "created": 1, "latest_charge": {"id": "ch_1", "created": 1_769_853_600, "amount_refunded": 0}});
        let said = collected(intent).unwrap();
        assert_eq!(said.taken, Some(Taken { amount_minor: 468, currency: "CNY".to_owned() }));
        assert_eq!(said.at, now());
        let silent = json!({"id": "pi_1", "status": "succeeded", "currency": "usd"});
        assert_eq!(collected(silent), Err(Missing("amount_received")));
    }

    #[test]
    fn what_the_customer_has_to_do_is_handed_on() {
        let intent = json!({"id": "pi_1", "status": "requires_action", "client_secret": "pi_1_secret_2",
            "next_action": {"type": "redirect_to_url", "redirect_to_url": {"url": "https://bank.example/3ds"}}});
        let action = collected(intent).unwrap().action.unwrap();
        assert_eq!(action.client_secret.as_deref(), Some("pi_1_secret_2"));
        assert_eq!(action.redirect_url.as_deref(), Some("https://bank.example/3ds"));
    }
}
