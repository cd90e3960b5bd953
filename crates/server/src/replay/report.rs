//! Counts what became of the requests, and shows it: while the run goes on, and at its end.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};

use super::client::{Balance, Charge, NoAnswer};

/// What became of one request.
pub(crate) struct Outcome {
    pub(crate) authorize_elapsed: Option<Duration>,
    pub(crate) usage_elapsed: Option<Duration>,
    pub(crate) end: End,
}

/// How a request ended.
#[derive(Debug)]
pub(crate) enum End {
    Accepted(Charge),
    /// Its event had been counted before.
    Duplicate(Charge),
    Unrated,
    OutOfCredits,
    NoAnswer(NoAnswer),
}

/// The sum of all outcomes.
pub(crate) struct Tally {
    accepted: u64,
    duplicates: u64,
    unrated: u64,
    out_of_credits: u64,
    /// Why requests failed, and how many did for that reason.
    failed: BTreeMap<String, u64>,
    /// Failures since anything was answered, where the API was away.
    away_in_a_row: u64,
    charged_now: u128,
    charged_before: u128,
    overage: u128,
    /// In microseconds.
    authorize_latency: Histogram<u64>,
    usage_latency: Histogram<u64>,
}

/// The longest latency told apart: a minute. Nothing is waited for that long.
const LATENCY_MICROS_MAX: u64 = 60_000_000;

impl Tally {
    pub(crate) fn new() -> anyhow::Result<Tally> {
        let latency = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3)?;
        Ok(Tally {
            accepted: 0,
            duplicates: 0,
            unrated: 0,
            out_of_credits: 0,
            failed: BTreeMap::new(),
            away_in_a_row: 0,
            charged_now: 0,
            charged_before: 0,
            overage: 0,
            authorize_latency: latency.clone(),
            usage_latency: latency,
        })
    }

    pub(crate) fn add(&mut self, outcome: Outcome) {
        for (latency, elapsed) in [
            (&mut self.authorize_latency, outcome.authorize_elapsed),
            (&mut self.usage_latency, outcome.usage_elapsed),
        ] {
            if let Some(elapsed) = elapsed {
                let micros = u64::try_from(elapsed.as_micros()).unwrap_or(LATENCY_MICROS_MAX);
                latency.saturating_record(micros);
            }
        }
        let is_away = matches!(outcome.end, End::NoAnswer(NoAnswer::Away(_)));
        self.away_in_a_row = if is_away { self.away_in_a_row + 1 } else { 0 };
        match outcome.end {
            End::Accepted(charge) => {
                self.accepted += 1;
                self.charged_now += u128::from(charge.charged);
                self.overage += u128::from(charge.overage);
            }
            End::Duplicate(charge) => {
                self.duplicates += 1;
                self.charged_before += u128::from(charge.charged);
                self.overage += u128::from(charge.overage);
            }
            End::Unrated => self.unrated += 1,
            End::OutOfCredits => self.out_of_credits += 1,
            End::NoAnswer(NoAnswer::Failed(why) | NoAnswer::Away(why)) => {
                *self.failed.entry(why).or_default() += 1;
            }
            // As if it had not been sent: the next run sends it.
            End::NoAnswer(NoAnswer::Interrupted(_)) => {}
        }
    }

    /// The requests that came to an end.
    pub(crate) fn done(&self) -> u64 {
        self.accepted + self.duplicates + self.unrated + self.out_of_credits + self.failed()
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.values().sum()
    }

    pub(crate) fn away_in_a_row(&self) -> u64 {
        self.away_in_a_row
    }

    /// The closing table, with the reasons of failures under it.
    pub(crate) fn table(&self, closing: &Closing) -> String {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED);
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        let count = |value: u64| grouped(value.into());
        row("Requests", count(closing.requests));
        row("  accepted", count(self.accepted));
        row("  duplicates, charged before", count(self.duplicates));
        row("  refused, out of Credits", count(self.out_of_credits));
        row("  failed", count(self.failed()));
        if self.unrated > 0 {
            row("  without a rate, kept", count(self.unrated));
        }
        let unfinished = closing.requests.saturating_sub(self.done());
        if unfinished > 0 {
            row("  not sent, or not finished", count(unfinished));
        }
        row("Credits charged now", grouped(self.charged_now));
        row("Credits charged in all", grouped(self.charged_now + self.charged_before));
        if self.overage > 0 {
            row("Usage beyond the balance, Credits", grouped(self.overage));
        }
        match &closing.balance {
            Ok(Balance { settled, held: 0 }) => row("Credits left", count(*settled)),
            Ok(Balance { settled, held }) => {
                row("Credits left", count(*settled));
                row("  of them set aside", count(*held));
            }
            Err(_) => row("Credits left", "unknown".to_owned()),
        }
        row("Seconds", thousandths(closing.elapsed.as_millis()));
        let millis = closing.elapsed.as_millis().max(1);
        row("Requests a second", thousandths(u128::from(self.done()) * 1_000_000 / millis));
        if closing.retries > 0 {
            row("Sent again", count(closing.retries));
        }
        row("Authorize p50 / p90 / p99, ms", percentiles(&self.authorize_latency));
        row("Usage event p50 / p90 / p99, ms", percentiles(&self.usage_latency));
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = table.to_string();
        if let Err(why) = &closing.balance {
            text.push_str(&format!("\nThe Credits left are unknown: {why}"));
        }
        for (why, requests) in &self.failed {
            text.push_str(&format!("\n{} failed: {why}", grouped((*requests).into())));
        }
        text
    }
}

