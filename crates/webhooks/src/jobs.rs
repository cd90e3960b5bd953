//! The jobs of this crate, their handlers, and the tick that starts them. Run twice, or twice at
//! once, each has the effect of one run, but that a receiver may get a message again.

use std::sync::Arc;

use chrono::Utc;
use db::{Error, Result};
use domain::id::{EndpointId, TenantId};
use scheduler::{Handler, NewJob, Slot, Tick, handler};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Webhooks;

/// Plans the deliveries of the events that wait, and enqueues a [`DELIVER_WEBHOOKS`] for each endpoint
/// that has some due. Takes no payload; whoever wants events out sooner may enqueue one.
pub const PLAN_DELIVERIES: &str = "plan_deliveries";
/// Sends what is due to one endpoint: payload {tenant, endpoint}. Waits for other people's servers, so
/// it wants a worker of its own, with many places.
pub const DELIVER_WEBHOOKS: &str = "deliver_webhooks";

/// What the clock enqueues.
pub const TICKS: [Tick; 1] =
    [Tick { kind: PLAN_DELIVERIES, schedule: "*/5 * * * * *", slot: Slot::FiveSeconds }];

/// All kinds with their handlers.
pub fn handlers(webhooks: &Arc<Webhooks>) -> Vec<(&'static str, Handler)> {
    let (planning, delivering) = (webhooks.clone(), webhooks.clone());
    let plan = handler(move |_| {
        let webhooks = planning.clone();
        async move { webhooks.plan_deliveries().await }
    });
    let deliver = handler(move |payload| {
        let webhooks = delivering.clone();
        async move {
            let OfEndpoint { tenant, endpoint } = read(payload)?;
            webhooks.deliver(tenant, endpoint).await
        }
    });
    vec![(PLAN_DELIVERIES, plan), (DELIVER_WEBHOOKS, deliver)]
}

/// A job for what is due to this endpoint now; another is another second's.
pub(crate) fn for_endpoint(tenant: TenantId, endpoint: EndpointId) -> NewJob {
    let key = format!("{endpoint}/{}", Utc::now().timestamp());
    NewJob::due_at_once(DELIVER_WEBHOOKS, key, json!(OfEndpoint { tenant, endpoint }))
}

#[derive(Serialize, Deserialize)]
struct OfEndpoint {
    tenant: TenantId,
    endpoint: EndpointId,
}

fn read(payload: Value) -> Result<OfEndpoint> {
    serde_json::from_value(payload).map_err(|error| Error::Fault(Box::new(error)))
}
