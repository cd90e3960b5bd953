//! Loads all balances into Redis again, after this server has found it back and empty.

use db::Result;
use ledger::Ledger;
use tenants::Tenants;

/// Goes on until it is dropped. Requests do not wait for it: what is not loaded yet is loaded when it is
/// asked for.
pub(crate) async fn refill_when_lost(ledger: Ledger, tenants: Tenants) {
    loop {
        ledger.redis_was_lost().await;
        match refill(&ledger, &tenants).await {
            Ok(accounts) => tracing::info!(accounts, "balances were loaded into Redis"),
            Err(error) => tracing::warn!(%error, "balances are loaded as they are asked for"),
        }
    }
}

async fn refill(ledger: &Ledger, tenants: &Tenants) -> Result<u64> {
    let mut accounts = 0;
    for tenant in tenants.list().await? {
        accounts += ledger.refill(&tenants.scope(tenant.id).await?).await?;
    }
    Ok(accounts)
}
