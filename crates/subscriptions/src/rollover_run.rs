//! A rollover that somebody asked for and watches.

use db::{Locked, Result};
use domain::id::RolloverId;
use domain::{TenantScope, Timestamp};
use scheduler::NewJob;
use serde_json::json;
use uuid::Uuid;

use crate::auto_top_up::TopUps;
use crate::roll_over::{BATCH, Progress};
use crate::{Subscriptions, jobs, store};

/// A run and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollover {
    pub id: RolloverId,
    pub state: RolloverState,
    pub progress: Progress,
    pub requested_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloverState {
    Queued,
    Running,
    Done,
}

impl RolloverState {
    pub const ALL: [RolloverState; 3] = [RolloverState::Queued, RolloverState::Running, RolloverState::Done];

    pub fn name(self) -> &'static str {
        match self {
            RolloverState::Queued => "queued",
            RolloverState::Running => "running",
            RolloverState::Done => "done",
        }
    }
}

impl Subscriptions {
    /// Asks for a run; a worker does it. Two runs at once share the work.
    pub async fn start_rollover(&self, scope: &TenantScope) -> Result<RolloverId> {
        let (tenant, now) = (scope.tenant, scope.now);
        self.db
            .transaction(tenant, async |tx| {
                let id = RolloverId::from_uuid(Uuid::now_v7());
                store::rollovers::insert(tx, tenant, id, now).await?;
                let payload = json!({"tenant": tenant, "rollover": id});
                let job = NewJob::due_at_once(jobs::ROLLOVER, id.to_string(), payload);
                scheduler::enqueue(tx, job, now).await?;
                Ok(id)
            })
            .await
    }

    /// Does a run, or the rest of one that was killed. Refused: `not-found`.
    pub async fn run_rollover(&self, scope: &TenantScope, rollover: RolloverId) -> Result<Progress> {
        let (tenant, now) = (scope.tenant, scope.now);
        self.db.transaction(tenant, async |tx| store::rollovers::begin(tx, tenant, rollover).await).await?;
        self.give_up_overdue(scope).await?;
        self.retry_due(scope).await?;
        self.invoice_due_usage(scope).await?;
        // Shares the work with others that run, then waits for them: done means that all is done.
        for locked in [Locked::Skip, Locked::Wait] {
            while !self.roll_batch(scope, BATCH, locked, Some(rollover)).await?.is_zero() {}
        }
        self.top_up_who_waits(scope).await?;
        self.db
            .transaction(tenant, async |tx| {
                store::rollovers::finish(tx, tenant, rollover, now).await?;
                Ok(store::rollovers::find(tx, tenant, rollover).await?.progress)
            })
            .await
    }

    /// Buys the top-ups that are waited for. One that another run, or a request, is buying is collected here as well, and may
    /// not be enough.
    async fn top_up_who_waits(&self, scope: &TenantScope) -> Result<()> {
        loop {
            let TopUps { in_flight, unavailable, .. } = self.top_up_all(scope).await?;
            if let Some(error) = unavailable {
                return Err(error);
            }
            if in_flight.is_empty() || !self.collect_uncollected(scope).await? {
                return Ok(());
            }
        }
    }

    /// Refused: `not-found`.
    pub async fn rollover(&self, scope: &TenantScope, rollover: RolloverId) -> Result<Rollover> {
        let tenant = scope.tenant;
        self.db.transaction(tenant, async |tx| store::rollovers::find(tx, tenant, rollover).await).await
    }
}
