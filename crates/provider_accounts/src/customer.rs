//! Stripe's customer of each of ours.

use db::Result;
use domain::id::{CustomerId, TenantId};
use domain::{TenantScope, Timestamp};
use stripe::{CallError, Secret};
use uuid::Uuid;

use crate::{ProviderAccounts, call_failed, store};

impl ProviderAccounts {
    /// Stripe's customer for ours, made the first time that it is needed, and again where it was deleted.
    /// Two at once use one: what is stored first counts.
    pub(crate) async fn stripe_customer(
        &self,
        key: &Secret,
        tenant: TenantId,
        customer: CustomerId,
        now: Timestamp,
    ) -> Result<String> {
        let known =
            self.db.transaction(tenant, async |tx| store::customer(tx, tenant, customer).await).await?;
        let idempotency_key = match known {
            Some(store::Known { provider_customer, is_deleted: false }) => return Ok(provider_customer),
            Some(store::Known { provider_customer, is_deleted: true }) => {
                format!("{customer}/{provider_customer}")
            }
            None => customer.to_string(),
        };
        let stripe = &self.stripe;
        let made = match stripe.create_customer(key, tenant, customer, &idempotency_key).await {
            // Stripe keeps a 500 for its key as any answer. A customer too many at Stripe costs nothing;
            // one that can never be made would.
            Err(CallError::Unknown(reason)) => {
                tracing::warn!(%customer, reason, "making a customer again at Stripe");
                let fresh = format!("{idempotency_key}/{}", Uuid::now_v7());
                stripe.create_customer(key, tenant, customer, &fresh).await
            }
            made => made,
        };
        let made = made.map_err(call_failed)?;
        self.db
            .transaction(tenant, async |tx| store::set_customer(tx, tenant, customer, &made, now).await)
            .await
    }

    /// Whose Stripe's customer is; `None` where it is none of ours.
    pub async fn customer_of(
        &self,
        scope: &TenantScope,
        stripe_customer: &str,
    ) -> Result<Option<CustomerId>> {
        let tenant = scope.tenant;
        self.db.transaction(tenant, async |tx| store::customer_of(tx, tenant, stripe_customer).await).await
    }
}
