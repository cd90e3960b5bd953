//! What a tenant sells: plans, promotions, and a rate card, published together as one immutable
//! version (R-5).
//!
//! [`CatalogDocument`] is the shape of a catalogue file and of a stored version. [`Catalog::new`]
//! is the only way to a [`Catalog`], so whoever holds one holds a checked one: bands without gap
//! or overlap, ranks and codes unique, every price in range.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::credits::{Credits, RateMilli};
use crate::money::{Currency, DiscountBps, Money};
use crate::usage::{TokenCounts, TokenKind};
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
    /// A plan of higher rank is an upgrade (R-13).
    pub rank: u32,
    pub credits_per_cycle: Credits,
    /// Price a cycle in minor units, by currency.
    pub prices_minor: BTreeMap<Currency, i64>,
    /// Price of twelve cycles that are paid at once (R-22b); not sold so in a currency that is left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annual_prices_minor: BTreeMap<Currency, i64>,
}

impl Plan {
    /// The list price a cycle; refused with `no-price-in-currency`.
    pub fn price(&self, currency: Currency) -> Result<Money, Refusal> {
        let amount_minor =
            *self.prices_minor.get(&currency).ok_or(Refusal::NoPriceInCurrency { currency })?;
        Money::new(amount_minor, currency)
    }

    /// The list price of a year; refused with `no-price-in-currency`.
    pub fn annual_price(&self, currency: Currency) -> Result<Money, Refusal> {
        let amount_minor =
            *self.annual_prices_minor.get(&currency).ok_or(Refusal::NoPriceInCurrency { currency })?;
        Money::new(amount_minor, currency)
    }
}

/// A discount on the first cycle, once per customer ever (R-11).
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
    /// How many days of 24 hours the Credits last once they are paid; for ever where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts_days: Option<u32>,
}

impl TopUp {
    /// Refused: `no-price-in-currency`.
    pub fn price(&self, currency: Currency) -> Result<Money, Refusal> {
        match self.prices_minor.get(&currency) {
            Some(price) => Money::new(*price, currency),
            None => Err(Refusal::NoPriceInCurrency { currency }),
        }
    }
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
    /// The shortest prompt of the band. It follows from the band before, so it need not be said; where it is, a
    /// gap or an overlap between the two is refused instead of read as something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_min: Option<u64>,
    /// The upper bound, in prompt tokens; none only on the last band ("any length").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_max: Option<u64>,
    /// Whether a prompt of exactly `prompt_tokens_max` is still in this band (R-7).
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

    /// The shortest prompt that is too long for the band; none where no prompt is.
    fn first_beyond(&self) -> Option<u64> {
        let max = self.prompt_tokens_max?;
        if self.max_is_inclusive { max.checked_add(1) } else { Some(max) }
    }

    /// Whether whatever is charged by `earlier` is charged the same by this band.
    fn charges_as(&self, earlier: &Band) -> bool {
        let is_same_length = (self.prompt_tokens_max, self.max_is_inclusive)
            == (earlier.prompt_tokens_max, earlier.max_is_inclusive);
        let is_same_rate = earlier.credit_rates_milli.is_none()
            || (&self.credit_rates_milli, self.credit_rates_until)
                == (&earlier.credit_rates_milli, earlier.credit_rates_until);
        is_same_length && is_same_rate && self.payg_prices_micro == earlier.payg_prices_micro
    }
}

/// One rate for all kinds, or one for each kind that has one (R-8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CreditRates {
    Uniform(RateMilli),
    PerKind(BTreeMap<TokenKind, RateMilli>),
}

impl CreditRates {
    pub fn rate(&self, kind: TokenKind) -> Option<RateMilli> {
        match self {
            CreditRates::Uniform(rate) => Some(*rate),
            CreditRates::PerKind(rates) => rates.get(&kind).copied(),
        }
    }
}

/// Prices in micro-units of the major unit per 1M tokens (R-2). Cache kinds without a price of
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

