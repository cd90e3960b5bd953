//! Ends holds: captured with their usage, or released without.

use std::collections::BTreeMap;

use db::{Connection, Error, Result};
use domain::hold::{Fingerprint, Hold, HoldEnd};
use domain::id::{CustomerId, ExternalId, TenantId};
use domain::{Refusal, TenantScope, Timestamp};
use hot_balances::{AccountKey, Away, Epoch, KnownHold};

use crate::hot_gate::SETTLE;
use crate::{Accounts, EndedHolds, Ledger, News, lock, store};

/// How often a batch looks for its holds, while who decides about them goes on changing.
pub const LOOKS_MAX: usize = 4;

/// What is known of a hold id that an event of `customer` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundHold {
    Unknown,
    /// A hold of this id is known, and another customer's.
    Foreign,
    Own(KnownHold),
}

/// The holds that a batch names, as `(customer, hold id)`.
pub type FoundHolds = BTreeMap<(CustomerId, ExternalId), FoundHold>;

/// What came of looking for holds.
#[derive(Debug)]
pub enum Looked {
    Found(FoundHolds),
    /// One is not there, and may turn up still: it is looked for again after [`Ledger::until_changed`], in
    /// another transaction, so that nobody waits under a lock.
    TooEarly(Changing),
}

/// Why it is too early to say that a hold is unknown.
#[derive(Debug)]
pub enum Changing {
    /// Redis has ended its epoch, or must: it does not answer, was emptied, or is another run.
    EpochEnds(Epoch, Away),
    /// What it granted until then is being recorded.
    Settling,
}

/// Where who decides about holds has not come to rest.
pub fn still_changing() -> Error {
    Error::Unavailable("who decides about holds is changing".to_owned())
}

/// Looks up the holds that a batch names: among the rows in PostgreSQL, in this server's own journal, in
/// Redis, and among those that Redis granted before it was lost.
pub async fn find_holds(
    tx: &mut Connection,
    ledger: &Ledger,
    tenant: TenantId,
    named: &[(CustomerId, ExternalId)],
    now: Timestamp,
) -> Result<Looked> {
    if named.is_empty() {
        return Ok(Looked::Found(FoundHolds::new()));
    }
    let mut found = find_recorded(tx, ledger, tenant, named).await?;
    // The epoch as it was last read may be over; what Redis has of it is true all the same.
    let asked = ledger.gate.last_seen().filter(|(_, is_up)| *is_up).map(|(epoch, _)| epoch);
    let mut answer = match asked {
        Some(epoch) if has_missing(&found) => {
            Some((epoch, ask_redis(ledger, tenant, epoch, &mut found).await))
        }
        _ => None,
    };
    if !has_missing(&found) {
        return Ok(Looked::Found(found));
    }
    let row = store::hot_state(tx).await?;
    let (epoch, has_settled) = (row.epoch, row.changed_since >= SETTLE);
    let redis_decides = row.is_up && has_settled;
    if redis_decides && answer.as_ref().is_none_or(|(asked, _)| *asked != epoch) {
        answer = Some((epoch, ask_redis(ledger, tenant, epoch, &mut found).await));
    }
    let earlier = ledger.recovered.before(tx, tenant, epoch, now).await?;
    add(&mut found, |customer, id| earlier.find(customer, id).cloned());
    if let Some(left) = row.left {
        // Granted right before by a server that died before it had recorded it.
        ask_for_left_behind(ledger, tenant, left, &mut found).await;
    }
    if !has_missing(&found) {
        return Ok(Looked::Found(found));
    }
    if !redis_decides {
        // Back and not deciding yet, it has granted nothing; gone, its last grants are being recorded.
        let is_certain = row.is_up || has_settled;
        return Ok(if is_certain { Looked::Found(found) } else { Looked::TooEarly(Changing::Settling) });
    }
    let is_certain = match (answer, &row.run_id) {
        (Some((_, Err(away))), _) => Err(away),
        // Another run does not know what the first one had granted.
        (_, Some(run_id)) => ledger.hot.check_run(run_id).await,
        (_, None) => Ok(()),
    };
    Ok(match is_certain {
        Ok(()) => Looked::Found(found),
        Err(away) => Looked::TooEarly(Changing::EpochEnds(epoch, away)),
    })
}

/// The holds that have rows, and those that this server is about to record.
async fn find_recorded(
    tx: &mut Connection,
    ledger: &Ledger,
    tenant: TenantId,
    named: &[(CustomerId, ExternalId)],
) -> Result<FoundHolds> {
    let ids: Vec<&str> = named.iter().map(|(_, id)| id.as_str()).collect();
    let mut known: BTreeMap<ExternalId, Vec<KnownHold>> = BTreeMap::new();
    let recorded = store::holds_by_id(tx, tenant, &ids).await?;
    for hold in ledger.journal.find(tenant, named).into_iter().chain(recorded) {
        known.entry(hold.hold.id.clone()).or_default().push(hold);
    }
    let mut found = FoundHolds::new();
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
    Ok(found)
}

