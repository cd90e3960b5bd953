//! Ends holds: captured with their usage, or released without.

use std::collections::BTreeMap;

use db::{Connection, Result};
use domain::hold::{Hold, HoldEnd};
use domain::id::{CustomerId, ExternalId, TenantId};
use domain::{Refusal, TenantScope, Timestamp};
use hot_balances::{AccountKey, Epoch, KnownHold, Told};

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
    let mut known: BTreeMap<ExternalId, Vec<KnownHold>> = BTreeMap::new();
    let recorded = store::holds_by_id(tx, tenant, &ids).await?;
    for hold in ledger.journal.find(tenant, named).into_iter().chain(recorded) {
        known.entry(hold.hold.id.clone()).or_default().push(hold);
    }
    let mut found: BTreeMap<(CustomerId, ExternalId), FoundHold> = BTreeMap::new();
    for (customer, id) in named {
        let same_id = known.get(id).map(Vec::as_slice).unwrap_or_default();
        // What is recorded comes last, and knows of an end.
        let own = same_id.iter().rev().find(|known| known.hold.customer == *customer);
        let answer = match own {
            Some(own) => FoundHold::Own(own.clone()),
            None if same_id.is_empty() => FoundHold::Unknown,
            None => FoundHold::Foreign,
        };
        found.insert((*customer, id.clone()), answer);
    }
    if let Some(epoch) = ledger.gate.epoch_when_last_read() {
        ask_redis(ledger, tenant, epoch, &mut found).await;
    }
    Ok(found)
}

/// Looks in Redis for the holds that are not recorded. Without an answer they stay as they were found.
async fn ask_redis(
    ledger: &Ledger,
    tenant: TenantId,
    epoch: Epoch,
    found: &mut BTreeMap<(CustomerId, ExternalId), FoundHold>,
) {
    let missing = found.iter().filter(|(_, found)| !matches!(found, FoundHold::Own(_)));
    let missing: Vec<(AccountKey, ExternalId)> =
        missing.map(|((customer, id), _)| (AccountKey { tenant, customer: *customer }, id.clone())).collect();
    let Ok(answers) = ledger.hot.find(epoch, &missing).await else { return };
    for ((account, id), answer) in missing.into_iter().zip(answers) {
        if let Some(own) = answer {
            found.insert((account.customer, id), FoundHold::Own(own));
        }
    }
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
        if let Some(epoch) = self.gate.epoch_in_redis(&self.db, &self.hot).await? {
            match self.hot.release(key, epoch, id).await {
                Ok(Told::Done) => {}
                Ok(Told::Lost) => self.gate.redis_is_lost(&self.db, epoch).await?,
                Err(away) => self.gate.redis_is_away(&self.db, epoch, &away).await?,
            }
        }
        Ok(version)
    }
}
