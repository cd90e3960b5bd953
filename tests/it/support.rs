//! What the flows stand on: a database with one tenant, server processes on it, and a client.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use catalog::Catalogs;
use diesel_async::RunQueryDsl;
use domain::TenantScope;
use domain::calendar::Zone;
use domain::id::TenantId;
use domain::policy::Policies;
use domain::scope::TenantMode;
use hot_balances::HotBalances;
use ledger::Ledger;
use redis::aio::MultiplexedConnection;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use subscriptions::Subscriptions;
use tenants::{NewTenant, Scope, Tenants, TokenKey};
use testkit::Stores;
use usage::Usage;
use uuid::Uuid;

/// What Redis has of all accounts. Put back, it is as where a server died between its commit and telling Redis.
pub struct RedisAsItWas {
    redis: MultiplexedConnection,
    dumps: Vec<(String, Vec<u8>)>,
}

impl RedisAsItWas {
    /// Of stores with a Redis of their own.
    pub async fn noted(stores: &Stores) -> RedisAsItWas {
        let redis = redis::Client::open(stores.redis_url.as_str()).unwrap();
        let mut redis = redis.get_multiplexed_async_connection().await.unwrap();
        let names: Vec<String> = redis::cmd("KEYS").arg("{*").query_async(&mut redis).await.unwrap();
        let mut dumps = Vec::new();
        for name in names {
            let dump = redis::cmd("DUMP").arg(&name).query_async(&mut redis).await.unwrap();
            dumps.push((name, dump));
        }
        RedisAsItWas { redis, dumps }
    }

    pub async fn restore(mut self) {
        for (name, dump) in self.dumps {
            let restore = redis::cmd("RESTORE").arg(name).arg(0).arg(dump).arg("REPLACE").to_owned();
            restore.query_async::<()>(&mut self.redis).await.unwrap();
        }
    }
}

/// Where every test tenant's clock starts.
pub const START: &str = "2026-01-31T10:00:00Z";

/// Stores with one tenant that sells the reference catalogue, and its clock at [`START`].
pub struct World {
    pub stores: Stores,
    pub tenants: Tenants,
    pub tenant: TenantId,
    pub key: String,
    /// Used instead of Stripe's API by the processes that are started from now on.
    pub stripe_api: Option<String>,
    dir: PathBuf,
}

impl World {
    pub async fn new() -> World {
        World::on(Stores::fresh().await, Policies::default()).await
    }

    pub async fn with(policies: Policies) -> World {
        World::on(Stores::fresh().await, policies).await
    }

    pub async fn on(stores: Stores, policies: Policies) -> World {
        World::in_zone(stores, policies, Zone::UTC).await
    }

    pub async fn in_zone(stores: Stores, policies: Policies, zone: Zone) -> World {
        let dir = new_dir();
        let pem = TokenKey::generate().unwrap();
        write_private(&dir.join("token-key.pem"), pem.as_bytes());
        write_private(&dir.join("secret"), &stores.secret());
        let tenants = Tenants::new(stores.connected_db().await, TokenKey::from_pem(&pem).unwrap());
        let (tenant, key) = add_tenant(&stores, &tenants, policies, zone).await;
        World { stores, tenants, tenant, key, stripe_api: None, dir }
    }

    /// The same tenant with all that it has, on stores of its own, of which the database is a copy. The
    /// processes on this world's have to be gone.
    pub async fn copy(&self, redis: &testkit::LoneRedis) -> World {
        let dir = new_dir();
        for secret in ["token-key.pem", "secret"] {
            write_private(&dir.join(secret), &std::fs::read(self.dir.join(secret)).unwrap());
        }
        let stores = self.stores.copy(redis).await;
        let pem = std::fs::read_to_string(dir.join("token-key.pem")).unwrap();
        let tenants = Tenants::new(stores.connected_db().await, TokenKey::from_pem(&pem).unwrap());
        let World { tenant, key, stripe_api, .. } = self;
        World { stores, tenants, tenant: *tenant, key: key.clone(), stripe_api: stripe_api.clone(), dir }
    }

    /// Another tenant with a catalogue of its own; returns its admin key.
    pub async fn other_tenant(&self) -> String {
        add_tenant(&self.stores, &self.tenants, Policies::default(), Zone::UTC).await.1
    }

