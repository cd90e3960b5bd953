//! An account's balance as it is written to Redis, signed.

use domain::exhaustion::Exhaustion;
use domain::{Credits, Timestamp};

use crate::keys::{AccountKey, Epoch};
use crate::mac::{MacKey, Signature};
use crate::packed::{Packed, Unpacked};

/// An account's balance as of a version, good until `valid_until`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projection {
    /// Says which of two is newer: the version, and each change without a transfer.
    pub revision: i64,
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
    /// The numbers in the order in which the scripts read them, then those that none reads and the name of `exhaustion`, then
    /// the MAC: no more than the 64 bytes up to which Redis packs a small hash.
    pub(crate) fn write(&self, account: AccountKey, epoch: Epoch, mac_key: &MacKey) -> Vec<u8> {
        let body = Packed::with_capacity(64)
            .number(self.revision)
            .credits(self.available)
            .instant_or_never(self.valid_until)
            .instant_or_never(self.cycle_ends_at)
            .instant_or_never(self.refills_at)
            .number(self.version)
            .bytes(self.exhaustion.map_or("", Exhaustion::name).as_bytes());
        let signature = mac_key.sign(&[&whose(account, epoch), &body.0]);
        body.bytes(&signature).0
    }

    /// What was written, whether or not it is ours: `None` where it does not even read as one.
    pub(crate) fn read(written: &[u8]) -> Option<Projection> {
        let (body, _signature) = written.split_last_chunk::<{ size_of::<Signature>() }>()?;
        let mut body = Unpacked(body);
        Some(Projection {
            revision: body.number()?,
            available: body.credits()?,
            valid_until: body.instant_or_never()?,
            cycle_ends_at: body.instant_or_never()?,
            refills_at: body.instant_or_never()?,
            version: body.number()?,
            exhaustion: match body.0 {
                b"" => None,
                name => Some(Exhaustion::ALL.into_iter().find(|known| known.name().as_bytes() == name)?),
            },
        })
    }

    /// Reads one that Tollgate wrote for this account in this epoch, and none that was set by hand.
    pub(crate) fn read_signed(
        written: &[u8],
        account: AccountKey,
        epoch: Epoch,
        mac_key: &MacKey,
    ) -> Option<Projection> {
        is_signed(written, account, epoch, mac_key).then(|| Projection::read(written)).flatten()
    }
}

pub(crate) fn is_signed(written: &[u8], account: AccountKey, epoch: Epoch, mac_key: &MacKey) -> bool {
    let Some((body, signature)) = written.split_last_chunk() else { return false };
    mac_key.is_signed(&[&whose(account, epoch), body], signature)
}

/// What the MAC is over besides the numbers: so those of one account, or of an earlier epoch, are none of another.
fn whose(account: AccountKey, epoch: Epoch) -> [u8; 40] {
    let mut whose = [0; 40];
    whose[..8].copy_from_slice(&epoch.0.to_be_bytes());
    whose[8..24].copy_from_slice(account.tenant.uuid().as_bytes());
    whose[24..].copy_from_slice(account.customer.uuid().as_bytes());
    whose
}

#[cfg(test)]
mod tests {
    use domain::id::{CustomerId, TenantId};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_is_small_enough_to_be_packed() {
        let account = AccountKey {
            tenant: TenantId::from_uuid(Uuid::from_u128(1)),
            customer: CustomerId::from_uuid(Uuid::from_u128(2)),
        };
        let mac_key = MacKey::new(b"secret");
        for exhaustion in Exhaustion::ALL.into_iter().map(Some).chain([None]) {
            let projection = Projection {
                revision: 9,
                version: 7,
                available: Credits::MAX,
                valid_until: Some(Timestamp::UNIX_EPOCH),
                refills_at: None,
                cycle_ends_at: None,
                exhaustion,
            };
            let written = projection.write(account, Epoch(1), &mac_key);
            assert!(written.len() <= 64, "{exhaustion:?}: {}", written.len());
            assert_eq!(Projection::read_signed(&written, account, Epoch(1), &mac_key), Some(projection));
        }
    }
}
