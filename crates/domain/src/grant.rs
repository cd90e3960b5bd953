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
    /// The version of the transfer that booked its expiry, or that of what a void gave back to it before; none
    /// until then (R-19, R-25b).
    pub expiry_version: Option<i64>,
    pub effective_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

/// Whether a grant of this time is live at an instant: in `[effective, expiry)`.
pub fn is_live(effective_at: Timestamp, expires_at: Option<Timestamp>, at: Timestamp) -> bool {
    effective_at <= at && expires_at.is_none_or(|expiry| at < expiry)
}

impl Grant {
    pub fn remaining(&self) -> Credits {
        self.amount.minus_floor_zero(self.spent).minus_floor_zero(self.expired).minus_floor_zero(self.revoked)
    }

    /// What no event has been charged with and nobody has revoked: what remains, and what had expired by a
    /// transfer that can be taken back.
    pub fn unspent(&self) -> Credits {
        match self.expiry_version {
            Some(_) => self.amount.minus_floor_zero(self.spent).minus_floor_zero(self.revoked),
            None => self.remaining(),
        }
    }

    /// Live in `[effective, expiry)`.
    pub fn is_live(&self, at: Timestamp) -> bool {
        is_live(self.effective_at, self.expires_at, at)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{at, credits, grant_id};
    use chrono::Duration;

    fn grant(effective_at: Timestamp, expires_at: Option<Timestamp>) -> Grant {
        Grant {
            id: grant_id(1),
            source: GrantSource::Plan,
            priority: GrantSource::Plan.priority(),
            amount: credits(100),
            spent: credits(30),
            expired: credits(20),
            revoked: credits(10),
            expiry_version: None,
            effective_at,
            expires_at,
        }
    }

    #[test]
    fn sources_burn_in_the_order_of_their_priorities() {
        // Plan, upgrade, top-up, promotion, rollover, adjustment.
        assert_eq!(GrantSource::ALL.map(GrantSource::priority), [100, 100, 200, 50, 75, 150]);
        let plans = GrantSource::ALL.into_iter().filter(|source| source.is_the_plans()).collect::<Vec<_>>();
        assert_eq!(plans, [GrantSource::Plan, GrantSource::Upgrade]);
    }

    #[test]
    fn a_source_has_one_name_in_the_database_and_on_the_wire() {
        for source in GrantSource::ALL {
            assert_eq!(serde_json::to_value(source).unwrap(), source.name());
        }
    }

    #[test]
    fn what_remains_is_what_was_not_spent_expired_or_revoked() {
        assert_eq!(grant(at("2026-01-01T00:00:00Z"), None).remaining(), credits(40));
    }

    #[test]
    fn what_expired_is_unspent_as_far_as_there_is_a_transfer_to_take_it_back_from() {
        let open = grant(at("2026-01-01T00:00:00Z"), None);
        assert_eq!(open.unspent(), credits(40));
        assert_eq!(Grant { expiry_version: Some(7), ..open }.unspent(), credits(60));
    }

    #[test]
    fn a_grant_is_live_from_its_effective_instant_until_just_before_its_expiry() {
        let (start, end) = (at("2026-01-01T00:00:00Z"), at("2026-02-01T00:00:00Z"));
        let micro = Duration::microseconds(1);
        let bounded = grant(start, Some(end));
        let live = [start - micro, start, end - micro, end].map(|instant| bounded.is_live(instant));
        assert_eq!(live, [false, true, true, false]);
        assert!(grant(start, None).is_live(at("9999-01-01T00:00:00Z")), "without an expiry, for ever");
    }

    #[test]
    fn the_charge_instant_is_held_to_the_expiry_and_the_recording_to_the_effective_instant() {
        let (start, end) = (at("2026-01-01T00:00:00Z"), at("2026-02-01T00:00:00Z"));
        let micro = Duration::microseconds(1);
        let bounded = grant(start, Some(end));
        assert!(bounded.is_eligible(end - micro, end + Duration::hours(1)), "recorded after the expiry");
        assert!(!bounded.is_eligible(end, end), "charged at the expiry");
        assert!(bounded.is_eligible(start - micro, start), "charged before it, recorded in it");
        assert!(!bounded.is_eligible(start, start - micro), "recorded before it");
    }
}
