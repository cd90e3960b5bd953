//! Credits: whole, never negative, never a float.

use serde::{Deserialize, Serialize};

use crate::Refusal;

/// A count of Credits, from 0 to 2^53 - 1: an `i64` in the database and exact in a Lua script.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Credits(i64);

impl Credits {
    pub const ZERO: Credits = Credits(0);
    /// The largest count: the largest integer that Redis' Lua numbers hold exactly.
    pub const MAX: Credits = Credits((1 << 53) - 1);

    /// Refuses a negative count or one above [`Credits::MAX`] with `amount-overflow`.
    pub fn new(count: i64) -> Result<Credits, Refusal> {
        if (0..=Self::MAX.0).contains(&count) { Ok(Credits(count)) } else { Err(Refusal::AmountOverflow) }
    }

    pub fn get(self) -> i64 {
        self.0
    }

    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Sum, refused with `amount-overflow` above the maximum.
    pub fn plus(self, other: Credits) -> Result<Credits, Refusal> {
        Credits::new(self.0 + other.0)
    }

    /// Difference, or zero where `other` is larger.
    pub fn minus_floor_zero(self, other: Credits) -> Credits {
        Credits((self.0 - other.0).max(0))
    }

    /// Difference; `None` where `other` is larger.
    pub fn checked_minus(self, other: Credits) -> Option<Credits> {
        (other <= self).then(|| Credits(self.0 - other.0))
    }
}

impl<'de> Deserialize<'de> for Credits {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let count = i64::deserialize(deserializer)?;
        Credits::new(count).map_err(|_| serde::de::Error::custom("Credits are whole, from 0 to 2^53 - 1"))
    }
}

impl std::fmt::Display for Credits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A rate in milli-Credits per token (1x = 1000), so that 0.1x is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RateMilli(pub u32);

/// An event's cost while it is being summed, in milli-Credits: rounded up once, at the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MilliCredits(u128);

impl MilliCredits {
    pub const ZERO: MilliCredits = MilliCredits(0);

    /// Adds `tokens` at `rate`. Cannot overflow: a u64 count times a u32 rate fits in 96 bits, which leaves
    /// room for four billion of them.
    pub fn add(&mut self, tokens: u64, rate: RateMilli) {
        self.0 += u128::from(tokens) * u128::from(rate.0);
    }

    /// Whole Credits, rounded up; `amount-overflow` above [`Credits::MAX`].
    pub fn round_up(self) -> Result<Credits, Refusal> {
        let whole = self.0.div_ceil(1000);
        Credits::new(i64::try_from(whole).map_err(|_| Refusal::AmountOverflow)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn credits_stay_between_zero_and_their_maximum() {
        let (one, two) = (Credits(1), Credits(2));
        assert_eq!(Credits::new(-1), Err(Refusal::AmountOverflow));
        assert_eq!(Credits::new(1 << 53), Err(Refusal::AmountOverflow));
        assert_eq!(Credits::MAX.plus(one), Err(Refusal::AmountOverflow));
        assert_eq!(Credits::MAX.plus(Credits::MAX), Err(Refusal::AmountOverflow));
        assert_eq!(one.plus(two), Ok(Credits(3)));
        assert_eq!((two.minus_floor_zero(one), one.minus_floor_zero(two)), (one, Credits::ZERO));
        assert_eq!((two.checked_minus(one), one.checked_minus(two)), (Some(one), None));
        assert_eq!(Credits::MAX.to_string(), "9007199254740991");
    }

    #[test]
    fn a_tenth_of_a_credit_is_exact_and_rounds_up_once() {
        let mut cost = MilliCredits::default();
        cost.add(3, RateMilli(100));
        cost.add(8, RateMilli(100));
        // 0.3 + 0.8 = 1.1 Credits: 2, not 1 + 1 rounded separately by accident but 1.1 rounded once.
        assert_eq!(cost.round_up(), Credits::new(2));
        cost.add(9, RateMilli(100));
        assert_eq!(cost.round_up(), Credits::new(2));
    }

    proptest! {
        #[test]
        fn rounding_up_adds_less_than_one_credit(
            counts in prop::collection::vec((0u64..1_000_000_000, 0u32..10_000), 1..6)
        ) {
            let mut cost = MilliCredits::default();
            let mut milli = 0u128;
            for (tokens, rate) in counts {
                cost.add(tokens, RateMilli(rate));
                milli += u128::from(tokens) * u128::from(rate);
            }
            let rounded = u128::try_from(cost.round_up().unwrap().get()).unwrap();
            prop_assert!(rounded * 1000 >= milli && rounded * 1000 < milli + 1000);
        }

        #[test]
        fn no_count_wraps(tokens in any::<u64>(), rate in any::<u32>()) {
            let mut cost = MilliCredits::default();
            cost.add(tokens, RateMilli(rate));
            let exact = (u128::from(tokens) * u128::from(rate)).div_ceil(1000);
            match cost.round_up() {
                Ok(credits) => prop_assert_eq!(u128::try_from(credits.get()).unwrap(), exact),
                Err(refusal) => {
                    prop_assert_eq!(refusal, Refusal::AmountOverflow);
                    prop_assert!(exact > (1 << 53) - 1);
                }
            }
        }
    }
}
