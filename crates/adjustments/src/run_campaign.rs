//! Gives what a campaign gives, a batch of customers a transaction.

use std::collections::BTreeSet;

use db::{Connection, Result};
use domain::account::{Account, Cause, CauseKind, NewGrant};
use domain::grant::GrantSource;
use domain::id::{AdjustmentId, CampaignId, CustomerId, GrantId};
use domain::{TenantScope, Timestamp};
use ledger::Accounts;
use uuid::Uuid;

use crate::campaign::{Campaign, CampaignState};
use crate::grant::tell_granted;
use crate::store::campaigns::Step;
use crate::{Adjustment, Adjustments, Kind, store};

/// Customers a transaction.
const BATCH: u32 = 100;

impl Adjustments {
    /// Does a run, or the rest of one that was killed. Refused: `not-found`.
    pub async fn run_campaign(&self, scope: &TenantScope, id: CampaignId) -> Result<Campaign> {
        let tenant = scope.tenant;
        loop {
            let (campaign, accounts) =
                self.db.transaction(tenant, async |tx| step(tx, scope, id).await).await?;
            self.ledger.publish(tenant, &accounts, scope.now).await?;
            if campaign.state == CampaignState::Done {
                return Ok(campaign);
            }
        }
    }
}

/// The next batch. Once none is left the run is done: what the batch before gave is published by then, so whoever
/// reads that it is done can spend.
async fn step(tx: &mut Connection, scope: &TenantScope, id: CampaignId) -> Result<(Campaign, Accounts)> {
    let (tenant, now) = (scope.tenant, scope.now);
    // Locked: another process that does the same run waits here, and goes on behind this batch.
    let (campaign, place) = store::campaigns::lock(tx, tenant, id).await?;
    if campaign.state == CampaignState::Done {
        return Ok((campaign, Accounts::default()));
    }
    // What would have expired already is given to nobody.
    let is_over = campaign.expires_at.is_some_and(|expires_at| expires_at <= now);
    let customers = match is_over {
        true => Vec::new(),
        false => store::campaigns::next_customers(tx, tenant, &place, BATCH).await?,
    };
    let adjustments: Vec<Adjustment> =
        customers.iter().map(|customer| adjustment(&campaign, *customer, now)).collect();
    let new: BTreeSet<CustomerId> = store::insert_new(tx, tenant, &adjustments).await?;
    let given: Vec<CustomerId> = new.iter().copied().collect();
    let mut accounts = ledger::lock(tx, tenant, &given).await?;
    for adjustment in adjustments.iter().filter(|adjustment| new.contains(&adjustment.customer)) {
        let account = accounts.get_mut(adjustment.customer)?;
        let was_used_up = ledger::is_used_up(tx, tenant, account, now).await?;
        issue(account, &campaign, adjustment, now)?;
        tell_granted(tx, scope, adjustment).await?;
        if was_used_up {
            outbox::emit_recovered(tx, tenant, account, now).await?;
        }
    }
    ledger::write(tx, tenant, &accounts, now).await?;
    let granted = count(given.len());
    let step = Step {
        done_to: customers.last().copied(),
        granted,
        skipped: count(customers.len()).saturating_sub(granted),
        is_last: customers.is_empty(),
    };
    let campaign = store::campaigns::move_on(tx, tenant, id, &step, now).await?;
    Ok((campaign, accounts))
}

fn adjustment(campaign: &Campaign, customer: CustomerId, now: Timestamp) -> Adjustment {
    let id = Uuid::now_v7();
    Adjustment {
        id: AdjustmentId::from_uuid(id),
        customer,
        kind: Kind::Grant,
        grant: GrantId::from_uuid(id),
        credits: campaign.credits,
        reason: campaign.reason.clone(),
        made_by: campaign.made_by,
        made_at: now,
        campaign_tag: Some(campaign.tag.clone()),
    }
}

fn issue(account: &mut Account, campaign: &Campaign, adjustment: &Adjustment, now: Timestamp) -> Result<()> {
    let grant = NewGrant {
        id: adjustment.grant,
        source: GrantSource::Promotion,
        credits: adjustment.credits,
        effective_at: now,
        expires_at: campaign.expires_at,
    };
    let cause = Cause { kind: CauseKind::Adjustment, id: adjustment.id.uuid() };
    Ok(account.issue(grant, cause, now)?)
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
