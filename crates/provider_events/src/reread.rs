//! Looks through what the provider has told lately, and takes in what never came.

use chrono::{TimeDelta, Utc};
use db::{Error, Result};
use domain::id::TenantId;
use stripe::{CallError, read_event};

use crate::{CameBy, ProviderEvents, jobs};

/// How far back before the last look: an event may turn up in the list a little after its own time.
const OVERLAP: TimeDelta = TimeDelta::minutes(10);
/// Pages of 100 that one look reads; what is left, the next one finds.
const PAGES_MAX: u32 = 100;

impl ProviderEvents {
    /// Takes in the events since the last look, and says how many of them had not come. Each is stored
    /// as a webhook's is, so what comes by both ways counts once.
    pub async fn reread(&self, tenant: TenantId) -> Result<u64> {
        let Some(credentials) = self.accounts.credentials(tenant).await? else { return Ok(0) };
        let (started_at, since) = (Utc::now(), credentials.reread_until - OVERLAP);
        let (mut before, mut missing) = (None::<String>, 0);
        for _ in 0..PAGES_MAX {
            let stripe = self.accounts.stripe();
            let page = stripe
                .events(&credentials.secret_key, since, before.as_deref())
                .await
                .map_err(call_failed)?;
            let mut last = None;
            for body in page.bodies() {
                let is_new = self.store(tenant, &credentials, body.as_bytes(), CameBy::Reread).await?;
                missing += u64::from(is_new);
                last = read_event(body.as_bytes()).ok().map(|event| event.id);
            }
            match last {
                Some(last) if page.has_more => before = Some(last),
                _ => {
                    self.accounts.note_reread(tenant, started_at).await?;
                    if missing > 0 {
                        tracing::info!(%tenant, missing, "provider events had not come by webhook");
                    }
                    return Ok(missing);
                }
            }
        }
        Err(Error::Unavailable(format!("{tenant} has more provider events than one look reads")))
    }

    pub(crate) async fn find_accounts(&self, slot: &str) -> Result<()> {
        for tenant in self.accounts.tenants_with_an_account().await? {
            let now = self.tenants.scope(tenant).await?.now;
            let job = jobs::for_tenant(tenant, slot);
            self.db.transaction(tenant, async |tx| scheduler::enqueue(tx, job.clone(), now).await).await?;
        }
        Ok(())
    }
}

pub(crate) fn call_failed(error: CallError) -> Error {
    match error {
        CallError::Unknown(reason) => Error::Unavailable(reason),
        CallError::Denied(denied) => Error::Fault(Box::new(denied)),
    }
}
