//! Loads an account into Redis after a miss: once, however many requests miss it at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use db::Result;
use domain::TenantScope;
use domain::id::{CustomerId, ExternalId};
use hot_balances::{AccountKey, Epoch, FillHolds, Filled};
use tokio::sync::OwnedMutexGuard;

use crate::hold::Hot;
use crate::{Ledger, lock, project, store};

/// The accounts that are being loaded by this server.
#[derive(Debug, Default)]
pub(crate) struct Loads(Mutex<HashMap<AccountKey, Arc<tokio::sync::Mutex<()>>>>);

impl Loads {
    /// Waits for its turn to load an account; the turn ends when the guard is dropped.
    pub(crate) async fn turn(&self, account: AccountKey) -> OwnedMutexGuard<()> {
        let turns = {
            let mut loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody waits for or has are done with.
            if loads.len() > LOADS_KEPT {
                loads.retain(|_, turns| Arc::strong_count(turns) > 1);
            }
            loads.entry(account).or_default().clone()
        };
        turns.lock_owned().await
    }
}

/// Finished loads that are kept before they are tidied away.
const LOADS_KEPT: usize = 1_024;

impl Ledger {
    /// Loads an account: its balance, and, where Redis has nothing of it in this epoch, the live holds
    /// that were granted before. `asked_for` may have ended before: its id is not free again.
    pub(crate) async fn load(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        epoch: Epoch,
        is_loaded: bool,
        asked_for: Option<&ExternalId>,
    ) -> Result<Hot<()>> {
        let (tenant, now) = (scope.tenant, scope.now);
        let (key, projection, holds) = self
            .db
            .transaction(tenant, async |tx| {
                let mut accounts = lock(tx, tenant, &[customer]).await?;
                let account = accounts.get_mut(customer)?;
                account.check_authorizes()?;
                let mut holds = Vec::new();
                if !is_loaded {
                    holds = self.holds_for_redis(tx, tenant, &[customer], epoch, now).await?;
                    if let Some(id) = asked_for {
                        let known = store::hold(tx, tenant, customer, id).await?;
                        let is_recorded = known.is_some() || holds.iter().any(|known| known.hold.id == *id);
                        holds.extend(known.filter(|known| known.end.is_some()));
                        if !is_recorded {
                            let key = AccountKey { tenant, customer };
                            let left = store::hot_state(tx).await?.left;
                            holds.extend(self.left_behind(key, (epoch, left), id, now).await);
                        }
                    }
                }
                Ok((project::key(tenant, account), project::projection(account, now), holds))
            })
            .await?;
        let holds = if is_loaded { FillHolds::Besides(&holds) } else { FillHolds::All(&holds) };
        Ok(match self.hot.fill(key, epoch, &projection, holds).await {
            Ok(Filled::Done) => Hot::Decided(()),
            Ok(Filled::Lost) => Hot::Lost,
            Err(away) => Hot::Away(away),
        })
    }
}
