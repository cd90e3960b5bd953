//! Stores an event.

use db::{Connection, Result};
use domain::Timestamp;
use domain::id::{EventId, TenantId};
use uuid::Uuid;

use crate::store;

/// Something that has happened and that others may want to hear of.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// What happened, as `subscription.activated`.
    pub kind: &'static str,
    /// The id of what it happened to, as printed (`sub_...`).
    pub subject: String,
    /// What a receiver needs to know; published as it is, so never a secret.
    pub payload: serde_json::Value,
}

/// Stores the event in the caller's transaction, as having occurred at `now`.
pub async fn emit(tx: &mut Connection, tenant: TenantId, event: NewEvent, now: Timestamp) -> Result<EventId> {
    let id = EventId::from_uuid(Uuid::now_v7());
    store::insert(tx, tenant, id, event, now).await?;
    Ok(id)
}
