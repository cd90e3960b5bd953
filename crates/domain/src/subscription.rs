//! The life of a subscription: every (state, event) pair has a defined outcome (R-9).
//!
//! ```text
//!  incomplete --paid--> active <--renewal paid / renewal failed--> past_due
//!      |                  |  \__suspended / lifted__ suspended        |
//!      | expired          |  canceled at its end, or at once          | last try failed, or its cycle is over
//!      v                  v                                           v
//!   expired            canceled <--------------------------------- canceled
//! ```
//! A suspended one is canceled in the same ways, and is past due again where it was before.

use crate::Refusal;
use crate::Timestamp;
use crate::calendar::{Anchor, Cycle};
use crate::policy::CatchUp;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Waiting for its first payment.
    Incomplete,
    Active,
    /// The current cycle's invoice is unpaid.
    PastDue,
    /// Stopped by an operator or a lost dispute.
    Suspended,
    Canceled,
    /// Never paid.
    Expired,
}

impl Status {
    pub const ALL: [Status; 6] = [
        Status::Incomplete,
        Status::Active,
        Status::PastDue,
        Status::Suspended,
        Status::Canceled,
        Status::Expired,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Status::Incomplete => "incomplete",
            Status::Active => "active",
            Status::PastDue => "past_due",
            Status::Suspended => "suspended",
            Status::Canceled => "canceled",
            Status::Expired => "expired",
        }
    }

    /// A customer has at most one live subscription (R-9).
    pub fn is_live(self) -> bool {
        match self {
            Status::Incomplete | Status::Active | Status::PastDue | Status::Suspended => true,
            Status::Canceled | Status::Expired => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The first cycle's payment succeeded.
    FirstPaid,
    /// The first purchase ran out of time, or was withdrawn.
    PurchaseEnded,
    RenewalPaid,
    RenewalFailed,
    /// The cycle ended with a cancel set, or it was never paid: by its end, or by the last try (R-22).
    EndedForGood,
    CanceledAtOnce,
    Suspended,
    /// A suspension ended. Whoever lifts it while the cycle's invoice is unpaid says
    /// [`Event::RenewalFailed`] next: this state machine does not remember what was suspended.
    Lifted,
}

impl Event {
    pub const ALL: [Event; 8] = [
        Event::FirstPaid,
        Event::PurchaseEnded,
        Event::RenewalPaid,
        Event::RenewalFailed,
        Event::EndedForGood,
        Event::CanceledAtOnce,
        Event::Suspended,
        Event::Lifted,
    ];

    /// As the status history names it.
    pub fn name(self) -> &'static str {
        match self {
            Event::FirstPaid => "first_paid",
            Event::PurchaseEnded => "purchase_ended",
            Event::RenewalPaid => "renewal_paid",
            Event::RenewalFailed => "renewal_failed",
            Event::EndedForGood => "ended_for_good",
            Event::CanceledAtOnce => "canceled_at_once",
            Event::Suspended => "suspended",
            Event::Lifted => "lifted",
        }
    }
}

/// The state after an event, or why the event cannot happen in it. No catch-all arm: a new state
/// or event does not compile until each of its pairs is decided.
pub fn after(status: Status, event: Event) -> Result<Status, Refusal> {
    match (status, event) {
        (Status::Incomplete, Event::FirstPaid) => Ok(Status::Active),
        (Status::Incomplete, Event::PurchaseEnded | Event::CanceledAtOnce) => Ok(Status::Expired),
        (
            Status::Incomplete,
            Event::RenewalPaid
            | Event::RenewalFailed
            | Event::EndedForGood
            | Event::Suspended
            | Event::Lifted,
        ) => Err(Refusal::SubscriptionIncomplete),

        (Status::Active, Event::FirstPaid | Event::RenewalPaid | Event::Lifted) => Ok(Status::Active),
        (Status::Active, Event::PurchaseEnded) => Ok(Status::Active),
        (Status::Active, Event::RenewalFailed) => Ok(Status::PastDue),
        (Status::Active, Event::EndedForGood | Event::CanceledAtOnce) => Ok(Status::Canceled),
        (Status::Active, Event::Suspended) => Ok(Status::Suspended),

        (Status::PastDue, Event::RenewalPaid) => Ok(Status::Active),
        (Status::PastDue, Event::FirstPaid | Event::PurchaseEnded | Event::RenewalFailed | Event::Lifted) => {
            Ok(Status::PastDue)
        }
        (Status::PastDue, Event::EndedForGood | Event::CanceledAtOnce) => Ok(Status::Canceled),
        (Status::PastDue, Event::Suspended) => Ok(Status::Suspended),

        (
            Status::Suspended,
            Event::FirstPaid
            | Event::PurchaseEnded
            | Event::RenewalPaid
            | Event::RenewalFailed
            | Event::Suspended,
        ) => Ok(Status::Suspended),
        (Status::Suspended, Event::EndedForGood | Event::CanceledAtOnce) => Ok(Status::Canceled),
        (Status::Suspended, Event::Lifted) => Ok(Status::Active),

        (
            Status::Canceled | Status::Expired,
            Event::FirstPaid
            | Event::PurchaseEnded
            | Event::RenewalPaid
            | Event::RenewalFailed
            | Event::EndedForGood
            | Event::CanceledAtOnce
            | Event::Suspended
            | Event::Lifted,
        ) => Err(Refusal::SubscriptionEnded),
    }
}

