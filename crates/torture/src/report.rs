//! What a run shows in the end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use comfy_table::{Table, presets};

use crate::check::{self, Findings};
use crate::history::{Answer, EventAnswer, Operation, Outcome, Request, Why};
use crate::run::Options;
use crate::supervisor::{IN_FLIGHT_MIN, Made, Recovery};

/// What a run came to. Printed as tables.
pub struct Report {
    pub(crate) took: Duration,
    pub(crate) has_verify: bool,
    seed: u64,
    clients: u32,
    made: Vec<Made>,
    usage: Usage,
    outcomes: Outcomes,
    findings: Findings,
}

#[derive(Default)]
struct Usage {
    /// Distinct events that were accepted or kept unrated.
    acknowledged: u64,
    duplicates: u64,
    refused: u64,
}

#[derive(Default)]
struct Outcomes {
    requests: u64,
    /// Tries after the first of a request.
    retries: u64,
    /// Requests that were sent once more although they were answered.
    repeats: u64,
    ok: u64,
    refused: u64,
    not_sent: u64,
    unknown: BTreeMap<Why, u64>,
    /// Requests that had an unknown outcome and were answered later.
    resolved: u64,
    /// Requests that were never answered.
    unanswered: u64,
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        operations: &[Operation],
        made: Vec<Made>,
        slow_stops: u64,
        mut findings: Findings,
    ) -> Report {
        for Made { recovery, fault, .. } in &made {
            if let Some((recovery, took)) = recovery {
                findings.expect(check::RECOVERY, *took <= Recovery::BOUND, || {
                    format!("{}: {} ms after a {}", recovery.name(), took.as_millis(), fault.name())
                });
            }
        }
        findings.expect(check::DRAINED, slow_stops == 0, || format!("{slow_stops} had to be killed"));
        Report {
            took: Duration::ZERO,
            has_verify: false,
            seed: options.seed,
            clients: options.clients,
            made,
            usage: Usage::of(operations),
            outcomes: Outcomes::of(operations),
            findings,
        }
    }

    /// Whether nothing was violated, and something was proved.
    pub fn is_clean(&self) -> bool {
        self.findings.violations() == 0 && self.unknown_outcomes() > 0
    }

    /// What was violated, of what does not depend on how fast the machine is.
    pub fn wrong(&self) -> Vec<String> {
        let tallies = self.findings.tallies.iter();
        let wrong = tallies.filter(|(check, _)| ![check::RECOVERY, check::DRAINED].contains(*check));
        wrong
            .flat_map(|(check, tally)| tally.examples.iter().map(move |text| format!("{check}: {text}")))
            .collect()
    }

    /// Tries of which nobody knew whether they had an effect.
    pub fn unknown_outcomes(&self) -> u64 {
        self.outcomes.unknown.values().sum()
    }

    /// Distinct events that were acknowledged.
    pub fn events_acknowledged(&self) -> u64 {
        self.usage.acknowledged
    }

    /// How many `kill -9` were made.
    pub fn kills(&self) -> usize {
        self.made.iter().filter(|made| made.fault.is_kill()).count()
    }

    /// The fewest requests that waited for their answer when a fault came.
    pub fn least_in_flight(&self) -> usize {
        self.made.iter().map(|made| made.in_flight).min().unwrap_or(0)
    }
}

impl Usage {
    fn of(operations: &[Operation]) -> Usage {
        let mut usage = Usage::default();
        let mut known = std::collections::HashSet::new();
        for operation in operations {
            let (Request::Usage(sent), Some(Answer::Usage(results))) =
                (&operation.request, &operation.answer)
            else {
                continue;
            };
            for (event, result) in sent.iter().zip(results) {
                match result {
                    EventAnswer::Accepted(_) | EventAnswer::Unrated(_) | EventAnswer::Duplicate(_) => {
                        if known.insert(event.name) {
                            usage.acknowledged += 1;
                        } else {
                            usage.duplicates += 1;
                        }
                    }
                    EventAnswer::Conflict | EventAnswer::Rejected | EventAnswer::Strange => {
                        usage.refused += 1
                    }
                }
            }
        }
        usage
    }
}

impl Outcomes {
    fn of(operations: &[Operation]) -> Outcomes {
        let mut outcomes = Outcomes::default();
        for operation in operations {
            outcomes.requests += 1;
            outcomes.repeats += u64::from(operation.is_repeat);
            let is_list = matches!(operation.request, Request::List(_));
            for (number, a_try) in operation.tries.iter().enumerate() {
                // The pages of a list are no retries.
                outcomes.retries += u64::from(number > 0 && !is_list);
                match a_try.outcome {
                    Outcome::Ok(_) => outcomes.ok += 1,
                    Outcome::Refused(_) => outcomes.refused += 1,
                    Outcome::NotSent => outcomes.not_sent += 1,
                    Outcome::Unknown(why) => *outcomes.unknown.entry(why).or_default() += 1,
                }
            }
            outcomes.resolved += u64::from(operation.was_unknown() && operation.answer.is_some());
            outcomes.unanswered += u64::from(operation.answer.is_none());
        }
        outcomes
    }

