//! A catalogue as it is written down, in the form that a catalogue file has: what a version is published
//! from and read back as. Whether it makes sense is for `domain::catalog` to say.

use std::collections::BTreeMap;

use domain::Credits;
use domain::catalog as model;
use domain::credits::RateMilli;
use domain::money::DiscountBps;
use domain::usage::TokenKind;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::body::{object, objects, present_object};
use crate::wire::{Instant, TokenCount, code, present};

/// What is sold, and what a token costs: the whole of a version.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CatalogDocument {
    #[serde(deserialize_with = "objects")]
    #[schema(min_items = 1)]
    plans: Vec<PlanTerms>,
    #[serde(default, deserialize_with = "objects", skip_serializing_if = "Vec::is_empty")]
    promotions: Vec<PromotionTerms>,
    #[serde(default, deserialize_with = "objects", skip_serializing_if = "Vec::is_empty")]
    top_ups: Vec<TopUpTerms>,
    #[serde(deserialize_with = "objects")]
    models: Vec<ModelTerms>,
}

/// A monthly price that buys a pool of Credits.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PlanTerms {
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "standard")]
    code: String,
    #[schema(example = "Standard")]
    name: String,
    /// A plan of higher rank is an upgrade.
    rank: u32,
    #[schema(value_type = i64, minimum = 0, maximum = 9_007_199_254_740_991_u64, example = 200_000_000)]
    credits_per_cycle: Credits,
    #[serde(deserialize_with = "object")]
    prices_minor: PricesMinor,
    /// Of twelve cycles that are paid at once; not sold so where left out.
    #[serde(default, deserialize_with = "present_object", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    annual_prices_minor: Option<PricesMinor>,
}

/// A discount on a customer's first cycle.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PromotionTerms {
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "first-cycle")]
    code: String,
    /// Basis points off the list price: 8800 is 88% off.
    #[schema(value_type = u16, minimum = 0, maximum = 10_000, example = 8_800)]
    first_cycle_discount_bps: DiscountBps,
    /// The plans it applies to; every plan where left out.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    plans: Option<Vec<String>>,
}

/// Credits sold apart from a plan.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TopUpTerms {
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "topup-10m")]
    code: String,
    #[schema(value_type = i64, minimum = 0, maximum = 9_007_199_254_740_991_u64, example = 10_000_000)]
    credits: Credits,
    #[serde(deserialize_with = "object")]
    prices_minor: PricesMinor,
    /// How many days of 24 hours the Credits last once they are paid; for ever where left out.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, maximum = 3_660)]
    lasts_days: Option<u32>,
}

/// A price in minor units, in each currency that there is one in.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PricesMinor {
    #[serde(rename = "USD", default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0, maximum = 1_000_000_000_000_u64)]
    usd: Option<i64>,
    #[serde(rename = "CNY", default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0, maximum = 1_000_000_000_000_u64)]
    cny: Option<i64>,
}

/// A model and its context bands, from the shortest prompt to the longest.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ModelTerms {
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "mimo-v2-pro")]
    code: String,
    /// The most output tokens that the model makes in one request.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    output_tokens_max: Option<TokenCount>,
    #[serde(deserialize_with = "objects")]
    #[schema(min_items = 1)]
    bands: Vec<BandTerms>,
}

/// A line of the rate card. Each band begins where the one before it ends.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BandTerms {
    /// The shortest prompt of the band. It follows from the band before and may be left out; where it is said, a
    /// gap or an overlap is refused.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    prompt_tokens_min: Option<TokenCount>,
    /// The upper bound, in prompt tokens; left out where any length fits.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    prompt_tokens_max: Option<TokenCount>,
    /// Whether a prompt of exactly `prompt_tokens_max` is in this band.
    #[serde(default = "inclusive_by_default")]
    #[schema(default = true)]
    max_is_inclusive: bool,
    /// Milli-Credits per token, 1000 being one Credit: one rate, or one for each kind. Left out for a band that is
    /// pay-as-you-go only.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    credit_rates_milli: Option<RateTerms>,
    /// The Credit rates end at this instant: a rate of 0 with an end is free for a limited time. From then on
    /// usage is kept, and charged once a version has a rate for it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    credit_rates_until: Option<Instant>,
    #[serde(default, deserialize_with = "present_object", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    payg_prices_micro: Option<TokenPrices>,
}

