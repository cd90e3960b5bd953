//! The payment methods that are saved for a customer, as far as we were told.

use db::Result;
use domain::id::CustomerId;
use domain::{TenantScope, Timestamp};
use stripe::Method;

use crate::{ProviderAccounts, store};

/// A saved payment method: names, no card data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedMethod {
    /// What a purchase names it by.
    pub method: String,
    pub brand: Option<String>,
    /// The last four digits of the card.
    pub last4: Option<String>,
    pub saved_at: Timestamp,
    /// Whether the provider says that the customer pays with it by default.
    pub is_default: bool,
}

impl ProviderAccounts {
    /// A customer's saved methods that were not detached, in order of their names.
    pub async fn saved_methods(&self, scope: &TenantScope, customer: CustomerId) -> Result<Vec<SavedMethod>> {
        let tenant = scope.tenant;
        self.db.transaction(tenant, async |tx| store::saved_methods(tx, tenant, customer).await).await
    }

    /// Takes in that a method was saved for a customer. One that was detached stays so.
    pub async fn note_saved(&self, scope: &TenantScope, customer: CustomerId, method: &Method) -> Result<()> {
        let tenant = scope.tenant;
        self.db
            .transaction(tenant, async |tx| store::save_method(tx, tenant, customer, method, scope.now).await)
            .await
    }

    /// Takes in that a customer's method was detached, whether or not we were told before that it had been
    /// saved. Without the customer, only what is known is noted.
    pub async fn note_detached(
        &self,
        scope: &TenantScope,
        customer: Option<CustomerId>,
        method: &Method,
    ) -> Result<()> {
        let tenant = scope.tenant;
        self.db
            .transaction(tenant, async |tx| {
                if let Some(customer) = customer {
                    store::save_method(tx, tenant, customer, method, scope.now).await?;
                }
                store::detach_method(tx, tenant, &method.id, scope.now).await
            })
            .await
    }

    /// Takes in which method a customer pays with by default, as of an event: the latest one counts.
    pub async fn note_default(
        &self,
        scope: &TenantScope,
        stripe_customer: &str,
        method: Option<&str>,
        event: (Timestamp, &str),
    ) -> Result<()> {
        let tenant = scope.tenant;
        self.db
            .transaction(tenant, async |tx| {
                store::set_default(tx, tenant, stripe_customer, method, event).await
            })
            .await
    }

    /// Takes in that Stripe's customer was deleted, and its methods with it.
    pub async fn note_deleted(&self, scope: &TenantScope, stripe_customer: &str) -> Result<()> {
        let tenant = scope.tenant;
        self.db
            .transaction(tenant, async |tx| {
                store::delete_customer(tx, tenant, stripe_customer, scope.now).await
            })
            .await
    }
}