    fn unknown(&self, why: Why) -> u64 {
        self.unknown.get(&why).copied().unwrap_or(0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {} clients, {} s", self.seed, self.clients, self.took.as_secs())?;
        writeln!(f, "\n{}\n\n{}", self.faults(), self.recoveries())?;
        let Usage { acknowledged, duplicates, refused } = self.usage;
        let lost = self.findings.violations_of(check::LOST);
        let doubled = self.findings.violations_of(check::DOUBLED);
        writeln!(
            f,
            "\nEvents: {acknowledged} acknowledged, {lost} lost, {doubled} doubled; \
             {duplicates} duplicates answered, {refused} refused."
        )?;
        let outcomes = &self.outcomes;
        writeln!(
            f,
            "Requests: {} ({} of them repeats of answered ones), {} retries; tries: {} ok, {} refused, {} not sent.",
            outcomes.requests,
            outcomes.repeats,
            outcomes.retries,
            outcomes.ok,
            outcomes.refused,
            outcomes.not_sent
        )?;
        writeln!(
            f,
            "Unknown outcomes: {} ({} without an answer in time, {} cut off, {} unavailable, {} faults); \
             {} requests were answered after one, {} never.",
            self.unknown_outcomes(),
            outcomes.unknown(Why::TimedOut),
            outcomes.unknown(Why::Broke),
            outcomes.unknown(Why::Unavailable),
            outcomes.unknown(Why::Fault),
            outcomes.resolved,
            outcomes.unanswered
        )?;
        writeln!(f, "\n{}", self.checks())?;
        if !self.has_verify {
            writeln!(f, "`tollgate verify` was not run: this version does not have it.")?;
        }
        for (check, tally) in self.findings.tallies.iter().filter(|(_, tally)| tally.violations > 0) {
            writeln!(f, "\n{check}: {} violations, of which", tally.violations)?;
            for example in &tally.examples {
                writeln!(f, "  {example}")?;
            }
        }
        if self.findings.violations() > 0 {
            writeln!(f, "\nFaults, in microseconds of the run as above:")?;
            for Made { fault, at, until, .. } in &self.made {
                writeln!(f, "  {at} to {until}: {fault:?}")?;
            }
        }
        if self.unknown_outcomes() == 0 {
            writeln!(f, "\nNo outcome was unknown: this run proves nothing.")?;
        }
        write!(f, "\n{}", if self.is_clean() { "Clean." } else { "VIOLATED." })
    }
}

impl Report {
    fn faults(&self) -> Table {
        let mut by_kind: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for made in &self.made {
            by_kind.entry(made.fault.name()).or_default().push(made.in_flight);
        }
        let mut table = table(&["fault", "times", "in flight: least", "median"]);
        for (name, mut in_flight) in by_kind {
            in_flight.sort_unstable();
            let least = in_flight.first().copied().unwrap_or(0);
            let median = in_flight[in_flight.len() / 2];
            table.add_row([
                name.to_owned(),
                in_flight.len().to_string(),
                least.to_string(),
                median.to_string(),
            ]);
        }
        let kills = self.kills();
        let total = format!("{} faults survived, of them {kills} kill -9", self.made.len());
        table.add_row([total, String::new(), format!("at least {IN_FLIGHT_MIN}"), String::new()]);
        table
    }

    fn recoveries(&self) -> Table {
        let mut by_kind: BTreeMap<Recovery, Vec<Duration>> = BTreeMap::new();
        for (recovery, took) in self.made.iter().filter_map(|made| made.recovery) {
            by_kind.entry(recovery).or_default().push(took);
        }
        let mut table =
            table(&["recovery", "times", "median ms", "longest ms", "goal ms", "over it", "over 5 s"]);
        for (recovery, mut took) in by_kind {
            took.sort_unstable();
            let over = |bound: Duration| took.iter().filter(|took| **took > bound).count().to_string();
            let median = took[took.len() / 2];
            let longest = took.last().copied().unwrap_or_default();
            let millis = [median, longest, recovery.goal()].map(|took| took.as_millis().to_string());
            let mut row = vec![recovery.name().to_owned(), took.len().to_string()];
            row.extend(millis);
            row.extend([over(recovery.goal()), over(Recovery::BOUND)]);
            table.add_row(row);
        }
        table
    }

    fn checks(&self) -> Table {
        let mut table = table(&["what must hold", "checked", "violated"]);
        for (check, tally) in &self.findings.tallies {
            table.add_row([(*check).to_owned(), tally.checked.to_string(), tally.violations.to_string()]);
        }
        table
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(header.iter().copied());
    table
}
