//! Parks an account that something is wrong with: it spends nothing until an operator has looked at it.

use db::{Connection, Result};
use domain::TenantScope;
use domain::id::CustomerId;

use crate::{Accounts, Ledger, lock, store};

/// Parks an account in the caller's transaction: from its commit on no authorization is granted, and its
/// usage is kept. Grants, payments and the rollover go on. The first reason stays. Says whether it
/// was not parked before, and what to publish after the commit. Refused: `not-found`.
pub async fn park(
    tx: &mut Connection,
    scope: &TenantScope,
    customer: CustomerId,
    reason: &str,
) -> Result<(bool, Accounts)> {
    let is_changed = store::park(tx, scope.tenant, customer, reason, scope.now).await?;
    Ok((is_changed, locked(tx, scope, customer).await?))
}

/// Lets a parked account spend again; whoever asks for it charges the usage that was kept. Says whether
/// it was parked, and what to publish after the commit. Refused: `not-found`.
pub async fn unpark(
    tx: &mut Connection,
    scope: &TenantScope,
    customer: CustomerId,
) -> Result<(bool, Accounts)> {
    let is_changed = store::unpark(tx, scope.tenant, customer).await?;
    Ok((is_changed, locked(tx, scope, customer).await?))
}

async fn locked(tx: &mut Connection, scope: &TenantScope, customer: CustomerId) -> Result<Accounts> {
    let mut accounts = lock(tx, scope.tenant, &[customer]).await?;
    accounts.get_mut(customer)?;
    Ok(accounts)
}

impl Ledger {
    /// [`park`] in a transaction of its own.
    pub async fn park(&self, scope: &TenantScope, customer: CustomerId, reason: &str) -> Result<bool> {
        let park = async |tx: &mut Connection| park(tx, scope, customer, reason).await;
        let (is_changed, accounts) = self.db.transaction(scope.tenant, park).await?;
        // Also where nothing was changed: the first try may have died before it could tell.
        self.publish(scope.tenant, &accounts, scope.now).await?;
        Ok(is_changed)
    }

    /// [`unpark`] in a transaction of its own.
    pub async fn unpark(&self, scope: &TenantScope, customer: CustomerId) -> Result<bool> {
        let unpark = async |tx: &mut Connection| unpark(tx, scope, customer).await;
        let (is_changed, accounts) = self.db.transaction(scope.tenant, unpark).await?;
        self.publish(scope.tenant, &accounts, scope.now).await?;
        Ok(is_changed)
    }
}
