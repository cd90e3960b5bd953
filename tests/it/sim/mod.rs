//! The simulation: one seed drives random commands against real processes over HTTP and against the slow
//! model of the rules (`domain::model`), with faults around them, and compares every answer. At the end of
//! a seed all that can be read must equal the model's.
//!
//! Seeds run in blocks of ten, side by side, each as a tenant of its own. Even blocks share two servers,
//! and their commands are repeated and sent twice at once; odd blocks run on stores of their own, where
//! besides that Redis is emptied and Redis, PostgreSQL, server and worker are killed in the middle of
//! commands. What a seed asks follows from its number alone; when a kill hits a request does not.

mod generate;
mod provider;
mod random;
mod report;
mod seed;
mod sells;
mod site;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::model::Command;
use tokio::sync::Mutex;

use random::Random;
use report::Report;
use seed::Seed;
use site::{Fault, Site};

const BLOCK: u64 = 10;
/// Rounds of a seed. Each fault to processes comes five times, so in a block of ten it meets every kind.
const ROUNDS: usize = 25;
/// Commands of a round, the last one under a fault where the block has any.
const STEPS: usize = 9;

/// Thirty seeds: two blocks without kills and one with.
#[tokio::test(flavor = "multi_thread")]
async fn what_tollgate_answers_is_what_the_model_says_through_repeats_and_kills() {
    run(0, 30).await;
}

/// As many seeds as `TOLLGATE_SIM_SEEDS` says (500), from `TOLLGATE_SIM_FIRST` (0) on.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; run by command"]
async fn long() {
    run(number("TOLLGATE_SIM_FIRST", 0), number("TOLLGATE_SIM_SEEDS", 500)).await;
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

async fn run(first: u64, count: u64) {
    let started = Instant::now();
    let report = Arc::new(Mutex::new(Report::default()));
    let numbers: Vec<u64> = (first..first + count).collect();
    let blocks: Vec<Vec<u64>> =
        numbers.chunk_by(|a, b| a / BLOCK == b / BLOCK).map(<[u64]>::to_vec).collect();
    let (with_kills, without): (Vec<_>, Vec<_>) =
        blocks.into_iter().partition(|block| (block[0] / BLOCK) % 2 == 1);
    let mut lanes = Vec::new();
    if !without.is_empty() {
        let site = Arc::new(Site::shared().await);
        lanes.push(tokio::spawn(lane(site, without, report.clone(), count, started)));
    }
    if !with_kills.is_empty() {
        let site = Arc::new(Site::lone("sim").await);
        lanes.push(tokio::spawn(lane(site, with_kills, report.clone(), count, started)));
    }
    for lane in lanes {
        lane.await.unwrap();
    }
    let report = report.lock().await;
    report.print(started.elapsed());
    let failed = report.failures.len();
    assert_eq!(
        failed, 0,
        "{failed} of {count} seeds are not as the model says; the first:\n{}",
        report.failures[0]
    );
    if count >= 3 * BLOCK {
        assert_eq!(report.counts.never_met(), [""; 0], "kinds of commands and faults that never met");
    }
}

/// Blocks on one site, one after the other.
async fn lane(
    site: Arc<Site>,
    blocks: Vec<Vec<u64>>,
    report: Arc<Mutex<Report>>,
    count: u64,
    started: Instant,
) {
    for block in blocks {
        let (seeds, faults) = run_block(&site, &block).await;
        let mut report = report.lock().await;
        for fault in faults {
            *report.faults.entry(fault).or_default() += 1;
        }
        for seed in seeds {
            report.seeds += 1;
            report.counts.take(&seed.counts);
            if let Some(failure) = seed.failure {
                println!("\n{failure}\nits processes' log: {}", site.keep_log().display());
                report.failures.push(failure);
            }
        }
        println!(
            "{} of {count} seeds, {} commands, {} failed, {} s",
            report.seeds,
            report.counts.total(),
            report.failures.len(),
            started.elapsed().as_secs()
        );
    }
    site.audit_clean().await;
}

async fn run_block(site: &Arc<Site>, numbers: &[u64]) -> (Vec<Seed>, Vec<Fault>) {
    let mut seeds = Vec::new();
    for number in numbers {
        seeds.push(Seed::start(*number, site).await);
    }
    let mut faults = Vec::new();
    let has_kills = site.has_kills();
    for round in 0..ROUNDS {
        let steps = if has_kills { STEPS - 1 } else { STEPS };
        seeds = side_by_side(seeds, move |mut seed| async move {
            for _ in 0..steps {
                seed.step().await;
            }
            if has_kills {
                seed.settle().await;
            }
            seed
        })
        .await;
        if has_kills {
            let fault = Fault::TO_PROCESSES[round % Fault::TO_PROCESSES.len()];
            let kind_of = move |seed: &Seed| {
                let turn = round / Fault::TO_PROCESSES.len();
                let place = usize::try_from(seed.number % BLOCK).unwrap();
                let block = usize::try_from(seed.number / BLOCK).unwrap();
                Command::KINDS[(turn * 10 + place + block * 15) % Command::KINDS.len()]
            };
            seeds = side_by_side(seeds, move |mut seed| async move {
                seed.prepare(kind_of(&seed)).await;
                seed
            })
            .await;
            let suffering = suffer(site.clone(), fault, numbers[0] + u64::try_from(round).unwrap());
            let stepping = side_by_side(seeds, move |mut seed| async move {
                seed.step_under(fault, kind_of(&seed)).await;
                seed
            });
            ((), seeds) = tokio::join!(suffering, stepping);
            faults.push(fault);
        }
    }
    seeds = side_by_side(seeds, |mut seed| async move {
        seed.check_at_rest().await;
        seed.audit().await;
        seed
    })
    .await;
    (seeds, faults)
}

/// A few milliseconds into the commands.
async fn suffer(site: Arc<Site>, fault: Fault, number: u64) {
    let micros = Random::new(number).below(9_000);
    tokio::time::sleep(Duration::from_micros(micros)).await;
    site.suffer(fault).await;
}

/// Each seed in a task of its own.
async fn side_by_side<F>(seeds: Vec<Seed>, act: impl Fn(Seed) -> F) -> Vec<Seed>
where
    F: Future<Output = Seed> + Send + 'static,
{
    let running: Vec<_> = seeds.into_iter().map(|seed| tokio::spawn(act(seed))).collect();
    let mut seeds = Vec::new();
    for seed in running {
        seeds.push(seed.await.unwrap());
    }
    seeds
}
