//! Grants: where Credits come from, and in which order they burn.

use serde::{Deserialize, Serialize};

use crate::id::GrantId;
use crate::{Credits, Timestamp};

/// What a grant was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantSource {
    Plan,
    Upgrade,
    TopUp,
    Promotion,
    Rollover,
    Adjustment,
}

impl GrantSource {
    pub const ALL: [GrantSource; 6] = [
        GrantSource::Plan,
        GrantSource::Upgrade,
        GrantSource::TopUp,
        GrantSource::Promotion,
        GrantSource::Rollover,
        GrantSource::Adjustment,
    ];

    pub fn name(self) -> &'static str {
        match self {
            GrantSource::Plan => "plan",
            GrantSource::Upgrade => "upgrade",
            GrantSource::TopUp => "top_up",
            GrantSource::Promotion => "promotion",
            GrantSource::Rollover => "rollover",
            GrantSource::Adjustment => "adjustment",
        }
    }

    /// The default priority: lower burns first.
    pub fn priority(self) -> i16 {
        match self {
            GrantSource::Promotion => 50,
            GrantSource::Rollover => 75,
            GrantSource::Plan | GrantSource::Upgrade => 100,
            GrantSource::Adjustment => 150,
            GrantSource::TopUp => 200,
        }
    }

    /// "The plan's grants": what a cycle's end and an immediate cancel may touch (R-25a).
    pub fn is_the_plans(self) -> bool {
        matches!(self, GrantSource::Plan | GrantSource::Upgrade)
    }
}

/// A grant of Credits. `amount = spent + expired + revoked + remaining()`, every term at least 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub id: GrantId,
    pub source: GrantSource,
    pub priority: i16,
    pub amount: Credits,
    pub spent: Credits,
    pub expired: Credits,
    pub revoked: Credits,
    pub effective_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

impl Grant {
    pub fn remaining(&self) -> Credits {
        self.amount
            .minus_floor_zero(self.spent)
            .minus_floor_zero(self.expired)
            .minus_floor_zero(self.revoked)
    }

    /// Live in `[effective, expiry)`.
    pub fn is_live(&self, at: Timestamp) -> bool {
        self.effective_at <= at && self.expires_at.is_none_or(|expiry| at < expiry)
    }

    /// Whether an event with this charge instant, recorded at `now`, may draw on it (R-19a).
    pub fn is_eligible(&self, charge_instant: Timestamp, now: Timestamp) -> bool {
        self.effective_at <= now && self.expires_at.is_none_or(|expiry| charge_instant < expiry)
    }

    /// Sorts grants into the order in which they burn: priority, then earliest expiry (none
    /// last), then earliest effective, then id.
    pub fn burn_key(&self) -> (i16, bool, Option<Timestamp>, Timestamp, GrantId) {
        (self.priority, self.expires_at.is_none(), self.expires_at, self.effective_at, self.id)
    }
}
