//! Tells Redis of accounts in use once more before their projections run out, some dozens at once: so their requests seldom
//! have to wait until they are loaded again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use db::Locked;
use domain::Timestamp;
use domain::id::{CustomerId, TenantId};
use hot_balances::AccountKey;
use lanes::{Caller, Lanes};

use crate::Ledger;
use crate::lock::lock_unless;

/// How long before its end a projection in use is told anew.
const AHEAD: TimeDelta = TimeDelta::seconds(10);
/// How long they gather: nobody waits for them.
const GATHER: Duration = Duration::from_millis(100);
/// The most accounts in one transaction.
const ACCOUNTS_AT_ONCE: usize = 64;
/// Ends that are remembered. Where one is forgotten, its account is told once more than it had to be.
const ENDS_MAX: usize = 65_536;

/// An account in use, and the tenant's time at which it was.
pub(crate) struct InUse {
    customer: CustomerId,
    now: Timestamp,
    end: Timestamp,
}

/// The accounts that are to be told anew.
pub(crate) struct Retelling {
    lanes: Arc<Lanes<TenantId, InUse>>,
    /// The last end of each account's projection that was seen to come: each is seen to once.
    ends: Mutex<HashMap<AccountKey, Timestamp>>,
}

impl Default for Retelling {
    fn default() -> Retelling {
        Retelling { lanes: Lanes::new(1, ACCOUNTS_AT_ONCE), ends: Mutex::default() }
    }
}

impl Retelling {
    fn is_first_to_see(&self, account: AccountKey, end: Timestamp) -> bool {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.len() == ENDS_MAX {
            ends.clear();
        }
        ends.insert(account, end) != Some(end)
    }
}

impl Ledger {
    /// Has an account in use told anew, where its projection ends soon.
    pub(crate) fn retell_in_time(&self, account: AccountKey, valid_until: Option<Timestamp>, now: Timestamp) {
        let Some(end) = valid_until.filter(|end| *end - now < AHEAD) else { return };
        if !self.retelling.is_first_to_see(account, end) {
            return;
        }
        let in_use = InUse { customer: account.customer, now, end };
        if let Some(caller) = self.retelling.lanes.wait(account.tenant, in_use) {
            tokio::spawn(self.clone().retell(caller));
        }
    }

    async fn retell(self, mut caller: Caller<TenantId, InUse>) {
        let tenant = caller.key();
        let mut has_more = false;
        loop {
            if !has_more {
                tokio::time::sleep(GATHER).await;
            }
            let Some(in_use) = caller.next_or_leave() else { return };
            has_more = in_use.len() == ACCOUNTS_AT_ONCE;
            let Some(now) = in_use.iter().map(|in_use| in_use.now).max() else { continue };
            // One that has run out already was loaded by whoever missed it.
            let customers = in_use.iter().filter(|in_use| in_use.end > now).map(|in_use| in_use.customer);
            let customers: Vec<CustomerId> = customers.collect();
            // Under their locks: whoever changes one of them, or its standing, tells Redis after this. And who has one locked now
            // will tell of it anyway.
            let told = self.db.transaction(tenant, async |tx| {
                let accounts = lock_unless(tx, tenant, &customers, Locked::Skip).await?;
                Ok(self.tell_once(tenant, &accounts, now).await)
            });
            let why = match told.await {
                Ok(Ok(())) => continue,
                Ok(Err(away)) => away.to_string(),
                Err(error) => error.to_string(),
            };
            tracing::debug!(why, "accounts in use were not told anew; they are loaded when they are missed");
        }
    }
}
