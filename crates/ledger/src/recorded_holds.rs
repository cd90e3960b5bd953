//! The holds that PostgreSQL knows of: rows for those that it granted and for all that have ended,
//! packed ones for those that Redis granted in earlier epochs. And what no server lived to record, by its id.

use std::collections::HashMap;

use db::{Connection, Result};
use domain::Timestamp;
use domain::hold::{Fingerprint, Hold};
use domain::id::{CustomerId, ExternalId, TenantId};
use hot_balances::{AccountKey, Epoch, KnownHold};

use crate::{Ledger, store};

/// Ended holds of one account that are brought back into Redis at most.
const ENDED_MAX: i64 = 2_000;

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
        let recovered = self.recovered.before(tx, tenant, epoch, now).await?;
        let earlier: Vec<KnownHold> =
            customers.iter().flat_map(|customer| recovered.of(*customer, now)).collect();
        let ids: Vec<&str> = earlier.iter().map(|known| known.hold.id.as_str()).collect();
        let rows = store::live_holds_and(tx, tenant, customers, now, &ids).await?;
        let key = |known: &KnownHold| (known.hold.customer, known.hold.id.clone());
        let mut holds: HashMap<(CustomerId, ExternalId), KnownHold> =
            earlier.iter().map(|known| (key(known), known.clone())).collect();
        for row in rows {
            // An end that is recorded is the end; of two expiries the later was a renewal.
            let is_newer = row.end.is_some()
                || holds.get(&key(&row)).is_none_or(|known| known.hold.expires_at <= row.hold.expires_at);
            if is_newer {
                holds.insert(key(&row), row);
            }
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

    /// What Redis has still of holds that were granted in the epoch that was `left` for this one, by a server that died before
    /// it had recorded them. By their ids alone: Redis also has grants that nobody heard of, by calls that it ran when they
    /// had been given up.
    pub(crate) async fn left_behind(
        &self,
        tenant: TenantId,
        (epoch, left): (Epoch, Option<Epoch>),
        named: &[(CustomerId, ExternalId)],
        now: Timestamp,
    ) -> Vec<KnownHold> {
        let Some(left) = left.filter(|_| !self.recovered.is_gone(epoch)) else { return Vec::new() };
        let named =
            named.iter().map(|(customer, id)| (AccountKey { tenant, customer: *customer }, id.clone()));
        match self.hot.find_left_behind(left, &named.collect::<Vec<_>>()).await {
            Ok(found) => found.into_iter().flatten().filter(|known| known.is_live(now)).collect(),
            // Not asked again: whoever waits for an answer holds locks.
            Err(_) => {
                self.recovered.note_gone(epoch);
                Vec::new()
            }
        }
    }

    /// Gives each of a customer's packed holds of before `epoch` a row, once an epoch: whoever decides in
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
        let earlier = self.recovered.before(tx, tenant, epoch, now).await?.of(customer, now);
        let rows: Vec<(Hold, Fingerprint)> =
            earlier.into_iter().map(|known| (known.hold, known.fingerprint)).collect();
        if rows.is_empty() { Ok(()) } else { store::insert_holds(tx, tenant, &rows).await }
    }
}
