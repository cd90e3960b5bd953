//! How a request starts, and usage goes on, without Credits: on account, up to the spend cap, or with a
//! top-up that buys itself.

use db::{Connection, Result};
use domain::cycle_rates::Asked;
use domain::exhaustion::{AUTO_TOP_UP_JOB, Exhaustion, Overflow};
use domain::id::CustomerId;
use domain::payg::{price, sum};
use domain::usage::TokenCounts;
use domain::{Credits, TenantScope, Timestamp};
use ledger::{Accounts, Decision, Granted, HoldRequest};
use scheduler::NewJob;
use serde_json::json;

use crate::Usage;

/// How often a hold of what is left is asked for, while others take of it.
const TRIES_MAX: usize = 3;

/// What a request would be paid for with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PaysFor {
    Credits,
    /// Its model has no Credit rate.
    MoneyAlone,
}

impl Usage {
    /// Holds what is left for a request that the Credits do not pay for, where it may start all the same. None where it
    /// may not.
    pub(crate) async fn hold_without_credits(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        asked: &Asked<'_>,
        wanted: &HoldRequest,
        pays: PaysFor,
    ) -> Result<Option<Granted>> {
        if !self.may_start_without_credits(scope, customer, asked, pays).await? {
            return Ok(None);
        }
        for _ in 0..TRIES_MAX {
            // All that is left if that is less than the estimate, and then nothing at all.
            for full in [wanted.full, Credits::ZERO] {
                let rest = HoldRequest { full, prompt_only: Credits::ZERO, ..wanted.clone() };
                if let Decision::Granted(granted) = self.parts.ledger.hold(scope, customer, &rest).await? {
                    return Ok(Some(granted));
                }
            }
        }
        Ok(None)
    }

    async fn may_start_without_credits(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        asked: &Asked<'_>,
        pays: PaysFor,
    ) -> Result<bool> {
        let Some(overflow) = self.overflow(scope, customer).await? else { return Ok(false) };
        match overflow.exhaustion(&scope.policies) {
            Exhaustion::Absorb => Ok(false),
            Exhaustion::TopUp => Ok(pays == PaysFor::Credits && overflow.tops_up(&scope.policies, scope.now)),
            Exhaustion::Payg => {
                let history = self.parts.catalogs.history(scope.tenant).await?;
                let catalog = history.at(scope.now);
                let prompt = TokenCounts { output: 0, reasoning: 0, ..*asked.prompt };
                let whole = price(catalog.map(AsRef::as_ref), asked.model, &prompt, overflow.currency)?;
                let Some(whole) = whole else { return Ok(false) };
                let room = overflow.room(&scope.policies)?;
                Ok(!room.is_zero() && sum(&whole)? <= room)
            }
        }
    }

    /// None where there is no such customer. Unavailable while PostgreSQL is away: that the Credits are out would be final, and
    /// is not true of a customer who may go on without them.
    async fn overflow(&self, scope: &TenantScope, customer: CustomerId) -> Result<Option<Overflow>> {
        let tenant = scope.tenant;
        self.parts.db.transaction(tenant, async |tx| ledger::overflow(tx, tenant, customer).await).await
    }
}

/// Has a top-up bought for each account of a batch that is down to where one buys itself: a job does it after the
/// commit.
pub(crate) async fn have_topped_up(
    tx: &mut Connection,
    scope: &TenantScope,
    accounts: &Accounts,
    now: Timestamp,
) -> Result<()> {
    for account in accounts.iter() {
        let overflow = account.overflow();
        let is_low =
            overflow.top_up_at.is_some_and(|at| account.available(account.last_recorded_at().max(now)) <= at);
        if !is_low || account.journal().is_empty() || !overflow.tops_up(&scope.policies, now) {
            continue;
        }
        let (tenant, customer) = (scope.tenant, account.customer());
        let job = NewJob::due_at_once(
            AUTO_TOP_UP_JOB,
            format!("{customer}/{}", account.version()),
            json!({"tenant": tenant, "customer": customer}),
        );
        scheduler::enqueue(tx, job, now).await?;
    }
    Ok(())
}
