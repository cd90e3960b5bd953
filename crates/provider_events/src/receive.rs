//! Takes an event in: by webhook, or from the provider's list.

use chrono::Utc;
use db::{Connection, Result};
use domain::id::TenantId;
use domain::{Refusal, Timestamp};
use outbox::NewEvent;
use provider_accounts::Credentials;
use serde_json::json;
use sha2::{Digest, Sha256};
use stripe::{Event, Notice, Unreadable, read_event};

use crate::{CameBy, ProviderEvents, State, jobs, store};

/// Somebody has to look at an event.
pub(crate) const PARKED: &str = "provider_event.parked";

/// What a webhook is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Whether it came for the first time.
    pub is_new: bool,
}

/// An event to store, and what it is settled as already.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) state: State,
    pub(crate) reason: Option<String>,
    pub(crate) told_at: Option<Timestamp>,
    pub(crate) came_by: CameBy,
}

impl ProviderEvents {
    /// Takes a webhook in, stored when this returns. Refused with `invalid-signature`, whatever is wrong
    /// with it, a tenant that is none included: nobody learns from the answer who there is.
    pub async fn receive(&self, tenant: TenantId, signature: Option<&str>, body: &[u8]) -> Result<Receipt> {
        let credentials = self.accounts.credentials(tenant).await?.ok_or(Refusal::InvalidSignature)?;
        let header = signature.ok_or(Refusal::InvalidSignature)?;
        stripe::verify(body, header, &credentials.signing_secrets, Utc::now())
            .map_err(|_| Refusal::InvalidSignature)?;
        let is_new = self.store(tenant, &credentials, body, CameBy::Webhook).await?;
        Ok(Receipt { is_new })
    }

    /// Stores an event that is the provider's own words, if it is new, with the job that applies it.
    pub(crate) async fn store(
        &self,
        tenant: TenantId,
        credentials: &Credentials,
        body: &[u8],
        came_by: CameBy,
    ) -> Result<bool> {
        let incoming = incoming(credentials, body, came_by);
        let now = self.tenants.scope(tenant).await?.now;
        self.db.transaction(tenant, async |tx| insert(tx, tenant, &incoming, body, now).await).await
    }
}

async fn insert(
    tx: &mut Connection,
    tenant: TenantId,
    incoming: &Incoming,
    body: &[u8],
    now: Timestamp,
) -> Result<bool> {
    if !store::insert(tx, tenant, incoming, body).await? {
        return Ok(false);
    }
    match incoming.state {
        State::Received => {
            scheduler::enqueue(tx, jobs::for_event(tenant, &incoming.id), now).await?;
        }
        State::Parked => {
            alert(tx, tenant, &incoming.id, &incoming.kind, incoming.reason.as_deref(), now).await?
        }
        State::Applied | State::Ignored | State::Rejected => {}
    }
    Ok(true)
}

/// Tells that an event was parked.
pub(crate) async fn alert(
    tx: &mut Connection,
    tenant: TenantId,
    id: &str,
    kind: &str,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    let payload = json!({"provider_event": id, "kind": kind, "reason": reason});
    let event = NewEvent { kind: PARKED, subject: id.to_owned(), payload };
    outbox::emit(tx, tenant, event, now).await?;
    Ok(())
}

/// What can be told of an event without looking at anything else.
fn incoming(credentials: &Credentials, body: &[u8], came_by: CameBy) -> Incoming {
    let Ok(event) = read_event(body) else {
        // Named by its hash: the same again is the same.
        let hash: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
        return Incoming {
            id: format!("unreadable-{hash}"),
            kind: "unreadable".to_owned(),
            state: State::Parked,
            reason: Some(Unreadable::NotAnEvent.to_string()),
            told_at: None,
            came_by,
        };
    };
    let (state, reason) = state_of(credentials, &event);
    Incoming { id: event.id, kind: event.kind, state, reason, told_at: Some(event.created_at), came_by }
}

fn state_of(credentials: &Credentials, event: &Event) -> (State, Option<String>) {
    let because = |reason: &str| Some(reason.to_owned());
    if event.is_live != credentials.is_live {
        return (State::Rejected, because("other-mode"));
    }
    let is_foreign = match (&event.account, &credentials.account) {
        (None, _) => false,
        (Some(told), Some(own)) => told != own,
        // It names a connected account, and this tenant has none.
        (Some(_), None) => true,
    };
    if is_foreign {
        return (State::Rejected, because("other-account"));
    }
    match event.notice() {
        Ok(Notice::Ignored) => (State::Ignored, because("not-acted-on")),
        Ok(_) => (State::Received, None),
        Err(unreadable) => (State::Parked, Some(unreadable.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use stripe::Secret;

    fn credentials(is_live: bool, account: Option<&str>) -> Credentials {
        Credentials {
            secret_key: Secret::new("sk_test_0123456789".to_owned()),
            signing_secrets: Vec::new(),
            account: account.map(str::to_owned),
            is_live,
            reread_until: Utc::now(),
        }
    }

    fn said(credentials: &Credentials, body: &Value) -> (State, Option<String>) {
        let incoming = incoming(credentials, body.to_string().as_bytes(), CameBy::Webhook);
        (incoming.state, incoming.reason)
    }

    fn event(kind: &str, object: Value) -> Value {
        json!({"id": "evt_1", "type": kind, "created": 1, "livemode": false, "data": {"object": object}})
    }

    ///
    #[test]
    fn an_event_of_another_mode_or_account_is_rejected_and_an_unknown_kind_ignored() {
        let test = credentials(false, Some("acct_1"));
        let intent = json!({"id": "pi_1", "status": "processing"});
        let own = event("payment_intent.processing", intent.clone());
        assert_eq!(said(&test, &own), (State::Received, None));
        let because = |reason: &str| Some(reason.to_owned());
        assert_eq!(said(&credentials(true, None), &own), (State::Rejected, because("other-mode")));
        let mut foreign = own.clone();
        foreign["account"] = json!("acct_2");
        assert_eq!(said(&test, &foreign), (State::Rejected, because("other-account")));
        assert_eq!(said(&credentials(false, None), &foreign), (State::Rejected, because("other-account")));
        assert_eq!(said(&test, &event("payout.paid", json!({}))), (State::Ignored, because("not-acted-on")));
        let half = event("payment_intent.succeeded", json!({"id": "pi_1", "status": "succeeded"}));
        assert_eq!(said(&test, &half), (State::Parked, because("the event has no amount_received")));
    }

    #[test]
    fn what_is_no_event_is_parked_under_its_own_hash() {
        let incoming = |body: &[u8]| incoming(&credentials(false, None), body, CameBy::Webhook);
        let (one, again, other) = (incoming(b"{}"), incoming(b"{}"), incoming(b"\xff\0"));
        assert_eq!((one.state, one.kind.as_str()), (State::Parked, "unreadable"));
        assert_eq!(one.id, again.id);
        assert_ne!(one.id, other.id);
        assert_eq!(one.id.len(), "unreadable-".len() + 64);
    }
}
