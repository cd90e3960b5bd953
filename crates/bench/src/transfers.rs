//! Transfers through the ledger's own code: in batches, one by one, and on one account.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use catalog::Catalogs;
use domain::account::{Cause, CauseKind, EventCost};
use domain::id::CustomerId;
use domain::policy::Policies;
use domain::usage::{Outcome, TokenCounts, UsageSource};
use domain::{Credits, TenantScope};
use futures_util::future::try_join_all;
use usage::{EventResult, Usage, UsageEvent};
use uuid::Uuid;

use crate::compare::{Side, Turn, alternate};
use crate::cpu::Cpu;
use crate::pgbench::Peer;
use crate::requests::{MODEL, Random};
use crate::store;
use crate::world::{World, now};

const ACCOUNTS: usize = 10_000;
/// More than a run can charge.
const POOL: i64 = 1_000_000_000_000;
const BATCH: usize = 1_000;
const IN_FLIGHT: u64 = 32;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Rounds; in each every side takes a turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a turn
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Writers of batches at the same time
    #[arg(long, default_value_t = 1)]
    writers: u64,
    /// pgledger's SQL files, in the order in which they are loaded; without them it is left out
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pgledger_sql: Vec<PathBuf>,
}

/// The ledger in this process.
#[derive(Clone)]
struct Ours<'a> {
    world: &'a World,
    spread: &'a [CustomerId],
    hot: &'a [CustomerId],
    usage: Usage,
}

/// `bench ledger`
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let world = World::start().await?;
    let spread = world.add_customers(ACCOUNTS, POOL).await?;
    let hot = world.add_customers(1, POOL).await?;
    let usage = Usage::start(world.db.clone(), Catalogs::new(world.db.clone()), world.ledger()?);
    let ours = Ours { world: &world, spread: &spread, hot: &hot, usage };
    let simple_update = Peer::simple_update(&world).await?;
    let pgledger = match args.pgledger_sql.as_slice() {
        [] => None,
        files => Some(Peer::pgledger(&world, files).await?),
    };

    let window = Duration::from_secs(args.seconds);
    let mut sides: Vec<Side<'_>> = vec![
        ("batches", Box::new(|round| wait(ours.batches(ours.spread, args.writers, window, round)))),
        ("batches, one account", Box::new(|round| wait(ours.batches(ours.hot, args.writers, window, round)))),
        ("singles, 32 in flight", Box::new(|round| wait(ours.singles(window, round)))),
        ("pgbench simple update", Box::new(|_| simple_update.take_turn(window))),
    ];
    if let Some(pgledger) = &pgledger {
        sides.push(("pgledger, 32 clients", Box::new(|_| pgledger.take_turn(window))));
    }
    println!("\nBatches of {BATCH} charges on {ACCOUNTS} accounts, {} at a time", args.writers);
    let rounds = alternate(args.rounds, sides)?;
    rounds.print_medians();
    let per_second = |turn: &Turn| turn.per_second;
    rounds.print_ratio(1, 0, "transfers a second", "goal 0.70, moonshot 1.0", per_second);
    rounds.print_ratio(0, 3, "transfers a second", "no goal", per_second);
    rounds.print_ratio(2, 3, "transfers a second", "no goal", per_second);
    if pgledger.is_some() {
        rounds.print_ratio(0, 4, "transfers a second", "goal 8, moonshot 20", per_second);
        rounds.print_ratio(2, 4, "transfers a second", "goal 2, moonshot 6", per_second);
        rounds.print_ratio(4, 0, "CPU of PostgreSQL a transfer", "no goal", |turn| turn.postgres_us);
    } else {
        println!("pgledger was left out: name its files with --pgledger-sql");
    }
    let tenant = world.tenant;
    let broken = world.db.transaction(tenant, async |tx| store::broken_accounts(tx, tenant).await).await?;
    println!("accounts whose books do not sum up to zero, or whose versions have gaps: {broken}");
    Ok(())
}

/// A turn is taken on the thread that asks for it; what it spawns goes on others.
fn wait(turn: impl Future<Output = anyhow::Result<Turn>>) -> anyhow::Result<Turn> {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(turn))
}

