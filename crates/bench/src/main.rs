//! `bench`: the product beside a baseline, on one machine, in one run.
//!
//! A rate says little on a shared machine, so everything is a ratio: two sides take turns for a few
//! seconds each, and what is printed is the median of the rounds' ratios, beside the CPU time that an
//! operation costs each side. Nothing is asserted; the goals are printed for comparison.
//!
//! The servers are private ones of this run's own, and gone when it ends. The load generator
//! ([`load`]) is the same for both sides and lean: it shares the cores with what it measures.

#![allow(clippy::float_arithmetic, reason = "ratios and rates of measurements; no amount is a float here")]

mod authorize;
mod baseline;
mod compare;
mod cpu;
mod ingest;
mod load;
mod month;
mod pgbench;
mod product;
mod rebuild;
mod requests;
mod store;
mod transfers;
mod world;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Benchmarks of Tollgate beside baselines, as ratios of one run.
#[derive(Parser)]
#[command(name = "bench", arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Authorizations on spread accounts, beside a bare handler with one script call
    Authorize(RunArgs),
    /// One account hit by 64 connections, beside 10,000 accounts hit by 64
    HotAccount(RunArgs),
    /// Refused authorizations beside granted ones
    Denied(RunArgs),
    /// Redis emptied under load: until every account is back
    Rebuild(rebuild::Args),
    /// Transfers in batches and one by one, beside pgledger and pgbench
    Ledger(transfers::Args),
    /// Usage events in batches and one by one, beside the same rows in bare SQL and by COPY
    Ingest(ingest::Args),
    /// A customer's month by model and day, with few and with many events stored
    Month(month::Args),
    /// The baseline's server; the other commands start it
    #[command(hide = true)]
    Baseline(baseline::Args),
}

/// How long and how often.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct RunArgs {
    /// Rounds; in each both sides take a turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a turn, after a warm-up
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// The product's program [default: tollgate beside this program]
    #[arg(long, value_name = "FILE")]
    tollgate: Option<PathBuf>,
    /// Leave out the open loop at half the baseline's rate
    #[arg(long)]
    no_open_loop: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Authorize(args) => authorize::authorize(args).await,
        Command::HotAccount(args) => authorize::hot_account(args).await,
        Command::Denied(args) => authorize::denied(args).await,
        Command::Rebuild(args) => rebuild::run(args).await,
        Command::Ledger(args) => transfers::run(args).await,
        Command::Ingest(args) => ingest::run(args).await,
        Command::Month(args) => month::run(args).await,
        Command::Baseline(args) => baseline::serve(args).await,
    }
}
