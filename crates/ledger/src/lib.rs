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
//! | [`lock`], [`lock_for_void`] | 2 |
//! | [`lock_for_usage`] | 1 where all accounts are as this server left them (`remembered`), else 2 |
//! | [`write`] | 1; where who is suspended or what is accrued changes too, more |
//! | [`Ledger::publish`] | 0 (Redis: 1 for some dozens of accounts) |
//! | [`Ledger::hold`], [`Ledger::renew`] | 0 on a hit; on a miss 3 to 8, most often shared by all that are missed at the time |
//!
//! A hold is granted by one atomic script in Redis, and recorded in PostgreSQL a moment later by
//! the [`journal`](Ledger::run_journal), packed into one row a flush: while Redis has the hold nobody
//! looks for it there. When Redis has lost it, the packed ones are read again (`recovered`). While Redis
//! is away a hold is granted and recorded in one PostgreSQL transaction under the account's lock (R-36
//! `strict`); `hot_gate` says which of the two decides, for all servers at once.

mod adopt;
mod as_of;
mod balance;
mod history;
mod hold;
mod hold_journal;
mod hot_gate;
mod load;
mod lock;
mod movements;
mod open;
mod overflow;
mod packed;
mod paid_cycle;
mod park;
mod project;
mod prune_holds;
mod publish;
mod recorded_holds;
mod recovered;
mod refill;
mod release;
mod remembered;
mod renew;
mod retell;
mod store;
mod sweep;
mod used_up;
mod write;

use std::sync::Arc;

use db::Db;
use hot_balances::HotBalances;

pub use as_of::{AsOf, PastBalance};
pub use balance::{Balance, version};
pub use history::{GrantRow, TransferRow, charged, grant, revoked};
pub use hold::{Decision, Granted, Short};
pub use hot_balances::HoldRequest;
pub use lock::{Accounts, lock, lock_for_usage, lock_for_void};
pub use movements::{Cut, Movements};
pub use open::{begin_clock, open};
pub use overflow::{SetOverflow, overflow, set_overflow};
pub use paid_cycle::paid_cycle_starts;
pub use park::{park, unpark};
pub use publish::{EndedHolds, News};
pub use refill::Refill;
pub use release::{
    Changing, FoundHold, FoundHolds, LOOKS_MAX, Looked, end_holds, find_holds, still_changing,
};
pub use remembered::Writer;
pub use sweep::Swept;
pub use used_up::is_used_up;
pub use write::write;

/// The ledger as a service: what needs Redis, or a transaction of its own.
#[derive(Clone)]
pub struct Ledger {
    db: Db,
    hot: HotBalances,
    journal: Arc<hold_journal::HoldJournal>,
    gate: Arc<hot_gate::HotGate>,
    loads: Arc<load::Loads>,
    retelling: Arc<retell::Retelling>,
    recovered: Arc<recovered::Recovered>,
    remembered: Arc<remembered::Remembered>,
}

impl Ledger {
    pub fn new(db: Db, hot: HotBalances) -> Ledger {
        Ledger {
            db,
            hot,
            journal: Arc::default(),
            gate: Arc::default(),
            loads: Arc::default(),
            retelling: Arc::default(),
            recovered: Arc::default(),
            remembered: Arc::default(),
        }
    }

    /// Whether Redis answers; the ledger works without, at PostgreSQL's speed.
    pub async fn ping_hot(&self) -> Result<(), hot_balances::Away> {
        self.hot.ping().await
    }
}
