//! `tollgate dev`

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use chrono::DateTime;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use domain::TenantScope;
use domain::calendar::Zone;
use domain::scope::TenantMode;
use private_servers::{Options, PrivateServers};
use tenants::{Customer, NewCustomer, NewTenant, Scope};

use crate::config::{self, Settings, Stores};
use crate::secrets::{Secrets, write_private};
use crate::serving::Api;
use crate::shutdown::Stopper;
use crate::wiring::{For, Services};

/// Run everything on this machine: private servers, a demo tenant, the API, worker and scheduler
///
/// Starts a private PostgreSQL and Redis, fetching them first where they are missing, and brings the
/// schema, the reference catalogue and a demo tenant with customers. Ctrl-C stops all of it; the data
/// stay in the folder. With DATABASE_URL and REDIS_URL set, those servers are used and none is started.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the data, the secrets and the demo's key are kept
    #[arg(long, default_value = ".tollgate/dev", value_name = "FOLDER")]
    dir: PathBuf,
    /// The address of the API; a free port where this one is taken
    #[arg(long, env = "TOLLGATE_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    #[command(flatten)]
    stripe: config::StripeApi,
}

/// A developer's webhook receiver runs on the same machine.
const LOOPBACK: &str = "127.0.0.0/8,::1";

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    config::start_logging()?;
    std::fs::create_dir_all(&args.dir).with_context(|| format!("cannot make {}", args.dir.display()))?;
    let (private, stores) = stores(&args.dir).await?;
    say("Bringing the schema up to date.");
    db::migrate(&stores.postgres.database_url).await?;

    let secrets = Secrets::read_or_make(&args.dir)?;
    let webhook_allow = LOOPBACK.parse()?;
    let settings = Settings { stores, secrets, webhook_allow, stripe_api: args.stripe.stripe_api };
    let requests = Services::new(&settings, For::Requests)?;
    let jobs = Services::new(&settings, For::Jobs)?;
    let demo = Demo::prepare(&jobs, &args.dir).await?;

    let (stopper, stop) = Stopper::new();
    let api = bind(&requests, args.listen, stop.clone())?;
    demo.print(api.address());
    let serving = tokio::spawn(api.run());
    let working = tokio::spawn(async move { jobs.work(None, stop).await });
    stopper.asked().await?;
    say("Stopping.");
    stopper.stop();
    serving.await??;
    working.await??;
    if let Some(private) = private {
        tokio::task::spawn_blocking(move || private.stop()).await??;
    }
    Ok(())
}

fn say(line: &str) {
    eprintln!("{line}");
}

/// The user's own servers, or private ones with a database called `tollgate`.
async fn stores(dir: &Path) -> anyhow::Result<(Option<PrivateServers>, Stores)> {
    if let Some((database_url, redis_url)) = config::own_servers()? {
        let postgres = config::Postgres { database_url };
        return Ok((None, Stores { postgres, redis_url }));
    }
    say("Starting a private PostgreSQL and Redis.");
    let options = Options { dir: dir.to_owned(), durable: true, progress: Arc::new(say) };
    let private = tokio::task::spawn_blocking(move || PrivateServers::start(options)).await??;
    let mut admin = AsyncPgConnection::establish(&private.postgres_url("postgres")).await?;
    if let Err(error) = admin.batch_execute("create database tollgate").await
        && !error.to_string().contains("already exists")
    {
        return Err(error).context("cannot create the database");
    }
    let postgres = config::Postgres { database_url: private.postgres_url("tollgate") };
    let redis_url = private.redis_url();
    Ok((Some(private), Stores { postgres, redis_url }))
}

fn bind(services: &Services, listen: SocketAddr, stop: crate::shutdown::Stop) -> anyhow::Result<Api> {
    Api::bind(services, listen, false, stop.clone()).or_else(|taken| {
        say(&format!("{taken:#}; using a free port."));
        Api::bind(services, SocketAddr::new(listen.ip(), 0), false, stop)
    })
}

/// The demo tenant, and what is printed of it.
struct Demo {
    key: String,
    customers: Vec<Customer>,
    /// Whether the first customer has a live subscription.
    is_subscribed: bool,
}

