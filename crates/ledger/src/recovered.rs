//! What Redis granted in earlier epochs and PostgreSQL has packed: read once a tenant and epoch, when
//! Redis has lost its holds, and kept in memory until the next.
//!
//! Nothing is added to an epoch once the next has begun: a flush that comes late writes rows of its
//! own (see `hold_journal`). So what was read stays complete, and only gets fewer.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use db::{Connection, Result};
use domain::Timestamp;
use domain::id::{CustomerId, ExternalId, TenantId};
use hot_balances::{Epoch, KnownHold};

use crate::{packed, store};

/// One tenant's holds of earlier epochs. Which of them have ended since is recorded elsewhere.
#[derive(Debug, Default)]
pub(crate) struct EarlierHolds {
    by_customer: HashMap<CustomerId, HashMap<ExternalId, KnownHold>>,
}

impl EarlierHolds {
    pub(crate) fn find(&self, customer: CustomerId, id: &ExternalId) -> Option<&KnownHold> {
        self.by_customer.get(&customer)?.get(id)
    }

    /// Those of a customer that have not run out by `now`.
    pub(crate) fn of(&self, customer: CustomerId, now: Timestamp) -> Vec<KnownHold> {
        let all = self.by_customer.get(&customer).into_iter().flat_map(HashMap::values);
        all.filter(|known| known.hold.expires_at > now).cloned().collect()
    }
}

#[derive(Debug, Default)]
struct HaveRows {
    epoch: Option<Epoch>,
    accounts: HashSet<(TenantId, CustomerId)>,
}

#[derive(Debug, Default)]
pub(crate) struct Recovered {
    read: Mutex<HashMap<TenantId, (Epoch, Arc<EarlierHolds>)>>,
    /// Held by whoever reads: after a loss everybody needs them at once, and there may be a million.
    reading: tokio::sync::Mutex<()>,
    /// The accounts whose earlier holds have rows, and the epoch that this was in.
    have_rows: Mutex<HaveRows>,
    /// The epoch in which Redis did not say what it has still of an earlier one.
    gone_in: Mutex<Option<Epoch>>,
}

impl Recovered {
    /// Whether this server has given the account's earlier holds rows in this epoch.
    pub(crate) fn has_rows(&self, tenant: TenantId, customer: CustomerId, epoch: Epoch) -> bool {
        let have_rows = self.have_rows.lock().unwrap_or_else(PoisonError::into_inner);
        have_rows.epoch == Some(epoch) && have_rows.accounts.contains(&(tenant, customer))
    }

    /// Notes it, once that is committed.
    pub(crate) fn note_rows(&self, tenant: TenantId, customer: CustomerId, epoch: Epoch) {
        let mut have_rows = self.have_rows.lock().unwrap_or_else(PoisonError::into_inner);
        if have_rows.epoch != Some(epoch) {
            *have_rows = HaveRows { epoch: Some(epoch), accounts: HashSet::new() };
        }
        have_rows.accounts.insert((tenant, customer));
    }

    /// Whether Redis is not to be asked in this epoch what it has still of an earlier one.
    pub(crate) fn is_gone(&self, epoch: Epoch) -> bool {
        *self.gone_in.lock().unwrap_or_else(PoisonError::into_inner) == Some(epoch)
    }

    pub(crate) fn note_gone(&self, epoch: Epoch) {
        *self.gone_in.lock().unwrap_or_else(PoisonError::into_inner) = Some(epoch);
    }

    /// A tenant's holds of the epochs before `epoch`.
    pub(crate) async fn before(
        &self,
        tx: &mut Connection,
        tenant: TenantId,
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<Arc<EarlierHolds>> {
        if let Some(holds) = self.have_read(tenant, epoch) {
            return Ok(holds);
        }
        let _reading = self.reading.lock().await;
        if let Some(holds) = self.have_read(tenant, epoch) {
            return Ok(holds);
        }
        let mut earlier = EarlierHolds::default();
        for batch in store::hold_batches_before(tx, tenant, epoch.0, now).await? {
            for (hold, fingerprint) in packed::unpack(&batch)? {
                let of_customer = earlier.by_customer.entry(hold.customer).or_default();
                let id = hold.id.clone();
                let renewed_later = of_customer.get(&id).is_some_and(|k| k.hold.expires_at > hold.expires_at);
                if !renewed_later {
                    of_customer.insert(id, KnownHold { hold, fingerprint, end: None });
                }
            }
        }
        let earlier = Arc::new(earlier);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.insert(tenant, (epoch, earlier.clone()));
        Ok(earlier)
    }

    fn have_read(&self, tenant: TenantId, epoch: Epoch) -> Option<Arc<EarlierHolds>> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.get(&tenant).filter(|(read_in, _)| *read_in == epoch).map(|(_, holds)| holds.clone())
    }
}
