//! Where seeds run: stores, server processes, a worker, and what is done to them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use catalog::Catalogs;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use domain::calendar::Zone;
use domain::id::TenantId;
use domain::policy::Policies;
use domain::scope::TenantMode;
use serde_json::json;
use stripe_double::{Options, StripeDouble};
use tenants::{NewTenant, Scope};
use testkit::{LoneServers, Stores};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::provider::{Account, SIGNING_SECRET, secret_key};
use super::sells;
use crate::support::{Client, Process, START, Server, World};

/// What goes wrong around a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It is sent again, a batch in another order.
    Repeat,
    /// It is sent twice at once.
    Twice,
    /// Redis loses all it has.
    RedisFlushed,
    /// Redis is killed and starts empty.
    RedisKilled,
    /// The server is killed and started again.
    ServerKilled,
    WorkerKilled,
    /// PostgreSQL's main process is killed, and it recovers.
    PostgresKilled,
}

impl Fault {
    pub const ALL: [Fault; 7] = [
        Fault::Repeat,
        Fault::Twice,
        Fault::RedisFlushed,
        Fault::RedisKilled,
        Fault::ServerKilled,
        Fault::WorkerKilled,
        Fault::PostgresKilled,
    ];

    /// Those that happen to everybody at once.
    pub const TO_PROCESSES: [Fault; 5] = [
        Fault::RedisFlushed,
        Fault::RedisKilled,
        Fault::ServerKilled,
        Fault::WorkerKilled,
        Fault::PostgresKilled,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Fault::Repeat => "repeat",
            Fault::Twice => "twice",
            Fault::RedisFlushed => "flush",
            Fault::RedisKilled => "redis -9",
            Fault::ServerKilled => "server -9",
            Fault::WorkerKilled => "worker -9",
            Fault::PostgresKilled => "postgres -9",
        }
    }
}

/// Servers that many seeds share.
pub struct Site {
    lone: Option<Arc<LoneServers>>,
    world: World,
    /// Where every tenant has an account.
    provider: StripeDouble,
    servers: Mutex<Vec<Server>>,
    worker: Mutex<Option<Process>>,
}

impl Site {
    /// Two servers on the stores of all tests: nothing may be killed.
    pub async fn shared() -> Site {
        Site::on(None, Stores::fresh().await, 2).await
    }

    /// One server on stores of its own.
    pub async fn lone(name: &str) -> Site {
        let lone = LoneServers::start(name).await;
        let stores = lone.stores();
        Site::on(Some(Arc::new(lone)), stores, 1).await
    }

    async fn on(lone: Option<Arc<LoneServers>>, stores: Stores, count: usize) -> Site {
        let mut world = World::on(stores, Policies::default()).await;
        let provider = StripeDouble::start(Options::default()).unwrap();
        world.stripe_api = Some(provider.base());
        let mut servers = Vec::new();
        for _ in 0..count {
            servers.push(world.serve().await);
        }
        let worker = Mutex::new(Some(world.work()));
        Site { lone, world, provider, servers: Mutex::new(servers), worker }
    }

    /// A tenant of a seed's own, with an account at the provider; returns a client with its key.
    pub async fn tenant(&self, seed: u64) -> (Client, Account) {
        let tenants = &self.world.tenants;
        let (mode, zone, policies) = (TenantMode::Test, Zone::UTC, sells::policies(seed).0);
        let tenant =
            tenants.create(NewTenant { name: format!("Seed {seed}"), mode, zone, policies }).await.unwrap();
        let start = domain::time::parse_rfc3339(START).unwrap();
        tenants.set_clock(&tenants.scope(tenant).await.unwrap(), start).await.unwrap();
        let catalogs = Catalogs::new(self.world.stores.db());
        let second_from = chrono::DateTime::from_timestamp_micros(sells::SECOND_FROM).unwrap();
        for (text, effective_at) in [(catalog::REFERENCE, start), (sells::SECOND, second_from)] {
            catalogs.publish(tenant, catalog::parse(text).unwrap(), effective_at, start).await.unwrap();
        }
        let key = tenants.issue_key(tenant, "admin", &[Scope::Admin]).await.unwrap().secret;
        let client = Client::new(&self.base(seed), &key);
        let credentials = json!({"secret_key": secret_key(seed), "signing_secrets": [SIGNING_SECRET]});
        client.put("/v1/payment-provider", credentials).await.expect(200);
        (client, Account::open(&self.provider, seed, tenant))
    }

