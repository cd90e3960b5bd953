//! Cycles: half-open intervals cut from an anchor in the tenant's zone.

use std::str::FromStr;

use chrono::{
    Datelike, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Timelike, Utc,
};
use serde::{Deserialize, Serialize};

use crate::{Refusal, Timestamp};

/// An IANA time zone, by name (`Asia/Shanghai`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Zone(chrono_tz::Tz);

impl Zone {
    pub const UTC: Zone = Zone(chrono_tz::UTC);

    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// When the hour of local time began that an instant lies in.
    pub fn hour_of(self, instant: Timestamp) -> Timestamp {
        let local = instant.with_timezone(&self.0).naive_local().time();
        let into_the_hour = TimeDelta::seconds(i64::from(local.minute() * 60 + local.second()))
            + TimeDelta::nanoseconds(i64::from(local.nanosecond()));
        instant - into_the_hour
    }

    /// The local day of the month that an instant lies in, and how many days that month has.
    pub fn day_of_month(self, instant: Timestamp) -> (u16, u16) {
        let date = instant.with_timezone(&self.0).date_naive();
        let days = (28..=31).rev().find(|day| date.with_day(u32::from(*day)).is_some()).unwrap_or(28);
        (u16::try_from(date.day()).unwrap_or(days), days)
    }

    /// The local day that an instant lies in.
    pub fn date_of(self, instant: Timestamp) -> NaiveDate {
        instant.with_timezone(&self.0).date_naive()
    }

    /// When the local day began that an instant lies in.
    pub fn day_of(self, instant: Timestamp) -> Timestamp {
        self.instant_of(self.date_of(instant).and_time(NaiveTime::MIN))
    }

    /// When the local days began that the time from `from` until before `to` has a part of.
    pub fn days(self, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
        let starts =
            self.date_of(from).iter_days().map(|date| self.instant_of(date.and_time(NaiveTime::MIN)));
        starts.take_while(|start| *start < to).collect()
    }

    /// When the local month ends that an instant lies in.
    pub fn month_end(self, instant: Timestamp) -> Timestamp {
        let day = instant.with_timezone(&self.0).date_naive();
        let (year, month) =
            if day.month() == 12 { (day.year() + 1, 1) } else { (day.year(), day.month() + 1) };
        let first = NaiveDate::from_ymd_opt(year, month, 1);
        first.map_or(instant, |first| self.instant_of(first.and_time(NaiveTime::MIN)))
    }

    /// When the local month began that an instant lies in.
    pub fn month_start(self, instant: Timestamp) -> Timestamp {
        let day = instant.with_timezone(&self.0).date_naive();
        self.instant_of(day.with_day(1).unwrap_or(day).and_time(NaiveTime::MIN))
    }

    /// The UTC instant of a local time. One that does not exist becomes the first instant after
    /// the gap; one that occurs twice, the earlier.
    fn instant_of(self, local: NaiveDateTime) -> Timestamp {
        match self.0.from_local_datetime(&local) {
            LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => instant.with_timezone(&Utc),
            LocalResult::None => self.first_instant_after_gap(local),
        }
    }

    /// Bisects the UTC line around a gap for the first instant whose local time is past it.
    fn first_instant_after_gap(self, local: NaiveDateTime) -> Timestamp {
        let is_past_gap = |seconds: i64| {
            chrono::DateTime::from_timestamp(seconds, 0)
                .is_some_and(|instant| instant.with_timezone(&self.0).naive_local() > local)
        };
        // No zone is further than 26 hours from UTC, and no gap is longer than a day.
        let around = local.and_utc().timestamp();
        let (mut before, mut after) = (around - 2 * 86_400, around + 2 * 86_400);
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            if is_past_gap(middle) { after = middle } else { before = middle }
        }
        chrono::DateTime::from_timestamp(after, 0).unwrap_or_else(|| local.and_utc())
    }
}

impl FromStr for Zone {
    type Err = Refusal;

    fn from_str(name: &str) -> Result<Self, Refusal> {
        name.parse().map(Zone).map_err(|_| Refusal::invalid_field("/zone", "unknown-time-zone"))
    }
}

/// Where cycles are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnchorKind {
    /// On the activation's day of the month, at its time of day.
    Anniversary,
    /// Where a calendar month begins; the first cycle is what is left of one.
    CalendarMonth,
}

impl AnchorKind {
    pub const ALL: [AnchorKind; 2] = [AnchorKind::Anniversary, AnchorKind::CalendarMonth];

