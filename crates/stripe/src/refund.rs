//! Gives money back.

use std::collections::{BTreeMap, HashMap};

use domain::Money;
use domain::id::{PaymentId, RefundId};
use payments::{ProviderError, Taken};
use serde::Deserialize;
use stripe_core::refund::{CreateRefund, ListRefund};

use crate::intent::{PAYMENT, REFUND};
use crate::take::unavailable;
use crate::{CallError, Secret, Stripe};

#[derive(Deserialize)]
struct Created {
    status: Option<String>,
}

/// A refund of a payment intent.
#[derive(Debug, Clone, Deserialize)]
pub struct RefundOfIntent {
    /// Stripe's id of it.
    pub id: String,
    amount: i64,
    currency: String,
    status: Option<String>,
    failure_reason: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

impl RefundOfIntent {
    /// The refund of ours that it was asked for by; none where it was not asked for here.
    pub fn refund(&self) -> Option<RefundId> {
        self.metadata.get(REFUND)?.parse().ok()
    }

    /// What goes back.
    pub fn amount(&self) -> Taken {
        Taken { amount_minor: self.amount, currency: self.currency.to_uppercase() }
    }

    /// Why the money has not gone back; none where it has, or is on its way.
    pub fn failure(&self) -> Option<String> {
        let status = self.status.as_deref().filter(|status| matches!(*status, "failed" | "canceled"))?;
        Some(self.failure_reason.clone().unwrap_or_else(|| format!("refund-{status}")))
    }
}

#[derive(Deserialize)]
struct Page {
    data: Vec<RefundOfIntent>,
    #[serde(default)]
    has_more: bool,
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

    /// All refunds of a payment intent as they stand, whoever asked for them.
    pub async fn refunds(&self, key: &Secret, intent: &str) -> Result<Vec<RefundOfIntent>, CallError> {
        let mut all: Vec<RefundOfIntent> = Vec::new();
        loop {
            let mut list = ListRefund::new().payment_intent(intent).limit(100);
            if let Some(last) = all.last() {
                list = list.starting_after(&last.id);
            }
            let Page { data, has_more } = self.call(key, &list, None).await?;
            let is_last = !has_more || data.is_empty();
            all.extend(data);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Whether the refund is among those of the payment intent.
    async fn is_refunded(&self, key: &Secret, intent: &str, refund: RefundId) -> Result<bool, CallError> {
        let refunds = self.refunds(key, intent).await?;
        Ok(refunds.iter().any(|found| found.refund() == Some(refund) && found.failure().is_none()))
    }
}
