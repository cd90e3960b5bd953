//! Loads accounts into Redis after a miss: all that are missed at the same time share a transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use db::{Connection, Error, Result};
use domain::id::{CustomerId, ExternalId, TenantId};
use domain::{Refusal, Timestamp};
use futures_util::future::join_all;
use hot_balances::{AccountKey, Away, Epoch, FillHolds, Filled, KnownHold};
use lanes::{Caller, Lanes};
use tokio::sync::oneshot;

use crate::hold::Hot;
use crate::{Accounts, Ledger, lock, project, store};

/// The most accounts that requests share a load of.
const ACCOUNTS_A_LOAD: usize = 64;
/// Loads of a tenant at once: while one waits for an account's lock, the others go on.
const LOADS_MAX: usize = 4;

/// An account that is to be loaded.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) customer: CustomerId,
    pub(crate) now: Timestamp,
    /// Redis has its live holds, and only its balance has run out.
    pub(crate) is_loaded: bool,
    /// The hold that is asked for: it may have ended before, and then its id is not free again.
    pub(crate) hold: Option<ExternalId>,
}

/// What came of loading one account.
#[derive(Debug, Clone)]
pub(crate) enum Loaded {
    Done,
    /// It may not authorize, or there is none.
    Refused(Refusal),
    /// Redis has been emptied.
    Lost,
    Away(Away),
}

/// Whoever waits for an account.
pub(crate) struct Missing {
    wanted: Wanted,
    answer: oneshot::Sender<Result<Loaded>>,
}

pub(crate) type LaneKey = (TenantId, Epoch);

/// The accounts that are missed.
pub(crate) type Loads = Arc<Lanes<LaneKey, Missing>>;

pub(crate) fn loads() -> Loads {
    Lanes::new(LOADS_MAX, ACCOUNTS_A_LOAD)
}

impl Ledger {
    /// Loads an account that Redis does not have, or not any more, together with the others that are missed now.
    pub(crate) async fn load(&self, account: AccountKey, epoch: Epoch, wanted: Wanted) -> Result<Hot<()>> {
        let (answer, answered) = oneshot::channel();
        if let Some(caller) = self.loads.wait((account.tenant, epoch), Missing { wanted, answer }) {
            tokio::spawn(self.clone().load_missed(caller));
        }
        let loaded = answered.await.map_err(|_| Error::broken("a load of accounts was given up"))?;
        match loaded? {
            Loaded::Done => Ok(Hot::Decided(())),
            Loaded::Refused(refusal) => Err(refusal.into()),
            Loaded::Lost => Ok(Hot::Lost),
            Loaded::Away(away) => Ok(Hot::Away(away)),
        }
    }

    async fn load_missed(self, mut caller: Caller<LaneKey, Missing>) {
        let (tenant, epoch) = caller.key();
        while let Some(missing) = caller.next_or_leave() {
            let wanted: Vec<Wanted> = missing.iter().map(|missing| missing.wanted.clone()).collect();
            let loaded = self.load_accounts(tenant, epoch, &wanted).await;
            for Missing { wanted, answer } in missing {
                let of_account = match &loaded {
                    Ok(loaded) => Ok(loaded.get(&wanted.customer).cloned().unwrap_or_else(unknown)),
                    Err(error) => Err(error.to_each()),
                };
                // Nobody hears it where the request has gone.
                let _ = answer.send(of_account);
            }
        }
    }

