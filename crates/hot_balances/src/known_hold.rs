//! A hold as Redis knows it.

use domain::hold::{Fingerprint, Hold, HoldEnd};
use domain::id::{CustomerId, ExternalId};
use domain::{Credits, Timestamp};

use crate::packed::{Packed, Unpacked};

/// A hold with what tells the request that made it from another, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHold {
    pub hold: Hold,
    pub fingerprint: Fingerprint,
    pub end: Option<HoldEnd>,
}

impl KnownHold {
    /// Whether nobody has ended it, and it has not run out.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.end.is_none() && self.hold.expires_at > now
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let Hold { credits, counts_until, granted_at, expires_at, .. } = self.hold;
        write(credits, counts_until, (granted_at, expires_at), self.end, self.fingerprint)
    }

    /// Reads what [`write`] wrote.
    pub(crate) fn read(written: &[u8], id: &ExternalId, customer: CustomerId) -> Option<KnownHold> {
        let mut unpacked = Unpacked(written);
        let credits = unpacked.credits()?;
        let counts_until = unpacked.instant()?;
        let granted_at = unpacked.instant()?;
        let expires_at = unpacked.instant()?;
        let (letter, fingerprint) = unpacked.0.split_first()?;
        let end = match letter {
            b'l' => None,
            b'c' => Some(HoldEnd::Captured),
            b'r' => Some(HoldEnd::Released),
            _ => return None,
        };
        let fingerprint = Fingerprint::from_bytes(fingerprint.try_into().ok()?);
        let hold = Hold { id: id.clone(), customer, credits, granted_at, expires_at, counts_until };
        Some(KnownHold { hold, fingerprint, end })
    }
}

/// A hold in the order in which the scripts read it: the Credits, until when they count, from when to when it runs, the
/// letter of its state, and the fingerprint of its request.
pub(crate) fn write(
    credits: Credits,
    counts_until: Timestamp,
    (granted_at, expires_at): (Timestamp, Timestamp),
    end: Option<HoldEnd>,
    fingerprint: Fingerprint,
) -> Vec<u8> {
    Packed::with_capacity(45)
        .credits(credits)
        .instant(counts_until)
        .instant(granted_at)
        .instant(expires_at)
        .bytes(end.map_or("l", letter).as_bytes())
        .bytes(fingerprint.as_bytes())
        .0
}

/// How the scripts call an end.
pub(crate) fn letter(end: HoldEnd) -> &'static str {
    match end {
        HoldEnd::Captured => "c",
        HoldEnd::Released => "r",
    }
}

/// A hold's name: of a field, and in the sorted sets.
pub(crate) fn name(id: &ExternalId) -> String {
    [":", id.as_str()].concat()
}
