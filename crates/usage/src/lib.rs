//! Usage: may this request start, and what did it use?
//!
//! **Authorize** ([`Usage::authorize`]) rates the estimate on the in-memory catalogue and asks the
//! ledger for a hold: no SQL on a hit. Where a tenant lets dearer rates wait for the next cycle, and one started in the
//! last 32 days, it asks PostgreSQL once when the customer's cycle began.
//!
//! **Record** ([`Usage::record`]) is a batch, and one event is a batch of one. Concurrent requests
//! of a tenant are gathered into batches, each of the customers of one lane, and share a commit: what arrives while a batch is
//! being written is the next one, which waits a moment for those who were answered last (`gather`). A batch is one transaction:
//!
//! | step | round trips to PostgreSQL, whatever the batch's size |
//! |---|---|
//! | lock the accounts in id order, load those that are not remembered with their grants | 1 or 2 |
//! | see from when on usage is kept, where an event is older than any month that may be dropped | 0 or 2 |
//! | find the holds that events name | 0 or 1 |
//! | find when the cycles began, where dearer rates wait for the next | 0 or 1 |
//! | insert the identities that are new | 1, of a large batch 2, or 4 where not all are |
//! | read what the others were answered | 0 or 1 |
//! | keep what is not understood | 0 or 1 |
//! | insert events, add to the sums by the hour, write transfers, grants, accounts | 1, for they are sent together |
//! | write money parts, and what accrued | 0 or 2 |
//! | have a top-up bought | 0 or 1 an account |
//! | end holds | at most 2 |
//!
//! **Charge what was kept** ([`Usage::charge_kept`]): a parked account's usage is kept without a charge; once
//! it is un-parked, each such event is charged as it would have been. **Rerate** ([`Usage::rerate`]) does the same for
//! events without a rate, once a version is published.
//!
//! **Report** ([`Usage::report`]) reads the sums by the hour that each charge adds to (`hours`), so a month is
//! read without its events. Events lie in a partition a month (`open_months`), and whole months are dropped once they are
//! old enough (`drop_months`); what is older than that is refused, since nobody knows any more whether it was counted.
//!
//! **Preview** ([`Usage::preview`]) rates past usage by a catalogue that is not published, in pages, and changes
//! nothing.
//!
//! **Quarantine** ([`Usage::quarantined`], [`Usage::replay`]): an event may bring a vendor's usage object as it
//! is, with the name of its format. Of several calls each is charged in its own band (`calls`). What `domain::usage_format` does not understand is kept beside the reason,
//! and nothing is counted under its id until it is replayed or reported again.
//!
//! **Void** ([`Usage::void`]): what an event cost goes back to the grants that had paid. It stays counted, so
//! its id cannot be charged again, and is no part of the sums by the hour any more.
//!
//! **Without Credits** (`payg`, `overdraft`): where a customer pays by the token, the part of an event that no grant covers is priced
//! in money and accrues with the charge, in one more statement for the batches that have such an event. A request that the Credits
//! do not pay for asks PostgreSQL once whether it may start all the same.
//!
//! An event is acknowledged after the commit, so what was accepted is never lost, and its
//! identity is unique in the database, so it counts once.

mod alerts;
mod authorize;
mod by_model;
mod calls;
mod charge;
mod charge_kept;
mod cycle_rates;
mod drop_months;
mod gather;
mod hours;
pub mod jobs;
mod open_months;
mod overdraft;
mod payg;
mod preview;
mod quarantine;
mod read_event;
mod record;
mod report;
mod rerate;
mod store;
mod unrated;
mod void;

use std::sync::Arc;

use catalog::Catalogs;
use db::Db;
use ledger::Ledger;

pub use authorize::{AuthorizeRequest, Authorized};
pub use calls::CallReceipt;
pub use charge_kept::ChargedKept;
pub use drop_months::MonthsKept;
pub use hours::UsageSums;
pub use payg::PaygShare;
pub use preview::{Preview, PreviewSums};
pub use quarantine::QuarantinedEvent;
pub use read_event::RecordedEvent;
pub use record::{EventResult, Receipt, Reported, UsageEvent};
pub use report::{Interval, PaygSum, Report, ReportKey, ReportQuery};
pub use unrated::UnratedEvent;
pub use void::EventVoid;

/// The most events in one batch.
pub const BATCH_EVENTS_MAX: usize = 1_000;

/// What both verbs need.
struct Parts {
    db: Db,
    catalogs: Catalogs,
    ledger: Ledger,
}

/// The usage service; cheap to clone.
#[derive(Clone)]
pub struct Usage {
    parts: Arc<Parts>,
    gatherer: gather::Gatherer,
}

impl Usage {
    /// Starts gathering; needs a running tokio runtime.
    pub fn start(db: Db, catalogs: Catalogs, ledger: Ledger) -> Usage {
        let parts = Arc::new(Parts { db, catalogs, ledger });
        Usage { parts: parts.clone(), gatherer: gather::Gatherer::start(parts) }
    }
}
