//! The jobs of this crate, their handlers, and the tick that starts them. Run twice, or twice at once,
//! each has the effect of one run.

use std::sync::Arc;

use db::{Error, Result};
use domain::id::TenantId;
use scheduler::{Handler, NewJob, Slot, Tick, handler};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ProviderEvents;

/// Applies an event: payload {tenant, event}.
pub const APPLY: &str = "apply_provider_event";
/// Looks through the provider's list for one tenant: payload {tenant}.
pub const REREAD: &str = "reread_provider_events";
/// Deletes what was settled long ago.
pub const PRUNE: &str = "prune_provider_events";
/// Enqueues a [`REREAD`] for each tenant with an account: payload {slot}, the tick that asked for it.
pub const FIND_ACCOUNTS: &str = "find_provider_accounts";

/// What the clock enqueues.
pub const TICKS: [Tick; 2] = [
    Tick { kind: FIND_ACCOUNTS, schedule: "0 * * * * *", slot: Slot::Minute },
    Tick { kind: PRUNE, schedule: "0 45 * * * *", slot: Slot::Hour },
];

/// All kinds with their handlers, but for [`rereading`].
pub fn handlers(events: &Arc<ProviderEvents>) -> Vec<(&'static str, Handler)> {
    let (applying, finding, pruning) = (events.clone(), events.clone(), events.clone());
    let apply = handler(move |payload| {
        let events = applying.clone();
        async move {
            let OfEvent { tenant, event } = read(payload)?;
            events.apply(tenant, &event).await
        }
    });
    let find = handler(move |payload| {
        let events = finding.clone();
        async move {
            let OfSlot { slot } = read(payload)?;
            events.find_accounts(&slot).await
        }
    });
    let prune = handler(move |_| {
        let events = pruning.clone();
        async move { events.prune().await.map(drop) }
    });
    vec![(APPLY, apply), (FIND_ACCOUNTS, find), (PRUNE, prune)]
}

/// The kind that asks the provider, for each tenant once a minute.
pub fn rereading(events: Arc<ProviderEvents>) -> (&'static str, Handler) {
    let reread = handler(move |payload| {
        let events = events.clone();
        async move {
            let OfTenant { tenant } = read(payload)?;
            events.reread(tenant).await.map(drop)
        }
    });
    (REREAD, reread)
}

/// A job for an event, due at once, once an event.
pub(crate) fn for_event(tenant: TenantId, event: &str) -> NewJob {
    NewJob::due_at_once(
        APPLY,
        format!("{tenant}/{event}"),
        json!(OfEvent { tenant, event: event.to_owned() }),
    )
}

/// A job for a tenant and slot.
pub(crate) fn for_tenant(tenant: TenantId, slot: &str) -> NewJob {
    NewJob::due_at_once(REREAD, format!("{tenant}/{slot}"), json!({ "tenant": tenant }))
}

#[derive(Serialize, Deserialize)]
struct OfEvent {
    tenant: TenantId,
    event: String,
}

#[derive(Deserialize)]
struct OfTenant {
    tenant: TenantId,
}

#[derive(Deserialize)]
struct OfSlot {
    slot: String,
}

fn read<T: DeserializeOwned>(payload: Value) -> Result<T> {
    serde_json::from_value(payload).map_err(|error| Error::Fault(Box::new(error)))
}
