//! Opens customers' credit accounts, and lets a test tenant's time begin.

use db::{Connection, Result};
use domain::id::{CustomerId, TenantId};
use domain::{Refusal, Timestamp};

use crate::store;

/// Inserts the account's row, in the transaction that makes the customer: there is no first touch
/// to race about later (R-35a).
pub async fn open(tx: &mut Connection, tenant: TenantId, customer: CustomerId, now: Timestamp) -> Result<()> {
    store::insert_account(tx, tenant, customer, now).await
}

/// Lets a test tenant's time begin at `clock_at`: accounts without a transfer follow, even into the
/// past. Refused with `clock-moves-back` where something was recorded after it: recorded time never
/// falls.
pub async fn begin_clock(tx: &mut Connection, tenant: TenantId, clock_at: Timestamp) -> Result<()> {
    if store::has_transfers_after(tx, tenant, clock_at).await? {
        return Err(Refusal::ClockMovesBack.into());
    }
    store::rewind_accounts(tx, tenant, clock_at).await
}
