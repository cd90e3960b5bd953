//! Tax on an invoice: one rate a tenant, one line an invoice, rounded half to even once on that line
//! . Whole basis points: 1,300 is 13%.

use serde::{Deserialize, Serialize};

use crate::money::divide_half_even;
use crate::{Money, Refusal};

/// The tax that a tenant charges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tax {
    /// In basis points, 0 to 10,000; 0 where there is none.
    pub rate_bps: u16,
    pub mode: TaxMode,
    /// What the line is called.
    pub name: String,
}

impl Default for Tax {
    fn default() -> Self {
        Tax { rate_bps: 0, mode: TaxMode::Exclusive, name: "Tax".to_owned() }
    }
}

/// Whether the catalogue's prices contain the tax.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaxMode {
    /// It comes on top of them.
    Exclusive,
    /// They contain it: the line says how much of the total it is.
    Inclusive,
}

/// The tax of one invoice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taxed {
    pub rate_bps: u16,
    pub amount_minor: i64,
    /// Whether the other lines contain it.
    pub is_included: bool,
}

impl Tax {
    /// The tax on lines that come to `sum_minor`, which is not negative. Refused: `amount-overflow`.
    pub fn on(&self, sum_minor: i64) -> Result<Taxed, Refusal> {
        let (sum, rate) = (i128::from(sum_minor), i128::from(self.rate_bps));
        let amount = match self.mode {
            TaxMode::Exclusive => divide_half_even(sum * rate, 10_000),
            TaxMode::Inclusive => divide_half_even(sum * rate, 10_000 + rate),
        };
        Ok(Taxed {
            rate_bps: self.rate_bps,
            amount_minor: i64::try_from(amount).map_err(|_| Refusal::AmountOverflow)?,
            is_included: self.mode == TaxMode::Inclusive,
        })
    }

    /// What is to be paid for something of this price. Refused: `amount-overflow`.
    pub fn total(&self, price: Money) -> Result<Money, Refusal> {
        self.on(price.amount_minor)?.total(price)
    }

    /// What the line says: `VAT 13%`, or `VAT 8.25%, included`.
    pub fn description(&self) -> String {
        let (whole, rest) = (self.rate_bps / 100, self.rate_bps % 100);
        let rate = match rest {
            0 => format!("{whole}%"),
            rest => format!("{whole}.{}%", format!("{rest:02}").trim_end_matches('0')),
        };
        match self.mode {
            TaxMode::Exclusive => format!("{} {rate}", self.name),
            TaxMode::Inclusive => format!("{} {rate}, included", self.name),
        }
    }

    /// What is wrong with it, a sentence each.
    pub fn problems(&self) -> Vec<&'static str> {
        let mut problems = Vec::new();
        if self.rate_bps > 10_000 {
            problems.push("tax.rate_bps must be 0 to 10000");
        }
        if !(1..=40).contains(&self.name.chars().count()) || self.name.chars().any(char::is_control) {
            problems.push("tax.name must be 1 to 40 characters, none of them a control character");
        }
        problems
    }
}

impl Taxed {
    /// What is to be paid for lines that come to `sum`. Refused: `amount-overflow`.
    pub fn total(&self, sum: Money) -> Result<Money, Refusal> {
        let on_top = if self.is_included { 0 } else { self.amount_minor };
        let total = sum.amount_minor.checked_add(on_top).ok_or(Refusal::AmountOverflow)?;
        Money::new(total, sum.currency)
    }

