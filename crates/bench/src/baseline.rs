//! The baseline: a bare actix-web handler, JSON in and JSON out on 2 workers, that runs one hold script
//! on Redis a request. No key, no tenant, no price list, no record of the hold: what a holding service
//! on this stack cannot do without.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::error::ErrorInternalServerError;
use actix_web::web::{Data, Json};
use actix_web::{App, HttpResponse, HttpServer, post};
use redis::aio::MultiplexedConnection;
use redis::{Client, Script};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

const WORKERS: usize = 2;
const HOLD_MS: u64 = 15 * 60 * 1_000;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long, value_name = "URL")]
    redis_url: String,
}

/// One worker's connection, made with its first request, and the script.
struct Worker {
    client: Client,
    connection: OnceCell<MultiplexedConnection>,
    script: Script,
}

#[derive(Deserialize)]
struct Ask {
    id: String,
    customer: String,
    credits: i64,
}

#[derive(Serialize)]
struct Held {
    id: String,
    customer: String,
    credits_held: i64,
    expires_at_ms: u64,
}

#[derive(Serialize)]
struct Refused {
    id: String,
    credits_needed: i64,
}

/// Serves until it is killed; says its address on standard output.
pub(crate) async fn serve(args: Args) -> anyhow::Result<()> {
    let client = Client::open(args.redis_url)?;
    let server = HttpServer::new(move || {
        let script = Script::new(include_str!("baseline/hold.lua"));
        let worker = Worker { client: client.clone(), connection: OnceCell::new(), script };
        App::new().app_data(Data::new(worker)).service(hold)
    })
    .workers(WORKERS)
    .bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    for address in server.addrs() {
        println!("The baseline listens on http://{address}");
    }
    Ok(server.run().await?)
}

#[post("/hold")]
async fn hold(worker: Data<Worker>, ask: Json<Ask>) -> actix_web::Result<HttpResponse> {
    let Ask { id, customer, credits } = ask.into_inner();
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_err(ErrorInternalServerError)?.as_millis();
    let expires_at_ms = u64::try_from(now_ms).map_err(ErrorInternalServerError)? + HOLD_MS;
    let connecting = worker.connection.get_or_try_init(|| worker.client.get_multiplexed_async_connection());
    let mut connection = connecting.await.map_err(ErrorInternalServerError)?.clone();
    let mut call = worker.script.prepare_invoke();
    call.key(balance_key(&customer))
        .key(format!("{{{customer}}}:holds"))
        .key(format!("{{{customer}}}:expiry"));
    call.arg(&id).arg(credits).arg(expires_at_ms);
    let is_held: i64 = call.invoke_async(&mut connection).await.map_err(ErrorInternalServerError)?;
    Ok(if is_held == 1 {
        HttpResponse::Created().json(Held { id, customer, credits_held: credits, expires_at_ms })
    } else {
        HttpResponse::PaymentRequired().json(Refused { id, credits_needed: credits })
    })
}

/// The hash that holds a customer's balance.
pub(crate) fn balance_key(customer: &str) -> String {
    format!("{{{customer}}}:account")
}

/// Gives each customer a balance.
pub(crate) async fn fill(redis_url: &str, customers: &[String], credits: i64) -> anyhow::Result<()> {
    let mut connection = Client::open(redis_url)?.get_multiplexed_async_connection().await?;
    for chunk in customers.chunks(1_000) {
        let mut sets = redis::pipe();
        for customer in chunk {
            sets.hset(balance_key(customer), "balance", credits).ignore();
        }
        sets.query_async::<()>(&mut connection).await?;
    }
    Ok(())
}
