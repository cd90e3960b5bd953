//! Mints a token for a customer.

use std::time::Duration;

use chrono::TimeDelta;
use db::{Error, Result};
use domain::id::CustomerId;
use domain::{Refusal, TenantScope, Timestamp};

use crate::settings::real_now;
use crate::token::{LIFE_SECONDS_MAX, LIFE_SECONDS_MIN};
use crate::{Tenants, store};

/// A token just minted; it is not kept.
pub struct CustomerToken {
    pub token: String,
    /// In real time, for a tenant with a test clock too.
    pub expires_at: Timestamp,
}

impl Tenants {
    /// Mints a token that lets the customer read its own affairs for `life`, whole seconds of real
    /// time, 1 minute to 24 hours. It cannot be revoked. Refused with `invalid-field` (of
    /// `/ttl_seconds`) or `not-found`.
    pub async fn mint_customer_token(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        life: Duration,
    ) -> Result<CustomerToken> {
        let life_seconds = life.as_secs();
        if !(LIFE_SECONDS_MIN..=LIFE_SECONDS_MAX).contains(&life_seconds) {
            return Err(Refusal::invalid_field("/ttl_seconds", "out-of-range").into());
        }
        let tenant = scope.tenant;
        self.db
            .transaction(tenant, async |tx| store::customer(tx, tenant, customer).await)
            .await?
            .ok_or(Refusal::NotFound { what: "customer" })?;
        // What the token can say: whole seconds.
        let now = real_now();
        let issued_at = Timestamp::from_timestamp(now.timestamp(), 0).unwrap_or(now);
        let life = TimeDelta::from_std(Duration::from_secs(life_seconds))
            .map_err(|error| Error::Fault(Box::new(error)))?;
        let token = self.token_key.sign(tenant, customer, issued_at, life_seconds)?;
        Ok(CustomerToken { token, expires_at: issued_at + life })
    }
}
