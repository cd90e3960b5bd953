//! Pay-as-you-go: usage priced in money, exact to the pico-unit (R-2, R-30, R-30a).
//!
//! A price is in micro-units of the major unit per 1M tokens, so tokens times price is a whole count of
//! pico-units: 1 of the major unit is 10^12 of them. An event's money part is rounded half to even once to a
//! pico-unit, an invoice's line once to the minor unit.

use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, PaygPrices};
use crate::rating::find_band;
use crate::usage::{TokenCounts, TokenKind};
use crate::usage_format::Call;
use crate::{Credits, Currency, Refusal};

/// Pico-units of a currency's major unit; never below zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pico(i128);

impl Pico {
    pub const ZERO: Pico = Pico(0);
    /// Far above anything that is owed, and far below where 38 digits end.
    const MAX: i128 = 10_i128.pow(30);

    /// Refuses what is below zero or above 10^30 with `amount-overflow`.
    pub fn new(pico: i128) -> Result<Pico, Refusal> {
        if (0..=Self::MAX).contains(&pico) { Ok(Pico(pico)) } else { Err(Refusal::AmountOverflow) }
    }

    pub fn get(self) -> i128 {
        self.0
    }

    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// What an amount in minor units is.
    pub fn of_minor(amount_minor: i64, currency: Currency) -> Result<Pico, Refusal> {
        Pico::new(i128::from(amount_minor) * per_minor(currency))
    }

    pub fn plus(self, other: Pico) -> Result<Pico, Refusal> {
        Pico::new(self.0 + other.0)
    }

    /// Difference, or zero where `other` is larger.
    pub fn minus_floor_zero(self, other: Pico) -> Pico {
        Pico((self.0 - other.0).max(0))
    }

    /// In minor units, rounded half to even: once an invoice's line.
    pub fn round_to_minor(self, currency: Currency) -> Result<i64, Refusal> {
        i64::try_from(div_half_even(self.0, per_minor(currency))).map_err(|_| Refusal::AmountOverflow)
    }

    /// This times `part / whole`, rounded half to even. `part` is at most `whole`, which is above zero.
    fn share(self, part: Credits, whole: Credits) -> Result<Pico, Refusal> {
        let product = self.0.checked_mul(i128::from(part.get())).ok_or(Refusal::AmountOverflow)?;
        Pico::new(div_half_even(product, i128::from(whole.get()).max(1)))
    }
}

impl std::fmt::Display for Pico {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Pico {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        text.parse().map_err(|_| Refusal::AmountOverflow).and_then(Pico::new)
    }
}

impl Serialize for Pico {
    /// As a text: more digits than a JSON number keeps.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pico {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| serde::de::Error::custom("not a count of pico-units"))
    }
}

fn per_minor(currency: Currency) -> i128 {
    10_i128.pow(12 - currency.minor_digits())
}

/// `numerator / denominator`, rounded half to even. Neither is below zero, and the denominator is not zero.
fn div_half_even(numerator: i128, denominator: i128) -> i128 {
    let (quotient, rest) = (numerator / denominator, numerator % denominator);
    let is_more_than_half = rest > denominator - rest;
    let is_half = rest == denominator - rest;
    if is_more_than_half || (is_half && quotient % 2 == 1) { quotient + 1 } else { quotient }
}

/// What the tokens of one kind cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindAmount {
    pub kind: TokenKind,
    pub tokens: u64,
    /// Micro-units of the major unit per 1M tokens.
    pub price_micro: u64,
    pub pico: Pico,
}

/// The whole price of an event by the kinds that it used; none where its model or band has no price in the currency.
/// A cache kind without a price of its own is billed as input.
pub fn price(
    catalog: Option<&Catalog>,
    model: &str,
    usage: &TokenCounts,
    currency: Currency,
) -> Result<Option<Vec<KindAmount>>, Refusal> {
    let Ok((_, _, band)) = find_band(catalog, model, usage.prompt()?) else { return Ok(None) };
    let Some(prices) = band.payg_prices_micro.get(&currency) else { return Ok(None) };
    let used = TokenKind::ALL.into_iter().filter(|kind| usage.of(*kind) > 0);
    let amounts = used.map(|kind| {
        let (tokens, price_micro) = (usage.of(kind), price_of(prices, kind));
        let pico = Pico::new(i128::from(tokens) * i128::from(price_micro))?;
        Ok(KindAmount { kind, tokens, price_micro, pico })
    });
    amounts.collect::<Result<Vec<KindAmount>, Refusal>>().map(Some)
}

/// The same of an event: of several calls those of each, one after the other, on its own model and in its own band; none
/// where one has no price.
pub fn price_event(
    catalog: Option<&Catalog>,
    model: &str,
    usage: &TokenCounts,
    calls: &[Call],
    currency: Currency,
) -> Result<Option<Vec<KindAmount>>, Refusal> {
    if calls.is_empty() {
        return price(catalog, model, usage, currency);
    }
    let mut amounts = Vec::new();
    for call in calls {
        let Some(of_call) = price(catalog, call.model_of(model), &call.usage, currency)? else {
            return Ok(None);
        };
        amounts.extend(of_call);
    }
    Ok(Some(amounts))
}

