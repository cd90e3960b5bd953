//! The dry run of a rollover: what it would do now, by the same decision, with nothing written.

use std::collections::BTreeSet;

use db::{Connection, Result};
use domain::calendar::Cycle;
use domain::catalog::CatalogHistory;
use domain::id::{CustomerId, SubscriptionId};
use domain::{Credits, Refusal, TenantScope};

use crate::cancel::sum;
use crate::next_cycle::{Next, decide};
use crate::roll_over::{BATCH, of_the_plan};
use crate::store::due::After;
use crate::{Subscriptions, store};

/// What would become of one due subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRollover {
    pub subscription: SubscriptionId,
    pub customer: CustomerId,
    pub closes: Cycle,
    /// What its cycle leaves unspent.
    pub credits_expired: Credits,
    /// What of that is carried into the next ones.
    pub credits_carried: Credits,
    pub next: Next,
}

impl Subscriptions {
    /// The due subscriptions, the longest overdue first, and what a rollover would do with each.
    /// A payment that the provider still has to decide is left out, as the rollover leaves it.
    pub async fn plan_rollover(&self, scope: &TenantScope) -> Result<Vec<PlannedRollover>> {
        let history = self.catalogs.history(scope.tenant).await?;
        let mut planned: Vec<PlannedRollover> = Vec::new();
        let mut after: Option<After> = None;
        loop {
            let page =
                self.db.transaction(scope.tenant, async |tx| plan(tx, scope, &history, after).await).await?;
            let Some(last) = page.last() else { return Ok(planned) };
            after = Some((last.closes.end, last.subscription));
            planned.extend(page);
        }
    }
}

async fn plan(
    tx: &mut Connection,
    scope: &TenantScope,
    history: &CatalogHistory,
    after: Option<After>,
) -> Result<Vec<PlannedRollover>> {
    let tenant = scope.tenant;
    let due = store::due::peek(tx, tenant, scope.now, after, BATCH).await?;
    let ids: Vec<SubscriptionId> = due.iter().map(|subscription| subscription.id).collect();
    let customers: Vec<CustomerId> = due.iter().map(|subscription| subscription.customer).collect();
    let paid: BTreeSet<SubscriptionId> =
        store::purchases::with_paid_cycle(tx, tenant, &ids).await?.into_iter().collect();
    // Locked for a moment, so that grants and balances are of one version; never written.
    let mut accounts = ledger::lock(tx, tenant, &customers).await?;
    let mut planned = Vec::new();
    for subscription in due {
        let running = subscription.running.ok_or(Refusal::SubscriptionIncomplete)?;
        let account = accounts.get_mut(subscription.customer)?;
        let draws = account.expire(scope.now)?;
        let credits_expired = sum(&draws)?;
        let rest = sum(&of_the_plan(account, draws))?;
        let next = decide(scope, history, &subscription, paid.contains(&subscription.id))?;
        let credits_carried = match (&scope.policies.rollover, &next) {
            (Some(policy), Next::Opens(_)) => policy
                .carry(running.anchor, running.cycle, rest, scope.now)?
                .map_or(Credits::ZERO, |carried| carried.credits),
            (None, Next::Opens(_)) | (_, Next::Ends { .. }) => Credits::ZERO,
        };
        planned.push(PlannedRollover {
            subscription: subscription.id,
            customer: subscription.customer,
            closes: running.cycle,
            credits_expired,
            credits_carried,
            next,
        });
    }
    Ok(planned)
}
