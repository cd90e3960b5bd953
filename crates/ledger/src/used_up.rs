//! Whether an account was used up, as the alert of a depleted balance says: what comes next is its recovery.

use db::{Connection, Result};
use domain::Timestamp;
use domain::account::{Account, CauseKind};
use domain::id::TenantId;

use crate::store;

/// Whether nothing is left of an account that the caller has locked, and usage took the last of it. No round trip, or one
/// where what is loaded does not say so.
pub async fn is_used_up(
    tx: &mut Connection,
    tenant: TenantId,
    account: &Account,
    now: Timestamp,
) -> Result<bool> {
    match account.is_used_up(now) {
        Some(is_used_up) => Ok(is_used_up),
        None => Ok(store::last_taken_by(tx, tenant, account.customer()).await? == Some(CauseKind::Usage)),
    }
}
