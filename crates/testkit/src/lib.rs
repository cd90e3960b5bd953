//! Real stores for tests: a PostgreSQL and a Redis that all tests of a checkout share, and a
//! database of its own for each test, copied from a template that has been migrated once.
//!
//! Set `DATABASE_URL` and `REDIS_URL` to use servers of your own: the role must be allowed to
//! create databases and roles. Otherwise private ones run in `.tollgate/test` for as long as a
//! test process lives. Redis is shared: its keys carry the tenant, and no two tests share one.
//!
//! This crate is a dev-dependency only, and unwraps: a test without its stores has failed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use db::Db;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
pub use private_servers::LoneRedis;
use private_servers::{Options, PrivateServers};
use sha2::{Digest, Sha256};

/// One test's stores.
pub struct Stores {
    /// Connects as a superuser: what migrates and what breaks things on purpose.
    pub superuser_url: String,
    /// Connects as a plain member of `tollgate_app`, as a deployed server does.
    pub database_url: String,
    pub redis_url: String,
}

/// Where PostgreSQL and Redis are.
enum Servers {
    Private(PrivateServers),
    Own { database_url: String, redis_url: String },
}

impl Servers {
    fn database_url(&self, database: &str) -> String {
        match self {
            Servers::Private(servers) => servers.postgres_url(database),
            Servers::Own { database_url, .. } => with_database(database_url, database),
        }
    }

    fn redis_url(&self) -> String {
        match self {
            Servers::Private(servers) => servers.redis_url(),
            Servers::Own { redis_url, .. } => redis_url.clone(),
        }
    }
}

impl Stores {
    /// A fresh, migrated, empty database, and Redis.
    pub async fn fresh() -> Stores {
        let servers = shared_servers();
        let mut admin = connect(&servers.database_url("postgres")).await;
        let template = ensure_template(servers, &mut admin).await;
        let database = copy_database(&mut admin, &template).await;
        Stores::of(servers.database_url(&database), servers.redis_url())
    }

    /// A database with all that is in this one, whose connections are cut, and a Redis that nobody else
    /// uses: the tenants of the two are the same.
    pub async fn copy(&self, redis: &LoneRedis) -> Stores {
        let servers = shared_servers();
        let mut admin = connect(&servers.database_url("postgres")).await;
        let database = self.superuser_url.rsplit('/').next().and_then(|name| name.split('?').next());
        let database = database.expect("the name of a database");
        let cut = "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = $1";
        diesel::sql_query(cut)
            .bind::<diesel::sql_types::Text, _>(database)
            .execute(&mut admin)
            .await
            .expect("nobody is connected");
        let copy = copy_database(&mut admin, database).await;
        Stores::of(servers.database_url(&copy), redis.url())
    }

    fn of(superuser_url: String, redis_url: String) -> Stores {
        Stores { database_url: with_login(&superuser_url), superuser_url, redis_url }
    }

    /// A pool on the database, stepped down to the application's role.
    pub fn db(&self) -> Db {
        Db::new(db::Options {
            url: self.database_url.clone(),
            connections_max: 4,
            deadline: Duration::from_secs(10),
        })
        .expect("a pool")
    }

    /// The same, connected: on a busy machine that may take longer than a request waits for it.
    pub async fn connected_db(&self) -> Db {
        let db = self.db();
        for _ in 0..30 {
            if db.all_tenants_transaction(async |_| Ok(())).await.is_ok() {
                break;
            }
        }
        db
    }

    /// The secret that this test's servers share: nobody else's, so that tests with databases of their own
    /// can share a Redis. Of 32 bytes.
    pub fn secret(&self) -> Vec<u8> {
        Sha256::digest(self.superuser_url.as_bytes()).to_vec()
    }

    /// A connection with all rights, for looking at what the application may not touch.
    pub async fn superuser(&self) -> AsyncPgConnection {
        connect(&self.superuser_url).await
    }
}

/// Servers for one test alone, to be stopped and started under it. Always private.
/// Stopped and removed when it is dropped, by a test that failed too.
pub struct LoneServers {
    /// There until it is dropped.
    servers: Option<PrivateServers>,
}

impl LoneServers {
    /// Starts them in a folder of their own and migrates a database called `tollgate`.
    pub async fn start(name: &str) -> LoneServers {
        let dir = checkout().join(".tollgate").join(format!("test-{name}-{}", std::process::id()));
        let servers = start(&dir);
        let mut admin = connect(&servers.postgres_url("postgres")).await;
        admin.batch_execute("create database tollgate").await.expect("a database");
        db::migrate(&servers.postgres_url("tollgate")).await.expect("migrations");
        ensure_login(&mut admin).await;
        LoneServers { servers: Some(servers) }
    }

    pub fn stores(&self) -> Stores {
        let servers = self.servers();
        Stores::of(servers.postgres_url("tollgate"), servers.redis_url())
    }

    /// To stop and start either of them.
    pub fn servers(&self) -> &PrivateServers {
        self.servers.as_ref().expect("servers until it is dropped")
    }
}

impl Drop for LoneServers {
    fn drop(&mut self) {
        // Best effort: a panic here would hide the failure of the test that is ending.
        if let Some(servers) = self.servers.take() {
            let _ = servers.remove();
        }
    }
}

/// A Redis for one test alone.
pub fn lone_redis(name: &str) -> LoneRedis {
    LoneRedis::start(&lone_dir(name)).unwrap_or_else(|error| panic!("{error}"))
}

