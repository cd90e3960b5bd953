//! What clients and supervisor share: the customers, how far the run is, and when it pauses or ends.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use uuid::Uuid;

use crate::history::{AccountIndex, Micros};
use crate::http::Site;
use crate::place::Tenant;

/// What a customer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Has more Credits than the run can spend, and much usage.
    Busy,
    /// Runs dry, upgrades, is canceled at once and comes back.
    Tight,
    /// Has little usage, so that its ledger can be read to the end.
    Small,
    /// The supervisor's: shows that a server serves.
    Probe,
}

/// A customer of the run.
#[derive(Debug, Clone)]
pub struct Customer {
    pub tenant: usize,
    pub class: Class,
    /// As the API calls it: `cus_` and 32 digits.
    pub id: String,
}

impl Customer {
    /// As PostgreSQL has it.
    pub fn uuid(&self) -> Option<Uuid> {
        Uuid::parse_str(self.id.strip_prefix("cus_")?).ok()
    }
}

/// What clients and supervisor share.
pub(crate) struct World {
    pub(crate) site: Site,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) customers: Vec<Customer>,
    /// Held by a client while it does something, and by whoever wants to have it quiet.
    pub(crate) quiet: tokio::sync::RwLock<()>,
    pub(crate) counts: Counts,
    /// Events that should be acknowledged by now: the load is spread over the run.
    pub(crate) events_wanted: AtomicU64,
    pub(crate) is_over: AtomicBool,
    /// When clients stop asking for an answer that they have not got.
    pub(crate) give_up_at: AtomicU64,
    /// When Redis was last killed, frozen or emptied.
    pub(crate) redis_faults: Mutex<Vec<Micros>>,
}

/// For the line of progress.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) events: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) unknown: AtomicU64,
}

impl World {
    pub(crate) fn new(site: Site, tenants: Vec<Tenant>) -> World {
        World {
            site,
            tenants,
            customers: Vec::new(),
            quiet: tokio::sync::RwLock::new(()),
            counts: Counts::default(),
            events_wanted: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            give_up_at: AtomicU64::new(u64::MAX),
            redis_faults: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.counts.events.load(Ordering::Relaxed) < self.events_wanted.load(Ordering::Relaxed)
    }

    pub(crate) fn has_given_up(&self) -> bool {
        self.site.now() > self.give_up_at.load(Ordering::Relaxed)
    }

    /// The customers of a class, of one tenant or of all.
    pub(crate) fn of_class(&self, class: Class, tenant: Option<usize>) -> Vec<AccountIndex> {
        let all = self.customers.iter().enumerate();
        let wanted = all.filter(|(_, customer)| {
            customer.class == class && tenant.is_none_or(|tenant| customer.tenant == tenant)
        });
        wanted.map(|(index, _)| index).collect()
    }
}
