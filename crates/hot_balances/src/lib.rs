//! Hot balances: every Redis key and script of Tollgate.
//!
//! Redis holds a projection of each account that may vanish at any moment, and the live
//! holds. It is the only copy of nothing but a hold's running time, and that only until the ledger
//! has recorded the hold, a moment after it was granted.
//!
//! Keys of one account share the hash tag `{tenant:customer}`, so that a cluster keeps them in one
//! slot:
//! - `{..}:balance`: hash of `epoch`, `version`, `available`, `valid_until`, `refills_at`,
//!   `cycle_ends_at`, `mac`, `held`;
//! - `{..}:live`: sorted set of `credits|hold id` by the instant until which the hold counts;
//! - `{..}:floor`: the version published last, for a few seconds: nothing older is loaded;
//! - `{..}:hold:ID`: one hold, kept past its end so that a repeated request finds it.
//!
//! The absolute balance is published with its version and taken unless it is older: deltas are never
//! pushed, so there is nothing to drift. `valid_until` is the next instant at which the balance
//! changes by itself; the scripts get the tenant's `now` as an argument, never Redis' clock. A MAC
//! over epoch, account, version, balance and times is checked with every answer: a value that was set by
//! hand is dropped and loaded anew.
//!
//! | call | round trips |
//! |---|---|
//! | [`HotBalances::hold`], `fill`, `publish`, `release`, `find` | 1 |
//!
//! A call that fails, or takes longer than [`RESPONSE_TIMEOUT`] twice, says [`Away`]. What follows
//! from that is the ledger's business: it starts a new [`Epoch`], and what Redis has of an earlier
//! one is a miss.

mod mac;
mod projection;
mod scripts;

use std::time::Duration;

use domain::hold::{Hold, HoldEnd, counts_until};
use domain::id::{CustomerId, ExternalId, TenantId};
use domain::{Credits, Timestamp};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use mac::MacKey;
pub use projection::{HoldAnswer, KnownHold, Projection};
use scripts::Scripts;

/// How long a script may take; after a second one that took longer Redis counts as away.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_millis(100);
/// How long a first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);
/// The longest that a call goes on after it was begun.
pub const CALL_MAX: Duration = Duration::from_millis(450);
/// Longer than any load of an account takes, from its reading in PostgreSQL to its writing here.
const LOAD_MAX: Duration = Duration::from_secs(10);
/// How long an ended hold stays known, past its expiry.
const KEEP_ENDED: Duration = Duration::from_secs(2 * 3600);

/// Redis did not answer in time. Whether a script ran is unknown.
#[derive(Debug, Clone, thiserror::Error)]
#[error("Redis is away: {0}")]
pub struct Away(String);

/// A span of time in which Redis was up without a break, as the ledger counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(pub i64);

/// One account's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AccountKey {
    pub tenant: TenantId,
    pub customer: CustomerId,
}

impl AccountKey {
    fn key(&self, part: &str) -> String {
        format!("{{{}:{}}}:{part}", self.tenant.uuid().simple(), self.customer.uuid().simple())
    }

    fn balance(&self) -> String {
        self.key("balance")
    }

    fn floor(&self) -> String {
        self.key("floor")
    }

    fn live(&self) -> String {
        self.key("live")
    }

    fn hold(&self, id: &ExternalId) -> String {
        self.key(&format!("hold:{id}"))
    }
}

/// What an authorization asks for.
#[derive(Debug, Clone)]
pub struct HoldRequest {
    pub id: ExternalId,
    /// The whole estimate.
    pub full: Credits,
    /// The least that must be there: the prompt's cost.
    pub prompt_only: Credits,
    pub now: Timestamp,
    pub expires_at: Timestamp,
    /// Tells the same request from another one under the same id; no spaces.
    pub fingerprint: String,
}

/// A handle on Redis; cheap to clone.
#[derive(Clone)]
pub struct HotBalances {
    client: redis::Client,
    connection: std::sync::Arc<tokio::sync::OnceCell<ConnectionManager>>,
    scripts: std::sync::Arc<Scripts>,
    mac_key: MacKey,
}

impl HotBalances {
    /// Does not connect yet: a server starts, and answers rightly, while Redis is away. `secret`
    /// keys the MAC; every server of an installation has the same.
    pub fn new(url: &str, secret: &[u8]) -> Result<HotBalances, redis::RedisError> {
        Ok(HotBalances {
            client: redis::Client::open(url)?,
            connection: Default::default(),
            scripts: Default::default(),
            mac_key: MacKey::new(secret),
        })
    }

