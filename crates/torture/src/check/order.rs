//! The order that the clients witnessed: versions rise with it (I-32, I-34).

use std::collections::HashMap;

use super::{AFTER_REDIS, Events, Evidence, Findings, MONOTONIC, ORDER};
use crate::history::{AccountIndex, Answer, EventAnswer, Micros, Operation, Request};

/// How long after a fault of Redis a read counts as one right after it.
const RIGHT_AFTER: Micros = 2_000_000;

/// What one operation saw of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What it did, it did not do before.
    pub(crate) start: Micros,
    /// And not later.
    pub(crate) end: Micros,
    /// The lowest version that it read.
    pub(crate) lowest: i64,
    /// The lowest version that it made, where it made any.
    pub(crate) made: Option<i64>,
    pub(crate) highest: i64,
    pub(crate) what: String,
}

/// What all operations saw, by account.
pub(crate) fn seen(evidence: &Evidence<'_>, events: &Events) -> Vec<Vec<Seen>> {
    let mut by_account = vec![Vec::new(); evidence.customers.len()];
    for (index, operation) in evidence.operations.iter().enumerate() {
        if operation.is_repeat {
            // A repeat is answered as the first time.
            continue;
        }
        for (account, seen) in seen_by(index, operation, events) {
            by_account[account].push(seen);
        }
    }
    by_account
}

fn seen_by(index: usize, operation: &Operation, events: &Events) -> Vec<(AccountIndex, Seen)> {
    let (start, end) = (operation.started(), operation.ended());
    let one = |version: i64| {
        let seen =
            Seen { start, end, lowest: version, made: None, highest: version, what: describe(operation) };
        operation.account.map(|account| (account, seen)).into_iter().collect()
    };
    match &operation.answer {
        Some(Answer::Usage(results)) => seen_by_usage(index, operation, results, events),
        // Asked again after an unknown outcome, it reads the version anew.
        Some(Answer::Held { version, .. } | Answer::Released { version }) => one(*version),
        Some(
            Answer::Bought { version, .. }
            | Answer::Subscription { version, .. }
            | Answer::Balance { version, .. },
        ) => one(*version),
        Some(Answer::Refused { .. } | Answer::Listed(_) | Answer::Created { .. } | Answer::Strange(_))
        | None => Vec::new(),
    }
}

fn seen_by_usage(
    index: usize,
    operation: &Operation,
    results: &[EventAnswer],
    events: &Events,
) -> Vec<(AccountIndex, Seen)> {
    let Request::Usage(sent) = &operation.request else { return Vec::new() };
    let mut by_account: HashMap<AccountIndex, Seen> = HashMap::new();
    for (event, result) in sent.iter().zip(results) {
        let (receipt, start) = match result {
            // No try before the answered one did anything.
            EventAnswer::Accepted(receipt) | EventAnswer::Unrated(receipt) => {
                (receipt, operation.last_sent())
            }
            EventAnswer::Duplicate(receipt) => (receipt, operation.started()),
            EventAnswer::Conflict | EventAnswer::Rejected | EventAnswer::Strange => continue,
        };
        let is_new = events.known.get(&event.name).is_some_and(|known| known.operation == index);
        if !is_new {
            continue;
        }
        let version = receipt.version;
        let made = (receipt.credits > 0).then_some(version);
        let (end, what) = (operation.ended(), describe(operation));
        let new = Seen { start, end, lowest: version, made, highest: version, what };
        let seen = by_account.entry(event.account).or_insert(new);
        seen.start = seen.start.min(start);
        seen.lowest = seen.lowest.min(version);
        seen.highest = seen.highest.max(version);
        seen.made = match (seen.made, made) {
            (Some(lower), Some(version)) => Some(lower.min(version)),
            (lower, version) => lower.or(version),
        };
    }
    by_account.into_iter().collect()
}

fn describe(operation: &Operation) -> String {
    let what = match &operation.request {
        Request::Usage(events) => format!("usage of {}", events.len()),
        other => format!("{other:?}"),
    };
    format!("client {} {} {what}", operation.client, operation.key)
}

/// Whoever began after another had ended reads what that one read or later, and makes only later ones.
pub(crate) fn check(seen: &[Vec<Seen>], findings: &mut Findings) {
    for of_account in seen {
        let mut by_end: Vec<&Seen> = of_account.iter().collect();
        by_end.sort_by_key(|seen| seen.end);
        let mut by_start: Vec<&Seen> = of_account.iter().collect();
        by_start.sort_by_key(|seen| seen.start);
        let mut ended = by_end.into_iter().peekable();
        let mut latest: Option<&Seen> = None;
        for later in by_start {
            while let Some(earlier) = ended.next_if(|earlier| earlier.end < later.start) {
                if latest.is_none_or(|latest| latest.highest < earlier.highest) {
                    latest = Some(earlier);
                }
            }
            let Some(earlier) = latest else { continue };
            let holds =
                later.lowest >= earlier.highest && later.made.is_none_or(|made| made > earlier.highest);
            findings.expect(ORDER, holds, || format!("{later:?} began after {earlier:?} had ended"));
        }
    }
}

/// Each client's reads show at least what it has seen before, right after a fault of Redis too.
pub(crate) fn check_reads(evidence: &Evidence<'_>, events: &Events, findings: &mut Findings) {
    let mut latest: HashMap<(u32, AccountIndex), i64> = HashMap::new();
    for (index, operation) in evidence.operations.iter().enumerate() {
        if operation.is_repeat {
            continue;
        }
        let is_read = matches!(
            operation.request,
            Request::Balance | Request::Authorize { .. } | Request::Release { .. }
        );
        for (account, seen) in seen_by(index, operation, events) {
            let known = latest.entry((operation.client, account)).or_insert(0);
            if is_read {
                let describe = || format!("{seen:?} after version {known} was seen");
                let holds = seen.lowest >= *known;
                findings.expect(MONOTONIC, holds, describe);
                let is_right_after = |fault: &Micros| (*fault..fault + RIGHT_AFTER).contains(&seen.start);
                if evidence.redis_faults.iter().any(is_right_after) {
                    findings.expect(AFTER_REDIS, holds, describe);
                }
            }
            *known = (*known).max(seen.highest);
        }
    }
}
