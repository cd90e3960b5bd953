//! What the scripts take and answer, as types.

use chrono::DateTime;
use domain::hold::{Hold, HoldEnd};
use domain::id::{CustomerId, ExternalId};
use domain::{Credits, Timestamp};

use crate::mac::MacKey;
use crate::{AccountKey, Epoch, HoldRequest};

/// An account's balance as of a version, good until `valid_until`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projection {
    pub version: i64,
    /// What can be spent, holds not counted.
    pub available: Credits,
    /// The next instant at which `available` changes by itself; none if never.
    pub valid_until: Option<Timestamp>,
    /// When the pool fills again (R-33a).
    pub refills_at: Option<Timestamp>,
    /// When the current cycle ends: its holds count no longer (R-19a).
    pub cycle_ends_at: Option<Timestamp>,
}

impl Projection {
    /// What the MAC is over.
    pub(crate) fn text(&self, account: AccountKey, epoch: Epoch) -> String {
        format!(
            "{} {} {} {} {} {} {} {}",
            epoch.0,
            account.tenant,
            account.customer,
            self.version,
            self.available,
            micros_or_empty(self.valid_until),
            micros_or_empty(self.refills_at),
            micros_or_empty(self.cycle_ends_at)
        )
    }
}

/// A hold with what tells the request that made it from another, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHold {
    pub hold: Hold,
    pub fingerprint: String,
    pub end: Option<HoldEnd>,
}

/// What came of asking for a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldAnswer {
    /// Granted now.
    Held { hold: Hold, version: i64 },
    /// This id was granted before.
    Known { known: KnownHold, version: i64 },
    /// Not even the prompt fits into what is `unheld`.
    Short { unheld: Credits, version: i64, refills_at: Option<Timestamp> },
    /// Redis does not have the account, or what it has is no longer good.
    Miss,
}

pub(crate) fn micros_or_empty(instant: Option<Timestamp>) -> String {
    instant.map(|instant| instant.timestamp_micros().to_string()).unwrap_or_default()
}

/// Reads the hold script's answer; `None` where it is not one that Tollgate can have written.
pub(crate) fn read_hold_reply(
    reply: &[String],
    account: AccountKey,
    epoch: Epoch,
    request: &HoldRequest,
    mac_key: &MacKey,
) -> Option<HoldAnswer> {
    if let [miss] = reply
        && miss == "miss"
    {
        return Some(HoldAnswer::Miss);
    }
    let [kind, version, available, valid_until, refills_at, cycle_ends_at, mac, last] = reply else {
        return None;
    };
    let projection = Projection {
        version: version.parse().ok()?,
        available: read_credits(available)?,
        valid_until: read_instant_or_empty(valid_until)?,
        refills_at: read_instant_or_empty(refills_at)?,
        cycle_ends_at: read_instant_or_empty(cycle_ends_at)?,
    };
    if !mac_key.is_signed(&projection.text(account, epoch), mac) {
        return None;
    }
    let Projection { version, refills_at, cycle_ends_at, .. } = projection;
    match kind.as_str() {
        "held" => {
            let hold = request.hold(account.customer, read_credits(last)?, cycle_ends_at);
            Some(HoldAnswer::Held { hold, version })
        }
        "known" => {
            let known = read_hold(last, &request.id, account.customer)?;
            Some(HoldAnswer::Known { known, version })
        }
        "short" => Some(HoldAnswer::Short { unheld: read_credits(last)?, version, refills_at }),
        _ => None,
    }
}

/// Reads a hold's own key: `credits granted_at expires_at counts_until fingerprint state`.
pub(crate) fn read_hold(text: &str, id: &ExternalId, customer: CustomerId) -> Option<KnownHold> {
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

fn read_credits(text: &str) -> Option<Credits> {
    Credits::new(text.parse().ok()?).ok()
}

fn read_instant(text: &str) -> Option<Timestamp> {
    DateTime::from_timestamp_micros(text.parse().ok()?)
}

/// Empty reads as no instant; anything else must be one.
fn read_instant_or_empty(text: &str) -> Option<Option<Timestamp>> {
    if text.is_empty() { Some(None) } else { read_instant(text).map(Some) }
}