    pub fn name(self) -> &'static str {
        match self {
            AnchorKind::Anniversary => "anniversary",
            AnchorKind::CalendarMonth => "calendar_month",
        }
    }
}

/// What every bound of a subscription's cycles is computed from: the activation's local date and
/// time of day, and the zone that it was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    instant: Timestamp,
    zone: Zone,
    kind: AnchorKind,
}

/// The instants that a cycle covers: `start <= t < end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cycle {
    /// 0 for the first.
    pub number: u32,
    pub start: Timestamp,
    pub end: Timestamp,
}

impl Cycle {
    pub fn contains(&self, instant: Timestamp) -> bool {
        self.start <= instant && instant < self.end
    }

    /// Remaining and total microseconds at `now` (R-14a).
    pub fn remaining_micros(&self, now: Timestamp) -> (i64, i64) {
        let until_end =
            |from: Timestamp| self.end.timestamp_micros().saturating_sub(from.timestamp_micros()).max(0);
        let total = until_end(self.start);
        (until_end(now).min(total), total)
    }
}

impl Anchor {
    /// An anniversary's.
    pub fn new(activated_at: Timestamp, zone: Zone) -> Anchor {
        Anchor::of_kind(AnchorKind::Anniversary, activated_at, zone)
    }

    pub fn of_kind(kind: AnchorKind, activated_at: Timestamp, zone: Zone) -> Anchor {
        Anchor { instant: activated_at, zone, kind }
    }

    pub fn kind(&self) -> AnchorKind {
        self.kind
    }

    pub fn instant(&self) -> Timestamp {
        self.instant
    }

    pub fn zone(&self) -> Zone {
        self.zone
    }

    /// The cycle of this number, from the anchor alone: never from the cycle before it.
    /// `amount-overflow` past the calendar's end.
    pub fn cycle(&self, number: u32) -> Result<Cycle, Refusal> {
        let next = number.checked_add(1).ok_or(Refusal::AmountOverflow)?;
        Ok(Cycle { number, start: self.bound(number)?, end: self.bound(next)? })
    }

