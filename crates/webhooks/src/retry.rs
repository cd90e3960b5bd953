//! When a failed delivery is tried again.

use std::time::Duration;

use domain::id::EventId;

/// The pauses between attempts: eight attempts in 27 hours and 35 minutes, so that a receiver may be
/// away for a day.
const PAUSES_SECONDS: [u64; 7] = [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];

/// The pause after this many failed attempts; none after the last. Up to a tenth longer, by the
/// event: the deliveries that failed together do not come back together.
pub(crate) fn pause(attempts: u32, event: EventId) -> Option<Duration> {
    let index = usize::try_from(attempts.checked_sub(1)?).ok()?;
    let seconds = *PAUSES_SECONDS.get(index)?;
    // The last byte of an id is random.
    let spread = u64::from(event.uuid().as_bytes()[15]);
    Some(Duration::from_millis(seconds * 1_000 + seconds * 100 * spread / 255))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn eight_attempts_over_more_than_a_day() {
        let pauses = |last_byte: u128| -> Vec<Duration> {
            let event = EventId::from_uuid(Uuid::from_u128(last_byte));
            (1..).map_while(|attempts| pause(attempts, event)).collect()
        };
        let (least, most) = (pauses(0), pauses(255));
        assert_eq!(least, PAUSES_SECONDS.map(Duration::from_secs));
        let span = least.iter().sum::<Duration>();
        assert_eq!(span, Duration::from_secs(27 * 3_600 + 35 * 60 + 5));
        for (least, most) in least.iter().zip(&most) {
            assert_eq!(*most, *least * 11 / 10);
        }
        assert_eq!(pause(0, EventId::from_uuid(Uuid::nil())), None, "nothing has failed");
    }
}
