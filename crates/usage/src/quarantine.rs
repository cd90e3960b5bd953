//! Usage that was not understood, for operators to see and to send through again.
//!
//! Nothing is counted under the id of such an event. So it can be replayed once its format is understood
//! better, or the gateway can report it again under the same id, corrected: whichever comes first is counted,
//! and once.

use db::{Error, Result};
use domain::id::QuarantineId;
use domain::{Refusal, TenantScope, Timestamp};
use uuid::Uuid;

use crate::record::{EventResult, UsageEvent};
use crate::{Usage, store};

/// An event that is kept as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedEvent {
    pub id: QuarantineId,
    /// With the usage as it was received.
    pub event: UsageEvent,
    /// A stable code, and a sentence that names the field and its numbers: as of when it was received.
    pub reason: String,
    pub message: String,
    pub received_at: Timestamp,
}

impl Usage {
    /// The tenant's events in quarantine, in the order of their ids, those after `after`.
    pub async fn quarantined(
        &self,
        scope: &TenantScope,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<QuarantinedEvent>> {
        let tenant = scope.tenant;
        self.parts
            .db
            .transaction(tenant, async |tx| store::quarantined_page(tx, tenant, after, limit).await)
            .await
    }

    /// Reads a quarantined event's usage again, as it is understood now, and records it as of when it was
    /// first received: at the rate of its own time, and to the cycle that was to pay. However often it is
    /// replayed, it counts once. Refused: `not-found`.
    pub async fn replay(&self, scope: &TenantScope, id: QuarantineId) -> Result<(UsageEvent, EventResult)> {
        let tenant = scope.tenant;
        let found = self
            .parts
            .db
            .transaction(tenant, async |tx| store::quarantined(tx, tenant, id.uuid()).await)
            .await?;
        let event = found.ok_or(Refusal::NotFound { what: "quarantined event" })?.event;
        let result = self.record(scope, vec![event.clone()]).await?.pop();
        Ok((event, result.ok_or_else(|| Error::broken("an event without a result"))?))
    }
}
