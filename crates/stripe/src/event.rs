//! A webhook's body: which event it is, and what it says.

use chrono::DateTime;
use domain::Timestamp;
use payments::{Collected, Taken};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::intent::{IdOr, Missing};
use crate::method::Named;
use crate::{Intent, Method};

/// An event, as far as Tollgate reads it.
#[derive(Debug, Clone)]
pub struct Event {
    /// Stripe's own, the same however often it is sent.
    pub id: String,
    /// `payment_intent.succeeded` and so on.
    pub kind: String,
    /// In Stripe's time, cut to seconds.
    pub created_at: Timestamp,
    pub is_live: bool,
    /// The account that it is about, where it is told; accounts that are connected to another are.
    pub account: Option<String>,
    object: Value,
    /// What was otherwise before, of an event about a change.
    before: Option<Before>,
}

/// What an event says.
#[derive(Debug, Clone)]
pub enum Notice {
    /// How a payment stands.
    Payment {
        intent: Box<Intent>,
        collected: Collected,
    },
    Refund(RefundNotice),
    Dispute(DisputeNotice),
    Method(MethodNotice),
    /// Nothing that Tollgate acts on.
    Ignored,
}

/// A refund of a payment was made, or has changed. What there is of them by now has to be asked for: an event tells of
/// one of them, or of their sum, as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundNotice {
    pub intent: String,
}

/// A customer disputes a payment with the bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisputeNotice {
    /// Stripe's id of the dispute.
    pub dispute: String,
    pub intent: String,
    pub state: DisputeState,
    pub disputed: Taken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisputeState {
    Opened,
    /// The money is the seller's again.
    Won,
    Lost,
}

/// A saved method, or a customer, has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MethodNotice {
    /// Saved for one of Stripe's customers.
    Attached {
        method: Method,
        stripe_customer: String,
    },
    /// No longer of the customer that it was saved for, where the event says of which.
    Detached {
        method: Method,
        stripe_customer: Option<String>,
    },
    /// A setup intent has saved a method.
    SetUp {
        stripe_customer: String,
        method: String,
    },
    /// A page has; the setup intent knows which method.
    CheckedOut {
        stripe_customer: String,
        setup_intent: String,
    },
    /// The method that the customer pays with by default is this one, or none.
    CustomerUpdated {
        stripe_customer: String,
        default_method: Option<String>,
    },
    CustomerDeleted {
        stripe_customer: String,
    },
}

/// Why a signed body is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the body is no event")]
    NotAnEvent,
    #[error("the event has no {0}")]
    Missing(&'static str),
}

impl From<Missing> for Unreadable {
    fn from(missing: Missing) -> Self {
        Unreadable::Missing(missing.0)
    }
}

#[derive(Deserialize)]
struct Envelope {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    created: i64,
    livemode: bool,
    account: Option<String>,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    object: Value,
    previous_attributes: Option<Before>,
}

#[derive(Debug, Clone, Deserialize)]
struct Before {
    customer: Option<String>,
}

/// A charge, or a refund.
#[derive(Deserialize)]
struct OfIntent {
    payment_intent: Option<IdOr<Named>>,
}

#[derive(Deserialize)]
struct Dispute {
    id: Option<String>,
    payment_intent: Option<IdOr<Named>>,
    status: Option<String>,
    amount: Option<i64>,
    currency: Option<String>,
}

#[derive(Deserialize)]
struct SetupIntent {
    customer: Option<IdOr<Named>>,
    payment_method: Option<IdOr<Named>>,
}

#[derive(Deserialize)]
struct CheckoutSession {
    mode: Option<String>,
    customer: Option<IdOr<Named>>,
    setup_intent: Option<IdOr<Named>>,
}

#[derive(Deserialize)]
struct Customer {
    id: Option<String>,
    invoice_settings: Option<InvoiceSettings>,
}

#[derive(Deserialize)]
struct InvoiceSettings {
    default_payment_method: Option<IdOr<Named>>,
}

