//! What is left: settled, held and available.

use db::{Connection, Result};
use domain::account::Books;
use domain::id::{CustomerId, TenantId};
use domain::{Credits, TenantScope, Timestamp};
use hot_balances::AccountKey;

use crate::{Ledger, lock, store};

/// A customer's Credits at an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    pub version: i64,
    /// What the live grants have left.
    pub settled: Credits,
    /// What live holds set aside.
    pub held: Credits,
    /// max(0, settled - held): what the next authorization can get.
    pub available: Credits,
    /// All the live grants were made with: `used` of it is `granted - settled`.
    pub granted: Credits,
    /// When the first of the live grants ends.
    pub expires_next_at: Option<Timestamp>,
    /// When the pool fills again (R-33a).
    pub resets_at: Option<Timestamp>,
    pub books: Books,
}

/// The version of a customer's account: what every answer that changes something carries (R-35a).
pub async fn version(tx: &mut Connection, tenant: TenantId, customer: CustomerId) -> Result<i64> {
    store::version(tx, tenant, customer).await
}

impl Ledger {
    /// Reads a balance from PostgreSQL; what is held, from whoever decides about holds. Refused: `not-found`.
    pub async fn balance(&self, scope: &TenantScope, customer: CustomerId) -> Result<Balance> {
        let held_hot = self.held_hot(scope, customer).await?;
        let (tenant, now) = (scope.tenant, scope.now);
        let (balance, accounts) = self
            .db
            .transaction(tenant, async |tx| {
                // Locked for a moment: the books, the grants and the holds are of one version.
                let mut accounts = lock(tx, tenant, &[customer]).await?;
                let account = accounts.get_mut(customer)?;
                // While this request waited for the lock, another may have recorded a grant that is effective
                // by a later clock: the balance of a version is never that of the one before (R-19a).
                let now = account.last_recorded_at().max(now);
                let held = match held_hot {
                    Some(held) => held,
                    None => self.held_recorded(tx, scope, customer).await?,
                };
                let granted = store::live_grants_amount(tx, tenant, customer, now).await?;
                let settled = account.available(now);
                let balance = Balance {
                    version: account.version(),
                    settled,
                    held,
                    available: settled.minus_floor_zero(held),
                    granted,
                    expires_next_at: account.valid_until(now),
                    resets_at: account.refills_at(),
                    books: account.books(),
                };
                Ok((balance, accounts))
            })
            .await?;
        // Whoever has seen this version is not authorized on an older one afterwards.
        self.publish(tenant, &accounts, now).await?;
        Ok(balance)
    }

    /// What Redis holds of an account; none where it does not decide, or has not loaded it.
    async fn held_hot(&self, scope: &TenantScope, customer: CustomerId) -> Result<Option<Credits>> {
        let key = AccountKey { tenant: scope.tenant, customer };
        let Some(epoch) = self.gate.epoch_in_redis(&self.db, &self.hot).await? else {
            self.journal.flush(&self.db).await?;
            return Ok(None);
        };
        match self.hot.held(key, epoch, scope.now).await {
            Ok(held) => Ok(held),
            Err(away) => {
                self.gate.redis_is_away(&self.db, epoch, &away).await?;
                Ok(None)
            }
        }
    }

    async fn held_recorded(
        &self,
        tx: &mut Connection,
        scope: &TenantScope,
        customer: CustomerId,
    ) -> Result<Credits> {
        let epoch = match self.gate.last_seen() {
            Some((epoch, _)) => epoch,
            None => store::hot_state(tx).await?.epoch,
        };
        self.record_earlier_holds(tx, scope.tenant, customer, epoch, scope.now).await?;
        store::held(tx, scope.tenant, customer, scope.now).await
    }
}
