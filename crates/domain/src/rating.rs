//! What a request costs: model, band and rates to Credits.

use serde::{Deserialize, Serialize, Serializer};

use crate::catalog::{Band, Catalog, CreditRates, Model};
use crate::credits::{Credits, MilliCredits, RateMilli};
use crate::usage::{TokenCounts, TokenKind};
use crate::usage_format::Call;
use crate::{Refusal, Timestamp};

/// The cost of a request and why it is that (the receipt's first half).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rated {
    pub credits: Credits,
    pub catalog_version: u32,
    /// The band's upper bound in prompt tokens; none for a band that takes any length.
    pub band_prompt_tokens_max: Option<u64>,
    pub rates: Rates,
    /// Of an event of several calls what each adds, in their order: then the event has no band and no rates of its own. Else
    /// nothing.
    pub calls: Vec<RatedCall>,
}

/// What one of several calls adds to the cost of its event, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RatedCall {
    pub credits: Credits,
    /// As in [`Rated`], by this call's own prompt.
    pub band_prompt_tokens_max: Option<u64>,
    pub rates: Rates,
}

/// The rate of each kind of token that was charged; in JSON a list of pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "Vec<(TokenKind, RateMilli)>")]
pub struct Rates([Option<RateMilli>; TokenKind::ALL.len()]);

impl Rates {
    /// Those of an event that was charged for no token by itself.
    pub const NONE: Rates = Rates([None; TokenKind::ALL.len()]);

    /// In the order of [`TokenKind::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (TokenKind, RateMilli)> {
        TokenKind::ALL.into_iter().zip(self.0).filter_map(|(kind, rate)| Some((kind, rate?)))
    }

    fn of(&self, kind: TokenKind) -> Option<RateMilli> {
        self.0[kind as usize]
    }

    fn set(&mut self, kind: TokenKind, rate: RateMilli) {
        self.0[kind as usize] = Some(rate);
    }
}

impl From<Vec<(TokenKind, RateMilli)>> for Rates {
    fn from(pairs: Vec<(TokenKind, RateMilli)>) -> Rates {
        let mut rates = Rates::NONE;
        for (kind, rate) in pairs {
            rates.set(kind, rate);
        }
        rates
    }
}

impl Serialize for Rates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// Why usage has no price yet. Kept and visible, never free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unrated {
    NoCatalog,
    UnknownModel,
    PromptAboveLastBand,
    NoCreditRate,
    CreditRateEnded,
    NoRateForTokenKind,
    /// No grant covers any of it, and there is no pay-as-you-go price for it (R-30, R-30a).
    NoPrice,
    /// The account's books would leave the range that Tollgate counts in.
    AccountOverflow,
    /// The account is parked: the event is charged when it is un-parked.
    AccountParked,
}

impl Unrated {
    pub const ALL: [Unrated; 9] = [
        Unrated::NoCatalog,
        Unrated::UnknownModel,
        Unrated::PromptAboveLastBand,
        Unrated::NoCreditRate,
        Unrated::CreditRateEnded,
        Unrated::NoRateForTokenKind,
        Unrated::NoPrice,
        Unrated::AccountOverflow,
        Unrated::AccountParked,
    ];

    /// The reason of this code, if there is one.
    pub fn of_code(code: &str) -> Option<Unrated> {
        Unrated::ALL.into_iter().find(|unrated| unrated.code() == code)
    }

    pub fn code(self) -> &'static str {
        match self {
            Unrated::NoCatalog => "no-catalog",
            Unrated::UnknownModel => "unknown-model",
            Unrated::PromptAboveLastBand => "prompt-above-last-band",
            Unrated::NoCreditRate => "no-credit-rate",
            Unrated::CreditRateEnded => "credit-rate-ended",
            Unrated::NoRateForTokenKind => "no-rate-for-token-kind",
            Unrated::NoPrice => "no-price",
            Unrated::AccountOverflow => "account-overflow",
            Unrated::AccountParked => "account-parked",
        }
    }
}

/// Why there is no cost: the input cannot be counted, or there is no line for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoCost {
    Refused(Refusal),
    Unrated(Unrated),
}

impl From<Refusal> for NoCost {
    fn from(refusal: Refusal) -> Self {
        NoCost::Refused(refusal)
    }
}

/// Rates one event by the catalogue in force at the event's own time. Rounded up once.
pub fn rate(
    catalog: Option<&Catalog>,
    model_code: &str,
    usage: &TokenCounts,
    event_time: Timestamp,
) -> Result<Rated, NoCost> {
    rate_in_band_of(catalog, model_code, usage.prompt()?, usage, event_time)
}

/// The same in the band of a prompt of this length, whatever the usage's own prompts come to: for many
/// requests together.
pub fn rate_in_band_of(
    catalog: Option<&Catalog>,
    model_code: &str,
    prompt_tokens: u64,
    usage: &TokenCounts,
    event_time: Timestamp,
) -> Result<Rated, NoCost> {
    add_call(&mut Cost::default(), catalog, model_code, prompt_tokens, usage, event_time)
}

