//! What a subscription pays for at once: a cycle, or a year of twelve (R-22b).
//!
//! A term and a cycle are two things. A term is what is paid; a cycle is what Credits are granted for. A monthly term
//! is one cycle. An annual one is twelve: it is paid with its first cycle, at the plan's annual price and without the
//! first-cycle promotion, and the others open without an invoice.

use serde::{Deserialize, Serialize};

use crate::calendar::{Anchor, Cycle};
use crate::catalog::Plan;
use crate::money::{Currency, Money, divide_half_even};
use crate::{Refusal, Timestamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Term {
    Monthly,
    Annual,
}

impl Term {
    pub const ALL: [Term; 2] = [Term::Monthly, Term::Annual];

    pub fn name(self) -> &'static str {
        match self {
            Term::Monthly => "monthly",
            Term::Annual => "annual",
        }
    }

    /// How many cycles it pays for.
    pub fn cycles(self) -> u32 {
        match self {
            Term::Monthly => 1,
            Term::Annual => 12,
        }
    }

    /// The list price of a term of a plan; `no-price-in-currency` where it is not sold so.
    pub fn price(self, plan: &Plan, currency: Currency) -> Result<Money, Refusal> {
        match self {
            Term::Monthly => plan.price(currency),
            Term::Annual => plan.annual_price(currency),
        }
    }

    /// Whether the cycle `number` is the last one of the term that was paid with the cycle `paid_with`.
    pub fn is_last(self, paid_with: u32, number: u32) -> bool {
        self.cycles_left(paid_with, number) <= 1
    }

    /// The cycles that the term still pays for, the cycle `number` included; 0 once it is over.
    pub fn cycles_left(self, paid_with: u32, number: u32) -> u32 {
        paid_with.saturating_add(self.cycles()).saturating_sub(number)
    }

    /// When the term is over that was paid with the cycle `paid_with`: what changes at a renewal changes then.
    pub fn ends_at(self, anchor: Anchor, paid_with: u32) -> Result<Timestamp, Refusal> {
        let last = paid_with.checked_add(self.cycles() - 1).ok_or(Refusal::AmountOverflow)?;
        Ok(anchor.cycle(last)?.end)
    }
}

/// Where an annual subscription is in its year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct YearLeft {
    /// Cycles that are paid for, the current one included: 1 to 12.
    pub cycles: u32,
}

impl YearLeft {
    pub fn of(paid_with: u32, cycle: Cycle) -> YearLeft {
        YearLeft { cycles: Term::Annual.cycles_left(paid_with, cycle.number) }
    }

    /// What moving to a dearer plan costs for the rest of the year: (new - old annual price) x cycles left / 12, half
    /// to even (R-22b).
    pub fn difference(self, old_annual: Money, new_annual: Money) -> Result<Money, Refusal> {
        let year = new_annual.minus_floor_zero(old_annual);
        let minor = divide_half_even(
            i128::from(year.amount_minor) * i128::from(self.cycles),
            i128::from(Term::Annual.cycles()),
        );
        Money::new(i64::try_from(minor).map_err(|_| Refusal::AmountOverflow)?, year.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Zone;
    use crate::fixtures::{at, reference, usd};
    use proptest::prelude::*;

    #[test]
    fn an_annual_price_is_ten_monthly_ones_and_pays_for_twelve_cycles() {
        let catalog = reference();
        for (code, month, year) in [
            ("lite", 600, 6_000),
            ("standard", 1_600, 16_000),
            ("pro", 5_000, 50_000),
            ("max", 10_000, 100_000),
        ] {
            let plan = catalog.plan(code).unwrap();
            assert_eq!(Term::Monthly.price(plan, Currency::Usd), Ok(usd(month)));
            assert_eq!(Term::Annual.price(plan, Currency::Usd), Ok(usd(year)));
        }
        assert_eq!(Term::ALL.map(Term::cycles), [1, 12]);
    }

    #[test]
    fn a_plan_without_an_annual_price_is_not_sold_by_the_year() {
        let mut plan = reference().plan("lite").unwrap().clone();
        plan.annual_prices_minor.remove(&Currency::Cny);
        let no = Err(Refusal::NoPriceInCurrency { currency: Currency::Cny });
        assert_eq!(Term::Annual.price(&plan, Currency::Cny), no);
        assert!(Term::Monthly.price(&plan, Currency::Cny).is_ok());
    }

    #[test]
    fn a_year_that_was_paid_with_cycle_12_ends_with_cycle_23() {
        assert_eq!([11, 12, 13, 22, 23, 24].map(|n| Term::Annual.cycles_left(12, n)), [13, 12, 11, 2, 1, 0]);
        assert_eq!([12, 22, 23].map(|n| Term::Annual.is_last(12, n)), [false, false, true]);
        assert!(Term::Monthly.is_last(5, 5));
        let anchor = Anchor::new(at("2026-01-31T10:00:00Z"), Zone::UTC);
        assert_eq!(Term::Annual.ends_at(anchor, 0), Ok(at("2027-01-31T10:00:00Z")));
        assert_eq!(Term::Monthly.ends_at(anchor, 0), Ok(at("2026-02-28T10:00:00Z")));
        assert_eq!(Term::Annual.ends_at(anchor, 12), Ok(at("2028-01-31T10:00:00Z")));
    }

    #[test]
    fn an_upgrade_pays_for_the_cycles_that_are_left() {
        // Standard to pro: 500.00 less 160.00 a year is 340.00.
        let difference = |cycles| YearLeft { cycles }.difference(usd(16_000), usd(50_000)).unwrap();
        assert_eq!(difference(12), usd(34_000));
        assert_eq!(difference(9), usd(25_500), "three quarters");
        assert_eq!(difference(1), usd(2_833), "28.333...");
        // 0.18 x 1 / 12 is 1.5 cents, to even 2; 0.06 x 1 / 12 is half a cent, to even 0.
        assert_eq!(YearLeft { cycles: 1 }.difference(usd(0), usd(18)), Ok(usd(2)));
        assert_eq!(YearLeft { cycles: 1 }.difference(usd(0), usd(6)), Ok(usd(0)));
    }

    proptest! {
        /// Never more than the year's difference, all of it in the first cycle, and less the later it is.
        #[test]
        fn the_price_of_an_upgrade_falls_with_the_year(old in 0i64..10_000_000, more in 0i64..10_000_000) {
            let price = |cycles| YearLeft { cycles }.difference(usd(old), usd(old + more)).unwrap().amount_minor;
            prop_assert_eq!(price(12), more);
            for cycles in 2..=12 {
                prop_assert!(price(cycles - 1) <= price(cycles));
            }
        }
    }
}
