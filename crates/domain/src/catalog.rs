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
}

impl Plan {
    /// The list price a cycle; refused with `no-price-in-currency`.
    pub fn price(&self, currency: Currency) -> Result<Money, Refusal> {
        let amount_minor =
            *self.prices_minor.get(&currency).ok_or(Refusal::NoPriceInCurrency { currency })?;
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
    }
    // By currency, the next plan below that is sold in it: a plan between may have no such price.
    let mut below: BTreeMap<Currency, (&Plan, i64)> = BTreeMap::new();
    for higher in by_rank {
        for (currency, price) in &higher.prices_minor {
            if let Some((lower, lower_price)) = below.insert(*currency, (higher, *price))
                && *price < lower_price
            {
                problems.push(format!(
                    "plan {} ranks above {} and is cheaper in {currency}",
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
    for (index, band) in model.bands.iter().enumerate() {
        let is_last = index + 1 == model.bands.len();
        if band.prompt_tokens_max.is_none() && !is_last {
            problems.push(format!("model {code}: a band without an upper bound hides the bands after it"));
        }
        if band.prompt_tokens_max.is_some_and(|max| max > TokenCounts::COUNT_MAX) {
            problems.push(format!("model {code}: a band's bound is larger than any token count"));
        }
        let has_credit_rate = match &band.credit_rates_milli {
            None => false,
            Some(CreditRates::Uniform(_)) => true,
            Some(CreditRates::PerKind(rates)) => !rates.is_empty(),
        };
        if !has_credit_rate && band.payg_prices_micro.is_empty() {
            problems.push(format!("model {code}: a band has neither a Credit rate nor a price"));
        }
        for (currency, prices) in &band.payg_prices_micro {
            if prices.all().any(|price| price > PAYG_PRICE_MICRO_MAX) {
                problems.push(format!(
                    "model {code}: a band has a pay-as-you-go price above 1,000,000 {currency} per 1M tokens"
                ));
            }
        }
    }
    for pair in model.bands.windows(2) {
        if let (Some(lower), Some(upper)) = (pair[0].prompt_tokens_max, pair[1].prompt_tokens_max)
            && upper <= lower
        {
            problems
                .push(format!("model {code}: the band to {upper} does not begin after the band to {lower}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
                        "prompt_tokens_max": 100, "max_is_inclusive": false,
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
            ("model mimo-v2-pro: a band's bound is larger than any token count", |d| {
                d.models[1].bands[1].prompt_tokens_max = Some(1 << 63);
            }),
            ("model mimo-v2-pro: a band without an upper bound hides the bands after it", |d| {
                d.models[1].bands[0].prompt_tokens_max = None;
            }),
            ("model mimo-v2-pro: the band to 262144 does not begin after the band to 262144", |d| {
                d.models[1].bands[1].prompt_tokens_max = Some(262_144);
            }),
            ("model mimo-v2-tts: a band has neither a Credit rate nor a price", |d| {
                d.models[2].bands[0].credit_rates_milli = None;
            }),
            ("model mimo-v2-tts: a band has neither a Credit rate nor a price", |d| {
                d.models[2].bands[0].credit_rates_milli = Some(CreditRates::PerKind(BTreeMap::new()));
            }),
            (
                "model mimo-v2-flash: a band has a pay-as-you-go price above 1,000,000 USD per 1M tokens",
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
}
