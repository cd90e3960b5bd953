//! What a tenant sells: plans, promotions, and a rate card, published together as one immutable
//! version.
//!
//! [`CatalogDocument`] is the shape of a catalogue file and of a stored version. [`Catalog::new`]
//! is the only way to a [`Catalog`], so whoever holds one holds a checked one: bands without gap
//! or overlap, ranks and codes unique, every price in range.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::credits::{Credits, RateMilli};
use crate::money::{Currency, DiscountBps, Money};
use crate::{Refusal, Timestamp};

/// A catalogue as it is written down: a file to load, or the stored version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogDocument {
    pub plans: Vec<Plan>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub promotions: Vec<Promotion>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_ups: Vec<TopUp>,
    pub models: Vec<Model>,
}

/// A monthly price that buys a pool of Credits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub code: String,
    pub name: String,
    /// A plan of higher rank is an upgrade.
    pub rank: u32,
    pub credits_per_cycle: Credits,
    /// Price a cycle in minor units, by currency.
    pub prices_minor: BTreeMap<Currency, i64>,
}

impl Plan {
    /// The list price a cycle; refused with `no-price-in-currency`.
    pub fn price(&self, currency: Currency) -> Result<Money, Refusal> {
        let amount_minor = *self.prices_minor.get(&currency).ok_or(Refusal::NoPriceInCurrency { currency })?;
        Money::new(amount_minor, currency)
    }
}

/// A discount on the first cycle, once per customer ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promotion {
    pub code: String,
    /// Basis points off the list price: 8,800 is 88% off.
    pub first_cycle_discount_bps: DiscountBps,
    /// The plans it applies to; every plan where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plans: Option<BTreeSet<String>>,
}

impl Promotion {
    pub fn applies_to(&self, plan_code: &str) -> bool {
        self.plans.as_ref().is_none_or(|plans| plans.contains(plan_code))
    }
}

/// Credits sold apart from a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopUp {
    pub code: String,
    pub credits: Credits,
    pub prices_minor: BTreeMap<Currency, i64>,
}

/// A model and its context bands, from the shortest prompt to the longest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub code: String,
    /// The most output tokens that the model makes in one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens_max: Option<u64>,
    pub bands: Vec<Band>,
}

/// A line of the rate card. The first band has no lower bound; each begins where the one before
/// it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// The upper bound, in prompt tokens; none only on the last band ("any length").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_max: Option<u64>,
    /// Whether a prompt of exactly `prompt_tokens_max` is still in this band.
    #[serde(default = "inclusive_by_default")]
    pub max_is_inclusive: bool,
    /// Milli-Credits per token; none for a band that is pay-as-you-go only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit_rates_milli: Option<CreditRates>,
    /// The Credit rates end at this instant ("free, limited time"); after it the band is unrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit_rates_until: Option<Timestamp>,
    /// Pay-as-you-go prices, by currency.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub payg_prices_micro: BTreeMap<Currency, PaygPrices>,
}

fn inclusive_by_default() -> bool {
    true
}

impl Band {
    /// Whether a prompt of this length lies at or below the band's upper bound.
    pub fn reaches(&self, prompt_tokens: u64) -> bool {
        match self.prompt_tokens_max {
            None => true,
            Some(max) if self.max_is_inclusive => prompt_tokens <= max,
            Some(max) => prompt_tokens < max,
        }
    }
}

/// One rate for all kinds, or one for each kind that has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CreditRates {
    Uniform(RateMilli),
    PerKind(BTreeMap<crate::usage::TokenKind, RateMilli>),
}

impl CreditRates {
    pub fn rate(&self, kind: crate::usage::TokenKind) -> Option<RateMilli> {
        match self {
            CreditRates::Uniform(rate) => Some(*rate),
            CreditRates::PerKind(rates) => rates.get(&kind).copied(),
        }
    }
}

/// Prices in micro-units of the major unit per 1M tokens. Cache kinds without a price of
/// their own are billed as input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaygPrices {
    pub input: u64,
    pub output: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<u64>,
}

/// A checked, published version of a tenant's catalogue. Immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    version: u32,
    effective_at: Timestamp,
    document: CatalogDocument,
}

impl Catalog {
    /// Checks a document; refused with `invalid-catalog` and every problem found.
    pub fn new(version: u32, effective_at: Timestamp, document: CatalogDocument) -> Result<Catalog, Refusal> {
        let problems = problems(&document);
        if problems.is_empty() {
            Ok(Catalog { version, effective_at, document })
        } else {
            Err(Refusal::InvalidCatalog { problems })
        }
    }

    /// 1 for a tenant's first, rising by one.
    pub fn version(&self) -> u32 {
        self.version
    }

    pub fn effective_at(&self) -> Timestamp {
        self.effective_at
    }

    pub fn document(&self) -> &CatalogDocument {
        &self.document
    }

    pub fn plan(&self, code: &str) -> Result<&Plan, Refusal> {
        self.document.plans.iter().find(|plan| plan.code == code).ok_or(Refusal::UnknownPlan)
    }

    pub fn model(&self, code: &str) -> Option<&Model> {
        self.document.models.iter().find(|model| model.code == code)
    }

    /// The promotion of this code.
    pub fn promotion(&self, code: &str) -> Result<&Promotion, Refusal> {
        self.document.promotions.iter().find(|p| p.code == code).ok_or(Refusal::UnknownPromotion)
    }

