//! When to tell somebody about a balance: a threshold was crossed, all of it is used up, or there is some again.
//!
//! An alert is about one change of a balance, from before to after. So nothing has to be remembered: a threshold is
//! armed again by whatever raises the balance above it, the next cycle's pool above all.

use crate::Credits;
use crate::policy::Policies;

/// A balance, as a part of what it could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// What can be spent.
    pub available: Credits,
    /// What the live grants were made with.
    pub limit: Credits,
}

/// What a change of a balance came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alert {
    /// At least this percent of the limit is used, and was not before.
    UsedPercent(u8),
    /// No more than this is left, and there was more.
    Left(Credits),
    /// Nothing is left, and there was something.
    Depleted,
    /// There is something again, after all was used up.
    Recovered,
}

impl Level {
    /// The most that is left once this percent of the limit is used.
    fn left_at(self, used_percent: u8) -> Credits {
        let left = i128::from(self.limit.get()) * i128::from(100_u8.saturating_sub(used_percent)) / 100;
        // No more than the limit.
        i64::try_from(left).ok().and_then(|left| Credits::new(left).ok()).unwrap_or(self.limit)
    }
}

/// The one alert of a change: of several thresholds that it crosses the most severe, which is the one that leaves
/// least. None where it crosses none.
pub fn alert(before: Level, after: Level, policies: &Policies) -> Option<Alert> {
    if after.available.is_zero() {
        return (!before.available.is_zero()).then_some(Alert::Depleted);
    }
    if before.available.is_zero() {
        return Some(Alert::Recovered);
    }
    let is_crossed = |left: Credits| before.available > left && after.available <= left;
    let percents = policies.alert_used_percents.iter();
    // Of the limit after the change: a pool that grew or shrank has its own thresholds.
    let percents = percents.map(|percent| (after.left_at(*percent), Alert::UsedPercent(*percent)));
    let credits = policies.alert_credits_left.iter().map(|credits| (*credits, Alert::Left(*credits)));
    let crossed = percents.chain(credits).filter(|(left, _)| is_crossed(*left));
    crossed.min_by_key(|(left, _)| *left).map(|(_, alert)| alert)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::credits;
    use proptest::prelude::*;

    fn policies() -> Policies {
        Policies {
            alert_used_percents: vec![50, 80, 95],
            alert_credits_left: vec![credits(100)],
            ..Policies::default()
        }
    }

    /// From and to so much of 1,000.
    fn change(before: i64, after: i64) -> Option<Alert> {
        let level = |available| Level { available: credits(available), limit: credits(1_000) };
        alert(level(before), level(after), &policies())
    }

    #[test]
    fn a_threshold_is_told_when_it_is_reached_and_not_again() {
        assert_eq!(change(1_000, 501), None);
        assert_eq!(change(501, 500), Some(Alert::UsedPercent(50)));
        assert_eq!(change(500, 499), None, "told before");
        assert_eq!(change(101, 100), Some(Alert::Left(credits(100))));
        assert_eq!(change(51, 50), Some(Alert::UsedPercent(95)));
        assert_eq!(change(1, 0), Some(Alert::Depleted));
        assert_eq!(change(0, 0), None);
        assert_eq!(change(0, 1), Some(Alert::Recovered));
        assert_eq!(change(100, 900), None, "it rose: armed again");
        assert_eq!(change(900, 500), Some(Alert::UsedPercent(50)));
    }

    #[test]
    fn of_several_the_most_severe_is_told_alone() {
        assert_eq!(change(1_000, 150), Some(Alert::UsedPercent(80)));
        assert_eq!(change(1_000, 60), Some(Alert::Left(credits(100))), "100 are less than the 20% of 80");
        assert_eq!(change(1_000, 20), Some(Alert::UsedPercent(95)));
        assert_eq!(change(1_000, 0), Some(Alert::Depleted));
    }

    #[test]
    fn without_thresholds_only_the_ends_are_told() {
        let none =
            Policies { alert_used_percents: vec![], alert_credits_left: vec![], ..Policies::default() };
        let level = |available| Level { available: credits(available), limit: credits(1_000) };
        assert_eq!(alert(level(1_000), level(1), &none), None);
        assert_eq!(alert(level(1), level(0), &none), Some(Alert::Depleted));
    }

    proptest! {
        /// A pool that is spent in steps tells each threshold at most once, in the order of severity.
        #[test]
        fn steps_tell_no_threshold_twice(steps in prop::collection::vec(0i64..300, 1..20)) {
            let mut left = 1_000;
            let mut told = Vec::new();
            for step in steps {
                let next = (left - step).max(0);
                told.extend(change(left, next));
                left = next;
            }
            let severity = |alert: &Alert| match alert {
                Alert::UsedPercent(50) => 0,
                Alert::UsedPercent(80) => 1,
                Alert::Left(_) => 2,
                Alert::UsedPercent(_) => 3,
                Alert::Depleted => 4,
                Alert::Recovered => 5,
            };
            let order: Vec<i32> = told.iter().map(severity).collect();
            prop_assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "{told:?}");
            prop_assert_eq!(order.last() == Some(&4), left == 0);
        }
    }
}
