//! Holds: Credits set aside for a request that was allowed to start.

use chrono::Duration;
use uuid::Uuid;

use crate::id::{CustomerId, ExternalId};
use crate::usage::{LengthPrefixed, TokenCounts, TokenKind};
use crate::{Credits, Timestamp};

/// A granted authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    pub id: ExternalId,
    pub customer: CustomerId,
    pub credits: Credits,
    /// The charge instant of the usage that captures it (R-19a).
    pub granted_at: Timestamp,
    pub expires_at: Timestamp,
    /// Until when it reduces what is available: its expiry, or the end of the cycle that it was
    /// granted in if that comes first (R-19a).
    pub counts_until: Timestamp,
}

impl Hold {
    /// The same hold with a later expiry. What it sets aside counts as long, or until its cycle's end.
    pub fn renewed(&self, expires_at: Timestamp, cycle_ends_at: Option<Timestamp>) -> Hold {
        let was_cut_by_its_cycle = self.counts_until < self.expires_at;
        let counts_until = if was_cut_by_its_cycle {
            self.counts_until
        } else {
            counts_until(self.granted_at, expires_at, cycle_ends_at)
        };
        Hold { expires_at, counts_until, ..self.clone() }
    }
}

/// How much of `available` an authorization holds: its full estimate where that fits, else all
/// there is where at least the prompt fits, else nothing.
pub fn credits_to_hold(available: Credits, full: Credits, prompt_only: Credits) -> Option<Credits> {
    if full <= available {
        Some(full)
    } else if prompt_only <= available && !available.is_zero() {
        Some(available)
    } else {
        None
    }
}

/// How a hold ended, where it did not just expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldEnd {
    Captured,
    Released,
}

impl HoldEnd {
    pub fn name(self) -> &'static str {
        match self {
            HoldEnd::Captured => "captured",
            HoldEnd::Released => "released",
        }
    }
}

/// What a usage event that names a hold finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    /// The hold is live: it is released whole, and its grant instant picks the cycle.
    Live { granted_at: Timestamp },
    /// The event is charged without a hold, and says why.
    None(NoHold),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHold {
    NotNamed,
    Unknown,
    Expired,
    Captured,
    Released,
}

impl NoHold {
    pub const ALL: [NoHold; 5] =
        [NoHold::NotNamed, NoHold::Unknown, NoHold::Expired, NoHold::Captured, NoHold::Released];

    /// The reason of this code, if there is one.
    pub fn of_code(code: &str) -> Option<NoHold> {
        NoHold::ALL.into_iter().find(|no_hold| no_hold.code() == code)
    }

    pub fn code(self) -> &'static str {
        match self {
            NoHold::NotNamed => "not-named",
            NoHold::Unknown => "unknown",
            NoHold::Expired => "expired",
            NoHold::Captured => "captured",
            NoHold::Released => "released",
        }
    }
}

/// What a hold that is known by its terms and its end means for an event recorded at `now`.
pub fn capture(hold: &Hold, end: Option<HoldEnd>, now: Timestamp) -> Capture {
    match end {
        Some(HoldEnd::Captured) => Capture::None(NoHold::Captured),
        Some(HoldEnd::Released) => Capture::None(NoHold::Released),
        None if hold.expires_at <= now => Capture::None(NoHold::Expired),
        None => Capture::Live { granted_at: hold.granted_at },
    }
}

/// Tells one authorization request from another under the same id; as a text in hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint(Uuid);

impl Fingerprint {
    pub fn from_bytes(bytes: [u8; 16]) -> Fingerprint {
        Fingerprint(Uuid::from_bytes(bytes))
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// As a text.
    pub fn hex<'b>(&self, buffer: &'b mut [u8; 32]) -> &'b str {
        self.0.as_simple().encode_lower(buffer)
    }

    /// Reads a text; none where it is no fingerprint.
    pub fn from_hex(text: &str) -> Option<Fingerprint> {
        Uuid::try_parse(text).ok().map(Fingerprint)
    }
}

/// The fingerprint of an authorization request.
pub fn request_fingerprint(
    customer: CustomerId,
    model: &str,
    prompt: &TokenCounts,
    output_tokens_max: Option<u64>,
) -> Fingerprint {
    let mut text = LengthPrefixed::new();
    text.field(customer.uuid().as_bytes());
    text.field(model.as_bytes());
    for kind in TokenKind::ALL {
        text.field(&prompt.of(kind).to_be_bytes());
    }
    text.field(&output_tokens_max.map(u64::to_be_bytes).unwrap_or_default());
    text.field(&[u8::from(output_tokens_max.is_some())]);
    Fingerprint::from_bytes(text.digest())
}

