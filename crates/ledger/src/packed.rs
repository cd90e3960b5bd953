//! Holds, packed: what a flush writes of those that Redis granted, one row for all of them.

use std::borrow::Cow;

use chrono::DateTime;
use db::{Error, Result};
use domain::hold::{Fingerprint, Hold};
use domain::id::CustomerId;
use domain::{Credits, Timestamp};
use serde::{Deserialize, Serialize};

/// A hold in the packed form; instants are microseconds since 1970. The order of the fields is the
/// format: a field more needs another `FORMAT`.
#[derive(Serialize, Deserialize)]
struct Packed<'a> {
    customer: [u8; 16],
    id: Cow<'a, str>,
    credits: i64,
    granted_at: i64,
    expires_at: i64,
    counts_until: i64,
    fingerprint: Cow<'a, str>,
}

/// The first byte of every packed row.
const FORMAT: u8 = 1;

/// Packs holds, each with the fingerprint of its request.
pub(crate) fn pack<'a>(holds: impl Iterator<Item = &'a (Hold, Fingerprint)>) -> Result<Vec<u8>> {
    let mut bytes = vec![FORMAT];
    let mut hex = [0; 32];
    for (hold, fingerprint) in holds {
        let packed = Packed {
            customer: *hold.customer.uuid().as_bytes(),
            id: Cow::Borrowed(hold.id.as_str()),
            credits: hold.credits.get(),
            granted_at: hold.granted_at.timestamp_micros(),
            expires_at: hold.expires_at.timestamp_micros(),
            counts_until: hold.counts_until.timestamp_micros(),
            fingerprint: Cow::Borrowed(fingerprint.hex(&mut hex)),
        };
        bytes = postcard::to_extend(&packed, bytes).map_err(|error| Error::Fault(Box::new(error)))?;
    }
    Ok(bytes)
}

/// Unpacks what [`pack`] made; anything else is a fault.
pub(crate) fn unpack(bytes: &[u8]) -> Result<Vec<(Hold, Fingerprint)>> {
    let Some((&FORMAT, mut rest)) = bytes.split_first() else {
        return Err(Error::broken("packed holds of an unknown format"));
    };
    let mut holds = Vec::new();
    while !rest.is_empty() {
        let (packed, after): (Packed<'_>, _) =
            postcard::take_from_bytes(rest).map_err(|error| Error::Fault(Box::new(error)))?;
        rest = after;
        let hold = Hold {
            id: packed.id.parse().map_err(|_| Error::broken("a packed hold's id outside its grammar"))?,
            customer: CustomerId::from_uuid(uuid::Uuid::from_bytes(packed.customer)),
            credits: Credits::new(packed.credits)?,
            granted_at: instant(packed.granted_at)?,
            expires_at: instant(packed.expires_at)?,
            counts_until: instant(packed.counts_until)?,
        };
        let fingerprint = Fingerprint::from_hex(&packed.fingerprint);
        holds.push((hold, fingerprint.ok_or_else(|| Error::broken("a packed hold's fingerprint is none"))?));
    }
    Ok(holds)
}

fn instant(micros: i64) -> Result<Timestamp> {
    DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| Error::broken("a packed hold's time is out of range"))
}
