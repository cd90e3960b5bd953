//! A cycle as it was opened and closed.

use db::Result;
use domain::calendar::Cycle;
use domain::id::{CustomerId, SubscriptionId};
use domain::{Refusal, TenantScope, Timestamp};

use crate::{Subscriptions, store};

/// A cycle of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CycleView {
    pub subscription: SubscriptionId,
    pub customer: CustomerId,
    pub cycle: Cycle,
    /// The plan that it was opened with.
    pub plan_code: String,
    pub opened_at: Timestamp,
    /// When it was closed by the rollover or by an immediate cancel; none while it is open.
    pub closed_at: Option<Timestamp>,
}

impl CycleView {
    /// When it ended, which a cancel makes earlier; none while it is open.
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.closed_at.map(|closed_at| closed_at.min(self.cycle.end))
    }
}

impl Subscriptions {
    /// The cycle of a customer's live subscription that it is in now; none where it has none, or waits for its
    /// renewal.
    pub async fn current_cycle(&self, scope: &TenantScope, customer: CustomerId) -> Result<Option<Cycle>> {
        let tenant = scope.tenant;
        self.db
            .snapshot(tenant, async |tx| {
                let Some(live) = store::subscriptions::live(tx, tenant, customer).await? else {
                    return Ok(None);
                };
                let cycle = store::subscriptions::find(tx, tenant, live).await?.cycle();
                Ok(cycle.filter(|cycle| cycle.contains(scope.now)))
            })
            .await
    }

    /// One cycle of a subscription: that of this number, else the latest. Refused: `not-found`.
    pub async fn read_cycle(
        &self,
        scope: &TenantScope,
        subscription: SubscriptionId,
        number: Option<u32>,
    ) -> Result<CycleView> {
        let tenant = scope.tenant;
        self.db
            .transaction(tenant, async |tx| {
                let customer = store::subscriptions::find(tx, tenant, subscription).await?.customer;
                let found = store::cycles::find(tx, tenant, subscription, customer, number).await?;
                Ok(found.ok_or(Refusal::NotFound { what: "cycle" })?)
            })
            .await
    }
}