/// A cluster of three Redis masters for one test alone.
pub fn lone_cluster(name: &str) -> LoneRedis {
    LoneRedis::start_cluster(&lone_dir(name)).unwrap_or_else(|error| panic!("{error}"))
}

/// A folder of its own for each call, in this process and others.
fn lone_dir(name: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    checkout().join(".tollgate").join(format!("test-{name}-{}-{number}", std::process::id()))
}

fn shared_servers() -> &'static Servers {
    static SERVERS: OnceLock<Servers> = OnceLock::new();
    SERVERS.get_or_init(|| match (std::env::var("DATABASE_URL"), std::env::var("REDIS_URL")) {
        (Ok(database_url), Ok(redis_url)) => Servers::Own { database_url, redis_url },
        _ => Servers::Private(start(&checkout().join(".tollgate/test"))),
    })
}

fn start(dir: &Path) -> PrivateServers {
    PrivateServers::start(Options {
        dir: dir.to_owned(),
        durable: false,
        progress: Arc::new(|line| eprintln!("{line}")),
    })
    .unwrap_or_else(|error| panic!("{error}"))
}

/// The folder that this workspace lies in.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout")
}

async fn connect(url: &str) -> AsyncPgConnection {
    AsyncPgConnection::establish(url).await.expect("a connection")
}

/// A database of this process with all that is in another, which nobody is connected to; its name.
async fn copy_database(admin: &mut AsyncPgConnection, original: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let database = format!("tollgate_test_{}_{number}", std::process::id());
    admin
        .batch_execute(&format!("create database {database} template {original}"))
        .await
        .expect("a copy of the database");
    database
}

/// Makes the template of these migrations if there is none yet, and drops the databases of test
/// processes that are gone. One process at a time.
async fn ensure_template(servers: &Servers, admin: &mut AsyncPgConnection) -> String {
    let template = format!("tollgate_template_{}", migrations_digest());
    diesel::sql_query("select pg_advisory_lock(7046029255)").execute(admin).await.expect("the lock");
    let databases = databases(admin).await;
    if !databases.contains(&template) {
        for old in databases.iter().filter(|name| name.starts_with("tollgate_template_")) {
            admin.batch_execute(&format!("drop database if exists {old}")).await.expect("drop");
        }
        // Migrated under another name first: a template that is there is whole.
        admin.batch_execute("drop database if exists tollgate_half").await.expect("drop");
        admin.batch_execute("create database tollgate_half").await.expect("a database");
        db::migrate(&servers.database_url("tollgate_half")).await.expect("migrations");
        admin
            .batch_execute(&format!("alter database tollgate_half rename to {template}"))
            .await
            .expect("rename");
    }
    ensure_login(admin).await;
    for orphan in databases.iter().filter(|name| is_orphan(name)) {
        admin.batch_execute(&format!("drop database if exists {orphan} with (force)")).await.expect("drop");
    }
    diesel::sql_query("select pg_advisory_unlock(7046029255)").execute(admin).await.expect("unlock");
    template
}

/// Whether a test's database belongs to a process that is gone.
fn is_orphan(database: &str) -> bool {
    let pid = database.strip_prefix("tollgate_test_").and_then(|rest| rest.split('_').next());
    pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
}

async fn databases(admin: &mut AsyncPgConnection) -> Vec<String> {
    #[derive(diesel::QueryableByName)]
    struct Name {
        #[diesel(sql_type = diesel::sql_types::Text)]
        name: String,
    }
    let rows: Vec<Name> = diesel::sql_query("select datname::text as name from pg_database")
        .load(admin)
        .await
        .expect("the list of databases");
    rows.into_iter().map(|row| row.name).collect()
}

/// Changes with every edit of a migration.
fn migrations_digest() -> String {
    let mut files: Vec<PathBuf> = std::fs::read_dir(checkout().join("migrations"))
        .expect("migrations/")
        .map(|entry| entry.expect("an entry").path().join("up.sql"))
        .filter(|file| file.exists())
        .collect();
    files.sort();
    let mut digest = Sha256::new();
    for file in files {
        digest.update(file.to_string_lossy().as_bytes());
        digest.update(std::fs::read(&file).expect("a migration"));
    }
    digest.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The role that servers under test log in as. Its password is no secret: the servers are private, and
/// on servers of one's own it is a role of tests.
const LOGIN: &str = "tollgate_test";

async fn ensure_login(admin: &mut AsyncPgConnection) {
    admin
        .batch_execute(&format!(
            "do $$ begin
                 if not exists (select from pg_roles where rolname = '{LOGIN}') then
                     create role {LOGIN} login password '{LOGIN}' in role tollgate_app;
                 end if;
             end $$"
        ))
        .await
        .expect("the role that servers log in as");
}

/// The same server and database, as [`LOGIN`].
fn with_login(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let host = rest.split_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{LOGIN}:{LOGIN}@{host}")
}

/// The same server, another database.
fn with_database(url: &str, database: &str) -> String {
    let (head, query) = url.split_once('?').map_or((url, None), |(head, query)| (head, Some(query)));
    let authority_end = head.find("://").map_or(0, |at| at + 3);
    let path_start = head[authority_end..].find('/').map_or(head.len(), |at| authority_end + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{database}{query}", &head[..path_start])
}
