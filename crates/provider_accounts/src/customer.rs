//! Stripe's customer of each of ours.

use db::Result;
use domain::id::{CustomerId, TenantId};
use domain::{TenantScope, Timestamp};
use stripe::Secret;

use crate::{ProviderAccounts, call_failed, store};

impl ProviderAccounts {
    /// Stripe's customer for ours, made the first time that it is needed, and again where it was deleted.
    /// Two at once make one: the key is the customer's id and what came before.
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
        let made = self
            .stripe
            .create_customer(key, tenant, customer, &idempotency_key)
            .await
            .map_err(call_failed)?;
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
