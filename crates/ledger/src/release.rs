//! Ends holds: captured with their usage, or released without.

use std::collections::BTreeMap;

use db::{Connection, Result};
use domain::hold::{Hold, HoldEnd};
use domain::id::{CustomerId, ExternalId, TenantId};
use domain::{Refusal, TenantScope, Timestamp};
use hot_balances::AccountKey;
use hot_balances::KnownHold;

use crate::{Ledger, lock, store};

/// What is known of a hold id that an event of `customer` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundHold {
    Unknown,
    /// Only other customers have a hold of this id.
    Foreign,
    Own(KnownHold),
}

/// Looks up the holds that a batch names, as `(customer, hold id)`: in PostgreSQL, in this
/// server's own journal, and in Redis, where another server may have put it a moment ago.
pub async fn find_holds(
    tx: &mut Connection,
    ledger: &Ledger,
    tenant: TenantId,
    named: &[(CustomerId, ExternalId)],
) -> Result<BTreeMap<(CustomerId, ExternalId), FoundHold>> {
    if named.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids: Vec<&str> = named.iter().map(|(_, id)| id.as_str()).collect();
    let recorded = store::holds_by_id(tx, tenant, &ids).await?;
    let is_redis_up = ledger.gate.was_up();
    let mut found = BTreeMap::new();
    for (customer, id) in named {
        let mut candidates: Vec<KnownHold> =
            recorded.iter().filter(|known| known.hold.id == *id).cloned().collect();
        if candidates.is_empty() {
            candidates = ledger.journal.find(tenant, id);
        }
        let mut answer = match candidates.iter().find(|known| known.hold.customer == *customer) {
            Some(own) => FoundHold::Own(own.clone()),
            None if candidates.is_empty() => FoundHold::Unknown,
            None => FoundHold::Foreign,
        };
        if !matches!(answer, FoundHold::Own(_))
            && is_redis_up
            && let Ok(Some(own)) = ledger.hot.find(AccountKey { tenant, customer: *customer }, id).await
        {
            answer = FoundHold::Own(own);
        }
        found.insert((*customer, id.clone()), answer);
    }
    Ok(found)
}

/// Records the end of holds, whether or not their beginning is recorded yet. A hold ends once:
/// an end that is there already stays.
pub async fn end_holds(
    tx: &mut Connection,
    tenant: TenantId,
    holds: &[(Hold, String)],
    end: HoldEnd,
    now: Timestamp,
) -> Result<()> {
    store::end_holds(tx, tenant, holds, end, now).await
}

impl Ledger {
    /// Releases a live hold without a charge, and says the account's version. Releasing it again
    /// changes nothing. Refused: `not-found`; `authorization-ended` once it was captured or ran out.
    pub async fn release(&self, scope: &TenantScope, customer: CustomerId, id: &ExternalId) -> Result<i64> {
        let (tenant, now) = (scope.tenant, scope.now);
        let named = [(customer, id.clone())];
        let version = self
            .db
            .transaction(tenant, async |tx| {
                // A capture takes this lock too: a hold ends in one way.
                lock(tx, tenant, &[customer]).await?;
                let found = find_holds(tx, self, tenant, &named).await?;
                let Some(FoundHold::Own(known)) = found.get(&named[0]) else {
                    return Err(Refusal::NotFound { what: "authorization" }.into());
                };
                match known.end {
                    Some(HoldEnd::Captured) => return Err(Refusal::AuthorizationEnded.into()),
                    None if known.hold.expires_at <= now => return Err(Refusal::AuthorizationEnded.into()),
                    Some(HoldEnd::Released) => {}
                    None => {
                        let hold = (known.hold.clone(), known.fingerprint.clone());
                        store::end_holds(tx, tenant, &[hold], HoldEnd::Released, now).await?;
                    }
                }
                store::version(tx, tenant, customer).await
            })
            .await?;
        let key = AccountKey { tenant, customer };
        if let Some(epoch) = self.gate.epoch_in_redis(&self.db, &self.hot).await?
            && let Err(away) = self.hot.release(key, id).await
        {
            self.gate.redis_is_away(&self.db, epoch, &away).await?;
        }
        Ok(version)
    }
}
