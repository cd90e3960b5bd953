//! An account's balance as it is written to Redis, signed.

use chrono::DateTime;
use domain::exhaustion::Exhaustion;
use domain::{Credits, Timestamp};

use crate::keys::{AccountKey, Epoch};
use crate::mac::MacKey;

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
    /// How the customer goes on without Credits; the tenant's policy where none.
    pub exhaustion: Option<Exhaustion>,
}

impl Projection {
    /// `version available valid_until refills_at cycle_ends_at exhaustion mac`, as the scripts read it.
    pub(crate) fn write(&self, account: AccountKey, epoch: Epoch, mac_key: &MacKey) -> String {
        let body = format!(
            "{} {} {} {} {} {}",
            self.version,
            self.available,
            micros_or_dash(self.valid_until),
            micros_or_dash(self.refills_at),
            micros_or_dash(self.cycle_ends_at),
            self.exhaustion.map_or("-", Exhaustion::name)
        );
        let mac = mac_key.sign(&signed_text(&body, account, epoch));
        format!("{body} {mac}")
    }

    /// What was written, and whether it is ours: `None` where it does not even read as one.
    pub(crate) fn read(text: &str) -> Option<Projection> {
        let parts: Vec<&str> = text.split(' ').collect();
        let [version, available, valid_until, refills_at, cycle_ends_at, exhaustion, _mac] = parts[..] else {
            return None;
        };
        Some(Projection {
            version: version.parse().ok()?,
            available: read_credits(available)?,
            valid_until: read_instant_or_dash(valid_until)?,
            refills_at: read_instant_or_dash(refills_at)?,
            cycle_ends_at: read_instant_or_dash(cycle_ends_at)?,
            exhaustion: read_exhaustion_or_dash(exhaustion)?,
        })
    }

    /// Reads one that Tollgate wrote for this account in this epoch, and none that was set by hand.
    pub(crate) fn read_signed(
        text: &str,
        account: AccountKey,
        epoch: Epoch,
        mac_key: &MacKey,
    ) -> Option<Projection> {
        is_signed(text, account, epoch, mac_key).then(|| Projection::read(text)).flatten()
    }
}

pub(crate) fn is_signed(text: &str, account: AccountKey, epoch: Epoch, mac_key: &MacKey) -> bool {
    let Some((body, mac)) = text.rsplit_once(' ') else { return false };
    mac_key.is_signed(&signed_text(body, account, epoch), mac)
}

/// What the MAC is over.
fn signed_text(body: &str, account: AccountKey, epoch: Epoch) -> String {
    format!("{} {} {} {body}", epoch.0, account.tenant, account.customer)
}

fn micros_or_dash(instant: Option<Timestamp>) -> String {
    instant.map_or_else(|| "-".to_owned(), |instant| instant.timestamp_micros().to_string())
}

/// A dash reads as no instant; anything else must be one.
fn read_instant_or_dash(text: &str) -> Option<Option<Timestamp>> {
    if text == "-" { Some(None) } else { read_instant(text).map(Some) }
}

/// A dash reads as none; anything else must be one.
fn read_exhaustion_or_dash(text: &str) -> Option<Option<Exhaustion>> {
    let named = || Exhaustion::ALL.into_iter().find(|exhaustion| exhaustion.name() == text);
    if text == "-" { Some(None) } else { named().map(Some) }
}

pub(crate) fn read_instant(text: &str) -> Option<Timestamp> {
    DateTime::from_timestamp_micros(text.parse().ok()?)
}

pub(crate) fn read_credits(text: &str) -> Option<Credits> {
    Credits::new(text.parse().ok()?).ok()
}
