//! The projection of an account: what Redis is told of it.

use std::time::Duration;

use chrono::DateTime;
use domain::Timestamp;
use domain::account::Account;
use domain::id::TenantId;
use hot_balances::{AccountKey, Projection};

pub(crate) fn key(tenant: TenantId, account: &Account) -> AccountKey {
    AccountKey { tenant, customer: account.customer() }
}

/// Accounts that Redis is told of at once: each call has its time-out from when it is sent, and one that waits for
/// hundreds of others would take a busy Redis for one that is away.
pub(crate) const SIDE_BY_SIDE: usize = 32;

/// The longest that a projection is used before it is loaded anew, whatever was published: what a process
/// did not say before it died, it can only have hidden for so long.
pub(crate) const LIFE: Duration = Duration::from_secs(60);

/// Half of that or more: accounts that were loaded together, after Redis was lost, are not all loaded again together.
fn life(account: &Account) -> Duration {
    let [.., random] = account.customer().uuid().into_bytes();
    LIFE - LIFE / 512 * u32::from(random)
}

/// An account as of `now`. The revision says which is newer; `valid_until` says when this one ends
/// by itself.
pub(crate) fn projection(account: &Account, now: Timestamp) -> Projection {
    let life_ends_at = now + life(account);
    let valid_until = account.valid_until(now).map_or(life_ends_at, |boundary| boundary.min(life_ends_at));
    Projection {
        revision: account.revision(),
        version: account.version(),
        available: account.available(now),
        // An account that may not authorize is a miss by any server's clock: PostgreSQL says no.
        valid_until: Some(match account.check_authorizes() {
            Ok(()) => valid_until,
            Err(_) => DateTime::UNIX_EPOCH,
        }),
        refills_at: account.refills_at(),
        cycle_ends_at: account.cycle_ends_at(now),
        exhaustion: account.overflow().exhaustion,
    }
}
