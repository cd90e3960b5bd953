//! Lets a hold run on, for a request that takes longer than was thought.

use db::{Connection, Error, Result};
use domain::hold::{Hold, renewed_until};
use domain::id::{CustomerId, ExternalId};
use domain::{Refusal, TenantScope, Timestamp};
use hot_balances::{AccountKey, Epoch, KnownHold, RenewAnswer};

use crate::hold::{Granted, Hot, TRIES_MAX};
use crate::hot_gate::{Decider, Lease, SETTLE};
use crate::load::Wanted;
use crate::store::HotState;
use crate::{Ledger, lock, still_changing, store};

/// What Redis says about a hold that is to be renewed.
enum Renewal {
    Renewed(Granted),
    Ended,
    Unknown,
}

impl Ledger {
    /// Gives a live hold its policy's time again, counted from now, at most up to the policy's longest
    /// life. It holds the same Credits; its charge instant stays.
    ///
    /// Refused: `not-found`; `authorization-ended` once it was captured, released or ran out;
    /// `authorization-not-renewable` once it has its longest life; `subscription-suspended`.
    pub async fn renew(&self, scope: &TenantScope, customer: CustomerId, id: &ExternalId) -> Result<Granted> {
        self.journal.check_is_recording()?;
        for _ in 0..TRIES_MAX {
            match self.gate.decider(&self.db, &self.hot).await? {
                Decider::Redis(lease) => {
                    let answer = self.renew_hot(scope, customer, lease, id).await?;
                    match self.decided(lease, answer).await? {
                        Some(Renewal::Renewed(granted)) => return Ok(granted),
                        Some(Renewal::Ended) => return Err(Refusal::AuthorizationEnded.into()),
                        Some(Renewal::Unknown) => return Err(not_found()),
                        None => {}
                    }
                }
                Decider::Postgres => {
                    self.journal.flush(&self.db).await?;
                    let renewed = self
                        .db
                        .transaction(scope.tenant, async |tx| {
                            self.renew_under_lock(tx, scope, customer, id).await
                        })
                        .await?;
                    if let Some((granted, epoch)) = renewed {
                        self.recovered.note_rows(scope.tenant, customer, epoch);
                        return Ok(granted);
                    }
                }
            }
        }
        Err(still_changing())
    }

    async fn renew_hot(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        lease: Lease,
        id: &ExternalId,
    ) -> Result<Hot<Renewal>> {
        let (tenant, epoch) = (scope.tenant, lease.epoch);
        let key = AccountKey { tenant, customer };
        // The terms first: how long it may go on depends on when it was granted.
        let known = match self.known_hot(scope, customer, epoch, id).await? {
            Hot::Decided(Some(known)) => known,
            Hot::Decided(None) => return Ok(Hot::Decided(Renewal::Unknown)),
            Hot::Missed => return Ok(Hot::Missed),
            Hot::Lost => return Ok(Hot::Lost),
            Hot::Away(away) => return Ok(Hot::Away(away)),
        };
        if !known.is_live(scope.now) {
            return Ok(Hot::Decided(Renewal::Ended));
        }
        let until = until(scope, &known.hold)?;
        let answer = match self.hot.renew(key, epoch, id, until, scope.now).await {
            Ok(answer) => answer,
            Err(away) => return Ok(Hot::Away(away)),
        };
        if lease.is_over() {
            return Ok(Hot::Missed);
        }
        Ok(match answer {
            RenewAnswer::Renewed { known, version } => {
                self.journal.record_later(tenant, epoch, known.hold.clone(), known.fingerprint);
                Hot::Decided(Renewal::Renewed(Granted { hold: known.hold, version }))
            }
            RenewAnswer::Ended(_) => Hot::Decided(Renewal::Ended),
            RenewAnswer::Unknown => Hot::Decided(Renewal::Unknown),
            RenewAnswer::Miss { is_loaded } => {
                let _turn = self.loads.turn(key).await;
                let wanted = Wanted { customer, now: scope.now, is_loaded, hold: Some(id.clone()) };
                match self.load(key, epoch, wanted).await? {
                    // Asked again with what is loaded now.
                    Hot::Decided(()) | Hot::Missed => Hot::Missed,
                    Hot::Lost => Hot::Lost,
                    Hot::Away(away) => Hot::Away(away),
                }
            }
            RenewAnswer::Lost => Hot::Lost,
        })
    }

    /// A hold as Redis knows it, which has the account then.
    async fn known_hot(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        epoch: Epoch,
        id: &ExternalId,
    ) -> Result<Hot<Option<KnownHold>>> {
        let key = AccountKey { tenant: scope.tenant, customer };
        let found = match self.hot.find(epoch, &[(key, id.clone())]).await {
            Ok(mut found) => found.pop().flatten(),
            Err(away) => return Ok(Hot::Away(away)),
        };
        if found.is_some() {
            return Ok(Hot::Decided(found));
        }
        let _turn = self.loads.turn(key).await;
        let wanted = Wanted { customer, now: scope.now, is_loaded: false, hold: Some(id.clone()) };
        match self.load(key, epoch, wanted).await? {
            Hot::Decided(()) => {}
            Hot::Missed => return Ok(Hot::Missed),
            Hot::Lost => return Ok(Hot::Lost),
            Hot::Away(away) => return Ok(Hot::Away(away)),
        }
        match self.hot.find(epoch, &[(key, id.clone())]).await {
            Ok(mut found) => Ok(Hot::Decided(found.pop().flatten())),
            Err(away) => Ok(Hot::Away(away)),
        }
    }

    /// `None` where PostgreSQL is no longer the one to decide.
    async fn renew_under_lock(
        &self,
        tx: &mut Connection,
        scope: &TenantScope,
        customer: CustomerId,
        id: &ExternalId,
    ) -> Result<Option<(Granted, Epoch)>> {
        let (tenant, now) = (scope.tenant, scope.now);
        let mut accounts = lock(tx, tenant, &[customer]).await?;
        let Some(HotState { epoch, left, .. }) = store::postgres_decides(tx, SETTLE).await? else {
            return Ok(None);
        };
        let account = accounts.get_mut(customer)?;
        account.check_authorizes()?;
        self.record_earlier_holds(tx, tenant, customer, epoch, now).await?;
        let known = match store::hold(tx, tenant, customer, id).await? {
            Some(known) => known,
            None => {
                let named = [(customer, id.clone())];
                self.left_behind(tenant, (epoch, left), &named, now).await.pop().ok_or_else(not_found)?
            }
        };
        if !known.is_live(now) {
            return Err(Refusal::AuthorizationEnded.into());
        }
        let hold = known.hold.renewed(until(scope, &known.hold)?, account.cycle_ends_at(now));
        store::insert_holds(tx, tenant, &[(hold.clone(), known.fingerprint)]).await?;
        Ok(Some((Granted { hold, version: account.version() }, epoch)))
    }
}

fn until(scope: &TenantScope, hold: &Hold) -> Result<Timestamp> {
    let policies = &scope.policies;
    let until = renewed_until(hold, scope.now, policies.hold_minutes, policies.hold_life_minutes_max);
    until.ok_or_else(|| Refusal::AuthorizationNotRenewable.into())
}

fn not_found() -> Error {
    Refusal::NotFound { what: "authorization" }.into()
}
