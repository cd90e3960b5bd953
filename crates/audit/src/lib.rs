//! Checks what is stored against the invariants of the design, parks what is damaged, and rebuilds what
//! can be recomputed.
//!
//! - **verify** ([`Audit::verify`]): each invariant is one query or more that return no row when all is well,
//!   in `store/i*.rs`, a constant a query, named by its number; what needs the rules' own arithmetic is
//!   recomputed from pages of rows, in `replay`, `rerate` and `recount`. Each query and each page is a
//!   snapshot of its own.
//! - **park, unpark** ([`Audit::park`], [`Audit::unpark`]): an account that a finding names spends nothing
//!   until it verifies again.
//! - **rebuild** ([`Audit::rebuild`]): balances from transfers alone.
//! - **sweep** ([`Audit::sweep_all`]): what Redis has, against PostgreSQL.
//!
//! As jobs, a worker verifies each tenant every hour and sweeps every minute.
//!
//! | invariant | where it is checked |
//! |---|---|
//! | I-1 | `I01_TRANSFERS`: amount, books and grant of each transfer, by its cause |
//! | I-2 | `I02_BOOKS`: an account's books come to zero. There are no clearing accounts: money is not in this ledger |
//! | I-3 | `I03_BALANCES`, `I03_VERSIONS` |
//! | I-4 | `I04_GRANTS` |
//! | I-5 | `replay`: every prefix |
//! | I-6 | `I06_HOLDS`: one end, by one event, before the expiry. That none was granted beyond what was available, stored rows cannot show: a hold does not say at which version it was granted. The tests count it from outside |
//! | I-7 | `replay` and `I07_CHAIN_HEAD`: the hash chain; `I07_PRIVILEGES`: who may change transfers. That an earlier export is a prefix of a later one takes two exports |
//! | I-8 | `I08_REVERSALS` |
//! | I-9 | `I09_CAUSES`, `I09_EVENTS`, `I09_PURCHASES`: both ways |
//! | I-10 | `replay`: recorded time; `I10_ACCOUNTS`, `I10_HOLDS` |
//! | I-11 | `I11_COLUMNS` |
//! | I-12 | `I12_IDENTITIES`, `I12_EFFECTS`; `rerate`: each identity from its source and id. What a conflict said is not stored |
//! | I-13 | `I13_SUMS`, `I13_RECEIPTS`, `I13_HOURS`; `I13_MONEY`: what is paid by the token |
//! | I-14 | `rerate` |
//! | I-15, I-16 | `replay`. The receipt's instant is stored to within ten seconds; nothing that hangs on less is called wrong |
//! | I-17 | `I17_EXPIRIES`, `I17_CLOSED`, `I17_ENDS`; `replay`: an expiry takes all that is left |
//! | I-18 | `I18_LIVE`, `I18_CONTIGUOUS`; `recount`: each cycle from the anchor. With another edition of the time zones old cycles may come out otherwise |
//! | I-19 | `I19_NUMBERS`, `I19_CURRENT` |
//! | I-20 | `I20_GRANTS`, `I20_PURCHASES`; `I20_CYCLES`: what a year pays for cycle by cycle, and what is carried over |
//! | I-21 | `recount`: each purchase from the catalogue. Of prorated upgrades only that the rank rises: at which instant one was priced is not stored; of the first part of a calendar month only while it is the current cycle |
//! | I-22 | `I22_PROMOTIONS` |
//! | I-23 | `I23_STATUSES`: by the events; `I23_HISTORY`: each edge and its cause; `I23_DUNNINGS`: an unpaid renewal and its payments |
//! | I-24 | `I24_INVOICES`, `I24_NUMBERS`, `I24_CURRENCIES`; `I24_CREDIT_NOTES`: refunds |
//! | I-25 | `I24_INVOICES` (one payment an invoice), `I25_EFFECTS`. The sandbox sends no events of its own |
//! | I-26 | `I26_CHANGES`, `I26_EVENTS`. Of usage no event is sent |
//! | I-27 | the sweep: [`ledger::Swept`] |
//! | I-28 | `I28_PARENTS`, `I28_TENANTS`, `I28_KEYS` |
//! | I-29 | not yet: the sandbox keeps no payments to compare with |
//! | I-30 | `I30_EARLY`; `I30_LATE`, for tenants in real time, which is no damage and parks nobody |

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
pub use usage::ChargedKept;
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
