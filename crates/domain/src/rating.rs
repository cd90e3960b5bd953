//! What a request costs: model, band and rates to Credits.

use serde::{Deserialize, Serialize};

use crate::catalog::{Band, Catalog, Model};
use crate::credits::{Credits, MilliCredits, RateMilli};
use crate::usage::{TokenCounts, TokenKind};
use crate::{Refusal, Timestamp};

/// The cost of a request and why it is that (the receipt's first half).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rated {
    pub credits: Credits,
    pub catalog_version: u32,
    /// The band's upper bound in prompt tokens; none for a band that takes any length.
    pub band_prompt_tokens_max: Option<u64>,
    /// The rate of each kind that was charged.
    pub rates: Vec<(TokenKind, RateMilli)>,
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
}

impl Unrated {
    pub fn code(self) -> &'static str {
        match self {
            Unrated::NoCatalog => "no-catalog",
            Unrated::UnknownModel => "unknown-model",
            Unrated::PromptAboveLastBand => "prompt-above-last-band",
            Unrated::NoCreditRate => "no-credit-rate",
            Unrated::CreditRateEnded => "credit-rate-ended",
            Unrated::NoRateForTokenKind => "no-rate-for-token-kind",
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
    usage.check()?;
    let (catalog, _, band) = find_band(catalog, model_code, usage.prompt()?)?;
    let mut cost = MilliCredits::default();
    let mut rates = Vec::new();
    for kind in TokenKind::ALL {
        let rate = rate_of(band, kind, event_time);
        if usage.of(kind) == 0 {
            continue;
        }
        let rate = rate.map_err(NoCost::Unrated)?;
        cost.add(usage.of(kind), rate);
        rates.push((kind, rate));
    }
    if rates.is_empty() {
        // Nothing was used, but a band without any Credit rate is still no free band.
        rate_of(band, TokenKind::Input, event_time).map_err(NoCost::Unrated)?;
    }
    Ok(Rated {
        credits: cost.round_up()?,
        catalog_version: catalog.version(),
        band_prompt_tokens_max: band.prompt_tokens_max,
        rates,
    })
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
    /// The most output that `held` Credits pay for after the prompt; `None` where output is free.
    pub fn output_tokens_paid_by(&self, held: Credits) -> Option<u64> {
        if self.output_rate.0 == 0 {
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
    let (_, model, band) = find_band(catalog, model_code, prompt.prompt()?)?;
    let output_tokens = [output_tokens_max, model.output_tokens_max]
        .into_iter()
        .flatten()
        .fold(estimate_output_tokens_max, u64::min);
    let full = rate(catalog, model_code, &TokenCounts { output: output_tokens, ..prompt }, now)?;
    let output_rate = rate_of(band, TokenKind::Output, now).map_err(NoCost::Unrated)?;
    let mut prompt_milli = MilliCredits::default();
    for (kind, rate) in &prompt_only.rates {
        prompt_milli.add(prompt.of(*kind), *rate);
    }
    Ok(Estimate { full: full.credits, prompt_only: prompt_only.credits, output_tokens, output_rate, prompt_milli })
}

fn find_band<'a>(
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

fn rate_of(band: &Band, kind: TokenKind, at: Timestamp) -> Result<RateMilli, Unrated> {
    if band.credit_rates_until.is_some_and(|until| at >= until) {
        return Err(Unrated::CreditRateEnded);
    }
    let rates = band.credit_rates_milli.as_ref().ok_or(Unrated::NoCreditRate)?;
    rates.rate(kind).ok_or(Unrated::NoRateForTokenKind)
}
