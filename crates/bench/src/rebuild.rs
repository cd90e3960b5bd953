//! Redis emptied under load: how long until every account is back, and whether all answers stay right.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use redis::aio::MultiplexedConnection;

use crate::compare::float;
use crate::load::{self, Load, Pace};
use crate::product;
use crate::requests::{Form, Holds};
use crate::world::{World, names};

/// The plan's pool: far more than a run can hold.
const POOL: i64 = 200_000_000;
const CONNECTIONS: usize = 32;
/// Before Redis is emptied.
const QUIET: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Accounts
    #[arg(long, default_value_t = 100_000)]
    accounts: usize,
    /// The longest that is waited until they are back, in seconds
    #[arg(long, default_value_t = 120)]
    patience: u64,
    /// The product's program [default: tollgate beside this program]
    #[arg(long, value_name = "FILE")]
    tollgate: Option<PathBuf>,
}

/// `bench rebuild`
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let world = World::start().await?;
    let customers = names(&world.add_customers(args.accounts, POOL).await?);
    let server = world.serve_product(&product::tollgate(args.tollgate.as_ref())?)?;
    let form = Form::Product { key: world.key.clone() };
    let patience = Duration::from_secs(args.patience);
    let all = u64::try_from(customers.len())?;

    let load = |pace, window| Load {
        address: server.address,
        connections: CONNECTIONS,
        pace,
        warm_up: Duration::ZERO,
        window,
    };
    let mut touch = Holds::granted(&form, &customers, 1).in_turn();
    let touching = load(Pace::Count(all), Duration::from_secs(600));
    let touched = tokio::task::block_in_place(|| load::run(&touching, &mut touch, || {}))?;
    println!(
        "{all} accounts loaded, each by its first request, in {:.1} s; {} answers were wrong",
        touched.elapsed.as_secs_f64(),
        touched.wrong
    );

    let mut redis = redis::Client::open(world.redis_url())?.get_multiplexed_async_connection().await?;
    ensure!(balances(&mut redis).await? >= all, "not every account has a balance in Redis");
    // The load runs in a thread of its own until the accounts are back.
    let asking = load(Pace::Closed, QUIET + patience);
    let is_over = AtomicBool::new(false);
    let result = std::thread::scope(|scope| -> anyhow::Result<_> {
        let asking = scope.spawn(|| {
            let mut holds = Holds::granted(&form, &customers, 2);
            load::run_until(&asking, &mut holds, || {}, || is_over.load(Ordering::Relaxed))
        });
        let watching = tokio::runtime::Handle::current();
        let elapsed =
            tokio::task::block_in_place(|| watching.block_on(empty_and_watch(&mut redis, all, patience)));
        is_over.store(true, Ordering::Relaxed);
        let answered = asking.join().map_err(|_| anyhow::anyhow!("the load ended early"))??;
        Ok((elapsed?, answered))
    });
    let (elapsed, answered) = result?;
    match elapsed {
        Some(elapsed) => {
            println!("all {all} accounts were back after {:.1} s; goal 30 s", elapsed.as_secs_f64())
        }
        None => println!("NOT all accounts were back within {} s", args.patience),
    }
    println!(
        "meanwhile {} requests were answered ({:.0} a second), p99 {} us, slowest {} us; {} of them not as they should be",
        answered.count,
        float(answered.count) / answered.elapsed.as_secs_f64(),
        answered.latency.value_at_quantile(0.99),
        answered.latency.max(),
        answered.wrong
    );
    if let Some(wrong) = answered.first_wrong {
        println!("the first of these:\n{wrong}");
    }
    let log = world.product_log();
    println!("the product logged {} lines; the last ones:", log.lines().count());
    for line in log.lines().rev().take(5) {
        println!("  {line}");
    }
    Ok(())
}

/// Empties Redis and looks until as many accounts as before have a balance there; `None` where they do
/// not in time.
async fn empty_and_watch(
    redis: &mut MultiplexedConnection,
    all: u64,
    patience: Duration,
) -> anyhow::Result<Option<Duration>> {
    tokio::time::sleep(QUIET).await;
    redis::cmd("FLUSHALL").query_async::<()>(redis).await?;
    let emptied = Instant::now();
    while emptied.elapsed() < patience {
        tokio::time::sleep(LOOK_EVERY).await;
        let back = balances(redis).await?;
        println!("{:>6.1} s: {back} of {all} accounts", emptied.elapsed().as_secs_f64());
        if back >= all {
            return Ok(Some(emptied.elapsed()));
        }
    }
    Ok(None)
}

/// How many accounts have a balance in Redis. Looked up in small steps, since Redis does one thing at a
/// time and the load goes on.
async fn balances(redis: &mut MultiplexedConnection) -> anyhow::Result<u64> {
    let (mut cursor, mut found) = (0_u64, 0);
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg("{*}:balance*").arg("TYPE").arg("hash").arg("COUNT").arg(2_000);
        let (next, keys): (u64, Vec<String>) = scan.query_async(redis).await?;
        // An account's other hash has a longer name.
        found += u64::try_from(keys.iter().filter(|key| !key.ends_with(":holds")).count())?;
        cursor = next;
        if cursor == 0 {
            return Ok(found);
        }
    }
}
