//! Hot balances: every Redis key and script of Tollgate.
//!
//! Redis holds a projection of each account that may vanish at any moment, and the live
//! holds. It is the only copy of nothing but a hold's running time, and that only until the ledger
//! has recorded the hold, a moment after it was granted.
//!
//! Every key carries the [`Epoch`] it belongs to, so what a late call of an earlier one writes is
//! never looked at, and goes by its time to live. Keys of one account share the hash tag
//! `{tenant:customer}`, both in base64, so that a cluster keeps them in one slot:
//! - `{..}:balance:EPOCH`: hash of `projection` (signed, empty once it was dropped), `state` (the sum of the live
//!   holds, no later than the first instant at which one stops counting, and whether there may be others than young ones),
//!   and the *young* holds, `:ID`: a hold is granted by one reading and one writing of this key. While the account is being
//!   loaded also `loading`, which the load must find again, and `floor`, the latest revision published since: nothing older
//!   is loaded;
//! - `{..}:balance:EPOCH:holds`: hash of the other holds, kept past their end so that a repeated request finds them.
//!   Young ones are put to them when there are some hundreds, or one of them stops counting, and when they end;
//! - `{..}:balance:EPOCH:live`: sorted set of those that count, `credits|:ID` by the instant until which they do;
//! - `{..}:balance:EPOCH:kept`: sorted set of those that do not any more, by the instant at which they are forgotten;
//! - `tollgate:epoch:..`, the marker: the epoch that Redis is in. A cluster has one in each slot.
//!
//! A script changes nothing where the marker is missing or names another epoch: Redis was emptied, or
//! left behind, and says so.
//!
//! The absolute balance is published with its revision and taken unless it is older: deltas are never
//! pushed, so there is nothing to drift. `valid_until` is the next instant at which the balance
//! changes by itself; the scripts get the tenant's `now` as an argument, never Redis' clock. A MAC
//! over epoch, account, revision, balance and times is checked with every answer: a value that was set by
//! hand is dropped and loaded anew.
//!
//! | call | round trips |
//! |---|---|
//! | [`HotBalances::hold`], `renew`, `fill`, `held`, `find`, `peek`, `drop_projection` | 1 |
//! | [`HotBalances::begin_loads`] | 1 for all accounts, on a cluster of one slot |
//! | [`HotBalances::publish`] | 1 for some dozens of accounts, on a cluster of one slot |
//! | [`HotBalances::live`] | 2 |
//!
//! A call that fails, or takes longer than [`RESPONSE_TIMEOUT`] twice, says [`Away`]. What follows
//! from that, and from a lost epoch, is the ledger's business: it starts a new [`Epoch`].

mod connection;
mod fill;
mod gather;
mod hold;
mod keys;
mod known_hold;
mod look;
mod mac;
mod packed;
mod projection;
mod renew;
mod scripts;
mod tell;

use std::sync::Arc;
use std::time::Duration;

use redis::RedisResult;
use tokio::sync::OnceCell;

pub use fill::{FillHolds, Filled, Ticket};
pub use hold::{HoldAnswer, HoldRequest};
pub use keys::{AccountKey, Epoch};
pub use known_hold::KnownHold;
pub use look::Peeked;
pub use projection::Projection;
pub use renew::RenewAnswer;
pub use tell::{News, Told};

use connection::{Connected, Connection, Connections, Target};
use gather::{Gathered, gathered};
use keys::Markers;
use mac::MacKey;
use scripts::Scripts;

/// How long a script may take; after a second one that took longer Redis counts as away.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_millis(100);
/// How long a first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(150);
/// How long all markers of a cluster may take, a call of which is sent only when the one before it was
/// answered.
const MARKING_MAX: Duration = Duration::from_secs(2);
/// The longest that a call goes on after it was begun.
pub const CALL_MAX: Duration = Duration::from_millis(350);
/// Calls of many accounts at the same time: each has its time-out from when it is sent, and one that waits for many others
/// would take a busy Redis for one that is away.
const CALLS_AT_ONCE: usize = 8;
/// The longest that a load of an account may take, from before its reading in PostgreSQL to its writing here.
const LOAD_MAX: Duration = Duration::from_secs(10);
/// How long an ended hold stays known, past its expiry, by the tenant's time.
const KEEP_ENDED: Duration = Duration::from_secs(2 * 3600);
/// How long an account's keys stay after it was last loaded or told. A projection runs out long before that.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// Redis did not answer in time. Whether a script ran is unknown.
#[derive(Debug, Clone, thiserror::Error)]
#[error("Redis is away: {0}")]
pub struct Away(String);

/// A handle on Redis; cheap to clone.
#[derive(Clone)]
pub struct HotBalances(Arc<Shared>);

/// What the clones share.
pub(crate) struct Shared {
    target: Target,
    connections: Connections,
    scripts: Scripts,
    mac_key: MacKey,
    markers: Markers,
    gathered: Gathered,
}

