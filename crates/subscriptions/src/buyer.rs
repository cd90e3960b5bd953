//! Who an invoice is of: a subscription, or a customer who bought something without one.

use db::{Connection, Result};
use domain::id::{CustomerId, InvoiceId, TenantId};

use crate::event::About;
use crate::store;
use crate::subscription::Subscription;

pub(crate) enum Buyer {
    Subscription(Box<Subscription>),
    Customer(CustomerId),
}

impl Buyer {
    pub(crate) fn customer(&self) -> CustomerId {
        match self {
            Buyer::Subscription(subscription) => subscription.customer,
            Buyer::Customer(customer) => *customer,
        }
    }

    /// What events about the invoice are about.
    pub(crate) fn about(&self) -> About<'_> {
        match self {
            Buyer::Subscription(subscription) => About::Subscription(subscription),
            Buyer::Customer(customer) => About::Customer(*customer),
        }
    }
}

/// Whom an invoice is of, locked as whoever applies a payment does before the invoice: the subscription, or the customer's credit
/// account. Refused: `not-found`.
pub(crate) async fn lock(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<Buyer> {
    if let Some(subscription) = store::subscriptions::lock_by_invoice(tx, tenant, invoice).await? {
        return Ok(Buyer::Subscription(Box::new(subscription)));
    }
    let customer = store::sales::of_invoice(tx, tenant, invoice).await?.customer;
    ledger::lock(tx, tenant, &[customer]).await?;
    Ok(Buyer::Customer(customer))
}