    /// The tax in a refund of `amount_minor` of a total, of which `before_minor` has been refunded: its
    /// share of the tax, rounded half to even on the sum of all refunds, so that the refunds of the whole
    /// total have exactly its tax.
    pub fn of_refund(&self, total_minor: i64, before_minor: i64, amount_minor: i64) -> i64 {
        if total_minor <= 0 {
            return 0;
        }
        let share = |refunded: i128| {
            let refunded = refunded.clamp(0, i128::from(total_minor));
            divide_half_even(i128::from(self.amount_minor) * refunded, i128::from(total_minor))
        };
        let before = i128::from(before_minor);
        let tax = share(before + i128::from(amount_minor)) - share(before);
        // A share of the tax fits where the tax did.
        i64::try_from(tax).unwrap_or(self.amount_minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{cny, usd};
    use proptest::prelude::*;

    fn tax(rate_bps: u16, mode: TaxMode) -> Tax {
        Tax { rate_bps, mode, name: "VAT".to_owned() }
    }

    #[test]
    fn exclusive_tax_comes_on_top_and_inclusive_tax_is_a_part() {
        // 16.00 and 13%: 2.08 more. 99.00 with 6% in it: 5.60 of them, 99 x 6 / 106 = 5.6038.
        let exclusive = tax(1_300, TaxMode::Exclusive);
        assert_eq!(exclusive.on(1_600).unwrap().amount_minor, 208);
        assert_eq!(exclusive.total(usd(1_600)), Ok(usd(1_808)));
        let inclusive = tax(600, TaxMode::Inclusive);
        assert_eq!(inclusive.on(9_900).unwrap().amount_minor, 560);
        assert_eq!(inclusive.total(cny(9_900)), Ok(cny(9_900)));
        assert_eq!(Tax::default().on(1_600), Ok(Taxed::default()), "none");
    }

    #[test]
    fn half_a_cent_goes_to_the_even_one() {
        // 10% of 0.05, 0.15 and 0.25.
        let ten_percent = tax(1_000, TaxMode::Exclusive);
        assert_eq!([5, 15, 25].map(|sum| ten_percent.on(sum).unwrap().amount_minor), [0, 2, 2]);
    }

    #[test]
    fn a_total_that_is_too_large_is_refused() {
        let double = tax(10_000, TaxMode::Exclusive);
        assert_eq!(double.total(usd(i64::MAX)), Err(Refusal::AmountOverflow));
    }

    #[test]
    fn the_line_says_the_rate() {
        for (rate_bps, mode, text) in [
            (1_300, TaxMode::Exclusive, "VAT 13%"),
            (825, TaxMode::Exclusive, "VAT 8.25%"),
            (750, TaxMode::Inclusive, "VAT 7.5%, included"),
            (5, TaxMode::Exclusive, "VAT 0.05%"),
        ] {
            assert_eq!(tax(rate_bps, mode).description(), text);
        }
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        assert_eq!(Tax::default().problems(), Vec::<&str>::new());
        assert_eq!(tax(10_001, TaxMode::Exclusive).problems(), ["tax.rate_bps must be 0 to 10000"]);
        for name in [String::new(), "x".repeat(41), "V\nT".to_owned()] {
            assert_eq!(Tax { name, ..Tax::default() }.problems().len(), 1);
        }
    }

    #[test]
    fn the_refunds_of_a_whole_total_have_exactly_its_tax() {
        // 18.08 with 2.08 tax, given back in three parts.
        let taxed = tax(1_300, TaxMode::Exclusive).on(1_600).unwrap();
        let parts = [
            taxed.of_refund(1_808, 0, 904),
            taxed.of_refund(1_808, 904, 1),
            taxed.of_refund(1_808, 905, 903),
        ];
        assert_eq!(parts, [104, 0, 104]);
    }

    proptest! {
        #[test]
        fn refunds_never_have_more_tax_than_there_is_nor_more_than_they_are(
            sum in 0i64..10_000_000, rate_bps in 0u16..=10_000, is_included in any::<bool>(),
            parts in prop::collection::vec(0i64..5_000_000, 1..6)
        ) {
            let mode = if is_included { TaxMode::Inclusive } else { TaxMode::Exclusive };
            let taxed = tax(rate_bps, mode).on(sum).unwrap();
            let total = taxed.total(usd(sum)).unwrap().amount_minor;
            prop_assert!((0..=total).contains(&taxed.amount_minor));
            let (mut refunded, mut given) = (0, 0);
            for part in parts {
                let part = part.min(total - refunded);
                let tax = taxed.of_refund(total, refunded, part);
                prop_assert!((0..=part).contains(&tax), "{tax} of {part}");
                refunded += part;
                given += tax;
            }
            let rest = taxed.of_refund(total, refunded, total - refunded);
            prop_assert_eq!(given + rest, taxed.amount_minor);
        }
    }
}
