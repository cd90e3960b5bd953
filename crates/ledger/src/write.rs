//! The third beat: write.

use db::{Connection, Result};
use domain::Timestamp;
use domain::account::Account;
use domain::id::TenantId;
use futures_util::try_join;

use crate::{Accounts, Writer, store};

/// Stores what was posted to the accounts since they were locked: transfers, new and changed
/// grants, balances, who is suspended. `now` is when the new grants count as made. Takes the connection as one that is
/// shared: what else has to be written can be sent at the same time. Answers who has written the accounts, if any.
pub async fn write(
    tx: &Connection,
    tenant: TenantId,
    accounts: &Accounts,
    now: Timestamp,
) -> Result<Option<Writer>> {
    let all: Vec<&Account> = accounts.iter().filter(|account| account.is_changed()).collect();
    // One round trip: none of them needs what another one answers.
    let ((), (), (), writer) = try_join!(
        store::insert_transfers(tx, tenant, &all),
        store::insert_grants(tx, tenant, &all, now),
        store::update_grants(tx, tenant, &all),
        store::update_accounts(tx, tenant, &all),
    )?;
    // Seldom any, of either.
    let other: Vec<&Account> = all.into_iter().filter(|account| account.has_other_standing()).collect();
    store::update_standing(tx, tenant, &other, now).await?;
    let other: Vec<&Account> = accounts.iter().filter(|account| account.has_other_overflow()).collect();
    store::update_overflows(tx, tenant, &other).await?;
    Ok(writer)
}
