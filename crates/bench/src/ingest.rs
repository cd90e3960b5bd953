//! Usage events over HTTP: in batches, sent again, and one by one.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use crate::compare::{HttpTurn, Side, Turn, alternate, float};
use crate::load::{self, Load, Pace};
use crate::product::{self, Server};
use crate::requests::Events;
use crate::store::raw::{Raw, Way};
use crate::world::{World, names};

const CUSTOMERS: usize = 10_000;
/// More than a run can charge.
const POOL: i64 = 1_000_000_000_000;
const BATCH: u64 = 1_000;
/// Events a transaction of the raw side that single events are compared with.
const SMALL_BATCH: usize = 100;
const SINGLE_CONNECTIONS: usize = 64;
/// Batches that are sent again and again.
const KNOWN_BATCHES: u64 = 100;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Rounds; in each every side takes a turn
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// Seconds of a turn
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Clients that send batches at the same time, and connections of bare SQL and of COPY
    #[arg(long, default_value_t = 2, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=16))]
    clients: usize,
    /// The product's program [default: tollgate beside this program]
    #[arg(long, value_name = "FILE")]
    tollgate: Option<PathBuf>,
}

/// `bench ingest`
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let world = World::start().await?;
    world.open_month().await?;
    let customers = names(&world.add_customers(CUSTOMERS, POOL).await?);
    let clients = args.clients;
    let raw = &Raw::start(&world, CUSTOMERS, POOL, clients).await?;
    let server = world.serve_product(&product::tollgate(args.tollgate.as_ref())?)?;
    let window = Duration::from_secs(args.seconds);
    let events = |run: u32, batch: u64| Events {
        key: &world.key,
        customers: &customers,
        parts: 1,
        run,
        batch,
        distinct: u64::MAX,
        expected: "accepted",
        number: 0,
    };
    send_known(&server, clients, &mut Events { distinct: KNOWN_BATCHES, ..events(1, BATCH) })?;

    let batches = HttpTurn {
        address: server.address,
        processes: world.processes(Some(server.pid())),
        connections: clients,
        pace: Pace::Closed,
        window,
        batch: BATCH,
    };
    let memory = RefCell::new(Vec::new());
    let remember = |turn: Turn| -> anyhow::Result<Turn> {
        memory.borrow_mut().push(resident_mib(server.pid())?);
        Ok(turn)
    };
    println!("\nBatches of {BATCH} events of one of {CUSTOMERS} customers each at random, {clients} clients");
    let bare = |way, first: u32| move |round| raw.take(way, usize::try_from(BATCH)?, window, first + round);
    let sides: Vec<Side<'_>> = vec![
        (
            "sent again",
            Box::new(|_| {
                let again = Events { distinct: KNOWN_BATCHES, expected: "duplicate", ..events(1, BATCH) };
                batches.take(&mut { again })
            }),
        ),
        ("bare SQL, same customers", Box::new(bare(Way::SqlSameCustomers, 300))),
        ("over HTTP", Box::new(|round| remember(batches.take(&mut events(1_000 + round, BATCH))?))),
        ("bare SQL", Box::new(bare(Way::Sql, 0))),
        (
            "over HTTP, apart",
            Box::new(|round| batches.take(&mut Events { parts: clients, ..events(3_000 + round, BATCH) })),
        ),
        ("bare SQL, alike once", Box::new(bare(Way::SqlAlikeOnce, 400))),
        ("COPY", Box::new(bare(Way::Copy, 100))),
    ];
    let rounds = alternate(args.rounds, sides)?;
    let [again, sql_same, http, sql, apart, sql_alike, copy] = [0, 1, 2, 3, 4, 5, 6];
    rounds.print_medians();
    let per_second = |turn: &Turn| turn.per_second;
    for product in [http, apart] {
        rounds.print_ratio(product, sql, "events a second", "goal 0.85", per_second);
        rounds.print_ratio(product, copy, "events a second", "goal 0.45, moonshot 0.75", per_second);
        rounds.print_ratio(product, sql_alike, "events a second", "no goal", per_second);
    }
    rounds.print_ratio(
        http,
        sql_same,
        "events a second",
        "each with the same customers in all clients",
        per_second,
    );
    rounds.print_ratio(again, http, "events a second", "goal 0.90", per_second);
    rounds.print_ratio(http, sql, "CPU an event", "no goal", Turn::cpu_us);
    rounds.print_ratio(http, copy, "CPU an event", "no goal", Turn::cpu_us);
    println!("memory of the server after each turn over HTTP, MiB: {:?}", memory.borrow());

    let singles = HttpTurn { connections: SINGLE_CONNECTIONS, batch: 1, ..batches };
    println!(
        "\nSingle events from {SINGLE_CONNECTIONS} connections, and bare SQL in batches of {SMALL_BATCH}"
    );
    let sides: Vec<Side<'_>> = vec![
        ("singles", Box::new(|round| singles.take(&mut events(2_000 + round, 1)))),
        ("bare SQL", Box::new(|round| raw.take(Way::Sql, SMALL_BATCH, window, 200 + round))),
    ];
    let rounds = alternate(args.rounds, sides)?;
    rounds.print_medians();
    rounds.print_ratio(0, 1, "events a second", "goal 0.25, moonshot 0.60", per_second);
    rounds.print_ratio(0, 1, "CPU an event", "no goal", Turn::cpu_us);
    let spread = rounds.median(0, |turn| float(turn.p99_us) / float(turn.p50_us));
    println!("singles, p99 / median: {spread:.2}; goal 5");
    raw.print_row_bytes(world.tenant).await
}

/// Sends each of the batches once that are sent again later.
fn send_known(server: &Server, clients: usize, known: &mut Events<'_>) -> anyhow::Result<()> {
    let load = Load {
        address: server.address,
        connections: clients,
        pace: Pace::Count(known.distinct),
        warm_up: Duration::ZERO,
        window: Duration::from_secs(120),
    };
    let answered = tokio::task::block_in_place(|| load::run(&load, known, || {}))?;
    match answered.first_wrong {
        None => Ok(()),
        Some(wrong) => anyhow::bail!("{} batches went wrong; the first: {wrong}", answered.wrong),
    }
}

/// The memory of a process that is in use.
fn resident_mib(pid: u32) -> anyhow::Result<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: u64 = statm.split(' ').nth(1).unwrap_or_default().parse()?;
    Ok(pages * u64::try_from(rustix::param::page_size())? / (1 << 20))
}
