//! `tollgate replay`: sends a request trace through the HTTP API, as a gateway would.
//!
//! Each request of the trace is authorized, and then its usage reported under the same id, with many
//! requests in flight. The ids follow from the trace, the customer, the model and the run's name, so
//! a run that was interrupted is simply run again: what was charged is answered as a duplicate. The
//! usage sent is always the trace's, also where the Credits left would have cut the answer short.

mod client;
mod report;
mod trace;

use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use domain::id::{CustomerId, ExternalId};
use futures_util::{StreamExt, stream};
use reqwest::Url;

use crate::shutdown::Stopper;
use client::{Authorized, Client, NoAnswer, Recorded, Request};
use report::{Closing, End, Outcome, Progress, Tally};
use trace::{RequestIds, Row, Trace};

/// Send a request trace through the HTTP API, as a gateway would
///
/// For each line an authorization, then a usage event that captures it. Interrupted and run again, it
/// charges nothing twice.
#[derive(clap::Args)]
pub struct ReplayArgs {
    /// The trace: CSV with a header, one request a line
    ///
    /// ContextTokens is the input that was not cached, GeneratedTokens the output; CacheReadTokens
    /// and CacheWriteTokens may be there too. The columns may have any order, and others are
    /// ignored. The whole file is checked before anything is sent.
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,
    /// Who pays: the id of a customer, cus_...
    #[arg(long, value_name = "ID")]
    customer: CustomerId,
    /// The model that every request of the trace asks for, such as mimo-v2-pro
    #[arg(long, value_name = "CODE")]
    model: ExternalId,
    /// Where the API is
    #[arg(long, default_value = "http://127.0.0.1:8080", value_parser = parse_url)]
    url: Url,
    /// An API key with the scopes `read` and `usage`
    #[arg(long, env = "TOLLGATE_API_KEY", hide_env_values = true)]
    key: String,
    /// Names the run. Under another name the same trace is charged once more
    #[arg(long, value_name = "NAME", default_value = "1")]
    run: String,
    /// How many requests are in flight at once
    #[arg(long, value_name = "REQUESTS", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    concurrency: u32,
    /// Send the first requests of the trace only
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let is_plain =
        matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none();
    if is_plain { Ok(url) } else { Err("not of the form http://host:port".to_owned()) }
}

/// How often a run that is not watched on a terminal says how far it is.
const TICK: Duration = Duration::from_secs(3);

/// Prints a table when all is sent, or when it is interrupted. An error if anything failed or was
/// left out; refusals for want of Credits are no failures.
pub async fn run(args: ReplayArgs) -> anyhow::Result<()> {
    let mut trace = Trace::read(&args.trace)?;
    if let Some(limit) = args.limit {
        trace.rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    let requests = trace.rows.len() as u64;
    let (stopper, stop) = Stopper::new();
    let client = Client::new(&args.url, &args.key, args.customer, stop.clone())?;
    // Whether the address, the key and the customer are right is told once, before anything is sent.
    client.balance().await.with_context(|| format!("cannot read the customer's balance at {}", args.url))?;

    let ids = RequestIds { customer: args.customer, model: &args.model, run: &args.run };
    let in_flight_max = usize::try_from(args.concurrency)?;
    let mut is_stopping = stop.clone();
    let outcomes = stream::iter(&trace.rows)
        .take_until(async move { is_stopping.wait_for(|stop| *stop).await.is_ok() })
        .map(|row| send(&client, &ids, &trace, row))
        .buffer_unordered(in_flight_max);
    let (mut outcomes, mut asked_to_stop) = (pin!(outcomes), Box::pin(stopper.asked()));
    let (mut tally, progress) = (Tally::new()?, Progress::start(requests)?);
    let mut ticks = tokio::time::interval(TICK);
    ticks.tick().await;
    let started_at = Instant::now();
    loop {
        tokio::select! {
            outcome = outcomes.next() => {
                let Some(outcome) = outcome else { break };
                tally.add(outcome);
                progress.show(&tally);
                if tally.away_in_a_row() >= u64::from(args.concurrency) && !*stop.borrow() {
                    progress.say("The API stays away: no more is sent.");
                    stopper.stop();
                }
            }
            asked = &mut asked_to_stop => {
                asked?;
                if *stop.borrow() {
                    break;
                }
                progress.say("Waiting for the requests in flight; Ctrl-C again drops them.");
                stopper.stop();
                asked_to_stop = Box::pin(stopper.asked());
            }
            _ = ticks.tick() => progress.tick(&tally),
        }
    }
    let elapsed = started_at.elapsed();
    progress.end();
    let balance = tokio::select! {
        balance = client.balance() => balance,
        _ = stopper.asked() => Err(NoAnswer::Interrupted("interrupted".to_owned())),
    };
    println!("{}", tally.table(&Closing { requests, elapsed, retries: client.retries(), balance }));
    match (tally.failed(), requests - tally.done()) {
        (0, 0) => Ok(()),
        (0, _) => bail!("interrupted; the same command sends the rest, and charges nothing twice"),
        (failed, _) => {
            bail!("{failed} requests failed; the same command tries again, and charges nothing twice")
        }
    }
}

/// Authorizes one request and, where it may start, reports its usage.
async fn send(client: &Client, ids: &RequestIds<'_>, trace: &Trace, row: &Row) -> Outcome {
    let request = Request { id: ids.of(trace, row), model: ids.model, usage: row.usage };
    let authorize = client.authorize(&request).await;
    let authorize_elapsed = authorize.elapsed;
    let refused = match authorize.answer {
        Ok(Authorized::Granted | Authorized::Before) => None,
        Ok(Authorized::OutOfCredits) => Some(End::OutOfCredits),
        Err(none) => Some(End::NoAnswer(none)),
    };
    if let Some(end) = refused {
        return Outcome { authorize_elapsed, usage_elapsed: None, end };
    }
    let record = client.record(&request).await;
    let end = match record.answer {
        Ok(Recorded::Accepted(charge)) => End::Accepted(charge),
        Ok(Recorded::Duplicate(charge)) => End::Duplicate(charge),
        Ok(Recorded::Unrated) => End::Unrated,
        Err(none) => End::NoAnswer(none),
    };
    Outcome { authorize_elapsed, usage_elapsed: record.elapsed, end }
}
