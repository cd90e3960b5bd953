//! Loads all accounts into Redis again, after it has lost them: in pages, while requests go on and load those that they miss.

use std::collections::BTreeMap;
use std::time::Duration;

use db::{Connection, Locked, Result};
use domain::id::{CustomerId, TenantId};
use domain::{TenantScope, Timestamp};
use futures_util::future::try_join_all;
use hot_balances::{AccountKey, Away, Epoch, Peeked};

use crate::hot_gate::{Decider, Lease};
use crate::load::{Loaded, Wanted};
use crate::{Ledger, store};

/// Accounts that are looked for at once.
const PAGE: i64 = 500;
/// Parts of a page that are locked, read and loaded at the same time, each in a transaction.
const PARTS: usize = 2;

enum Page {
    Loaded {
        last: CustomerId,
        accounts: u64,
    },
    /// There are no more.
    End,
    /// Redis went away again.
    Gone,
}

/// Which accounts a refill loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refill {
    /// Those that Redis does not have: requests have loaded the others.
    Missing,
    /// All, whatever Redis has.
    All,
}

/// How often a refill looks whether Redis decides, once it is back.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Ledger {
    /// Returns when this server has found Redis back and empty: time to [`refill`](Ledger::refill) it.
    pub async fn redis_was_lost(&self) {
        self.gate.begun().await;
    }

    /// Loads the accounts of a tenant that may authorize into Redis, and says how many. Ends early where Redis goes away: what is
    /// not loaded then is loaded when it is asked for.
    pub async fn refill(&self, scope: &TenantScope, which: Refill) -> Result<u64> {
        let Some(first) = self.first_lease().await? else { return Ok(0) };
        let mut loaded = 0;
        let mut after = None;
        let mut lease = first;
        while lease.epoch == first.epoch {
            match self.refill_page(scope, which, lease.epoch, after).await? {
                Page::Loaded { last, accounts } => {
                    loaded += accounts;
                    after = Some(last);
                }
                Page::End | Page::Gone => break,
            }
            let Decider::Redis(current) = self.gate.decider(&self.db, &self.hot).await? else { break };
            lease = current;
        }
        Ok(loaded)
    }

    /// Waits until Redis decides, where it is up: for as long as PostgreSQL decides still, what Redis is
    /// told of an account's holds would not stay complete.
    pub(crate) async fn first_lease(&self) -> Result<Option<Lease>> {
        loop {
            if let Decider::Redis(lease) = self.gate.decider(&self.db, &self.hot).await? {
                return Ok(Some(lease));
            }
            if self.gate.last_seen().is_none_or(|(_, is_up)| !is_up) {
                return Ok(None);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn refill_page(
        &self,
        scope: &TenantScope,
        which: Refill,
        epoch: Epoch,
        after: Option<CustomerId>,
    ) -> Result<Page> {
        let (tenant, now) = (scope.tenant, scope.now);
        let page = async |tx: &mut Connection| store::accounts_page(tx, tenant, after, PAGE).await;
        let customers = self.db.transaction(tenant, page).await?;
        let Some(last) = customers.last().copied() else { return Ok(Page::End) };
        let customers = match which {
            Refill::All => customers,
            Refill::Missing => match self.missing(tenant, epoch, customers, now).await {
                Ok(missing) => missing,
                Err(away) => {
                    self.gate.redis_is_away(&self.db, epoch, &away).await?;
                    return Ok(Page::Gone);
                }
            },
        };
        let wanted =
            customers.into_iter().map(|customer| Wanted { customer, now, is_loaded: false, hold: None });
        let wanted: Vec<Wanted> = wanted.collect();
        let parts = wanted.chunks(wanted.len().div_ceil(PARTS).max(1));
        let loading = parts.map(|part| self.load_accounts(tenant, epoch, part, Locked::Wait));
        let loaded = try_join_all(loading).await?;
        let mut accounts = 0;
        for of_account in loaded.iter().flat_map(BTreeMap::values) {
            match of_account {
                Loaded::Done => accounts += 1,
                Loaded::Refused(_) | Loaded::Passed => {}
                Loaded::Lost => {
                    self.gate.redis_is_emptied(&self.db, epoch).await?;
                    return Ok(Page::Gone);
                }
                Loaded::Away(away) => {
                    self.gate.redis_is_away(&self.db, epoch, away).await?;
                    return Ok(Page::Gone);
                }
            }
        }
        Ok(Page::Loaded { last, accounts })
    }

    /// Those of these customers whose accounts Redis would not decide about.
    async fn missing(
        &self,
        tenant: TenantId,
        epoch: Epoch,
        customers: Vec<CustomerId>,
        now: Timestamp,
    ) -> std::result::Result<Vec<CustomerId>, Away> {
        let keys: Vec<AccountKey> =
            customers.iter().map(|customer| AccountKey { tenant, customer: *customer }).collect();
        let here = self.hot.peek(epoch, &keys).await?;
        let is_here = |here: &Peeked| {
            here.is_signed && here.projection.valid_until.is_none_or(|valid_until| valid_until > now)
        };
        let missing = customers.into_iter().zip(here).filter(|(_, here)| !here.as_ref().is_some_and(is_here));
        Ok(missing.map(|(customer, _)| customer).collect())
    }
}
