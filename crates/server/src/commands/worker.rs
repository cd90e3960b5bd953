//! `tollgate worker`

use crate::config;
use crate::metrics::Metrics;
use crate::shutdown::Stopper;
use crate::wiring::{For, Services};

/// Run the worker and the scheduler: renewals, expiries, payments that were cut off
///
/// Any number of them may run at once: each piece of work is done once. Stops on SIGTERM, after the
/// running jobs have ended.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: config::Common,
    #[command(flatten)]
    metrics: config::MetricsListen,
    /// Months of usage that are kept besides the present one, at least 2; older events are dropped, with their receipts.
    /// All are kept without. The ledger stays, and so do the reports by the hour
    #[arg(long, env = "TOLLGATE_USAGE_MONTHS_KEPT", value_name = "MONTHS")]
    usage_months_kept: Option<usage::MonthsKept>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    config::start_logging()?;
    let metrics = Metrics::bind(args.metrics.metrics_listen)?.map(Metrics::start);
    let services = Services::new(&args.common.settings()?, For::Jobs)?;
    services.check_login().await?;
    let (stopper, stop) = Stopper::new();
    let working = tokio::spawn(async move { services.work(args.usage_months_kept, stop).await });
    tracing::info!("working");
    stopper.asked().await?;
    stopper.stop();
    let worked = working.await?;
    if let Some(metrics) = metrics {
        metrics.stop(true).await;
    }
    worked
}
