//! Customers and their saved payment methods.

use std::collections::HashMap;

use domain::id::{CustomerId, TenantId};
use serde::Deserialize;
use stripe_core::customer::CreateCustomer;
use stripe_payment::payment_method::{AttachPaymentMethod, RetrievePaymentMethod};

use crate::intent::{CUSTOMER, IdOr, TENANT};
use crate::{CallError, Secret, Stripe};

/// A payment method, without card data.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "MethodObject")]
pub struct Method {
    pub id: String,
    /// Stripe's customer that it is saved for.
    pub customer: Option<String>,
    /// The same for all methods of one card.
    pub fingerprint: Option<String>,
    pub brand: Option<String>,
    /// The last four digits of the card.
    pub last4: Option<String>,
}

#[derive(Deserialize)]
struct MethodObject {
    id: String,
    customer: Option<IdOr<Named>>,
    card: Option<Card>,
}

#[derive(Deserialize)]
struct Card {
    fingerprint: Option<String>,
    brand: Option<String>,
    last4: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Named {
    pub(crate) id: String,
}

impl IdOr<Named> {
    pub(crate) fn id(self) -> String {
        match self {
            IdOr::Id(id) => id,
            IdOr::Object(object) => object.id,
        }
    }
}

impl From<MethodObject> for Method {
    fn from(object: MethodObject) -> Method {
        let card = object.card;
        Method {
            id: object.id,
            customer: object.customer.map(IdOr::id),
            fingerprint: card.as_ref().and_then(|card| card.fingerprint.clone()),
            brand: card.as_ref().and_then(|card| card.brand.clone()),
            last4: card.and_then(|card| card.last4),
        }
    }
}

/// Whether a text is written like a payment method's id. It becomes part of a path, so nothing else
/// may be in it.
pub(crate) fn is_method(text: &str) -> bool {
    let rest = ["pm_", "card_", "src_"].iter().find_map(|prefix| text.strip_prefix(prefix));
    rest.is_some_and(|rest| {
        (1..=200).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    })
}

impl Stripe {
    /// Makes Stripe's customer for one of ours, once a key however often it is asked for.
    pub async fn create_customer(
        &self,
        key: &Secret,
        tenant: TenantId,
        customer: CustomerId,
        idempotency_key: &str,
    ) -> Result<String, CallError> {
        let metadata: HashMap<String, String> =
            [(TENANT.to_owned(), tenant.to_string()), (CUSTOMER.to_owned(), customer.to_string())].into();
        let create = CreateCustomer::new().metadata(metadata);
        let created: Named = self.call(key, &create, Some(idempotency_key)).await?;
        Ok(created.id)
    }

    /// A payment method; `None` where there is none of this name.
    pub async fn method(&self, key: &Secret, method: &str) -> Result<Option<Method>, CallError> {
        if !is_method(method) {
            return Ok(None);
        }
        known(self.call(key, &RetrievePaymentMethod::new(method), None).await)
    }

    /// Saves a payment method for a customer; `None` where there is none of this name, or it is
    /// another customer's, or was used up. Saved again it stays saved.
    pub async fn attach(
        &self,
        key: &Secret,
        method: &str,
        stripe_customer: &str,
    ) -> Result<Option<Method>, CallError> {
        if !is_method(method) {
            return Ok(None);
        }
        known(self.call(key, &AttachPaymentMethod::new(method).customer(stripe_customer), None).await)
    }
}

fn known(answer: Result<Method, CallError>) -> Result<Option<Method>, CallError> {
    match answer {
        Ok(method) => Ok(Some(method)),
        Err(CallError::Denied(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_an_id_and_nothing_that_leads_elsewhere() {
        for good in ["pm_1Abc", "card_9", "src_x", "pm_card_visa"] {
            assert!(is_method(good), "{good}");
        }
        for bad in
            ["", "pm_", "pm_../customers", "pm_1?expand[]=x", "pm_1/attach", "cus_1", "pm_\u{e9}", "PM_1"]
        {
            assert!(!is_method(bad), "{bad:?}");
        }
        assert!(!is_method(&format!("pm_{}", "x".repeat(201))));
    }

    #[test]
    fn a_method_reads_with_or_without_a_card_and_a_customer() {
        let card =
            r#"{"id":"pm_1","customer":"cus_1","card":{"fingerprint":"f","brand":"visa","last4":"4242"}}"#;
        let method: Method = serde_json::from_str(card).unwrap();
        assert_eq!((method.customer.as_deref(), method.fingerprint.as_deref()), (Some("cus_1"), Some("f")));
        let bare: Method = serde_json::from_str(r#"{"id":"pm_1","customer":null}"#).unwrap();
        assert_eq!((bare.customer, bare.fingerprint), (None, None));
        let whole: Method = serde_json::from_str(r#"{"id":"pm_1","customer":{"id":"cus_2"}}"#).unwrap();
        assert_eq!(whole.customer.as_deref(), Some("cus_2"));
    }
}