    /// A connection that sees everything, once PostgreSQL is there.
    pub async fn superuser(&self) -> AsyncPgConnection {
        loop {
            match AsyncPgConnection::establish(&self.world.stores.superuser_url).await {
                Ok(connection) => return connection,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Whether anything is killed here.
    pub fn has_kills(&self) -> bool {
        self.lone.is_some()
    }

    /// The server that a number stands for.
    pub fn base(&self, number: u64) -> String {
        let servers = self.servers.lock().unwrap();
        let index = usize::try_from(number).unwrap() % servers.len();
        servers[index].client.base.clone()
    }

    /// Does it, and undoes what has to be undone for things to go on.
    pub async fn suffer(&self, fault: Fault) {
        match fault {
            Fault::Repeat | Fault::Twice => {}
            Fault::RedisFlushed => flush(&self.world.stores.redis_url).await,
            Fault::RedisKilled => {
                self.with_lone(|lone| {
                    kill(lone.servers().redis_pid());
                    lone.servers().start_redis().unwrap();
                })
                .await;
            }
            Fault::PostgresKilled => {
                self.with_lone(|lone| {
                    kill(lone.servers().postgres_pid());
                    lone.servers().start_postgres().unwrap();
                })
                .await;
            }
            Fault::ServerKilled => {
                let pid = self.servers.lock().unwrap()[0].pid();
                kill(pid);
                let again = self.world.serve().await;
                self.servers.lock().unwrap()[0] = again;
            }
            Fault::WorkerKilled => {
                let mut worker = self.worker.lock().unwrap();
                // Dropped, it is killed with -9.
                *worker = None;
                *worker = Some(self.world.work());
            }
        }
    }

    /// Keeps what its processes have said until now; returns where.
    pub fn keep_log(&self) -> PathBuf {
        let name =
            format!("sim-{}-{}.log", std::process::id(), if self.has_kills() { "kills" } else { "shared" });
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::copy(self.world.log_file(), &kept).unwrap();
        kept
    }

    /// Whether every invariant holds of all that is stored.
    pub async fn audit_clean(&self) {
        self.verify(&[]).await.unwrap();
    }

    /// The same of one tenant: what is wrong with it.
    pub async fn verify_tenant(&self, tenant: TenantId) -> Result<(), String> {
        self.verify(&["--tenant", &tenant.to_string()]).await
    }

    /// An operator looks at an account and lets it spend again: how many events that has charged, and their Credits.
    pub async fn unpark(&self, tenant: TenantId, customer: &str) -> Result<(i64, i64), String> {
        let mut unpark = self.world.command("unpark");
        unpark.args(["--tenant", &tenant.to_string(), "--customer", customer]);
        let output = tokio::task::spawn_blocking(move || unpark.output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr)));
        }
        if said.contains("is not parked.") {
            return Ok((0, 0));
        }
        let charged = said.split_once("may spend again. ").map(|(_, charged)| charged);
        let words: Vec<&str> = charged.unwrap_or_default().split(' ').collect();
        match words[..] {
            [events, "events", "were", "charged,", credits, _] => {
                Ok((events.parse().unwrap(), credits.parse().unwrap()))
            }
            _ => Err(said),
        }
    }

    async fn verify(&self, what: &[&str]) -> Result<(), String> {
        let mut verify = self.world.command("verify");
        verify.arg("--no-park").args(what);
        let output = tokio::task::spawn_blocking(move || verify.output().unwrap()).await.unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(()) } else { Err(said) }
    }

    async fn with_lone(&self, act: impl FnOnce(&LoneServers) + Send + 'static) {
        let lone = self.lone.clone().expect("stores of its own");
        tokio::task::spawn_blocking(move || act(&lone)).await.unwrap();
    }
}

fn kill(pid: u32) {
    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(killed.success(), "no process {pid}");
}

/// Has Redis forget everything.
async fn flush(redis_url: &str) {
    let rest = redis_url.strip_prefix("redis://:").unwrap();
    let (password, address) = rest.split_once('@').unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("AUTH {password}\r\nFLUSHALL\r\n").as_bytes()).await.unwrap();
    let mut answers = String::new();
    while answers.matches("+OK").count() < 2 {
        let mut bytes = [0; 64];
        let read =
            tokio::time::timeout(Duration::from_secs(5), stream.read(&mut bytes)).await.unwrap().unwrap();
        assert!(read > 0, "Redis said {answers:?}");
        answers.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
}
