//! Gives money back.

use std::collections::{BTreeMap, HashMap};

use domain::Money;
use domain::id::{PaymentId, RefundId};
use payments::ProviderError;
use serde::Deserialize;
use stripe_core::refund::{CreateRefund, ListRefund};

use crate::intent::{PAYMENT, REFUND};
use crate::take::unavailable;
use crate::{CallError, Secret, Stripe};

#[derive(Deserialize)]
struct Created {
    status: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Created>,
}

impl Stripe {
    /// Gives `amount` of a payment intent back. Once, however often it is asked for: the refund's id is
    /// the key. Refused by Stripe: `RefundRefused` with its code.
    pub async fn refund(
        &self,
        key: &Secret,
        intent: &str,
        payment: PaymentId,
        refund: RefundId,
        amount: Money,
    ) -> Result<(), ProviderError> {
        let metadata: HashMap<String, String> =
            [(PAYMENT.to_owned(), payment.to_string()), (REFUND.to_owned(), refund.to_string())].into();
        let create =
            CreateRefund::new().payment_intent(intent).amount(amount.amount_minor).metadata(metadata);
        let created: Result<Created, CallError> = self.call(key, &create, Some(&refund.to_string())).await;
        match created {
            Ok(created) => match created.status.as_deref() {
                Some(status @ ("failed" | "canceled")) => {
                    Err(ProviderError::RefundRefused(format!("refund-{status}")))
                }
                _ => Ok(()),
            },
            Err(CallError::Denied(denied)) => {
                Err(ProviderError::RefundRefused(denied.code.unwrap_or(denied.kind)))
            }
            // The money may have moved, and a 500 is answered to every repeat of the key.
            Err(error) => match self.is_refunded(key, intent, refund).await {
                Ok(true) => Ok(()),
                Ok(false) | Err(_) => Err(unavailable(error)),
            },
        }
    }

    /// Whether the refund is among those of the payment intent.
    async fn is_refunded(&self, key: &Secret, intent: &str, refund: RefundId) -> Result<bool, CallError> {
        let list = ListRefund::new().payment_intent(intent).limit(100);
        let page: Page = self.call(key, &list, None).await?;
        let id = refund.to_string();
        Ok(page.data.iter().any(|found| {
            let is_it = found.metadata.get(REFUND) == Some(&id);
            is_it && !matches!(found.status.as_deref(), Some("failed" | "canceled"))
        }))
    }
}
