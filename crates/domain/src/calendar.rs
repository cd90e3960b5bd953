//! Cycles: half-open intervals cut from an anchor in the tenant's zone.

use std::str::FromStr;

use chrono::{Datelike, Duration, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
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

/// What every bound of a subscription's cycles is computed from: the activation's local date and
/// time of day, and the zone that it was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    instant: Timestamp,
    zone: Zone,
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
        let micros = |d: Duration| d.num_microseconds().unwrap_or(0).max(0);
        let total = micros(self.end - self.start);
        (micros(self.end - now).min(total), total)
    }
}

impl Anchor {
    pub fn new(activated_at: Timestamp, zone: Zone) -> Anchor {
        Anchor { instant: activated_at, zone }
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

    /// Bound k: the anchor plus k months, the day clamped to the month's length.
    fn bound(&self, months: u32) -> Result<Timestamp, Refusal> {
        if months == 0 {
            return Ok(self.instant);
        }
        let local = self.instant.with_timezone(&self.zone.0).naive_local();
        let (date, time): (NaiveDate, NaiveTime) = (local.date(), local.time());
        let month_index = i64::from(date.year()) * 12 + i64::from(date.month0()) + i64::from(months);
        let year = i32::try_from(month_index.div_euclid(12)).map_err(|_| Refusal::AmountOverflow)?;
        let month = u32::try_from(month_index.rem_euclid(12) + 1).map_err(|_| Refusal::AmountOverflow)?;
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
    use crate::time::parse_rfc3339;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        parse_rfc3339(text).unwrap()
    }

    fn ends(anchor: &str, zone: &str, count: u32) -> Vec<String> {
        let anchor = Anchor::new(at(anchor), zone.parse().unwrap());
        (0..count).map(|k| anchor.cycle(k).unwrap().end.format("%FT%TZ").to_string()).collect()
    }

    #[test]
    fn the_31st_is_clamped_and_comes_back() {
        assert_eq!(
            ends("2026-01-31T10:00:00Z", "UTC", 4),
            ["2026-02-28T10:00:00Z", "2026-03-31T10:00:00Z", "2026-04-30T10:00:00Z", "2026-05-31T10:00:00Z"]
        );
        assert_eq!(ends("2028-01-31T10:00:00Z", "UTC", 1), ["2028-02-29T10:00:00Z"]);
        assert_eq!(ends("2026-02-28T10:00:00Z", "UTC", 1), ["2026-03-28T10:00:00Z"], "28 does not stick to month ends");
    }

    #[test]
    fn the_time_of_day_is_the_tenants_own_across_a_dst_change() {
        // 09:30 in Berlin: UTC+1 in March, UTC+2 in April, UTC+1 again in November.
        assert_eq!(
            ends("2026-03-15T08:30:00Z", "Europe/Berlin", 8),
            [
                "2026-04-15T07:30:00Z", "2026-05-15T07:30:00Z", "2026-06-15T07:30:00Z", "2026-07-15T07:30:00Z",
                "2026-08-15T07:30:00Z", "2026-09-15T07:30:00Z", "2026-10-15T07:30:00Z", "2026-11-15T08:30:00Z"
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
