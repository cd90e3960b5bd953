//! What a simulated tenant sells, once for Tollgate and once for the model: the reference catalogue,
//! and a second version that is in force later and differs in every way that a version may.

use domain::Credits;
use domain::calendar::AnchorKind;
use domain::model::calendar::{DAY, Micros};
use domain::model::{
    ModelBand, ModelCatalog, ModelPlan, ModelPolicies, ModelPromotion, ModelRates, ModelRollover, ModelTopUp,
};
use domain::policy::Policies;
use domain::rollover::RolloverPolicy;

/// 2026-01-31T10:00:00Z, as `support::START`.
pub const START: Micros = 1_769_853_600_000_000;
/// 45 days later.
pub const SECOND_FROM: Micros = START + 45 * DAY;

pub const PLANS: [&str; 4] = ["lite", "standard", "pro", "max"];
pub const MODELS: [(u64, &str); 6] = [
    (26, "mimo-v2-omni"),
    (36, "mimo-v2-pro"),
    (8, "mimo-v2-tts"),
    (4, "mimo-v2-flash"),
    (14, "cached"),
    (2, "mimo-v9"),
];

/// The second version as a file. Other prices and pools; `max` is no longer sold in CNY, nor by the year, and `pro` by the year in USD only; a promotion for
/// one plan that is better than the one for all; rates by token kind, one kind without any; a cap on
/// output; a bound that belongs to the band above; rates that end on 2026-05-01.
pub const SECOND: &str = r#"
[[plans]]
code = "lite"
name = "Lite"
rank = 1
credits_per_cycle = 65_000_000
prices_minor = { USD = 7_01, CNY = 45_03 }
annual_prices_minor = { USD = 70_11, CNY = 450_35 }
[[plans]]
code = "standard"
name = "Standard"
rank = 2
credits_per_cycle = 200_000_000
prices_minor = { USD = 16_00, CNY = 99_00 }
annual_prices_minor = { USD = 160_00, CNY = 990_00 }
[[plans]]
code = "pro"
name = "Pro"
rank = 3
credits_per_cycle = 650_000_001
prices_minor = { USD = 49_99, CNY = 329_00 }
annual_prices_minor = { USD = 499_93 }
[[plans]]
code = "max"
name = "Max"
rank = 4
credits_per_cycle = 1_700_000_000
prices_minor = { USD = 110_00 }

[[top_ups]]
code = "topup-10m"
credits = 12_000_000
prices_minor = { USD = 1_11 }
lasts_days = 20

[[promotions]]
code = "first-cycle"
first_cycle_discount_bps = 8_800
[[promotions]]
code = "lite-only"
first_cycle_discount_bps = 9_333
plans = ["lite"]

[[models]]
code = "mimo-v2-omni"
output_tokens_max = 2_000
[[models.bands]]
prompt_tokens_max = 262_144
credit_rates_milli = { input = 1_000, cache_read = 100, output = 3_333 }
payg_prices_micro.USD = { input = 410_001, output = 2_000_003, cache_write = 500_000 }

[[models]]
code = "mimo-v2-pro"
[[models.bands]]
prompt_tokens_max = 262_144
max_is_inclusive = false
credit_rates_milli = 2_000
payg_prices_micro.USD = { input = 1_000_000, output = 3_100_000 }
[[models.bands]]
prompt_tokens_max = 1_048_576
credit_rates_milli = { input = 4_000, cache_read = 401, cache_write = 5_001, output = 4_000 }

[[models]]
code = "mimo-v2-tts"
[[models.bands]]
credit_rates_milli = 0
credit_rates_until = "2026-05-01T00:00:00Z"

[[models]]
code = "cached"
[[models.bands]]
prompt_tokens_max = 1_048_576
credit_rates_milli = { input = 1_000, cache_read = 100, cache_write = 1_250, output = 3_001 }
"#;

/// 2026-05-01T00:00:00Z.
const TTS_UNTIL: Micros = 1_777_593_600_000_000;

/// What a seed's tenant has other than the defaults, for Tollgate and for the model: every third one carries a half of
/// what a cycle leaves over, at most 90 million, for two cycles; every fourth one has cycles that are calendar months.
pub fn policies(seed: u64) -> (Policies, ModelPolicies) {
    let (mut policies, mut for_the_model) = (Policies::default(), ModelPolicies::default());
    if seed % 3 == 1 {
        let (share_bps, cap, cycles) = (5_000, 90_000_000, 2);
        let cap_credits = Some(Credits::new(cap).unwrap());
        policies.rollover = Some(RolloverPolicy { share_bps, cap_credits, cycles });
        for_the_model.rollover = Some(ModelRollover { share_bps: share_bps.into(), cap, cycles });
    }
    if seed % 4 == 3 {
        policies.cycle_anchor = AnchorKind::CalendarMonth;
        for_the_model.is_calendar = true;
    }
    (policies, for_the_model)
}

/// The same two versions for the model.
pub fn catalogs() -> Vec<ModelCatalog> {
    vec![first(), second()]
}

