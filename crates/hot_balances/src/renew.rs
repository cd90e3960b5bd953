//! Lets a hold run until later.

use domain::Timestamp;
use domain::id::ExternalId;

use crate::known_hold::{KnownHold, name};
use crate::projection::Projection;
use crate::{AccountKey, Away, Epoch, HotBalances, KEEP_ENDED, micros};

/// What came of asking for more time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenewAnswer {
    /// It runs until the asked instant now, or longer.
    Renewed { known: KnownHold, version: i64 },
    /// It was captured or released, or has run out.
    Ended(KnownHold),
    /// The account is loaded and has no hold of this id here: one that ended before the account was
    /// loaded is not here either.
    Unknown,
    /// Redis does not have the account, or what it has is no longer good; as for a hold.
    Miss { is_loaded: bool },
    /// Redis is not in this epoch. Nothing was changed.
    Lost,
}

impl HotBalances {
    /// Lets a live hold run until `expires_at`; never until earlier than before. It goes on counting
    /// until then, but no longer than its cycle, as when it was granted (R-19a). Moves no balance.
    pub async fn renew(
        &self,
        account: AccountKey,
        epoch: Epoch,
        id: &ExternalId,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<RenewAnswer, Away> {
        let mut call = self.0.scripts.renew.on([account].into_iter(), epoch, &self.0.markers);
        call.arg(now.timestamp_micros())
            .arg(name(id))
            .arg(expires_at.timestamp_micros())
            .arg(micros(KEEP_ENDED));
        let (projection, what, known): (Vec<u8>, Vec<u8>, Vec<u8>) =
            self.run(|connection| call.run(connection)).await?;
        match self.read_renew_answer(&projection, (&what, &known), account, epoch, id) {
            Some(answer) => Ok(answer),
            None => {
                self.drop_forged(account, epoch, &projection, &[]).await?;
                Ok(RenewAnswer::Miss { is_loaded: true })
            }
        }
    }

    /// Reads the script's answer; `None` where the projection is not one that Tollgate wrote.
    fn read_renew_answer(
        &self,
        projection: &[u8],
        (what, known): (&[u8], &[u8]),
        account: AccountKey,
        epoch: Epoch,
        id: &ExternalId,
    ) -> Option<RenewAnswer> {
        let known = || KnownHold::read(known, id, account.customer);
        match what {
            b"lost" => Some(RenewAnswer::Lost),
            b"miss" => Some(RenewAnswer::Miss { is_loaded: false }),
            b"out" => Some(RenewAnswer::Miss { is_loaded: true }),
            b"unknown" => Some(RenewAnswer::Unknown),
            b"ended" => known().map(RenewAnswer::Ended),
            b"renewed" => {
                let Projection { version, .. } =
                    Projection::read_signed(projection, account, epoch, &self.0.mac_key)?;
                Some(RenewAnswer::Renewed { known: known()?, version })
            }
            _ => None,
        }
    }
}