/// Rates an event: of one call by its usage; where there are `calls`, which its usage is the sum of, each by itself.
pub fn rate_event(
    catalog: Option<&Catalog>,
    model_code: &str,
    usage: &TokenCounts,
    calls: &[Call],
    event_time: Timestamp,
) -> Result<Rated, NoCost> {
    if calls.is_empty() {
        return rate(catalog, model_code, usage, event_time);
    }
    let catalog = catalog.ok_or(NoCost::Unrated(Unrated::NoCatalog))?;
    let calls = rate_calls(Some(catalog), model_code, calls, event_time)?;
    let mut credits = Credits::ZERO;
    for call in &calls {
        credits = credits.plus(call.credits)?;
    }
    let calls = calls.into_iter().map(|call| RatedCall {
        credits: call.credits,
        band_prompt_tokens_max: call.band_prompt_tokens_max,
        rates: call.rates,
    });
    Ok(Rated {
        credits,
        catalog_version: catalog.version(),
        band_prompt_tokens_max: None,
        rates: Rates::NONE,
        calls: calls.collect(),
    })
}

/// Rates an event of several calls, each by its own prompt's band and on its own model, in their order. The
/// event is still rounded up once: a call's Credits are what it adds to the event's cost, so they sum to
/// it. Where one call has no rate, the event has none: it is not charged in parts.
pub fn rate_calls(
    catalog: Option<&Catalog>,
    model_code: &str,
    calls: &[Call],
    event_time: Timestamp,
) -> Result<Vec<Rated>, NoCost> {
    let mut cost = Cost::default();
    let mut rated = Vec::with_capacity(calls.len());
    for call in calls {
        let model_code = call.model_of(model_code);
        rated.push(add_call(&mut cost, catalog, model_code, call.usage.prompt()?, &call.usage, event_time)?);
    }
    Ok(rated)
}

/// An event's cost while its calls are added up: exact, and what it is in whole Credits so far.
#[derive(Default)]
struct Cost {
    milli: MilliCredits,
    credits: Credits,
}

fn add_call(
    cost: &mut Cost,
    catalog: Option<&Catalog>,
    model_code: &str,
    prompt_tokens: u64,
    usage: &TokenCounts,
    event_time: Timestamp,
) -> Result<Rated, NoCost> {
    usage.check()?;
    let (catalog, _, band) = find_band(catalog, model_code, prompt_tokens)?;
    // Asked for also where nothing was used: a band without Credit rates is no free band.
    let in_force = rates_in_force(band, event_time).map_err(NoCost::Unrated)?;
    let mut rates = Rates::NONE;
    for kind in TokenKind::ALL {
        if usage.of(kind) == 0 {
            continue;
        }
        let rate = in_force.rate(kind).ok_or(NoCost::Unrated(Unrated::NoRateForTokenKind))?;
        cost.milli.add(usage.of(kind), rate);
        rates.set(kind, rate);
    }
    let before = std::mem::replace(&mut cost.credits, cost.milli.round_up()?);
    Ok(Rated {
        credits: cost.credits.minus_floor_zero(before),
        catalog_version: catalog.version(),
        band_prompt_tokens_max: band.prompt_tokens_max,
        rates,
        calls: Vec::new(),
    })
}

/// What the tokens of one kind cost of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindCost {
    pub kind: TokenKind,
    pub credits: Credits,
    /// The part of `credits` that no grant paid for.
    pub overage: Credits,
}

/// An event's Credits by the kinds that it was charged for, of each of its calls. The event is rounded up once, so a
/// kind's Credits are what it adds to the event's, in the order of the receipt: they sum to it. What no grant paid for is
/// the last of them.
pub fn by_kind(calls: &[(&TokenCounts, Rates)], overage: Credits) -> Result<Vec<Vec<KindCost>>, Refusal> {
    let mut milli = MilliCredits::default();
    let mut ends = Vec::with_capacity(calls.len());
    let mut whole = Credits::ZERO;
    for (usage, rates) in calls {
        let mut of_call = Vec::new();
        for (kind, rate) in rates.iter() {
            milli.add(usage.of(kind), rate);
            whole = milli.round_up()?;
            of_call.push((kind, whole));
        }
        ends.push(of_call);
    }
    let granted = whole.minus_floor_zero(overage);
    let mut start = Credits::ZERO;
    let mut cost = |(kind, end): (TokenKind, Credits)| {
        let credits = end.minus_floor_zero(start);
        let overage = end.minus_floor_zero(start.max(granted));
        start = end;
        KindCost { kind, credits, overage }
    };
    Ok(ends.into_iter().map(|of_call| of_call.into_iter().map(&mut cost).collect()).collect())
}

/// What `authorize` holds for a request, before it is known what it will use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// The prompt plus the output that is counted on.
    pub full: Credits,
    /// The prompt alone: the least that must be there.
    pub prompt_only: Credits,
    /// The output that `full` counts on, in tokens.
    pub output_tokens: u64,
    output_rate: RateMilli,
    prompt_milli: MilliCredits,
}

impl Estimate {
    /// Of a request that costs no Credits, because its model is sold for money alone.
    pub const NOTHING: Estimate = Estimate {
        full: Credits::ZERO,
        prompt_only: Credits::ZERO,
        output_tokens: 0,
        output_rate: RateMilli(0),
        prompt_milli: MilliCredits::ZERO,
    };

