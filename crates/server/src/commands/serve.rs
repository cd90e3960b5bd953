//! `tollgate serve`

use crate::config;
use crate::metrics::Metrics;
use crate::serving::Api;
use crate::shutdown::Stopper;
use crate::wiring::{For, Services};

/// Run the HTTP API
///
/// Any number of them may run at once. Stops within 10 seconds of SIGTERM, after what it has accepted
/// is answered.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: config::Common,
    #[command(flatten)]
    listen: config::Listen,
    #[command(flatten)]
    metrics: config::MetricsListen,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    config::start_logging()?;
    let metrics = Metrics::bind(args.metrics.metrics_listen)?;
    let services = Services::new(&args.common.settings()?, For::Requests)?;
    services.check_login().await?;
    let (stopper, stop) = Stopper::new();
    let api = Api::bind(&services, args.listen.listen, metrics.is_some(), stop)?;
    let metrics = metrics.map(Metrics::start);
    println!("Tollgate listens on http://{}", api.address());
    let serving = tokio::spawn(api.run());
    stopper.asked().await?;
    stopper.stop();
    let served = serving.await?;
    if let Some(metrics) = metrics {
        metrics.stop(true).await;
    }
    served
}
