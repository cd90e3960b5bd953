//! What the tests share: an account on a single Redis or on a cluster.

use std::sync::OnceLock;

use chrono::{DateTime, Duration};
use domain::exhaustion::Exhaustion;
use domain::hold::{Fingerprint, HoldEnd};
use domain::id::{CustomerId, ExternalId, TenantId};
use domain::{Credits, Timestamp};
use hot_balances::{
    AccountKey, Epoch, FillHolds, Filled, HoldAnswer, HoldRequest, HotBalances, KnownHold, News, Projection,
    Ticket, Told,
};
use testkit::LoneRedis;
use uuid::Uuid;

/// Runs each named test on a single Redis and on a cluster; it gets what is given.
macro_rules! on_one_redis_and_on_a_cluster {
    ($($name:ident)+) => {
        mod on_one_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::support::given($crate::support::one_redis()).await).await;
            })+
        }
        mod on_a_cluster {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::support::given($crate::support::cluster()).await).await;
            })+
        }
    };
}
pub(crate) use on_one_redis_and_on_a_cluster;

/// The epoch of most tests.
pub(crate) const FIRST: Epoch = Epoch(1);

/// Shared by this program's tests, each with a secret of its own.
pub(crate) fn one_redis() -> &'static LoneRedis {
    static REDIS: OnceLock<LoneRedis> = OnceLock::new();
    REDIS.get_or_init(|| testkit::lone_redis("hot"))
}

/// The same, of three masters.
pub(crate) fn cluster() -> &'static LoneRedis {
    static CLUSTER: OnceLock<LoneRedis> = OnceLock::new();
    CLUSTER.get_or_init(|| testkit::lone_cluster("hot-cluster"))
}

/// An account of 100 Credits at version 1, loaded, in the first epoch.
pub(crate) struct Given {
    pub(crate) hot: HotBalances,
    pub(crate) account: AccountKey,
    /// Of a load that has begun in the first epoch.
    pub(crate) ticket: Ticket,
    url: String,
    secret: Uuid,
    server_urls: Vec<String>,
}

pub(crate) async fn given(redis: &LoneRedis) -> Given {
    let (url, secret) = (redis.url(), Uuid::now_v7());
    let hot = HotBalances::new(&url, secret.as_bytes()).unwrap();
    hot.begin_epoch(FIRST).await.unwrap();
    let account = new_account();
    let ticket = hot.begin_loads(FIRST, &[new_account()]).await.unwrap().unwrap().remove(0);
    let given = Given { hot, account, ticket, url, secret, server_urls: redis.server_urls() };
    given.fill(&balance(1, 100), &[]).await;
    given
}

pub(crate) fn new_account() -> AccountKey {
    AccountKey {
        tenant: TenantId::from_uuid(Uuid::now_v7()),
        customer: CustomerId::from_uuid(Uuid::now_v7()),
    }
}

/// The name of one of an account's keys.
pub(crate) fn key_of(account: AccountKey, part: &str) -> String {
    format!("{}:{part}", account.tag())
}

/// What was written, with another available balance: the second of its numbers, of seven bytes each.
pub(crate) fn forged(written: &[u8], available: i64) -> Vec<u8> {
    let mut forged = written.to_vec();
    forged[7..14].copy_from_slice(&available.to_le_bytes()[..7]);
    forged
}