impl PaygPrices {
    fn all(self) -> impl Iterator<Item = u64> {
        [Some(self.input), Some(self.output), self.cache_read, self.cache_write].into_iter().flatten()
    }
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

    /// Whether this version sells what `earlier` sells and charges what it charges, and at most has lines for
    /// what had none. Only such a one may be in force from an instant in the past: nothing that was sold or
    /// charged since then would have been otherwise, and what is unrated is charged (R-31).
    pub fn only_adds_lines_to(&self, earlier: &CatalogDocument) -> bool {
        let CatalogDocument { plans, promotions, top_ups, models } = &self.document;
        let charges_as = |model: &Model| {
            self.model(&model.code).is_some_and(|own| {
                own.output_tokens_max == model.output_tokens_max
                    && own.bands.len() >= model.bands.len()
                    && own.bands.iter().zip(&model.bands).all(|(band, earlier)| band.charges_as(earlier))
            })
        };
        (plans, promotions, top_ups) == (&earlier.plans, &earlier.promotions, &earlier.top_ups)
            && models.len() >= earlier.models.len()
            && earlier.models.iter().all(charges_as)
    }

    pub fn plan(&self, code: &str) -> Result<&Plan, Refusal> {
        self.document.plans.iter().find(|plan| plan.code == code).ok_or(Refusal::UnknownPlan)
    }

    pub fn model(&self, code: &str) -> Option<&Model> {
        self.document.models.iter().find(|model| model.code == code)
    }

    /// The top-up of this code; one without Credits is not sold. Refused: `unknown-top-up`.
    pub fn top_up(&self, code: &str) -> Result<&TopUp, Refusal> {
        let mut sold = self.document.top_ups.iter().filter(|top_up| !top_up.credits.is_zero());
        sold.find(|top_up| top_up.code == code).ok_or(Refusal::UnknownTopUp)
    }

    /// Whether anything has a pay-as-you-go price in the currency.
    pub fn has_payg_prices(&self, currency: Currency) -> bool {
        let mut bands = self.document.models.iter().flat_map(|model| &model.bands);
        bands.any(|band| band.payg_prices_micro.contains_key(&currency))
    }

    /// The promotion of this code.
    pub fn promotion(&self, code: &str) -> Result<&Promotion, Refusal> {
        self.document.promotions.iter().find(|p| p.code == code).ok_or(Refusal::UnknownPromotion)
    }

    /// The promotions for a plan, the largest discount first (R-11).
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

    /// The version in force at an instant (R-7).
    pub fn at(&self, instant: Timestamp) -> Option<&std::sync::Arc<Catalog>> {
        self.0.iter().rev().find(|catalog| catalog.effective_at <= instant)
    }

    /// A version by number: what a subscription bought stays readable (R-5).
    pub fn version(&self, version: u32) -> Option<&std::sync::Arc<Catalog>> {
        self.0.iter().find(|catalog| catalog.version == version)
    }

    pub fn latest(&self) -> Option<&std::sync::Arc<Catalog>> {
        self.0.last()
    }

    /// The versions that were in force at any instant after `after` and before `at`, but the one in force at `at`.
    pub fn replaced(
        &self,
        after: Timestamp,
        at: Timestamp,
    ) -> impl Iterator<Item = &std::sync::Arc<Catalog>> {
        let until_now = self.0.iter().rev().skip_while(move |catalog| catalog.effective_at > at);
        let mut is_over = false;
        // From the latest: a version was in force until the one looked at before it.
        until_now
            .take_while(move |catalog| !std::mem::replace(&mut is_over, catalog.effective_at <= after))
            .skip(1)
    }

