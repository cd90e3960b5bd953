//! Events sent: signed, retried, and, on order, lost, doubled and out of order.

use std::time::Duration;

use aws_lc_rs::hmac;
use chrono::Utc;
use serde_json::Value;

use crate::state::State;
use crate::{Shared, locked};

/// Where webhooks go.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub url: String,
    /// `whsec_...`
    pub secret: String,
    pub plan: Plan,
}

/// How they go there.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Those that are never sent, in percent.
    pub lost_percent: u8,
    /// Those that are sent twice.
    pub doubled_percent: u8,
    /// Each is held back for a random time up to this, so that they overtake each other.
    pub late_max: Duration,
    /// How long after an attempt that was not answered with 2xx the next one follows.
    pub retries: Vec<Duration>,
}

impl Plan {
    /// Stripe's own schedule, `pace` times as fast: it tries for three days.
    pub fn retries_as_stripe(pace: u32) -> Vec<Duration> {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        let hours_12 = [12 * HOUR; 5];
        let first = [5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR];
        first.into_iter().chain(hours_12).map(|seconds| Duration::from_secs(seconds) / pace.max(1)).collect()
    }
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            lost_percent: 0,
            doubled_percent: 0,
            late_max: Duration::ZERO,
            retries: Plan::retries_as_stripe(300),
        }
    }
}

/// The `Stripe-Signature` header of a body that is sent at `seconds`.
pub fn signature(secret: &str, seconds: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{seconds}.{body}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={hex}")
}

/// Starts sending the events that nobody has started to send.
pub(crate) fn send_new(state: &mut State, shared: &Shared) {
    let Some(endpoint) = state.endpoint.clone() else {
        state.sent = state.events.len();
        return;
    };
    let State { events, random, sent, .. } = &mut *state;
    for event in &events[*sent..] {
        if random.u8(0..100) < endpoint.plan.lost_percent {
            continue;
        }
        let copies = if random.u8(0..100) < endpoint.plan.doubled_percent { 2 } else { 1 };
        for _ in 0..copies {
            let late_ms = random.u64(0..=u64::try_from(endpoint.plan.late_max.as_millis()).unwrap_or(0));
            let late = Duration::from_millis(late_ms);
            tokio::spawn(deliver(endpoint.clone(), event.clone(), late, shared.clone()));
        }
    }
    state.sent = state.events.len();
}

async fn deliver(endpoint: Endpoint, event: Value, late: Duration, shared: Shared) {
    tokio::time::sleep(late).await;
    let http = locked(&shared).http.clone();
    let body = event.to_string();
    let mut retries = endpoint.plan.retries.iter();
    loop {
        let signature = signature(&endpoint.secret, Utc::now().timestamp(), &body);
        let sent = http
            .post(&endpoint.url)
            .header("stripe-signature", signature)
            .header("content-type", "application/json; charset=utf-8")
            .timeout(Duration::from_secs(20))
            .body(body.clone())
            .send()
            .await;
        if sent.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
        let Some(pause) = retries.next() else { return };
        tokio::time::sleep(*pause).await;
    }
}
