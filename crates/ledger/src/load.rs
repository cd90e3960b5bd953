//! Loads accounts into Redis after a miss. Those that are missed at the same time share a transaction, as far as nothing is in the
//! way of any of them: an account that somebody has locked, or that cannot be read, is loaded by itself, and keeps nobody waiting
//! but its own requests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use db::{Connection, Locked, Result};
use domain::id::{CustomerId, ExternalId, TenantId};
use domain::{Refusal, Timestamp};
use futures_util::future::join_all;
use hot_balances::{AccountKey, Away, Epoch, FillHolds, Filled, KnownHold, Ticket};
use lanes::{Caller, Lanes};
use tokio::sync::{OwnedMutexGuard, oneshot};

use crate::hold::Hot;
use crate::{Accounts, Ledger, lock, project, store};

/// The most accounts that share a load.
const ACCOUNTS_A_LOAD: usize = 64;
/// Shared loads of a tenant at the same time.
const LOADS_MAX: usize = 4;
/// Turns that are over and kept before they are tidied away.
const TURNS_KEPT: usize = 1_024;

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
    /// It took too long, or has changed since it was read: it may be there, or has to be loaded again.
    Passed,
    /// It may not authorize, or there is none.
    Refused(Refusal),
    /// Redis has been emptied.
    Lost,
    Away(Away),
}

/// An account that a shared load is to bring, and who waits for it. Whoever hears nothing loads it by itself.
struct Missing {
    wanted: Wanted,
    answer: oneshot::Sender<Loaded>,
}

type LaneKey = (TenantId, Epoch);
type Turn = Arc<tokio::sync::Mutex<()>>;

/// The accounts that this server is loading.
pub(crate) struct Loads {
    turns: Mutex<HashMap<AccountKey, Turn>>,
    shared: Arc<Lanes<LaneKey, Missing>>,
}

impl Default for Loads {
    fn default() -> Loads {
        Loads { turns: Mutex::default(), shared: Lanes::new(LOADS_MAX, ACCOUNTS_A_LOAD) }
    }
}

impl Loads {
    /// Waits for its turn to load an account, which ends when the guard is dropped; says whether it had to wait. So each is loaded
    /// once, however many requests miss it.
    pub(crate) async fn turn(&self, account: AccountKey) -> (OwnedMutexGuard<()>, bool) {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody waits for or has are done with.
            if turns.len() > TURNS_KEPT {
                turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            turns.entry(account).or_default().clone()
        };
        match turn.clone().try_lock_owned() {
            Ok(guard) => (guard, false),
            Err(_) => (turn.lock_owned().await, true),
        }
    }
}

impl Ledger {
    /// Loads an account that Redis does not have, or not any more. The caller has its turn.
    pub(crate) async fn load(&self, account: AccountKey, epoch: Epoch, wanted: Wanted) -> Result<Hot<()>> {
        // One deadline for both tries.
        let loading = async {
            if let Some(loaded) = self.load_with_others(account, epoch, wanted.clone()).await {
                return Ok(loaded);
            }
            let mut loaded = self.load_accounts(account.tenant, epoch, &[wanted], Locked::Wait).await?;
            let unknown = Loaded::Refused(Refusal::NotFound { what: "customer" });
            Ok(loaded.remove(&account.customer).unwrap_or(unknown))
        };
        match self.db.within_deadline(loading).await? {
            Loaded::Done | Loaded::Passed => Ok(Hot::Decided(())),
            Loaded::Refused(refusal) => Err(refusal.into()),
            Loaded::Lost => Ok(Hot::Lost),
            Loaded::Away(away) => Ok(Hot::Away(away)),
        }
    }

    /// None where it has to be loaded by itself.
    async fn load_with_others(&self, account: AccountKey, epoch: Epoch, wanted: Wanted) -> Option<Loaded> {
        let (answer, answered) = oneshot::channel();
        if let Some(caller) = self.loads.shared.wait((account.tenant, epoch), Missing { wanted, answer }) {
            tokio::spawn(self.clone().load_missing(caller));
        }
        answered.await.ok()
    }

    async fn load_missing(self, mut caller: Caller<LaneKey, Missing>) {
        let (tenant, epoch) = caller.key();
        while let Some(mut missing) = caller.next_or_leave() {
            // Their requests may have gone meanwhile.
            missing.retain(|missing| !missing.answer.is_closed());
            let wanted: Vec<Wanted> = missing.iter().map(|missing| missing.wanted.clone()).collect();
            match self.load_accounts(tenant, epoch, &wanted, Locked::Skip).await {
                Ok(mut loaded) => {
                    for Missing { wanted, answer } in missing {
                        if let Some(of_account) = loaded.remove(&wanted.customer) {
                            let _ = answer.send(of_account);
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "accounts are loaded one by one"),
            }
        }
    }

    /// Loads accounts: their balances and, where Redis has nothing of them in this epoch, the live holds that were granted before.
    /// An account that may not authorize is not loaded; one that is passed over since it is locked has no answer.
    pub(crate) async fn load_accounts(
        &self,
        tenant: TenantId,
        epoch: Epoch,
        wanted: &[Wanted],
        locked: Locked,
    ) -> Result<BTreeMap<CustomerId, Loaded>> {
        let Some(now) = wanted.iter().map(|wanted| wanted.now).max() else { return Ok(BTreeMap::new()) };
        let customers = wanted.iter().map(|wanted| wanted.customer);
        let keys: Vec<AccountKey> =
            customers.clone().map(|customer| AccountKey { tenant, customer }).collect();
        // Before they are read: what changes from now on is told Redis after this, and what was read before it is not loaded then.
        let tickets = match self.hot.begin_loads(epoch, &keys).await {
            Ok(Some(tickets)) => tickets,
            Ok(None) => return Ok(customers.map(|customer| (customer, Loaded::Lost)).collect()),
            Err(away) => {
                return Ok(customers.map(|customer| (customer, Loaded::Away(away.clone()))).collect());
            }
        };
        let tickets: BTreeMap<CustomerId, Ticket> = customers.zip(tickets).collect();
        let (accounts, mut holds) = self
            .db
            .transaction(tenant, async |tx| self.read_accounts(tx, tenant, epoch, wanted, locked, now).await)
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
                let (key, ticket) = (project::key(tenant, account), &tickets[&account.customer()]);
                let filled = self.hot.fill(key, epoch, ticket, &projection, holds).await;
                let of_account = match filled {
                    Ok(Filled::Done) => Loaded::Done,
                    Ok(Filled::Passed) => Loaded::Passed,
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
        locked: Locked,
        now: Timestamp,
    ) -> Result<(Accounts, BTreeMap<CustomerId, Vec<KnownHold>>)> {
        let customers: Vec<CustomerId> = wanted.iter().map(|wanted| wanted.customer).collect();
        let accounts = lock::lock_unless(tx, tenant, &customers, locked).await?;
        let anew = || wanted.iter().filter(|wanted| !wanted.is_loaded && accounts.contains(wanted.customer));
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
        let rows = store::holds_named(tx, tenant, &asked_for).await?;
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