/// The longest life of a hold, with renewals: usage that captures one was authorized no longer ago.
pub const LIFE_MAX: Duration = Duration::hours(2);

/// When a hold granted at `now` ends by itself (*policy*, R-28).
pub fn expires_at(now: Timestamp, hold_minutes: u32) -> Timestamp {
    now + Duration::minutes(i64::from(hold_minutes))
}

/// When a hold that is renewed at `now` ends: not before it would have, not after its longest life
/// (*policy*, R-28). None once it has that.
pub fn renewed_until(
    hold: &Hold,
    now: Timestamp,
    hold_minutes: u32,
    life_minutes_max: u32,
) -> Option<Timestamp> {
    let latest = hold.granted_at + Duration::minutes(i64::from(life_minutes_max));
    let wanted = expires_at(now, hold_minutes).min(latest);
    (hold.expires_at < latest).then(|| wanted.max(hold.expires_at))
}

/// Until when a hold granted at `now` reduces what is available (R-19a): a hold of an ended cycle
/// does not.
pub fn counts_until(now: Timestamp, expires_at: Timestamp, cycle_ends_at: Option<Timestamp>) -> Timestamp {
    match cycle_ends_at {
        Some(cycle_end) if now < cycle_end => expires_at.min(cycle_end),
        Some(_) | None => expires_at,
    }
}