    /// Holds Credits, once per hold id.
    pub async fn hold(
        &self,
        account: AccountKey,
        epoch: Epoch,
        request: &HoldRequest,
    ) -> Result<HoldAnswer, Away> {
        let reply: Vec<String> = self
            .run(|connection| {
                let mut call = self.scripts.hold.prepare_invoke();
                call.key(account.balance()).key(account.live()).key(account.hold(&request.id));
                call.arg(request.now.timestamp_micros())
                    .arg(request.id.as_str())
                    .arg(request.full.get())
                    .arg(request.prompt_only.get())
                    .arg(request.expires_at.timestamp_micros())
                    .arg(&request.fingerprint)
                    .arg(keep_ms(request.now, request.expires_at))
                    .arg(epoch.0);
                async move { call.invoke_async(&mut connection.clone()).await }
            })
            .await?;
        match projection::read_hold_reply(&reply, account, epoch, request, &self.mac_key) {
            Some(answer) => Ok(answer),
            None => {
                // Set by hand, or not ours: what it says is worth nothing, the hold it gave included.
                tracing::error!(customer = %account.customer, "a projected balance failed its check and was dropped");
                self.take_back(account, &request.id, &reply).await?;
                Ok(HoldAnswer::Miss)
            }
        }
    }

    /// Loads an account after a miss, with its live holds and what else is known of holds. An older
    /// version than one that is here, or was published a moment ago, changes nothing.
    pub async fn fill(
        &self,
        account: AccountKey,
        epoch: Epoch,
        projection: &Projection,
        holds: &[KnownHold],
        now: Timestamp,
    ) -> Result<(), Away> {
        self.run(|connection| {
            let mut call = self.scripts.fill.prepare_invoke();
            call.key(account.balance()).key(account.live()).key(account.floor());
            for known in holds {
                call.key(account.hold(&known.hold.id));
            }
            self.add_projection(&mut call, account, epoch, projection);
            for KnownHold { hold, fingerprint, end } in holds {
                call.arg(hold.id.as_str())
                    .arg(hold.credits.get())
                    .arg(hold.granted_at.timestamp_micros())
                    .arg(hold.expires_at.timestamp_micros())
                    .arg(hold.counts_until.timestamp_micros())
                    .arg(fingerprint)
                    .arg(end.map_or("live", HoldEnd::name))
                    .arg(keep_ms(now, hold.expires_at));
            }
            async move { call.invoke_async::<i64>(&mut connection.clone()).await }
        })
        .await?;
        Ok(())
    }

    /// Publishes a committed balance and ends the holds that the same change captured.
    pub async fn publish(
        &self,
        account: AccountKey,
        epoch: Epoch,
        projection: &Projection,
        captured: &[ExternalId],
    ) -> Result<(), Away> {
        self.run(|connection| {
            let mut call = self.scripts.publish.prepare_invoke();
            call.key(account.balance()).key(account.live()).key(account.floor());
            for id in captured {
                call.key(account.hold(id));
            }
            self.add_projection(&mut call, account, epoch, projection);
            call.arg(mark_ms());
            for id in captured {
                call.arg(id.as_str());
            }
            async move { call.invoke_async::<i64>(&mut connection.clone()).await }
        })
        .await?;
        Ok(())
    }

    /// Ends a hold without a charge, if it is live here.
    pub async fn release(&self, account: AccountKey, id: &ExternalId) -> Result<(), Away> {
        self.run(|connection| {
            let mut call = self.scripts.release.prepare_invoke();
            call.key(account.balance()).key(account.live()).key(account.hold(id));
            call.arg(id.as_str()).arg(mark_ms());
            async move { call.invoke_async::<i64>(&mut connection.clone()).await }
        })
        .await?;
        Ok(())
    }

    /// Holds by their ids, live or ended, in the order asked for: one round trip for all of them.
    pub async fn find(&self, named: &[(AccountKey, ExternalId)]) -> Result<Vec<Option<KnownHold>>, Away> {
        if named.is_empty() {
            return Ok(Vec::new());
        }
        let texts: Vec<Option<String>> = self
            .run(|connection| {
                let mut gets = redis::pipe();
                for (account, id) in named {
                    gets.get(account.hold(id));
                }
                async move { gets.query_async(&mut connection.clone()).await }
            })
            .await?;
        let read = |((account, id), text): (&(AccountKey, ExternalId), Option<String>)| {
            text.and_then(|text| projection::read_hold(&text, id, account.customer))
        };
        Ok(named.iter().zip(texts).map(read).collect())
    }

