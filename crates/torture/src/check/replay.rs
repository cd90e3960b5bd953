//! Replays what was accepted, in the order of versions, and compares every answered balance (I-33).

use std::collections::BTreeMap;

use super::{Events, Evidence, Findings, REPLAY};
use crate::history::{AccountIndex, Answer, Receipt};
use crate::store::TransferRow;

/// What an account had available after each version, by the replay.
pub(crate) type Available = BTreeMap<i64, i64>;

/// One step of an account's life.
enum Step {
    Granted(i64),
    /// What a cancel took from one grant.
    Revoked(i64),
    Charged(Receipt),
}

/// The pool by hand: grants are emptied in the order they came, what is missing is overage.
#[derive(Default)]
struct Pool {
    grants: Vec<i64>,
    version: i64,
}

impl Pool {
    fn available(&self) -> i64 {
        self.grants.iter().sum()
    }

    /// Returns the overage.
    fn charge(&mut self, credits: i64) -> i64 {
        let mut left = credits;
        for grant in &mut self.grants {
            let drawn = left.min(*grant);
            if drawn > 0 {
                *grant -= drawn;
                left -= drawn;
                self.version += 1;
            }
        }
        if left > 0 {
            self.version += 1;
        }
        left
    }
}

/// Replays every account; returns what was available after each version.
pub(crate) fn check(evidence: &Evidence<'_>, events: &Events, findings: &mut Findings) -> Vec<Available> {
    let steps = steps(evidence, events);
    let available: Vec<Available> =
        steps.into_iter().enumerate().map(|(account, steps)| replay(account, steps, findings)).collect();
    check_reads(evidence, events, &available, findings);
    available
}

/// Purchases and cancels as they are stored, usage as it was acknowledged; by account and version.
fn steps(evidence: &Evidence<'_>, events: &Events) -> Vec<BTreeMap<i64, Step>> {
    let mut steps: Vec<BTreeMap<i64, Step>> = evidence.customers.iter().map(|_| BTreeMap::new()).collect();
    for (index, customer) in evidence.customers.iter().enumerate() {
        let transfers = customer.uuid().and_then(|uuid| evidence.books.transfers.get(&uuid));
        for TransferRow { version, cause_kind, credits, .. } in transfers.into_iter().flatten() {
            match cause_kind.as_str() {
                "purchase" => drop(steps[index].insert(*version, Step::Granted(*credits))),
                "cancel" => drop(steps[index].insert(*version, Step::Revoked(*credits))),
                _ => {}
            }
        }
    }
    let mut charge = |account: AccountIndex, receipt: Receipt| {
        if receipt.credits > 0 {
            steps[account].insert(receipt.version, Step::Charged(receipt));
        }
    };
    for known in events.known.values() {
        if let Some(receipt) = known.receipt {
            charge(known.sent.account, receipt);
        }
    }
    // What was never answered is taken as it is stored.
    for row in &evidence.books.events {
        let known = row.name.and_then(|name| events.known.get(&name));
        if let Some(known) = known.filter(|known| known.receipt.is_none() && known.is_open) {
            let receipt = Receipt {
                credits: row.credits,
                overage: row.overage,
                balance_after: row.balance_after,
                version: row.version,
                is_unrated: row.is_unrated,
                hold: crate::history::HoldUse::NotNamed,
                draws: row.draws,
            };
            charge(known.sent.account, receipt);
        }
    }
    steps
}

fn replay(account: AccountIndex, steps: BTreeMap<i64, Step>, findings: &mut Findings) -> Available {
    let mut pool = Pool::default();
    let mut available = Available::from([(0, 0)]);
    for (version, step) in steps {
        let mut overage = 0;
        match &step {
            Step::Granted(credits) => {
                pool.grants.push(*credits);
                pool.version += 1;
            }
            Step::Revoked(credits) => {
                // A cancellation takes all grants of a subscription, in no order that is promised.
                let one = pool.grants.iter_mut().find(|grant| *grant == credits);
                let is_left = one.map(std::mem::take).is_some();
                pool.version += 1;
                findings.expect(REPLAY, is_left, || {
                    format!("account {account}: {credits} revoked, where {:?} were left", pool.grants)
                });
            }
            Step::Charged(receipt) => overage = pool.charge(receipt.credits),
        }
        let left = pool.available();
        if let Step::Charged(receipt) = &step {
            let is_right = receipt.overage == overage && receipt.balance_after == left;
            findings.expect(REPLAY, is_right, || {
                format!("account {account}: {left} left and {overage} overage by hand, but {receipt:?}")
            });
        }
        findings.expect(REPLAY, pool.version == version, || {
            format!("account {account}: version {version}, where the replay has {}", pool.version)
        });
        // One difference is one violation.
        pool.version = version;
        available.insert(version, left);
    }
    available
}

/// What was available at a version: after the last step at or before it. The versions within one
/// charge are seen by nobody.
pub(crate) fn at(available: &Available, version: i64) -> i64 {
    available.range(..=version).next_back().map_or(0, |(_, credits)| *credits)
}

/// Balances that were read, and those that free and unrated events were answered with.
fn check_reads(evidence: &Evidence<'_>, events: &Events, available: &[Available], findings: &mut Findings) {
    for operation in evidence.operations {
        if let (Some(account), Some(Answer::Balance { version, settled, held, available: left })) =
            (operation.account, &operation.answer)
        {
            let expected = at(&available[account], *version);
            let is_right = *settled == expected && *left == (settled - held).max(0);
            findings.expect(REPLAY, is_right, || {
                format!(
                    "account {account}: {expected} at version {version} by hand, but {:?}",
                    operation.answer
                )
            });
        }
    }
    for known in events.known.values() {
        let Some(receipt) = known.receipt.filter(|receipt| receipt.credits == 0) else { continue };
        let expected = at(&available[known.sent.account], receipt.version);
        findings.expect(REPLAY, receipt.balance_after == expected, || {
            format!("{}: {expected} by hand, but {receipt:?}", known.sent.name)
        });
    }
}
