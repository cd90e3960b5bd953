//! Tells Redis what was committed: a new balance, the end of holds, or that what it has is no good.

use domain::hold::HoldEnd;
use domain::id::ExternalId;

use crate::projection::Projection;
use crate::scripts::ScriptCall;
use crate::{AccountKey, Away, Epoch, HotBalances, MARK_LIFE, ms};

/// Whether Redis was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Done,
    /// Redis is not in this epoch. Nothing was changed.
    Lost,
}

impl HotBalances {
    /// Publishes a committed balance and ends the holds that the same change ended.
    pub async fn publish(
        &self,
        account: AccountKey,
        epoch: Epoch,
        projection: &Projection,
        ended: &[(ExternalId, HoldEnd)],
    ) -> Result<Told, Away> {
        let keys = account.keys(epoch);
        let marker = self.0.markers.of(account).to_owned();
        let mut names = vec![marker, keys.balance(), keys.live(), keys.floor()];
        names.extend(ended.iter().map(|(id, _)| keys.hold(id)));
        let mut call = self.0.scripts.publish.on(&names);
        call.arg(epoch.0).arg(projection.write(account, epoch, &self.0.mac_key)).arg(ms(MARK_LIFE));
        for (id, end) in ended {
            call.arg(id.as_str()).arg(end.name());
        }
        self.tell(&call).await
    }

    /// Makes an account's projection a miss: the next hold loads it. Its live holds stay.
    pub async fn drop_projection(&self, account: AccountKey, epoch: Epoch) -> Result<Told, Away> {
        self.drop(account, epoch, "", &[]).await
    }

    /// Drops a projection that was set by hand, or is not ours: what it says is worth nothing, the
    /// holds given on it included.
    pub(crate) async fn drop_forged(
        &self,
        account: AccountKey,
        epoch: Epoch,
        projection: &str,
        given: &[ExternalId],
    ) -> Result<(), Away> {
        tracing::error!(customer = %account.customer, "a projected balance failed its check and was dropped");
        self.drop(account, epoch, projection, given).await?;
        Ok(())
    }

    async fn drop(
        &self,
        account: AccountKey,
        epoch: Epoch,
        projection: &str,
        given: &[ExternalId],
    ) -> Result<Told, Away> {
        let keys = account.keys(epoch);
        let mut names = vec![self.0.markers.of(account).to_owned(), keys.balance(), keys.live()];
        names.extend(given.iter().map(|id| keys.hold(id)));
        let mut call = self.0.scripts.drop.on(&names);
        call.arg(epoch.0).arg(projection);
        for id in given {
            call.arg(id.as_str());
        }
        self.tell(&call).await
    }

    async fn tell(&self, call: &ScriptCall) -> Result<Told, Away> {
        let answer: String = self.run(|connection| call.run(connection)).await?;
        Ok(if answer == "lost" { Told::Lost } else { Told::Done })
    }
}
