//! Checks what is stored against the invariants of the design, parks what is damaged, and rebuilds what
//! can be recomputed.

mod finding;
pub mod jobs;
pub mod metric;
mod park;
mod rebuild;
mod recount;
mod replay;
mod rerate;
mod store;
mod sweep;
mod verify;

use catalog::Catalogs;
use db::Db;
use ledger::Ledger;
use tenants::Tenants;
use usage::Usage;

pub use finding::{Finding, Invariant};
pub use park::{ACCOUNT_PARKED, ACCOUNT_UNPARKED, Unparked};
pub use rebuild::{Difference, Rebuilt};
pub use verify::{OnStep, What};

/// The service; cheap to clone.
#[derive(Clone)]
pub struct Audit {
    pub db: Db,
    pub tenants: Tenants,
    pub catalogs: Catalogs,
    pub ledger: Ledger,
    pub usage: Usage,
}
