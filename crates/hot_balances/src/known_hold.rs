//! A hold as Redis knows it.

use domain::Timestamp;
use domain::hold::{Hold, HoldEnd};
use domain::id::{CustomerId, ExternalId};

use crate::projection::{read_credits, read_instant};

/// A hold with what tells the request that made it from another, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHold {
    pub hold: Hold,
    pub fingerprint: String,
    pub end: Option<HoldEnd>,
}

impl KnownHold {
    /// Whether nobody has ended it, and it has not run out.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.end.is_none() && self.hold.expires_at > now
    }

    pub(crate) fn write(&self) -> String {
        let Hold { credits, granted_at, expires_at, counts_until, .. } = &self.hold;
        let state = self.end.map_or("live", HoldEnd::name);
        let rest = write_rest(*granted_at, *expires_at, &self.fingerprint);
        format!("{credits} {} {state} {rest}", counts_until.timestamp_micros())
    }

    /// Reads a hold's text: `credits counts_until state granted_at expires_at fingerprint`.
    pub(crate) fn read(text: &str, id: &ExternalId, customer: CustomerId) -> Option<KnownHold> {
        let parts: Vec<&str> = text.split(' ').collect();
        let [credits, counts_until, state, granted_at, expires_at, fingerprint] = parts[..] else {
            return None;
        };
        let end = match state {
            "live" => None,
            "captured" => Some(HoldEnd::Captured),
            "released" => Some(HoldEnd::Released),
            _ => return None,
        };
        Some(KnownHold {
            hold: Hold {
                id: id.clone(),
                customer,
                credits: read_credits(credits)?,
                granted_at: read_instant(granted_at)?,
                expires_at: read_instant(expires_at)?,
                counts_until: read_instant(counts_until)?,
            },
            fingerprint: fingerprint.to_owned(),
            end,
        })
    }
}

/// A hold's name: of a field, and in the sorted sets.
pub(crate) fn name(id: &ExternalId) -> String {
    format!(":{id}")
}

/// What a hold's text says after its state.
pub(crate) fn write_rest(granted_at: Timestamp, expires_at: Timestamp, fingerprint: &str) -> String {
    format!("{} {} {fingerprint}", granted_at.timestamp_micros(), expires_at.timestamp_micros())
}