/// What the closing table says beyond the tally.
pub(crate) struct Closing {
    /// How many requests the run was to send.
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    pub(crate) retries: u64,
    pub(crate) balance: Result<Balance, NoAnswer>,
}

fn percentiles(latency: &Histogram<u64>) -> String {
    if latency.is_empty() {
        return "-".to_owned();
    }
    let at = |quantile| thousandths(latency.value_at_quantile(quantile).into());
    format!("{} / {} / {}", at(0.5), at(0.9), at(0.99))
}

/// 1234567 is "1,234,567".
fn grouped(value: u128) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// 1234 thousandths are "1.23".
fn thousandths(value: u128) -> String {
    format!("{}.{:02}", grouped(value / 1_000), value % 1_000 / 10)
}

/// How far the run is: a bar on a terminal, else a line every few seconds.
pub(crate) enum Progress {
    Bar(ProgressBar),
    Lines { requests: u64 },
}

impl Progress {
    pub(crate) fn start(requests: u64) -> anyhow::Result<Progress> {
        if !std::io::stderr().is_terminal() {
            return Ok(Progress::Lines { requests });
        }
        let style = "{wide_bar} {human_pos} of {human_len}, {per_sec}, {eta} left{msg}";
        Ok(Progress::Bar(ProgressBar::new(requests).with_style(ProgressStyle::with_template(style)?)))
    }

    /// Called after every request.
    pub(crate) fn show(&self, tally: &Tally) {
        if let Progress::Bar(bar) = self {
            bar.set_position(tally.done());
            bar.set_message(troubles(tally));
        }
    }

    /// Called every few seconds.
    pub(crate) fn tick(&self, tally: &Tally) {
        match self {
            Progress::Bar(bar) => bar.tick(),
            Progress::Lines { requests } => {
                let (done, of) = (grouped(tally.done().into()), grouped((*requests).into()));
                eprintln!("{done} of {of} requests{}", troubles(tally));
            }
        }
    }

    /// Says something without tearing the bar.
    pub(crate) fn say(&self, line: &str) {
        match self {
            Progress::Bar(bar) => bar.suspend(|| eprintln!("{line}")),
            Progress::Lines { .. } => eprintln!("{line}"),
        }
    }

