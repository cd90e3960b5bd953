//! Compares the projections in Redis with PostgreSQL, tenant by tenant (I-27).

use db::Result;
use ledger::Swept;

use crate::{Audit, metric};

impl Audit {
    /// Sweeps all tenants, and shows what was seen. Stops where Redis is away: then nothing of it is used.
    pub async fn sweep_all(&self) -> Result<()> {
        let mut total = Swept::default();
        for tenant in self.tenants.list().await? {
            let scope = self.tenants.scope(tenant.id).await?;
            let Some(swept) = self.ledger.sweep(&scope).await? else { return Ok(()) };
            total.accounts += swept.accounts;
            total.absent += swept.absent;
            total.stale += swept.stale;
            total.wrong += swept.wrong;
        }
        metric::show_swept(&total);
        Ok(())
    }
}
