//! A customer's month by model and day, with a million events stored and with ten.

use std::path::PathBuf;
use std::time::Duration;

use crate::compare::{HttpTurn, alternate, float};
use crate::load::Pace;
use crate::product;
use crate::requests::{Random, Requests};
use crate::store;
use crate::world::{World, names};

const CUSTOMERS: usize = 10_000;
const POOL: i64 = 1_000_000_000;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Events that are stored the first time
    #[arg(long, default_value_t = 1_000_000)]
    few: i64,
    /// And the second time
    #[arg(long, default_value_t = 10_000_000)]
    many: i64,
    /// Rounds of each
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of a turn
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// The product's program [default: tollgate beside this program]
    #[arg(long, value_name = "FILE")]
    tollgate: Option<PathBuf>,
}

/// Asks for one customer's month after the other's.
struct Months<'a> {
    key: &'a str,
    customers: &'a [String],
    random: Random,
}

impl Requests for Months<'_> {
    fn write_next(&mut self, bytes: &mut Vec<u8>) -> u64 {
        let customer = self.random.of(self.customers);
        let request = format!(
            "GET /v1/customers/{customer}/usage?interval=day&group_by=model HTTP/1.1\r\nhost: 127.0.0.1\r\n\
             authorization: Bearer {}\r\n\r\n",
            self.key
        );
        bytes.extend_from_slice(request.as_bytes());
        0
    }

    fn is_right(&self, _: u64, status: u16, body: &[u8]) -> bool {
        status == 200 && std::str::from_utf8(body).is_ok_and(|body| body.contains(r#""model":"mimo-v2-pro""#))
    }
}

/// `bench month`
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let world = World::start().await?;
    let customers = names(&world.add_customers(CUSTOMERS, POOL).await?);
    let server = world.serve_product(&product::tollgate(args.tollgate.as_ref())?)?;
    let mut admin = store::connect(&world.postgres_url("tollgate")).await?;
    let turn = HttpTurn {
        address: server.address,
        processes: world.processes(Some(server.pid())),
        connections: 1,
        pace: Pace::Closed,
        window: Duration::from_secs(args.seconds),
        batch: 1,
    };
    let mut medians = Vec::new();
    let mut stored = 0;
    for events in [args.few, args.many] {
        store::add_month(&mut admin, world.tenant, stored, events).await?;
        stored = events;
        println!("\nA customer's month by model and day, one request at a time, {events} events stored");
        let ask = |round: u32| {
            let random = Random::new(u64::from(round));
            turn.take(&mut Months { key: &world.key, customers: &customers, random })
        };
        let rounds = alternate(args.rounds, vec![("month", Box::new(ask))])?;
        medians.push(rounds.median(0, |turn| float(turn.p50_us)));
        let worst = rounds.median(0, |turn| float(turn.p99_us));
        println!("p99 {:.1} ms; goal 50 ms", worst / 1_000.0);
    }
    println!(
        "\nmedian with {} / with {} events: {:.2}; goal 3",
        args.many,
        args.few,
        medians[1] / medians[0]
    );
    Ok(())
}
