//! Authorizing: spread, hot and refused.

use std::time::Duration;

use crate::RunArgs;
use crate::compare::{HttpTurn, Side, alternate, float, whole};
use crate::load::{self, Load, Pace};
use crate::product::{self, Server};
use crate::requests::{CREDITS_HELD, Form, Holds};
use crate::world::{World, names};

const CUSTOMERS: usize = 10_000;
/// The pool of the plan "standard".
const POOL: i64 = 200_000_000;
/// More than a run can hold on one account.
const HOT_POOL: i64 = 1_000_000_000_000;
/// Not even the prompt fits.
const EMPTY_POOL: i64 = 1;
const CONNECTIONS: usize = 32;
const HOT_CONNECTIONS: usize = 64;

/// The product under load, with every account in Redis.
struct Product<'a> {
    world: &'a World,
    server: Server,
    form: Form,
}

impl<'a> Product<'a> {
    fn start(world: &'a World, args: &RunArgs) -> anyhow::Result<Product<'a>> {
        let server = world.serve_product(&product::tollgate(args.tollgate.as_ref())?)?;
        Ok(Product { world, server, form: Form::Product { key: world.key.clone() } })
    }

    /// Asks once for each customer: the first touch loads the account.
    fn touch(&self, holds: Holds<'_>) -> anyhow::Result<()> {
        let mut holds = holds.in_turn();
        let count = u64::try_from(holds.customers.len())?;
        let load = Load {
            address: self.server.address,
            connections: CONNECTIONS,
            pace: Pace::Count(count),
            warm_up: Duration::ZERO,
            window: Duration::from_secs(120),
        };
        let answered = tokio::task::block_in_place(|| load::run(&load, &mut holds, || {}))?;
        if let Some(wrong) = answered.first_wrong {
            anyhow::bail!("{} first touches went wrong; the first: {wrong}", answered.wrong);
        }
        println!(
            "{count} accounts loaded on their first request: {:.0} a second",
            float(count) / answered.elapsed.as_secs_f64()
        );
        Ok(())
    }

    fn turn(&self, args: &RunArgs, connections: usize, pace: Pace) -> HttpTurn {
        HttpTurn {
            address: self.server.address,
            processes: self.world.processes(Some(self.server.pid())),
            connections,
            pace,
            window: Duration::from_secs(args.seconds),
            batch: 1,
        }
    }
}

/// `bench authorize`
pub(crate) async fn authorize(args: RunArgs) -> anyhow::Result<()> {
    let world = World::start().await?;
    let customers = names(&world.add_customers(CUSTOMERS, POOL).await?);
    let product = Product::start(&world, &args)?;
    let baseline = world.serve_baseline(&customers, POOL).await?;
    let baseline_form = Form::Baseline { credits: CREDITS_HELD };
    product.touch(Holds::granted(&product.form, &customers, 0))?;

    let sides = |pace: Pace, run: u32| -> Vec<Side<'_>> {
        let ours = product.turn(&args, CONNECTIONS, pace);
        let theirs =
            HttpTurn { address: baseline.address, processes: world.processes(Some(baseline.pid())), ..ours };
        let (product, baseline_form, customers) = (&product, &baseline_form, &customers);
        vec![
            (
                "authorize",
                Box::new(move |round| ours.take(&mut Holds::granted(&product.form, customers, run + round))),
            ),
            (
                "baseline",
                Box::new(move |round| {
                    theirs.take(&mut Holds::granted(baseline_form, customers, run + round))
                }),
            ),
        ]
    };
    println!("\nClosed loop, {CONNECTIONS} connections, one of {CUSTOMERS} customers at random");
    let rounds = alternate(args.rounds, sides(Pace::Closed, 1_000))?;
    rounds.print_medians();
    rounds.print_ratio(0, 1, "requests a second", "goal 0.85, moonshot 1.20", |turn| turn.per_second);
    rounds.print_ratio(0, 1, "CPU an operation", "the same the other way round: 1.18, 0.83", |turn| {
        turn.cpu_us()
    });
    if args.no_open_loop {
        return Ok(());
    }

    let per_second = whole(rounds.median(1, |turn| turn.per_second) / 2.0);
    println!("\nOpen loop, {per_second} requests a second: half the baseline's rate");
    let rounds = alternate(args.rounds, sides(Pace::Open { per_second }, 2_000))?;
    rounds.print_medians();
    rounds.print_ratio(0, 1, "p99", "goal 1.5, moonshot 1.1", |turn| float(turn.p99_us));
    rounds.print_ratio(0, 1, "p50", "no goal", |turn| float(turn.p50_us));
    Ok(())
}

/// `bench hot-account`
pub(crate) async fn hot_account(args: RunArgs) -> anyhow::Result<()> {
    let world = World::start().await?;
    let spread = names(&world.add_customers(CUSTOMERS, POOL).await?);
    let hot = names(&world.add_customers(1, HOT_POOL).await?);
    let product = Product::start(&world, &args)?;
    product.touch(Holds::granted(&product.form, &spread, 0))?;

    println!("\nClosed loop, {HOT_CONNECTIONS} connections: one customer, and one of {CUSTOMERS} at random");
    let turn = product.turn(&args, HOT_CONNECTIONS, Pace::Closed);
    let rounds = alternate(
        args.rounds,
        vec![
            (
                "one account",
                Box::new(|round| turn.take(&mut Holds::granted(&product.form, &hot, 1_000 + round))),
            ),
            (
                "spread",
                Box::new(|round| turn.take(&mut Holds::granted(&product.form, &spread, 2_000 + round))),
            ),
        ],
    )?;
    rounds.print_medians();
    rounds.print_ratio(0, 1, "requests a second", "goal 0.80", |turn| turn.per_second);
    rounds.print_ratio(0, 1, "CPU an operation", "no goal", |turn| turn.cpu_us());
    Ok(())
}

/// `bench denied`
pub(crate) async fn denied(args: RunArgs) -> anyhow::Result<()> {
    let world = World::start().await?;
    let funded = names(&world.add_customers(CUSTOMERS, POOL).await?);
    let empty = names(&world.add_customers(CUSTOMERS, EMPTY_POOL).await?);
    let product = Product::start(&world, &args)?;
    product.touch(Holds::granted(&product.form, &funded, 0))?;
    product.touch(Holds::refused(&product.form, &empty, 0))?;

    println!("\nClosed loop, {CONNECTIONS} connections: out of Credits, and not");
    let turn = product.turn(&args, CONNECTIONS, Pace::Closed);
    let rounds = alternate(
        args.rounds,
        vec![
            (
                "denied",
                Box::new(|round| turn.take(&mut Holds::refused(&product.form, &empty, 1_000 + round))),
            ),
            (
                "granted",
                Box::new(|round| turn.take(&mut Holds::granted(&product.form, &funded, 2_000 + round))),
            ),
        ],
    )?;
    rounds.print_medians();
    rounds.print_ratio(0, 1, "requests a second", "goal 1.00", |turn| turn.per_second);
    rounds.print_ratio(0, 1, "CPU an operation", "goal 1.00", |turn| turn.cpu_us());
    Ok(())
}
