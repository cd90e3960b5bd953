//! The fifth beat: publish, after the commit.

use std::collections::BTreeMap;

use db::Result;
use domain::id::{CustomerId, ExternalId, TenantId};
use domain::{TenantScope, Timestamp};
use futures_util::future::try_join_all;
use hot_balances::Told;

use crate::{Accounts, Ledger, lock, project};

impl Ledger {
    /// Tells Redis an account as it is stored now: for the repeat of a request whose first try may
    /// have died between its commit and its publishing. Refused: `not-found`.
    pub async fn republish(&self, scope: &TenantScope, customer: CustomerId) -> Result<()> {
        let tenant = scope.tenant;
        let accounts = self.db.transaction(tenant, async |tx| lock(tx, tenant, &[customer]).await).await?;
        self.publish(tenant, &accounts, scope.now).await;
        Ok(())
    }

    /// Tells Redis the committed balances. Never fails: a Redis that cannot be told is away, for all
    /// servers, and what it has of this epoch is not used again.
    pub async fn publish(&self, tenant: TenantId, accounts: &Accounts, now: Timestamp) {
        self.publish_captures(tenant, accounts, &BTreeMap::new(), now).await;
    }

    /// The same, and ends the holds that this change captured.
    pub async fn publish_captures(
        &self,
        tenant: TenantId,
        accounts: &Accounts,
        captured: &BTreeMap<CustomerId, Vec<ExternalId>>,
        now: Timestamp,
    ) {
        let told = async {
            let Some(epoch) = self.gate.epoch_in_redis(&self.db, &self.hot).await? else { return Ok(()) };
            // Side by side on the one connection, which sends them as they come.
            let publishing = accounts.iter().map(async |account| {
                let key = project::key(tenant, account);
                let ended = captured.get(&account.customer()).map(Vec::as_slice).unwrap_or_default();
                self.hot.publish(key, epoch, &project::projection(account, now), ended).await
            });
            match try_join_all(publishing).await {
                Ok(told) if told.contains(&Told::Lost) => self.gate.redis_is_lost(&self.db, epoch).await,
                Ok(_) => Ok(()),
                Err(away) => self.gate.redis_is_away(&self.db, epoch, &away).await,
            }
        };
        if let Err(error) = told.await {
            tracing::warn!(%error, "committed balances were not published");
        }
    }
}
