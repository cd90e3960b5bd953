//! A hold as Redis knows it.

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
    /// Reads a hold's field: `credits granted_at expires_at counts_until fingerprint state`.
    pub(crate) fn read(text: &str, id: &ExternalId, customer: CustomerId) -> Option<KnownHold> {
        let parts: Vec<&str> = text.split(' ').collect();
        let [credits, granted_at, expires_at, counts_until, fingerprint, state] = parts[..] else {
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
