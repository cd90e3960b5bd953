//! Instants: UTC with microseconds.

use chrono::{DateTime, Utc};

/// An instant in UTC, with microsecond precision.
pub type Timestamp = DateTime<Utc>;

/// Drops what is finer than a microsecond, so that an instant survives a round trip to storage.
pub fn truncate_to_micros(instant: Timestamp) -> Timestamp {
    DateTime::from_timestamp_micros(instant.timestamp_micros()).unwrap_or(instant)
}

/// Reads an RFC 3339 instant with an explicit zone. A leap second and 24:00 are refused: neither
/// exists on the time line that cycles are cut from.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    // chrono takes a minus sign that is not ASCII; RFC 3339 has none.
    let instant =
        DateTime::parse_from_rfc3339(Some(text).filter(|text| text.is_ascii())?).ok()?.with_timezone(&Utc);
    let is_leap_second = instant.timestamp_subsec_nanos() >= 1_000_000_000;
    (!is_leap_second).then(|| truncate_to_micros(instant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_finer_than_a_microsecond_is_dropped_on_both_sides_of_1970() {
        for (text, kept) in [
            ("2026-01-31T10:00:00.123456789Z", 1_769_853_600_123_456),
            ("1969-12-31T23:59:59.9999999Z", -1),
            ("1970-01-01T00:00:00.0000009Z", 0),
        ] {
            let instant = parse_rfc3339(text).unwrap();
            assert_eq!((instant.timestamp_micros(), instant.timestamp_subsec_nanos() % 1_000), (kept, 0));
            assert_eq!(truncate_to_micros(instant), instant, "once is enough");
        }
    }

    #[test]
    fn an_instant_needs_a_zone_and_a_place_on_the_time_line() {
        assert!(parse_rfc3339("2026-01-31T10:00:00Z").is_some());
        assert!(parse_rfc3339("2026-01-31T10:00:00.123456789+08:00").is_some());
        for bad in [
            "2026-01-31T10:00:00",
            "2026-12-31T23:59:60Z",
            "2026-01-31T24:00:00Z",
            "2026-02-30T00:00:00Z",
            "yesterday",
            "2026-01-31T10:00:00\u{2212}08:00",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }
}