const DEMO_CUSTOMERS: [&str; 3] = ["ada", "grace", "linus"];

impl Demo {
    /// Makes the tenant, its catalogue, its customers and a key, or finds them again.
    async fn prepare(services: &Services, dir: &Path) -> anyhow::Result<Demo> {
        let tenants = &services.tenants;
        let demo = tenants.list().await?.into_iter().find(|tenant| tenant.name == "Demo");
        let tenant = match demo {
            Some(tenant) => tenant.id,
            None => {
                say("Making the demo tenant.");
                let new = NewTenant {
                    name: "Demo".to_owned(),
                    mode: TenantMode::Test,
                    zone: Zone::UTC,
                    policies: Default::default(),
                };
                tenants.create(new).await?
            }
        };
        let scope = tenants.scope(tenant).await?;
        let reference = catalog::parse(catalog::REFERENCE)?;
        if services.catalogs.history(tenant).await?.latest().is_none() {
            // In force before any instant that somebody may set the test clock to.
            services.catalogs.publish(tenant, reference, DateTime::UNIX_EPOCH, scope.now).await?;
        }
        let mut customers = tenants.customers(&scope, None, 10).await?;
        if customers.is_empty() {
            for name in DEMO_CUSTOMERS {
                let new = NewCustomer { external_id: name.parse()?, name: Some(name.to_owned()) };
                customers.push(tenants.create_customer(&scope, new).await?);
            }
        }
        let first = customers.first().context("the demo tenant has no customer")?.id;
        let subscriptions = services.subscriptions.of_customer(&scope, first, None, 50).await?;
        let is_subscribed = subscriptions.iter().any(|subscription| subscription.status.is_live());
        let key = key(services, &scope, &dir.join("api-key")).await?;
        Ok(Demo { key, customers, is_subscribed })
    }

    /// The address, the key, and three lines to paste.
    fn print(&self, address: SocketAddr) {
        let Demo { key, customers, .. } = self;
        let base = format!("http://{address}");
        let customer = customers.first().map(|customer| customer.id.to_string()).unwrap_or_default();
        println!("\nTollgate listens on {base}   (API: {base}/docs/)");
        println!("API key of the demo tenant: {key}");
        println!("Its customers:");
        for customer in customers {
            println!("  {}  {}", customer.id, customer.external_id);
        }
        let auth = format!("-H 'Authorization: Bearer {key}'");
        let json = "-H 'Content-Type: application/json'";
        println!("\nTry these, in order:");
        if self.is_subscribed {
            println!("curl -s {auth} '{base}/v1/subscriptions?customer={customer}'");
        } else {
            println!(
                "curl -s {auth} {json} -H 'Idempotency-Key: demo-subscribe' {base}/v1/subscriptions -d \
                 '{{\"customer\":\"{customer}\",\"plan\":\"standard\",\"currency\":\"USD\",\
                 \"payment_method\":\"pm_sandbox_succeeds\"}}'"
            );
        }
        println!(
            "curl -s {auth} {json} {base}/v1/usage/events -d \
             '{{\"source\":\"urn:demo\",\"id\":\"call-1\",\"customer\":\"{customer}\",\
             \"model\":\"mimo-v2-pro\",\"usage\":{{\"input\":4808,\"output\":10}}}}'"
        );
        println!("curl -s {auth} {base}/v1/customers/{customer}/balance");
        println!("\nCtrl-C stops everything.");
    }
}

/// The demo's key, from the file of the last run where it is still good.
async fn key(services: &Services, scope: &TenantScope, file: &Path) -> anyhow::Result<String> {
    if let Ok(key) = std::fs::read_to_string(file) {
        let key = key.trim().to_owned();
        let principal = services.tenants.authenticate(&key).await;
        if principal.is_ok_and(|principal| principal.scope.tenant == scope.tenant) {
            return Ok(key);
        }
    }
    let issued = services.tenants.issue_key(scope.tenant, "dev", &[Scope::Admin]).await?;
    write_private(file, issued.secret.as_bytes())?;
    Ok(issued.secret)
}
