//! What follows when a renewal's payment fails: when it is tried again, and when there is no more try (R-22).
//!
//! ```text
//!             try failed, another one follows          try failed, none follows
//!            +--------------------------------+      (or the cycle ends, or it is canceled)
//!            v                                |                   |
//!  (first) waiting ---- try started ------> trying ---------------+--> lost
//!            |                                |                        ^
//!            |  paid                          |  paid                  |
//!            +-----------> recovered <--------+      waiting ----------+
//! ```

use chrono::TimeDelta;

use crate::Timestamp;
use crate::calendar::Cycle;

/// How far the collection of an unpaid renewal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A try has failed, and none is with the provider.
    Waiting,
    /// A try is with the provider.
    Trying,
    /// Paid after all: the subscription has the whole pool.
    Recovered,
    /// It will never be paid.
    Lost,
}

impl Stage {
    pub const ALL: [Stage; 4] = [Stage::Waiting, Stage::Trying, Stage::Recovered, Stage::Lost];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Waiting => "waiting",
            Stage::Trying => "trying",
            Stage::Recovered => "recovered",
            Stage::Lost => "lost",
        }
    }

    /// Whether the renewal may still be paid.
    pub fn is_open(self) -> bool {
        match self {
            Stage::Waiting | Stage::Trying => true,
            Stage::Recovered | Stage::Lost => false,
        }
    }
}

/// What happens to an unpaid renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A payment was made for it, by a retry or by its customer.
    TryStarted,
    /// A payment failed, or was canceled.
    TryFailed,
    Paid,
    /// Its purchase ended unpaid.
    GivenUp,
}

impl Event {
    pub const ALL: [Event; 4] = [Event::TryStarted, Event::TryFailed, Event::Paid, Event::GivenUp];
}

/// The stage after an event. What has ended stays as it ended: money that comes later goes back (R-10a).
pub fn after(stage: Stage, event: Event) -> Stage {
    match (stage, event) {
        (Stage::Waiting | Stage::Trying, Event::TryStarted) => Stage::Trying,
        (Stage::Waiting | Stage::Trying, Event::TryFailed) => Stage::Waiting,
        (Stage::Waiting | Stage::Trying, Event::Paid) => Stage::Recovered,
        (Stage::Waiting | Stage::Trying, Event::GivenUp) => Stage::Lost,
        (
            Stage::Recovered | Stage::Lost,
            Event::TryStarted | Event::TryFailed | Event::Paid | Event::GivenUp,
        ) => stage,
    }
}

