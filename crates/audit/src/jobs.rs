//! The jobs: every tenant is verified each hour, and every projection is compared each minute. Run twice
//! they do no harm.

use std::sync::Arc;

use db::{Error, Result};
use domain::id::TenantId;
use scheduler::{Handler, NewJob, Slot, Tick, handler};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::verify::What;
use crate::{Audit, metric};

/// Enqueues a [`VERIFY_TENANT`] for each tenant, and checks what belongs to none: payload {slot}.
pub const VERIFY: &str = "verify";
/// Verifies one tenant and parks what is damaged: payload {tenant}.
pub const VERIFY_TENANT: &str = "verify_tenant";

/// Compares the projections of all tenants with PostgreSQL: payload {slot}.
pub const SWEEP: &str = "sweep";

/// What the clock enqueues. The sweep looks in the middle of the minute, when due work is done.
pub const TICKS: [Tick; 2] = [
    Tick { kind: VERIFY, schedule: "0 0 * * * *", slot: Slot::Hour },
    Tick { kind: SWEEP, schedule: "30 * * * * *", slot: Slot::Minute },
];

/// The sweep, with its handler.
pub fn sweeping(audit: Arc<Audit>) -> (&'static str, Handler) {
    let sweep = handler(move |_| {
        let audit = audit.clone();
        async move { audit.sweep_all().await }
    });
    (SWEEP, sweep)
}

/// The kinds that verify, with their handlers.
pub fn verifying(audit: &Arc<Audit>) -> [(&'static str, Handler); 2] {
    let (all, one) = (audit.clone(), audit.clone());
    let verify = handler(move |payload| {
        let audit = all.clone();
        async move { audit.verify_all(read(payload)?).await }
    });
    let verify_tenant = handler(move |payload| {
        let audit = one.clone();
        async move { audit.verify_tenant(read(payload)?).await }
    });
    [(VERIFY, verify), (VERIFY_TENANT, verify_tenant)]
}

#[derive(Deserialize)]
struct OfSlot {
    slot: String,
}

#[derive(Deserialize)]
struct OfTenant {
    tenant: TenantId,
}

fn read<T: serde::de::DeserializeOwned>(payload: Value) -> Result<T> {
    serde_json::from_value(payload).map_err(|error| Error::Fault(Box::new(error)))
}

impl Audit {
    async fn verify_all(&self, job: OfSlot) -> Result<()> {
        for finding in self.verify_installation().await? {
            tracing::error!(%finding, "an invariant of the database is broken");
        }
        for tenant in self.tenants.list().await? {
            let tenant = tenant.id;
            let key = format!("{tenant}/{}", job.slot);
            let verify = NewJob::due_at_once(VERIFY_TENANT, key, json!({"tenant": tenant}));
            let now = chrono::Utc::now();
            self.db.transaction(tenant, async |tx| scheduler::enqueue(tx, verify.clone(), now).await).await?;
        }
        metric::show_parked(self.parked_count().await?);
        Ok(())
    }

    async fn verify_tenant(&self, job: OfTenant) -> Result<()> {
        let result = self.verify_and_park(job.tenant).await;
        metric::count_run(match &result {
            Ok(0) => "clean",
            Ok(_) => "findings",
            Err(_) => "failed",
        });
        metric::show_parked(self.parked_count().await?);
        result.map(drop)
    }

    async fn verify_and_park(&self, tenant: TenantId) -> Result<usize> {
        let scope = self.tenants.scope(tenant).await?;
        let findings = self.verify(&scope, What::default(), &|_| {}).await?;
        for finding in findings.iter().filter(|finding| finding.damaged_account().is_none()) {
            tracing::error!(%tenant, %finding, "an invariant is broken");
        }
        for customer in self.park(&scope, &findings).await? {
            tracing::error!(%tenant, %customer, "the account is parked; see tollgate unpark");
        }
        Ok(findings.len())
    }
}
