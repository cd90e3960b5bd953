//! A campaign that somebody asked for and watches: the same Credits for many customers, once each.

use db::{Connection, Result};
use domain::id::{ApiKeyId, CampaignId, CustomerId, ExternalId};
use domain::refusal::FieldError;
use domain::subscription::Status;
use domain::{Credits, Refusal, TenantScope, Timestamp};
use idempotency::{Claim, RequestKey};
use scheduler::NewJob;
use serde_json::json;
use uuid::Uuid;

use crate::{Adjustments, check_reason, jobs, store};

/// The most customers that one request names.
pub const CUSTOMERS_MAX: usize = 10_000;

/// Whom a campaign is for: those that are named, or all, as far as every condition holds for them when the run
/// comes to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    pub customers: Option<Vec<CustomerId>>,
    /// On this plan, with a live subscription, or with one of the status that is asked for.
    pub plan_code: Option<String>,
    pub status: Option<Status>,
    /// With an event of a time from the first instant until before the second.
    pub had_usage: Option<(Timestamp, Timestamp)>,
}

/// A campaign to run.
#[derive(Debug, Clone)]
pub struct NewCampaign {
    /// What makes it give once: a customer gets what a tag gives one time.
    pub tag: ExternalId,
    pub credits: Credits,
    pub expires_at: Option<Timestamp>,
    pub reason: String,
    pub selection: Selection,
    pub made_by: ApiKeyId,
}

/// A run and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    pub id: CampaignId,
    pub tag: String,
    pub credits: Credits,
    pub expires_at: Option<Timestamp>,
    pub reason: String,
    pub made_by: ApiKeyId,
    pub state: CampaignState,
    /// Customers that this run has given to.
    pub granted: i64,
    /// Customers that had what the tag gives before.
    pub skipped: i64,
    pub requested_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CampaignState {
    Queued,
    Running,
    Done,
}

impl CampaignState {
    pub const ALL: [CampaignState; 3] = [CampaignState::Queued, CampaignState::Running, CampaignState::Done];

    pub fn name(self) -> &'static str {
        match self {
            CampaignState::Queued => "queued",
            CampaignState::Running => "running",
            CampaignState::Done => "done",
        }
    }
}

impl Adjustments {
    /// Stores a run and has a worker do it. A tag that was used before gives only to those who have not had it.
    /// Refused: `invalid-field` for no Credits, a time that is over, or a customer that is not there;
    /// `campaign-differs` where the tag was used with other Credits or another expiry; `card-data-refused`.
    pub async fn start_campaign(
        &self,
        scope: &TenantScope,
        new: NewCampaign,
        request: &RequestKey,
    ) -> Result<Campaign> {
        let (tenant, now) = (scope.tenant, scope.now);
        check(&new, now)?;
        self.db
            .transaction(tenant, async |tx| {
                let id = CampaignId::from_uuid(Uuid::now_v7());
                let id = match idempotency::claim(tx, tenant, request, id.uuid(), now).await? {
                    Claim::New => {
                        start(tx, scope, id, &new).await?;
                        id
                    }
                    Claim::Unfinished { fact } => CampaignId::from_uuid(fact),
                };
                store::campaigns::find(tx, tenant, id).await
            })
            .await
    }

    /// Refused: `not-found`.
    pub async fn campaign(&self, scope: &TenantScope, id: CampaignId) -> Result<Campaign> {
        let tenant = scope.tenant;
        self.db.transaction(tenant, async |tx| store::campaigns::find(tx, tenant, id).await).await
    }

    /// The tenant's campaigns from the oldest, `limit` of those after `after`.
    pub async fn campaigns(
        &self,
        scope: &TenantScope,
        after: Option<CampaignId>,
        limit: u32,
    ) -> Result<Vec<Campaign>> {
        let tenant = scope.tenant;
        self.db.transaction(tenant, async |tx| store::campaigns::page(tx, tenant, after, limit).await).await
    }
}

fn check(new: &NewCampaign, now: Timestamp) -> std::result::Result<(), Refusal> {
    check_reason(&new.reason)?;
    if new.credits.is_zero() {
        return Err(Refusal::invalid_field("/credits", "out-of-range"));
    }
    if new.expires_at.is_some_and(|expires_at| expires_at <= now) {
        return Err(Refusal::invalid_field("/expires_at", "in-the-past"));
    }
    if new.selection.customers.as_ref().is_some_and(|customers| customers.len() > CUSTOMERS_MAX) {
        return Err(Refusal::invalid_field("/customers", "too-many"));
    }
    if new.selection.had_usage.is_some_and(|(from, to)| from >= to) {
        return Err(Refusal::invalid_field("/filter/had_usage_between/to", "out-of-range"));
    }
    Ok(())
}

async fn start(tx: &mut Connection, scope: &TenantScope, id: CampaignId, new: &NewCampaign) -> Result<()> {
    let (tenant, now) = (scope.tenant, scope.now);
    if let Some(customers) = &new.selection.customers {
        let known = store::campaigns::known(tx, tenant, customers).await?;
        let unknown = customers.iter().enumerate().filter(|(_, customer)| !known.contains(customer));
        let unknown: Vec<FieldError> = unknown
            .map(|(place, _)| FieldError {
                pointer: format!("/customers/{place}"),
                code: "not-found".to_owned(),
            })
            .collect();
        if !unknown.is_empty() {
            return Err(Refusal::InvalidFields(unknown).into());
        }
    }
    if !store::campaigns::keep_tag(tx, tenant, new).await? {
        return Err(Refusal::CampaignDiffers.into());
    }
    store::campaigns::insert(tx, tenant, id, new, now).await?;
    let payload = json!({"tenant": tenant, "campaign": id});
    scheduler::enqueue(tx, NewJob::due_at_once(jobs::CAMPAIGN, id.to_string(), payload), now).await?;
    Ok(())
}