    /// Loads accounts: their balances and, where Redis has nothing of them in this epoch, the live holds that were granted before.
    /// An account that may not authorize is not loaded.
    pub(crate) async fn load_accounts(
        &self,
        tenant: TenantId,
        epoch: Epoch,
        wanted: &[Wanted],
    ) -> Result<BTreeMap<CustomerId, Loaded>> {
        let Some(now) = wanted.iter().map(|wanted| wanted.now).max() else { return Ok(BTreeMap::new()) };
        let (accounts, mut holds) = self
            .db
            .transaction(tenant, async |tx| self.read_accounts(tx, tenant, epoch, wanted, now).await)
            .await?;
        let mut loaded = BTreeMap::new();
        let mut ready = Vec::new();
        for account in accounts.iter() {
            match account.check_authorizes() {
                Ok(()) => ready.push((account, holds.remove(&account.customer()))),
                Err(refusal) => {
                    loaded.insert(account.customer(), Loaded::Refused(refusal));
                }
            }
        }
        for some in ready.chunks(project::SIDE_BY_SIDE) {
            let filling = some.iter().map(async |(account, holds)| {
                let projection = project::projection(account, now);
                let holds = holds.as_deref().map_or(FillHolds::Besides(&[]), FillHolds::All);
                let filled = self.hot.fill(project::key(tenant, account), epoch, &projection, holds).await;
                let of_account = match filled {
                    Ok(Filled::Done) => Loaded::Done,
                    Ok(Filled::Lost) => Loaded::Lost,
                    Err(away) => Loaded::Away(away),
                };
                (account.customer(), of_account)
            });
            let filled = join_all(filling).await;
            let away = filled.iter().find(|(_, of_account)| matches!(of_account, Loaded::Away(_)));
            let away = away.map(|(_, away)| away.clone());
            loaded.extend(filled);
            if let Some(away) = away {
                // The calls of the others would only wait as long once more.
                for (account, _) in &ready {
                    loaded.entry(account.customer()).or_insert_with(|| away.clone());
                }
                break;
            }
        }
        Ok(loaded)
    }

    /// The accounts, locked, and what Redis is to know of the holds of those that it has nothing of.
    async fn read_accounts(
        &self,
        tx: &mut Connection,
        tenant: TenantId,
        epoch: Epoch,
        wanted: &[Wanted],
        now: Timestamp,
    ) -> Result<(Accounts, BTreeMap<CustomerId, Vec<KnownHold>>)> {
        let customers: Vec<CustomerId> = wanted.iter().map(|wanted| wanted.customer).collect();
        let accounts = lock(tx, tenant, &customers).await?;
        let anew = || wanted.iter().filter(|wanted| !wanted.is_loaded);
        let mut holds: BTreeMap<CustomerId, Vec<KnownHold>> =
            anew().map(|wanted| (wanted.customer, Vec::new())).collect();
        if holds.is_empty() {
            return Ok((accounts, holds));
        }
        let customers: Vec<CustomerId> = holds.keys().copied().collect();
        let mut known = self.holds_for_redis(tx, tenant, &customers, epoch, now).await?;
        let asked_for: BTreeSet<(CustomerId, ExternalId)> =
            anew().filter_map(|wanted| Some((wanted.customer, wanted.hold.clone()?))).collect();
        self.add_asked_for(tx, tenant, epoch, asked_for, now, &mut known).await?;
        for known in known {
            holds.entry(known.hold.customer).or_default().push(known);
        }
        Ok((accounts, holds))
    }

    /// Adds what else is known of the holds that are asked for: how they ended, or that a server which died had granted them.
    async fn add_asked_for(
        &self,
        tx: &mut Connection,
        tenant: TenantId,
        epoch: Epoch,
        mut asked_for: BTreeSet<(CustomerId, ExternalId)>,
        now: Timestamp,
        known: &mut Vec<KnownHold>,
    ) -> Result<()> {
        let name = |known: &KnownHold| (known.hold.customer, known.hold.id.clone());
        let ids: Vec<&str> = asked_for.iter().map(|(_, id)| id.as_str()).collect();
        let rows = if ids.is_empty() { Vec::new() } else { store::holds_by_id(tx, tenant, &ids).await? };
        for known in known.iter() {
            asked_for.remove(&name(known));
        }
        let own = rows.into_iter().filter(|row| asked_for.remove(&name(row)) && row.end.is_some());
        known.extend(own);
        if !asked_for.is_empty() {
            let left = store::hot_state(tx).await?.left;
            let unrecorded: Vec<_> = asked_for.into_iter().collect();
            known.extend(self.left_behind(tenant, (epoch, left), &unrecorded, now).await);
        }
        Ok(())
    }
}

fn unknown() -> Loaded {
    Loaded::Refused(Refusal::NotFound { what: "customer" })
}
