//! What a run has done.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::model::Command;

use super::site::Fault;

/// Commands by kind and fault.
#[derive(Default)]
pub struct Counts {
    commands: BTreeMap<(&'static str, Option<Fault>), u64>,
    /// Requests that were sent again because they were not answered.
    pub retries: u64,
}

impl Counts {
    pub fn add(&mut self, kind: &'static str, fault: Option<Fault>) {
        *self.commands.entry((kind, fault)).or_default() += 1;
    }

    pub fn take(&mut self, other: &Counts) {
        for (key, count) in &other.commands {
            *self.commands.entry(*key).or_default() += count;
        }
        self.retries += other.retries;
    }

    fn of(&self, kind: &'static str, fault: Option<Fault>) -> u64 {
        self.commands.get(&(kind, fault)).copied().unwrap_or(0)
    }

    pub fn total(&self) -> u64 {
        self.commands.values().sum()
    }

    /// The kinds and faults that never met.
    pub fn never_met(&self) -> Vec<String> {
        let mut never = Vec::new();
        for kind in Command::KINDS {
            for fault in Fault::ALL {
                if self.of(kind, Some(fault)) == 0 {
                    never.push(format!("{kind} under {}", fault.name()));
                }
            }
        }
        never
    }

    /// A row a kind, a column a fault; how many were done.
    pub fn table(&self) -> String {
        let mut lines = vec![format!("{:<20}{:>8}", "", "none")];
        lines[0].extend(Fault::ALL.map(|fault| format!("{:>12}", fault.name())));
        for kind in Command::KINDS {
            let mut line = format!("{kind:<20}{:>8}", self.of(kind, None));
            line.extend(Fault::ALL.map(|fault| format!("{:>12}", self.of(kind, Some(fault)))));
            lines.push(line);
        }
        lines.join("\n")
    }
}

/// The whole of a run.
#[derive(Default)]
pub struct Report {
    pub counts: Counts,
    pub seeds: u64,
    /// How often each fault happened to the processes.
    pub faults: BTreeMap<Fault, u64>,
    pub failures: Vec<String>,
}

impl Report {
    pub fn print(&self, elapsed: Duration) {
        println!("{}", self.counts.table());
        let faults: Vec<String> =
            self.faults.iter().map(|(fault, count)| format!("{} {count}", fault.name())).collect();
        println!("survived: {}", faults.join(", "));
        println!(
            "{} seeds, {} commands, {} sent again, {} failed, {} seconds",
            self.seeds,
            self.counts.total(),
            self.counts.retries,
            self.failures.len(),
            elapsed.as_secs()
        );
    }
}
