//! Usage that waits for a rate, for operators to see.

use db::Result;
use domain::id::CustomerId;
use domain::{TenantScope, Timestamp};
use uuid::Uuid;

use crate::{Usage, store};

/// An event that is kept and not charged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnratedEvent {
    pub identity: Uuid,
    pub source: String,
    pub id: String,
    pub customer: CustomerId,
    pub model: String,
    pub reason: String,
    pub event_time: Timestamp,
}

impl Usage {
    /// The tenant's unrated events in the order of their identities, those after `after`.
    pub async fn unrated(
        &self,
        scope: &TenantScope,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<UnratedEvent>> {
        let tenant = scope.tenant;
        self.parts
            .db
            .transaction(tenant, async |tx| store::unrated_page(tx, tenant, after, limit).await)
            .await
    }
}
