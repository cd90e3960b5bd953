//! Money: an integer in the currency's minor unit plus its ISO 4217 code.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Refusal;

/// An ISO 4217 currency that Tollgate can price in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Currency {
    #[serde(rename = "USD")]
    Usd,
    #[serde(rename = "CNY")]
    Cny,
}

impl Currency {
    pub fn code(self) -> &'static str {
        match self {
            Currency::Usd => "USD",
            Currency::Cny => "CNY",
        }
    }

    /// Decimal places of the minor unit: 2 for cent and fen.
    pub fn minor_digits(self) -> u32 {
        match self {
            Currency::Usd | Currency::Cny => 2,
        }
    }
}

impl FromStr for Currency {
    type Err = Refusal;

    fn from_str(code: &str) -> Result<Self, Refusal> {
        match code {
            "USD" => Ok(Currency::Usd),
            "CNY" => Ok(Currency::Cny),
            _ => Err(Refusal::invalid_field("/currency", "unknown-currency")),
        }
    }
}

impl std::fmt::Display for Currency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount of money, never negative: what is owed, paid or refunded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    pub amount_minor: i64,
    pub currency: Currency,
}

impl Money {
    /// Refuses a negative amount.
    pub fn new(amount_minor: i64, currency: Currency) -> Result<Money, Refusal> {
        if amount_minor < 0 {
            return Err(Refusal::AmountOverflow);
        }
        Ok(Money { amount_minor, currency })
    }

    pub fn is_zero(self) -> bool {
        self.amount_minor == 0
    }

    /// What is left to pay of this more expensive price after `paid`; zero where `paid` is larger.
    pub fn minus_floor_zero(self, paid: Money) -> Money {
        Money {
            amount_minor: self.amount_minor.saturating_sub(paid.amount_minor).max(0),
            currency: self.currency,
        }
    }
}

impl std::fmt::Display for Money {
    /// In the major unit, as `1.92 USD`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = self.currency.minor_digits();
        let unit = 10_i64.pow(digits);
        write!(
            f,
            "{}.{:0width$} {}",
            self.amount_minor / unit,
            self.amount_minor % unit,
            self.currency,
            width = digits as usize
        )
    }
}

/// A discount in basis points, 0 to 10,000: 8,800 is 88% off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiscountBps(u16);

impl DiscountBps {
    pub const NONE: DiscountBps = DiscountBps(0);

    pub fn new(bps: u16) -> Option<DiscountBps> {
        (bps <= 10_000).then_some(DiscountBps(bps))
    }

    pub fn get(self) -> u16 {
        self.0
    }

    /// Price minus floor(price x bps / 10,000), in minor units.
    pub fn apply(self, price: Money) -> Money {
        let off = i128::from(price.amount_minor) * i128::from(self.0) / 10_000;
        // `off` lies in [0, price], so the difference fits where the price fitted.
        let amount_minor = i64::try_from(i128::from(price.amount_minor) - off).unwrap_or(price.amount_minor);
        Money { amount_minor, currency: price.currency }
    }
}

/// `numerator / denominator` rounded half to even (R-2, R-14a). The denominator is positive.
pub fn divide_half_even(numerator: i128, denominator: i128) -> i128 {
    let floor = numerator.div_euclid(denominator);
    let twice_rest = numerator.rem_euclid(denominator) * 2;
    match twice_rest.cmp(&denominator) {
        std::cmp::Ordering::Less => floor,
        std::cmp::Ordering::Greater => floor + 1,
        std::cmp::Ordering::Equal => floor + floor.rem_euclid(2),
    }
}

/// Pay-as-you-go money while a line is being summed, in pico-units of the major unit: the price in
/// micro-units per 1M tokens times the tokens, exact, without a division.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PicoMoney(pub i128);

impl PicoMoney {
    /// Adds `tokens` at `price_micro` micro-units per 1M tokens; `amount-overflow`, and nothing
    /// added, where the sum would leave its range.
    pub fn add(&mut self, tokens: u64, price_micro: u64) -> Result<(), Refusal> {
        self.0 = i128::from(tokens)
            .checked_mul(i128::from(price_micro))
            .and_then(|price| self.0.checked_add(price))
            .ok_or(Refusal::AmountOverflow)?;
        Ok(())
    }