    /// Which run of Redis this is: another one after every restart.
    pub async fn run_id(&self) -> Result<String, Away> {
        let info: String = self
            .run(|connection| async move {
                redis::cmd("INFO").arg("server").query_async(&mut connection.clone()).await
            })
            .await?;
        let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:"));
        run_id.map(str::to_owned).ok_or_else(|| Away("it does not say which run it is".to_owned()))
    }

    /// Whether Redis answers.
    pub async fn ping(&self) -> Result<(), Away> {
        self.run(|connection| async move {
            redis::cmd("PING").query_async::<String>(&mut connection.clone()).await
        })
        .await?;
        Ok(())
    }

    /// Drops an account's balance; the next hold misses and loads it.
    async fn forget(&self, account: AccountKey) -> Result<(), Away> {
        self.run(|connection| async move {
            redis::cmd("DEL").arg(account.balance()).query_async::<i64>(&mut connection.clone()).await
        })
        .await?;
        Ok(())
    }

    /// Takes back what the hold script gave on a balance that is worth nothing.
    async fn take_back(&self, account: AccountKey, id: &ExternalId, reply: &[String]) -> Result<(), Away> {
        if let [kind, .., credits] = reply
            && kind == "held"
        {
            let member = &format!("{credits}|{id}");
            self.run(|connection| async move {
                redis::pipe()
                    .atomic()
                    .zrem(account.live(), member)
                    .del(account.hold(id))
                    .query_async::<()>(&mut connection.clone())
                    .await
            })
            .await?;
        }
        self.forget(account).await
    }

    fn add_projection(
        &self,
        call: &mut redis::ScriptInvocation<'_>,
        account: AccountKey,
        epoch: Epoch,
        projection: &Projection,
    ) {
        let text = projection.text(account, epoch);
        call.arg(epoch.0)
            .arg(projection.version)
            .arg(projection.available.get())
            .arg(projection::micros_or_empty(projection.valid_until))
            .arg(projection::micros_or_empty(projection.refills_at))
            .arg(projection::micros_or_empty(projection.cycle_ends_at))
            .arg(self.mac_key.sign(&text));
    }

    /// Runs one call within the time-out, and once more where there was no answer: every call may run
    /// twice. A connection that broke is not tried again: what it comes back to may be another run of
    /// Redis, with other data.
    async fn run<'s, T, Call, Fut>(&'s self, call: Call) -> Result<T, Away>
    where
        Call: Fn(&'s ConnectionManager) -> Fut,
        Fut: Future<Output = redis::RedisResult<T>>,
    {
        let connecting = self.connection.get_or_try_init(|| self.connect());
        let connection = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.map_err(|error| Away(error.to_string()))?,
            Err(_) => return Err(Away("no connection".to_owned())),
        };
        for _ in 0..2 {
            match tokio::time::timeout(RESPONSE_TIMEOUT, call(connection)).await {
                Ok(answer) => return answer.map_err(|error| Away(error.to_string())),
                Err(_) => continue,
            }
        }
        Err(Away(format!("no answer within {} ms, twice", RESPONSE_TIMEOUT.as_millis())))
    }

    async fn connect(&self) -> redis::RedisResult<ConnectionManager> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_number_of_retries(1)
            .set_max_delay(RESPONSE_TIMEOUT);
        ConnectionManager::new_with_config(self.client.clone(), config).await
    }
}

/// How long Redis keeps a hold's own key: past its expiry, counted in the tenant's time.
fn keep_ms(now: Timestamp, expires_at: Timestamp) -> i64 {
    let keep_ended_ms = i64::try_from(KEEP_ENDED.as_millis()).unwrap_or(i64::MAX);
    (expires_at - now).num_milliseconds().max(0) + keep_ended_ms
}

/// How long a mark is kept that tells a load under way what has changed since it read.
fn mark_ms() -> i64 {
    i64::try_from(LOAD_MAX.as_millis()).unwrap_or(i64::MAX)
}

/// What a hold is, in the words of the ledger.
impl HoldRequest {
    pub fn hold(&self, customer: CustomerId, credits: Credits, cycle_ends_at: Option<Timestamp>) -> Hold {
        Hold {
            counts_until: counts_until(self.now, self.expires_at, cycle_ends_at),
            id: self.id.clone(),
            customer,
            credits,
            granted_at: self.now,
            expires_at: self.expires_at,
        }
    }
}