    /// A test tenant whose clock was never set; returns its admin key.
    pub async fn tenant_in_real_time(&self) -> String {
        let policies = Policies::default();
        let new =
            NewTenant { name: "Real time".to_owned(), mode: TenantMode::Test, zone: Zone::UTC, policies };
        let tenant = self.tenants.create(new).await.unwrap();
        let (start, reference) = (chrono::DateTime::UNIX_EPOCH, catalog::parse(catalog::REFERENCE).unwrap());
        Catalogs::new(self.stores.db()).publish(tenant, reference, start, start).await.unwrap();
        self.tenants.issue_key(tenant, "admin", &[Scope::Admin]).await.unwrap().secret
    }

    /// The ledger as a server of these stores has it.
    pub fn ledger(&self) -> Ledger {
        Ledger::new(
            self.stores.db(),
            HotBalances::new(&self.stores.redis_url, &self.stores.secret()).unwrap(),
        )
    }

    /// The usage service as a server of these stores has it.
    pub fn usage(&self) -> Usage {
        Usage::start(self.stores.db(), Catalogs::new(self.stores.db()), self.ledger())
    }

    /// The subscriptions service as a server of these stores has it.
    pub fn subscriptions(&self) -> Subscriptions {
        Subscriptions {
            db: self.stores.db(),
            catalogs: Catalogs::new(self.stores.db()),
            ledger: self.ledger(),
            tenants: self.tenants.clone(),
            provider: std::sync::Arc::new(payments::Sandbox),
        }
    }

    /// This tenant, with its clock as it is.
    pub async fn scope(&self) -> TenantScope {
        self.tenants.scope(self.tenant).await.unwrap()
    }

    /// A key of this tenant with these scopes.
    pub async fn key(&self, scopes: &[Scope]) -> String {
        self.tenants.issue_key(self.tenant, "test", scopes).await.unwrap().secret
    }

    /// What the outbox says of one kind, in order.
    pub async fn events(&self, kind: &str) -> Vec<Value> {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::Jsonb)]
            payload: Value,
        }
        let query = "select payload from outbox where tenant_id = $1 and kind = $2 order by event_id";
        let rows: Vec<Row> = diesel::sql_query(query)
            .bind::<diesel::sql_types::Uuid, _>(self.tenant.uuid())
            .bind::<diesel::sql_types::Text, _>(kind)
            .load(&mut self.stores.superuser().await)
            .await
            .unwrap();
        rows.into_iter().map(|row| row.payload).collect()
    }

    /// The events of these kinds, in order: each kind and its instant.
    pub async fn told(&self, kinds: &[&str]) -> Vec<(String, String)> {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::Text)]
            kind: String,
            #[diesel(sql_type = diesel::sql_types::Timestamptz)]
            occurred_at: domain::Timestamp,
        }
        let query =
            "select kind, occurred_at from outbox where tenant_id = $1 and kind = any($2) order by event_id";
        let rows: Vec<Row> = diesel::sql_query(query)
            .bind::<diesel::sql_types::Uuid, _>(self.tenant.uuid())
            .bind::<diesel::sql_types::Array<diesel::sql_types::Text>, _>(kinds)
            .load(&mut self.stores.superuser().await)
            .await
            .unwrap();
        rows.into_iter().map(|row| (row.kind, row.occurred_at.to_rfc3339())).collect()
    }

    /// The status history of the subscription at this path: each cause and what it led to.
    pub async fn statuses(&self, path: &str) -> Vec<String> {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::Text)]
            cause: String,
            #[diesel(sql_type = diesel::sql_types::Text)]
            to_status: String,
        }
        let id: domain::id::SubscriptionId = path.rsplit('/').next().unwrap().parse().unwrap();
        let query = "select cause, to_status from subscription_statuses
                     where tenant_id = $1 and subscription_id = $2 order by position";
        let rows: Vec<Row> = diesel::sql_query(query)
            .bind::<diesel::sql_types::Uuid, _>(self.tenant.uuid())
            .bind::<diesel::sql_types::Uuid, _>(id.uuid())
            .load(&mut self.stores.superuser().await)
            .await
            .unwrap();
        rows.into_iter().map(|row| format!("{} {}", row.cause, row.to_status)).collect()
    }

    /// Every invariant holds, by the product's own audit.
    pub async fn verify(&self) {
        let output = self.command("verify").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The audit finds an invoice over this much that was made a cent cheaper, and says what its purchase should have
    /// cost (I-21).
    pub async fn misses_a_cent_of(&self, total_minor: i64, expected: &str) {
        let cheaper = "update invoices set total_minor = total_minor - 1 where total_minor = $1";
        let mut superuser = self.stores.superuser().await;
        // An invoice is final: somebody has gone around that.
        diesel::sql_query("set session_replication_role = replica").execute(&mut superuser).await.unwrap();
        let changed = diesel::sql_query(cheaper)
            .bind::<diesel::sql_types::BigInt, _>(total_minor)
            .execute(&mut superuser)
            .await
            .unwrap();
        assert_eq!(changed, 1);
        let output = self.command("verify").arg("--no-park").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = said.lines().any(|line| line.contains("I-21") && line.contains(expected));
        assert!(found && !output.status.success(), "{said}");
    }

    /// Starts a server process and waits until it is ready.
    pub async fn serve(&self) -> Server {
        let mut child = self
            .command("serve")
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(self.log())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let base = line.trim().rsplit(' ').next().unwrap().to_owned();
        assert!(base.starts_with("http://"), "the server said {line:?}");
        Server { child, client: Client::new(&base, &self.key) }
    }

    /// Starts a worker process.
    pub fn work(&self) -> Process {
        Process(self.command("worker").stdout(Stdio::null()).stderr(self.log()).spawn().unwrap())
    }

    /// Where its servers and workers say what they have to say, one after the other.
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn log(&self) -> Stdio {
        std::fs::File::options().create(true).append(true).open(self.log_file()).unwrap().into()
    }

    /// A `tollgate` command with the configuration in its environment.
    pub fn command(&self, name: &str) -> Command {
        let Stores { superuser_url, database_url, .. } = &self.stores;
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command
            .arg(name)
            .env("DATABASE_URL", if name == "migrate" { superuser_url } else { database_url })
            .env("REDIS_URL", &self.stores.redis_url)
            .env("TOLLGATE_SECRET_FILE", self.dir.join("secret"))
            .env("TOLLGATE_TOKEN_KEY_FILE", self.dir.join("token-key.pem"))
            .env("TOLLGATE_WEBHOOK_ALLOW", "127.0.0.1")
            .stdin(Stdio::null());
        if let Some(stripe_api) = &self.stripe_api {
            command.env("TOLLGATE_STRIPE_API", stripe_api);
        }
        command
    }
}

