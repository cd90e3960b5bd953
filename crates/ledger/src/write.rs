//! The third beat: write.

use db::{Connection, Result};
use domain::Timestamp;
use domain::account::Account;
use domain::id::TenantId;

use crate::{Accounts, store};

/// Stores what was posted to the accounts since they were locked: transfers, new and changed
/// grants, balances, who is suspended. `now` is when the new grants count as made.
pub async fn write(tx: &mut Connection, tenant: TenantId, accounts: &Accounts, now: Timestamp) -> Result<()> {
    let all: Vec<&Account> = accounts.iter().filter(|account| account.is_changed()).collect();
    store::insert_transfers(tx, tenant, &all).await?;
    store::insert_grants(tx, tenant, &all, now).await?;
    store::update_grants(tx, tenant, &all).await?;
    store::update_accounts(tx, tenant, &all).await?;
    // Seldom any, of either.
    let other: Vec<&Account> = all.into_iter().filter(|account| account.has_other_standing()).collect();
    store::update_standing(tx, tenant, &other, now).await?;
    let other: Vec<&Account> = accounts.iter().filter(|account| account.has_other_overflow()).collect();
    store::update_overflows(tx, tenant, &other).await
}