/// Looks in Redis for the holds that are not recorded.
async fn ask_redis(
    ledger: &Ledger,
    tenant: TenantId,
    epoch: Epoch,
    found: &mut FoundHolds,
) -> std::result::Result<(), Away> {
    let missing = missing_keys(tenant, found);
    let answers = ledger.hot.find(epoch, &missing).await?;
    add_answers(found, missing, answers);
    Ok(())
}

/// Looks in Redis for what it may still have of an epoch that has ended. A Redis that is away has nothing.
async fn ask_for_left_behind(ledger: &Ledger, tenant: TenantId, epoch: Epoch, found: &mut FoundHolds) {
    let missing = missing_keys(tenant, found);
    if let Ok(answers) = ledger.hot.find_left_behind(epoch, &missing).await {
        add_answers(found, missing, answers);
    }
}

fn missing_keys(tenant: TenantId, found: &FoundHolds) -> Vec<(AccountKey, ExternalId)> {
    missing(found).map(|(customer, id)| (AccountKey { tenant, customer: *customer }, id.clone())).collect()
}

fn add_answers(
    found: &mut FoundHolds,
    asked: Vec<(AccountKey, ExternalId)>,
    answers: Vec<Option<KnownHold>>,
) {
    for ((account, id), answer) in asked.into_iter().zip(answers) {
        if let Some(own) = answer {
            found.insert((account.customer, id), FoundHold::Own(own));
        }
    }
}

fn missing(found: &FoundHolds) -> impl Iterator<Item = &(CustomerId, ExternalId)> {
    found.iter().filter(|(_, found)| !matches!(found, FoundHold::Own(_))).map(|(key, _)| key)
}

fn has_missing(found: &FoundHolds) -> bool {
    missing(found).next().is_some()
}

/// Adds what is known elsewhere of those that are missing.
fn add(found: &mut FoundHolds, known: impl Fn(CustomerId, &ExternalId) -> Option<KnownHold>) {
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
    holds: &[(Hold, Fingerprint)],
    end: HoldEnd,
    now: Timestamp,
) -> Result<()> {
    store::end_holds(tx, tenant, holds, end, now).await
}

impl Ledger {
    /// Returns when it is worth looking again for holds that were not there.
    pub async fn until_changed(&self, changing: Changing) -> Result<()> {
        match changing {
            Changing::EpochEnds(epoch, why) => self.gate.redis_is_away(&self.db, epoch, &why).await,
            Changing::Settling => self.gate.until_settled(&self.db, &self.hot).await,
        }
    }

    /// Releases a live hold without a charge, and says the account's version. Releasing it again
    /// changes nothing. Refused: `not-found`; `authorization-ended` once it was captured or ran out.
    pub async fn release(&self, scope: &TenantScope, customer: CustomerId, id: &ExternalId) -> Result<i64> {
        let tenant = scope.tenant;
        for _ in 0..LOOKS_MAX {
            let released = self
                .db
                .transaction(tenant, async |tx| self.release_under_lock(tx, scope, customer, id).await)
                .await?;
            match released {
                Ok((accounts, version)) => {
                    // With its balance: nobody is to see an older one in Redis than this answer names.
                    let ended = EndedHolds::from([(customer, vec![(id.clone(), HoldEnd::Released)])]);
                    self.publish_news(News::of(tenant, &accounts, ended, scope.now)).await?;
                    return Ok(version);
                }
                Err(changing) => self.until_changed(changing).await?,
            }
        }
        Err(still_changing())
    }

    async fn release_under_lock(
        &self,
        tx: &mut Connection,
        scope: &TenantScope,
        customer: CustomerId,
        id: &ExternalId,
    ) -> Result<std::result::Result<(Accounts, i64), Changing>> {
        let (tenant, now) = (scope.tenant, scope.now);
        // A capture takes this lock too: a hold ends in one way.
        let mut accounts = lock(tx, tenant, &[customer]).await?;
        let named = (customer, id.clone());
        let found = match find_holds(tx, self, tenant, std::slice::from_ref(&named), now).await? {
            Looked::Found(found) => found,
            Looked::TooEarly(changing) => return Ok(Err(changing)),
        };
        let Some(FoundHold::Own(known)) = found.get(&named) else {
            return Err(Refusal::NotFound { what: "authorization" }.into());
        };
        match known.end {
            Some(HoldEnd::Captured) => return Err(Refusal::AuthorizationEnded.into()),
            None if known.hold.expires_at <= now => return Err(Refusal::AuthorizationEnded.into()),
            Some(HoldEnd::Released) => {}
            None => {
                let hold = (known.hold.clone(), known.fingerprint);
                store::end_holds(tx, tenant, &[hold], HoldEnd::Released, now).await?;
            }
        }
        // No Credits move: the version is the one that was locked.
        let version = accounts.get_mut(customer)?.version();
        Ok(Ok((accounts, version)))
    }
}
