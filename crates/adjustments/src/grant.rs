//! Gives a customer Credits by hand.

use db::{Connection, Result};
use domain::account::{Cause, CauseKind, NewGrant};
use domain::grant::GrantSource;
use domain::id::{AdjustmentId, ApiKeyId, CustomerId, GrantId};
use domain::{Credits, Refusal, TenantScope, Timestamp};
use idempotency::{Claim, RequestKey};
use ledger::Accounts;
use outbox::NewEvent;
use serde_json::json;
use uuid::Uuid;

use crate::{Adjusted, Adjustment, Adjustments, Kind, check_reason, store};

pub(crate) const CREDITS_GRANTED: &str = "credits.granted";

/// What is to be given.
#[derive(Debug, Clone)]
pub struct NewAdjustment {
    pub customer: CustomerId,
    /// `Adjustment` or `Promotion`.
    pub source: GrantSource,
    pub credits: Credits,
    /// At once where it is left out.
    pub effective_at: Option<Timestamp>,
    /// Never where it is left out.
    pub expires_at: Option<Timestamp>,
    /// The source's own where it is left out.
    pub priority: Option<i16>,
    pub reason: String,
    pub made_by: ApiKeyId,
}

impl Adjustments {
    /// Issues a grant. Refused: `not-found`; `invalid-field` for no Credits, another source, or a time that is over;
    /// `card-data-refused` for a reason with a card's number in it; `amount-overflow`.
    pub async fn grant(
        &self,
        scope: &TenantScope,
        new: NewAdjustment,
        request: &RequestKey,
    ) -> Result<Adjusted> {
        let (tenant, now) = (scope.tenant, scope.now);
        check(&new, now)?;
        let (adjusted, accounts) = self
            .db
            .transaction(tenant, async |tx| {
                let id = AdjustmentId::from_uuid(Uuid::now_v7());
                let (id, is_new) = match idempotency::claim(tx, tenant, request, id.uuid(), now).await? {
                    Claim::New => (id, true),
                    Claim::Unfinished { fact } => (AdjustmentId::from_uuid(fact), false),
                };
                let accounts = if is_new {
                    grant(tx, scope, id, &new).await?
                } else {
                    ledger::lock(tx, tenant, &[new.customer]).await?
                };
                Ok((store::adjusted(tx, tenant, id).await?, accounts))
            })
            .await?;
        self.ledger.publish(tenant, &accounts, now).await?;
        Ok(adjusted)
    }
}

fn check(new: &NewAdjustment, now: Timestamp) -> std::result::Result<(), Refusal> {
    check_reason(&new.reason)?;
    if new.credits.is_zero() {
        return Err(Refusal::invalid_field("/credits", "out-of-range"));
    }
    if !matches!(new.source, GrantSource::Adjustment | GrantSource::Promotion) {
        return Err(Refusal::invalid_field("/source", "unknown-source"));
    }
    let effective_at = new.effective_at.unwrap_or(now);
    if effective_at < now {
        return Err(Refusal::invalid_field("/effective_at", "in-the-past"));
    }
    if new.expires_at.is_some_and(|expires_at| expires_at <= effective_at) {
        return Err(Refusal::invalid_field("/expires_at", "out-of-range"));
    }
    Ok(())
}

async fn grant(
    tx: &mut Connection,
    scope: &TenantScope,
    id: AdjustmentId,
    new: &NewAdjustment,
) -> Result<Accounts> {
    let (tenant, now) = (scope.tenant, scope.now);
    let mut accounts = ledger::lock(tx, tenant, &[new.customer]).await?;
    let account = accounts.get_mut(new.customer)?;
    let was_used_up = ledger::is_used_up(tx, tenant, account, now).await?;
    let grant = NewGrant {
        id: GrantId::from_uuid(id.uuid()),
        source: new.source,
        credits: new.credits,
        effective_at: new.effective_at.unwrap_or(now),
        expires_at: new.expires_at,
    };
    let cause = Cause { kind: CauseKind::Adjustment, id: id.uuid() };
    account.issue_with(grant, new.priority.unwrap_or(new.source.priority()), cause, now)?;
    let adjustment = Adjustment {
        id,
        customer: new.customer,
        kind: Kind::Grant,
        grant: grant.id,
        credits: new.credits,
        reason: new.reason.clone(),
        made_by: new.made_by,
        made_at: now,
        campaign_tag: None,
    };
    store::insert(tx, tenant, &adjustment).await?;
    tell_granted(tx, scope, &adjustment).await?;
    if was_used_up {
        outbox::emit_recovered(tx, tenant, account, now).await?;
    }
    ledger::write(tx, tenant, &accounts, now).await?;
    Ok(accounts)
}

pub(crate) async fn tell_granted(
    tx: &mut Connection,
    scope: &TenantScope,
    adjustment: &Adjustment,
) -> Result<()> {
    let payload = json!({
        "customer": adjustment.customer,
        "grant": adjustment.grant,
        "credits": adjustment.credits,
        "reason": adjustment.reason,
        "campaign": adjustment.campaign_tag,
    });
    let event = NewEvent { kind: CREDITS_GRANTED, subject: adjustment.customer.to_string(), payload };
    outbox::emit(tx, scope.tenant, event, scope.now).await?;
    Ok(())
}