    /// All versions, from the first.
    pub fn versions(&self) -> impl DoubleEndedIterator<Item = &std::sync::Arc<Catalog>> {
        self.0.iter()
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
        if top_up.lasts_days.is_some_and(|days| !(1..=3_660).contains(&days)) {
            problems.push(format!("top-up {} lasts neither for ever nor 1 to 3,660 days", top_up.code));
        }
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
        if plan.annual_prices_minor.values().any(|price| !(0..=PRICE_MINOR_MAX).contains(price)) {
            problems.push(format!(
                "plan {} has an annual price outside 0 to 1,000,000,000,000 minor units",
                plan.code
            ));
        }
    }
    let mut by_rank: Vec<&Plan> = plans.iter().collect();
    by_rank.sort_by_key(|plan| plan.rank);
    for pair in by_rank.windows(2) {
        let (lower, higher) = (pair[0], pair[1]);
        if higher.credits_per_cycle < lower.credits_per_cycle {
            problems.push(format!("plan {} ranks above {} with fewer Credits", higher.code, lower.code));
        }
    }
    check_order(&by_rank, |plan| &plan.prices_minor, "", problems);
    check_order(&by_rank, |plan| &plan.annual_prices_minor, " a year", problems);
}

/// A higher plan is not cheaper. By currency, against the next plan below that is sold in it: a plan between may have
/// no such price.
fn check_order(
    by_rank: &[&Plan],
    prices: fn(&Plan) -> &BTreeMap<Currency, i64>,
    a_term: &str,
    problems: &mut Vec<String>,
) {
    let mut below: BTreeMap<Currency, (&Plan, i64)> = BTreeMap::new();
    for higher in by_rank {
        for (currency, price) in prices(higher) {
            if let Some((lower, lower_price)) = below.insert(*currency, (higher, *price))
                && *price < lower_price
            {
                problems.push(format!(
                    "plan {} ranks above {} and is cheaper in {currency}{a_term}",
                    higher.code, lower.code
                ));
            }
        }
    }
}

/// The highest price of anything, in minor units: far from where sums over it could overflow.
const PRICE_MINOR_MAX: i64 = 1_000_000_000_000;

/// The highest pay-as-you-go price, in micro-units per 1M tokens: a million of the major unit.
const PAYG_PRICE_MICRO_MAX: u64 = 1_000_000_000_000;

fn check_prices(what: &str, prices_minor: &BTreeMap<Currency, i64>, problems: &mut Vec<String>) {
    if prices_minor.is_empty() {
        problems.push(format!("{what} has no price"));
    }
    if prices_minor.values().any(|price| !(0..=PRICE_MINOR_MAX).contains(price)) {
        problems.push(format!("{what} has a price outside 0 to 1,000,000,000,000 minor units"));
    }
}

fn check_bands(model: &Model, problems: &mut Vec<String>) {
    let code = &model.code;
    if model.output_tokens_max.is_some_and(|max| max > TokenCounts::COUNT_MAX) {
        problems.push(format!("model {code}: output_tokens_max is larger than any token count"));
    }
    if model.bands.is_empty() {
        problems.push(format!("model {code} has no band"));
    }
    for (number, band) in (1..).zip(&model.bands) {
        let is_last = number == model.bands.len();
        let mut say = |problem: &str| problems.push(format!("model {code}, band {number}: {problem}"));
        if band.prompt_tokens_max.is_none() && !is_last {
            say("it has no upper bound, and hides the bands after it");
        }
        if band.prompt_tokens_max.is_some_and(|max| max > TokenCounts::COUNT_MAX) {
            say("its bound is larger than any token count");
        }
        let has_credit_rate = match &band.credit_rates_milli {
            None => false,
            Some(CreditRates::Uniform(_)) => true,
            Some(CreditRates::PerKind(rates)) => !rates.is_empty(),
        };
        if !has_credit_rate && band.payg_prices_micro.is_empty() {
            say("it has neither a Credit rate nor a price");
        }
        for (currency, prices) in &band.payg_prices_micro {
            if prices.all().any(|price| price > PAYG_PRICE_MICRO_MAX) {
                say(&format!("it has a pay-as-you-go price above 1,000,000 {currency} per 1M tokens"));
            }
        }
    }
    if let Some(min) = model.bands.first().and_then(|band| band.prompt_tokens_min)
        && min > 0
    {
        problems.push(format!("model {code}, band 1: prompts shorter than {min} tokens have no band"));
    }
    for (number, pair) in (2..).zip(model.bands.windows(2)) {
        check_neighbours(code, number, &pair[0], &pair[1], problems);
    }
}

