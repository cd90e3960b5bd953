//! The HTTP server: bound, running, drained.

use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::middleware::{Condition, from_fn};
use anyhow::Context;
use ledger::Ledger;
use tenants::Tenants;

use crate::keeping_hot::keep_hot;
use crate::metrics::{api_metrics, journal_metrics};
use crate::shutdown::Stop;
use crate::wiring::Services;

/// How long accepted requests may take to finish once the server was told to stop.
const DRAIN: Duration = Duration::from_secs(8);
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what a refused client still sends is read and thrown away, so that it sees the answer.
const LINGER: Duration = Duration::from_millis(500);
const CONNECTIONS_MAX: usize = 10_000;

/// A bound API that does not answer yet.
pub(crate) struct Api {
    server: Server,
    address: SocketAddr,
    ledger: Ledger,
    tenants: Tenants,
    stop: Stop,
}

impl Api {
    /// Its requests are counted where somebody can look at the numbers.
    pub(crate) fn bind(
        services: &Services,
        listen: SocketAddr,
        is_counted: bool,
        stop: Stop,
    ) -> anyhow::Result<Api> {
        let api = api::configure(services.for_api())?;
        let http = actix_web::HttpServer::new(move || {
            let counting = Condition::new(is_counted, from_fn(api_metrics::count));
            actix_web::App::new().wrap(counting).configure(api.clone())
        })
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(LINGER)
        .max_connections(CONNECTIONS_MAX)
        .shutdown_timeout(DRAIN.as_secs())
        .disable_signals()
        .bind(listen)
        .with_context(|| format!("cannot listen on {listen}"))?;
        let address = http.addrs().first().copied().context("no address was bound")?;
        let (ledger, tenants) = (services.ledger.clone(), services.tenants.clone());
        Ok(Api { server: http.run(), address, ledger, tenants, stop })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until told to stop, then drains: first the requests, then the holds they were granted.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let Api { server, ledger, tenants, mut stop, .. } = self;
        let handle = server.handle();
        let keeping_hot = tokio::spawn(keep_hot(ledger.clone(), tenants));
        let showing = tokio::spawn(journal_metrics::show(ledger.clone()));
        let (journal_stopper, journal_stop) = crate::shutdown::Stopper::new();
        let journal = tokio::spawn(async move { ledger.run_journal(journal_stop).await });
        let draining = tokio::spawn(async move {
            // A sender that is gone means stop as well.
            let _ = stop.wait_for(|stop| *stop).await;
            handle.stop(true).await;
        });
        server.await?;
        draining.await?;
        keeping_hot.abort();
        showing.abort();
        journal_stopper.stop();
        journal.await?;
        Ok(())
    }
}