/// When the next try is due after one that failed at `now`; none after the last one.
///
/// Each of `days` is a whole number of days of 24 hours after the cycle's start. A renewal that could only be
/// invoiced after its first retry would have been due counts from its invoice instead: nobody loses his retries
/// to an outage that is not his. No try is due at or after the cycle's end.
pub fn next_try(cycle: Cycle, invoiced_at: Timestamp, days: &[u16], now: Timestamp) -> Option<Timestamp> {
    let tries_from = |start: Timestamp| {
        days.iter().filter_map(move |day| start.checked_add_signed(TimeDelta::days(i64::from(*day))))
    };
    let is_late = tries_from(cycle.start).min().is_some_and(|first| first <= invoiced_at);
    let start = if is_late { invoiced_at } else { cycle.start };
    tries_from(start).filter(|at| *at > now && *at < cycle.end).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::{Anchor, Zone};
    use crate::fixtures::at;
    use crate::policy::Policies;
    use proptest::prelude::*;

    /// From 28 February, 10:00, to 31 March, 10:00.
    fn march() -> Cycle {
        Anchor::new(at("2026-01-31T10:00:00Z"), Zone::UTC).cycle(1).unwrap()
    }

    fn next(invoiced_at: &str, now: &str) -> Option<Timestamp> {
        next_try(march(), at(invoiced_at), &Policies::default().dunning_days, at(now))
    }

    #[test]
    fn retries_come_one_three_five_and_seven_days_after_the_cycles_start() {
        let start = "2026-02-28T10:00:00Z";
        for (failed, due) in [
            (start, Some("2026-03-01T10:00:00Z")),
            ("2026-03-01T10:00:00Z", Some("2026-03-03T10:00:00Z")),
            ("2026-03-03T10:00:00Z", Some("2026-03-05T10:00:00Z")),
            ("2026-03-05T10:00:00Z", Some("2026-03-07T10:00:00Z")),
            ("2026-03-07T10:00:00Z", None),
            // By the customer's own try in between, and by one that was pending for long.
            ("2026-03-02T00:00:00Z", Some("2026-03-03T10:00:00Z")),
            ("2026-03-20T00:00:00Z", None),
        ] {
            assert_eq!(next(start, failed), due.map(at), "{failed}");
        }
    }

    #[test]
    fn a_renewal_that_was_invoiced_late_has_its_retries_too() {
        // Just in time for the first one, and too late for it.
        let in_time = "2026-03-01T09:59:59Z";
        assert_eq!(next(in_time, in_time), Some(at("2026-03-01T10:00:00Z")));
        let late = "2026-03-10T00:00:00Z";
        assert_eq!(next(late, late), Some(at("2026-03-11T00:00:00Z")));
        assert_eq!(next(late, "2026-03-15T00:00:00Z"), Some(at("2026-03-17T00:00:00Z")));
        // But none outlives the cycle, which ends on 31 March.
        assert_eq!(next("2026-03-29T10:00:00Z", "2026-03-29T10:00:00Z"), Some(at("2026-03-30T10:00:00Z")));
        assert_eq!(next("2026-03-29T10:00:00Z", "2026-03-30T10:00:00Z"), None);
        assert_eq!(next("2026-04-10T00:00:00Z", "2026-04-10T00:00:00Z"), None);
    }

    #[test]
    fn without_days_the_first_try_is_the_last() {
        assert_eq!(next_try(march(), march().start, &[], march().start), None);
    }

    #[test]
    fn every_event_in_every_stage_has_its_outcome() {
        use Stage::{Lost, Recovered, Trying, Waiting};
        // Try started, try failed, paid, given up.
        for (stage, outcomes) in [
            (Waiting, [Trying, Waiting, Recovered, Lost]),
            (Trying, [Trying, Waiting, Recovered, Lost]),
            (Recovered, [Recovered; 4]),
            (Lost, [Lost; 4]),
        ] {
            assert_eq!(Event::ALL.map(|event| after(stage, event)), outcomes, "{stage:?}");
        }
        assert_eq!(Stage::ALL.map(Stage::is_open), [true, true, false, false]);
        assert_eq!(Stage::ALL.map(Stage::name), ["waiting", "trying", "recovered", "lost"]);
    }

    proptest! {
        /// What has ended has no way out, and whatever happens in whatever order it ends once.
        #[test]
        fn no_sequence_of_events_reopens_a_dunning(
            events in prop::collection::vec(prop::sample::select(Event::ALL.to_vec()), 0..40)
        ) {
            let (mut stage, mut ends) = (Stage::Waiting, 0);
            for event in events {
                let next = after(stage, event);
                prop_assert!(stage.is_open() || next == stage);
                ends += usize::from(stage.is_open() && !next.is_open());
                stage = next;
            }
            prop_assert!(ends == usize::from(!stage.is_open()));
        }

        /// However often and whenever tries fail, each next one is later, lies in the cycle, and there are no more
        /// of them than days.
        #[test]
        fn tries_follow_one_another_and_end(
            days in prop::collection::btree_set(1u16..28, 0..8),
            late_hours in 0i64..900,
            delays in prop::collection::vec(0i64..200, 1..40),
        ) {
            let days: Vec<u16> = days.into_iter().collect();
            let invoiced_at = march().start + TimeDelta::hours(late_hours);
            let (mut now, mut tries) = (invoiced_at, 0);
            for delay in delays {
                let Some(due) = next_try(march(), invoiced_at, &days, now) else { break };
                prop_assert!(due > now && due < march().end);
                tries += 1;
                now = due + TimeDelta::hours(delay);
            }
            prop_assert!(tries <= days.len());
        }
    }
}