/// Each band begins where the one before ends: no prompt length has two bands or none.
fn check_neighbours(code: &str, number: usize, before: &Band, band: &Band, problems: &mut Vec<String>) {
    let Some(first) = before.first_beyond() else { return };
    let mut say = |problem: String| problems.push(format!("model {code}, band {number}: {problem}"));
    if let (Some(lower), Some(upper)) = (before.prompt_tokens_max, band.prompt_tokens_max)
        && upper <= lower
    {
        say(format!("it overlaps the band before it: it ends at {upper}, and that one at {lower}"));
        return;
    }
    match band.prompt_tokens_min {
        Some(min) if min < first => {
            say(format!(
                "it overlaps the band before it: it begins at {min}, and that one reaches {}",
                first - 1
            ));
        }
        Some(min) if min > first => {
            say(format!("prompts of {first} to {} tokens lie in a gap before it", min - 1));
        }
        Some(_) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::fixtures::{at, band, cny, credits, model, reference, reference_document, usd};

    fn publish(version: u32, effective_at: &str) -> Arc<Catalog> {
        Arc::new(Catalog::new(version, at(effective_at), reference_document()).unwrap())
    }

    #[test]
    fn the_reference_catalogue_reads_back_as_it_was_written() {
        let document = reference_document();
        let json = serde_json::to_string(&document).unwrap();
        assert_eq!(serde_json::from_str::<CatalogDocument>(&json).unwrap(), document);
    }

    #[test]
    fn a_document_of_every_field_reads_back_as_it_was_written() {
        let json = serde_json::json!({
            "plans": [{
                "code": "lite", "name": "Lite", "rank": 1, "credits_per_cycle": 60_000_000,
                "prices_minor": { "USD": 600, "CNY": 3_900 },
            }],
            "promotions": [{ "code": "p", "first_cycle_discount_bps": 1_200, "plans": ["lite"] }],
            "top_ups": [{ "code": "t", "credits": 10, "prices_minor": { "USD": 1 } }],
            "models": [{
                "code": "m", "output_tokens_max": 32_000,
                "bands": [
                    {
                        "prompt_tokens_min": 0, "prompt_tokens_max": 100, "max_is_inclusive": false,
                        "credit_rates_milli": { "input": 1_000, "cache_read": 100, "cache_write": 1_250, "output": 5_000 },
                        "credit_rates_until": "2026-07-01T00:00:00Z",
                    },
                    {
                        "max_is_inclusive": true,
                        "payg_prices_micro": {
                            "USD": { "input": 1, "output": 2, "cache_read": 3, "cache_write": 4 },
                        },
                    },
                ],
            }],
        });
        let document: CatalogDocument = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&document).unwrap(), json);
        assert_eq!(problems(&document), Vec::<String>::new());
    }

    #[test]
    fn a_bound_is_inclusive_where_the_document_does_not_say() {
        let band: Band =
            serde_json::from_str(r#"{ "prompt_tokens_max": 5, "credit_rates_milli": 1000 }"#).unwrap();
        assert!(band.reaches(5) && !band.reaches(6));
    }

    #[test]
    fn what_is_no_amount_or_no_field_cannot_be_written_down() {
        for bad in [
            r#"{ "credit_rates_milli": -1 }"#,
            r#"{ "credit_rates_milli": 0.1 }"#,
            r#"{ "credit_rates_milli": 4294967296 }"#,
            r#"{ "credit_rates_milli": { "inputs": 1000 } }"#,
            r#"{ "prompt_tokens_max": -5 }"#,
            r#"{ "credit_rate": 1000 }"#,
            r#"{ "payg_prices_micro": { "EUR": { "input": 1, "output": 1 } } }"#,
        ] {
            assert!(serde_json::from_str::<Band>(bad).is_err(), "{bad}");
        }
        for bad in ["-1", "1.5", "9007199254740992", "\"1\""] {
            assert!(serde_json::from_str::<Credits>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_problem_of_a_document_is_found_and_said() {
        type Change = fn(&mut CatalogDocument);
        let cases: &[(&str, Change)] = &[
            ("there is no plan", |d| {
                d.plans.clear();
                d.promotions.clear();
            }),
            ("plan lite appears twice", |d| d.plans[1].code = "lite".to_owned()),
            ("promotion first-cycle appears twice", |d| d.promotions.push(d.promotions[0].clone())),
            ("top-up topup-10m appears twice", |d| d.top_ups.push(d.top_ups[0].clone())),
            ("model mimo-v2-tts appears twice", |d| d.models.push(d.models[2].clone())),
            ("plan code \"\" is not 1 to 128 of [A-Za-z0-9._:-]", |d| d.plans[0].code.clear()),
            ("model code \"a b\" is not 1 to 128 of [A-Za-z0-9._:-]", |d| {
                d.models[0].code = "a b".to_owned();
            }),
            ("plans standard and pro share rank 2", |d| d.plans[2].rank = 2),
            ("plan lite has no price", |d| d.plans[0].prices_minor.clear()),
            ("plan lite has a price outside 0 to 1,000,000,000,000 minor units", |d| {
                d.plans[0].prices_minor.insert(Currency::Usd, -1);
            }),
            ("plan max has a price outside 0 to 1,000,000,000,000 minor units", |d| {
                d.plans[3].prices_minor.insert(Currency::Usd, 1_000_000_000_001);
            }),
            ("plan max has an annual price outside 0 to 1,000,000,000,000 minor units", |d| {
                d.plans[3].annual_prices_minor.insert(Currency::Usd, 1_000_000_000_001);
            }),
            ("plan pro ranks above standard and is cheaper in USD a year", |d| {
                d.plans[2].annual_prices_minor.insert(Currency::Usd, 15_999);
            }),
            ("top-up topup-10m has no price", |d| d.top_ups[0].prices_minor.clear()),
            ("plan pro ranks above standard with fewer Credits", |d| {
                d.plans[2].credits_per_cycle = credits(199_999_999);
            }),
            ("plan pro ranks above standard and is cheaper in CNY", |d| {
                d.plans[2].prices_minor.insert(Currency::Cny, 9_899);
            }),
            ("plan pro ranks above lite and is cheaper in USD", |d| {
                // Not hidden by a plan between them that is not sold in dollars.
                d.plans[1].prices_minor.remove(&Currency::Usd);
                d.plans[2].prices_minor.insert(Currency::Usd, 599);
            }),
            ("promotion first-cycle names the unknown plan gold", |d| {
                d.promotions[0].plans = Some(BTreeSet::from(["lite".to_owned(), "gold".to_owned()]));
            }),
            ("promotion first-cycle takes off more than 10,000 basis points", |d| {
                d.promotions[0].first_cycle_discount_bps = serde_json::from_str("10001").unwrap();
            }),
            ("model mimo-v2-tts has no band", |d| d.models[2].bands.clear()),
            ("model mimo-v2-tts: output_tokens_max is larger than any token count", |d| {
                d.models[2].output_tokens_max = Some(1 << 63);
            }),
            ("model mimo-v2-pro, band 2: its bound is larger than any token count", |d| {
                d.models[1].bands[1].prompt_tokens_max = Some(1 << 63);
            }),
            ("model mimo-v2-pro, band 1: it has no upper bound, and hides the bands after it", |d| {
                d.models[1].bands[0].prompt_tokens_max = None;
            }),
            (
                "model mimo-v2-pro, band 2: it overlaps the band before it: it ends at 262144, and that one at 262144",
                |d| {
                    d.models[1].bands[1].prompt_tokens_max = Some(262_144);
                },
            ),
            ("model mimo-v2-tts, band 1: it has neither a Credit rate nor a price", |d| {
                d.models[2].bands[0].credit_rates_milli = None;
            }),
            ("model mimo-v2-tts, band 1: it has neither a Credit rate nor a price", |d| {
                d.models[2].bands[0].credit_rates_milli = Some(CreditRates::PerKind(BTreeMap::new()));
            }),
            (
                "model mimo-v2-flash, band 1: it has a pay-as-you-go price above 1,000,000 USD per 1M tokens",
                |d| {
                    d.models[3].bands = vec![band(None, None, Some((1, 1, Some(1_000_000_000_001))))];
                },
            ),
        ];
        for (expected, change) in cases {
            let mut document = reference_document();
            change(&mut document);
            assert_eq!(problems(&document), [*expected]);
        }
    }

    #[test]
    fn bands_that_say_where_they_begin_are_refused_with_a_gap_or_an_overlap() {
        // (first prompt, bound, whether it is inclusive) of each band, and what is said.
        type Bounds = (Option<u64>, Option<u64>, bool);
        let cases: &[(&[Bounds], &[&str])] = &[
            (&[(None, Some(10), true), (None, None, true)], &[]),
            (&[(Some(0), Some(10), true), (Some(11), None, true)], &[]),
            (&[(None, Some(10), false), (Some(10), Some(20), true)], &[]),
            (
                &[(None, Some(10), true), (Some(10), None, true)],
                &["band 2: it overlaps the band before it: it begins at 10, and that one reaches 10"],
            ),
            (
                &[(None, Some(10), false), (Some(9), None, true)],
                &["band 2: it overlaps the band before it: it begins at 9, and that one reaches 9"],
            ),
            (
                &[(None, Some(10), true), (Some(12), None, true)],
                &["band 2: prompts of 11 to 11 tokens lie in a gap before it"],
            ),
            (
                &[(None, Some(10), false), (Some(20), None, true)],
                &["band 2: prompts of 10 to 19 tokens lie in a gap before it"],
            ),
            (&[(Some(1), None, true)], &["band 1: prompts shorter than 1 tokens have no band"]),
            (
                &[(None, Some(10), true), (Some(11), Some(8), true), (Some(40), None, true)],
                &[
                    "band 2: it overlaps the band before it: it ends at 8, and that one at 10",
                    "band 3: prompts of 9 to 39 tokens lie in a gap before it",
                ],
            ),
        ];
        for (bounds, expected) in cases {
            let bands = bounds.iter().map(|(min, max, is_inclusive)| Band {
                prompt_tokens_min: *min,
                max_is_inclusive: *is_inclusive,
                ..band(*max, Some(1_000), None)
            });
            let mut document = reference_document();
            document.models = vec![model("m", bands.collect())];
            let expected: Vec<String> = expected.iter().map(|said| format!("model m, {said}")).collect();
            assert_eq!(problems(&document), expected, "{bounds:?}");
        }
    }

    proptest! {
        /// Whatever bands are written down with both of their bounds: they are accepted exactly if each prompt
        /// length, counted one by one, lies in one band alone.
        #[test]
        fn bands_are_accepted_exactly_if_every_prompt_has_one(
            bounds in prop::collection::vec((0u64..12, 0u64..12), 1..5),
            is_endless in any::<bool>(),
            is_repaired in any::<bool>(),
        ) {
            let mut bounds: Vec<(u64, Option<u64>)> = bounds.into_iter().map(|(a, b)| (a, Some(b))).collect();
            if is_repaired {
                // By chance hardly any are right.
                bounds.sort_by_key(|(_, max)| *max);
                bounds.dedup_by_key(|(_, max)| *max);
                let mut next = 0;
                for (min, max) in &mut bounds {
                    *min = next;
                    next = max.unwrap() + 1;
                }
            }
            if is_endless && let Some((_, max)) = bounds.last_mut() {
                *max = None;
            }
            let end = bounds.last().unwrap().1.unwrap_or(20);
            let is_in = |prompt: u64, (min, max): (u64, Option<u64>)| {
                min <= prompt && max.is_none_or(|max| prompt <= max)
            };
            let is_partition = (0..=end).all(|prompt| {
                bounds.iter().filter(|bounds| is_in(prompt, **bounds)).count() == 1
            });
            let rises = bounds.iter().all(|(min, max)| max.is_none_or(|max| *min <= max)) && bounds.is_sorted();
            let of_model = bounds.iter().map(|(min, max)| Band {
                prompt_tokens_min: Some(*min),
                ..band(*max, Some(1_000), None)
            });
            let document =
                CatalogDocument { models: vec![model("m", of_model.collect())], ..reference_document() };
            let found = problems(&document);
            prop_assert_eq!(found.is_empty(), is_partition && rises, "{:?}: {:?}", bounds, found);
        }
    }

    #[test]
    fn what_only_adds_lines_changes_nothing_that_was_sold_or_charged() {
        type Change = fn(&mut CatalogDocument);
        let adding: &[Change] = &[
            |_| {},
            |d| d.models.push(model("new", vec![band(None, Some(1_000), None)])),
            |d| d.models[1].bands.push(band(None, Some(8_000), None)),
            |d| d.models[3].bands[0].credit_rates_milli = Some(CreditRates::Uniform(RateMilli(500))),
            |d| d.models.reverse(),
        ];
        let changing: &[Change] = &[
            |d| d.plans[0].name.push('!'),
            |d| d.top_ups.clear(),
            |d| d.promotions.clear(),
            |d| d.models.truncate(3),
            |d| d.models[0].code.push('x'),
            |d| d.models[0].output_tokens_max = Some(1),
            |d| d.models[1].bands.truncate(1),
            |d| d.models[0].bands[0].prompt_tokens_max = Some(262_145),
            |d| d.models[0].bands[0].max_is_inclusive = false,
            |d| d.models[0].bands[0].credit_rates_milli = Some(CreditRates::Uniform(RateMilli(999))),
            |d| d.models[2].bands[0].credit_rates_until = Some(at("2026-07-01T00:00:00Z")),
            |d| d.models[3].bands[0].payg_prices_micro.clear(),
        ];
        for (changes, expected) in [(adding, true), (changing, false)] {
            for (index, change) in changes.iter().enumerate() {
                let mut document = reference_document();
                change(&mut document);
                let catalog = Catalog { version: 2, effective_at: at("2026-06-01T00:00:00Z"), document };
                assert_eq!(catalog.only_adds_lines_to(&reference_document()), expected, "change {index}");
            }
        }
    }

    #[test]
    fn a_refused_document_lists_all_its_problems_at_once() {
        let mut document = reference_document();
        document.models.push(model("m", vec![]));
        document.plans[0].prices_minor.clear();
        let refused = Catalog::new(1, at("2026-01-01T00:00:00Z"), document);
        let problems = ["plan lite has no price", "model m has no band"].map(str::to_owned).to_vec();
        assert_eq!(refused, Err(Refusal::InvalidCatalog { problems }));
    }

    #[test]
    fn plans_are_sold_by_code_in_the_currencies_that_they_have_a_price_in() {
        let catalog = reference();
        let standard = catalog.plan("standard").unwrap();
        assert_eq!(standard.price(Currency::Usd), Ok(usd(1_600)));
        assert_eq!(standard.price(Currency::Cny), Ok(cny(9_900)));
        assert_eq!(catalog.plan("Standard"), Err(Refusal::UnknownPlan), "to the letter");
        let mut dollars_only = standard.clone();
        dollars_only.prices_minor.remove(&Currency::Cny);
        assert_eq!(
            dollars_only.price(Currency::Cny),
            Err(Refusal::NoPriceInCurrency { currency: Currency::Cny })
        );
    }

    #[test]
    fn the_largest_discount_that_applies_to_the_plan_comes_first() {
        let promotion = |code: &str, bps, plans: Option<&[&str]>| Promotion {
            code: code.to_owned(),
            first_cycle_discount_bps: DiscountBps::new(bps).unwrap(),
            plans: plans.map(|plans| plans.iter().map(|plan| (*plan).to_owned()).collect()),
        };
        let document = CatalogDocument {
            promotions: vec![
                promotion("small", 500, None),
                promotion("b", 1_000, None),
                promotion("a", 1_000, None),
                promotion("max-only", 9_000, Some(&["max"])),
            ],
            ..reference_document()
        };
        let catalog = Catalog::new(1, at("2026-01-01T00:00:00Z"), document).unwrap();
        let codes = |plan| catalog.promotions_for(plan).iter().map(|p| p.code.clone()).collect::<Vec<_>>();
        assert_eq!(codes("lite"), ["a", "b", "small"]);
        assert_eq!(codes("max"), ["max-only", "a", "b", "small"]);
        assert_eq!(catalog.promotion("A"), Err(Refusal::UnknownPromotion));
    }

    #[test]
    fn a_version_is_in_force_from_its_instant_to_the_next_ones() {
        let history = CatalogHistory::new(vec![
            publish(3, "2026-03-01T00:00:00Z"),
            publish(1, "2026-01-01T00:00:00Z"),
            publish(2, "2026-02-01T00:00:00Z"),
        ]);
        let at_instant = |text| history.at(at(text)).map(|catalog| catalog.version());
        assert_eq!(at_instant("2025-12-31T23:59:59.999999Z"), None, "before the first nothing is sold");
        assert_eq!(at_instant("2026-01-01T00:00:00Z"), Some(1));
        assert_eq!(at_instant("2026-01-31T23:59:59.999999Z"), Some(1));
        assert_eq!(at_instant("2026-02-01T00:00:00Z"), Some(2));
        assert_eq!(at_instant("2099-01-01T00:00:00Z"), Some(3));
        assert_eq!(
            history.version(1).map(|catalog| catalog.effective_at()),
            Some(at("2026-01-01T00:00:00Z"))
        );
        assert_eq!(history.version(4), None);
        assert_eq!(history.latest().map(|catalog| catalog.version()), Some(3));
        assert_eq!(CatalogHistory::default().latest(), None);
    }

    #[test]
    fn what_was_in_force_a_while_ago_is_found() {
        let history = CatalogHistory::new(vec![
            publish(1, "2026-01-01T00:00:00Z"),
            publish(2, "2026-02-01T00:00:00Z"),
            publish(3, "2026-03-01T00:00:00Z"),
        ]);
        let replaced = |after, at_instant| -> Vec<u32> {
            history.replaced(at(after), at(at_instant)).map(|catalog| catalog.version()).collect()
        };
        assert_eq!(replaced("2026-03-01T00:00:00Z", "2026-03-10T00:00:00Z"), [0; 0]);
        assert_eq!(replaced("2026-02-28T23:59:59Z", "2026-03-10T00:00:00Z"), [2]);
        assert_eq!(replaced("2026-02-01T00:00:00Z", "2026-03-10T00:00:00Z"), [2]);
        assert_eq!(replaced("2026-01-31T00:00:00Z", "2026-03-10T00:00:00Z"), [2, 1]);
        assert_eq!(replaced("2025-01-01T00:00:00Z", "2026-02-10T00:00:00Z"), [1]);
        assert_eq!(replaced("2025-01-01T00:00:00Z", "2026-01-10T00:00:00Z"), [0; 0]);
        assert_eq!(replaced("2025-01-01T00:00:00Z", "2025-12-01T00:00:00Z"), [0; 0]);
    }
}
