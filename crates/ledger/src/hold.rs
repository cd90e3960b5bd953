//! Sets Credits aside for a request that wants to start.

use db::{Connection, Error, Result};
use domain::hold::{Hold, HoldEnd, credits_to_hold};
use domain::id::CustomerId;
use domain::refusal::OutOfCredits;
use domain::{Refusal, TenantScope};
use hot_balances::{AccountKey, Away, HoldAnswer, HoldRequest, KnownHold};

use crate::{Ledger, lock, project, store};

/// A granted hold and the account's version that it was granted at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    pub hold: Hold,
    pub version: i64,
}

/// The same, before a repeated request has been told from a new one.
#[derive(Debug)]
pub enum HoldOutcome {
    New(Granted),
    Known { known: KnownHold, version: i64 },
}

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
        let outcome = match self.hold_hot(scope, customer, request).await? {
            Some(outcome) => outcome,
            None => self.hold_in_postgres(scope, customer, request).await?,
        };
        match outcome {
            HoldOutcome::New(granted) => Ok(granted),
            HoldOutcome::Known { known, version } => {
                check_same(&known, request)?;
                Ok(Granted { hold: known.hold, version })
            }
        }
    }

    /// Decides in Redis; on a miss loads the account and asks once more. `None`: Redis cannot say.
    async fn hold_hot(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        request: &HoldRequest,
    ) -> Result<Option<HoldOutcome>> {
        let key = AccountKey { tenant: scope.tenant, customer };
        for is_loaded in [false, true] {
            match self.hot.hold(key, request).await {
                Ok(HoldAnswer::Miss) if is_loaded => return Ok(None),
                Ok(HoldAnswer::Miss) => {
                    if self.load(scope, customer).await?.is_err() {
                        return Ok(None);
                    }
                }
                Ok(HoldAnswer::Held { hold, version }) => {
                    self.journal.record_later(scope.tenant, hold.clone(), request.fingerprint.clone());
                    return Ok(Some(HoldOutcome::New(Granted { hold, version })));
                }
                Ok(HoldAnswer::Known { known, version }) => {
                    return Ok(Some(HoldOutcome::Known { known, version }));
                }
                Ok(HoldAnswer::Short { unheld, refills_at, .. }) => {
                    return Err(out_of_credits(request, unheld, refills_at));
                }
                Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Fills the projection after a miss, with the holds that PostgreSQL knows to be live.
    async fn load(&self, scope: &TenantScope, customer: CustomerId) -> Result<std::result::Result<(), Away>> {
        self.journal.flush(&self.db).await?;
        let (tenant, now) = (scope.tenant, scope.now);
        let (key, projection, live) = self
            .db
            .transaction(tenant, async |tx| {
                let mut accounts = lock(tx, tenant, &[customer]).await?;
                let account = accounts.get_mut(customer)?;
                let live = store::live_holds(tx, tenant, customer, now).await?;
                Ok((project::key(tenant, account), project::projection(account, now), live))
            })
            .await?;
        Ok(self.hot.fill(key, &projection, &live, now).await)
    }

    /// Decides and holds in one PostgreSQL transaction, under the account's lock (R-36 `strict`).
    async fn hold_in_postgres(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        request: &HoldRequest,
    ) -> Result<HoldOutcome> {
        self.journal.flush(&self.db).await?;
        let outcome = self
            .db
            .transaction(scope.tenant, async |tx| decide_under_lock(tx, scope, customer, request).await)
            .await?;
        // What Redis may still have of this account lacks the hold: it is dropped before its next use.
        self.hot.strand(AccountKey { tenant: scope.tenant, customer });
        Ok(outcome)
    }
}

async fn decide_under_lock(
    tx: &mut Connection,
    scope: &TenantScope,
    customer: CustomerId,
    request: &HoldRequest,
) -> Result<HoldOutcome> {
    let tenant = scope.tenant;
    let mut accounts = lock(tx, tenant, &[customer]).await?;
    let account = accounts.get_mut(customer)?;
    let version = account.version();
    if let Some(known) = store::hold(tx, tenant, customer, &request.id).await? {
        return Ok(HoldOutcome::Known { known, version });
    }
    let held = store::held(tx, tenant, customer, scope.now).await?;
    let unheld = account.available(scope.now).minus_floor_zero(held);
    let Some(credits) = credits_to_hold(unheld, request.full, request.prompt_only) else {
        return Err(out_of_credits(request, unheld, account.refills_at()));
    };
    let hold = request.hold(customer, credits, account.refills_at());
    store::insert_holds(tx, tenant, &[(hold.clone(), request.fingerprint.clone())]).await?;
    Ok(HoldOutcome::New(Granted { hold, version }))
}

fn check_same(known: &KnownHold, request: &HoldRequest) -> Result<()> {
    if known.fingerprint != request.fingerprint {
        return Err(Refusal::AuthorizationReused.into());
    }
    let is_over = known.hold.expires_at <= request.now;
    match known.end {
        None if !is_over => Ok(()),
        None | Some(HoldEnd::Captured | HoldEnd::Released) => Err(Refusal::AuthorizationEnded.into()),
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
