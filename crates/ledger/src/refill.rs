//! Loads all accounts into Redis again, after it has lost them: in pages, while requests go on.

use std::time::Duration;

use db::{Connection, Result};
use domain::TenantScope;
use domain::id::CustomerId;
use hot_balances::Epoch;

use crate::hot_gate::{Decider, Lease};
use crate::load::{Loaded, Wanted};
use crate::lock::Locked;
use crate::{Ledger, store};

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

    /// Loads every account of a tenant that may authorize into Redis and says how many. Ends early where Redis goes away:
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
        let page = async |tx: &mut Connection| store::accounts_page(tx, tenant, after, PAGE).await;
        let customers = self.db.transaction(tenant, page).await?;
        let Some(last) = customers.last().copied() else { return Ok(Page::End) };
        let wanted = customers.iter().map(|customer| Wanted {
            customer: *customer,
            now,
            is_loaded: false,
            hold: None,
        });
        let wanted: Vec<Wanted> = wanted.collect();
        let loaded = self.load_accounts(tenant, epoch, &wanted, Locked::Wait).await?;
        let mut accounts = 0;
        for of_account in loaded.values() {
            match of_account {
                Loaded::Done => accounts += 1,
                Loaded::Refused(_) => {}
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
}
