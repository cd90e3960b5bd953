//! Parks an account that something is wrong with: it spends nothing until an operator has looked at it.

use db::Result;
use domain::TenantScope;
use domain::id::CustomerId;

use crate::{Ledger, lock, store};

impl Ledger {
    /// Parks an account: from now on no authorization is granted, and its usage is kept. Grants,
    /// payments and the rollover go on. The first reason stays. Says whether it was not parked before.
    /// Refused: `not-found`.
    pub async fn park(&self, scope: &TenantScope, customer: CustomerId, reason: &str) -> Result<bool> {
        self.set_parked(scope, customer, Some(reason)).await
    }

    /// Lets a parked account spend again; whoever asks for it charges the usage that was kept. Says whether
    /// it was parked. Refused: `not-found`.
    pub async fn unpark(&self, scope: &TenantScope, customer: CustomerId) -> Result<bool> {
        self.set_parked(scope, customer, None).await
    }

    async fn set_parked(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        reason: Option<&str>,
    ) -> Result<bool> {
        let (tenant, now) = (scope.tenant, scope.now);
        let (is_changed, accounts) = self
            .db
            .transaction(tenant, async |tx| {
                let is_changed = match reason {
                    Some(reason) => store::park(tx, tenant, customer, reason, now).await?,
                    None => store::unpark(tx, tenant, customer).await?,
                };
                let mut accounts = lock(tx, tenant, &[customer]).await?;
                accounts.get_mut(customer)?;
                Ok((is_changed, accounts))
            })
            .await?;
        // Also where nothing was changed: the first try may have died before it could tell.
        self.publish(tenant, &accounts, now).await;
        Ok(is_changed)
    }
}
