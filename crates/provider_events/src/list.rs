//! Lists what came in, for operators.

use db::Result;
use domain::id::PaymentId;
use domain::{TenantScope, Timestamp};

use crate::{CameBy, ProviderEvents, State, store};

/// An event that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedEvent {
    /// The provider's.
    pub id: String,
    pub kind: String,
    pub state: State,
    pub reason: Option<String>,
    pub came_by: CameBy,
    pub payment: Option<PaymentId>,
    /// In the provider's time.
    pub told_at: Option<Timestamp>,
    /// In real time, as the next one.
    pub received_at: Timestamp,
    pub settled_at: Option<Timestamp>,
}

impl ProviderEvents {
    /// The tenant's events in order of their ids, `limit` of those after `after`; those in one state alone,
    /// where `state` says so.
    pub async fn list(
        &self,
        scope: &TenantScope,
        state: Option<State>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ReceivedEvent>> {
        let tenant = scope.tenant;
        self.db.transaction(tenant, async |tx| store::list(tx, tenant, state, after, limit).await).await
    }
}
