//! The checker: compares what clients wrote down with what is stored. It shares no code with the
//! product, and its arithmetic is that of `rates` and of these files.

mod answers;
mod books;
mod events;
mod holds;
mod lists;
mod order;
mod replay;

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::history::{AccountIndex, Micros, Operation};
use crate::store::Books;
use crate::world::Customer;

pub(crate) use answers::check_balances;
pub(crate) use books::check_books;
pub(crate) use events::Events;

pub(crate) const LOST: &str = "I-31 acknowledged events that are stored (lost)";
pub(crate) const DOUBLED: &str = "I-31 events that are stored once (doubled)";
pub(crate) const RECEIPT: &str = "I-31 stored events with their acknowledged receipt";
pub(crate) const REFUSED: &str = "I-31 refused events and requests that left nothing";
pub(crate) const PHANTOM: &str = "I-31 stored events that somebody sent, as it was sent";
pub(crate) const EFFECT: &str = "I-31 stored events with their transfers";
pub(crate) const UNKNOWN: &str =
    "I-31 accounts' parts of unknown batches that are there wholly or not at all";
pub(crate) const SAME_ANSWER: &str = "I-31 the same request has the same answer";
pub(crate) const PURCHASES: &str = "I-31 acknowledged purchases that are stored and granted once";
pub(crate) const EXPECTED: &str = "answers that the request allows";
pub(crate) const FAULTS: &str = "F-3 tries that were not answered with 500";
pub(crate) const COST: &str = "I-14 events that cost rate x tokens, rounded up";
pub(crate) const ORDER: &str = "I-32 versions in the order of answer and request";
pub(crate) const REPLAY: &str = "I-33 balances that a replay gives";
pub(crate) const MONOTONIC: &str = "I-34 reads that show what the client has seen";
pub(crate) const AFTER_REDIS: &str = "I-34 the same within 2 s of a fault of Redis";
pub(crate) const LISTS: &str = "I-35 rows of lists";
pub(crate) const BOOKS: &str = "I-1 to I-5 accounts, grants and prefixes";
pub(crate) const AT_REST: &str = "I-3 balances at rest that are stored";
pub(crate) const OVER_GRANTED: &str = "R-28 authorizations within what was left";
pub(crate) const HELD: &str = "R-28 Credits held at rest by the authorizations that run";
pub(crate) const FORGOTTEN: &str = "R-29 live authorizations that were captured";
pub(crate) const MESSAGES: &str = "I-26 events that reached the tenant's server";
pub(crate) const JOBS: &str = "I-30 jobs that were not given up";
pub(crate) const VERIFY: &str = "tollgate verify";
pub(crate) const RECOVERY: &str = "G-5 recoveries within their bound";
pub(crate) const DRAINED: &str = "F-21 servers that ended within 10 s of SIGTERM";

/// How many violations of a check are told in full.
const EXAMPLES_MAX: usize = 8;

/// What a check came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) checked: u64,
    pub(crate) violations: u64,
    pub(crate) examples: Vec<String>,
}

/// What all checks came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    pub(crate) tallies: BTreeMap<&'static str, Tally>,
}

impl Findings {
    /// Counts one check, and what it found where it does not hold.
    pub(crate) fn expect(&mut self, check: &'static str, holds: bool, otherwise: impl FnOnce() -> String) {
        let tally = self.tallies.entry(check).or_default();
        tally.checked += 1;
        if !holds {
            tally.violations += 1;
            if tally.examples.len() < EXAMPLES_MAX {
                tally.examples.push(otherwise());
            }
        }
    }

    pub(crate) fn violations(&self) -> u64 {
        self.tallies.values().map(|tally| tally.violations).sum()
    }

    pub(crate) fn violations_of(&self, check: &str) -> u64 {
        self.tallies.get(check).map_or(0, |tally| tally.violations)
    }
}

/// What there is to compare.
pub(crate) struct Evidence<'a> {
    pub(crate) customers: &'a [Customer],
    /// Those of a client in the order it did them.
    pub(crate) operations: &'a [Operation],
    pub(crate) books: &'a Books,
    pub(crate) redis_faults: &'a [Micros],
}

impl Evidence<'_> {
    fn accounts(&self) -> HashMap<Uuid, AccountIndex> {
        let all = self.customers.iter().enumerate();
        all.filter_map(|(index, customer)| Some((customer.uuid()?, index))).collect()
    }
}

/// Every check over the histories and the books.
pub(crate) fn check_all(evidence: &Evidence<'_>, findings: &mut Findings) {
    check_books(evidence.books, findings);
    let events = Events::read(evidence, findings);
    events.check_stored(evidence, findings);
    answers::check(evidence, findings);
    let seen = order::seen(evidence, &events);
    order::check(&seen, findings);
    order::check_reads(evidence, &events, findings);
    let available = replay::check(evidence, &events, findings);
    holds::check(evidence, &seen, &available, findings);
    lists::check(evidence, &seen, findings);
}

#[cfg(test)]
pub(crate) mod tests;