impl HotBalances {
    /// `url`: `redis://..`, or `redis-cluster://host:port,host:port`. Does not connect yet: a server
    /// starts, and answers rightly, while Redis is away. `secret` keys the MAC and names the marker;
    /// every server of an installation has the same, and no other installation on the same Redis.
    pub fn new(url: &str, secret: &[u8]) -> Result<HotBalances, redis::RedisError> {
        let mac_key = MacKey::new(secret);
        let target = Target::parse(url)?;
        let markers = match target {
            Target::One(_) => Markers::one(&mac_key),
            Target::Cluster(_) => Markers::per_slot(&mac_key),
        };
        let (connections, scripts) = Default::default();
        let gathered = gathered();
        Ok(HotBalances(Arc::new(Shared { target, connections, scripts, mac_key, markers, gathered })))
    }

    /// Tells Redis that this epoch begins: from now on it answers no call of another one. Called by
    /// whoever starts an epoch, before the first call of it.
    pub async fn begin_epoch(&self, epoch: Epoch) -> Result<(), Away> {
        let marking = self.connection_to_any_run().await?.mark(&self.0.markers, epoch.0);
        match tokio::time::timeout(MARKING_MAX, marking).await {
            Ok(marked) => marked.map_err(|error| Away(error.to_string())),
            Err(_) => Err(Away(format!("no epoch begun within {} ms", MARKING_MAX.as_millis()))),
        }
    }

    /// Which run of Redis this is: another one after every restart. In a cluster, of any master.
    pub async fn run_id(&self) -> Result<String, Away> {
        let connection = self.connection_to_any_run().await?;
        let run_id = self.run_on(connection, Connection::run_id).await?;
        if run_id.is_empty() { Err(Away("it does not say which run it is".to_owned())) } else { Ok(run_id) }
    }

    /// Checks that Redis is this run still, which is the one that all servers use: from now on every call
    /// but this, [`run_id`](HotBalances::run_id) and [`begin_epoch`](HotBalances::begin_epoch) is `Away`
    /// on a connection to any other.
    pub async fn check_run(&self, run_id: &str) -> Result<(), Away> {
        self.0.connections.use_run(run_id);
        if self.run_id().await? == run_id { Ok(()) } else { Err(another_run()) }
    }

    /// Whether Redis answers.
    pub async fn ping(&self) -> Result<(), Away> {
        self.run(
            |mut connection| async move { redis::cmd("PING").query_async::<String>(&mut connection).await },
        )
        .await?;
        Ok(())
    }

    /// Runs one call within the time-out, and once more where there was no answer: every call may run
    /// twice. A connection that broke is not tried again: what it comes back to may be another run of
    /// Redis, with other data.
    async fn run<T, Fut>(&self, call: impl Fn(Connection) -> Fut) -> Result<T, Away>
    where
        Fut: Future<Output = RedisResult<T>>,
    {
        let connection = self.connection().await?;
        self.run_on(connection, call).await
    }

    async fn run_on<T, Fut>(
        &self,
        connection: Connection,
        call: impl Fn(Connection) -> Fut,
    ) -> Result<T, Away>
    where
        Fut: Future<Output = RedisResult<T>>,
    {
        for _ in 0..2 {
            match tokio::time::timeout(RESPONSE_TIMEOUT, call(connection.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => {
                    if error.is_io_error() {
                        self.0.connections.forget_all();
                    }
                    return Err(Away(error.to_string()));
                }
                Err(_) => continue,
            }
        }
        Err(Away(format!("no answer within {} ms, twice", RESPONSE_TIMEOUT.as_millis())))
    }

    async fn connection(&self) -> Result<Connection, Away> {
        let connected = self.connected().await?;
        let connected = connected.get().filter(|connected| self.0.connections.is_used(connected));
        match connected {
            Some(connected) => Ok(connected.connection.clone()),
            None => {
                self.0.connections.forget_all();
                Err(another_run())
            }
        }
    }

    async fn connection_to_any_run(&self) -> Result<Connection, Away> {
        let connected = self.connected().await?;
        connected.get().map(|connected| connected.connection.clone()).ok_or_else(no_connection)
    }

    /// This runtime's connection, made.
    async fn connected(&self) -> Result<Arc<OnceCell<Connected>>, Away> {
        let connected = self.0.connections.of_this_runtime();
        let connecting = connected.get_or_try_init(|| self.0.target.connect_to_run());
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(_)) => Ok(connected),
            Ok(Err(error)) => Err(Away(error.to_string())),
            Err(_) => Err(no_connection()),
        }
    }
}

fn another_run() -> Away {
    Away("it was restarted, or is another one".to_owned())
}

fn no_connection() -> Away {
    Away("no connection".to_owned())
}

/// As the scripts count the tenant's time.
fn micros(life: Duration) -> i64 {
    i64::try_from(life.as_micros()).unwrap_or(i64::MAX)
}

/// In whole milliseconds, as Redis takes them.
fn ms(life: Duration) -> i64 {
    i64::try_from(life.as_millis()).unwrap_or(i64::MAX)
}