    /// The most output that `held` Credits pay for after the prompt, up to what was counted
    /// on; `None` where output is free.
    pub fn output_tokens_paid_by(&self, held: Credits) -> Option<u64> {
        if self.output_tokens > 0 && self.output_rate.0 == 0 {
            return None;
        }
        let mut low = 0;
        let mut high = self.output_tokens;
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let mut cost = self.prompt_milli;
            cost.add(middle, self.output_rate);
            if cost.round_up().is_ok_and(|cost| cost <= held) { low = middle } else { high = middle - 1 }
        }
        Some(low)
    }
}

/// Estimates a request at `now`: the prompt plus the least of what it asks for, the model's cap
/// and the tenant's *policy* (R-28). Unknown or unrated models are refused.
pub fn estimate(
    catalog: Option<&Catalog>,
    model_code: &str,
    prompt: &TokenCounts,
    output_tokens_max: Option<u64>,
    estimate_output_tokens_max: u64,
    now: Timestamp,
) -> Result<Estimate, NoCost> {
    let prompt = TokenCounts { output: 0, reasoning: 0, ..*prompt };
    let prompt_only = rate(catalog, model_code, &prompt, now)?;
    let (_, model, _) = find_band(catalog, model_code, prompt.prompt()?)?;
    let output_tokens = [output_tokens_max, model.output_tokens_max]
        .into_iter()
        .flatten()
        .fold(estimate_output_tokens_max, u64::min);
    let full = rate(catalog, model_code, &TokenCounts { output: output_tokens, ..prompt }, now)?;
    // No output counted on needs no output rate.
    let output_rate = full.rates.of(TokenKind::Output).unwrap_or(RateMilli(0));
    let mut prompt_milli = MilliCredits::default();
    for (kind, rate) in prompt_only.rates.iter() {
        prompt_milli.add(prompt.of(kind), rate);
    }
    Ok(Estimate {
        full: full.credits,
        prompt_only: prompt_only.credits,
        output_tokens,
        output_rate,
        prompt_milli,
    })
}

pub(crate) fn find_band<'a>(
    catalog: Option<&'a Catalog>,
    model_code: &str,
    prompt_tokens: u64,
) -> Result<(&'a Catalog, &'a Model, &'a Band), NoCost> {
    let catalog = catalog.ok_or(NoCost::Unrated(Unrated::NoCatalog))?;
    let model = catalog.model(model_code).ok_or(NoCost::Unrated(Unrated::UnknownModel))?;
    let band = model
        .bands
        .iter()
        .find(|band| band.reaches(prompt_tokens))
        .ok_or(NoCost::Unrated(Unrated::PromptAboveLastBand))?;
    Ok((catalog, model, band))
}

/// What no grant paid for of each part of an event, in their order: the last Credits of all.
pub fn overage_of_each(credits: &[Credits], overage: Credits) -> Vec<Credits> {
    let mut left = overage;
    let mut of_each: Vec<Credits> = credits
        .iter()
        .rev()
        .map(|credits| {
            let part = left.min(*credits);
            left = left.minus_floor_zero(part);
            part
        })
        .collect();
    of_each.reverse();
    of_each
}

/// The upper bound of the band that a prompt lies in, in prompt tokens; none where any length fits, or there is no band.
pub fn band_max(catalog: &Catalog, model_code: &str, usage: &TokenCounts) -> Option<u64> {
    let (_, _, band) = find_band(Some(catalog), model_code, usage.prompt().ok()?).ok()?;
    band.prompt_tokens_max
}

