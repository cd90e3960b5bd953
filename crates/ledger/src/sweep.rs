//! Compares every projection in Redis with PostgreSQL (I-27, R-35). A wrong one is dropped: the next use
//! loads it anew.

use std::collections::HashMap;

use db::Result;
use domain::id::CustomerId;
use domain::{TenantScope, Timestamp};
use hot_balances::{AccountKey, Away, Epoch, Peeked};
use uuid::Uuid;

use crate::store::Due;
use crate::{Ledger, store};

/// Accounts a round trip.
const PAGE: i64 = 500;

/// What a sweep saw of a tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    pub accounts: u64,
    /// Not in Redis, or past its time: the next use loads it.
    pub absent: u64,
    /// Of an earlier revision than PostgreSQL's: what was not told, or is just being told. Dropped.
    pub stale: u64,
    /// Of a later revision, of another value at the same one, or not written by Tollgate. Dropped.
    pub wrong: u64,
}

/// What a projection turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Right,
    Absent,
    Stale,
    Wrong,
}

impl Ledger {
    /// Compares the projections of all accounts of a tenant. `None` while Redis does not decide: then
    /// nothing of it is used.
    pub async fn sweep(&self, scope: &TenantScope) -> Result<Option<Swept>> {
        let tenant = scope.tenant;
        let mut swept = Swept::default();
        let mut after = Uuid::nil();
        loop {
            let Some(epoch) = self.gate.epoch_in_redis(&self.db, &self.hot).await? else { return Ok(None) };
            let page = async |tx: &mut db::Connection| store::customers_page(tx, tenant, after, PAGE).await;
            let customers = self.db.transaction(tenant, page).await?;
            let Some(last) = customers.last() else { return Ok(Some(swept)) };
            after = last.uuid();
            match self.sweep_page(scope, epoch, &customers, &mut swept).await? {
                Ok(()) => {}
                Err(away) => {
                    self.gate.redis_is_away(&self.db, epoch, &away).await?;
                    return Ok(None);
                }
            }
        }
    }

    async fn sweep_page(
        &self,
        scope: &TenantScope,
        epoch: Epoch,
        customers: &[CustomerId],
        swept: &mut Swept,
    ) -> Result<std::result::Result<(), Away>> {
        let tenant = scope.tenant;
        let keys: Vec<AccountKey> =
            customers.iter().map(|customer| AccountKey { tenant, customer: *customer }).collect();
        // Redis first: whatever it knows, PostgreSQL has committed before.
        let peeked = match self.hot.peek(epoch, &keys).await {
            Ok(peeked) => peeked,
            Err(away) => return Ok(Err(away)),
        };
        let here: Vec<CustomerId> = customers
            .iter()
            .zip(&peeked)
            .filter(|(_, peeked)| peeked.is_some())
            .map(|(customer, _)| *customer)
            .collect();
        let due = async |tx: &mut db::Connection| store::due_projections(tx, tenant, &here, scope.now).await;
        let due = self.db.transaction(tenant, due).await?;
        let due: HashMap<Uuid, Due> = due.into_iter().map(|due| (due.customer_id, due)).collect();
        for (key, peeked) in keys.iter().zip(&peeked) {
            swept.accounts += 1;
            let verdict = match (peeked, due.get(&key.customer.uuid())) {
                (Some(peeked), Some(due)) => judge(peeked, due, scope.now),
                (_, _) => Verdict::Absent,
            };
            match verdict {
                Verdict::Right => continue,
                Verdict::Absent => {
                    swept.absent += 1;
                    continue;
                }
                Verdict::Stale => swept.stale += 1,
                Verdict::Wrong => {
                    swept.wrong += 1;
                    let customer = key.customer;
                    tracing::error!(%tenant, %customer, ?peeked, "a projected balance was wrong and was dropped");
                }
            }
            if let Err(away) = self.hot.drop_projection(*key, epoch).await {
                return Ok(Err(away));
            }
        }
        Ok(Ok(()))
    }
}

fn judge(peeked: &Peeked, due: &Due, now: Timestamp) -> Verdict {
    let projection = &peeked.projection;
    if !peeked.is_signed || projection.revision > due.revision {
        return Verdict::Wrong;
    }
    if projection.valid_until.is_some_and(|end| end <= now) {
        return Verdict::Absent;
    }
    if projection.revision < due.revision {
        return Verdict::Stale;
    }
    // One that was made after the next change, by a clock that is ahead of this one, has another value.
    let is_of_later = projection.valid_until.zip(due.changes_at).is_some_and(|(end, change)| change < end);
    if is_of_later || projection.available.get() == due.available { Verdict::Right } else { Verdict::Wrong }
}
