//! Authorizations: never beyond what was left, and captured by the usage that names them.
//!
//! Only what is certain counts: a hold lives surely from its answer until somebody begins to end it, and
//! what was left is at most the highest balance of any version that may have been in force.

use std::collections::HashMap;

use super::order::Seen;
use super::replay::{Available, at};
use super::{Evidence, FORGOTTEN, Findings, HELD, OVER_GRANTED};
use crate::history::{AccountIndex, Answer, EventAnswer, HoldUse, Micros, Name, Request};

/// A hold surely lives for less than its 15 minutes.
const LIFE_CERTAIN: Micros = 890_000_000;
/// And is surely over after them.
const LIFE_MAX: Micros = 905_000_000;
/// The client that reads balances while everything rests.
const OBSERVER: u32 = 0;

/// What is known of one authorization.
#[derive(Debug, Clone)]
struct Life {
    account: AccountIndex,
    /// `None` where no grant was answered, but a try without an answer may have been granted.
    credits: Option<i64>,
    /// No more than these, then.
    estimate: i64,
    sent: Micros,
    /// When its grant, or the last answer, came.
    answered: Micros,
    /// When somebody began to end it.
    ending: Micros,
    /// When that was answered.
    ended: Micros,
}

/// When a plan may have been canceled at once: the holds of its cycle may count no more.
type Cancels = Vec<Vec<(Micros, Micros)>>;

pub(crate) fn check(
    evidence: &Evidence<'_>,
    seen: &[Vec<Seen>],
    available: &[Available],
    findings: &mut Findings,
) {
    let lives = lives(evidence, findings);
    let cancels = cancels(evidence);
    let mut by_account: Vec<Vec<&Life>> = evidence.customers.iter().map(|_| Vec::new()).collect();
    for life in lives.values() {
        by_account[life.account].push(life);
    }
    for (account, mut holds) in by_account.into_iter().enumerate() {
        holds.sort_by_key(|life| life.sent);
        check_account(account, &holds, &cancels[account], &seen[account], &available[account], findings);
        check_at_rest(evidence, account, &holds, &cancels[account], findings);
    }
}

fn lives(evidence: &Evidence<'_>, findings: &mut Findings) -> HashMap<Name, Life> {
    let mut lives: HashMap<Name, Life> = HashMap::new();
    for operation in evidence.operations {
        let (Request::Authorize { hold, estimate }, Some(account)) = (&operation.request, operation.account)
        else {
            continue;
        };
        let credits = match &operation.answer {
            Some(Answer::Held { credits, .. }) => Some(*credits),
            None => None,
            // A try that was given up may be granted after a later one was refused: Credits were bought since.
            Some(_) if operation.was_unknown() => None,
            Some(_) => continue,
        };
        let (sent, answered) = (operation.started(), operation.ended());
        let (ending, ended) = (Micros::MAX, Micros::MAX);
        let new = Life { account, credits, estimate: *estimate, sent, answered, ending, ended };
        let life = lives.entry(*hold).or_insert_with(|| new.clone());
        if life.credits.is_none() && credits.is_some() {
            *life = Life { sent: life.sent, ..new };
        }
    }
    for operation in evidence.operations {
        let (started, ended) = (operation.started(), operation.ended());
        let hold = match &operation.request {
            Request::Release { hold } => Some(*hold),
            Request::Usage(events) => events.iter().find_map(|event| event.hold),
            _ => None,
        };
        let Some(life) = hold.and_then(|hold| lives.get_mut(&hold)) else { continue };
        life.ending = life.ending.min(started);
        if operation.answer.is_some() {
            life.ended = life.ended.min(ended);
        }
        let was_live = !operation.is_repeat && ended < life.sent + LIFE_CERTAIN;
        let is_found = match &operation.answer {
            Some(Answer::Usage(results)) => match results[..] {
                [
                    EventAnswer::Accepted(receipt)
                    | EventAnswer::Unrated(receipt)
                    | EventAnswer::Duplicate(receipt),
                ] => receipt.hold == HoldUse::Captured,
                _ => continue,
            },
            Some(Answer::Released { .. }) => true,
            Some(_) => false,
            None => continue,
        };
        if was_live {
            findings.expect(FORGOTTEN, is_found, || {
                format!("{life:?} was granted, and then {:?}; tries: {:?}", operation.answer, operation.tries)
            });
        }
    }
    lives
}

fn cancels(evidence: &Evidence<'_>) -> Cancels {
    let mut cancels: Cancels = evidence.customers.iter().map(|_| Vec::new()).collect();
    for operation in evidence.operations {
        let (Request::CancelAtOnce, Some(account)) = (&operation.request, operation.account) else {
            continue;
        };
        match &operation.answer {
            Some(Answer::Subscription { .. }) => {
                cancels[account].push((operation.started(), operation.ended()))
            }
            None => cancels[account].push((operation.started(), Micros::MAX)),
            Some(_) => {}
        }
    }
    cancels
}

