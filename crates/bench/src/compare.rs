//! Turns, rounds and ratios.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;

use crate::cpu::{Cpu, Processes};
use crate::load::{self, Load, Pace};
use crate::requests::Requests;

/// Not counted: connections are made, caches and pools fill.
const WARM_UP: Duration = Duration::from_millis(500);
/// What a side still does after its last answer (recording holds) is in its CPU time.
const SETTLE: Duration = Duration::from_millis(300);

/// One side's turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) per_second: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    /// CPU time of an operation.
    pub(crate) server_us: f64,
    pub(crate) redis_us: f64,
    pub(crate) postgres_us: f64,
}

impl Turn {
    pub(crate) fn cpu_us(&self) -> f64 {
        self.server_us + self.redis_us + self.postgres_us
    }

    /// A turn of `count` operations, which took this long and cost this much.
    pub(crate) fn new(count: u64, elapsed: Duration, cpu: Cpu) -> Turn {
        let each = |total_us: u64| float(total_us) / float(count.max(1));
        Turn {
            per_second: float(count) / elapsed.as_secs_f64(),
            p50_us: 0,
            p99_us: 0,
            server_us: each(cpu.server_us),
            redis_us: each(cpu.redis_us),
            postgres_us: each(cpu.postgres_us),
        }
    }
}

/// How a turn over HTTP is taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HttpTurn {
    pub(crate) address: SocketAddr,
    pub(crate) processes: Processes,
    pub(crate) connections: usize,
    pub(crate) pace: Pace,
    pub(crate) window: Duration,
    /// Operations of a request.
    pub(crate) batch: u64,
}

impl HttpTurn {
    /// Takes it, and fails where an answer was not what was asked for.
    pub(crate) fn take(&self, requests: &mut dyn Requests) -> anyhow::Result<Turn> {
        let HttpTurn { address, processes, connections, pace, window, batch } = *self;
        let load = Load { address, connections, pace, warm_up: WARM_UP, window };
        let mut before = Cpu::now(processes);
        let answered =
            tokio::task::block_in_place(|| load::run(&load, requests, || before = Cpu::now(processes)))?;
        std::thread::sleep(SETTLE);
        let cpu = Cpu::now(processes)?.since(before?);
        if let Some(wrong) = &answered.first_wrong {
            anyhow::bail!("{} answers were not what was asked for; the first: {wrong}", answered.wrong);
        }
        ensure!(answered.count > 0, "nothing was answered");
        let mut turn = Turn::new(answered.count * batch, answered.elapsed, cpu);
        turn.p50_us = answered.latency.value_at_quantile(0.5);
        turn.p99_us = answered.latency.value_at_quantile(0.99);
        Ok(turn)
    }
}

/// A side's name and how it takes a turn; the number is that of the round.
pub(crate) type Side<'a> = (&'a str, Box<dyn FnMut(u32) -> anyhow::Result<Turn> + 'a>);

/// What each side did in each round.
pub(crate) struct Rounds<'a> {
    names: Vec<&'a str>,
    /// A row a round.
    turns: Vec<Vec<Turn>>,
}

/// Lets the sides take turns, in each round the other way round: what changes steadily in the course of a run, as tables
/// grow, is then no side's luck. Sides next to each other compare best.
pub(crate) fn alternate<'a>(rounds: usize, mut sides: Vec<Side<'a>>) -> anyhow::Result<Rounds<'a>> {
    let names: Vec<&str> = sides.iter().map(|(name, _)| *name).collect();
    let mut turns = Vec::new();
    println!(
        "\n{:<22} {:>5} {:>10} {:>8} {:>8}   CPU us an operation",
        "", "round", "per second", "p50 us", "p99 us"
    );
    for round in 0..rounds {
        let number = u32::try_from(round + 1)?;
        let mut order: Vec<usize> = (0..sides.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        let mut taken = Vec::new();
        for index in order {
            let (name, take) = &mut sides[index];
            let turn = take(number)?;
            print_turn(name, &number.to_string(), &turn);
            taken.push((index, turn));
        }
        taken.sort_by_key(|(index, _)| *index);
        turns.push(taken.into_iter().map(|(_, turn)| turn).collect());
    }
    Ok(Rounds { names, turns })
}

fn print_turn(name: &str, round: &str, turn: &Turn) {
    let Turn { per_second, p50_us, p99_us, server_us, redis_us, postgres_us } = turn;
    println!(
        "{name:<22} {round:>5} {per_second:>10.0} {p50_us:>8} {p99_us:>8}   server {server_us:.1} + Redis {redis_us:.1} + \
         PostgreSQL {postgres_us:.1} = {:.1}",
        turn.cpu_us()
    );
}

impl Rounds<'_> {
    /// Prints the median of the rounds' ratios of a figure, one side's to another's, with its range.
    pub(crate) fn print_ratio(
        &self,
        one: usize,
        other: usize,
        what: &str,
        goal: &str,
        figure: impl Fn(&Turn) -> f64,
    ) {
        let ratios = self.turns.iter().map(|turns| figure(&turns[one]) / figure(&turns[other])).collect();
        let (median, low, high) = median_and_range(ratios);
        let (one, other) = (self.names[one], self.names[other]);
        println!("{one} / {other}, {what}: {median:.2} ({low:.2} to {high:.2}); {goal}");
    }

    /// Prints each side's medians in one line.
    pub(crate) fn print_medians(&self) {
        for (index, name) in self.names.iter().enumerate() {
            let median = |figure: fn(&Turn) -> f64| self.median(index, figure);
            let turn = Turn {
                per_second: median(|turn| turn.per_second),
                p50_us: whole(median(|turn| float(turn.p50_us))),
                p99_us: whole(median(|turn| float(turn.p99_us))),
                server_us: median(|turn| turn.server_us),
                redis_us: median(|turn| turn.redis_us),
                postgres_us: median(|turn| turn.postgres_us),
            };
            print_turn(name, "med.", &turn);
        }
    }

    /// The median of one side's figure.
    pub(crate) fn median(&self, side: usize, figure: impl Fn(&Turn) -> f64) -> f64 {
        median_and_range(self.turns.iter().map(|turns| figure(&turns[side])).collect()).0
    }
}

/// The median, the least and the most.
pub(crate) fn median_and_range(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    let last = values.len().saturating_sub(1);
    ((at(last / 2) + at(last.div_ceil(2))) / 2.0, at(0), at(last))
}

/// Counts of a run are far below where this loses anything.
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// A positive figure without its fraction.
pub(crate) fn whole(figure: f64) -> u64 {
    figure.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        assert_eq!(median_and_range(vec![4.0, 1.0, 2.0]), (2.0, 1.0, 4.0));
        assert_eq!(median_and_range(vec![4.0, 1.0, 2.0, 3.0]), (2.5, 1.0, 4.0));
    }
}