    /// The promotions for a plan, the largest discount first.
    pub fn promotions_for(&self, plan_code: &str) -> Vec<&Promotion> {
        let mut found: Vec<_> = self.document.promotions.iter().filter(|p| p.applies_to(plan_code)).collect();
        found.sort_by_key(|p| (std::cmp::Reverse(p.first_cycle_discount_bps.get()), p.code.clone()));
        found
    }
}

/// A tenant's versions in order of their effective instants. Never empty of meaning: before the
/// first version's instant, nothing is sold and nothing is rated.
#[derive(Debug, Clone, Default)]
pub struct CatalogHistory(Vec<std::sync::Arc<Catalog>>);

impl CatalogHistory {
    pub fn new(mut versions: Vec<std::sync::Arc<Catalog>>) -> CatalogHistory {
        versions.sort_by_key(|catalog| (catalog.effective_at, catalog.version));
        CatalogHistory(versions)
    }

    /// The version in force at an instant.
    pub fn at(&self, instant: Timestamp) -> Option<&std::sync::Arc<Catalog>> {
        self.0.iter().rev().find(|catalog| catalog.effective_at <= instant)
    }

    /// A version by number: what a subscription bought stays readable.
    pub fn version(&self, version: u32) -> Option<&std::sync::Arc<Catalog>> {
        self.0.iter().find(|catalog| catalog.version == version)
    }

    pub fn latest(&self) -> Option<&std::sync::Arc<Catalog>> {
        self.0.last()
    }
}

/// Everything that is wrong with a document, a sentence each.
fn problems(document: &CatalogDocument) -> Vec<String> {
    let mut problems = Vec::new();
    check_codes("plan", document.plans.iter().map(|p| p.code.as_str()), &mut problems);
    check_codes("promotion", document.promotions.iter().map(|p| p.code.as_str()), &mut problems);
    check_codes("top-up", document.top_ups.iter().map(|t| t.code.as_str()), &mut problems);
    check_codes("model", document.models.iter().map(|m| m.code.as_str()), &mut problems);
    check_plans(&document.plans, &mut problems);
    for top_up in &document.top_ups {
        check_prices(&format!("top-up {}", top_up.code), &top_up.prices_minor, &mut problems);
    }
    for promotion in &document.promotions {
        for plan in promotion.plans.iter().flatten() {
            if !document.plans.iter().any(|p| &p.code == plan) {
                problems.push(format!("promotion {} names the unknown plan {plan}", promotion.code));
            }
        }
        if promotion.first_cycle_discount_bps.get() > 10_000 {
            problems.push(format!("promotion {} takes off more than 10,000 basis points", promotion.code));
        }
    }
    for model in &document.models {
        check_bands(model, &mut problems);
    }
    problems
}

fn check_codes<'a>(noun: &str, codes: impl Iterator<Item = &'a str>, problems: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for code in codes {
        if code.parse::<crate::id::ExternalId>().is_err() {
            problems.push(format!("{noun} code {code:?} is not 1 to 128 of [A-Za-z0-9._:-]"));
        }
        if !seen.insert(code) {
            problems.push(format!("{noun} {code} appears twice"));
        }
    }
}

fn check_plans(plans: &[Plan], problems: &mut Vec<String>) {
    if plans.is_empty() {
        problems.push("there is no plan".to_owned());
    }
    let mut ranks = BTreeMap::new();
    for plan in plans {
        if let Some(other) = ranks.insert(plan.rank, &plan.code) {
            problems.push(format!("plans {other} and {} share rank {}", plan.code, plan.rank));
        }
        check_prices(&format!("plan {}", plan.code), &plan.prices_minor, problems);
    }
    let mut by_rank: Vec<&Plan> = plans.iter().collect();
    by_rank.sort_by_key(|plan| plan.rank);
    for pair in by_rank.windows(2) {
        let (lower, higher) = (pair[0], pair[1]);
        if higher.credits_per_cycle < lower.credits_per_cycle {
            problems.push(format!("plan {} ranks above {} with fewer Credits", higher.code, lower.code));
        }
        for (currency, price) in &higher.prices_minor {
            if lower.prices_minor.get(currency).is_some_and(|lower_price| price < lower_price) {
                problems.push(format!("plan {} ranks above {} and is cheaper in {currency}", higher.code, lower.code));
            }
        }
    }
}

fn check_prices(what: &str, prices_minor: &BTreeMap<Currency, i64>, problems: &mut Vec<String>) {
    if prices_minor.is_empty() {
        problems.push(format!("{what} has no price"));
    }
    if prices_minor.values().any(|price| !(0..=1_000_000_000_000).contains(price)) {
        problems.push(format!("{what} has a price outside 0 to 1,000,000,000,000 minor units"));
    }
}

fn check_bands(model: &Model, problems: &mut Vec<String>) {
    let code = &model.code;
    if model.bands.is_empty() {
        problems.push(format!("model {code} has no band"));
    }
    for (index, band) in model.bands.iter().enumerate() {
        let is_last = index + 1 == model.bands.len();
        if band.prompt_tokens_max.is_none() && !is_last {
            problems.push(format!("model {code}: a band without an upper bound hides the bands after it"));
        }
        if band.credit_rates_milli.is_none() && band.payg_prices_micro.is_empty() {
            problems.push(format!("model {code}: a band has neither a Credit rate nor a price"));
        }
    }
    for pair in model.bands.windows(2) {
        if let (Some(lower), Some(upper)) = (pair[0].prompt_tokens_max, pair[1].prompt_tokens_max)
            && upper <= lower
        {
            problems.push(format!("model {code}: the band to {upper} does not begin after the band to {lower}"));
        }
    }
}
