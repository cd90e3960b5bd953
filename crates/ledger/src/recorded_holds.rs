//! The holds of earlier epochs: rows for those that PostgreSQL granted and for all that have ended, packed ones for
//! those that Redis granted, and one that is asked for again and that a server granted and died before it had recorded it.

use std::collections::HashMap;

use db::{Connection, Result};
use domain::Timestamp;
use domain::hold::Hold;
use domain::id::{CustomerId, ExternalId, TenantId};
use hot_balances::{AccountKey, Epoch, KnownHold};

use crate::{Ledger, store};

/// Ended holds of one account that are brought back into Redis at most.
const ENDED_MAX: i64 = 2_000;

type Holds = HashMap<(CustomerId, ExternalId), KnownHold>;

impl Ledger {
    /// The live holds of these customers, of before `epoch`.
    pub(crate) async fn recorded_live_holds(
        &self,
        tx: &mut Connection,
        tenant: TenantId,
        customers: &[CustomerId],
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<Vec<KnownHold>> {
        let mut holds = self.earlier_holds(tx, tenant, customers, epoch, now).await?;
        let ids: Vec<String> = holds.keys().map(|(_, id)| id.to_string()).collect();
        for row in store::live_holds_and(tx, tenant, customers, now, &ids).await? {
            add(&mut holds, row);
        }
        Ok(holds.into_values().filter(|known| known.end.is_none()).collect())
    }

    /// What Redis is to know of these customers' holds of before `epoch`: the live ones, and the ids that
    /// have ended and are not free again.
    pub(crate) async fn holds_for_redis(
        &self,
        tx: &mut Connection,
        tenant: TenantId,
        customers: &[CustomerId],
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<Vec<KnownHold>> {
        let mut holds = self.recorded_live_holds(tx, tenant, customers, epoch, now).await?;
        holds.extend(store::holds_ended_early(tx, tenant, customers, now, ENDED_MAX).await?);
        Ok(holds)
    }

    /// Those that may have no row; one that has may have ended since.
    async fn earlier_holds(
        &self,
        tx: &mut Connection,
        tenant: TenantId,
        customers: &[CustomerId],
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<Holds> {
        let mut earlier = Holds::new();
        let recovered = self.recovered.before(tx, tenant, epoch, now).await?;
        for known in customers.iter().flat_map(|customer| recovered.of(*customer, now)) {
            add(&mut earlier, known);
        }
        Ok(earlier)
    }

    /// What Redis has still of a hold that was granted in the epoch with Redis before `epoch`, by a server that died before
    /// it had recorded it. Asked for by its id alone: Redis also has grants that nobody heard of, by calls that it
    /// ran when they had been given up.
    pub(crate) async fn left_behind(
        &self,
        tx: &mut Connection,
        account: AccountKey,
        epoch: Epoch,
        id: &ExternalId,
        now: Timestamp,
    ) -> Result<Option<KnownHold>> {
        let left = store::hot_state(tx).await?.left.map(Epoch);
        let Some(left) = left.filter(|_| !self.recovered.is_gone(epoch)) else { return Ok(None) };
        match self.hot.find_left_behind(left, &[(account, id.clone())]).await {
            Ok(mut found) => {
                Ok(found.pop().flatten().filter(|known| known.end.is_none() && known.hold.expires_at > now))
            }
            // Not asked again: whoever waits for an answer holds locks.
            Err(_) => {
                self.recovered.note_gone(epoch);
                Ok(None)
            }
        }
    }

    /// Gives each of a customer's unended holds of before `epoch` a row, once an epoch: whoever decides in
    /// PostgreSQL then sums up rows. Under the account's lock.
    pub(crate) async fn record_earlier_holds(
        &self,
        tx: &mut Connection,
        tenant: TenantId,
        customer: CustomerId,
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<()> {
        if self.recovered.has_rows(tenant, customer, epoch) {
            return Ok(());
        }
        let earlier = self.earlier_holds(tx, tenant, &[customer], epoch, now).await?;
        let rows: Vec<(Hold, String)> =
            earlier.into_values().map(|known| (known.hold, known.fingerprint)).collect();
        if rows.is_empty() { Ok(()) } else { store::insert_holds(tx, tenant, &rows).await }
    }
}

/// An end that is recorded is the end; of two expiries the later was a renewal.
fn add(holds: &mut Holds, known: KnownHold) {
    let key = (known.hold.customer, known.hold.id.clone());
    let is_newer = known.end.is_some()
        || holds.get(&key).is_none_or(|other| other.hold.expires_at <= known.hold.expires_at);
    if is_newer {
        holds.insert(key, known);
    }
}