fn price_of(prices: &PaygPrices, kind: TokenKind) -> u64 {
    match kind {
        TokenKind::Input => prices.input,
        TokenKind::CacheRead => prices.cache_read.unwrap_or(prices.input),
        TokenKind::CacheWrite => prices.cache_write.unwrap_or(prices.input),
        TokenKind::Output => prices.output,
    }
}

/// The sum of amounts.
pub fn sum(amounts: &[KindAmount]) -> Result<Pico, Refusal> {
    amounts.iter().try_fold(Pico::ZERO, |sum, amount| sum.plus(amount.pico))
}

/// What is billed of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill {
    /// By kind; they sum to `pico`.
    pub lines: Vec<KindAmount>,
    pub pico: Pico,
    /// What the spend cap kept from being billed.
    pub past_cap: Pico,
    /// The Credits that are billed in money; what is past the cap is overage.
    pub credits: Credits,
}

/// Bills the uncovered part of an event that costs `cost` Credits: its whole price times `uncovered / cost`, rounded half
/// to even once, and no more than there is `room` for under the cap. An event without a cost in Credits is billed
/// wholly. A kind's amount is what it adds to the event's, so the kinds sum to it.
pub fn bill(whole: &[KindAmount], uncovered: Credits, cost: Credits, room: Pico) -> Result<Bill, Refusal> {
    let part = |pico: Pico| if cost.is_zero() { Ok(pico) } else { pico.share(uncovered, cost) };
    let (mut so_far, mut before, mut lines) = (Pico::ZERO, Pico::ZERO, Vec::with_capacity(whole.len()));
    for amount in whole {
        so_far = so_far.plus(amount.pico)?;
        let end = part(so_far)?.min(room);
        lines.push(KindAmount { pico: end.minus_floor_zero(before), ..*amount });
        before = end;
    }
    let due = part(so_far)?;
    let pico = due.min(room);
    let credits = if pico == due { uncovered } else { credits_within(uncovered, pico, due)? };
    Ok(Bill { lines, pico, past_cap: due.minus_floor_zero(pico), credits })
}