/// Whether the plan can be changed or a cancel be set now; each "no" has its own code (R-16).
pub fn check_changeable(status: Status, cycle_end: Option<Timestamp>, now: Timestamp) -> Result<(), Refusal> {
    match status {
        Status::Incomplete => Err(Refusal::SubscriptionIncomplete),
        Status::PastDue => Err(Refusal::SubscriptionPastDue),
        Status::Suspended => Err(Refusal::SubscriptionSuspended),
        Status::Canceled | Status::Expired => Err(Refusal::SubscriptionEnded),
        Status::Active if cycle_end.is_some_and(|end| end <= now) => Err(Refusal::CycleEnded),
        Status::Active => Ok(()),
    }
}

/// What follows when a cycle is over (R-21 to R-23).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextCycle {
    /// The subscription ends with the cycle.
    Ends,
    /// Cycles that were over before they could be opened, then the one to invoice.
    Opens { skipped: Vec<Cycle>, cycle: Cycle },
}

/// Decides what follows the cycle `closing`, which ended at or before `now`. Under
/// [`CatchUp::Bill`] the very next cycle opens, over or not.
pub fn next_cycle(
    anchor: Anchor,
    closing: u32,
    ends_for_good: bool,
    catch_up: CatchUp,
    now: Timestamp,
) -> Result<NextCycle, Refusal> {
    if ends_for_good {
        return Ok(NextCycle::Ends);
    }
    let mut skipped = Vec::new();
    let mut number = closing;
    loop {
        number = number.checked_add(1).ok_or(Refusal::AmountOverflow)?;
        let cycle = anchor.cycle(number)?;
        if cycle.end > now || catch_up == CatchUp::Bill {
            return Ok(NextCycle::Opens { skipped, cycle });
        }
        skipped.push(cycle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Zone;
    use crate::fixtures::at;
    use proptest::prelude::*;

    /// The walk of every pair as text: a row an event, a column a state, `-` where refused.
    fn table() -> String {
        let row = |head: &str, cells: Vec<String>| {
            let cells: String = cells.iter().map(|cell| format!(" {cell:<10}")).collect();
            format!("{head:<14}{cells}").trim_end().to_owned()
        };
        let mut rows = vec![row("", Status::ALL.map(|status| status.name().to_owned()).to_vec())];
        for event in Event::ALL {
            let cells = Status::ALL.map(|status| match after(status, event) {
                Ok(next) if next == status => "same".to_owned(),
                Ok(next) => next.name().to_owned(),
                Err(_) => "-".to_owned(),
            });
            rows.push(row(&format!("{event:?}"), cells.to_vec()));
        }
        rows.join("\n")
    }

    #[test]
    fn every_event_in_every_state_has_its_outcome() {
        let expected = "
               incomplete active     past_due   suspended  canceled   expired
FirstPaid      active     same       same       same       -          -
PurchaseEnded  expired    same       same       same       -          -
RenewalPaid    -          same       active     same       -          -
RenewalFailed  -          past_due   same       same       -          -
EndedForGood   -          canceled   canceled   canceled   -          -
CanceledAtOnce expired    canceled   canceled   canceled   -          -
Suspended      -          suspended  suspended  same       -          -
Lifted         -          same       same       active     -          -";
        let table = table();
        println!("{table}");
        assert_eq!(table, expected.trim_start_matches('\n'));
    }

    #[test]
    fn an_event_that_cannot_be_is_refused_with_the_states_own_code() {
        for event in Event::ALL {
            for status in [Status::Canceled, Status::Expired] {
                assert_eq!(after(status, event), Err(Refusal::SubscriptionEnded), "no way out");
            }
            if let Err(refusal) = after(Status::Incomplete, event) {
                assert_eq!(refusal, Refusal::SubscriptionIncomplete);
            }
        }
    }

    #[test]
    fn the_first_four_states_are_live_and_only_the_last_two_are_the_end() {
        assert_eq!(Status::ALL.map(Status::is_live), [true, true, true, true, false, false]);
        for status in Status::ALL {
            let has_a_way_out =
                Event::ALL.iter().any(|event| after(status, *event).is_ok_and(|s| s != status));
            assert_eq!(has_a_way_out, status.is_live(), "{status:?}");
        }
    }

    #[test]
    fn only_an_active_subscription_within_its_cycle_can_be_changed() {
        let end = at("2026-02-01T00:00:00Z");
        let check = |status, now| check_changeable(status, Some(end), at(now));
        assert_eq!(check(Status::Active, "2026-01-31T23:59:59.999999Z"), Ok(()));
        assert_eq!(check(Status::Active, "2026-02-01T00:00:00Z"), Err(Refusal::CycleEnded));
        assert_eq!(check_changeable(Status::Active, None, end), Ok(()));
        let codes = Status::ALL.map(|status| check(status, "2026-01-15T00:00:00Z").err().map(|no| no.code()));
        assert_eq!(
            codes,
            [
                Some("subscription-incomplete"),
                None,
                Some("subscription-past-due"),
                Some("subscription-suspended"),
                Some("subscription-ended"),
                Some("subscription-ended"),
            ]
        );
    }

    fn january() -> Anchor {
        Anchor::new(at("2026-01-31T10:00:00Z"), Zone::UTC)
    }

    fn opens(skipped: &[u32], number: u32) -> Result<NextCycle, Refusal> {
        let cycle = |number: &u32| january().cycle(*number).unwrap();
        Ok(NextCycle::Opens { skipped: skipped.iter().map(cycle).collect(), cycle: cycle(&number) })
    }

    #[test]
    fn on_time_the_next_cycle_opens_where_the_last_one_ended() {
        let now = at("2026-02-28T10:00:00Z"); // cycle 0's end, to the microsecond
        for catch_up in [CatchUp::Skip, CatchUp::Bill] {
            assert_eq!(next_cycle(january(), 0, false, catch_up, now), opens(&[], 1));
        }
        let Ok(NextCycle::Opens { cycle, .. }) = next_cycle(january(), 0, false, CatchUp::Skip, now) else {
            panic!("a cycle opens");
        };
        assert_eq!((cycle.start, cycle.end), (now, at("2026-03-31T10:00:00Z")), "back on the 31st");
    }

    #[test]
    fn a_run_that_was_down_for_cycles_skips_those_that_are_over() {
        // Cycles 1 and 2 ended on 31 March and 30 April; 3 runs to 31 May.
        let may = at("2026-05-10T00:00:00Z");
        assert_eq!(next_cycle(january(), 0, false, CatchUp::Skip, may), opens(&[1, 2], 3));
        let just_over = at("2026-04-30T10:00:00Z");
        assert_eq!(next_cycle(january(), 0, false, CatchUp::Skip, just_over), opens(&[1, 2], 3));
        let not_over = at("2026-04-30T09:59:59.999999Z");
        assert_eq!(next_cycle(january(), 0, false, CatchUp::Skip, not_over), opens(&[1], 2));
    }

    #[test]
    fn a_tenant_may_bill_each_cycle_that_was_missed_in_order() {
        let may = at("2026-05-10T00:00:00Z");
        for closing in 0..3 {
            assert_eq!(next_cycle(january(), closing, false, CatchUp::Bill, may), opens(&[], closing + 1));
        }
    }

    #[test]
    fn a_subscription_that_ends_with_its_cycle_opens_no_other() {
        let may = at("2026-05-10T00:00:00Z");
        for catch_up in [CatchUp::Skip, CatchUp::Bill] {
            assert_eq!(next_cycle(january(), 0, true, catch_up, may), Ok(NextCycle::Ends));
        }
    }

    #[test]
    fn past_the_calendars_end_there_is_no_cycle() {
        let now = at("2026-02-28T10:00:00Z");
        for closing in [u32::MAX, u32::MAX - 1, 4_000_000] {
            let next = next_cycle(january(), closing, false, CatchUp::Skip, now);
            assert_eq!(next, Err(Refusal::AmountOverflow));
        }
    }

    /// Every change that there may be.
    const EDGES: [(Status, Event, Status); 14] = [
        (Status::Incomplete, Event::FirstPaid, Status::Active),
        (Status::Incomplete, Event::PurchaseEnded, Status::Expired),
        (Status::Incomplete, Event::CanceledAtOnce, Status::Expired),
        (Status::Active, Event::RenewalFailed, Status::PastDue),
        (Status::Active, Event::Suspended, Status::Suspended),
        (Status::Active, Event::EndedForGood, Status::Canceled),
        (Status::Active, Event::CanceledAtOnce, Status::Canceled),
        (Status::PastDue, Event::RenewalPaid, Status::Active),
        (Status::PastDue, Event::Suspended, Status::Suspended),
        (Status::PastDue, Event::EndedForGood, Status::Canceled),
        (Status::PastDue, Event::CanceledAtOnce, Status::Canceled),
        (Status::Suspended, Event::Lifted, Status::Active),
        (Status::Suspended, Event::EndedForGood, Status::Canceled),
        (Status::Suspended, Event::CanceledAtOnce, Status::Canceled),
    ];

    proptest! {
        /// Whatever happens in whatever order: a status changes by an allowed edge or not at all, what has ended stays
        /// as it ended, and nobody who has paid is incomplete again.
        #[test]
        fn no_sequence_of_events_leaves_the_machine(
            events in prop::collection::vec(prop::sample::select(Event::ALL.to_vec()), 0..60)
        ) {
            let (mut status, mut was_paid) = (Status::Incomplete, false);
            for event in events {
                match after(status, event) {
                    Ok(next) => {
                        prop_assert!(next == status || EDGES.contains(&(status, event, next)));
                        prop_assert!(status.is_live());
                        status = next;
                    }
                    Err(_) => prop_assert!(matches!(status, Status::Incomplete | Status::Canceled | Status::Expired)),
                }
                was_paid |= status == Status::Active;
                prop_assert!(!was_paid || !matches!(status, Status::Incomplete | Status::Expired));
            }
        }
    }

    #[test]
    fn every_edge_is_one_of_the_machine() {
        for (status, event, next) in EDGES {
            assert_eq!(after(status, event), Ok(next));
        }
        let pairs = Status::ALL.into_iter().flat_map(|status| Event::ALL.map(|event| (status, event)));
        let changes =
            pairs.filter(|(status, event)| after(*status, *event).is_ok_and(|next| next != *status));
        assert_eq!(changes.count(), EDGES.len(), "and there is no other");
    }

    proptest! {
        #[test]
        fn however_long_the_run_was_down_no_cycle_is_missing_and_the_open_one_holds_now(
            seconds in 1_500_000_000i64..2_000_000_000, closing in 0u32..30, down_minutes in 0i64..2_000_000
        ) {
            let zone = "Europe/Berlin".parse().unwrap();
            let anchor = Anchor::new(chrono::DateTime::from_timestamp(seconds, 0).unwrap(), zone);
            let now = anchor.cycle(closing).unwrap().end + chrono::Duration::minutes(down_minutes);
            let next = next_cycle(anchor, closing, false, CatchUp::Skip, now).unwrap();
            let NextCycle::Opens { skipped, cycle } = next else {
                return Err(TestCaseError::fail("a cycle opens"));
            };
            prop_assert!(cycle.contains(now));
            let mut before = anchor.cycle(closing).unwrap();
            for next in skipped.iter().chain([&cycle]) {
                prop_assert_eq!((next.number, next.start), (before.number + 1, before.end));
                before = *next;
            }
            prop_assert!(skipped.iter().all(|cycle| cycle.end <= now));
        }
    }
}
