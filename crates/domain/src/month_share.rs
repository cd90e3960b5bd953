//! The part of a calendar month that a first cycle covers, where cycles are calendar months (policy
//! `cycle_anchor = calendar_month`).
//!
//! A first cycle then ends with the month it begins in. It costs and grants the same part of the plan: the days that
//! are left, the one of the purchase included, over all days of the month, in the tenant's zone. A whole price would
//! sell one day for a month's money on the 31st. Money is rounded half to even, Credits are floored; a promotion is
//! taken off the part's price. Every later cycle is a whole month at the whole price.

use crate::calendar::Zone;
use crate::money::{Money, divide_half_even};
use crate::{Credits, Refusal, Timestamp};

/// Days of a month, of all of them. Frozen with the purchase: an upgrade within the cycle is priced by the same part,
/// so what is paid and granted depends on the highest plan alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonthShare {
    days: u16,
    of: u16,
}

impl MonthShare {
    /// A whole cycle.
    pub const WHOLE: MonthShare = MonthShare { days: 1, of: 1 };

    /// `days` of `of`; none unless that is a part of something.
    pub fn new(days: u16, of: u16) -> Option<MonthShare> {
        (1 <= days && days <= of).then_some(MonthShare { days, of })
    }

    /// What is left of the calendar month that `now` lies in, its own day included.
    pub fn left(zone: Zone, now: Timestamp) -> MonthShare {
        let (day, of) = zone.day_of_month(now);
        MonthShare { days: of - day + 1, of }
    }

    pub fn days(self) -> u16 {
        self.days
    }

    pub fn of(self) -> u16 {
        self.of
    }

    pub fn is_whole(self) -> bool {
        self.days == self.of
    }

    /// Half to even.
    pub fn of_money(self, price: Money) -> Result<Money, Refusal> {
        let minor =
            divide_half_even(i128::from(price.amount_minor) * i128::from(self.days), i128::from(self.of));
        Money::new(i64::try_from(minor).map_err(|_| Refusal::AmountOverflow)?, price.currency)
    }

    /// Floored.
    pub fn of_credits(self, pool: Credits) -> Result<Credits, Refusal> {
        let credits = i128::from(pool.get()) * i128::from(self.days) / i128::from(self.of);
        Credits::new(i64::try_from(credits).map_err(|_| Refusal::AmountOverflow)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{at, credits, usd};
    use proptest::prelude::*;

    #[test]
    fn the_day_of_the_purchase_counts_and_the_zone_says_which_it_is() {
        let left = |zone: &str, now| {
            let share = MonthShare::left(zone.parse().unwrap(), at(now));
            (share.days(), share.of())
        };
        assert_eq!(left("UTC", "2026-04-01T00:00:00Z"), (30, 30));
        assert_eq!(left("UTC", "2026-04-16T23:59:59Z"), (15, 30));
        assert_eq!(left("UTC", "2026-01-31T10:00:00Z"), (1, 31));
        assert_eq!(left("UTC", "2028-02-01T00:00:00Z"), (29, 29));
        // The first of February already.
        assert_eq!(left("Asia/Shanghai", "2026-01-31T16:00:00Z"), (28, 28));
    }

    #[test]
    fn half_a_month_costs_and_grants_half() {
        let half = MonthShare::new(15, 30).unwrap();
        assert_eq!(
            (half.of_money(usd(600)), half.of_credits(credits(60_000_000))),
            (Ok(usd(300)), Ok(credits(30_000_000)))
        );
        assert_eq!(half.of_money(usd(601)), Ok(usd(300)), "300.5, to even");
        assert_eq!(half.of_credits(credits(7)), Ok(credits(3)));
        let day = MonthShare::new(1, 31).unwrap();
        assert_eq!(
            (day.of_money(usd(600)), day.of_credits(credits(60_000_000))),
            (Ok(usd(19)), Ok(credits(1_935_483)))
        );
    }

    #[test]
    fn a_share_is_a_part_of_something() {
        assert!(MonthShare::WHOLE.is_whole() && MonthShare::new(31, 31).unwrap().is_whole());
        for (days, of) in [(0, 30), (31, 30), (0, 0)] {
            assert_eq!(MonthShare::new(days, of), None, "{days} of {of}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_never_more_than_the_whole(days in 1u16..=31, of in 28u16..=31, price in 0i64..1_000_000, pool in 0i64..9_007_199_254_740_991) {
            if let Some(share) = MonthShare::new(days, of) {
                prop_assert!(share.of_money(usd(price)).unwrap().amount_minor <= price);
                prop_assert!(share.of_credits(credits(pool)).unwrap().get() <= pool);
            }
        }
    }
}
