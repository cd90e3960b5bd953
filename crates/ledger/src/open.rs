//! Opens a customer's credit account.

use db::{Connection, Result};
use domain::Timestamp;
use domain::id::{CustomerId, TenantId};

use crate::store;

/// Inserts the account's row, in the transaction that makes the customer: there is no first touch
/// to race about later (R-35a).
pub async fn open(tx: &mut Connection, tenant: TenantId, customer: CustomerId, now: Timestamp) -> Result<()> {
    store::insert_account(tx, tenant, customer, now).await
}
