//! Tells Redis what was committed: a new balance, the end of holds, or that what it has is no good.

use domain::Timestamp;
use domain::hold::HoldEnd;
use domain::id::ExternalId;
use futures_util::future::try_join_all;

use crate::known_hold::{letter, name};
use crate::projection::Projection;
use crate::scripts::ScriptCall;
use crate::{AccountKey, Away, CALLS_AT_ONCE, Epoch, HotBalances, KEEP_ENDED, LIFE, micros, ms};

/// Whether Redis was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Done,
    /// Redis is not in this epoch. Nothing was changed.
    Lost,
}

/// What was committed of one account.
#[derive(Debug, Clone, Copy)]
pub struct News<'a> {
    pub account: AccountKey,
    pub projection: &'a Projection,
    /// The holds that the same change ended.
    pub ended: &'a [(ExternalId, HoldEnd)],
}

/// Accounts that one call tells of. It is short, so that no authorization waits long behind it.
const ACCOUNTS_A_CALL: usize = 32;
impl HotBalances {
    /// Publishes committed balances and ends the holds that the same changes ended, at `now`. Where Redis is lost, some
    /// may have been told.
    pub async fn publish(&self, epoch: Epoch, news: &[News<'_>], now: Timestamp) -> Result<Told, Away> {
        let of_slots: Vec<_> = self.0.markers.by_slot(news.iter().copied(), |one| one.account).collect();
        let calls = of_slots.iter().flat_map(|of_slot| of_slot.chunks(ACCOUNTS_A_CALL));
        let calls: Vec<ScriptCall> = calls.map(|some| self.news(epoch, some, now)).collect();
        for some in calls.chunks(CALLS_AT_ONCE) {
            let told = try_join_all(some.iter().map(|call| self.tell(call))).await?;
            if told.contains(&Told::Lost) {
                return Ok(Told::Lost);
            }
        }
        Ok(Told::Done)
    }

    /// The script's call; all accounts go with one marker.
    fn news(&self, epoch: Epoch, news: &[News<'_>], now: Timestamp) -> ScriptCall {
        let accounts = news.iter().map(|one| one.account);
        let mut call = self.0.scripts.publish.on(accounts, epoch, &self.0.markers);
        call.arg(ms(LIFE)).arg(micros(KEEP_ENDED)).arg(now.timestamp_micros());
        for News { account, projection, ended } in news {
            call.arg(projection.write(*account, epoch, &self.0.mac_key)).arg(ended.len());
            for (id, end) in *ended {
                call.arg(name(id)).arg(letter(*end));
            }
        }
        call
    }

    /// Makes an account's projection a miss: the next hold loads it. Its live holds stay.
    pub async fn drop_projection(&self, account: AccountKey, epoch: Epoch) -> Result<Told, Away> {
        self.drop(account, epoch, b"", &[]).await
    }

    /// Drops a projection that was set by hand, or is not ours: what it says is worth nothing, the
    /// holds given on it included.
    pub(crate) async fn drop_forged(
        &self,
        account: AccountKey,
        epoch: Epoch,
        projection: &[u8],
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
        projection: &[u8],
        given: &[ExternalId],
    ) -> Result<Told, Away> {
        let mut call = self.0.scripts.drop.on([account].into_iter(), epoch, &self.0.markers);
        call.arg(projection);
        for id in given {
            call.arg(name(id));
        }
        self.tell(&call).await
    }

    async fn tell(&self, call: &ScriptCall) -> Result<Told, Away> {
        let answer: String = self.run(|connection| call.run(connection)).await?;
        Ok(if answer == "lost" { Told::Lost } else { Told::Done })
    }
}
