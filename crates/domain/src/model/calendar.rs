//! Months in UTC, counted on the fingers.

/// Microseconds since 1970.
pub type Micros = i64;

/// A second in [`Micros`].
pub const SECOND: Micros = 1_000_000;
/// A minute.
pub const MINUTE: Micros = 60 * SECOND;
/// An hour.
pub const HOUR: Micros = 60 * MINUTE;
/// A day.
pub const DAY: Micros = 24 * HOUR;

/// The instant `months` after `anchor`, on its day of the month and at its time of day; on the month's
/// last day where it has no such day (R-18, in UTC). For instants from 1970 on.
pub fn months_after(anchor: Micros, months: u32) -> Micros {
    let time_of_day = anchor % DAY;
    let mut day = anchor / DAY;
    let (mut year, mut month) = (1970, 1);
    while day >= days_of(year, month) {
        day -= days_of(year, month);
        (year, month) = next_month(year, month);
    }
    for _ in 0..months {
        (year, month) = next_month(year, month);
    }
    let last_day = days_of(year, month) - 1;
    let day = if day > last_day { last_day } else { day };
    (days_before(year, month) + day) * DAY + time_of_day
}

/// The first instant of the month that comes `months` after the one of `anchor`.
pub fn month_start_after(anchor: Micros, months: u32) -> Micros {
    let (day, _) = day_of_month(anchor);
    months_after((anchor / DAY - day) * DAY, months)
}

/// The day of its month that an instant lies in, from 0 on, and the days of that month.
pub fn day_of_month(instant: Micros) -> (i64, i64) {
    let mut left = instant / DAY;
    let (mut year, mut month) = (1970, 1);
    while left >= days_of(year, month) {
        left -= days_of(year, month);
        (year, month) = next_month(year, month);
    }
    (left, days_of(year, month))
}

fn next_month(year: i64, month: i64) -> (i64, i64) {
    if month == 12 { (year + 1, 1) } else { (year, month + 1) }
}

fn days_before(year: i64, month: i64) -> i64 {
    let (mut at_year, mut at_month, mut days) = (1970, 1, 0);
    while (at_year, at_month) != (year, month) {
        days += days_of(at_year, at_month);
        (at_year, at_month) = next_month(at_year, at_month);
    }
    days
}

fn days_of(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::{Anchor, AnchorKind, Zone};
    use proptest::prelude::*;

    #[test]
    fn the_31st_of_january_is_followed_by_the_28th_and_the_31st() {
        // 2026-01-31T10:00:00Z and two months on, as `date -u -d @...` says them.
        let anchor = 1_769_853_600 * SECOND;
        assert_eq!(months_after(anchor, 0), anchor);
        assert_eq!(months_after(anchor, 1), 1_772_272_800 * SECOND, "2026-02-28T10:00:00Z");
        assert_eq!(months_after(anchor, 2), 1_774_951_200 * SECOND, "2026-03-31T10:00:00Z");
    }

    proptest! {
        #[test]
        fn months_begin_where_the_model_says(micros in 0i64..4_000_000_000_000_000, months in 1u32..60) {
            let anchored = chrono::DateTime::from_timestamp_micros(micros).unwrap();
            let anchor = Anchor::of_kind(AnchorKind::CalendarMonth, anchored, Zone::UTC);
            let start = anchor.cycle(months).unwrap().start.timestamp_micros();
            prop_assert_eq!(start, month_start_after(micros, months));
            let (day, of) = day_of_month(micros);
            let (days, in_all) = Zone::UTC.day_of_month(anchored);
            prop_assert_eq!((day + 1, of), (i64::from(days), i64::from(in_all)));
        }

        #[test]
        fn cycles_begin_where_the_model_says(micros in 0i64..4_000_000_000_000_000, months in 0u32..60) {
            let anchor = Anchor::new(chrono::DateTime::from_timestamp_micros(micros).unwrap(), Zone::UTC);
            let start = anchor.cycle(months).unwrap().start.timestamp_micros();
            prop_assert_eq!(start, months_after(micros, months));
        }
    }
}
