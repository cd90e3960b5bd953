//! One event with its receipt: why did it cost that?

use db::Result;
use domain::id::{CustomerId, ExternalId};
use domain::usage::{Outcome, TokenCounts, UsageSource, event_identity};
use domain::{Refusal, TenantScope, Timestamp};
use uuid::Uuid;

use crate::record::Receipt;
use crate::void::EventVoid;
use crate::{Usage, store};

/// A recorded event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    pub source: String,
    pub id: String,
    pub customer: CustomerId,
    pub model: ExternalId,
    pub usage: TokenCounts,
    pub outcome: Outcome,
    pub usage_source: UsageSource,
    pub event_time: Timestamp,
    pub recorded_at: Timestamp,
    /// The authorization that it named.
    pub authorization: Option<ExternalId>,
    /// The customer's own key that the request was made with, where the gateway told.
    pub api_key: Option<ExternalId>,
    pub receipt: Receipt,
    /// None unless it was voided.
    pub void: Option<EventVoid>,
}

impl Usage {
    /// The event of this source and id. Refused: `not-found`.
    pub async fn read_event(&self, scope: &TenantScope, source: &str, id: &str) -> Result<RecordedEvent> {
        let tenant = scope.tenant;
        let identity = Uuid::from_bytes(event_identity(tenant, source, id));
        let found = self
            .parts
            .db
            .transaction(tenant, async |tx| store::recorded_event(tx, tenant, identity).await)
            .await?;
        Ok(found.ok_or(Refusal::NotFound { what: "event" })?)
    }
}