/// Reads what every event has.
pub fn read_event(body: &[u8]) -> Result<Event, Unreadable> {
    let envelope: Envelope = serde_json::from_slice(body).map_err(|_| Unreadable::NotAnEvent)?;
    let is_id = (1..=255).contains(&envelope.id.len()) && envelope.id.bytes().all(|b| b.is_ascii_graphic());
    let is_kind =
        (1..=255).contains(&envelope.kind.len()) && envelope.kind.bytes().all(|b| b.is_ascii_graphic());
    if !is_id || !is_kind {
        return Err(Unreadable::NotAnEvent);
    }
    Ok(Event {
        id: envelope.id,
        kind: envelope.kind,
        created_at: DateTime::from_timestamp(envelope.created, 0).ok_or(Unreadable::NotAnEvent)?,
        is_live: envelope.livemode,
        account: envelope.account,
        object: envelope.data.object,
        before: envelope.data.previous_attributes,
    })
}

impl Event {
    /// What it says; nothing, where Tollgate does not act on its kind.
    pub fn notice(&self) -> Result<Notice, Unreadable> {
        match self.kind.as_str() {
            "payment_intent.succeeded"
            | "payment_intent.payment_failed"
            | "payment_intent.requires_action"
            | "payment_intent.processing"
            | "payment_intent.canceled" => {
                let intent: Intent = self.object("payment intent")?;
                let collected = intent.collected(Some(self.created_at), self.created_at)?;
                Ok(Notice::Payment { intent: Box::new(intent), collected })
            }
            "charge.refunded"
            | "refund.created"
            | "refund.updated"
            | "refund.failed"
            | "charge.refund.updated" => {
                let refunded: OfIntent = self.object("refund")?;
                let intent = named(refunded.payment_intent, "payment_intent")?;
                Ok(Notice::Refund(RefundNotice { intent }))
            }
            "charge.dispute.created" => self.dispute(DisputeState::Opened),
            "charge.dispute.funds_reinstated" => self.dispute(DisputeState::Won),
            "charge.dispute.closed" => {
                let dispute: Dispute = self.object("dispute")?;
                match dispute.status.as_deref() {
                    Some("won") => self.dispute(DisputeState::Won),
                    Some("lost") => self.dispute(DisputeState::Lost),
                    // An inquiry that ended before it became a dispute.
                    Some(_) => Ok(Notice::Ignored),
                    None => Err(Unreadable::Missing("status")),
                }
            }
            "payment_method.attached" => {
                let method: Method = self.object("payment method")?;
                let stripe_customer = method.customer.clone().ok_or(Unreadable::Missing("customer"))?;
                Ok(Notice::Method(MethodNotice::Attached { method, stripe_customer }))
            }
            "payment_method.detached" => {
                let method: Method = self.object("payment method")?;
                let stripe_customer = self.before.as_ref().and_then(|before| before.customer.clone());
                Ok(Notice::Method(MethodNotice::Detached { method, stripe_customer }))
            }
            "setup_intent.succeeded" => {
                let setup: SetupIntent = self.object("setup intent")?;
                let stripe_customer = named(setup.customer, "customer")?;
                let method = named(setup.payment_method, "payment_method")?;
                Ok(Notice::Method(MethodNotice::SetUp { stripe_customer, method }))
            }
            "checkout.session.completed" => {
                let session: CheckoutSession = self.object("checkout session")?;
                if session.mode.as_deref() != Some("setup") {
                    return Ok(Notice::Ignored);
                }
                let stripe_customer = named(session.customer, "customer")?;
                let setup_intent = named(session.setup_intent, "setup_intent")?;
                Ok(Notice::Method(MethodNotice::CheckedOut { stripe_customer, setup_intent }))
            }
            "customer.updated" => {
                let customer: Customer = self.object("customer")?;
                let stripe_customer = customer.id.ok_or(Unreadable::Missing("id"))?;
                let settings = customer.invoice_settings;
                let default_method =
                    settings.and_then(|settings| settings.default_payment_method).map(IdOr::id);
                Ok(Notice::Method(MethodNotice::CustomerUpdated { stripe_customer, default_method }))
            }
            "customer.deleted" => {
                let customer: Customer = self.object("customer")?;
                let stripe_customer = customer.id.ok_or(Unreadable::Missing("id"))?;
                Ok(Notice::Method(MethodNotice::CustomerDeleted { stripe_customer }))
            }
            _ => Ok(Notice::Ignored),
        }
    }

    fn object<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, Unreadable> {
        T::deserialize(&self.object).map_err(|_| Unreadable::Missing(what))
    }

