//! A run from its beginning to its report.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::check::{self, Evidence, Findings};
use crate::client::Client;
use crate::history::{Answer, Operation};
use crate::http::{Call, SERVERS, Site};
use crate::place::{Place, Tenant};
use crate::process::tollgate_beside_us;
use crate::receiver::Receiver;
use crate::report::Report;
use crate::store;
use crate::supervisor::Supervisor;
use crate::workload;
use crate::world::{Class, Customer, World};

/// How many customers of each class a tenant has.
const CUSTOMERS: [(Class, usize); 3] = [(Class::Busy, 4), (Class::Tight, 2), (Class::Small, 2)];
/// How often the run stops for a check before the last one.
const QUIET_POINTS: u64 = 3;
/// How long clients ask on for answers that they do not have when the run ends.
const LAST_PATIENCE: Duration = Duration::from_secs(30);

/// Is told the kills made and a line on how it goes.
pub type Progress = Box<dyn Fn(u64, &str) + Send + Sync>;

/// Two leases of a worker that was killed, and the pause of a receiver that was cut off.
const WEBHOOK_PATIENCE: Duration = Duration::from_secs(180);

/// What to run.
pub struct Options {
    /// How many `kill -9`.
    pub kills: u64,
    /// How many usage events are acknowledged at least.
    pub events: u64,
    pub clients: u32,
    pub seed: u64,
    /// The server under test; the one beside this program where `None`.
    pub tollgate: Option<PathBuf>,
    /// A folder for the run's servers and logs, which must not exist; kept where something was violated.
    pub dir: PathBuf,
    /// Whether PostgreSQL survives a power cut as well: slower.
    pub is_durable: bool,
    /// Whether the end of the run waits until every webhook is delivered: what a killed worker was at
    /// is done a minute later.
    pub waits_for_webhooks: bool,
    /// Called after every fault.
    pub progress: Progress,
}

/// Runs, checks and reports.
///
/// # Errors
/// Where the run itself cannot go on: nothing starts, or nothing serves again within a minute.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    if options.dir.exists() {
        bail!("{} exists: another run, or the evidence of one; remove it first", options.dir.display());
    }
    let tollgate = options.tollgate.clone().map_or_else(tollgate_beside_us, Ok)?;
    let began = Instant::now();
    let place = Place::set_up(tollgate, options.dir.clone(), options.is_durable).await?;
    let receiver = Receiver::start().await?;
    let mut supervisor = open(place, &receiver, options.seed).await?;
    let world = supervisor.client.world.clone();
    let clients: Vec<JoinHandle<Client>> = (1..=options.clients)
        .map(|number| tokio::spawn(workload::run(Client::new(number, options.seed, world.clone()))))
        .collect();

    let mut findings = Findings::default();
    let faults = make_faults(&options, &mut supervisor, &mut findings).await;
    world.is_over.store(true, Ordering::Relaxed);
    let patience = u64::try_from(LAST_PATIENCE.as_micros()).unwrap_or(u64::MAX);
    world.give_up_at.store(world.site.now().saturating_add(patience), Ordering::Relaxed);
    let mut histories = Vec::new();
    for client in clients {
        histories.push(client.await?.history);
    }
    faults?;
    check_at_rest(&mut supervisor, &mut findings).await?;
    if options.waits_for_webhooks {
        check_outbox(&supervisor.place.superuser_url, &receiver, &mut findings).await?;
    }
    let verified = supervisor.place.verify()?;
    if let Some(verified) = &verified {
        findings.expect(check::VERIFY, verified.is_ok(), || verified.clone().unwrap_or_else(|text| text));
    }
    histories.push(std::mem::take(&mut supervisor.client.history));
    let operations: Vec<Operation> = histories.into_iter().flatten().collect();
    let books = store::read_books(&supervisor.place.superuser_url).await?;
    let redis_faults = world.redis_faults.lock().map(|faults| faults.clone()).unwrap_or_default();
    let evidence = Evidence {
        customers: &world.customers,
        operations: &operations,
        books: &books,
        redis_faults: &redis_faults,
    };
    check::check_all(&evidence, &mut findings);

    let Supervisor { place, made, slow_stops, .. } = supervisor;
    let mut report = Report::new(&options, &operations, made, slow_stops, findings);
    report.took = began.elapsed();
    report.has_verify = verified.is_some();
    place.take_down(!report.is_clean())?;
    Ok(report)
}

