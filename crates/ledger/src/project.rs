//! The projection of an account: what Redis is told of it.

use chrono::Duration;
use domain::Timestamp;
use domain::account::Account;
use domain::id::TenantId;
use hot_balances::{AccountKey, Projection};

pub(crate) fn key(tenant: TenantId, account: &Account) -> AccountKey {
    AccountKey { tenant, customer: account.customer() }
}

/// How long a projection is used before it is loaded anew, whatever was published: what a process
/// did not say before it died, it can only have hidden for so long.
const LIFE: Duration = Duration::seconds(60);

/// An account as of `now`. The version says which is newer; `valid_until` says when this one ends
/// by itself.
pub(crate) fn projection(account: &Account, now: Timestamp) -> Projection {
    Projection {
        version: account.version(),
        available: account.available(now),
        valid_until: Some(account.valid_until(now).map_or(now + LIFE, |boundary| boundary.min(now + LIFE))),
        refills_at: account.refills_at(),
        cycle_ends_at: account.cycle_ends_at(now),
    }
}
