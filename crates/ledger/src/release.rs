//! Ends holds: captured with their usage, or released without.

use std::collections::BTreeMap;

use db::{Connection, Result};
use domain::hold::{Hold, HoldEnd};
use domain::id::{CustomerId, ExternalId, TenantId};
use domain::{Refusal, TenantScope, Timestamp};
use hot_balances::{AccountKey, Away, Epoch, KnownHold, Told};

use crate::hot_gate::RECORDING;
use crate::{Ledger, lock, packed, store};

/// What is known of a hold id that an event of `customer` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundHold {
    Unknown,
    /// A hold of this id is known, and another customer's.
    Foreign,
    Own(KnownHold),
}

/// Looks up the holds that a batch names, as `(customer, hold id)`: among the rows in PostgreSQL, in this
/// server's own journal, in Redis, and among those that Redis granted before it was lost.
pub async fn find_holds(
    tx: &mut Connection,
    ledger: &Ledger,
    tenant: TenantId,
    named: &[(CustomerId, ExternalId)],
    now: Timestamp,
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
    let (epoch, is_up) = match ledger.gate.last_seen() {
        Some(seen) => seen,
        None => {
            let state = store::hot_state(tx).await?;
            (Epoch(state.epoch), state.is_up)
        }
    };
    let is_unsure = if is_up {
        ask_redis(ledger, tenant, epoch, &mut found).await.is_err()
    } else {
        ledger.gate.is_changing()
    };
    if missing(&found).next().is_some() {
        let earlier = ledger.recovered.before(tx, tenant, epoch, now).await?;
        add(&mut found, |customer, id| earlier.find(customer, id).cloned());
    }
    if is_unsure && missing(&found).next().is_some() {
        look_again(tx, tenant, &mut found, now).await?;
    }
    Ok(found)
}

/// Looks in Redis for the holds that are not recorded.
async fn ask_redis(
    ledger: &Ledger,
    tenant: TenantId,
    epoch: Epoch,
    found: &mut BTreeMap<(CustomerId, ExternalId), FoundHold>,
) -> std::result::Result<(), Away> {
    let missing: Vec<(AccountKey, ExternalId)> = missing(found)
        .map(|(customer, id)| (AccountKey { tenant, customer: *customer }, id.clone()))
        .collect();
    let answers = ledger.hot.find(epoch, &missing).await?;
    for ((account, id), answer) in missing.into_iter().zip(answers) {
        if let Some(own) = answer {
            found.insert((account.customer, id), FoundHold::Own(own));
        }
    }
    Ok(())
}

/// Redis has just gone: what it granted, on another server too, is recorded a moment later. All packed
/// holds are looked through, which takes as long as there are many; it happens once an outage.
async fn look_again(
    tx: &mut Connection,
    tenant: TenantId,
    found: &mut BTreeMap<(CustomerId, ExternalId), FoundHold>,
    now: Timestamp,
) -> Result<()> {
    tokio::time::sleep(RECORDING).await;
    let mut recorded: BTreeMap<(CustomerId, ExternalId), KnownHold> = BTreeMap::new();
    for batch in store::hold_batches_before(tx, tenant, i64::MAX, now).await? {
        for (hold, fingerprint) in packed::unpack(&batch)? {
            let key = (hold.customer, hold.id.clone());
            recorded.insert(key, KnownHold { hold, fingerprint, end: None });
        }
    }
    let ids: Vec<ExternalId> = missing(found).map(|(_, id)| id.clone()).collect();
    let ids: Vec<&str> = ids.iter().map(ExternalId::as_str).collect();
    for row in store::holds_by_id(tx, tenant, &ids).await? {
        recorded.insert((row.hold.customer, row.hold.id.clone()), row);
    }
    add(found, |customer, id| recorded.get(&(customer, id.clone())).cloned());
    Ok(())
}

fn missing(
    found: &BTreeMap<(CustomerId, ExternalId), FoundHold>,
) -> impl Iterator<Item = &(CustomerId, ExternalId)> {
    found.iter().filter(|(_, found)| !matches!(found, FoundHold::Own(_))).map(|(key, _)| key)
}

/// Adds what is known elsewhere of those that are missing.
fn add(
    found: &mut BTreeMap<(CustomerId, ExternalId), FoundHold>,
    known: impl Fn(CustomerId, &ExternalId) -> Option<KnownHold>,
) {
    for ((customer, id), found) in found {
        if let (FoundHold::Unknown | FoundHold::Foreign, Some(own)) = (&*found, known(*customer, id)) {
            *found = FoundHold::Own(own);
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
                let found = find_holds(tx, self, tenant, &named, now).await?;
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
                Ok(Told::Lost) => self.gate.redis_is_emptied(&self.db, epoch).await?,
                Err(away) => self.gate.redis_is_away(&self.db, epoch, &away).await?,
            }
        }
        Ok(version)
    }
}
