//! Loads all accounts into Redis again, after it has lost them: in pages, while requests go on.

use std::collections::BTreeMap;
use std::time::Duration;

use db::Result;
use domain::TenantScope;
use domain::id::CustomerId;
use futures_util::future::try_join_all;
use hot_balances::{Epoch, FillHolds, Filled, KnownHold};

use crate::hot_gate::{Decider, Lease};
use crate::{Ledger, lock, project, store};

/// Accounts that are locked, read and loaded together.
const PAGE: i64 = 500;

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

/// How often a refill looks whether Redis decides, once it is back.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Ledger {
    /// Returns when this server has found Redis back and empty: time to [`refill`](Ledger::refill) it.
    pub async fn redis_was_lost(&self) {
        self.gate.begun().await;
    }

    /// Loads every account of a tenant into Redis and says how many. Ends early where Redis goes away:
    /// what is not loaded then is loaded when it is asked for.
    pub async fn refill(&self, scope: &TenantScope) -> Result<u64> {
        let Some(first) = self.first_lease().await? else { return Ok(0) };
        let mut loaded = 0;
        let mut after = None;
        let mut lease = first;
        while lease.epoch == first.epoch {
            match self.refill_page(scope, lease.epoch, after).await? {
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
        epoch: Epoch,
        after: Option<CustomerId>,
    ) -> Result<Page> {
        let (tenant, now) = (scope.tenant, scope.now);
        let (accounts, holds) = self
            .db
            .transaction(tenant, async |tx| {
                let page = store::accounts_page(tx, tenant, after, PAGE).await?;
                let accounts = lock(tx, tenant, &page).await?;
                let mut holds: BTreeMap<CustomerId, Vec<KnownHold>> = BTreeMap::new();
                for known in self.holds_for_redis(tx, tenant, &page, epoch, now).await? {
                    holds.entry(known.hold.customer).or_default().push(known);
                }
                Ok((accounts, holds))
            })
            .await?;
        let Some(last) = accounts.iter().map(|account| account.customer()).last() else {
            return Ok(Page::End);
        };
        let accounts: Vec<_> = accounts.iter().collect();
        for some in accounts.chunks(project::SIDE_BY_SIDE) {
            let filling = some.iter().map(async |account| {
                let held = holds.get(&account.customer()).map(Vec::as_slice).unwrap_or_default();
                let key = project::key(tenant, account);
                self.hot.fill(key, epoch, &project::projection(account, now), FillHolds::All(held)).await
            });
            match try_join_all(filling).await {
                Ok(filled) if filled.contains(&Filled::Lost) => {
                    self.gate.redis_is_emptied(&self.db, epoch).await?;
                    return Ok(Page::Gone);
                }
                Ok(_) => {}
                Err(away) => {
                    self.gate.redis_is_away(&self.db, epoch, &away).await?;
                    return Ok(Page::Gone);
                }
            }
        }
        Ok(Page::Loaded { last, accounts: accounts.len().try_into().unwrap_or(u64::MAX) })
    }
}
