//! Credits that a cycle leaves, carried into the next ones.
//!
//! By default nothing is: what is left of a plan's grants expires with its cycle. A tenant may carry a share of
//! it. Then everything expires as before, and what is carried is a grant of its own, from the cycle's end on, that
//! burns before the new pool and is never carried again. Usage that comes late is charged to the closed cycle as far
//! as that was unspent, whether or not a part was carried: a tenant that minds has a grace of no minutes.

use serde::{Deserialize, Serialize};

use crate::calendar::{Anchor, Cycle};
use crate::{Credits, Refusal, Timestamp};

/// What a tenant carries over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloverPolicy {
    /// The share of what is left, in basis points: 5,000 is a half.
    pub share_bps: u16,
    /// At most this many Credits a cycle; no bound where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap_credits: Option<Credits>,
    /// How many cycles it lasts.
    pub cycles: u32,
}

/// What is carried out of a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    pub credits: Credits,
    /// The cycle's end.
    pub effective_at: Timestamp,
    pub expires_at: Timestamp,
}

impl RolloverPolicy {
    /// What is wrong with it, a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(1..=10_000).contains(&self.share_bps) {
            problems.push("rollover.share_bps must be 1 to 10000".to_owned());
        }
        if !(1..=120).contains(&self.cycles) {
            problems.push("rollover.cycles must be 1 to 120".to_owned());
        }
        problems
    }

    /// floor(share x rest), capped.
    pub fn share_of(&self, rest: Credits) -> Result<Credits, Refusal> {
        let share = i128::from(rest.get()) * i128::from(self.share_bps) / 10_000;
        let share = Credits::new(i64::try_from(share).map_err(|_| Refusal::AmountOverflow)?)?;
        Ok(self.cap_credits.map_or(share, |cap| share.min(cap)))
    }

    /// What is carried out of the cycle `closing`, which left `rest` of its plan's grants; none where that is
    /// nothing, or would be over by `now`.
    pub fn carry(
        &self,
        anchor: Anchor,
        closing: Cycle,
        rest: Credits,
        now: Timestamp,
    ) -> Result<Option<Carried>, Refusal> {
        let credits = self.share_of(rest)?;
        let last = closing.number.checked_add(self.cycles).ok_or(Refusal::AmountOverflow)?;
        let expires_at = anchor.cycle(last)?.end;
        let carried = Carried { credits, effective_at: closing.end, expires_at };
        Ok((!credits.is_zero() && expires_at > now).then_some(carried))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Zone;
    use crate::fixtures::{at, credits};
    use proptest::prelude::*;

    fn half(cap: Option<i64>, cycles: u32) -> RolloverPolicy {
        RolloverPolicy { share_bps: 5_000, cap_credits: cap.map(credits), cycles }
    }

    #[test]
    fn a_share_is_floored_and_capped() {
        for (rest, cap, carried) in
            [(0, None, 0), (1, None, 0), (7, None, 3), (7, Some(2), 2), (7, Some(3), 3), (7, Some(9), 3)]
        {
            assert_eq!(half(cap, 1).share_of(credits(rest)), Ok(credits(carried)), "{rest}, {cap:?}");
        }
        let all = RolloverPolicy { share_bps: 10_000, ..half(None, 1) };
        assert_eq!(all.share_of(Credits::MAX), Ok(Credits::MAX));
    }

    #[test]
    fn what_is_carried_lasts_from_the_cycles_end_for_so_many_cycles() {
        let anchor = Anchor::new(at("2026-01-31T10:00:00Z"), Zone::UTC);
        let closing = anchor.cycle(0).unwrap();
        let carry = |cycles, now| half(None, cycles).carry(anchor, closing, credits(100), at(now)).unwrap();
        let on_time = "2026-02-28T10:00:00Z";
        for (cycles, expires) in [(1, "2026-03-31T10:00:00Z"), (2, "2026-04-30T10:00:00Z")] {
            let carried =
                Carried { credits: credits(50), effective_at: at(on_time), expires_at: at(expires) };
            assert_eq!(carry(cycles, on_time), Some(carried));
        }
        assert_eq!(carry(1, "2026-03-31T10:00:00Z"), None, "over before anybody could spend it");
        assert_eq!(half(None, 1).carry(anchor, closing, credits(1), at(on_time)), Ok(None), "nothing");
    }

    #[test]
    fn a_policy_that_makes_no_sense_is_refused() {
        assert_eq!(half(None, 1).problems(), Vec::<String>::new());
        assert_eq!(RolloverPolicy { share_bps: 0, ..half(None, 1) }.problems().len(), 1);
        assert_eq!(RolloverPolicy { share_bps: 10_001, cap_credits: None, cycles: 0 }.problems().len(), 2);
    }

    proptest! {
        /// Never more than was left, nor than the cap; the more is left, the more is carried.
        #[test]
        fn no_credit_is_made_by_carrying(
            rest in 0i64..9_007_199_254_740_991, more in 0i64..1_000, share_bps in 1u16..=10_000,
            cap in prop::option::of(0i64..9_007_199_254_740_991),
        ) {
            let policy = RolloverPolicy { share_bps, cap_credits: cap.map(credits), cycles: 1 };
            let carried = policy.share_of(credits(rest)).unwrap();
            prop_assert!(carried.get() <= rest);
            prop_assert!(cap.is_none_or(|cap| carried.get() <= cap));
            let rest = (rest + more).min(Credits::MAX.get());
            prop_assert!(policy.share_of(credits(rest)).unwrap() >= carried);
        }
    }
}