impl Ours<'_> {
    /// Writers that each charge a batch in one transaction after the other.
    async fn batches(
        &self,
        accounts: &[CustomerId],
        writers: u64,
        window: Duration,
        round: u32,
    ) -> anyhow::Result<Turn> {
        let count = AtomicU64::new(0);
        let until = Instant::now() + window;
        let writing = (0..writers).map(|writer| {
            let random = Random::new(u64::from(round) * 1_000 + writer);
            self.write_batches(accounts, random, until, &count)
        });
        self.measured(&count, try_join_all(writing)).await
    }

    async fn write_batches(
        &self,
        accounts: &[CustomerId],
        random: Random,
        until: Instant,
        count: &AtomicU64,
    ) -> anyhow::Result<()> {
        let random = RefCell::new(random);
        while Instant::now() < until {
            let charged: Vec<(CustomerId, Credits, Uuid)> = {
                let mut random = random.borrow_mut();
                let charge = |_| Ok((*random.of(accounts), Credits::new(1)?, Uuid::now_v7()));
                (0..BATCH)
                    .map(charge)
                    .collect::<Result<_, domain::Refusal>>()
                    .map_err(crate::world::refused)?
            };
            self.charge(&charged).await?;
            count.fetch_add(u64::try_from(BATCH)?, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The ledger's beats: lock and read, decide, write, commit.
    async fn charge(&self, charged: &[(CustomerId, Credits, Uuid)]) -> db::Result<()> {
        let (tenant, now) = (self.world.tenant, now());
        let customers: BTreeSet<CustomerId> = charged.iter().map(|(customer, ..)| *customer).collect();
        let customers: Vec<CustomerId> = customers.into_iter().collect();
        self.world
            .db
            .transaction(tenant, async |tx| {
                let mut accounts = ledger::lock(tx, tenant, &customers).await?;
                for (customer, credits, id) in charged {
                    let cost = EventCost {
                        credits: *credits,
                        charge_instant: now,
                        is_captured: false,
                        received_at: now,
                        late: Policies::default().late_rules(),
                        cause: Cause { kind: CauseKind::Usage, id: *id },
                        event_time: now,
                    };
                    accounts.get_mut(*customer)?.charge(&cost, now)?;
                }
                ledger::write(tx, tenant, &accounts, now).await?;
                Ok(())
            })
            .await
    }

    /// Events that are each reported alone, 32 at a time: they share commits.
    async fn singles(&self, window: Duration, round: u32) -> anyhow::Result<Turn> {
        let count = AtomicU64::new(0);
        let until = Instant::now() + window;
        let reporting = (0..IN_FLIGHT).map(|task| self.report(task, round, until, &count));
        self.measured(&count, try_join_all(reporting)).await
    }

    async fn report(&self, task: u64, round: u32, until: Instant, count: &AtomicU64) -> anyhow::Result<()> {
        let mut random = Random::new(u64::from(round) * 1_000 + task);
        let mut number = 0;
        let scope = self.world.scope().await?;
        while Instant::now() < until {
            number += 1;
            let event = UsageEvent {
                source: "urn:bench".into(),
                id: format!("{round}-{task}-{number}").into(),
                customer: *random.of(self.spread),
                model: MODEL.parse()?,
                usage: TokenCounts { input: 1, ..TokenCounts::default() }.into(),
                outcome: Outcome::Completed,
                usage_source: UsageSource::Provider,
                time: None,
                authorization: None,
                api_key: None,
                first_received_at: None,
                is_backfill: false,
            };
            let scope = TenantScope { now: now(), ..scope.clone() };
            let results = self.usage.record(&scope, vec![event]).await?;
            anyhow::ensure!(matches!(results.as_slice(), [EventResult::Accepted(_)]), "{results:?}");
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Runs it, and makes a turn of what it counted. The CPU time of this process counts as the server's.
    async fn measured(
        &self,
        count: &AtomicU64,
        work: impl Future<Output = anyhow::Result<Vec<()>>>,
    ) -> anyhow::Result<Turn> {
        let processes = self.world.processes(Some(std::process::id()));
        let (before, started) = (Cpu::now(processes)?, Instant::now());
        work.await?;
        let (elapsed, cpu) = (started.elapsed(), Cpu::now(processes)?.since(before));
        Ok(Turn::new(count.load(Ordering::Relaxed), elapsed, cpu))
    }
}