pub(crate) fn at(second: i64) -> Timestamp {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

pub(crate) fn credits(count: i64) -> Credits {
    Credits::new(count).unwrap()
}

pub(crate) fn id(text: &str) -> ExternalId {
    text.parse().unwrap()
}

/// Good for a minute.
pub(crate) fn balance(version: i64, available: i64) -> Projection {
    Projection {
        revision: version,
        version,
        available: credits(available),
        valid_until: Some(at(60)),
        refills_at: Some(at(1_000)),
        cycle_ends_at: None,
        exhaustion: Some(Exhaustion::Payg),
    }
}

pub(crate) fn fingerprint(full: i64, prompt_only: i64) -> Fingerprint {
    Fingerprint::from_bytes(((i128::from(full) << 64) + i128::from(prompt_only)).to_be_bytes())
}

/// Asks for `full` Credits or at least `prompt_only`, for 15 seconds.
pub(crate) fn request(id: &str, full: i64, prompt_only: i64, second: i64) -> HoldRequest {
    HoldRequest {
        id: id.parse().unwrap(),
        full: credits(full),
        prompt_only: credits(prompt_only),
        now: at(second),
        expires_at: at(second) + Duration::seconds(15),
        fingerprint: fingerprint(full, prompt_only),
    }
}

impl Given {
    /// Another server on the same Redis.
    pub(crate) fn other_server(&self) -> HotBalances {
        HotBalances::new(&self.url, self.secret.as_bytes()).unwrap()
    }

    /// On the same Redis, with a secret of its own.
    pub(crate) fn other_installation(&self) -> HotBalances {
        HotBalances::new(&self.url, Uuid::now_v7().as_bytes()).unwrap()
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.server_urls.len() > 1
    }

    /// Loads the account with all of its holds, from its beginning to its end.
    pub(crate) async fn fill(&self, projection: &Projection, holds: &[KnownHold]) {
        self.load(self.account, projection, FillHolds::All(holds)).await;
    }

    /// Loads its balance alone.
    pub(crate) async fn fill_besides(&self, projection: &Projection) {
        self.load(self.account, projection, FillHolds::Besides(&[])).await;
    }

    pub(crate) async fn load(&self, account: AccountKey, projection: &Projection, holds: FillHolds<'_>) {
        let ticket = self.begin_load(account).await;
        assert_eq!(self.end_load(account, &ticket, projection, holds).await, Filled::Done);
    }

    pub(crate) async fn begin_load(&self, account: AccountKey) -> Ticket {
        self.hot.begin_loads(FIRST, &[account]).await.unwrap().unwrap().remove(0)
    }

    pub(crate) async fn end_load(
        &self,
        account: AccountKey,
        ticket: &Ticket,
        projection: &Projection,
        holds: FillHolds<'_>,
    ) -> Filled {
        self.hot.fill(account, FIRST, ticket, projection, holds).await.unwrap()
    }

    pub(crate) async fn publish(&self, projection: &Projection, captured: &[&str]) {
        self.end(projection, captured, HoldEnd::Captured).await;
    }

    /// Publishes a balance with holds that the same change ended.
    pub(crate) async fn end(&self, projection: &Projection, names: &[&str], end: HoldEnd) {
        let ended: Vec<(ExternalId, HoldEnd)> = names.iter().map(|name| (id(name), end)).collect();
        let news = News { account: self.account, projection, ended: &ended };
        assert_eq!(self.hot.publish(FIRST, &[news], at(0)).await.unwrap(), Told::Done);
    }

    pub(crate) async fn ask(&self, request: &HoldRequest) -> HoldAnswer {
        self.hot.hold(self.account, FIRST, request).await.unwrap()
    }

    /// What is granted at the very first second, or what is left where that is too little.
    pub(crate) async fn hold(&self, id: &str, full: i64, prompt_only: i64) -> Result<i64, i64> {
        self.hold_at(0, id, full, prompt_only).await
    }

    pub(crate) async fn hold_at(
        &self,
        second: i64,
        id: &str,
        full: i64,
        prompt_only: i64,
    ) -> Result<i64, i64> {
        match self.ask(&request(id, full, prompt_only, second)).await {
            HoldAnswer::Held { hold, .. } => Ok(hold.credits.get()),
            HoldAnswer::Known { known, .. } => Ok(known.hold.credits.get()),
            HoldAnswer::Short { unheld, .. } => Err(unheld.get()),
            answer => panic!("{answer:?}"),
        }
    }

    /// One hold as Redis has it.
    pub(crate) async fn find(&self, hold: &str) -> Option<KnownHold> {
        self.hot.find(FIRST, &[(self.account, id(hold))]).await.unwrap().remove(0)
    }

    /// What the live holds come to, as Redis counts them.
    pub(crate) async fn held(&self) -> i64 {
        let peeked = self.hot.peek(FIRST, &[self.account]).await.unwrap().remove(0);
        peeked.unwrap().held.get()
    }

    /// The name of one of the account's keys.
    pub(crate) fn key(&self, part: &str) -> String {
        key_of(self.account, part)
    }

    pub(crate) async fn written_projection(&self, account: AccountKey) -> Vec<u8> {
        self.redis(&["HGET", &key_of(account, "balance:1"), "projection"]).await
    }

    /// Sets the account's projection by hand.
    pub(crate) async fn forge(&self, projection: &[u8]) {
        let key = self.key("balance:1");
        self.redis_bytes::<i64>(&[b"HSET", key.as_bytes(), b"projection", projection]).await;
    }

    /// Runs a command on the server that has the key it names.
    pub(crate) async fn redis<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.redis_bytes(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>()).await
    }

    /// The same with words that are no text.
    pub(crate) async fn redis_bytes<T: redis::FromRedisValue>(&self, words: &[&[u8]]) -> T {
        for url in &self.server_urls {
            let client = redis::Client::open(url.as_str()).unwrap();
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            match redis::Cmd::new().arg(words).query_async(&mut connection).await {
                Err(error) if error.kind() == redis::ServerErrorKind::Moved.into() => {}
                answer => return answer.unwrap(),
            }
        }
        panic!("no server has it: {words:?}")
    }
}
