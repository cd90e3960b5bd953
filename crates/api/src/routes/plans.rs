//! What is sold: plans, promotions and rate cards.

use std::collections::BTreeMap;

use actix_web::web::{Data, Json};
use actix_web::{HttpRequest, get};
use catalog::Catalogs;
use domain::Refusal;
use domain::catalog::{self as model, Catalog};
use domain::usage::TokenKind;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::body::NoQuery;
use crate::error::Error;
use crate::wire::{Currency, Instant, Money};

/// The plans and promotions in force.
#[derive(Debug, Serialize, ToSchema)]
struct PlanList {
    /// Null while the tenant has published no catalogue that is in force: then nothing is sold.
    #[schema(required)]
    catalog_version: Option<u32>,
    #[schema(required)]
    effective_at: Option<Instant>,
    plans: Vec<Plan>,
    promotions: Vec<Promotion>,
}

/// A monthly price that buys a pool of Credits.
#[derive(Debug, Serialize, ToSchema)]
struct Plan {
    #[schema(example = "standard")]
    code: String,
    #[schema(example = "Standard")]
    name: String,
    /// A plan of higher rank is an upgrade.
    rank: u32,
    #[schema(example = 200_000_000, minimum = 0)]
    credits_per_cycle: i64,
    /// The list price a cycle, once for each currency that it is sold in.
    prices: Vec<Money>,
    /// The list price of twelve cycles that are paid at once, once for each currency that it is sold so in.
    annual_prices: Vec<Money>,
}

/// A discount on a customer's first cycle.
#[derive(Debug, Serialize, ToSchema)]
struct Promotion {
    code: String,
    /// Basis points off the list price: 8800 is 88% off.
    #[schema(example = 8_800, minimum = 0, maximum = 10_000)]
    first_cycle_discount_bps: u16,
    /// The plans it applies to; every plan where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    plans: Option<Vec<String>>,
}

/// What a token costs, by model and length of the prompt.
#[derive(Debug, Serialize, ToSchema)]
struct RateCard {
    /// Null while the tenant has published no catalogue that is in force: then nothing is rated.
    #[schema(required)]
    catalog_version: Option<u32>,
    #[schema(required)]
    effective_at: Option<Instant>,
    models: Vec<Model>,
}

/// A model and its context bands, from the shortest prompt to the longest.
#[derive(Debug, Serialize, ToSchema)]
struct Model {
    #[schema(example = "mimo-v2-pro")]
    code: String,
    /// The most output tokens that the model makes in one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    output_tokens_max: Option<u64>,
    bands: Vec<Band>,
}

/// A line of the rate card. Each band begins where the one before it ends.
#[derive(Debug, Serialize, ToSchema)]
struct Band {
    /// The upper bound, in prompt tokens; left out where any length fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    prompt_tokens_max: Option<u64>,
    /// Whether a prompt of exactly `prompt_tokens_max` is in this band.
    max_is_inclusive: bool,
    /// Milli-Credits per token: 1000 is one Credit. Left out for a band that is pay-as-you-go only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    credit_rates_milli: Option<CreditRates>,
    /// The Credit rates end at this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    credit_rates_until: Option<Instant>,
    /// Pay-as-you-go prices in micro-units of the major unit per 1M tokens.
    payg_prices_micro: Vec<PaygPrices>,
}

/// A rate for each kind of token that has one.
#[derive(Debug, Serialize, ToSchema)]
struct CreditRates {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    input: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cache_read: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cache_write: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    output: Option<u32>,
}

/// Prices in one currency. Cache kinds without a price of their own are billed as input.
#[derive(Debug, Serialize, ToSchema)]
struct PaygPrices {
    currency: Currency,
    input: u64,
    output: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cache_read: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cache_write: Option<u64>,
}

/// List plans
///
/// The plans and promotions in force, from the lowest rank to the highest.
#[utoipa::path(
    tag = "Catalogue",
    security(("bearer" = ["read", "customer"])),
    responses((status = 200, description = "What is sold now", body = PlanList)),
)]
#[get("/plans")]
pub(super) async fn list_plans(
    caller: Caller,
    _: NoQuery,
    catalogs: Data<Catalogs>,
) -> Result<Json<PlanList>, Error> {
    let history = catalogs.history(caller.scope().tenant).await?;
    Ok(Json(PlanList::of(history.at(caller.scope().now).map(AsRef::as_ref))))
}

/// Read the rate card
///
/// The rates in force. An event is rated by the card in force at the event's own time.
#[utoipa::path(
    tag = "Catalogue",
    security(("bearer" = ["read", "customer"])),
    responses((status = 200, description = "The rates in force", body = RateCard)),
)]
#[get("/rate-cards")]
pub(super) async fn read_rate_card(
    caller: Caller,
    _: NoQuery,
    catalogs: Data<Catalogs>,
) -> Result<Json<RateCard>, Error> {
    let history = catalogs.history(caller.scope().tenant).await?;
    Ok(Json(RateCard::of(history.at(caller.scope().now).map(AsRef::as_ref))))
}