    /// Bound k: the anchor plus k months, the day clamped to the month's length; where cycles are calendar
    /// months, the first instant of the k-th month after the anchor's.
    fn bound(&self, months: u32) -> Result<Timestamp, Refusal> {
        if months == 0 {
            return Ok(self.instant);
        }
        let local = self.instant.with_timezone(&self.zone.0).naive_local();
        let (date, time): (NaiveDate, NaiveTime) = (local.date(), local.time());
        let month_index = i64::from(date.year()) * 12 + i64::from(date.month0()) + i64::from(months);
        let year = i32::try_from(month_index.div_euclid(12)).map_err(|_| Refusal::AmountOverflow)?;
        let month = u32::try_from(month_index.rem_euclid(12) + 1).map_err(|_| Refusal::AmountOverflow)?;
        if self.kind == AnchorKind::CalendarMonth {
            let first = NaiveDate::from_ymd_opt(year, month, 1).ok_or(Refusal::AmountOverflow)?;
            return Ok(self.zone.instant_of(first.and_time(NaiveTime::MIN)));
        }
        let clamped = (28..=date.day().max(28))
            .rev()
            .find_map(|day| NaiveDate::from_ymd_opt(year, month, day.min(date.day())))
            .ok_or(Refusal::AmountOverflow)?;
        Ok(self.zone.instant_of(clamped.and_time(time)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::at;
    use chrono::Duration;
    use proptest::prelude::*;

    #[test]
    fn an_hour_and_a_day_are_the_zones() {
        let zone = |name: &str| name.parse::<Zone>().unwrap();
        for (name, instant, hour, day) in [
            ("UTC", "2026-02-01T10:59:59.999999Z", "2026-02-01T10:00:00Z", "2026-02-01T00:00:00Z"),
            // Half an hour off: 10:45 is 16:15 there.
            ("Asia/Kolkata", "2026-02-01T10:45:00Z", "2026-02-01T10:30:00Z", "2026-01-31T18:30:00Z"),
            // Clocks are put back at 01:00 UTC: 02:30 comes twice, in two hours.
            ("Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z", "2026-10-24T22:00:00Z"),
            ("Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z", "2026-10-24T22:00:00Z"),
        ] {
            let seen = (zone(name).hour_of(at(instant)), zone(name).day_of(at(instant)));
            assert_eq!(seen, (at(hour), at(day)), "{name} {instant}");
        }
    }

    #[test]
    fn days_are_as_long_as_their_zone_makes_them() {
        let days = |from, to| "Europe/Berlin".parse::<Zone>().unwrap().days(at(from), at(to));
        // Clocks are put back in the night to the 26th: the 25th has 25 hours.
        assert_eq!(
            days("2026-10-24T21:59:59Z", "2026-10-25T23:00:00.000001Z"),
            ["2026-10-23T22:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"].map(at)
        );
        let until_its_end = days("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
        assert_eq!(
            until_its_end,
            ["2026-10-24T22:00:00Z"].map(at),
            "what begins with the end is no part of it"
        );
    }

    fn ends(anchor: &str, zone: &str, count: u32) -> Vec<String> {
        let anchor = Anchor::new(at(anchor), zone.parse().unwrap());
        (0..count).map(|k| anchor.cycle(k).unwrap().end.format("%FT%TZ").to_string()).collect()
    }

    #[test]
    fn a_zone_and_an_anchor_give_back_what_they_were_made_of() {
        let noon = at("2026-01-31T12:00:00Z");
        assert_eq!(Anchor::new(noon, Zone::UTC).instant(), noon);
        let local = noon.naive_utc();
        assert_eq!(Zone::UTC.instant_of(local), noon);
        assert_eq!("Asia/Tokyo".parse::<Zone>().unwrap().instant_of(local), at("2026-01-31T03:00:00Z"));
    }

    #[test]
    fn the_31st_is_clamped_and_comes_back() {
        assert_eq!(
            ends("2026-01-31T10:00:00Z", "UTC", 4),
            ["2026-02-28T10:00:00Z", "2026-03-31T10:00:00Z", "2026-04-30T10:00:00Z", "2026-05-31T10:00:00Z"]
        );
        assert_eq!(ends("2028-01-31T10:00:00Z", "UTC", 1), ["2028-02-29T10:00:00Z"]);
        assert_eq!(
            ends("2026-02-28T10:00:00Z", "UTC", 1),
            ["2026-03-28T10:00:00Z"],
            "28 does not stick to month ends"
        );
    }

    #[test]
    fn calendar_months_begin_where_the_zones_months_do() {
        let months = |at_instant: &str, zone: &str| -> Vec<String> {
            let anchor = Anchor::of_kind(AnchorKind::CalendarMonth, at(at_instant), zone.parse().unwrap());
            let cycles = (0..3).map(|k| anchor.cycle(k).unwrap());
            cycles.map(|c| format!("{} {}", c.start.format("%FT%H:%M"), c.end.format("%FT%H:%M"))).collect()
        };
        assert_eq!(
            months("2026-01-31T10:00:00Z", "UTC"),
            [
                "2026-01-31T10:00 2026-02-01T00:00",
                "2026-02-01T00:00 2026-03-01T00:00",
                "2026-03-01T00:00 2026-04-01T00:00"
            ]
        );
        // Berlin's April begins two hours before UTC's, its March one. A month's first instant is a whole one.
        assert_eq!(
            months("2026-02-28T23:00:00Z", "Europe/Berlin"),
            [
                "2026-02-28T23:00 2026-03-31T22:00",
                "2026-03-31T22:00 2026-04-30T22:00",
                "2026-04-30T22:00 2026-05-31T22:00"
            ]
        );
        // It is February in Shanghai already, and the year turns.
        assert_eq!(months("2026-01-31T16:00:00Z", "Asia/Shanghai")[0], "2026-01-31T16:00 2026-02-28T16:00");
        assert_eq!(months("2026-12-15T00:00:00Z", "UTC")[0], "2026-12-15T00:00 2027-01-01T00:00");
    }

    #[test]
    fn the_time_of_day_is_the_tenants_own_across_a_dst_change() {
        // 09:30 in Berlin: UTC+1 in March, UTC+2 in April, UTC+1 again in November.
        assert_eq!(
            ends("2026-03-15T08:30:00Z", "Europe/Berlin", 8),
            [
                "2026-04-15T07:30:00Z",
                "2026-05-15T07:30:00Z",
                "2026-06-15T07:30:00Z",
                "2026-07-15T07:30:00Z",
                "2026-08-15T07:30:00Z",
                "2026-09-15T07:30:00Z",
                "2026-10-15T07:30:00Z",
                "2026-11-15T08:30:00Z"
            ]
        );
    }

    #[test]
    fn a_local_time_in_the_gap_becomes_the_first_instant_after_it() {
        // Berlin skips 02:00 to 03:00 on 29 March 2026; the first instant after the gap is 01:00 UTC.
        assert_eq!(ends("2026-02-28T01:30:00Z", "Europe/Berlin", 1), ["2026-03-28T01:30:00Z"]);
        assert_eq!(ends("2026-01-29T01:30:00Z", "Europe/Berlin", 2)[1], "2026-03-29T01:00:00Z");
    }

    #[test]
    fn a_local_time_that_occurs_twice_is_the_earlier() {
        // Berlin repeats 02:00 to 03:00 on 25 October 2026: 02:30 is first 00:30 UTC, then 01:30 UTC.
        assert_eq!(ends("2026-09-25T00:30:00Z", "Europe/Berlin", 1), ["2026-10-25T00:30:00Z"]);
    }

    #[test]
    fn a_gap_of_half_an_hour_or_of_a_day_ends_where_it_ends() {
        // Lord Howe (UTC+10:30) skips 02:00 to 02:30 on 4 October 2026, that is at 15:30 UTC.
        assert_eq!(ends("2026-09-03T15:45:00Z", "Australia/Lord_Howe", 1), ["2026-10-03T15:30:00Z"]);
        // Samoa (UTC-10) skipped all of 30 December 2011, from midnight, that is 10:00 UTC.
        assert_eq!(ends("2011-10-30T22:00:00Z", "Pacific/Apia", 2)[1], "2011-12-30T10:00:00Z");
    }

    #[test]
    fn the_zone_that_the_anchor_was_made_with_cuts_its_days() {
        // 23:30 UTC on 30 January is 07:30 on the 31st in Shanghai.
        assert_eq!(ends("2026-01-30T23:30:00Z", "UTC", 1), ["2026-02-28T23:30:00Z"]);
        assert_eq!(
            ends("2026-01-30T23:30:00Z", "Asia/Shanghai", 2),
            ["2026-02-27T23:30:00Z", "2026-03-30T23:30:00Z"]
        );
    }

    #[test]
    fn a_cycle_has_its_start_and_not_its_end() {
        let cycle = Anchor::new(at("2026-04-01T00:00:00.000001Z"), Zone::UTC).cycle(0).unwrap();
        assert_eq!(cycle.start, at("2026-04-01T00:00:00.000001Z"));
        assert_eq!(cycle.end, at("2026-05-01T00:00:00.000001Z"), "to the microsecond");
        let micros = Duration::microseconds;
        assert!(cycle.contains(cycle.start) && !cycle.contains(cycle.start - micros(1)));
        assert!(cycle.contains(cycle.end - micros(1)) && !cycle.contains(cycle.end));
    }

    #[test]
    fn what_is_left_of_a_cycle_is_between_nothing_and_all_of_it() {
        let cycle = Anchor::new(at("2026-04-01T00:00:00Z"), Zone::UTC).cycle(0).unwrap();
        let all = 30 * 86_400_000_000;
        for (now, left) in [
            ("0001-01-01T00:00:00Z", all),
            ("2026-04-01T00:00:00Z", all),
            ("2026-04-16T00:00:00Z", all / 2),
            ("2026-04-30T23:59:59.999999Z", 1),
            ("2026-05-01T00:00:00Z", 0),
            ("9999-12-31T00:00:00Z", 0),
        ] {
            assert_eq!(cycle.remaining_micros(at(now)), (left, all), "{now}");
        }
    }

    #[test]
    fn past_the_calendars_end_there_is_no_cycle() {
        let anchor = Anchor::new(at("2026-01-31T10:00:00Z"), "Europe/Berlin".parse().unwrap());
        assert!(anchor.cycle(95_000).is_ok(), "some 7,900 years");
        for number in [4_000_000, u32::MAX - 1, u32::MAX] {
            assert_eq!(anchor.cycle(number), Err(Refusal::AmountOverflow));
        }
    }

    #[test]
    fn a_zone_is_known_by_its_iana_name() {
        assert_eq!("Asia/Shanghai".parse::<Zone>().map(Zone::name), Ok("Asia/Shanghai"));
        for bad in ["", "Mars/Olympus", "asia/shanghai", "+08:00"] {
            assert!(bad.parse::<Zone>().is_err(), "{bad:?}");
        }
    }

    /// Every minute of the UTC line around a change of the clocks, with what local clocks show.
    fn minutes_around(change: &str, zone: Zone) -> Vec<(NaiveDateTime, Timestamp)> {
        let change = at(change);
        (-2 * 1_440..2 * 1_440)
            .map(|minute| change + Duration::minutes(minute))
            .map(|instant| (instant.with_timezone(&zone.0).naive_local(), instant))
            .collect()
    }

    #[test]
    fn around_a_change_of_the_clocks_every_local_minute_has_the_first_instant_that_reaches_it() {
        for (zone, change) in [
            ("Europe/Berlin", "2026-03-29T01:00:00Z"),
            ("Europe/Berlin", "2026-10-25T01:00:00Z"),
            ("America/New_York", "2026-03-08T07:00:00Z"),
            ("America/New_York", "2026-11-01T06:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
            ("Australia/Lord_Howe", "2027-04-03T15:00:00Z"),
            ("America/Sao_Paulo", "2018-11-04T03:00:00Z"), // midnight itself did not exist
            ("Africa/Casablanca", "2026-02-15T02:00:00Z"),
            ("Pacific/Apia", "2011-12-30T10:00:00Z"), // a whole day did not exist
            ("Asia/Kathmandu", "1985-12-31T18:30:00Z"), // a gap of 15 minutes
        ] {
            let zone: Zone = zone.parse().unwrap();
            let minutes = minutes_around(change, zone);
            // From the second day to the third, so that the table has all that could answer.
            let (from, to) = (minutes[1_440].0, minutes[3 * 1_440].0);
            let mut local = from;
            let mut shown_first = std::collections::BTreeMap::new();
            for (shown, instant) in &minutes {
                shown_first.entry(*shown).or_insert(*instant);
            }
            while local < to {
                let expected = shown_first
                    .get(&local)
                    .copied()
                    .unwrap_or_else(|| minutes.iter().find(|(shown, _)| *shown > local).unwrap().1);
                assert_eq!(zone.instant_of(local), expected, "{local} in {}", zone.name());
                local += Duration::minutes(1);
            }
        }
    }

    proptest! {
        #[test]
        fn cycles_are_contiguous_and_between_28_and_31_days_and_a_dst_change(
            seconds in 1_500_000_000i64..2_500_000_000, zone in 0usize..5, number in 0u32..240
        ) {
            let zone = ["UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"][zone];
            let anchor = Anchor::new(chrono::DateTime::from_timestamp(seconds, 0).unwrap(), zone.parse().unwrap());
            let (this, next) = (anchor.cycle(number).unwrap(), anchor.cycle(number + 1).unwrap());
            prop_assert_eq!(this.end, next.start);
            let hours = (this.end - this.start).num_hours();
            prop_assert!((28 * 24 - 1..=31 * 24 + 1).contains(&hours), "{} hours", hours);
        }

        #[test]
        fn no_bound_drifts_from_the_anchors_day_and_time_of_day(
            micros in 1_500_000_000_000_000i64..2_500_000_000_000_000, zone in 0usize..6, months in 1u32..600
        ) {
            let zone = [
                "UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata",
            ][zone];
            let zone: Zone = zone.parse().unwrap();
            let instant = chrono::DateTime::from_timestamp_micros(micros).unwrap();
            let shown = instant.with_timezone(&zone.0).naive_local();

            // The month by counting, and its last day as the day before the next month's first.
            let (mut year, mut month) = (shown.year(), shown.month());
            for _ in 0..months {
                (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            }
            let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            let last_day = NaiveDate::from_ymd_opt(next_year, next_month, 1).unwrap().pred_opt().unwrap();
            let date = last_day.with_day(shown.day().min(last_day.day())).unwrap();
            let expected = date.and_time(shown.time());

            let bound = Anchor::new(instant, zone).cycle(months).unwrap().start;
            let bound_shown = bound.with_timezone(&zone.0).naive_local();
            if bound_shown != expected {
                prop_assert_eq!(zone.0.from_local_datetime(&expected), LocalResult::None, "only in a gap");
                prop_assert!(bound_shown > expected);
                let just_before = (bound - Duration::microseconds(1)).with_timezone(&zone.0).naive_local();
                prop_assert!(just_before < expected, "the first instant after it");
            }
        }

        #[test]
        fn twelve_months_later_is_the_same_local_day_unless_it_is_29_february(
            seconds in 1_500_000_000i64..2_500_000_000
        ) {
            let start = chrono::DateTime::from_timestamp(seconds, 0).unwrap();
            let year_later = Anchor::new(start, Zone::UTC).cycle(11).unwrap().end;
            let expected_day = if (start.month(), start.day()) == (2, 29) { 28 } else { start.day() };
            prop_assert_eq!((year_later.month(), year_later.day()), (start.month(), expected_day));
            prop_assert_eq!(year_later.time(), start.time());
        }
    }
}