/// The Credits that a part of the money pays for, rounded down.
fn credits_within(uncovered: Credits, billed: Pico, due: Pico) -> Result<Credits, Refusal> {
    let product = i128::from(uncovered.get()).checked_mul(billed.0).ok_or(Refusal::AmountOverflow)?;
    Credits::new(i64::try_from(product / due.0.max(1)).map_err(|_| Refusal::AmountOverflow)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{credits, reference};
    use proptest::prelude::*;

    const NONE: TokenCounts =
        TokenCounts { input: 0, cache_read: 0, cache_write: 0, output: 0, reasoning: 0 };

    fn pico(count: i128) -> Pico {
        Pico::new(count).unwrap()
    }

    fn whole(model: &str, usage: TokenCounts) -> Option<i128> {
        let amounts = price(Some(&reference()), model, &usage, Currency::Usd).unwrap()?;
        Some(sum(&amounts).unwrap().get())
    }

    #[test]
    fn tokens_times_price_is_a_whole_count_of_pico_units() {
        // mimo-v2-pro: 1.00, 3.00 and 0.20 USD per 1M tokens.
        let usage = TokenCounts { input: 1_000, cache_read: 500, output: 200, ..NONE };
        assert_eq!(whole("mimo-v2-pro", usage), Some(1_000_000_000 + 100_000_000 + 600_000_000));
        // omni lists no price for cache reads: billed as input, 0.40.
        assert_eq!(whole("mimo-v2-omni", TokenCounts { cache_read: 10, ..NONE }), Some(4_000_000));
        assert_eq!(
            whole("mimo-v2-flash", TokenCounts { input: 1, output: 1, ..NONE }),
            Some(90_000 + 290_000)
        );
        // A million tokens of input at 1.00 are 1 USD: 100 cents.
        let million = pico(1_000_000 * 1_000_000);
        assert_eq!(million.round_to_minor(Currency::Usd), Ok(100));
        assert_eq!(Pico::of_minor(100, Currency::Usd), Ok(million));
    }

    #[test]
    fn a_band_a_model_or_a_currency_without_a_price_has_none() {
        let usage = TokenCounts { input: 262_145, ..NONE };
        assert_eq!(whole("mimo-v2-pro", usage), None, "over 256K no price is listed");
        assert_eq!(whole("mimo-v2-tts", TokenCounts { input: 1, ..NONE }), None);
        assert_eq!(whole("nothing", TokenCounts { input: 1, ..NONE }), None);
        let cny = price(Some(&reference()), "mimo-v2-pro", &TokenCounts { input: 1, ..NONE }, Currency::Cny);
        assert_eq!(cny, Ok(None), "pay-as-you-go has USD prices only");
    }

    #[test]
    fn a_half_is_rounded_to_the_even_neighbour() {
        for (numerator, denominator, rounded) in [
            (5, 10, 0),
            (15, 10, 2),
            (25, 10, 2),
            (35, 10, 4),
            (14, 10, 1),
            (16, 10, 2),
            (1, 3, 0),
            (2, 3, 1),
        ] {
            assert_eq!(div_half_even(numerator, denominator), rounded, "{numerator} / {denominator}");
        }
        // 0.005 USD is half a cent.
        assert_eq!(pico(5_000_000_000).round_to_minor(Currency::Usd), Ok(0));
        assert_eq!(pico(15_000_000_000).round_to_minor(Currency::Usd), Ok(2));
        assert_eq!(pico(5_000_000_001).round_to_minor(Currency::Usd), Ok(1));
    }

    #[test]
    fn a_partly_covered_event_is_billed_for_its_uncovered_share() {
        // 1,000 tokens of input and 1,000 of output of pro cost 4,000 Credits and 0.004 USD.
        let usage = TokenCounts { input: 1_000, output: 1_000, ..NONE };
        let amounts = price(Some(&reference()), "mimo-v2-pro", &usage, Currency::Usd).unwrap().unwrap();
        let room = pico(i128::from(u64::MAX));
        let a_quarter = bill(&amounts, credits(1_000), credits(4_000), room).unwrap();
        assert_eq!(
            (a_quarter.pico, a_quarter.credits, a_quarter.past_cap),
            (pico(1_000_000_000), credits(1_000), Pico::ZERO)
        );
        assert_eq!(
            a_quarter.lines.iter().map(|line| line.pico.get()).collect::<Vec<_>>(),
            [250_000_000, 750_000_000]
        );
        // With room for 0.0004 USD: 40% of the quarter.
        let capped = bill(&amounts, credits(1_000), credits(4_000), pico(400_000_000)).unwrap();
        assert_eq!(
            (capped.pico, capped.past_cap, capped.credits),
            (pico(400_000_000), pico(600_000_000), credits(400))
        );
        let nothing = bill(&amounts, credits(1_000), credits(4_000), Pico::ZERO).unwrap();
        assert_eq!(
            (nothing.pico, nothing.past_cap, nothing.credits),
            (Pico::ZERO, pico(1_000_000_000), Credits::ZERO)
        );
        // A model without a Credit rate is billed wholly.
        let flash = bill(&amounts, Credits::ZERO, Credits::ZERO, room).unwrap();
        assert_eq!((flash.pico, flash.credits), (pico(4_000_000_000), Credits::ZERO));
    }

    #[test]
    fn what_is_too_large_is_refused_and_never_wraps() {
        assert_eq!(Pico::new(-1), Err(Refusal::AmountOverflow));
        assert_eq!(pico(Pico::MAX).plus(pico(1)), Err(Refusal::AmountOverflow));
        let usage = TokenCounts { output: TokenCounts::COUNT_MAX, ..NONE };
        let mut amounts = price(Some(&reference()), "mimo-v2-pro", &usage, Currency::Usd).unwrap().unwrap();
        amounts[0].pico = pico(Pico::MAX);
        let most = bill(&amounts, Credits::MAX, Credits::MAX, pico(Pico::MAX));
        assert_eq!(most, Err(Refusal::AmountOverflow));
    }

    proptest! {
        #[test]
        fn the_kinds_sum_to_the_share_and_the_share_is_within_half_a_pico_unit(
            counts in prop::collection::vec((0u64..10_000_000, 0u64..10_000_000), 1..5),
            cost in 1i64..1_000_000_000, uncovered in 0i64..1_000_000_000, room in 0i128..10_i128.pow(14),
        ) {
            let uncovered = uncovered.min(cost);
            let whole: Vec<KindAmount> = counts.iter().map(|(tokens, price_micro)| KindAmount {
                kind: TokenKind::Input, tokens: *tokens, price_micro: *price_micro,
                pico: pico(i128::from(*tokens) * i128::from(*price_micro)),
            }).collect();
            let all = sum(&whole).unwrap().get();
            let bill = bill(&whole, credits(uncovered), credits(cost), pico(room)).unwrap();
            prop_assert_eq!(sum(&bill.lines).unwrap(), bill.pico);
            prop_assert!(bill.pico.get() <= room);
            let due = bill.pico.get() + bill.past_cap.get();
            let (twice_due, exact_twice) = (2 * due * i128::from(cost), 2 * all * i128::from(uncovered));
            prop_assert!((twice_due - exact_twice).abs() <= i128::from(cost));
            prop_assert!(bill.credits.get() <= uncovered);
            prop_assert!(bill.past_cap.is_zero() == (bill.credits.get() == uncovered) || uncovered == 0 || due == 0);
        }

        #[test]
        fn rounding_to_the_minor_unit_moves_at_most_half_of_it(count in 0i128..10_i128.pow(24)) {
            let minor = pico(count).round_to_minor(Currency::Usd).unwrap();
            prop_assert!((i128::from(minor) * 10_i128.pow(10) - count).abs() <= 5 * 10_i128.pow(9));
        }
    }
}
