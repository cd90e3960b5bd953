//! Loads an account after a miss.

use crate::known_hold::{KnownHold, name};
use crate::projection::Projection;
use crate::{AccountKey, Away, Epoch, HotBalances, KEEP_ENDED, LIFE, micros, ms};

/// The most holds that one call brings.
const HOLDS_A_CALL: usize = 500;

/// What a load knows of the account's holds.
#[derive(Debug, Clone, Copy)]
pub enum FillHolds<'a> {
    /// Every live one, and ended ones that must not seem new.
    All(&'a [KnownHold]),
    /// The miss said that the live ones are there (`is_loaded`): what is to be known besides.
    Besides(&'a [KnownHold]),
}

/// What came of a fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    Done,
    /// Redis is not in this epoch. Nothing was changed.
    Lost,
}

impl HotBalances {
    /// Loads an account after a miss, with what is known of its holds. An older revision than one that
    /// is here, or was published a moment ago, changes nothing.
    pub async fn fill(
        &self,
        account: AccountKey,
        epoch: Epoch,
        projection: &Projection,
        holds: FillHolds<'_>,
    ) -> Result<Filled, Away> {
        let (brought, holds) = match holds {
            FillHolds::All(holds) => ("all", holds),
            FillHolds::Besides(holds) => ("besides", holds),
        };
        // Many holds come in several calls, so that none keeps Redis from everybody else for long; the last
        // one brings the balance, and before it the account is a miss.
        let (most, rest) = holds.split_at(holds.len() - holds.len().min(HOLDS_A_CALL));
        for some in most.chunks(HOLDS_A_CALL) {
            if self.bring(account, epoch, projection, ("more", some)).await? == Filled::Lost {
                return Ok(Filled::Lost);
            }
        }
        self.bring(account, epoch, projection, (brought, rest)).await
    }

    async fn bring(
        &self,
        account: AccountKey,
        epoch: Epoch,
        projection: &Projection,
        (brought, holds): (&str, &[KnownHold]),
    ) -> Result<Filled, Away> {
        let mut call = self.0.scripts.fill.on([account].into_iter(), epoch, &self.0.markers);
        call.arg(ms(LIFE)).arg(projection.write(account, epoch, &self.0.mac_key)).arg(brought);
        call.arg(micros(KEEP_ENDED));
        for known in holds {
            call.arg(name(&known.hold.id)).arg(known.write());
        }
        let answer: String = self.run(|connection| call.run(connection)).await?;
        Ok(if answer == "lost" { Filled::Lost } else { Filled::Done })
    }
}