impl Drop for World {
    /// A test that fails shows what its servers and workers said last.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = std::fs::read(self.log_file()).unwrap_or_default();
            let last = &said[said.len().saturating_sub(10_000)..];
            eprintln!("its processes said last:\n{}", String::from_utf8_lossy(last));
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A folder of a world's own.
fn new_dir() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("tollgate-it-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn write_private(file: &std::path::Path, content: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(file, content).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

async fn add_tenant(
    stores: &Stores,
    tenants: &Tenants,
    policies: Policies,
    zone: Zone,
) -> (TenantId, String) {
    let new = NewTenant { name: "Test".to_owned(), mode: TenantMode::Test, zone, policies };
    let tenant = tenants.create(new).await.unwrap();
    let start = domain::time::parse_rfc3339(START).unwrap();
    let scope = tenants.scope(tenant).await.unwrap();
    tenants.set_clock(&scope, start).await.unwrap();
    let reference = catalog::parse(catalog::REFERENCE).unwrap();
    Catalogs::new(stores.connected_db().await).publish(tenant, reference, start, start).await.unwrap();
    let key = tenants.issue_key(tenant, "admin", &[Scope::Admin]).await.unwrap().secret;
    (tenant, key)
}

/// A child process, killed with -9 when it is dropped.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server process and a client on it.
pub struct Server {
    child: Child,
    pub client: Client,
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Speaks to one server with one key.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    pub base: String,
    key: String,
}

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
    pub elapsed: Duration,
}

impl Answer {
    /// Asserts the status and hands the body on.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self.body
    }

    /// Asserts a problem with this status and code.
    #[track_caller]
    pub fn expect_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        let problem_type = self.body["type"].as_str().unwrap_or_default();
        assert_eq!(problem_type.rsplit('/').next(), Some(code), "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
    }
}

