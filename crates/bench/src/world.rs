//! What every benchmark stands on: private servers, a live tenant, and customers with Credits.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use catalog::Catalogs;
use chrono::{DateTime, Utc};
use db::Db;
use domain::account::NewGrant;
use domain::account::{Cause, CauseKind};
use domain::calendar::Zone;
use domain::grant::GrantSource;
use domain::id::{CustomerId, GrantId, TenantId};
use domain::policy::Policies;
use domain::scope::TenantMode;
use domain::{Credits, Refusal, TenantScope, Timestamp};
use hot_balances::HotBalances;
use ledger::Ledger;
use private_servers::{Options, PrivateServers};
use tenants::{NewTenant, Scope, Tenants, TokenKey};
use uuid::Uuid;

use crate::cpu::Processes;
use crate::product::Server;
use crate::{baseline, store};

/// The settings of a PostgreSQL that has half a machine to itself; both sides run on it.
const POSTGRES_SETTINGS: [&str; 11] = [
    "shared_buffers=2GB",
    "effective_cache_size=12GB",
    "work_mem=64MB",
    "maintenance_work_mem=512MB",
    "max_wal_size=8GB",
    "min_wal_size=1GB",
    "wal_buffers=64MB",
    "checkpoint_timeout=15min",
    "wal_compression=lz4",
    "random_page_cost=1.1",
    "jit=off",
];
/// The role that the product logs in as. No secret: the server is private, and gone afterwards.
const LOGIN: &str = "tollgate_bench";
const DEADLINE: Duration = Duration::from_secs(60);
const CONNECTIONS: usize = 16;
/// Customers that are made in one transaction.
const CUSTOMERS_AT_ONCE: usize = 1_000;

pub(crate) struct World {
    /// There until it is dropped.
    servers: Option<PrivateServers>,
    dir: PathBuf,
    pub(crate) db: Db,
    pub(crate) tenants: Tenants,
    pub(crate) tenant: TenantId,
    /// Good for authorizing, for reporting usage and for reading.
    pub(crate) key: String,
}

impl World {
    /// Starts servers in a folder of this process' own, with a tenant that sells the reference plans.
    pub(crate) async fn start() -> anyhow::Result<World> {
        let dir = PathBuf::from(format!(".tollgate/bench-{}", std::process::id()));
        let options =
            Options { dir: dir.clone(), durable: true, progress: Arc::new(|line| eprintln!("{line}")) };
        let start = move || PrivateServers::start_tuned(options, &POSTGRES_SETTINGS);
        let servers = tokio::task::spawn_blocking(start).await??;
        let mut admin = store::connect(&servers.postgres_url("postgres")).await?;
        store::execute(&mut admin, "create database tollgate").await?;
        db::migrate(&servers.postgres_url("tollgate")).await?;
        let login = format!("create role {LOGIN} login password '{LOGIN}' in role tollgate_app");
        store::execute(&mut admin, &login).await?;
        let pem = TokenKey::generate()?;
        write_private(&dir.join("token-key.pem"), pem.as_bytes())?;
        write_private(&dir.join("secret"), SECRET)?;
        let url = login_url(&servers);
        let db = Db::new(db::Options { url, connections_max: CONNECTIONS, deadline: DEADLINE })?;
        let tenants = Tenants::new(db.clone(), TokenKey::from_pem(&pem)?);
        let new = NewTenant {
            name: "Bench".to_owned(),
            mode: TenantMode::Live,
            zone: Zone::UTC,
            policies: Policies::default(),
        };
        let tenant = tenants.create(new).await?;
        let reference = catalog::parse(catalog::REFERENCE)?;
        Catalogs::new(db.clone()).publish(tenant, reference, DateTime::UNIX_EPOCH, now()).await?;
        let key = tenants.issue_key(tenant, "bench", &[Scope::Usage, Scope::Read]).await?.secret;
        print_facts(&store::version(&mut admin).await?)?;
        Ok(World { servers: Some(servers), dir, db, tenants, tenant, key })
    }

    pub(crate) async fn scope(&self) -> anyhow::Result<TenantScope> {
        Ok(self.tenants.scope(self.tenant).await?)
    }

    /// Customers whose plan has granted them `credits`, through the ledger. No subscription stands behind
    /// it: neither authorizing nor charging looks at one.
    pub(crate) async fn add_customers(&self, count: usize, credits: i64) -> anyhow::Result<Vec<CustomerId>> {
        self.add_customers_of(self.tenant, count, credits).await
    }

