//! Ends holds: captured with their usage, or released without.

use std::collections::BTreeMap;

use db::{Connection, Result};
use domain::hold::{Hold, HoldEnd};
use domain::id::{CustomerId, ExternalId, TenantId};
use domain::{Refusal, TenantScope, Timestamp};
use hot_balances::{AccountKey, Away, Epoch, KnownHold};

use crate::hot_gate::{RECORDING, SETTLE};
use crate::{EndedHolds, Ledger, lock, packed, store};

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
    if missing(&found).next().is_none() {
        return Ok(found);
    }
    let (epoch, is_sure) = look_in_redis(tx, ledger, tenant, &mut found).await?;
    if missing(&found).next().is_some() {
        let earlier = ledger.recovered.before(tx, tenant, epoch, now).await?;
        add(&mut found, |customer, id| earlier.find(customer, id).cloned());
    }
    if let Some(left) = ledger.gate.left_epoch() {
        // Granted right before by a server that died before it had recorded it.
        ask_for_left_behind(ledger, tenant, left, &mut found).await;
    }
    if !is_sure && missing(&found).next().is_some() {
        look_again(tx, tenant, &mut found, now).await?;
    }
    Ok(found)
}

/// Looks in Redis for the holds that are not recorded. Says in which epoch, and whether none can turn up
/// later: while who decides is changing, a server may still be about to record what Redis granted.
async fn look_in_redis(
    tx: &mut Connection,
    ledger: &Ledger,
    tenant: TenantId,
    found: &mut BTreeMap<(CustomerId, ExternalId), FoundHold>,
) -> Result<(Epoch, bool)> {
    let asked = ledger.gate.last_seen().filter(|(_, is_up)| *is_up).map(|(epoch, _)| epoch);
    if let Some(epoch) = asked
        && ask_redis(ledger, tenant, epoch, found).await.is_ok()
    {
        return Ok((epoch, true));
    }
    // What this server knows of who decides may be old. A Redis that has just not answered is not waited
    // for once more: the account is locked.
    let state = store::hot_state(tx).await?;
    let epoch = Epoch(state.epoch);
    let is_answered =
        !state.is_up || (asked != Some(epoch) && ask_redis(ledger, tenant, epoch, found).await.is_ok());
    Ok((epoch, is_answered && state.changed_since >= SETTLE))
}

/// Looks in Redis for the holds that are not recorded.
async fn ask_redis(
    ledger: &Ledger,
    tenant: TenantId,
    epoch: Epoch,
    found: &mut BTreeMap<(CustomerId, ExternalId), FoundHold>,
) -> std::result::Result<(), Away> {
    let missing = missing_keys(tenant, found);
    let answers = ledger.hot.find(epoch, &missing).await?;
    add_answers(found, missing, answers);
    Ok(())
}

/// Looks in Redis for what it may still have of an epoch that has ended. A Redis that is away has nothing.
async fn ask_for_left_behind(
    ledger: &Ledger,
    tenant: TenantId,
    epoch: Epoch,
    found: &mut BTreeMap<(CustomerId, ExternalId), FoundHold>,
) {
    let missing = missing_keys(tenant, found);
    if let Ok(answers) = ledger.hot.find_left_behind(epoch, &missing).await {
        add_answers(found, missing, answers);
    }
}

fn missing_keys(
    tenant: TenantId,
    found: &BTreeMap<(CustomerId, ExternalId), FoundHold>,
) -> Vec<(AccountKey, ExternalId)> {
    missing(found).map(|(customer, id)| (AccountKey { tenant, customer: *customer }, id.clone())).collect()
}

fn add_answers(
    found: &mut BTreeMap<(CustomerId, ExternalId), FoundHold>,
    asked: Vec<(AccountKey, ExternalId)>,
    answers: Vec<Option<KnownHold>>,
) {
    for ((account, id), answer) in asked.into_iter().zip(answers) {
        if let Some(own) = answer {
            found.insert((account.customer, id), FoundHold::Own(own));
        }
    }
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
        let (accounts, version) = self
            .db
            .transaction(tenant, async |tx| {
                // A capture takes this lock too: a hold ends in one way.
                let mut accounts = lock(tx, tenant, &[customer]).await?;
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
                // No Credits move: the version is the one that was locked.
                let version = accounts.get_mut(customer)?.version();
                Ok((accounts, version))
            })
            .await?;
        // With its balance: nobody is to see an older one in Redis than this answer names.
        let ended = EndedHolds::from([(customer, vec![(id.clone(), HoldEnd::Released)])]);
        self.publish_ended(tenant, &accounts, &ended, now).await;
        Ok(version)
    }
}
