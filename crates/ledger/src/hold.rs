//! Sets Credits aside for a request that wants to start.

use db::{Connection, Result};
use domain::exhaustion::Exhaustion;
use domain::hold::{Hold, HoldEnd, credits_to_hold};
use domain::id::CustomerId;
use domain::refusal::OutOfCredits;
use domain::{Credits, Refusal, TenantScope, Timestamp};
use hot_balances::{AccountKey, Away, Epoch, HoldAnswer, HoldRequest, KnownHold};

use crate::hot_gate::{Decider, Lease, SETTLE};
use crate::load::Wanted;
use crate::store::HotState;
use crate::{Ledger, lock, still_changing, store};

/// A granted hold and the account's version that it was granted at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    pub hold: Hold,
    pub version: i64,
}

/// Whether a request may start with Credits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Granted(Granted),
    OutOfCredits(Short),
}

/// Not even the prompt fits into what is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Short {
    pub out: OutOfCredits,
    /// How the customer goes on without Credits; the tenant's policy where none.
    pub exhaustion: Option<Exhaustion>,
}

/// The same, before a repeated request has been told from a new one.
#[derive(Debug)]
enum HoldOutcome {
    New(Granted),
    Known { known: KnownHold, version: i64 },
    Short(Short),
}

/// What came of asking Redis.
pub(crate) enum Hot<T> {
    Decided(T),
    /// It does not have the account, although it was just loaded; or its answer came too late to be used.
    Missed,
    /// It has been emptied.
    Lost,
    Away(Away),
}

/// How often a request asks again while who decides is changing.
pub(crate) const TRIES_MAX: usize = 4;

impl Ledger {
    /// Holds Credits for a request: the whole estimate, or all that is left where at least the
    /// prompt fits. The same id and request answer the same hold.
    ///
    /// Refused: `authorization-reused`, `authorization-ended`, `account-parked`, `subscription-suspended`,
    /// `not-found`.
    pub async fn hold(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        request: &HoldRequest,
    ) -> Result<Decision> {
        self.journal.check_is_recording()?;
        match self.decide(scope, customer, request).await? {
            HoldOutcome::New(granted) => Ok(Decision::Granted(granted)),
            HoldOutcome::Known { known, version } => {
                check_same(&known, request)?;
                Ok(Decision::Granted(Granted { hold: known.hold, version }))
            }
            HoldOutcome::Short(short) => Ok(Decision::OutOfCredits(short)),
        }
    }

    /// Lets whoever is in charge decide; asks again where that changes meanwhile.
    async fn decide(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        request: &HoldRequest,
    ) -> Result<HoldOutcome> {
        for _ in 0..TRIES_MAX {
            // What is seldom run is boxed, here and below: every request carries its future about.
            let decider = match self.gate.fresh_lease() {
                Some(lease) => Decider::Redis(lease),
                None => Box::pin(self.gate.decider(&self.db, &self.hot)).await?,
            };
            match decider {
                Decider::Redis(lease) => match self.hold_hot(scope, customer, lease, request).await? {
                    Hot::Decided(outcome) => return Ok(outcome),
                    answer => {
                        if let Some(outcome) = Box::pin(self.decided(lease, answer)).await? {
                            return Ok(outcome);
                        }
                    }
                },
                Decider::Postgres => {
                    let holding = Box::pin(self.hold_in_postgres(scope, customer, request));
                    if let Some(outcome) = holding.await? {
                        return Ok(outcome);
                    }
                }
            }
        }
        Err(still_changing())
    }

    /// What Redis decided; none where somebody has to be asked again.
    pub(crate) async fn decided<T>(&self, lease: Lease, answer: Hot<T>) -> Result<Option<T>> {
        match answer {
            Hot::Decided(outcome) => return Ok(Some(outcome)),
            Hot::Missed => {}
            Hot::Lost => self.gate.redis_is_emptied(&self.db, lease.epoch).await?,
            Hot::Away(why) => self.gate.redis_is_away(&self.db, lease.epoch, &why).await?,
        }
        Ok(None)
    }

    /// Decides in Redis; on a miss loads the account and asks once more.
    async fn hold_hot(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        lease: Lease,
        request: &HoldRequest,
    ) -> Result<Hot<HoldOutcome>> {
        let (key, epoch) = (AccountKey { tenant: scope.tenant, customer }, lease.epoch);
        let mut answer = self.hot.hold(key, epoch, request).await;
        if let Ok(HoldAnswer::Miss { is_loaded }) = answer {
            match Box::pin(self.load_and_hold(key, epoch, request, is_loaded)).await? {
                Hot::Decided(decided) => answer = Ok(decided),
                Hot::Missed => return Ok(Hot::Missed),
                Hot::Lost => return Ok(Hot::Lost),
                Hot::Away(away) => return Ok(Hot::Away(away)),
            }
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(away) => return Ok(Hot::Away(away)),
        };
        if lease.is_over() {
            return Ok(Hot::Missed);
        }
        match answer {
            HoldAnswer::Held { hold, version, valid_until } => {
                self.retell_in_time(key, valid_until, request.now);
                self.journal.record_later(scope.tenant, epoch, hold.clone(), request.fingerprint);
                Ok(Hot::Decided(HoldOutcome::New(Granted { hold, version })))
            }
            HoldAnswer::Known { known, version } => {
                // Its grant may never have been answered: then it is not recorded either.
                if known.is_live(request.now) {
                    self.journal.record_later(scope.tenant, epoch, known.hold.clone(), known.fingerprint);
                }
                Ok(Hot::Decided(HoldOutcome::Known { known, version }))
            }
            HoldAnswer::Short { unheld, refills_at, exhaustion, valid_until } => {
                self.retell_in_time(key, valid_until, request.now);
                Ok(Hot::Decided(HoldOutcome::Short(short(request, unheld, refills_at, exhaustion))))
            }
            HoldAnswer::Miss { .. } => Ok(Hot::Missed),
            HoldAnswer::Lost => Ok(Hot::Lost),
        }
    }

