//! How an account goes on without Credits: set, and looked at when a request may not start with them.

use db::{Connection, Result};
use domain::exhaustion::{Exhaustion, Overflow};
use domain::id::{CustomerId, TenantId};
use domain::{Credits, Currency};

use crate::store;

/// What is to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetOverflow {
    /// The tenant's policy where none.
    pub exhaustion: Option<Exhaustion>,
    pub currency: Currency,
    /// The tenant's policy where none.
    pub spend_cap_minor: Option<i64>,
    /// None where no top-up is to buy itself.
    pub top_up_at: Option<Credits>,
}

/// Sets it, and lets top-ups buy themselves again. The caller holds the account's lock.
pub async fn set_overflow(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    set: &SetOverflow,
) -> Result<()> {
    store::set_overflow(tx, tenant, customer, set).await
}

/// How it is, unlocked; none where there is no such customer.
pub async fn overflow(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
) -> Result<Option<Overflow>> {
    store::overflow(tx, tenant, customer).await
}