impl Client {
    pub fn new(base: &str, key: &str) -> Client {
        // No connection is used that the server, which keeps one for five seconds, may be closing just then.
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30));
        let http = http.pool_idle_timeout(Duration::from_secs(2)).build().unwrap();
        Client { http, base: base.to_owned(), key: key.to_owned() }
    }

    /// The same server with other credentials.
    pub fn with_key(&self, key: &str) -> Client {
        Client { key: key.to_owned(), ..self.clone() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// A POST with a fresh Idempotency-Key.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.post_as(&Uuid::now_v7().to_string(), path, body).await
    }

    /// A POST that is sent again, with its key, while the server has no time for it.
    pub async fn post_until_served(&self, path: &str, body: Value) -> Answer {
        let key = Uuid::now_v7().to_string();
        loop {
            let answer = self.post_as(&key, path, body.clone()).await;
            if answer.status != 503 {
                return answer;
            }
        }
    }

    pub async fn post_as(&self, idempotency_key: &str, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).header("Idempotency-Key", idempotency_key).json(&body))
            .await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        let key = Uuid::now_v7().to_string();
        self.send(self.request(Method::PUT, path).header("Idempotency-Key", key).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        let key = Uuid::now_v7().to_string();
        self.send(self.request(Method::DELETE, path).header("Idempotency-Key", key)).await
    }

    /// A request with the key, to be made wrong in some way.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.key)
    }

    /// A request without credentials.
    pub fn anonymous(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        self.try_send(request).await.unwrap()
    }

    pub async fn try_send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        let started = Instant::now();
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await?;
        let elapsed = started.elapsed();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status, headers, body, elapsed })
    }

    // The nouns

    pub async fn customer(&self, external_id: &str) -> String {
        let body = self.post("/v1/customers", json!({"external_id": external_id})).await.expect(201);
        body["id"].as_str().unwrap().to_owned()
    }

    /// So many, in the order in which they are made: `customer-0` and on.
    pub async fn customers(&self, count: usize) -> Vec<String> {
        let mut customers = Vec::with_capacity(count);
        for number in 0..count {
            customers.push(self.customer(&format!("customer-{number}")).await);
        }
        customers
    }

    /// Subscribes with the sandbox's card that works; returns the answer's body.
    pub async fn subscribe(&self, customer: &str, plan: &str) -> Value {
        self.post("/v1/subscriptions", subscribe(customer, plan, "pm_sandbox_succeeds")).await.expect(201)
    }

    pub async fn balance(&self, customer: &str) -> Value {
        self.get(&format!("/v1/customers/{customer}/balance")).await.expect(200)
    }

    pub async fn available(&self, customer: &str) -> i64 {
        self.balance(customer).await["available"].as_i64().unwrap()
    }

    pub async fn authorize(&self, id: &str, customer: &str, model: &str, input: u64, output: u64) -> Answer {
        let body = json!({"id": id, "customer": customer, "model": model, "prompt": {"input": input},
            "max_output_tokens": output});
        self.post("/v1/authorizations", body).await
    }

    /// Sets the clock, and does nothing of what is due by it.
    pub async fn set_clock(&self, instant: &str) {
        self.put("/v1/test-clock", json!({"now": instant})).await.expect(200);
    }

    pub async fn grants(&self, customer: &str) -> Vec<Value> {
        let page = self.get(&format!("/v1/customers/{customer}/grants?limit=200")).await.expect(200);
        page["data"].as_array().unwrap().clone()
    }

    pub async fn transfers(&self, customer: &str) -> Vec<Value> {
        let page = self.get(&format!("/v1/customers/{customer}/ledger?limit=200")).await.expect(200);
        page["data"].as_array().unwrap().clone()
    }

    /// The totals of a customer's invoices, oldest first, in minor units.
    pub async fn totals(&self, customer: &str) -> Vec<i64> {
        let page = self.get(&format!("/v1/invoices?customer={customer}&limit=200")).await.expect(200);
        let invoices = page["data"].as_array().unwrap().iter();
        invoices.map(|invoice| invoice["total"]["amount_minor"].as_i64().unwrap()).collect()
    }

    pub async fn advance_to(&self, instant: &str) {
        self.post("/v1/test-clock/advance", json!({"to": instant})).await.expect(200);
    }
}

pub fn subscribe(customer: &str, plan: &str, payment_method: &str) -> Value {
    json!({"customer": customer, "plan": plan, "currency": "USD", "payment_method": payment_method})
}

/// A usage event of one model call.
pub fn event(id: &str, customer: &str, model: &str, usage: Value) -> Value {
    json!({"source": "urn:test", "id": id, "customer": customer, "model": model, "usage": usage})
}

/// Events of prompts within the first band that sum up to these totals.
pub fn events_totalling(run: &str, customer: &str, model: &str, input: u64, output: u64) -> Vec<Value> {
    const PROMPT_MAX: u64 = 262_144;
    let mut left = input;
    let mut events = Vec::new();
    while left > 0 {
        let prompt = left.min(PROMPT_MAX);
        left -= prompt;
        let output = if left == 0 { output } else { 0 };
        let usage = json!({"input": prompt, "output": output});
        events.push(event(&format!("{run}-{}", events.len()), customer, model, usage));
    }
    events
}