    /// After a miss: loads the account and asks again.
    async fn load_and_hold(
        &self,
        key: AccountKey,
        epoch: Epoch,
        request: &HoldRequest,
        is_loaded: bool,
    ) -> Result<Hot<HoldAnswer>> {
        let (_turn, has_waited) = self.loads.turn(key).await;
        let mut answer = match has_waited {
            // Whoever had the turn before has loaded it, most likely.
            true => self.hot.hold(key, epoch, request).await,
            false => Ok(HoldAnswer::Miss { is_loaded }),
        };
        // A second load, where the first one found that the account's holds have to come along.
        for _ in 0..2 {
            let Ok(HoldAnswer::Miss { is_loaded }) = answer else { break };
            let (customer, now, hold) = (key.customer, request.now, Some(request.id.clone()));
            match self.load(key, epoch, Wanted { customer, now, is_loaded, hold }).await? {
                Hot::Decided(()) => answer = self.hot.hold(key, epoch, request).await,
                Hot::Missed => return Ok(Hot::Missed),
                Hot::Lost => return Ok(Hot::Lost),
                Hot::Away(away) => return Ok(Hot::Away(away)),
            }
        }
        Ok(answer.map_or_else(Hot::Away, Hot::Decided))
    }

    /// Decides and holds in one PostgreSQL transaction, under the account's lock (R-36 `strict`).
    /// `None` where PostgreSQL is no longer the one to decide.
    async fn hold_in_postgres(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        request: &HoldRequest,
    ) -> Result<Option<HoldOutcome>> {
        self.journal.flush(&self.db).await?;
        let decided = self
            .db
            .transaction(scope.tenant, async |tx| self.decide_under_lock(tx, scope, customer, request).await)
            .await?;
        let Some((outcome, epoch)) = decided else { return Ok(None) };
        self.recovered.note_rows(scope.tenant, customer, epoch);
        Ok(Some(outcome))
    }

    async fn decide_under_lock(
        &self,
        tx: &mut Connection,
        scope: &TenantScope,
        customer: CustomerId,
        request: &HoldRequest,
    ) -> Result<Option<(HoldOutcome, Epoch)>> {
        let (tenant, now) = (scope.tenant, scope.now);
        let mut accounts = lock(tx, tenant, &[customer]).await?;
        // Under the lock, which whoever loads the account into Redis takes as well.
        let Some(HotState { epoch, left, .. }) = store::postgres_decides(tx, SETTLE).await? else {
            return Ok(None);
        };
        let account = accounts.get_mut(customer)?;
        account.check_authorizes()?;
        // What was recorded while this request waited for the lock counts by its own clock (R-19a).
        let as_of = account.last_recorded_at().max(now);
        let version = account.version();
        self.record_earlier_holds(tx, tenant, customer, epoch, now).await?;
        let earlier =
            self.recovered.before(tx, tenant, epoch, now).await?.find(customer, &request.id).cloned();
        if let Some(known) = store::hold(tx, tenant, customer, &request.id).await?.or(earlier) {
            return Ok(Some((HoldOutcome::Known { known, version }, epoch)));
        }
        let named = [(customer, request.id.clone())];
        if let Some(known) = self.left_behind(tenant, (epoch, left), &named, now).await.pop() {
            store::insert_holds(tx, tenant, &[(known.hold.clone(), known.fingerprint)]).await?;
            return Ok(Some((HoldOutcome::Known { known, version }, epoch)));
        }
        let held = store::held(tx, tenant, customer, now).await?;
        let unheld = account.available(as_of).minus_floor_zero(held);
        let Some(credits) = credits_to_hold(unheld, request.full, request.prompt_only) else {
            let short = short(request, unheld, account.refills_at(), account.overflow().exhaustion);
            return Ok(Some((HoldOutcome::Short(short), epoch)));
        };
        let hold = request.hold(customer, credits, account.cycle_ends_at(now));
        store::insert_holds(tx, tenant, &[(hold.clone(), request.fingerprint)]).await?;
        Ok(Some((HoldOutcome::New(Granted { hold, version }), epoch)))
    }
}

fn check_same(known: &KnownHold, request: &HoldRequest) -> Result<()> {
    let is_over = known.hold.expires_at <= request.now;
    match known.end {
        Some(HoldEnd::Captured | HoldEnd::Released) => Err(Refusal::AuthorizationEnded.into()),
        None if known.fingerprint != request.fingerprint => Err(Refusal::AuthorizationReused.into()),
        None if is_over => Err(Refusal::AuthorizationEnded.into()),
        None => Ok(()),
    }
}

fn short(
    request: &HoldRequest,
    unheld: Credits,
    refills_at: Option<Timestamp>,
    exhaustion: Option<Exhaustion>,
) -> Short {
    let out = OutOfCredits { needed: request.prompt_only, remaining: unheld, resets_at: refills_at };
    Short { out, exhaustion }
}