fn rates_in_force(band: &Band, at: Timestamp) -> Result<&CreditRates, Unrated> {
    let rates = band.credit_rates_milli.as_ref().ok_or(Unrated::NoCreditRate)?;
    if band.credit_rates_until.is_some_and(|until| at >= until) {
        return Err(Unrated::CreditRateEnded);
    }
    Ok(rates)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::catalog::{CatalogDocument, CatalogHistory};
    use crate::fixtures::{
        K_256, M_1, at, band, credits, model, reference, reference_but, reference_document,
    };
    use crate::model::{self as slow, ModelBand, ModelCost};
    use proptest::prelude::*;

    const MAY: &str = "2026-05-01T00:00:00Z";
    const NOTHING: TokenCounts =
        TokenCounts { input: 0, cache_read: 0, cache_write: 0, output: 0, reasoning: 0 };

    fn cost_in(catalog: &Catalog, model: &str, usage: TokenCounts) -> Result<i64, NoCost> {
        rate(Some(catalog), model, &usage, at(MAY)).map(|rated| rated.credits.get())
    }

    fn cost(model: &str, usage: TokenCounts) -> Result<i64, NoCost> {
        cost_in(&reference(), model, usage)
    }

    fn unrated<T>(why: Unrated) -> Result<T, NoCost> {
        Err(NoCost::Unrated(why))
    }

    fn per_kind(rates: &[(TokenKind, u32)]) -> Option<CreditRates> {
        Some(CreditRates::PerKind(rates.iter().map(|(kind, rate)| (*kind, RateMilli(*rate))).collect()))
    }

    /// The reference catalogue with a band of these rates as the only one of `mimo-v2-omni`.
    fn omni_at(rates: &[(TokenKind, u32)]) -> Catalog {
        reference_but(|document| {
            document.models[0].bands[0].credit_rates_milli = per_kind(rates);
        })
    }

    #[test]
    fn the_prompts_length_chooses_the_band_for_the_whole_request() {
        for (prompt, output, expected) in [
            (0, 0, Ok(0)),
            (1, 0, Ok(2)),
            (262_143, 10, Ok(524_306)),    // (262,143 + 10) x 2
            (262_144, 10, Ok(524_308)),    // (262,144 + 10) x 2: 256K itself is in the first band
            (262_145, 10, Ok(1_048_620)),  // (262,145 + 10) x 4, all of it, not what is past 256K
            (1_048_576, 1, Ok(4_194_308)), // (1,048,576 + 1) x 4
            (1_048_577, 1, unrated(Unrated::PromptAboveLastBand)),
            (200_000, 300_000, Ok(1_000_000)), // output does not count towards the band
        ] {
            let usage = TokenCounts { input: prompt, output, ..NOTHING };
            assert_eq!(cost("mimo-v2-pro", usage), expected, "{prompt} + {output}");
        }
    }

    #[test]
    fn a_receipt_names_the_version_the_band_and_the_rates() {
        let usage = TokenCounts { input: K_256, cache_write: 1, output: 5, ..NOTHING };
        let rated = rate(Some(&reference()), "mimo-v2-pro", &usage, at(MAY)).unwrap();
        let four = RateMilli(4_000);
        assert_eq!(
            rated,
            Rated {
                credits: credits(4 * 262_150),
                catalog_version: 1,
                band_prompt_tokens_max: Some(M_1),
                rates: Rates::from(vec![
                    (TokenKind::Input, four),
                    (TokenKind::CacheWrite, four),
                    (TokenKind::Output, four)
                ]),
                calls: vec![],
            }
        );
    }

    #[test]
    fn cached_tokens_count_towards_the_band() {
        let within = TokenCounts { input: 100_000, cache_read: 100_000, cache_write: 62_144, ..NOTHING };
        assert_eq!(cost("mimo-v2-pro", within), Ok(2 * 262_144));
        let beyond = TokenCounts { cache_read: 100_001, ..within };
        assert_eq!(cost("mimo-v2-pro", beyond), Ok(4 * 262_145));
    }

    #[test]
    fn an_exclusive_bound_belongs_to_the_band_above_it() {
        let catalog = reference_but(|document| document.models[1].bands[0].max_is_inclusive = false);
        let of = |input| cost_in(&catalog, "mimo-v2-pro", TokenCounts { input, ..NOTHING });
        assert_eq!(of(262_143), Ok(524_286));
        assert_eq!(of(262_144), Ok(1_048_576));
        assert_eq!(of(1_048_576), Ok(4_194_304), "the last band's own bound is still inclusive");

        let catalog = reference_but(|document| document.models[1].bands[1].max_is_inclusive = false);
        let at_the_end = TokenCounts { input: M_1, ..NOTHING };
        assert_eq!(cost_in(&catalog, "mimo-v2-pro", at_the_end), unrated(Unrated::PromptAboveLastBand));
    }

    #[test]
    fn a_tenth_for_cached_tokens_is_exact_and_the_sum_is_rounded_up_once() {
        let catalog = omni_at(&[
            (TokenKind::Input, 1_000),
            (TokenKind::CacheRead, 100),
            (TokenKind::CacheWrite, 1_250),
        ]);
        for (input, cache_read, cache_write, expected) in [
            (0, 1, 0, 1),  // 0.1
            (0, 10, 0, 1), // 1.0
            (0, 11, 0, 2), // 1.1
            (7, 3, 0, 8),  // 7.3
            (0, 6, 3, 5),  // 0.6 + 3.75 = 4.35: 5, where 0.6 and 3.75 rounded apart are 5 as well
            (0, 1, 1, 2),  // 0.1 + 1.25 = 1.35: 2, where rounded apart they are 3
            (1, 9, 4, 7),  // 1 + 0.9 + 5 = 6.9
        ] {
            let usage = TokenCounts { input, cache_read, cache_write, ..NOTHING };
            assert_eq!(cost_in(&catalog, "mimo-v2-omni", usage), Ok(expected), "{usage:?}");
        }
    }

    #[test]
    fn reasoning_is_a_part_of_output_and_never_added_to_it() {
        let without = TokenCounts { input: 10, output: 100, ..NOTHING };
        assert_eq!(cost("mimo-v2-omni", without), Ok(110));
        assert_eq!(cost("mimo-v2-omni", TokenCounts { reasoning: 100, ..without }), Ok(110));
        let contradiction = TokenCounts { reasoning: 101, ..without };
        assert!(matches!(
            cost("mimo-v2-omni", contradiction),
            Err(NoCost::Refused(Refusal::InvalidFields(_)))
        ));
    }

    #[test]
    fn a_rate_of_zero_is_free_until_its_end_and_unrated_from_then_on() {
        let until = at("2026-07-01T00:00:00Z");
        let catalog = reference_but(|document| document.models[2].bands[0].credit_rates_until = Some(until));
        let usage = TokenCounts { input: 5_000_000, output: 1_000, ..NOTHING };
        let of = |event_time| rate(Some(&catalog), "mimo-v2-tts", &usage, at(event_time)).map(|r| r.credits);
        assert_eq!(of("2026-06-30T23:59:59.999999Z"), Ok(Credits::ZERO));
        assert_eq!(of("2026-07-01T00:00:00Z"), unrated(Unrated::CreditRateEnded), "unrated, not free");
        assert_eq!(cost("mimo-v2-tts", usage), Ok(0), "without an end date it stays free");
    }

    #[test]
    fn what_has_no_line_is_unrated_and_never_free() {
        let one = TokenCounts { input: 1, ..NOTHING };
        assert_eq!(cost("mimo-v9", one), unrated(Unrated::UnknownModel));
        assert_eq!(cost("mimo-v2-flash", one), unrated(Unrated::NoCreditRate), "pay-as-you-go only");
        assert_eq!(
            cost("mimo-v2-flash", NOTHING),
            unrated(Unrated::NoCreditRate),
            "nothing used, still no line"
        );
        assert_eq!(rate(None, "mimo-v2-pro", &one, at(MAY)), unrated(Unrated::NoCatalog));

        let catalog = omni_at(&[(TokenKind::Input, 1_000), (TokenKind::Output, 1_000)]);
        let cached = TokenCounts { input: 1, cache_read: 1, ..NOTHING };
        assert_eq!(cost_in(&catalog, "mimo-v2-omni", cached), unrated(Unrated::NoRateForTokenKind));
    }

    #[test]
    fn a_kind_without_a_rate_is_fine_where_none_of_it_was_used() {
        let catalog = omni_at(&[(TokenKind::Output, 3_000)]);
        assert_eq!(cost_in(&catalog, "mimo-v2-omni", TokenCounts { output: 2, ..NOTHING }), Ok(6));
        assert_eq!(cost_in(&catalog, "mimo-v2-omni", NOTHING), Ok(0), "explicit zero is zero");
    }

    #[test]
    fn more_than_can_be_counted_is_refused_and_never_wraps() {
        let huge = 9_200_000_000_000_000_000;
        let overflow = Err(NoCost::Refused(Refusal::AmountOverflow));
        let long = TokenCounts { input: 300_000, ..NOTHING };
        assert_eq!(cost("mimo-v2-pro", TokenCounts { output: huge, ..long }), overflow, "9.2e18 x 4");
        let any_length = reference_but(|document| {
            document.models[2].bands[0].credit_rates_milli = Some(CreditRates::Uniform(RateMilli(4_000)));
        });
        for usage in [
            TokenCounts { input: huge, ..NOTHING },
            TokenCounts { input: huge, cache_read: huge, ..NOTHING },
            TokenCounts { input: u64::MAX, cache_read: u64::MAX, cache_write: u64::MAX, ..NOTHING },
            TokenCounts { output: u64::MAX, ..NOTHING },
        ] {
            assert_eq!(cost_in(&any_length, "mimo-v2-tts", usage), overflow, "{usage:?}");
        }
        // The largest cost there is: 2^53 - 1 Credits, here 129,728,784,761 tokens at 69,431x.
        let dear = omni_at(&[(TokenKind::Output, 69_431_000)]);
        let output = 129_728_784_761;
        let of = |output| cost_in(&dear, "mimo-v2-omni", TokenCounts { output, ..NOTHING });
        assert_eq!(of(output), Ok(9_007_199_254_740_991));
        assert_eq!(of(output + 1), overflow);
    }

    #[test]
    fn the_events_own_time_chooses_the_version() {
        let later = reference_but(|document| {
            document.models[0].bands[0].credit_rates_milli = Some(CreditRates::Uniform(RateMilli(3_000)));
        });
        let history = CatalogHistory::new(vec![Arc::new(later), Arc::new(reference())]);
        let of = |event_time| {
            let event_time = at(event_time);
            let usage = TokenCounts { input: 10, ..NOTHING };
            rate(history.at(event_time).map(Arc::as_ref), "mimo-v2-omni", &usage, event_time)
                .map(|rated| (rated.catalog_version, rated.credits.get()))
        };
        assert_eq!(of("2025-12-31T23:59:59.999999Z"), unrated(Unrated::NoCatalog));
        assert_eq!(of("2026-01-01T00:00:00Z"), Ok((1, 10)));
        assert_eq!(of("2026-05-31T23:59:59.999999Z"), Ok((1, 10)));
        assert_eq!(of("2026-06-01T00:00:00Z"), Ok((2, 30)));
    }

    #[test]
    fn an_event_of_several_calls_is_rounded_up_once() {
        // Given cache reads at 0.1, when three calls read 4, 4 and 4 of them,
        let catalog = omni_at(&[(TokenKind::CacheRead, 100)]);
        let call = |cache_read| Call { usage: TokenCounts { cache_read, ..NOTHING }, model: None };
        let of = |calls: &[Call]| {
            let rated = rate_calls(Some(&catalog), "mimo-v2-omni", calls, at(MAY)).unwrap();
            rated.iter().map(|rated| rated.credits.get()).collect::<Vec<_>>()
        };
        // then they cost 1.2, which is 2, and not 1 + 1 + 1.
        assert_eq!(of(&[call(4), call(4), call(4)]), [1, 0, 1]);
        assert_eq!(of(&[call(4)]), [1]);
        assert_eq!(of(&[]), [0; 0]);
    }

    #[test]
    fn an_event_of_several_calls_is_charged_whole_or_not_at_all() {
        let call = |model: Option<&str>, input| Call {
            usage: TokenCounts { input, ..NOTHING },
            model: model.map(|model| model.parse().unwrap()),
        };
        let of = |calls: &[Call]| {
            rate_calls(Some(&reference()), "mimo-v2-pro", calls, at(MAY))
                .map(|rated| rated.iter().map(|rated| rated.credits.get()).collect::<Vec<_>>())
        };
        assert_eq!(of(&[call(None, 10), call(Some("mimo-v2-omni"), 10)]), Ok(vec![20, 10]));
        assert_eq!(of(&[call(None, 10), call(Some("mimo-v9"), 10)]), unrated(Unrated::UnknownModel));
        assert_eq!(of(&[call(None, 10), call(None, M_1 + 1)]), unrated(Unrated::PromptAboveLastBand));
        // 4.8 x 10^15 Credits each, of at most 9.0 x 10^15 together.
        let dear = omni_at(&[(TokenKind::Output, 48_000_000)]);
        let half = Call { usage: TokenCounts { output: 100_000_000_000, ..NOTHING }, model: None };
        let both = rate_calls(Some(&dear), "mimo-v2-omni", &[half.clone(), half.clone()], at(MAY));
        assert_eq!(both, Err(NoCost::Refused(Refusal::AmountOverflow)));
        assert!(rate_calls(Some(&dear), "mimo-v2-omni", &[half], at(MAY)).is_ok());
    }

    #[test]
    fn an_event_says_what_each_of_its_calls_adds() {
        // 200,000 at 2x; one token past 256K at 4x: by one prompt of the sum both would be at 4x.
        let calls =
            [200_000, K_256 + 1].map(|input| Call { usage: TokenCounts { input, ..NOTHING }, model: None });
        let sum = TokenCounts { input: 200_000 + K_256 + 1, ..NOTHING };
        let rated = rate_event(Some(&reference()), "mimo-v2-pro", &sum, &calls, at(MAY)).unwrap();
        assert_eq!(rated.credits.get(), 400_000 + 4 * 262_145);
        assert_eq!(
            (rated.band_prompt_tokens_max, rated.rates),
            (None, Rates::NONE),
            "of the whole there is none"
        );
        let each: Vec<_> =
            rated.calls.iter().map(|call| (call.credits.get(), call.band_prompt_tokens_max)).collect();
        assert_eq!(each, [(400_000, Some(K_256)), (1_048_580, Some(M_1))]);
        assert_eq!(rated.calls[1].rates, Rates::from(vec![(TokenKind::Input, RateMilli(4_000))]));

        let one = rate_event(Some(&reference()), "mimo-v2-pro", &sum, &[], at(MAY)).unwrap();
        assert_eq!(one, rate(Some(&reference()), "mimo-v2-pro", &sum, at(MAY)).unwrap());
        assert_eq!(rate_event(None, "mimo-v2-pro", &sum, &calls, at(MAY)), unrated(Unrated::NoCatalog));
    }

    #[test]
    fn no_grant_paid_for_the_last_credits_of_an_event() {
        let of = |overage| -> Vec<i64> {
            let parts = overage_of_each(&[credits(5), credits(0), credits(3)], credits(overage));
            parts.iter().map(|part| part.get()).collect()
        };
        assert_eq!(of(0), [0, 0, 0]);
        assert_eq!(of(2), [0, 0, 2]);
        assert_eq!(of(4), [1, 0, 3]);
        assert_eq!(of(8), [5, 0, 3]);
    }

    #[test]
    fn an_events_credits_are_split_by_kind_without_a_rest() {
        let usage = TokenCounts { input: 4, cache_read: 7, output: 3, ..NOTHING };
        // 4.4, then 0.7 more, then 3.3 more: 8.4, which is 9.
        let rates = [(TokenKind::Input, 1_100), (TokenKind::CacheRead, 100), (TokenKind::Output, 1_100)];
        let rates = Rates::from(rates.map(|(kind, rate)| (kind, RateMilli(rate))).to_vec());
        let of = |overage| -> Vec<_> {
            let costs = by_kind(&[(&usage, rates)], credits(overage)).unwrap();
            costs.iter().flatten().map(|cost| (cost.kind, cost.credits.get(), cost.overage.get())).collect()
        };
        let [input, cached, output] = [TokenKind::Input, TokenKind::CacheRead, TokenKind::Output];
        assert_eq!(of(0), [(input, 5, 0), (cached, 1, 0), (output, 3, 0)]);
        assert_eq!(of(2), [(input, 5, 0), (cached, 1, 0), (output, 3, 2)]);
        assert_eq!(of(5), [(input, 5, 1), (cached, 1, 1), (output, 3, 3)]);
        assert_eq!(of(9), [(input, 5, 5), (cached, 1, 1), (output, 3, 3)]);
        assert_eq!(by_kind(&[(&NOTHING, Rates::NONE)], Credits::ZERO), Ok(vec![vec![]]));
        // A call after it of the same begins at 8.4: 4.4 more are 12.8, which is 13, and 16.8 in the end are 17.
        let two = by_kind(&[(&usage, rates), (&usage, rates)], credits(5)).unwrap();
        let second: Vec<_> = two[1].iter().map(|cost| (cost.credits.get(), cost.overage.get())).collect();
        assert_eq!(second, [(4, 1), (1, 1), (3, 3)]);
    }

    fn estimate_in(catalog: &Catalog, input: u64, output_max: Option<u64>) -> Result<Estimate, NoCost> {
        let prompt = TokenCounts { input, ..NOTHING };
        estimate(Some(catalog), "mimo-v2-pro", &prompt, output_max, 4_096, at(MAY))
    }

    #[test]
    fn an_estimate_counts_on_the_least_of_what_is_asked_the_models_cap_and_the_policy() {
        let uncapped = reference();
        let capped = reference_but(|document| document.models[1].output_tokens_max = Some(2_000));
        for (catalog, asked, output_tokens) in [
            (&uncapped, None, 4_096),
            (&uncapped, Some(32_000), 4_096), // what coding tools always ask for
            (&uncapped, Some(100), 100),
            (&capped, None, 2_000),
            (&capped, Some(32_000), 2_000),
            (&capped, Some(100), 100),
        ] {
            let estimate = estimate_in(catalog, 1_000, asked).unwrap();
            assert_eq!(estimate.output_tokens, output_tokens, "{asked:?}");
            assert_eq!(estimate.prompt_only, credits(2_000));
            assert_eq!(estimate.full.get(), 2_000 + 2 * i64::try_from(output_tokens).unwrap());
        }
    }

    #[test]
    fn what_is_held_pays_for_the_prompt_first_and_then_for_output() {
        let estimate = estimate_in(&reference(), 1_000, None).unwrap(); // 2,000 and 2 for each of 4,096
        for (held, output_tokens) in [
            (2_000, 0),
            (2_001, 0),
            (2_002, 1),
            (2_101, 50),
            (10_191, 4_095),
            (10_192, 4_096),
            (99_999, 4_096),
        ] {
            assert_eq!(estimate.output_tokens_paid_by(credits(held)), Some(output_tokens), "{held}");
        }
    }

    #[test]
    fn free_output_needs_no_limit() {
        let prompt = TokenCounts { input: 1_000, ..NOTHING };
        let estimate = estimate(Some(&reference()), "mimo-v2-tts", &prompt, None, 4_096, at(MAY)).unwrap();
        assert_eq!((estimate.full, estimate.prompt_only), (Credits::ZERO, Credits::ZERO));
        assert_eq!(estimate.output_tokens_paid_by(Credits::ZERO), None);
    }

    #[test]
    fn a_prompt_lies_in_the_band_that_it_fits_into() {
        let of = |model, input| band_max(&reference(), model, &TokenCounts { input, ..NOTHING });
        assert_eq!(of("mimo-v2-pro", K_256 - 1), Some(K_256));
        assert_eq!(of("mimo-v2-pro", K_256 + 1), Some(M_1));
        assert_eq!(of("mimo-v2-pro", M_1 + 1), None, "too long for any");
        assert_eq!(of("unheard-of", 1), None);
    }

    #[test]
    fn a_request_that_wants_no_output_needs_no_output_rate() {
        let catalog = omni_at(&[(TokenKind::Input, 1_000)]);
        let prompt = TokenCounts { input: 7, output: 5, reasoning: 9, ..NOTHING };
        let of = |asked| estimate(Some(&catalog), "mimo-v2-omni", &prompt, Some(asked), 4_096, at(MAY));
        let embedding = of(0).unwrap();
        assert_eq!((embedding.full, embedding.prompt_only), (credits(7), credits(7)));
        assert_eq!(embedding.output_tokens_paid_by(credits(7)), Some(0));
        assert_eq!(of(1), unrated(Unrated::NoRateForTokenKind));
    }

    #[test]
    fn a_prompt_that_cannot_be_rated_cannot_be_estimated() {
        assert_eq!(estimate_in(&reference(), M_1 + 1, None), unrated(Unrated::PromptAboveLastBand));
        let prompt = TokenCounts { input: 1, ..NOTHING };
        let flash = estimate(Some(&reference()), "mimo-v2-flash", &prompt, None, 4_096, at(MAY));
        assert_eq!(flash, unrated(Unrated::NoCreditRate));
    }

    fn rates() -> impl Strategy<Value = Option<[Option<u32>; 4]>> {
        let rate = prop_oneof![Just(0u32), Just(100), Just(1_000), 0u32..5_000, any::<u32>()];
        let uniform = rate.clone().prop_map(|rate| Some([Some(rate); 4]));
        let each = prop::array::uniform4(prop::option::weighted(0.8, rate)).prop_map(Some);
        prop_oneof![4 => uniform, 4 => each, 1 => Just(None)]
    }

    /// Bands with rising bounds, the last one with or without one.
    fn bands() -> impl Strategy<Value = Vec<ModelBand>> {
        let band = (1u64..50, any::<bool>(), rates());
        (prop::collection::vec(band, 1..4), any::<bool>()).prop_map(|(steps, is_endless)| {
            let last = steps.len() - 1;
            let mut upper = 0;
            let with_bounds = steps.into_iter().enumerate().map(|(index, (step, is_inclusive, rates))| {
                upper += step;
                let is_bounded = index < last || !is_endless;
                ModelBand { upper: is_bounded.then_some(upper), is_inclusive, rates, prices: None }
            });
            with_bounds.collect()
        })
    }

    fn catalog_of(bands: &[ModelBand]) -> Catalog {
        let real = bands.iter().map(|slow| Band {
            max_is_inclusive: slow.is_inclusive,
            credit_rates_milli: slow.rates.map(|rates| match rates {
                [Some(all), second, third, fourth] if [second, third, fourth] == [Some(all); 3] => {
                    CreditRates::Uniform(RateMilli(all))
                }
                _ => CreditRates::PerKind(
                    TokenKind::ALL
                        .into_iter()
                        .zip(rates)
                        .filter_map(|(kind, rate)| Some((kind, RateMilli(rate?))))
                        .collect::<BTreeMap<_, _>>(),
                ),
            }),
            // A price as well, so that a band without a Credit rate is a band all the same.
            ..band(slow.upper, None, Some((1, 1, None)))
        });
        let document = CatalogDocument { models: vec![model("m", real.collect())], ..reference_document() };
        Catalog::new(1, at("2026-01-01T00:00:00Z"), document).unwrap()
    }

    fn counts() -> impl Strategy<Value = [u64; 4]> {
        let small = prop::array::uniform4(0u64..60);
        let any = prop::array::uniform4(prop_oneof![Just(0u64), 0u64..100, any::<u64>()]);
        prop_oneof![6 => small, 1 => any]
    }

    fn usage_of([input, cache_read, cache_write, output]: [u64; 4]) -> TokenCounts {
        TokenCounts { input, cache_read, cache_write, output, reasoning: 0 }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn any_usage_of_any_rate_card_costs_what_the_model_says(bands in bands(), counts in counts()) {
            let rated = rate(Some(&catalog_of(&bands)), "m", &usage_of(counts), at(MAY));
            let cost = match rated {
                Ok(rated) => ModelCost::Credits(rated.credits.get().into()),
                Err(NoCost::Refused(Refusal::AmountOverflow)) => ModelCost::Overflow,
                Err(NoCost::Unrated(why)) => ModelCost::Unrated(why.code()),
                Err(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
            };
            prop_assert_eq!(cost, slow::cost(&bands, counts));
        }

        #[test]
        fn an_events_kinds_sum_to_it(
            rates in prop::array::uniform4(0u32..5_000),
            counts in prop::array::uniform4(0u64..3_000),
            part in 0u32..=100,
        ) {
            let bands = [ModelBand { upper: None, is_inclusive: true, rates: Some(rates.map(Some)), prices: None }];
            let usage = usage_of(counts);
            let rated = rate(Some(&catalog_of(&bands)), "m", &usage, at(MAY)).unwrap();
            let overage = rated.credits.get() * i64::from(part) / 100;
            let costs = by_kind(&[(&usage, rated.rates)], credits(overage)).unwrap().concat();
            let sum = |of: fn(&KindCost) -> Credits| costs.iter().map(|cost| of(cost).get()).sum::<i64>();
            prop_assert_eq!(sum(|cost| cost.credits), rated.credits.get());
            prop_assert_eq!(sum(|cost| cost.overage), overage);
        }

        #[test]
        fn the_output_that_is_held_for_fits_and_one_token_more_does_not(
            rates in prop::array::uniform4(0u32..5_000),
            prompt in prop::array::uniform3(0u64..2_000),
            policy in 0u64..5_000,
            part in 0u32..=1_000,
        ) {
            let bands = [ModelBand { upper: None, is_inclusive: true, rates: Some(rates.map(Some)), prices: None }];
            let [input, cache_read, cache_write] = prompt;
            let usage = |output| usage_of([input, cache_read, cache_write, output]);
            let catalog = catalog_of(&bands);
            let estimate = estimate(Some(&catalog), "m", &usage(0), None, policy, at(MAY)).unwrap();
            let cost = |output| rate(Some(&catalog), "m", &usage(output), at(MAY)).unwrap().credits;
            prop_assert_eq!((estimate.prompt_only, estimate.full), (cost(0), cost(policy)));

            // Held: anything from the prompt's cost to the full estimate.
            let spread = estimate.full.get() - estimate.prompt_only.get();
            let held = credits(estimate.prompt_only.get() + spread * i64::from(part) / 1_000);
            match estimate.output_tokens_paid_by(held) {
                None => prop_assert_eq!(rates[3], 0),
                Some(output) => {
                    prop_assert!(cost(output) <= held);
                    prop_assert!(output == policy || held < cost(output + 1));
                }
            }
        }
    }
}