impl Life {
    /// Whether it surely lived, and counted, all the time from `start` to `end`.
    fn surely_counts(&self, start: Micros, end: Micros, cancels: &[(Micros, Micros)]) -> bool {
        let may_be_of_ended_cycle = cancels.iter().any(|(began, ended)| *ended > self.sent && *began < end);
        self.answered < start && self.ending > end && end < self.sent + LIFE_CERTAIN && !may_be_of_ended_cycle
    }

    /// Whether it may have lived at some time from `start` to `end`.
    fn may_count(&self, start: Micros, end: Micros) -> bool {
        self.sent < end && self.ended > start && start < self.answered.saturating_add(LIFE_MAX)
    }
}

fn check_account(
    account: AccountIndex,
    holds: &[&Life],
    cancels: &[(Micros, Micros)],
    seen: &[Seen],
    available: &Available,
    findings: &mut Findings,
) {
    let versions = Versions::of(seen);
    let mut living: Vec<&Life> = Vec::new();
    for life in holds {
        let Some(credits) = life.credits else { continue };
        let (start, end) = (life.sent, life.answered);
        living.retain(|other| other.ending > start && start < other.sent + LIFE_CERTAIN);
        let others = living.iter().filter(|other| other.surely_counts(start, end, cancels));
        let held: i64 = others.filter_map(|other| other.credits).sum();
        let (lowest, highest) = versions.in_force(start, end);
        let between = available.range(lowest..=highest.max(lowest)).map(|(_, credits)| *credits).max();
        let most = between.unwrap_or(0).max(at(available, lowest));
        findings.expect(OVER_GRANTED, held + credits <= most, || {
            format!(
                "account {account}: {credits} granted where {held} were held and at most {most} were left, \
                 versions {lowest} to {highest}: {life:?}"
            )
        });
        living.push(life);
    }
}

/// Which versions may have been in force at a time.
struct Versions {
    /// By the time that an answer came: the highest version seen by then.
    seen_by: Vec<(Micros, i64)>,
    /// By the time that a request was sent: the lowest version that it or a later one made.
    made_from: Vec<(Micros, i64)>,
}

impl Versions {
    fn of(seen: &[Seen]) -> Versions {
        let mut seen_by: Vec<(Micros, i64)> = seen.iter().map(|seen| (seen.end, seen.highest)).collect();
        seen_by.sort_unstable();
        let mut highest = 0;
        for (_, version) in &mut seen_by {
            highest = highest.max(*version);
            *version = highest;
        }
        let made = seen.iter().filter_map(|seen| Some((seen.start, seen.made?)));
        let mut made_from: Vec<(Micros, i64)> = made.collect();
        made_from.sort_unstable();
        let mut lowest = i64::MAX;
        for (_, version) in made_from.iter_mut().rev() {
            lowest = lowest.min(*version);
            *version = lowest;
        }
        Versions { seen_by, made_from }
    }

    /// The lowest and the highest version that may have been in force between the two.
    fn in_force(&self, start: Micros, end: Micros) -> (i64, i64) {
        let ended = self.seen_by.partition_point(|(at, _)| *at < start);
        let lowest = ended.checked_sub(1).map_or(0, |last| self.seen_by[last].1);
        let began = self.made_from.partition_point(|(at, _)| *at < end);
        let highest = self.made_from.get(began).map_or(i64::MAX, |(_, version)| *version);
        // The later one made that version or, with several draws, the ones before it too.
        (lowest, highest.saturating_sub(1))
    }
}

/// While nothing is under way, what is held is what the running authorizations hold.
fn check_at_rest(
    evidence: &Evidence<'_>,
    account: AccountIndex,
    holds: &[&Life],
    cancels: &[(Micros, Micros)],
    findings: &mut Findings,
) {
    let of_account = |operation: &&crate::history::Operation| operation.account == Some(account);
    for operation in evidence.operations.iter().filter(of_account) {
        let Some(Answer::Balance { held, .. }) = operation.answer else { continue };
        if operation.client != OBSERVER {
            continue;
        }
        let (start, end) = (operation.started(), operation.ended());
        let sure = holds.iter().filter(|life| life.surely_counts(start, end, cancels));
        let least: i64 = sure.filter_map(|life| life.credits).sum();
        let possible = holds.iter().filter(|life| life.may_count(start, end));
        let most: i64 = possible.map(|life| life.credits.unwrap_or(life.estimate)).sum();
        findings.expect(HELD, (least..=most).contains(&held), || {
            format!("account {account}: {held} are held, where clients know of {least} to {most}")
        });
    }
}
