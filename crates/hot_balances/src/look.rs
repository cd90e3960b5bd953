//! Looks things up; changes nothing.

use std::collections::BTreeSet;

use domain::id::ExternalId;
use domain::{Credits, Timestamp};
use redis::{Cmd, FromRedisValue, Value, from_redis_value};

use crate::known_hold::{KnownHold, name};
use crate::packed::Unpacked;
use crate::projection::{Projection, is_signed};
use crate::{AccountKey, Away, Epoch, HotBalances};

/// What Redis has of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peeked {
    pub projection: Projection,
    /// Whether Tollgate wrote it. One that it did not write is dropped when it is next used.
    pub is_signed: bool,
    /// What the live holds come to, by the count that the scripts keep; holds that have run out and
    /// that nobody has looked at since are in it.
    pub held: Credits,
}

impl HotBalances {
    /// Holds by their ids, live or ended, in the order asked for. One round trip for all of them. Away where
    /// Redis is not in this epoch: what it does not have then may have been granted all the same.
    pub async fn find(
        &self,
        epoch: Epoch,
        named: &[(AccountKey, ExternalId)],
    ) -> Result<Vec<Option<KnownHold>>, Away> {
        let (found, is_here) = self.find_in(epoch, named).await?;
        if is_here { Ok(found) } else { Err(Away("it is in another epoch".to_owned())) }
    }

    /// The same of an epoch that Redis is no longer in: what it has is true, and may not be all.
    pub async fn find_left_behind(
        &self,
        epoch: Epoch,
        named: &[(AccountKey, ExternalId)],
    ) -> Result<Vec<Option<KnownHold>>, Away> {
        Ok(self.find_in(epoch, named).await?.0)
    }

    /// What Redis has, and whether it is in this epoch.
    async fn find_in(
        &self,
        epoch: Epoch,
        named: &[(AccountKey, ExternalId)],
    ) -> Result<(Vec<Option<KnownHold>>, bool), Away> {
        let get = |key: &str| {
            let mut get = redis::cmd("GET");
            get.arg(key);
            get
        };
        let holds = named.iter().flat_map(|(account, id)| {
            [account.balance(epoch), account.holds(epoch)].map(|key| {
                let mut get = redis::cmd("HGET");
                get.arg(key).arg(name(id));
                get
            })
        });
        // After the holds: an emptying in between is seen.
        let markers: BTreeSet<&str> = named.iter().map(|(account, _)| self.0.markers.of(*account)).collect();
        let mut found: Vec<Option<Vec<u8>>> =
            self.read_all(holds.chain(markers.into_iter().map(get)).collect()).await?;
        let markers = found.split_off(2 * named.len());
        let marker = epoch.0.to_string();
        let is_here = markers.iter().all(|found| found.as_deref() == Some(marker.as_bytes()));
        // Between the two readings it may have gone from the first place to the second, never the other way.
        let found = found.chunks(2).map(|places| places.iter().flatten().next());
        let read = |((account, id), written): (&(AccountKey, ExternalId), Option<&Vec<u8>>)| {
            KnownHold::read(written?, id, account.customer)
        };
        Ok((named.iter().zip(found).map(read).collect(), is_here))
    }

    /// What Redis has of accounts, in the order asked for: `None` where it has nothing that reads as a
    /// projection, or it was dropped. One round trip for all of them.
    pub async fn peek(&self, epoch: Epoch, accounts: &[AccountKey]) -> Result<Vec<Option<Peeked>>, Away> {
        let gets = accounts.iter().map(|account| {
            let mut get = redis::cmd("HMGET");
            get.arg(account.balance(epoch)).arg(&["projection", "state"]);
            get
        });
        type Here = (Option<Vec<u8>>, Option<Vec<u8>>);
        let here: Vec<Here> = self.read_all(gets.collect()).await?;
        let read = |(account, (written, state)): (&AccountKey, Here)| {
            let written = written?;
            Some(Peeked {
                projection: Projection::read(&written)?,
                is_signed: is_signed(&written, *account, epoch, &self.0.mac_key),
                held: Unpacked(&state?).credits()?,
            })
        };
        Ok(accounts.iter().zip(here).map(read).collect())
    }

    /// The live holds of accounts: those that nobody has ended; some may have run out. Two round trips for
    /// all of them. Away where Redis is not in this epoch.
    pub async fn live(&self, epoch: Epoch, accounts: &[AccountKey]) -> Result<Vec<KnownHold>, Away> {
        let reads = accounts.iter().flat_map(|account| {
            let (mut young, mut others) = (redis::cmd("HKEYS"), redis::cmd("ZRANGE"));
            young.arg(account.balance(epoch));
            others.arg(account.live(epoch)).arg(0).arg(-1);
            [young, others]
        });
        let members: Vec<Vec<String>> = self.read_all(reads.collect()).await?;
        let mut named = Vec::new();
        for (account, members) in accounts.iter().zip(members.chunks(2)) {
            let young = members[0].iter().map(String::as_str);
            let others = members[1].iter().filter_map(|member| Some(member.split_once('|')?.1));
            let ids = young.chain(others).filter_map(|name| name.strip_prefix(':')?.parse().ok());
            named.extend(ids.map(|id: ExternalId| (*account, id)));
        }
        let found = self.find(epoch, &named).await?;
        Ok(found.into_iter().flatten().filter(|known| known.end.is_none()).collect())
    }

    /// What an account's live holds come to at `now`; `None` where Redis does not have the account, or is
    /// not in this epoch.
    pub async fn held(
        &self,
        account: AccountKey,
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<Option<Credits>, Away> {
        let mut call = self.0.scripts.held.on([account].into_iter(), epoch, &self.0.markers);
        call.arg(now.timestamp_micros());
        Ok(match self.run(|connection| call.run(connection)).await? {
            Value::Int(held) => Credits::new(held).ok(),
            _ => None,
        })
    }

    async fn read_all<T: FromRedisValue>(&self, reads: Vec<Cmd>) -> Result<Vec<T>, Away> {
        if reads.is_empty() {
            return Ok(Vec::new());
        }
        let values = self.run(|connection| connection.read_all(&reads)).await?;
        let read: Result<Vec<T>, _> = values.into_iter().map(from_redis_value).collect();
        read.map_err(|error| Away(error.to_string()))
    }
}