    /// Minor units of `currency`, half to even: called once per invoice line.
    pub fn to_minor_half_even(self, currency: Currency) -> i128 {
        divide_half_even(self.0, 10_i128.pow(12 - currency.minor_digits()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usd(amount_minor: i64) -> Money {
        Money { amount_minor, currency: Currency::Usd }
    }

    #[test]
    fn the_first_cycle_costs_what_the_guide_prints() {
        let off = DiscountBps::new(8_800).unwrap();
        for (list, first) in [
            (600, 72),
            (1_600, 192),
            (5_000, 600),
            (10_000, 1_200), // USD
            (3_900, 468),
            (9_900, 1_188),
            (32_900, 3_948),
            (65_900, 7_908), // CNY
        ] {
            assert_eq!(off.apply(usd(list)), usd(first));
        }
        assert_eq!(DiscountBps::new(1_200).unwrap().apply(usd(600)), usd(528), "12% off is only data");
        assert_eq!(DiscountBps::new(10_001), None);
    }

    #[test]
    fn halves_go_to_the_even_neighbour() {
        for (numerator, denominator, rounded) in
            [(5, 2, 2), (7, 2, 4), (-5, 2, -2), (-7, 2, -4), (9, 4, 2), (11, 4, 3), (6, 3, 2)]
        {
            assert_eq!(divide_half_even(numerator, denominator), rounded, "{numerator}/{denominator}");
        }
    }

    #[test]
    fn a_month_of_the_code_trace_costs_18_80_on_pay_as_you_go() {
        let mut line = PicoMoney::default();
        line.add(18_059_974, 1_000_000).unwrap();
        line.add(245_896, 3_000_000).unwrap();
        assert_eq!(line.0, 18_797_662_000_000, "18.797662 USD, exactly");
        assert_eq!(line.to_minor_half_even(Currency::Usd), 1_880);
    }

    #[test]
    fn pay_as_you_go_is_exact_until_its_line_is_rounded() {
        // A third of a cent three times is a cent, where each rounded apart would be nothing.
        let mut line = PicoMoney::default();
        for _ in 0..3 {
            line.add(3_334, 1_000_000).unwrap();
        }
        assert_eq!(line, PicoMoney(10_002_000_000), "0.010002 USD");
        assert_eq!(line.to_minor_half_even(Currency::Usd), 1);
        // Half a cent goes to the even one.
        assert_eq!(PicoMoney(5_000_000_000).to_minor_half_even(Currency::Usd), 0);
        assert_eq!(PicoMoney(15_000_000_000).to_minor_half_even(Currency::Usd), 2);
        assert_eq!(PicoMoney(15_000_000_001).to_minor_half_even(Currency::Cny), 2);
    }

    #[test]
    fn a_line_that_is_too_large_is_refused_and_keeps_what_it_had() {
        let mut line = PicoMoney(i128::MAX - 10);
        assert_eq!(line.add(11, 1), Err(Refusal::AmountOverflow));
        assert_eq!(line.add(u64::MAX, u64::MAX), Err(Refusal::AmountOverflow));
        assert_eq!(line.add(10, 1), Ok(()));
        assert_eq!(line, PicoMoney(i128::MAX));
    }

    #[test]
    fn money_is_never_negative_and_a_difference_stops_at_zero() {
        assert_eq!(Money::new(-1, Currency::Usd), Err(Refusal::AmountOverflow));
        assert_eq!(Money::new(0, Currency::Usd).map(Money::is_zero), Ok(true));
        assert_eq!(usd(600).minus_floor_zero(usd(192)), usd(408));
        assert_eq!(usd(192).minus_floor_zero(usd(600)), usd(0));
    }

    #[test]
    fn a_currency_is_its_iso_code_to_the_letter() {
        assert_eq!("CNY".parse(), Ok(Currency::Cny));
        assert_eq!("USD".parse(), Ok(Currency::Usd));
        for bad in ["", "usd", "EUR", "USD "] {
            assert!(bad.parse::<Currency>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn money_reads_in_the_major_unit() {
        assert_eq!(usd(192).to_string(), "1.92 USD");
        assert_eq!(usd(5).to_string(), "0.05 USD");
    }

    proptest! {
        #[test]
        fn a_discount_never_costs_more_nor_less_than_nothing(price in 0i64..=i64::MAX, bps in 0u16..=10_000) {
            let paid = DiscountBps::new(bps).unwrap().apply(usd(price));
            prop_assert!(paid.amount_minor >= 0 && paid.amount_minor <= price);
            let exact_paid = i128::from(price) * i128::from(10_000 - bps);
            let got = i128::from(paid.amount_minor) * 10_000;
            prop_assert!(got >= exact_paid && got < exact_paid + 10_000, "floor of the discount, once");
        }

        #[test]
        fn a_discount_is_what_the_model_says_and_never_turns_two_prices_around(
            prices in prop::array::uniform2(0i64..10_000_000), bps in 0u16..=10_000
        ) {
            let off = DiscountBps::new(bps).unwrap();
            let paid = prices.map(|price| off.apply(usd(price)).amount_minor);
            prop_assert_eq!(paid, prices.map(|price| crate::model::discounted(price, bps.into())));
            prop_assert!((prices[0] <= prices[1] && paid[0] <= paid[1]) || (prices[0] > prices[1] && paid[0] >= paid[1]));
        }

        #[test]
        fn a_line_does_not_depend_on_how_its_usage_was_split(
            tokens in 0u64..1_000_000_000, part in 0u64..=1_000, price in 0u64..100_000_000
        ) {
            let first = tokens * part / 1_000;
            let (mut whole, mut split) = (PicoMoney::default(), PicoMoney::default());
            whole.add(tokens, price).unwrap();
            split.add(first, price).unwrap();
            split.add(tokens - first, price).unwrap();
            prop_assert_eq!(whole, split);
        }

        #[test]
        fn half_even_is_within_half(n in -1_000_000i128..1_000_000, d in 1i128..1_000) {
            let twice_error = (divide_half_even(n, d) * d - n).abs() * 2;
            prop_assert!(twice_error <= d);
            prop_assert!(twice_error < d || divide_half_even(n, d) % 2 == 0, "a half goes to the even one");
        }
    }
}