    pub(crate) fn end(&self) {
        if let Progress::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn troubles(tally: &Tally) -> String {
    let mut text = String::new();
    for (what, requests) in [("refused", tally.out_of_credits), ("failed", tally.failed())] {
        if requests > 0 {
            text.push_str(&format!(", {} {what}", grouped(requests.into())));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(end: End) -> Outcome {
        let elapsed = Some(Duration::from_micros(1_230));
        Outcome { authorize_elapsed: elapsed, usage_elapsed: elapsed, end }
    }

    fn lines(tally: &Tally, closing: &Closing) -> Vec<String> {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = tally.table(closing);
        let shown = text.lines().map(|line| words(&line.replace(['│', '┆'], " ")));
        shown.filter(|line| line.contains(char::is_alphanumeric)).collect()
    }

    #[test]
    fn the_table_sums_up_what_became_of_the_requests() {
        let mut tally = Tally::new().unwrap();
        let charge = |charged, overage| Charge { charged, overage };
        let failed = |why: &str| End::NoAnswer(NoAnswer::Failed(why.to_owned()));
        for end in [
            End::Accepted(charge(1_000_000, 0)),
            End::Accepted(charge(234_567, 5)),
            End::Duplicate(charge(1_000_000, 0)),
            End::Unrated,
            End::OutOfCredits,
            failed("authorize: 422 not-rated: no rate"),
            failed("authorize: 422 not-rated: no rate"),
            End::NoAnswer(NoAnswer::Away("usage event: 503 storage-unavailable".to_owned())),
            End::NoAnswer(NoAnswer::Interrupted(String::new())),
        ] {
            tally.add(outcome(end));
        }
        assert_eq!((tally.done(), tally.failed()), (8, 3));
        let closing = Closing {
            requests: 12,
            elapsed: Duration::from_millis(2_500),
            retries: 7,
            balance: Ok(Balance { settled: 163_388_260, held: 12 }),
        };
        assert_eq!(
            lines(&tally, &closing),
            [
                "Requests 12",
                "accepted 2",
                "duplicates, charged before 1",
                "refused, out of Credits 1",
                "failed 3",
                "without a rate, kept 1",
                "not sent, or not finished 4",
                "Credits charged now 1,234,567",
                "Credits charged in all 2,234,567",
                "Usage beyond the balance, Credits 5",
                "Credits left 163,388,260",
                "of them set aside 12",
                "Seconds 2.50",
                "Requests a second 3.20",
                "Sent again 7",
                "Authorize p50 / p90 / p99, ms 1.23 / 1.23 / 1.23",
                "Usage event p50 / p90 / p99, ms 1.23 / 1.23 / 1.23",
                "2 failed: authorize: 422 not-rated: no rate",
                "1 failed: usage event: 503 storage-unavailable",
            ]
        );
    }

    #[test]
    fn an_api_that_stays_away_is_told_from_one_that_comes_back() {
        let mut tally = Tally::new().unwrap();
        let away = || outcome(End::NoAnswer(NoAnswer::Away("authorize: connection refused".to_owned())));
        tally.add(away());
        tally.add(away());
        assert_eq!(tally.away_in_a_row(), 2);
        tally.add(outcome(End::OutOfCredits));
        assert_eq!(tally.away_in_a_row(), 0);
        tally.add(away());
        assert_eq!(tally.away_in_a_row(), 1);
    }

    #[test]
    fn a_run_that_sent_nothing_has_a_table_too() {
        let closing = Closing {
            requests: 3,
            elapsed: Duration::ZERO,
            retries: 0,
            balance: Err(NoAnswer::Interrupted("balance: 503".to_owned())),
        };
        let lines = lines(&Tally::new().unwrap(), &closing);
        assert!(lines.contains(&"not sent, or not finished 3".to_owned()), "{lines:?}");
        assert!(lines.contains(&"The Credits left are unknown: balance: 503".to_owned()), "{lines:?}");
        assert!(lines.contains(&"Authorize p50 / p90 / p99, ms -".to_owned()), "{lines:?}");
    }

    #[test]
    fn numbers_are_written_for_people() {
        for (value, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (36_611_740, "36,611,740")] {
            assert_eq!(grouped(value), text);
        }
        for (value, text) in [(0, "0.00"), (9, "0.00"), (10, "0.01"), (1_234_567, "1,234.56")] {
            assert_eq!(thousandths(value), text);
        }
    }
}