fn inclusive_by_default() -> bool {
    true
}

/// Milli-Credits per token.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum RateTerms {
    /// The same for all kinds.
    Uniform(u32),
    PerKind(KindRates),
}

/// A rate for each kind of token that has one.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct KindRates {
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    input: Option<u32>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cache_read: Option<u32>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cache_write: Option<u32>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    output: Option<u32>,
}

/// Pay-as-you-go prices, in each currency that there are any in.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TokenPrices {
    #[serde(
        rename = "USD",
        default,
        deserialize_with = "present_object",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(nullable = false)]
    usd: Option<KindPrices>,
    #[serde(
        rename = "CNY",
        default,
        deserialize_with = "present_object",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(nullable = false)]
    cny: Option<KindPrices>,
}

/// Prices in micro-units of the major unit per 1M tokens. Cache kinds without one are billed as input.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct KindPrices {
    input: u64,
    output: u64,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cache_read: Option<u64>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cache_write: Option<u64>,
}

/// By hand: what serde reads as one of several shapes it reads without a word about what is wrong.
impl<'de> Deserialize<'de> for RateTerms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RateVisitor)
    }
}

struct RateVisitor;

impl<'de> Visitor<'de> for RateVisitor {
    type Value = RateTerms;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a rate, or one for each kind of token")
    }

    fn visit_u64<E: serde::de::Error>(self, rate: u64) -> Result<RateTerms, E> {
        u32::try_from(rate).map(RateTerms::Uniform).map_err(|_| E::custom(code::OUT_OF_RANGE))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<RateTerms, E> {
        Err(E::custom(code::OUT_OF_RANGE))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<RateTerms, A::Error> {
        KindRates::deserialize(MapAccessDeserializer::new(entries)).map(RateTerms::PerKind)
    }
}

impl From<CatalogDocument> for model::CatalogDocument {
    fn from(document: CatalogDocument) -> Self {
        let CatalogDocument { plans, promotions, top_ups, models } = document;
        model::CatalogDocument {
            plans: plans.into_iter().map(model::Plan::from).collect(),
            promotions: promotions
                .into_iter()
                .map(|PromotionTerms { code, first_cycle_discount_bps, plans }| model::Promotion {
                    code,
                    first_cycle_discount_bps,
                    plans: plans.map(|plans| plans.into_iter().collect()),
                })
                .collect(),
            top_ups: top_ups
                .into_iter()
                .map(|TopUpTerms { code, credits, prices_minor, lasts_days }| model::TopUp {
                    code,
                    credits,
                    prices_minor: prices_minor.into(),
                    lasts_days,
                })
                .collect(),
            models: models
                .into_iter()
                .map(|ModelTerms { code, output_tokens_max, bands }| model::Model {
                    code,
                    output_tokens_max: output_tokens_max.map(|count| count.0),
                    bands: bands.into_iter().map(model::Band::from).collect(),
                })
                .collect(),
        }
    }
}

impl From<PlanTerms> for model::Plan {
    fn from(plan: PlanTerms) -> Self {
        model::Plan {
            code: plan.code,
            name: plan.name,
            rank: plan.rank,
            credits_per_cycle: plan.credits_per_cycle,
            prices_minor: plan.prices_minor.into(),
            annual_prices_minor: plan.annual_prices_minor.map(BTreeMap::from).unwrap_or_default(),
        }
    }
}

impl From<BandTerms> for model::Band {
    fn from(band: BandTerms) -> Self {
        let payg = band.payg_prices_micro.map(|TokenPrices { usd, cny }| by_currency(usd, cny));
        let payg = payg.unwrap_or_default().into_iter();
        model::Band {
            prompt_tokens_min: band.prompt_tokens_min.map(|count| count.0),
            prompt_tokens_max: band.prompt_tokens_max.map(|count| count.0),
            max_is_inclusive: band.max_is_inclusive,
            credit_rates_milli: band.credit_rates_milli.map(model::CreditRates::from),
            credit_rates_until: band
                .credit_rates_until
                .map(|until| domain::time::truncate_to_micros(until.0)),
            payg_prices_micro: payg
                .map(|(currency, KindPrices { input, output, cache_read, cache_write })| {
                    (currency, model::PaygPrices { input, output, cache_read, cache_write })
                })
                .collect(),
        }
    }
}

impl From<RateTerms> for model::CreditRates {
    fn from(rates: RateTerms) -> Self {
        match rates {
            RateTerms::Uniform(rate) => model::CreditRates::Uniform(RateMilli(rate)),
            RateTerms::PerKind(KindRates { input, cache_read, cache_write, output }) => {
                let kinds = [
                    (TokenKind::Input, input),
                    (TokenKind::CacheRead, cache_read),
                    (TokenKind::CacheWrite, cache_write),
                    (TokenKind::Output, output),
                ];
                let rates = kinds.into_iter().filter_map(|(kind, rate)| Some((kind, RateMilli(rate?))));
                model::CreditRates::PerKind(rates.collect())
            }
        }
    }
}

fn by_currency<T>(usd: Option<T>, cny: Option<T>) -> BTreeMap<domain::Currency, T> {
    let both = [(domain::Currency::Usd, usd), (domain::Currency::Cny, cny)];
    both.into_iter().filter_map(|(currency, value)| Some((currency, value?))).collect()
}

impl From<PricesMinor> for BTreeMap<domain::Currency, i64> {
    fn from(PricesMinor { usd, cny }: PricesMinor) -> Self {
        by_currency(usd, cny)
    }
}

impl From<&model::CatalogDocument> for CatalogDocument {
    fn from(document: &model::CatalogDocument) -> Self {
        let plan = |plan: &model::Plan| PlanTerms {
            code: plan.code.clone(),
            name: plan.name.clone(),
            rank: plan.rank,
            credits_per_cycle: plan.credits_per_cycle,
            prices_minor: PricesMinor::of(&plan.prices_minor),
            annual_prices_minor: (!plan.annual_prices_minor.is_empty())
                .then(|| PricesMinor::of(&plan.annual_prices_minor)),
        };
        let promotion = |promotion: &model::Promotion| PromotionTerms {
            code: promotion.code.clone(),
            first_cycle_discount_bps: promotion.first_cycle_discount_bps,
            plans: promotion.plans.as_ref().map(|plans| plans.iter().cloned().collect()),
        };
        let top_up = |top_up: &model::TopUp| TopUpTerms {
            code: top_up.code.clone(),
            credits: top_up.credits,
            prices_minor: PricesMinor::of(&top_up.prices_minor),
            lasts_days: top_up.lasts_days,
        };
        let model = |model: &model::Model| ModelTerms {
            code: model.code.clone(),
            output_tokens_max: model.output_tokens_max.map(TokenCount),
            bands: model.bands.iter().map(BandTerms::from).collect(),
        };
        CatalogDocument {
            plans: document.plans.iter().map(plan).collect(),
            promotions: document.promotions.iter().map(promotion).collect(),
            top_ups: document.top_ups.iter().map(top_up).collect(),
            models: document.models.iter().map(model).collect(),
        }
    }
}

impl PricesMinor {
    fn of(prices: &BTreeMap<domain::Currency, i64>) -> PricesMinor {
        let of = |currency| prices.get(&currency).copied();
        PricesMinor { usd: of(domain::Currency::Usd), cny: of(domain::Currency::Cny) }
    }
}

impl From<&model::Band> for BandTerms {
    fn from(band: &model::Band) -> Self {
        let payg = |currency| {
            band.payg_prices_micro.get(&currency).map(
                |&model::PaygPrices { input, output, cache_read, cache_write }| KindPrices {
                    input,
                    output,
                    cache_read,
                    cache_write,
                },
            )
        };
        BandTerms {
            prompt_tokens_min: band.prompt_tokens_min.map(TokenCount),
            prompt_tokens_max: band.prompt_tokens_max.map(TokenCount),
            max_is_inclusive: band.max_is_inclusive,
            credit_rates_milli: band.credit_rates_milli.as_ref().map(RateTerms::from),
            credit_rates_until: band.credit_rates_until.map(Instant),
            payg_prices_micro: (!band.payg_prices_micro.is_empty())
                .then(|| TokenPrices { usd: payg(domain::Currency::Usd), cny: payg(domain::Currency::Cny) }),
        }
    }
}

impl From<&model::CreditRates> for RateTerms {
    fn from(rates: &model::CreditRates) -> Self {
        match rates {
            model::CreditRates::Uniform(rate) => RateTerms::Uniform(rate.0),
            model::CreditRates::PerKind(rates) => {
                let rate = |kind| rates.get(&kind).map(|rate| rate.0);
                RateTerms::PerKind(KindRates {
                    input: rate(TokenKind::Input),
                    cache_read: rate(TokenKind::CacheRead),
                    cache_write: rate(TokenKind::CacheWrite),
                    output: rate(TokenKind::Output),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::body;
    use crate::error::Error;

    fn read(text: &str) -> Result<model::CatalogDocument, String> {
        match body::read::<CatalogDocument>(text) {
            Ok(document) => Ok(document.into()),
            Err(Error::Service(db::Error::Refused(domain::Refusal::InvalidFields(fields)))) => {
                Err(format!("{} {}", fields[0].pointer, fields[0].code))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_reference_catalogue_is_read_as_json_as_it_is_from_its_file() {
        let file = catalog::parse(catalog::REFERENCE).unwrap();
        let written = serde_json::to_string(&CatalogDocument::from(&file)).unwrap();
        assert_eq!(read(&written), Ok(file.clone()));
        // The stored form is the form of the file too.
        assert_eq!(read(&serde_json::to_string(&file).unwrap()), Ok(file));
    }

    #[test]
    fn a_document_of_every_field_reads_back_as_it_was_written() {
        let json = json!({
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
                        "credit_rates_until": "2026-07-01T00:00:00.000000Z",
                    },
                    {
                        "max_is_inclusive": true, "credit_rates_milli": 7,
                        "payg_prices_micro": { "USD": { "input": 1, "output": 2, "cache_read": 3, "cache_write": 4 } },
                    },
                ],
            }],
        });
        let document = read(&json.to_string()).unwrap();
        assert_eq!(serde_json::to_value(CatalogDocument::from(&document)).unwrap(), json);
    }

    #[test]
    fn what_is_no_catalogue_is_refused_with_its_place() {
        let base =
            || serde_json::to_value(CatalogDocument::from(&catalog::parse(catalog::REFERENCE).unwrap()));
        let cases: &[(&str, Value, &str)] = &[
            ("/plans/0/rank", json!("1"), "/plans/0/rank wrong-type"),
            ("/plans/0", json!(["lite", "Lite", 1, 1, {}]), "/plans/0 wrong-type"),
            ("/plans/0/prices_minor", json!({"EUR": 1}), "/plans/0/prices_minor/EUR unknown-field"),
            ("/plans/0/prices_minor/USD", json!(null), "/plans/0/prices_minor/USD wrong-type"),
            (
                "/models/1/bands/1/credit_rates_milli",
                json!(-1),
                "/models/1/bands/1/credit_rates_milli out-of-range",
            ),
            (
                "/models/1/bands/1/credit_rates_milli",
                json!(4_294_967_296_u64),
                "/models/1/bands/1/credit_rates_milli out-of-range",
            ),
            (
                "/models/1/bands/1/credit_rates_milli",
                json!({"thinking": 1}),
                "/models/1/bands/1/credit_rates_milli/thinking unknown-field",
            ),
            (
                "/models/1/bands/1/prompt_tokens_max",
                json!(1.5),
                "/models/1/bands/1/prompt_tokens_max wrong-type",
            ),
        ];
        for (pointer, value, expected) in cases {
            let mut json = base().unwrap();
            *json.pointer_mut(pointer).unwrap() = value.clone();
            assert_eq!(read(&json.to_string()), Err((*expected).to_owned()), "{pointer}");
        }
        let twice = r#"{"plans": [], "models": [{"code": "m", "bands": [{"credit_rates_milli": {"input": 1, "input": 2}}]}]}"#;
        assert_eq!(
            read(twice),
            Err("an object has the same key twice".to_owned()),
            "which of the two counts?"
        );
    }
}
