//! Turns events into deliveries, and due deliveries into jobs.

use chrono::Utc;
use db::Result;
use domain::id::TenantId;

use crate::{Webhooks, jobs, store};

/// Events planned in one transaction.
const BATCH: i64 = 500;

impl Webhooks {
    /// Plans all that waits, then enqueues a job for each endpoint with something due. A tenant whose
    /// events cannot be planned does not keep the others' from it.
    pub(crate) async fn plan_deliveries(&self) -> Result<()> {
        let waiting = self.db.all_tenants_transaction(store::tenants_with_events_all_tenants).await?;
        let mut result = Ok(());
        for tenant in waiting {
            if let Err(error) = self.plan_tenant(tenant).await {
                tracing::warn!(%tenant, %error, "deliveries were not planned");
                result = Err(error);
            }
        }
        for (tenant, endpoint) in self.db.all_tenants_transaction(store::endpoints_due_all_tenants).await? {
            let job = jobs::for_endpoint(tenant, endpoint);
            self.db
                .transaction(tenant, async |tx| scheduler::enqueue(tx, job.clone(), Utc::now()).await)
                .await?;
        }
        result
    }

    async fn plan_tenant(&self, tenant: TenantId) -> Result<()> {
        // A full batch may have left some: one is planned after another until one is not full.
        while self.db.transaction(tenant, async |tx| store::plan(tx, tenant, BATCH).await).await? == BATCH {}
        Ok(())
    }
}
