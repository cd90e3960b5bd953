//! Outgoing webhooks: a tenant's events, read from the outbox, signed, delivered and retried, as
//! Standard Webhooks has it.
//!
//! # The walk of an event
//! 1. [`PLAN_DELIVERIES`](jobs::PLAN_DELIVERIES), ticked every five seconds, takes the events that wait
//!    in the outbox, a tenant and a batch at a time: in one transaction each gets a delivery for every
//!    endpoint that its tenant has then, and is marked as dispatched. Without endpoints it is only marked.
//! 2. The same job enqueues a [`DELIVER_WEBHOOKS`](jobs::DELIVER_WEBHOOKS) for each endpoint that has a
//!    delivery due. That job leases the endpoint, so that it has one queue and one sender: a slow
//!    receiver holds up one job, never the deliveries of others. It sends a few at a time, for ten
//!    seconds; what is left, the next tick finds.
//! 3. An answer of 2xx ends a delivery. After anything else it is due again, eight attempts in all over
//!    28 hours (see `retry`), and then `dead`. 410 disables the endpoint, and with an endpoint all that
//!    still waits for it dies: so each delivery ends `delivered` or `dead` (I-26).
//!
//! A receiver gets each event at least once: a process that dies between sending and recording sends
//! again, under the same `webhook-id`, which is the event's. Nothing is said of the order.
//!
//! # Where it may send
//! A tenant chooses the URL, so it must not be a way into our own network. `url_rules` refuses what can
//! be told from the text; `address` knows the addresses of the public internet, and only those are
//! connected to, but for an [`AllowList`] of the operator's. A name is resolved for each attempt, and
//! the addresses that were looked at are the ones connected to: a name that has changed since gains
//! nothing. No redirect is followed and no proxy asked.
//!
//! # The secret
//! An endpoint's secret is shown once. In the database it is sealed with a key derived from the
//! installation's secret ([`WebhookKey`]) and bound to its row: a dump alone lets nobody sign.
//!
//! # Round trips
//! Planning: one statement a batch of 500 events, one to find the endpoints with due deliveries, one
//! an endpoint to enqueue. Delivering: a statement to lease, two a batch of eight (what is due, what
//! became of it), one to release; nothing is locked while a request is under way.
//!
//! All instants here are real ones, by the database's clock: other people's servers do not live by a
//! test clock. Two things are the tenant's: an event's own `timestamp`, and that a failed delivery is due
//! too once a test clock has passed its pause. The next tick makes that attempt; a clock that has
//! been advanced further is not stopped for the ones after it.

mod address;
mod create_endpoint;
mod deliver;
mod disable_endpoint;
mod endpoints;
pub mod jobs;
mod plan_deliveries;
mod retry;
mod secret;
mod send;
mod store;
mod url_rules;

pub use address::{AllowList, NotANetwork};
pub use create_endpoint::CreatedEndpoint;
pub use endpoints::Endpoint;
pub use secret::WebhookKey;

use std::sync::Arc;

use db::Db;

/// Endpoints, and the deliveries to them; cheap to clone.
#[derive(Clone)]
pub struct Webhooks {
    db: Db,
    key: Arc<WebhookKey>,
    allowed: Arc<AllowList>,
    sender: Arc<send::Sender>,
}

impl Webhooks {
    /// `key` seals the endpoints' secrets and must be the same in every process. `allowed` are the
    /// addresses that may be sent to although they are not public: none, in production.
    pub fn new(db: Db, key: WebhookKey, allowed: AllowList) -> Webhooks {
        let allowed = Arc::new(allowed);
        let sender = Arc::new(send::Sender::new(allowed.clone()));
        Webhooks { db, key: Arc::new(key), allowed, sender }
    }
}