/// Starts the servers, and makes the customers.
async fn open(mut place: Place, receiver: &Receiver, seed: u64) -> anyhow::Result<Supervisor> {
    let site = Site::new()?;
    for server in 0..SERVERS {
        place.start_server(server, &site)?;
    }
    place.start_worker()?;
    let tenants = place.tenants.clone();
    let mut customers = Vec::new();
    for (tenant, of_tenant) in tenants.iter().enumerate() {
        let classes = CUSTOMERS.iter().flat_map(|(class, count)| std::iter::repeat_n(*class, *count));
        create(&site, of_tenant, "/v1/webhook-endpoints", json!({"url": receiver.url})).await?;
        let probe = (tenant == 0).then_some(Class::Probe);
        for class in classes.chain(probe) {
            let body = json!({"external_id": format!("customer-{}", customers.len())});
            let id = create(&site, of_tenant, "/v1/customers", body).await?;
            customers.push(Customer { tenant, class, id });
        }
    }
    let mut world = World::new(site, tenants);
    world.customers = customers;
    let world = Arc::new(world);
    let mut client = Client::new(0, seed, world.clone());
    for class in [Class::Busy, Class::Small, Class::Probe] {
        for account in world.of_class(class, None) {
            workload::buy(&mut client, account, "huge").await.context("a customer cannot buy a plan")?;
        }
    }
    let probe = world.of_class(Class::Probe, None).first().copied().context("a customer to probe with")?;
    Ok(Supervisor::new(place, client, probe, seed))
}

/// Creates something before the run, and returns its id.
async fn create(site: &Site, tenant: &Tenant, path: &str, body: Value) -> anyhow::Result<String> {
    let body = Some(body.to_string());
    let call = Call { method: Method::POST, path, bearer: &tenant.key, idempotency_key: None, body };
    for _ in 0..100 {
        if let (_, Some(reply)) = site.send(0, &call).await {
            let id = reply.body["id"].as_str().map(str::to_owned);
            return id.with_context(|| format!("{path} was answered {}", reply.body));
        }
        // The server may not be ready yet.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("{path} creates nothing")
}

/// All faults, with some quiet points between them; then waits for what is missing of the events.
async fn make_faults(
    options: &Options,
    supervisor: &mut Supervisor,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let world = supervisor.client.world.clone();
    let mut quiet_points = 0;
    while supervisor.kills_made() < options.kills {
        let kills = supervisor.kills_made();
        let wanted = options.events.saturating_mul(kills + 1) / options.kills;
        world.events_wanted.store(wanted, Ordering::Relaxed);
        supervisor.step().await?;
        (options.progress)(supervisor.kills_made(), &line(&world, findings));
        if supervisor.kills_made() * (QUIET_POINTS + 1) > (quiet_points + 1) * options.kills {
            quiet_points += 1;
            check_at_rest(supervisor, findings).await?;
        }
    }
    world.events_wanted.store(options.events, Ordering::Relaxed);
    while world.is_behind() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        (options.progress)(supervisor.kills_made(), &line(&world, findings));
    }
    supervisor.wait_until_served().await
}

fn line(world: &World, findings: &Findings) -> String {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let counts = &world.counts;
    format!(
        "{} events, {} requests, {} unknown, {} in flight, {} violations",
        count(&counts.events),
        count(&counts.requests),
        count(&counts.unknown),
        world.site.in_flight(),
        findings.violations()
    )
}

/// Waits until the worker has sent everything, and compares with what came.
async fn check_outbox(url: &str, receiver: &Receiver, findings: &mut Findings) -> anyhow::Result<()> {
    let asked = Instant::now();
    let mut outbox = store::read_outbox(url).await?;
    while outbox.waiting > 0 && asked.elapsed() < WEBHOOK_PATIENCE {
        tokio::time::sleep(Duration::from_secs(1)).await;
        outbox = store::read_outbox(url).await?;
    }
    for message in &outbox.messages {
        findings.expect(check::MESSAGES, receiver.has(message), || format!("{message} never came"));
    }
    findings.expect(check::JOBS, outbox.parked_jobs.is_empty(), || format!("{:?}", outbox.parked_jobs));
    Ok(())
}

/// Lets nobody begin anything, waits until nothing is under way, and compares books and balances.
async fn check_at_rest(supervisor: &mut Supervisor, findings: &mut Findings) -> anyhow::Result<()> {
    let world = supervisor.client.world.clone();
    let _quiet = world.quiet.write().await;
    let mut balances = Vec::new();
    for account in 0..world.customers.len() {
        let ask = supervisor.client.balance(account);
        if let Some(answer @ Answer::Balance { .. }) = supervisor.client.ask(&ask, false).await {
            balances.push((account, answer));
        }
    }
    let books = store::read_accounts(&supervisor.place.superuser_url).await?;
    check::check_books(&books, findings);
    check::check_balances(&world.customers, &balances, &books, findings);
    Ok(())
}
