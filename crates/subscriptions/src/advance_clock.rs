//! Moves a test tenant's clock.
//!
//! A worker may be doing what is due at the same instant, and another request may be moving the
//! same clock. So an instant is left only when everything due at it is done, by whomever: a claim
//! waits for locked rows instead of skipping them, and payments that were stored and not collected
//! are collected here, because the job that else would do it waits for a minute of real time.

use chrono::Duration;
use db::{Locked, Result};
use domain::scope::TenantMode;
use domain::time::truncate_to_micros;
use domain::{Refusal, TenantScope, Timestamp};

use crate::auto_top_up::TopUps;
use crate::roll_over::Progress;
use crate::{Subscriptions, store};

/// The furthest that one call advances a clock: two years, 24 cycles of each subscription.
pub const ADVANCE_DAYS_MAX: i64 = 731;

impl Subscriptions {
    /// Moves the clock forward to `to`, stopping at every instant at which something is due, with
    /// `now` = that instant: so everything happens as it would have, and no cycle is skipped.
    /// Refused: `not-a-test-tenant`, `clock-moves-back`, and more than [`ADVANCE_DAYS_MAX`] at once.
    pub async fn advance_clock(&self, scope: &TenantScope, to: Timestamp) -> Result<Progress> {
        let tenant = scope.tenant;
        let to = truncate_to_micros(to);
        if scope.mode != TenantMode::Test {
            return Err(Refusal::NotATestTenant.into());
        }
        if to < scope.now {
            return Err(Refusal::ClockMovesBack.into());
        }
        if to - scope.now > Duration::days(ADVANCE_DAYS_MAX) {
            return Err(Refusal::invalid_field("/to", "out-of-range").into());
        }
        let mut scope = scope.clone();
        let mut total = Progress::default();
        loop {
            total.add(&self.finish_instant(&scope).await?);
            if scope.now == to {
                return Ok(total);
            }
            let now = scope.now;
            let next = self
                .db
                .transaction(tenant, async |tx| store::due::next_instant(tx, tenant, now).await)
                .await?;
            let next = next.filter(|instant| *instant <= to).unwrap_or(to);
            scope = self.move_on(&scope, next, to).await?;
        }
    }

    /// Moves the clock on; where another request has done that already, goes on from where it stands: what is due there may
    /// be in that one's hands, and no longer be seen as due from here.
    async fn move_on(&self, scope: &TenantScope, next: Timestamp, to: Timestamp) -> Result<TenantScope> {
        if let Some(moved) = self.tenants.move_clock_on(scope, next).await? {
            return Ok(moved);
        }
        let ahead = self.tenants.scope(scope.tenant).await?;
        if ahead.now <= to { Ok(ahead) } else { Err(Refusal::ClockMovesBack.into()) }
    }

    /// Runs until nothing is due at this instant, nor in anybody's hands.
    async fn finish_instant(&self, scope: &TenantScope) -> Result<Progress> {
        let mut total = Progress::default();
        let mut were_in_flight = Vec::new();
        loop {
            let progress = self.run_all(scope, Locked::Wait).await?;
            total.add(&progress);
            let collected = self.collect_uncollected(scope).await?;
            if !progress.is_zero() || collected {
                continue;
            }
            // Again: a top-up that was put off, since another request collected a renewal, may be due now that it is paid.
            let TopUps { any_bought, in_flight, unavailable } = self.top_up_all(scope).await?;
            if let Some(error) = unavailable {
                return Err(error);
            }
            // One that another request is buying may not be enough; one that is still there has nobody decided.
            if !any_bought && in_flight == were_in_flight {
                return Ok(total);
            }
            were_in_flight = in_flight;
        }
    }
}