    /// The same, of another tenant.
    pub(crate) async fn add_customers_of(
        &self,
        tenant: TenantId,
        count: usize,
        credits: i64,
    ) -> anyhow::Result<Vec<CustomerId>> {
        let customers: Vec<CustomerId> = (0..count).map(|_| CustomerId::from_uuid(Uuid::now_v7())).collect();
        let (now, credits) = (now(), Credits::new(credits).map_err(refused)?);
        for chunk in customers.chunks(CUSTOMERS_AT_ONCE) {
            let adding = self.db.transaction(tenant, async |tx| {
                store::insert_customers(tx, tenant, chunk, now).await?;
                let mut accounts = ledger::lock(tx, tenant, chunk).await?;
                for customer in chunk {
                    let grant = NewGrant {
                        id: GrantId::from_uuid(Uuid::now_v7()),
                        source: GrantSource::Plan,
                        credits,
                        effective_at: now,
                        expires_at: Some(now + chrono::Duration::days(30)),
                    };
                    let cause = Cause { kind: CauseKind::Purchase, id: Uuid::now_v7() };
                    accounts.get_mut(*customer)?.issue(grant, cause, now)?;
                }
                ledger::write(tx, tenant, &accounts, now).await?;
                Ok(())
            });
            adding.await.context("cannot make customers")?;
        }
        // What a server does by itself within a minute.
        let mut admin = store::connect(&self.servers().postgres_url("tollgate")).await?;
        store::execute(&mut admin, "analyze").await?;
        Ok(customers)
    }

    /// The ledger in this process, with its own connection to Redis.
    pub(crate) fn ledger(&self) -> anyhow::Result<Ledger> {
        Ok(Ledger::new(self.db.clone(), HotBalances::new(&self.redis_url(), SECRET)?))
    }

    /// Opens the partition of the present month, as a worker does.
    pub(crate) async fn open_month(&self) -> anyhow::Result<()> {
        let mut admin = store::connect(&self.postgres_url("tollgate")).await?;
        let open = "select open_usage_month(date_trunc('month', now() at time zone 'UTC')::date)";
        store::execute(&mut admin, open).await
    }

    /// `tollgate serve` on these servers.
    pub(crate) fn serve_product(&self, program: &Path) -> anyhow::Result<Server> {
        let mut command = Command::new(program);
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .env("DATABASE_URL", login_url(self.servers()))
            .env("REDIS_URL", self.redis_url())
            .env("TOLLGATE_SECRET_FILE", self.dir.join("secret"))
            .env("TOLLGATE_TOKEN_KEY_FILE", self.dir.join("token-key.pem"));
        Server::start(&mut command, &self.dir.join("product.log")).context("the product")
    }

    /// The baseline on the same Redis, each of these customers with a balance.
    pub(crate) async fn serve_baseline(&self, customers: &[String], credits: i64) -> anyhow::Result<Server> {
        baseline::fill(&self.redis_url(), customers, credits).await?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["baseline", "--redis-url", &self.redis_url()]);
        Server::start(&mut command, &self.dir.join("baseline.log")).context("the baseline")
    }

    pub(crate) fn redis_url(&self) -> String {
        self.servers().redis_url()
    }

    pub(crate) fn postgres_url(&self, database: &str) -> String {
        self.servers().postgres_url(database)
    }

    /// What to count the CPU time of.
    pub(crate) fn processes(&self, server: Option<u32>) -> Processes {
        Processes { server, redis: self.servers().redis_pid(), postgres: self.servers().postgres_pid() }
    }

    /// Writes a file beside the servers' own; returns its path.
    pub(crate) fn write(&self, name: &str, content: &str) -> anyhow::Result<String> {
        let path = self.dir.join(name);
        std::fs::write(&path, content)?;
        Ok(path.display().to_string())
    }

    pub(crate) fn product_log(&self) -> String {
        std::fs::read_to_string(self.dir.join("product.log")).unwrap_or_default()
    }

    fn servers(&self) -> &PrivateServers {
        self.servers.as_ref().expect("servers until it is dropped")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(servers) = self.servers.take() {
            let _ = servers.remove();
        }
    }
}

/// The secret of a private installation that is gone after the run.
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// Real time, in the microseconds that PostgreSQL keeps.
pub(crate) fn now() -> Timestamp {
    domain::time::truncate_to_micros(Utc::now())
}

pub(crate) fn refused(refusal: Refusal) -> anyhow::Error {
    anyhow::anyhow!("refused: {}", refusal.code())
}

/// As the requests name them.
pub(crate) fn names(customers: &[CustomerId]) -> Vec<String> {
    customers.iter().map(|customer| customer.to_string()).collect()
}

fn login_url(servers: &PrivateServers) -> String {
    let url = servers.postgres_url("tollgate");
    let (_, host) = url.split_once('@').unwrap_or(("", &url));
    format!("postgres://{LOGIN}:{LOGIN}@{host}")
}

fn write_private(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(file, content)?;
    Ok(std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))?)
}

fn print_facts(postgres: &str) -> anyhow::Result<()> {
    let cpus = std::thread::available_parallelism()?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load: Vec<&str> = load.split(' ').take(3).collect();
    println!("{cpus} cores, load {} before the run, PostgreSQL {postgres}", load.join(" "));
    Ok(())
}
