//! The job that this crate enqueues, and its handler. Run twice, it has the effect of one run.

use std::sync::Arc;

use db::{Error, Result};
use domain::id::{CampaignId, TenantId};
use scheduler::{Handler, handler};
use serde::Deserialize;
use serde_json::Value;

use crate::Adjustments;

/// Does a run of a campaign: payload {tenant, campaign}.
pub const CAMPAIGN: &str = "campaign";

/// All kinds with their handlers.
pub fn handlers(adjustments: &Arc<Adjustments>) -> Vec<(&'static str, Handler)> {
    let adjustments = adjustments.clone();
    let work = move |payload| {
        let adjustments = adjustments.clone();
        async move { adjustments.campaign_job(payload).await }
    };
    vec![(CAMPAIGN, handler(work))]
}

#[derive(Deserialize)]
struct OfCampaign {
    tenant: TenantId,
    campaign: CampaignId,
}

impl Adjustments {
    async fn campaign_job(&self, payload: Value) -> Result<()> {
        let job: OfCampaign =
            serde_json::from_value(payload).map_err(|error| Error::Fault(Box::new(error)))?;
        let scope = self.tenants.scope(job.tenant).await?;
        let campaign = self.run_campaign(&scope, job.campaign).await?;
        tracing::info!(campaign = %campaign.id, granted = campaign.granted, "a campaign is done");
        Ok(())
    }
}
