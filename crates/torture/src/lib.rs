//! Kills everything while clients work, and proves from their own histories that nothing was lost.
//!
//! A run starts its own PostgreSQL and Redis, two `tollgate serve` processes and a `tollgate worker`,
//! all on loopback. Clients send usage, authorizations, purchases and reads over HTTP to either
//! server, three of ten requests once more than needed, and write down what they sent, when, and what
//! was answered. A request without an answer is *unknown*: it is asked again under the same key until it
//! is known. Meanwhile the supervisor kills, freezes, empties and restarts, always by the number of a
//! process it started, with at least 32 requests in flight, and the next only when both servers serve again.
//!
//! At quiet points and at the end the checker, which shares no code with the product, reads PostgreSQL
//! by SQL of its own and compares (`check`; the numbers are those of the reliability notes):
//!
//! | check | what must hold |
//! |---|---|
//! | I-31 | an acknowledged event is there once, with the acknowledged charge; what was refused left nothing; what was unknown is there wholly or not at all, of a batch what it says of one account; the same key has the same answer |
//! | I-32 | who asked after another was answered has a higher version of the account |
//! | I-33 | replaying what was accepted, by arithmetic of our own, gives every answered balance |
//! | I-34 | a client never reads an older version than it has seen, also when Redis was just killed |
//! | I-35 | a list that is paged to its end has each row that was there throughout, once |
//! | I-1 to I-5 | the books of every account sum to zero and come of its transfers, versions 1..n |
//! | R-28 | no authorization was granted beyond what was left |
//! | I-26 | every event of a subscription reached the tenant's own server, and no job was given up |
//!
//! `cargo run --release -p torture -- --kills 300 --events 1000000` is the long run (some 25 minutes);
//! `tests/it/torture.rs` has a short one. A seed repeats the faults and the requests, not their timing:
//! the processes are real. A run in which no outcome was unknown says that it has proved nothing.

mod check;
mod client;
mod history;
mod http;
mod place;
mod process;
mod rates;
mod receiver;
mod report;
mod run;
mod store;
mod supervisor;
mod wire;
mod workload;
mod world;

pub use report::Report;
pub use run::{Options, Progress, run};
