//! Ways for a customer to save a payment method: the storefront's own form, or Stripe's page.

use std::collections::HashMap;

use serde::Deserialize;
use stripe_checkout::checkout_session::{
    CreateCheckoutSession, CreateCheckoutSessionAllowedPaymentMethodTypes,
};
use stripe_core::setup_intent::{CreateSetupIntent, CreateSetupIntentUsage, RetrieveSetupIntent};
use stripe_shared::{CheckoutSessionMode, SetupIntentAllowedPaymentMethodTypes};

use domain::id::{CustomerId, TenantId};

use crate::intent::{CUSTOMER, IdOr, TENANT};
use crate::method::Named;
use crate::{CallError, Secret, Stripe};

/// What a storefront's form saves a card with.
#[derive(Debug, Clone, Deserialize)]
pub struct SetupSecret {
    /// The setup intent.
    pub id: String,
    pub client_secret: String,
}

/// A page of Stripe's on which the customer saves a card.
#[derive(Debug, Clone, Deserialize)]
pub struct CheckoutPage {
    /// The checkout session.
    pub id: String,
    pub url: String,
}

#[derive(Deserialize)]
struct SetupIntent {
    payment_method: Option<IdOr<Named>>,
}

fn metadata(tenant: TenantId, customer: CustomerId) -> HashMap<String, String> {
    [(TENANT.to_owned(), tenant.to_string()), (CUSTOMER.to_owned(), customer.to_string())].into()
}

impl Stripe {
    /// Begins to save a method in the storefront's own form.
    pub async fn begin_setup(
        &self,
        key: &Secret,
        tenant: TenantId,
        customer: CustomerId,
        stripe_customer: &str,
        idempotency_key: &str,
    ) -> Result<SetupSecret, CallError> {
        let create = CreateSetupIntent::new()
            .customer(stripe_customer)
            .allowed_payment_method_types([SetupIntentAllowedPaymentMethodTypes::Card])
            .usage(CreateSetupIntentUsage::OffSession)
            .metadata(metadata(tenant, customer));
        self.call(key, &create, Some(idempotency_key)).await
    }

    /// Opens a page of Stripe's that saves a method and then leads to `success_url`.
    pub async fn open_checkout(
        &self,
        key: &Secret,
        tenant: TenantId,
        customer: CustomerId,
        stripe_customer: &str,
        urls: (&str, &str),
        idempotency_key: &str,
    ) -> Result<CheckoutPage, CallError> {
        let (success_url, cancel_url) = urls;
        let create = CreateCheckoutSession::new()
            .mode(CheckoutSessionMode::Setup)
            .customer(stripe_customer)
            .allowed_payment_method_types([CreateCheckoutSessionAllowedPaymentMethodTypes::Card])
            .success_url(success_url)
            .cancel_url(cancel_url)
            .metadata(metadata(tenant, customer));
        self.call(key, &create, Some(idempotency_key)).await
    }

    /// The method that a setup intent has saved, if any yet.
    pub async fn saved_by(&self, key: &Secret, setup_intent: &str) -> Result<Option<String>, CallError> {
        let found: SetupIntent = self.call(key, &RetrieveSetupIntent::new(setup_intent), None).await?;
        Ok(found.payment_method.map(IdOr::id))
    }
}
