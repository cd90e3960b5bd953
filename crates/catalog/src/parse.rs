//! Reads a catalogue file.

use domain::Refusal;
use domain::catalog::CatalogDocument;

/// The reference catalogue, a TOML text.
pub const REFERENCE: &str = include_str!("../data/reference.toml");

/// Reads a TOML text in the shape of [`CatalogDocument`]; a field that this has not is an error.
/// Whether the catalogue makes sense is for `domain::catalog::Catalog::new` to say. Refused with
/// `invalid-catalog`, the line and what is wrong there.
pub fn parse(text: &str) -> Result<CatalogDocument, Refusal> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let problem = match before {
            Some(before) => format!("line {}: {}", before.matches('\n').count() + 1, error.message()),
            None => error.message().to_owned(),
        };
        Refusal::InvalidCatalog { problems: vec![problem] }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::catalog::{Band, Catalog, CreditRates, PaygPrices};
    use domain::credits::RateMilli;
    use domain::{Currency, Money};

    fn reference() -> Catalog {
        let published = domain::time::parse_rfc3339("2026-01-01T00:00:00Z").unwrap();
        Catalog::new(1, published, parse(REFERENCE).unwrap()).unwrap()
    }

    /// R-6, the first table, last two columns included.
    #[test]
    fn the_reference_sells_the_plans_of_r_6() {
        let catalog = reference();
        let table = [
            ("lite", 1, 600, 3_900, 60_000_000, 72, 468),
            ("standard", 2, 1_600, 9_900, 200_000_000, 192, 1_188),
            ("pro", 3, 5_000, 32_900, 700_000_000, 600, 3_948),
            ("max", 4, 10_000, 65_900, 1_600_000_000, 1_200, 7_908),
        ];
        assert_eq!(catalog.document().plans.len(), table.len());
        for (code, rank, usd, cny, credits, first_usd, first_cny) in table {
            let plan = catalog.plan(code).unwrap();
            assert_eq!((plan.rank, plan.credits_per_cycle.get()), (rank, credits), "{code}");
            assert_eq!(plan.prices_minor.len(), 2, "{code}");
            let promotion = catalog.promotions_for(code)[0];
            for (currency, list, first) in [(Currency::Usd, usd, first_usd), (Currency::Cny, cny, first_cny)]
            {
                let price = plan.price(currency).unwrap();
                assert_eq!(price, Money::new(list, currency).unwrap(), "{code}");
                let discounted = promotion.first_cycle_discount_bps.apply(price);
                assert_eq!(discounted, Money::new(first, currency).unwrap(), "{code}");
            }
        }
        assert_eq!(catalog.document().promotions.len(), 1);
        assert_eq!(catalog.promotion("first-cycle").unwrap().first_cycle_discount_bps.get(), 8_800);
        let [top_up] = &catalog.document().top_ups[..] else { panic!("one top-up") };
        assert_eq!((top_up.code.as_str(), top_up.credits.get()), ("topup-10m", 10_000_000));
        assert_eq!(Vec::from_iter(&top_up.prices_minor), [(&Currency::Usd, &100), (&Currency::Cny, &700)]);
    }

    /// R-6, the second and the third table.
    #[test]
    fn the_reference_rates_the_models_of_r_6() {
        let band = |prompt_tokens_max, milli: Option<u32>, payg: Option<(u64, u64, Option<u64>)>| Band {
            prompt_tokens_min: None,
            prompt_tokens_max,
            max_is_inclusive: true,
            credit_rates_milli: milli.map(|milli| CreditRates::Uniform(RateMilli(milli))),
            credit_rates_until: None,
            payg_prices_micro: payg
                .map(|(input, output, cache_read)| {
                    (Currency::Usd, PaygPrices { input, output, cache_read, cache_write: None })
                })
                .into_iter()
                .collect(),
        };
        let table = [
            ("mimo-v2-omni", vec![band(Some(262_144), Some(1_000), Some((400_000, 2_000_000, None)))]),
            (
                "mimo-v2-pro",
                vec![
                    band(Some(262_144), Some(2_000), Some((1_000_000, 3_000_000, Some(200_000)))),
                    band(Some(1_048_576), Some(4_000), None),
                ],
            ),
            ("mimo-v2-tts", vec![band(None, Some(0), None)]),
            ("mimo-v2-flash", vec![band(Some(262_144), None, Some((90_000, 290_000, Some(10_000))))]),
        ];
        let catalog = reference();
        assert_eq!(catalog.document().models.len(), table.len());
        for (code, bands) in table {
            assert_eq!(catalog.model(code).unwrap().bands, bands, "{code}");
        }
    }

    #[test]
    fn a_document_survives_being_stored() {
        let document = parse(REFERENCE).unwrap();
        let stored = serde_json::to_value(&document).unwrap();
        assert_eq!(serde_json::from_value::<domain::catalog::CatalogDocument>(stored).unwrap(), document);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let problem = |from: &str, to: &str| {
            let text = REFERENCE.replacen(from, to, 1);
            assert_ne!(text, REFERENCE, "{from} is there");
            match parse(&text) {
                Err(Refusal::InvalidCatalog { problems }) => problems.join("; "),
                other => panic!("{to}: {other:?}"),
            }
        };
        let unknown_field = problem("rank = 1", "rank = 1\nprice = 3");
        assert!(unknown_field.starts_with("line 12: unknown field `price`"), "{unknown_field}");
        for (from, to) in [
            ("rank = 1", "rank = -1"),
            ("USD = 6_00", "EUR = 6_00"),
            ("USD = 6_00", "USD = 6.00"),
            ("credits_per_cycle = 60_000_000", "credits_per_cycle = 9_007_199_254_740_992"),
            ("credit_rates_milli = 1_000", "credit_rates_milli = { thinking = 1_000 }"),
            ("input = 400_000", "input = -1"),
            ("[[plans]]", "[[plan]]"),
            ("[[plans]]", "[[plans"),
        ] {
            assert!(problem(from, to).starts_with("line "), "{to}: {}", problem(from, to));
        }
    }
}
