//! Records the holds that a server granted and had not recorded when it died: Redis has them still.

use chrono::TimeDelta;
use db::Result;
use domain::TenantScope;
use hot_balances::AccountKey;
use uuid::Uuid;

use crate::{Ledger, store};

/// How long ago a hold may have been granted: a server that died is started again within this time.
const GRANTED_WITHIN: TimeDelta = TimeDelta::minutes(2);
/// Accounts a round trip.
const PAGE: i64 = 500;

impl Ledger {
    /// Records the live holds of a tenant that were granted a short time ago, and says how many; one that
    /// is recorded already is recorded twice, which is the same as once. Called when a server starts.
    /// Ends early where Redis does not decide.
    pub async fn adopt(&self, scope: &TenantScope) -> Result<usize> {
        let tenant = scope.tenant;
        let Some(first) = self.first_lease().await? else { return Ok(0) };
        let granted_after = scope.now - GRANTED_WITHIN;
        let (mut adopted, mut after) = (0, Uuid::nil());
        loop {
            let page = async |tx: &mut db::Connection| store::customers_page(tx, tenant, after, PAGE).await;
            let customers = self.db.transaction(tenant, page).await?;
            let Some(last) = customers.last() else { return Ok(adopted) };
            after = last.uuid();
            let keys: Vec<AccountKey> =
                customers.iter().map(|customer| AccountKey { tenant, customer: *customer }).collect();
            let live = match self.hot.live(first.epoch, &keys).await {
                Ok(live) => live,
                Err(away) => {
                    self.gate.redis_is_away(&self.db, first.epoch, &away).await?;
                    return Ok(adopted);
                }
            };
            for known in live.into_iter().filter(|known| known.hold.granted_at > granted_after) {
                self.journal.record_later(tenant, first.epoch, known.hold, known.fingerprint);
                adopted += 1;
            }
            self.journal.flush(&self.db).await?;
        }
    }
}
