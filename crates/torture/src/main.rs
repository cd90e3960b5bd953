//! `torture`: see the crate's essay.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

/// Kill servers, stores and worker while clients work, and check that nothing was lost or doubled
///
/// Starts everything itself, on loopback. Exits with 1 where anything was violated.
#[derive(Parser)]
#[command(name = "torture", version, max_term_width = 100)]
struct Args {
    /// How many kill -9 (other faults come on top)
    #[arg(long, default_value_t = 30)]
    kills: u64,
    /// How many usage events are acknowledged at least
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    #[arg(long, default_value_t = 64)]
    clients: u32,
    /// Repeats the faults and the requests of a run; random where left out
    #[arg(long)]
    seed: Option<u64>,
    /// The server under test; the one beside this program where left out
    #[arg(long, value_name = "FILE")]
    tollgate: Option<PathBuf>,
    /// A folder for the run's servers and logs; kept where something was violated
    #[arg(long, value_name = "DIR", default_value = ".tollgate/torture")]
    dir: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { kills, events, clients, seed, tollgate, dir } = Args::parse();
    let bar = ProgressBar::new(kills);
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} kills  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_secs(1));
    let shown = bar.clone();
    let options = torture::Options {
        kills,
        events,
        clients,
        seed: seed.unwrap_or_else(|| fastrand::u64(..)),
        tollgate,
        dir,
        is_durable: true,
        waits_for_webhooks: true,
        progress: Box::new(move |kills, line| {
            shown.set_position(kills);
            shown.set_message(line.to_owned());
        }),
    };
    // Dropped half way, a run takes everything that it started with it.
    let outcome = tokio::select! {
        outcome = torture::run(options) => outcome,
        () = asked_to_stop() => Err(anyhow::anyhow!("stopped half way")),
    };
    bar.finish_and_clear();
    match outcome {
        Ok(report) => {
            println!("{report}");
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ends with SIGINT or SIGTERM.
async fn asked_to_stop() {
    let terminated = async {
        let mut signals = signal(SignalKind::terminate()).ok()?;
        signals.recv().await
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        Some(()) = terminated => {}
    }
}
