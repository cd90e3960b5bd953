//! Takes what is left of a grant back by hand. What was spent stays spent, and no other grant is touched.

use db::{Connection, Result};
use domain::account::{Cause, CauseKind};
use domain::id::{AdjustmentId, ApiKeyId, CustomerId, GrantId};
use domain::{Credits, Refusal, TenantScope};
use idempotency::{Claim, RequestKey};
use ledger::Accounts;
use outbox::NewEvent;
use serde_json::json;
use uuid::Uuid;

use crate::{Adjusted, Adjustment, Adjustments, Kind, check_reason, store};

pub(crate) const CREDITS_REVOKED: &str = "credits.revoked";

/// What is to be taken.
#[derive(Debug, Clone)]
pub struct Revoke {
    pub customer: CustomerId,
    pub grant: GrantId,
    /// All that is left where it is left out.
    pub credits: Option<Credits>,
    pub reason: String,
    pub made_by: ApiKeyId,
}

impl Adjustments {
    /// Revokes Credits of one grant. Refused: `not-found`; `more-than-remains` where less is left of it, or
    /// nothing; `invalid-field` for no Credits; `card-data-refused`.
    pub async fn revoke(
        &self,
        scope: &TenantScope,
        revoke: Revoke,
        request: &RequestKey,
    ) -> Result<Adjusted> {
        let (tenant, now) = (scope.tenant, scope.now);
        check_reason(&revoke.reason)?;
        if revoke.credits.is_some_and(Credits::is_zero) {
            return Err(Refusal::invalid_field("/credits", "out-of-range").into());
        }
        let (adjusted, accounts) = self
            .db
            .transaction(tenant, async |tx| {
                let id = AdjustmentId::from_uuid(Uuid::now_v7());
                let (id, is_new) = match idempotency::claim(tx, tenant, request, id.uuid(), now).await? {
                    Claim::New => (id, true),
                    Claim::Unfinished { fact } => (AdjustmentId::from_uuid(fact), false),
                };
                let accounts = if is_new {
                    take(tx, scope, id, &revoke).await?
                } else {
                    ledger::lock(tx, tenant, &[revoke.customer]).await?
                };
                Ok((store::adjusted(tx, tenant, id).await?, accounts))
            })
            .await?;
        self.ledger.publish(tenant, &accounts, now).await?;
        Ok(adjusted)
    }
}

async fn take(
    tx: &mut Connection,
    scope: &TenantScope,
    id: AdjustmentId,
    revoke: &Revoke,
) -> Result<Accounts> {
    let (tenant, now) = (scope.tenant, scope.now);
    let mut accounts = ledger::lock(tx, tenant, &[revoke.customer]).await?;
    let account = accounts.get_mut(revoke.customer)?;
    let found = ledger::grant(tx, tenant, revoke.grant).await?;
    if found.is_none_or(|(owner, _)| owner != revoke.customer) {
        return Err(Refusal::NotFound { what: "grant" }.into());
    }
    let cause = Cause { kind: CauseKind::Adjustment, id: id.uuid() };
    let taken = account.revoke(revoke.grant, revoke.credits.unwrap_or(Credits::MAX), cause, now)?;
    let taken = taken.map_or(Credits::ZERO, |draw| draw.credits);
    if taken.is_zero() || revoke.credits.is_some_and(|asked| asked != taken) {
        // Nothing of it is kept: the transaction ends here.
        return Err(Refusal::MoreThanRemains { remaining: taken }.into());
    }
    let adjustment = Adjustment {
        id,
        customer: revoke.customer,
        kind: Kind::Revoke,
        grant: revoke.grant,
        credits: taken,
        reason: revoke.reason.clone(),
        made_by: revoke.made_by,
        made_at: now,
        campaign_tag: None,
    };
    store::insert(tx, tenant, &adjustment).await?;
    ledger::write(tx, tenant, &accounts, now).await?;
    let payload = json!({
        "customer": revoke.customer,
        "grant": revoke.grant,
        "credits": taken,
        "reason": revoke.reason,
    });
    let event = NewEvent { kind: CREDITS_REVOKED, subject: revoke.customer.to_string(), payload };
    outbox::emit(tx, tenant, event, now).await?;
    Ok(accounts)
}
