//! Lets a customer save a payment method, before anything is bought with it.

use db::Result;
use domain::id::CustomerId;
use domain::{Refusal, TenantScope};
use stripe::{CheckoutPage, SetupSecret};

use crate::{Credentials, ProviderAccounts, call_failed};

impl ProviderAccounts {
    /// Begins to save a method in the storefront's own form. The customer is one of the tenant's. Refused:
    /// `no-payment-provider`.
    pub async fn begin_setup(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        idempotency_key: &str,
    ) -> Result<SetupSecret> {
        let Credentials { secret_key, .. } = self.set_up(scope).await?;
        let stripe_customer = self.stripe_customer(&secret_key, scope.tenant, customer, scope.now).await?;
        let key = format!("{customer}/setup/{idempotency_key}");
        self.stripe
            .begin_setup(&secret_key, scope.tenant, customer, &stripe_customer, &key)
            .await
            .map_err(call_failed)
    }

    /// Opens a page of Stripe's that saves a method. Refused: `no-payment-provider`.
    pub async fn open_checkout(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        success_url: &str,
        cancel_url: &str,
        idempotency_key: &str,
    ) -> Result<CheckoutPage> {
        let Credentials { secret_key, .. } = self.set_up(scope).await?;
        let stripe_customer = self.stripe_customer(&secret_key, scope.tenant, customer, scope.now).await?;
        let key = format!("{customer}/checkout/{idempotency_key}");
        let urls = (success_url, cancel_url);
        self.stripe
            .open_checkout(&secret_key, scope.tenant, customer, &stripe_customer, urls, &key)
            .await
            .map_err(call_failed)
    }

    async fn set_up(&self, scope: &TenantScope) -> Result<Credentials> {
        self.credentials(scope.tenant).await?.ok_or_else(|| Refusal::NoPaymentProvider.into())
    }
}
