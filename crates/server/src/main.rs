//! `tollgate`, the one binary: reads the configuration, wires the services, runs a command.
//!
//! No rule lives here. `config` is the only place in Tollgate that reads the environment.

mod commands;
mod config;
mod keeping_hot;
mod metrics;
mod replay;
mod secrets;
mod serving;
mod shutdown;
mod wiring;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

/// The allocator that the benchmarks were measured with: nearly every step of a request allocates.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A billing backend for AI-model APIs that are sold by token plan.
#[derive(Parser)]
#[command(name = "tollgate", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Dev(commands::dev::Args),
    Serve(commands::serve::Args),
    Worker(commands::worker::Args),
    Migrate(commands::migrate::Args),
    /// Create and list tenants, issue and revoke their API keys
    #[command(subcommand)]
    Tenant(commands::tenant::Command),
    /// Check a catalogue file, load it for a tenant, or print the reference catalogue
    #[command(subcommand)]
    Catalog(commands::catalog::Command),
    /// Set and show a tenant's account at the payment provider
    #[command(subcommand)]
    Provider(commands::provider::Command),
    Rollover(commands::rollover::Args),
    Verify(commands::verify::Args),
    Unpark(commands::unpark::Args),
    Rebuild(commands::rebuild::Args),
    Replay(replay::ReplayArgs),
    Openapi(commands::openapi::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            // With its causes, and without the backtrace that anyhow would add.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Verify(args) => return commands::verify::run(args).await,
        Command::Unpark(args) => return commands::unpark::run(args).await,
        Command::Rebuild(args) => return commands::rebuild::run(args).await,
        Command::Dev(args) => commands::dev::run(args).await?,
        Command::Serve(args) => commands::serve::run(args).await?,
        Command::Worker(args) => commands::worker::run(args).await?,
        Command::Migrate(args) => commands::migrate::run(args).await?,
        Command::Tenant(command) => commands::tenant::run(command).await?,
        Command::Catalog(command) => commands::catalog::run(command).await?,
        Command::Provider(command) => commands::provider::run(command).await?,
        Command::Rollover(args) => commands::rollover::run(args).await?,
        Command::Replay(args) => replay::run(args).await?,
        Command::Openapi(args) => commands::openapi::run(args)?,
    }
    Ok(ExitCode::SUCCESS)
}
