//! What the tests of this crate share: the reference catalogue, and short ways to write an
//! amount, an id or an instant.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::catalog::{
    Band, Catalog, CatalogDocument, CreditRates, Model, PaygPrices, Plan, Promotion, TopUp,
};
use crate::credits::{Credits, RateMilli};
use crate::id::GrantId;
use crate::money::{Currency, DiscountBps, Money};
use crate::{Timestamp, time};

pub(crate) const K_256: u64 = 262_144;
pub(crate) const M_1: u64 = 1_048_576;

pub(crate) fn at(text: &str) -> Timestamp {
    time::parse_rfc3339(text).unwrap()
}

pub(crate) fn credits(count: i64) -> Credits {
    Credits::new(count).unwrap()
}

pub(crate) fn usd(amount_minor: i64) -> Money {
    Money { amount_minor, currency: Currency::Usd }
}

pub(crate) fn cny(amount_minor: i64) -> Money {
    Money { amount_minor, currency: Currency::Cny }
}

pub(crate) fn grant_id(number: u128) -> GrantId {
    GrantId::from_uuid(Uuid::from_u128(number))
}

/// R-6, version 1, in force since the start of 2026.
pub(crate) fn reference() -> Catalog {
    Catalog::new(1, at("2026-01-01T00:00:00Z"), reference_document()).unwrap()
}

/// R-6 with one thing changed.
pub(crate) fn reference_but(change: impl FnOnce(&mut CatalogDocument)) -> Catalog {
    let mut document = reference_document();
    change(&mut document);
    Catalog::new(2, at("2026-06-01T00:00:00Z"), document).unwrap()
}

pub(crate) fn reference_document() -> CatalogDocument {
    CatalogDocument {
        plans: vec![
            plan("lite", 1, 60_000_000, 600, 3_900),
            plan("standard", 2, 200_000_000, 1_600, 9_900),
            plan("pro", 3, 700_000_000, 5_000, 32_900),
            plan("max", 4, 1_600_000_000, 10_000, 65_900),
        ],
        promotions: vec![Promotion {
            code: "first-cycle".to_owned(),
            first_cycle_discount_bps: DiscountBps::new(8_800).unwrap(),
            plans: None,
        }],
        top_ups: vec![TopUp {
            code: "topup-10m".to_owned(),
            credits: credits(10_000_000),
            prices_minor: prices(100, 700),
            lasts_days: None,
        }],
        models: vec![
            model("mimo-v2-omni", vec![band(Some(K_256), Some(1_000), Some((400_000, 2_000_000, None)))]),
            model(
                "mimo-v2-pro",
                vec![
                    band(Some(K_256), Some(2_000), Some((1_000_000, 3_000_000, Some(200_000)))),
                    band(Some(M_1), Some(4_000), None),
                ],
            ),
            model("mimo-v2-tts", vec![band(None, Some(0), None)]),
            model("mimo-v2-flash", vec![band(None, None, Some((90_000, 290_000, Some(10_000))))]),
        ],
    }
}

fn plan(code: &str, rank: u32, credits_per_cycle: i64, usd_minor: i64, cny_minor: i64) -> Plan {
    Plan {
        code: code.to_owned(),
        name: code.to_owned(),
        rank,
        credits_per_cycle: credits(credits_per_cycle),
        prices_minor: prices(usd_minor, cny_minor),
        // ten monthly prices.
        annual_prices_minor: prices(10 * usd_minor, 10 * cny_minor),
    }
}

fn prices(usd_minor: i64, cny_minor: i64) -> BTreeMap<Currency, i64> {
    BTreeMap::from([(Currency::Usd, usd_minor), (Currency::Cny, cny_minor)])
}

pub(crate) fn model(code: &str, bands: Vec<Band>) -> Model {
    Model { code: code.to_owned(), output_tokens_max: None, bands }
}

/// A band with an inclusive bound, one rate for all kinds, and USD prices (input, output, cache read).
pub(crate) fn band(
    prompt_tokens_max: Option<u64>,
    rate_milli: Option<u32>,
    usd_micro: Option<(u64, u64, Option<u64>)>,
) -> Band {
    Band {
        prompt_tokens_min: None,
        prompt_tokens_max,
        max_is_inclusive: true,
        credit_rates_milli: rate_milli.map(|rate| CreditRates::Uniform(RateMilli(rate))),
        credit_rates_until: None,
        payg_prices_micro: usd_micro
            .map(|(input, output, cache_read)| PaygPrices { input, output, cache_read, cache_write: None })
            .map(|prices| (Currency::Usd, prices))
            .into_iter()
            .collect(),
    }
}