fn first() -> ModelCatalog {
    const OMNI: [u64; 4] = [400_000, 400_000, 400_000, 2_000_000];
    const PRO: [u64; 4] = [1_000_000, 200_000, 1_000_000, 3_000_000];
    const FLASH: [u64; 4] = [90_000, 10_000, 90_000, 290_000];
    let promotion = ModelPromotion { code: "first-cycle", off_bps: 8_800, plans: vec![] };
    let long = band(Some(1_048_576), Some(all(4_000)));
    ModelCatalog {
        version: 1,
        effective: START,
        plans: vec![
            by_year("lite", 1, 60_000_000, &[("USD", 600, 6_000), ("CNY", 3_900, 39_000)]),
            by_year("standard", 2, 200_000_000, &[("USD", 1_600, 16_000), ("CNY", 9_900, 99_000)]),
            by_year("pro", 3, 700_000_000, &[("USD", 5_000, 50_000), ("CNY", 32_900, 329_000)]),
            by_year("max", 4, 1_600_000_000, &[("USD", 10_000, 100_000), ("CNY", 65_900, 659_000)]),
        ],
        top_ups: vec![ModelTopUp {
            code: "topup-10m",
            credits: 10_000_000,
            lasts: None,
            prices: vec![("USD", 100), ("CNY", 700)],
        }],
        promotions: vec![promotion],
        models: vec![
            rates("mimo-v2-omni", vec![priced(band(Some(262_144), Some(all(1_000))), OMNI)]),
            rates("mimo-v2-pro", vec![priced(band(Some(262_144), Some(all(2_000))), PRO), long]),
            rates("mimo-v2-tts", vec![band(None, Some(all(0)))]),
            rates("mimo-v2-flash", vec![priced(band(Some(262_144), None), FLASH)]),
        ],
    }
}

fn second() -> ModelCatalog {
    let for_all = ModelPromotion { code: "first-cycle", off_bps: 8_800, plans: vec![] };
    let for_lite = ModelPromotion { code: "lite-only", off_bps: 9_333, plans: vec!["lite"] };
    let omni = band(Some(262_144), Some([Some(1_000), Some(100), None, Some(3_333)]));
    let omni = rates("mimo-v2-omni", vec![priced(omni, [410_001, 410_001, 500_000, 2_000_003])]);
    let below = ModelBand { is_inclusive: false, ..band(Some(262_144), Some(all(2_000))) };
    let below = priced(below, [1_000_000, 1_000_000, 1_000_000, 3_100_000]);
    let above = band(Some(1_048_576), Some([Some(4_000), Some(401), Some(5_001), Some(4_000)]));
    let cached = band(Some(1_048_576), Some([Some(1_000), Some(100), Some(1_250), Some(3_001)]));
    ModelCatalog {
        version: 2,
        effective: SECOND_FROM,
        plans: vec![
            by_year("lite", 1, 65_000_000, &[("USD", 701, 7_011), ("CNY", 4_503, 45_035)]),
            by_year("standard", 2, 200_000_000, &[("USD", 1_600, 16_000), ("CNY", 9_900, 99_000)]),
            ModelPlan {
                annual_prices: vec![("USD", 49_993)],
                ..plan("pro", 3, 650_000_001, &[("USD", 4_999), ("CNY", 32_900)])
            },
            plan("max", 4, 1_700_000_000, &[("USD", 11_000)]),
        ],
        top_ups: vec![ModelTopUp {
            code: "topup-10m",
            credits: 12_000_000,
            lasts: Some(20 * DAY),
            prices: vec![("USD", 111)],
        }],
        promotions: vec![for_all, for_lite],
        models: vec![
            ModelRates { output_max: Some(2_000), ..omni },
            rates("mimo-v2-pro", vec![below, above]),
            ModelRates { until: Some(TTS_UNTIL), ..rates("mimo-v2-tts", vec![band(None, Some(all(0)))]) },
            rates("cached", vec![cached]),
        ],
    }
}

fn plan(code: &'static str, rank: u32, credits: i64, prices: &[(&'static str, i64)]) -> ModelPlan {
    ModelPlan { code, rank, credits, prices: prices.to_vec(), annual_prices: vec![] }
}

/// With the price of a cycle and that of a year.
fn by_year(code: &'static str, rank: u32, credits: i64, prices: &[(&'static str, i64, i64)]) -> ModelPlan {
    let of = |price: fn(&(&'static str, i64, i64)) -> i64| {
        prices.iter().map(|each| (each.0, price(each))).collect()
    };
    ModelPlan { code, rank, credits, prices: of(|each| each.1), annual_prices: of(|each| each.2) }
}

fn rates(model: &'static str, bands: Vec<ModelBand>) -> ModelRates {
    ModelRates { model, output_max: None, bands, until: None }
}

fn band(upper: Option<u64>, rates: Option<[Option<u32>; 4]>) -> ModelBand {
    ModelBand { upper, is_inclusive: true, rates, prices: None }
}

/// Sold by the token as well.
fn priced(band: ModelBand, prices: [u64; 4]) -> ModelBand {
    ModelBand { prices: Some(prices), ..band }
}

fn all(rate: u32) -> [Option<u32>; 4] {
    [Some(rate); 4]
}