/// The instant that picks the cycle an event is charged to (R-19a).
pub fn charge_instant(capture: Capture, event_time: Timestamp, received_at: Timestamp) -> Timestamp {
    match capture {
        Capture::Live { granted_at } => granted_at,
        Capture::None(_) => event_time.min(received_at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{at, credits};
    use proptest::prelude::*;
    use uuid::Uuid;

    fn hold() -> Hold {
        let granted_at = at("2026-01-31T23:59:00Z");
        Hold {
            id: "req-1".parse().unwrap(),
            customer: CustomerId::from_uuid(Uuid::from_u128(1)),
            credits: credits(100),
            granted_at,
            expires_at: expires_at(granted_at, 15),
            counts_until: at("2026-02-01T00:00:00Z"),
        }
    }

    #[test]
    fn the_full_estimate_is_held_where_it_fits_else_all_there_is_where_the_prompt_fits() {
        // An estimate of 100, of which the prompt is 40.
        for (available, held) in
            [(101, Some(100)), (100, Some(100)), (99, Some(99)), (40, Some(40)), (39, None), (0, None)]
        {
            let held = held.map(credits);
            assert_eq!(credits_to_hold(credits(available), credits(100), credits(40)), held, "{available}");
        }
        let free = Credits::ZERO;
        assert_eq!(credits_to_hold(free, free, free), Some(free), "a free model needs no Credits");
        assert_eq!(credits_to_hold(free, credits(1), free), None, "a free prompt before output that is not");
    }

    #[test]
    fn a_hold_is_live_until_its_expiry() {
        let expiry = at("2026-02-01T00:14:00Z");
        assert_eq!(hold().expires_at, expiry);
        let granted_at = hold().granted_at;
        let micro = Duration::microseconds(1);
        assert_eq!(capture(&hold(), None, expiry - micro), Capture::Live { granted_at });
        assert_eq!(capture(&hold(), None, expiry), Capture::None(NoHold::Expired));
    }

    #[test]
    fn a_hold_is_renewed_to_its_time_again_up_to_its_longest_life() {
        // Granted at 23:59:00 for 15 minutes, at most 2 hours.
        let renewed = |now: &str, hold: &Hold| renewed_until(hold, at(now), 15, 120);
        assert_eq!(renewed("2026-02-01T00:04:00Z", &hold()), Some(at("2026-02-01T00:19:00Z")));
        assert_eq!(renewed("2026-01-31T23:58:00Z", &hold()), Some(hold().expires_at), "never shorter");
        let old = Hold { expires_at: at("2026-02-01T01:55:00Z"), ..hold() };
        assert_eq!(renewed("2026-02-01T01:50:00Z", &old), Some(at("2026-02-01T01:59:00Z")), "the limit");
        let oldest = Hold { expires_at: at("2026-02-01T01:59:00Z"), ..hold() };
        assert_eq!(renewed("2026-02-01T01:58:00Z", &oldest), None);
    }

    #[test]
    fn a_renewed_hold_counts_no_longer_than_its_cycle() {
        let later = at("2026-02-01T00:30:00Z");
        let cut = hold().renewed(later, Some(at("2026-03-01T00:00:00Z")));
        assert_eq!((cut.expires_at, cut.counts_until), (later, at("2026-02-01T00:00:00Z")));
        let whole = Hold { counts_until: hold().expires_at, ..hold() };
        assert_eq!(whole.renewed(later, None).counts_until, later);
        let cycle_end = at("2026-02-01T00:20:00Z");
        assert_eq!(whole.renewed(later, Some(cycle_end)).counts_until, cycle_end);
    }

    #[test]
    fn a_hold_counts_until_its_expiry_or_the_end_of_its_cycle() {
        let (now, expiry) = (at("2026-01-31T23:59:00Z"), at("2026-02-01T00:14:00Z"));
        let cycle_end = at("2026-02-01T00:00:00Z");
        assert_eq!(counts_until(now, expiry, Some(cycle_end)), cycle_end);
        assert_eq!(counts_until(now, expiry, Some(expiry + Duration::days(9))), expiry);
        assert_eq!(counts_until(now, expiry, None), expiry);
        assert_eq!(counts_until(cycle_end, expiry, Some(cycle_end)), expiry, "granted after it ended");
    }

    #[test]
    fn only_the_same_request_has_the_same_fingerprint() {
        let customer = |n| CustomerId::from_uuid(Uuid::from_u128(n));
        let prompt = |input| TokenCounts { input, ..TokenCounts::default() };
        let of = |customer, model, prompt, max| request_fingerprint(customer, model, &prompt, max);
        let one = of(customer(1), "pro", prompt(7), Some(9));
        assert_eq!(one, of(customer(1), "pro", prompt(7), Some(9)));
        let cached = TokenCounts { cache_read: 7, ..TokenCounts::default() };
        let others = [
            of(customer(2), "pro", prompt(7), Some(9)),
            of(customer(1), "lite", prompt(7), Some(9)),
            of(customer(1), "pro", prompt(8), Some(9)),
            of(customer(1), "pro", cached, Some(9)),
            of(customer(1), "pro", prompt(7), Some(0)),
            of(customer(1), "pro", prompt(7), None),
        ];
        let all: std::collections::BTreeSet<&Fingerprint> = others.iter().chain([&one]).collect();
        assert_eq!(all.len(), 7, "{all:?}");
        assert_eq!(Fingerprint::from_hex(one.hex(&mut [0; 32])), Some(one));
        assert_eq!(Fingerprint::from_hex("f"), None);
        assert_eq!(Fingerprint::from_bytes(*one.as_bytes()), one);
    }

    #[test]
    fn what_is_stored_of_an_end_has_a_name_of_its_own() {
        assert_eq!([HoldEnd::Captured, HoldEnd::Released].map(HoldEnd::name), ["captured", "released"]);
        let codes = [NoHold::NotNamed, NoHold::Unknown, NoHold::Expired, NoHold::Captured, NoHold::Released];
        let named = ["not-named", "unknown", "expired", "captured", "released"];
        assert_eq!(codes.map(NoHold::code), named);
        assert_eq!(named.map(NoHold::of_code), codes.map(Some));
        assert_eq!(NoHold::of_code("lost"), None);
    }

    #[test]
    fn how_a_hold_ended_is_said_whether_or_not_its_time_is_over() {
        for now in [hold().granted_at, hold().expires_at] {
            let of = |end| capture(&hold(), Some(end), now);
            assert_eq!(of(HoldEnd::Captured), Capture::None(NoHold::Captured));
            assert_eq!(of(HoldEnd::Released), Capture::None(NoHold::Released));
        }
    }

    #[test]
    fn a_live_hold_charges_as_of_its_grant_and_everything_else_as_of_the_earlier_time() {
        let (event_time, received_at) = (at("2026-02-01T00:01:00Z"), at("2026-02-01T00:02:00Z"));
        let live = capture(&hold(), None, received_at);
        let granted_at = at("2026-01-31T23:59:00Z");
        assert_eq!(charge_instant(live, event_time, received_at), granted_at, "the old cycle's");
        for none in [NoHold::NotNamed, NoHold::Unknown, NoHold::Expired, NoHold::Captured, NoHold::Released] {
            let none = Capture::None(none);
            assert_eq!(charge_instant(none, event_time, received_at), event_time);
            assert_eq!(charge_instant(none, received_at, event_time), event_time, "a clock that is ahead");
        }
    }

    proptest! {
        #[test]
        fn no_hold_is_more_than_available_or_than_asked_or_less_than_the_prompt(
            available in 0i64..1_000, prompt in 0i64..1_000, output in 0i64..1_000
        ) {
            let (available, full, prompt) = (credits(available), credits(prompt + output), credits(prompt));
            match credits_to_hold(available, full, prompt) {
                Some(held) => prop_assert!(held <= available && held <= full && held >= prompt),
                None => prop_assert!(available < prompt || (available.is_zero() && !full.is_zero())),
            }
        }
    }
}
