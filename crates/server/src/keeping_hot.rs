//! What a server does about Redis besides answering: at its start it records the holds of one that died, and
//! it loads all balances again after it has found Redis back and empty.

use db::Result;
use ledger::{Ledger, Refill};
use tenants::Tenants;

/// Goes on until it is dropped. Requests do not wait for it: what is not loaded yet is loaded when it is
/// asked for.
pub(crate) async fn keep_hot(ledger: Ledger, tenants: Tenants) {
    match adopt(&ledger, &tenants).await {
        Ok(0) => {}
        Ok(holds) => tracing::info!(holds, "recent holds were recorded, in case the server before this died"),
        Err(error) => tracing::warn!(%error, "recent holds were not looked through"),
    }
    loop {
        ledger.redis_was_lost().await;
        match refill(&ledger, &tenants).await {
            Ok(accounts) => tracing::info!(accounts, "balances were loaded into Redis"),
            Err(error) => tracing::warn!(%error, "balances are loaded as they are asked for"),
        }
    }
}

async fn adopt(ledger: &Ledger, tenants: &Tenants) -> Result<usize> {
    let mut holds = 0;
    for tenant in tenants.list().await? {
        holds += ledger.adopt(&tenants.scope(tenant.id).await?).await?;
    }
    Ok(holds)
}

async fn refill(ledger: &Ledger, tenants: &Tenants) -> Result<u64> {
    let mut accounts = 0;
    for tenant in tenants.list().await? {
        accounts += ledger.refill(&tenants.scope(tenant.id).await?, Refill::Missing).await?;
    }
    Ok(accounts)
}