/// Read a version of the rate card
#[utoipa::path(
    tag = "Catalogue",
    security(("bearer" = ["read", "customer"])),
    params(("version" = u32, Path, description = "A catalogue version", example = 1)),
    responses((status = 200, description = "The rates of that version", body = RateCard)),
)]
#[get("/rate-cards/{version}")]
pub(super) async fn read_rate_card_version(
    caller: Caller,
    _: NoQuery,
    request: HttpRequest,
    catalogs: Data<Catalogs>,
) -> Result<Json<RateCard>, Error> {
    let history = catalogs.history(caller.scope().tenant).await?;
    let version = request.match_info().get("version").and_then(version);
    let catalog = version.and_then(|version| history.version(version));
    let catalog = catalog.ok_or(Refusal::NotFound { what: "rate card" })?;
    Ok(Json(RateCard::of(Some(catalog))))
}

/// A version in its one spelling: `1`, and neither `+1` nor `01`.
pub(super) fn version(text: &str) -> Option<u32> {
    text.parse().ok().filter(|version: &u32| version.to_string() == text)
}

impl PlanList {
    fn of(catalog: Option<&Catalog>) -> PlanList {
        let document = catalog.map(Catalog::document);
        let mut plans: Vec<&model::Plan> = document.iter().flat_map(|document| &document.plans).collect();
        plans.sort_by_key(|plan| plan.rank);
        let promotions = document.iter().flat_map(|document| &document.promotions);
        PlanList {
            catalog_version: catalog.map(Catalog::version),
            effective_at: catalog.map(Catalog::effective_at).map(Instant),
            plans: plans.into_iter().map(Plan::from).collect(),
            promotions: promotions.map(Promotion::from).collect(),
        }
    }
}

impl From<&model::Plan> for Plan {
    fn from(plan: &model::Plan) -> Self {
        let money = |(currency, amount_minor): (&domain::Currency, &i64)| {
            Money::from(domain::Money { amount_minor: *amount_minor, currency: *currency })
        };
        Plan {
            code: plan.code.clone(),
            name: plan.name.clone(),
            rank: plan.rank,
            credits_per_cycle: plan.credits_per_cycle.get(),
            prices: plan.prices_minor.iter().map(money).collect(),
            annual_prices: plan.annual_prices_minor.iter().map(money).collect(),
        }
    }
}

impl From<&model::Promotion> for Promotion {
    fn from(promotion: &model::Promotion) -> Self {
        Promotion {
            code: promotion.code.clone(),
            first_cycle_discount_bps: promotion.first_cycle_discount_bps.get(),
            plans: promotion.plans.as_ref().map(|plans| plans.iter().cloned().collect()),
        }
    }
}

impl RateCard {
    fn of(catalog: Option<&Catalog>) -> RateCard {
        let models = catalog.map(Catalog::document).into_iter().flat_map(|document| &document.models);
        RateCard {
            catalog_version: catalog.map(Catalog::version),
            effective_at: catalog.map(Catalog::effective_at).map(Instant),
            models: models.map(Model::from).collect(),
        }
    }
}

impl From<&model::Model> for Model {
    fn from(model: &model::Model) -> Self {
        Model {
            code: model.code.clone(),
            output_tokens_max: model.output_tokens_max,
            bands: model.bands.iter().map(Band::from).collect(),
        }
    }
}

impl From<&model::Band> for Band {
    fn from(band: &model::Band) -> Self {
        Band {
            prompt_tokens_max: band.prompt_tokens_max,
            max_is_inclusive: band.max_is_inclusive,
            credit_rates_milli: band.credit_rates_milli.as_ref().map(CreditRates::from),
            credit_rates_until: band.credit_rates_until.map(Instant),
            payg_prices_micro: payg_prices(&band.payg_prices_micro),
        }
    }
}

impl From<&model::CreditRates> for CreditRates {
    fn from(rates: &model::CreditRates) -> Self {
        let rate = |kind| rates.rate(kind).map(|rate| rate.0);
        CreditRates {
            input: rate(TokenKind::Input),
            cache_read: rate(TokenKind::CacheRead),
            cache_write: rate(TokenKind::CacheWrite),
            output: rate(TokenKind::Output),
        }
    }
}

fn payg_prices(prices: &BTreeMap<domain::Currency, model::PaygPrices>) -> Vec<PaygPrices> {
    let one = |(currency, prices): (&domain::Currency, &model::PaygPrices)| PaygPrices {
        currency: (*currency).into(),
        input: prices.input,
        output: prices.output,
        cache_read: prices.cache_read,
        cache_write: prices.cache_write,
    };
    prices.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn a_version_has_one_spelling() {
        assert_eq!(version("1"), Some(1));
        assert_eq!(version("4294967295"), Some(u32::MAX));
        for none in ["", "+1", "01", "-1", "1.0", " 1", "1e0", "4294967296", "\u{661}"] {
            assert_eq!(version(none), None, "{none}");
        }
    }
}
