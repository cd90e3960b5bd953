//! The projection of an account: what Redis is told of it.

use domain::Timestamp;
use domain::account::Account;
use domain::id::TenantId;
use hot_balances::{AccountKey, Projection};

pub(crate) fn key(tenant: TenantId, account: &Account) -> AccountKey {
    AccountKey { tenant, customer: account.customer() }
}

/// An account as of `now`. The version says which is newer; `valid_until` says when this one ends
/// by itself.
pub(crate) fn projection(account: &Account, now: Timestamp) -> Projection {
    Projection {
        version: account.version(),
        available: account.available(now),
        valid_until: account.valid_until(now),
        refills_at: account.refills_at(),
    }
}