    fn dispute(&self, state: DisputeState) -> Result<Notice, Unreadable> {
        let dispute: Dispute = self.object("dispute")?;
        Ok(Notice::Dispute(DisputeNotice {
            dispute: dispute.id.ok_or(Unreadable::Missing("id"))?,
            intent: named(dispute.payment_intent, "payment_intent")?,
            state,
            disputed: taken(dispute.amount, dispute.currency, "amount")?,
        }))
    }
}

fn named(object: Option<IdOr<Named>>, what: &'static str) -> Result<String, Unreadable> {
    object.map(IdOr::id).ok_or(Unreadable::Missing(what))
}

fn taken(
    amount_minor: Option<i64>,
    currency: Option<String>,
    what: &'static str,
) -> Result<Taken, Unreadable> {
    let amount_minor = amount_minor.ok_or(Unreadable::Missing(what))?;
    let currency = currency.ok_or(Unreadable::Missing("currency"))?.to_uppercase();
    Ok(Taken { amount_minor, currency })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::invoice::PaymentReport;
    use serde_json::json;

    fn event(kind: &str, object: Value) -> Event {
        let body = json!({"id": "evt_1", "object": "event", "type": kind, "created": 1_769_853_600,
            "livemode": false, "api_version": "2019-01-01", "data": {"object": object}});
        read_event(body.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_payment_that_succeeded_says_what_was_taken_and_for_what() {
        let payment = "pay_0192f0c1d2e37a4b8c9d0e1f2a3b4c5d";
        let intent = json!({"id": "pi_1", "status": "succeeded", "amount_received": 192, "currency": "usd",
            "metadata": {"tollgate_payment": payment}});
        let Notice::Payment { intent, collected } =
            event("payment_intent.succeeded", intent).notice().unwrap()
        else {
            panic!("a payment")
        };
        assert_eq!(intent.payment().unwrap().to_string(), payment);
        assert_eq!(collected.report, PaymentReport::Succeeded);
        assert_eq!(collected.taken, Some(Taken { amount_minor: 192, currency: "USD".to_owned() }));
        assert_eq!(collected.at.timestamp(), 1_769_853_600);
    }

    #[test]
    fn what_a_kind_needs_and_has_not_is_named() {
        for (kind, object, missing) in [
            ("payment_intent.succeeded", json!({"id": "pi_1", "status": "succeeded"}), "amount_received"),
            ("payment_intent.succeeded", json!({}), "payment intent"),
            ("charge.refunded", json!({"amount_refunded": 1, "currency": "usd"}), "payment_intent"),
            ("refund.failed", json!({"id": "re_1"}), "payment_intent"),
            ("charge.dispute.closed", json!({"id": "dp_1"}), "status"),
            ("setup_intent.succeeded", json!({"customer": "cus_1"}), "payment_method"),
            ("customer.deleted", json!({}), "id"),
        ] {
            let said = event(kind, object).notice();
            assert!(matches!(said, Err(Unreadable::Missing(what)) if what == missing), "{kind}: {said:?}");
        }
    }

    #[test]
    fn disputes_open_and_end() {
        for (kind, status, state) in [
            ("charge.dispute.created", "needs_response", Some(DisputeState::Opened)),
            ("charge.dispute.closed", "won", Some(DisputeState::Won)),
            ("charge.dispute.closed", "lost", Some(DisputeState::Lost)),
            ("charge.dispute.closed", "warning_closed", None),
            ("charge.dispute.funds_reinstated", "won", Some(DisputeState::Won)),
        ] {
            let dispute = json!({"id": "dp_1", "payment_intent": "pi_1", "status": status, "amount": 192,
                "currency": "usd"});
            let said = match event(kind, dispute).notice().unwrap() {
                Notice::Dispute(notice) => Some(notice.state),
                _ => None,
            };
            assert_eq!(said, state, "{kind} {status}");
        }
    }

    #[test]
    fn an_unknown_kind_is_ignored_and_what_is_no_event_is_none() {
        assert!(matches!(event("payout.paid", json!({})).notice(), Ok(Notice::Ignored)));
        assert!(matches!(event("account.something.new", json!(null)).notice(), Ok(Notice::Ignored)));
        for body in ["", "{}", "[]", "null", r#"{"id":"evt_1"}"#, "\u{0}"] {
            assert_eq!(
                read_event(body.as_bytes()).map(|event| event.id),
                Err(Unreadable::NotAnEvent),
                "{body:?}"
            );
        }
    }
}
