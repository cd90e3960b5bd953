//! The ledger: append-only double entry per customer, and the holds against it.
//!
//! Every change of Credits has five beats. [`lock`] takes the accounts' rows in id order and loads
//! their open grants; `domain::account::Account` decides and keeps a journal; [`write`] stores the
//! journal; the caller commits; [`Ledger::publish`] hands the new absolute balances to Redis. The
//! verbs of other crates call the first three inside their own transaction, so that a charge and
//! its event, or a grant and its invoice, stand or fall together.
//!
//! | beat | round trips to PostgreSQL, whatever the number of accounts |
//! |---|---|
//! | [`lock`], [`lock_for_usage`] | 2 |
//! | [`write`] | at most 4 |
//! | [`Ledger::publish`] | 0 (Redis: 1 an account) |
//! | [`Ledger::hold`] | 0 on a hit; 4 on a miss |
//!
//! A hold is granted by one atomic script in Redis, and recorded in PostgreSQL a moment later by
//! the [`journal`](Ledger::run_journal). While Redis is away it is granted and recorded in one
//! PostgreSQL transaction under the account's lock (R-36 `strict`); `hot_gate` says which of the two
//! decides, for all servers at once.

mod balance;
mod history;
mod hold;
mod hold_journal;
mod hot_gate;
mod lock;
mod open;
mod park;
mod project;
mod publish;
mod release;
mod store;
mod write;

use std::sync::Arc;

use db::Db;
use hot_balances::HotBalances;

pub use balance::{Balance, version};
pub use history::{GrantRow, TransferRow};
pub use hold::Granted;
pub use hot_balances::HoldRequest;
pub use lock::{Accounts, lock, lock_for_usage};
pub use open::{begin_clock, open};
pub use release::{FoundHold, end_holds, find_holds};
pub use write::write;

/// The ledger as a service: what needs Redis, or a transaction of its own.
#[derive(Clone)]
pub struct Ledger {
    db: Db,
    hot: HotBalances,
    journal: Arc<hold_journal::HoldJournal>,
    gate: Arc<hot_gate::HotGate>,
}

impl Ledger {
    pub fn new(db: Db, hot: HotBalances) -> Ledger {
        Ledger { db, hot, journal: Arc::default(), gate: Arc::default() }
    }

    /// Whether Redis answers; the ledger works without, at PostgreSQL's speed.
    pub async fn ping_hot(&self) -> Result<(), hot_balances::Away> {
        self.hot.ping().await
    }
}
