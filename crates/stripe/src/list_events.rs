//! What Stripe has told, or should have.

use domain::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use stripe_core::event::ListEvent;
use stripe_types::RangeQueryTs;

use crate::{CallError, Secret, Stripe};

/// A page of events, the newest first.
#[derive(Debug, Deserialize)]
pub struct EventPage {
    #[serde(rename = "data")]
    bodies: Vec<Box<RawValue>>,
    pub has_more: bool,
}

impl EventPage {
    /// Each event as Stripe has written it.
    pub fn bodies(&self) -> impl Iterator<Item = &str> {
        self.bodies.iter().map(|body| body.get())
    }
}

impl Stripe {
    /// Up to 100 events from `since` on, in Stripe's time: the newest ones, or those before `before`.
    pub async fn events(
        &self,
        key: &Secret,
        since: Timestamp,
        before: Option<&str>,
    ) -> Result<EventPage, CallError> {
        let mut list = ListEvent::new().created(RangeQueryTs::gte(since.timestamp())).limit(100);
        if let Some(before) = before {
            list = list.starting_after(before);
        }
        self.call(key, &list, None).await
    }
}
