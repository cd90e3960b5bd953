//! Numbers for whoever watches, as Prometheus reads them, on an address of their own: never the API's,
//! which the world can reach.

use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Context;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Counts from here on, and serves what was counted at `/metrics`.
pub(crate) struct Metrics {
    server: Server,
    address: SocketAddr,
}

/// How often what nobody has asked for is put together, so that it does not pile up.
const UPKEEP_EVERY: Duration = Duration::from_secs(30);

impl Metrics {
    /// Without an address nothing is counted, and it costs nothing.
    pub(crate) fn bind(listen: Option<SocketAddr>) -> anyhow::Result<Option<Metrics>> {
        let Some(listen) = listen else { return Ok(None) };
        let handle = PrometheusBuilder::new().install_recorder().context("metrics are recorded twice")?;
        audit::metric::describe();
        api_metrics::describe();
        journal_metrics::describe();
        let upkeep = handle.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP_EVERY).await;
                upkeep.run_upkeep();
            }
        });
        let app = move || {
            App::new().app_data(web::Data::new(handle.clone())).route("/metrics", web::get().to(render))
        };
        let http = HttpServer::new(app)
            .workers(1)
            .disable_signals()
            .bind(listen)
            .with_context(|| format!("cannot listen on {listen} for metrics"))?;
        let address = http.addrs().first().copied().context("no address was bound")?;
        Ok(Some(Metrics { server: http.run(), address }))
    }

    /// Answers until the handle stops it.
    pub(crate) fn start(self) -> ServerHandle {
        eprintln!("Metrics are on http://{}/metrics", self.address);
        let handle = self.server.handle();
        tokio::spawn(self.server);
        handle
    }
}

async fn render(handle: web::Data<PrometheusHandle>) -> HttpResponse {
    HttpResponse::Ok().insert_header(ContentType::plaintext()).body(handle.render())
}

/// How long the oldest granted hold has been waiting to be recorded.
pub(crate) mod journal_metrics {
    use std::time::Duration;

    use ledger::Ledger;
    use metrics::{describe_gauge, gauge};

    const OLDEST: &str = "tollgate_oldest_unrecorded_hold_seconds";
    const LOOK_EVERY: Duration = Duration::from_secs(1);

    pub(crate) fn describe() {
        describe_gauge!(OLDEST, "How long the oldest granted hold has been waiting to be recorded");
    }

    /// Goes on until it is dropped.
    pub(crate) async fn show(ledger: Ledger) {
        loop {
            let oldest = ledger.oldest_unrecorded_hold().unwrap_or_default();
            gauge!(OLDEST).set(oldest.as_secs_f64());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Requests by route and status.
pub(crate) mod api_metrics {
    use actix_web::Error;
    use actix_web::body::MessageBody;
    use actix_web::dev::{ServiceRequest, ServiceResponse};
    use actix_web::middleware::Next;
    use metrics::{counter, describe_counter};

    const REQUESTS: &str = "tollgate_requests_total";

    pub(crate) fn describe() {
        describe_counter!(REQUESTS, "Requests by method, route and status");
    }

    /// Counts a request once it is answered.
    pub(crate) async fn count(
        request: ServiceRequest,
        next: Next<impl MessageBody>,
    ) -> Result<ServiceResponse<impl MessageBody>, Error> {
        let answer = next.call(request).await?;
        let request = answer.request();
        // The route's pattern, never the path: ids are no labels.
        let route = request.match_pattern().unwrap_or_else(|| "none".to_owned());
        let (method, status) = (request.method().as_str().to_owned(), answer.status().as_u16().to_string());
        counter!(REQUESTS, "method" => method, "route" => route, "status" => status).increment(1);
        Ok(answer)
    }
}
