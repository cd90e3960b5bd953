//! What has to happen later: a job queue in PostgreSQL, and a clock that only enqueues.
//!
//! [`enqueue`] stores a job in the transaction that caused it: both commit or neither. A job is
//! named by (kind, key), and one with that name that is there already, done or not, is the same
//! job: so a key says which piece of work it is (an invoice, a minute), never which try.
//!
//! # The walk of a job
//! 1. A [`Worker`] claims a few due jobs whose kinds it has a handler for: one short transaction that
//!    skips rows locked by others, counts an attempt, and sets a lease.
//! 2. The handlers run, a few at a time, in transactions of their own. While one runs, its lease is
//!    renewed. A worker that died renews nothing, and when the lease is over another claims the job:
//!    so a handler may run twice, even at once, and must be idempotent on what it finds stored.
//! 3. The job is marked done; or, after an error or a panic, due again after a pause that grows from 2
//!    seconds to an hour; or, after its last failure, parked with its last error for an operator. An attempt
//!    whose worker died is no failure; after many of those it is parked too.
//!    Each of these holds only if no other worker has claimed the job since (the attempts tell).
//!
//! A [`Ticker`] inserts one job per tick and slot (a minute, an hour), however many processes tick.
//! It never works: a tick that is lost costs a minute, and whatever was due then is due still.
//!
//! Round trips: a claim is one statement in a transaction, so is the end of a job; an idle worker
//! claims twice a second. Times here are real ones, never a test clock's: a `run_at` in a tenant's
//! own time would wait for that clock's date to come about in reality.

mod claim;
mod enqueue;
mod prune;
mod settle;
mod store;
mod ticker;
mod worker;

pub use enqueue::{NewJob, enqueue};
pub use ticker::{Slot, Tick, Ticker};
pub use worker::{Handler, Options, Worker, handler};
