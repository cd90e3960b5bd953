//! Sets Credits aside for a request that wants to start.

use db::{Connection, Error, Result};
use domain::hold::{Hold, HoldEnd, credits_to_hold};
use domain::id::{CustomerId, ExternalId};
use domain::refusal::OutOfCredits;
use domain::{Refusal, TenantScope};
use hot_balances::{AccountKey, Away, Epoch, FillHolds, Filled, HoldAnswer, HoldRequest, KnownHold};

use crate::hot_gate::{Decider, SETTLE};
use crate::{Ledger, lock, project, store};

/// A granted hold and the account's version that it was granted at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    pub hold: Hold,
    pub version: i64,
}

/// The same, before a repeated request has been told from a new one.
#[derive(Debug)]
enum HoldOutcome {
    New(Granted),
    Known { known: KnownHold, version: i64 },
}

/// What came of asking Redis.
enum Hot {
    Decided(HoldOutcome),
    /// It does not have the account, although it was just loaded.
    Missed,
    /// It was emptied.
    Lost,
    Away(Away),
}

/// How often a request asks again while who decides is changing.
const TRIES_MAX: usize = 4;

impl Ledger {
    /// Holds Credits for a request: the whole estimate, or all that is left where at least the
    /// prompt fits. The same id and request answer the same hold.
    ///
    /// Refused: `insufficient_quota`, `authorization-reused`, `authorization-ended`, `not-found`.
    pub async fn hold(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        request: &HoldRequest,
    ) -> Result<Granted> {
        self.journal.check_is_recording()?;
        match self.decide(scope, customer, request).await? {
            HoldOutcome::New(granted) => Ok(granted),
            HoldOutcome::Known { known, version } => {
                check_same(&known, request)?;
                Ok(Granted { hold: known.hold, version })
            }
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
            match self.gate.decider(&self.db, &self.hot).await? {
                Decider::Redis(epoch) => match self.hold_hot(scope, customer, epoch, request).await? {
                    Hot::Decided(outcome) => return Ok(outcome),
                    Hot::Missed => {}
                    Hot::Lost => self.gate.redis_is_lost(&self.db, epoch).await?,
                    Hot::Away(why) => self.gate.redis_is_away(&self.db, epoch, &why).await?,
                },
                Decider::Postgres => {
                    if let Some(outcome) = self.hold_in_postgres(scope, customer, request).await? {
                        return Ok(outcome);
                    }
                }
            }
        }
        Err(Error::Unavailable("who decides about holds is changing".to_owned()))
    }

    /// Decides in Redis; on a miss loads the account and asks once more.
    async fn hold_hot(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        epoch: Epoch,
        request: &HoldRequest,
    ) -> Result<Hot> {
        let key = AccountKey { tenant: scope.tenant, customer };
        for is_loaded in [false, true] {
            match self.hot.hold(key, epoch, request).await {
                Ok(HoldAnswer::Lost) => return Ok(Hot::Lost),
                Ok(HoldAnswer::Miss { .. }) if is_loaded => return Ok(Hot::Missed),
                Ok(HoldAnswer::Miss { .. }) => match self.load(scope, customer, epoch, &request.id).await? {
                    Ok(Filled::Done) => {}
                    Ok(Filled::Lost) => return Ok(Hot::Lost),
                    Err(away) => return Ok(Hot::Away(away)),
                },
                Ok(HoldAnswer::Held { hold, version }) => {
                    self.journal.record_later(scope.tenant, hold.clone(), request.fingerprint.clone());
                    return Ok(Hot::Decided(HoldOutcome::New(Granted { hold, version })));
                }
                Ok(HoldAnswer::Known { known, version }) => {
                    // Its grant may never have been answered: then it is not recorded either.
                    if known.end.is_none() && known.hold.expires_at > request.now {
                        let fingerprint = known.fingerprint.clone();
                        self.journal.record_later(scope.tenant, known.hold.clone(), fingerprint);
                    }
                    return Ok(Hot::Decided(HoldOutcome::Known { known, version }));
                }
                Ok(HoldAnswer::Short { unheld, refills_at, .. }) => {
                    return Err(out_of_credits(request, unheld, refills_at));
                }
                Err(away) => return Ok(Hot::Away(away)),
            }
        }
        Ok(Hot::Missed)
    }

    /// Fills the projection after a miss, with the holds that PostgreSQL knows to be live.
    async fn load(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        epoch: Epoch,
        asked_for: &ExternalId,
    ) -> Result<std::result::Result<Filled, Away>> {
        self.journal.flush(&self.db).await?;
        let (tenant, now) = (scope.tenant, scope.now);
        let (key, projection, holds) = self
            .db
            .transaction(tenant, async |tx| {
                let mut accounts = lock(tx, tenant, &[customer]).await?;
                let account = accounts.get_mut(customer)?;
                let mut holds = store::live_holds(tx, tenant, customer, now).await?;
                // The one that is asked for may have ended already: its id is not free again.
                let asked_for = store::hold(tx, tenant, customer, asked_for).await?;
                holds.extend(asked_for.filter(|known| known.end.is_some()));
                Ok((project::key(tenant, account), project::projection(account, now), holds))
            })
            .await?;
        Ok(self.hot.fill(key, epoch, &projection, FillHolds::All(&holds), now).await)
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
        self.db
            .transaction(scope.tenant, async |tx| decide_under_lock(tx, scope, customer, request).await)
            .await
    }
}

async fn decide_under_lock(
    tx: &mut Connection,
    scope: &TenantScope,
    customer: CustomerId,
    request: &HoldRequest,
) -> Result<Option<HoldOutcome>> {
    let tenant = scope.tenant;
    let mut accounts = lock(tx, tenant, &[customer]).await?;
    // Under the lock, which whoever loads the account into Redis takes as well.
    if !store::postgres_decides(tx, SETTLE).await? {
        return Ok(None);
    }
    let account = accounts.get_mut(customer)?;
    let version = account.version();
    if let Some(known) = store::hold(tx, tenant, customer, &request.id).await? {
        return Ok(Some(HoldOutcome::Known { known, version }));
    }
    let held = store::held(tx, tenant, customer, scope.now).await?;
    let unheld = account.available(scope.now).minus_floor_zero(held);
    let Some(credits) = credits_to_hold(unheld, request.full, request.prompt_only) else {
        return Err(out_of_credits(request, unheld, account.refills_at()));
    };
    let hold = request.hold(customer, credits, account.cycle_ends_at(scope.now));
    store::insert_holds(tx, tenant, &[(hold.clone(), request.fingerprint.clone())]).await?;
    Ok(Some(HoldOutcome::New(Granted { hold, version })))
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

fn out_of_credits(
    request: &HoldRequest,
    unheld: domain::Credits,
    refills_at: Option<domain::Timestamp>,
) -> Error {
    Refusal::OutOfCredits(OutOfCredits {
        needed: request.prompt_only,
        remaining: unheld,
        resets_at: refills_at,
    })
    .into()
}
