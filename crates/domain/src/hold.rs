//! Holds: Credits set aside for a request that was allowed to start.

use chrono::Duration;

use crate::id::{CustomerId, ExternalId};
use crate::{Credits, Timestamp};

/// A granted authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    pub id: ExternalId,
    pub customer: CustomerId,
    pub credits: Credits,
    /// The charge instant of the usage that captures it (R-19a).
    pub granted_at: Timestamp,
    pub expires_at: Timestamp,
}

/// How a hold ended, where it did not just expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldEnd {
    Captured,
    Released,
}

impl HoldEnd {
    pub fn name(self) -> &'static str {
        match self {
            HoldEnd::Captured => "captured",
            HoldEnd::Released => "released",
        }
    }
}

/// What a usage event that names a hold finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    /// The hold is live: it is released whole, and its grant instant picks the cycle.
    Live { granted_at: Timestamp },
    /// The event is charged without a hold, and says why.
    None(NoHold),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHold {
    NotNamed,
    Unknown,
    Expired,
    Captured,
    Released,
}

impl NoHold {
    pub fn code(self) -> &'static str {
        match self {
            NoHold::NotNamed => "not-named",
            NoHold::Unknown => "unknown",
            NoHold::Expired => "expired",
            NoHold::Captured => "captured",
            NoHold::Released => "released",
        }
    }
}

/// What a hold that is known by its terms and its end means for an event recorded at `now`.
pub fn capture(hold: &Hold, end: Option<HoldEnd>, now: Timestamp) -> Capture {
    match end {
        Some(HoldEnd::Captured) => Capture::None(NoHold::Captured),
        Some(HoldEnd::Released) => Capture::None(NoHold::Released),
        None if hold.expires_at <= now => Capture::None(NoHold::Expired),
        None => Capture::Live { granted_at: hold.granted_at },
    }
}

/// When a hold granted at `now` ends by itself (*policy*, R-28).
pub fn expires_at(now: Timestamp, hold_minutes: u32) -> Timestamp {
    now + Duration::minutes(i64::from(hold_minutes))
}

/// The instant that picks the cycle an event is charged to (R-19a).
pub fn charge_instant(capture: Capture, event_time: Timestamp, received_at: Timestamp) -> Timestamp {
    match capture {
        Capture::Live { granted_at } => granted_at,
        Capture::None(_) => event_time.min(received_at),
    }
}
