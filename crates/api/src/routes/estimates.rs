//! What would it cost, and how long will it last?

use actix_web::web::{Data, Json};
use actix_web::{get, post};
use catalog::Catalogs;
use chrono::TimeDelta;
use domain::advice::{self, Context, Pico, Sessions};
use domain::catalog::Catalog;
use domain::id::{CustomerId, ExternalId};
use domain::rating::NoCost;
use domain::usage::TokenCounts;
use domain::{Credits, Refusal};
use ledger::Ledger;
use serde::{Deserialize, Deserializer, Serialize};
use usage::{Interval, Report, ReportQuery, Usage};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Caller;
use crate::body::{Body, Query, object};
use crate::error::{Error, Problem};
use crate::path::Id;
use crate::schema;
use crate::wire::{Currency, Instant, Money, TokenCount, code};

/// The days that a month's usage is extrapolated to.
const DAYS_A_MONTH: u32 = 30;
/// What a forecast looks back on where it does not say.
const DAYS_BY_DEFAULT: u8 = 7;

/// Sessions that are alike.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewEstimate {
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "mimo-v2-pro")]
    model: ExternalId,
    /// How many sessions a month.
    #[schema(minimum = 1, maximum = 1_000_000_000, example = 100)]
    sessions: SessionCount,
    /// What one session uses, in all its requests together.
    #[serde(deserialize_with = "object")]
    tokens: SessionTokens,
    /// The longest prompt of its requests, with all that is cached: it chooses the context band.
    #[schema(example = 200_000)]
    context_tokens: TokenCount,
    currency: Currency,
}

#[derive(Debug, Clone, Copy, ToSchema)]
#[schema(value_type = u64)]
struct SessionCount(u64);

impl<'de> Deserialize<'de> for SessionCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let count = u64::deserialize(deserializer)?;
        if !(1..=1_000_000_000).contains(&count) {
            return Err(serde::de::Error::custom(code::OUT_OF_RANGE));
        }
        Ok(SessionCount(count))
    }
}

/// Tokens of a session by kind. A kind that is left out is none.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SessionTokens {
    #[serde(default)]
    input: TokenCount,
    #[serde(default)]
    cache_read: TokenCount,
    #[serde(default)]
    cache_write: TokenCount,
    #[serde(default)]
    output: TokenCount,
}

/// What the sessions cost, and the ways to pay for them.
#[derive(Debug, Serialize, ToSchema)]
struct Estimate {
    credits_each: i64,
    credits: i64,
    /// How many of these sessions the pool of each plan pays for; null where they are free.
    fits: Vec<Fit>,
    /// The cheapest first.
    offers: Vec<Offer>,
    /// The same without a plan; null where the model or band has no price in this currency.
    #[schema(required)]
    pay_as_you_go: Option<Money>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Fit {
    plan: String,
    #[schema(required)]
    sessions: Option<i64>,
}

/// A plan, with top-ups where its pool is too small. Prices are those of a later cycle.
#[derive(Debug, Serialize, ToSchema)]
struct Offer {
    plan: String,
    /// What the plan and the top-ups give.
    credits: i64,
    #[schema(required)]
    top_up: Option<TopUps>,
    price: Money,
}

#[derive(Debug, Serialize, ToSchema)]
struct TopUps {
    top_up: String,
    count: u64,
}

/// Estimate what sessions cost
///
/// In Credits, by plan and by pay-as-you-go, at the rates in force. Stores nothing.
#[utoipa::path(
    tag = "Catalogue",
    security(("bearer" = ["read", "customer"])),
    request_body = NewEstimate,
    responses(
        (status = 200, description = "The estimate", body = Estimate),
        (status = 422, description = "`not-rated`: there is no rate for the model, the context or a kind of token", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/estimates")]
pub(super) async fn estimate_sessions(
    caller: Caller,
    body: Body<NewEstimate>,
    catalogs: Data<Catalogs>,
) -> Result<Json<Estimate>, Error> {
    let (scope, new) = (caller.scope(), body.value);
    let history = catalogs.history(scope.tenant).await?;
    let catalog = history.at(scope.now).map(AsRef::as_ref);
    let tokens = TokenCounts {
        input: new.tokens.input.0,
        cache_read: new.tokens.cache_read.0,
        cache_write: new.tokens.cache_write.0,
        output: new.tokens.output.0,
        reasoning: 0,
    };
    let sessions = Sessions { count: new.sessions.0, tokens, context_tokens: new.context_tokens.0 };
    let cost = advice::sessions_cost(catalog, new.model.as_str(), &sessions, scope.now);
    let cost = cost.map_err(|no| match no {
        NoCost::Refused(refusal) => refusal,
        NoCost::Unrated(unrated) => Refusal::NotRated { reason: unrated.code().to_owned() },
    })?;
    let catalog = catalog.ok_or(Refusal::UnknownPlan)?;
    let currency = new.currency.into();
    let context = Context::Prompt(sessions.context_tokens);
    let payg = advice::payg_price(catalog, new.model.as_str(), context, &tokens, currency)?;
    let payg = payg.map(|each| each.times(sessions.count)?.round(currency)).transpose()?;
    let fits = catalog.document().plans.iter().map(|plan| Fit {
        plan: plan.code.clone(),
        sessions: plan.credits_per_cycle.get().checked_div(cost.each.get()),
    });
    Ok(Json(Estimate {
        credits_each: cost.each.get(),
        credits: cost.all.get(),
        fits: fits.collect(),
        offers: offers(catalog, cost.all, currency)?,
        pay_as_you_go: payg.map(Money::from),
    }))
}

fn offers(catalog: &Catalog, credits: Credits, currency: domain::Currency) -> Result<Vec<Offer>, Refusal> {
    let offers = advice::offers(catalog, credits, currency)?.into_iter();
    let offers = offers.map(|offer| Offer {
        plan: offer.plan_code,
        credits: offer.credits.get(),
        top_up: offer.top_up.map(|top_up| TopUps { top_up: top_up.code, count: top_up.count }),
        price: offer.price.into(),
    });
    Ok(offers.collect())
}

/// What a forecast looks back on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ForecastParams {
    /// The days that it looks back on; from the hour that they begin in.
    #[serde(default = "days_by_default")]
    #[param(value_type = Option<u8>, minimum = 1, maximum = 31, default = 7)]
    days: Days,
    /// What prices are in.
    #[param(inline)]
    currency: Currency,
}

#[derive(Debug, Clone, Copy)]
struct Days(u8);

fn days_by_default() -> Days {
    Days(DAYS_BY_DEFAULT)
}

impl<'de> Deserialize<'de> for Days {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let days = text.parse().ok().filter(|days| (1..=31).contains(days));
        days.map(Days).ok_or_else(|| serde::de::Error::custom(code::OUT_OF_RANGE))
    }
}

/// How long what is left lasts, if it goes on as it did, and what would pay for it.
#[derive(Debug, Serialize, ToSchema)]
struct Forecast {
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    /// What it looks back on.
    from: Instant,
    to: Instant,
    /// What was used in that time, in Credits.
    used: i64,
    /// What can be spent now.
    available: i64,
    /// When that is used up; null where nothing was used.
    #[schema(required)]
    depleted_at: Option<Instant>,
    /// When the pool fills again, if a paid renewal is ahead.
    #[schema(required)]
    resets_at: Option<Instant>,
    /// What a month of 30 days uses, in Credits.
    credits_a_month: i64,
    /// Ways to pay for that, the cheapest first.
    offers: Vec<Offer>,
    /// The same usage without a plan; null where a model or band has no price in this currency.
    #[schema(required)]
    pay_as_you_go: Option<Money>,
}

/// Forecast a customer's usage
///
/// When the Credits are used up at the present rate, and the cheapest way to pay for a month of it.
#[utoipa::path(
    tag = "Usage",
    security(("bearer" = ["read", "customer"])),
    params(
        ("id" = schema::CustomerId, Path, description = "The customer"),
        ForecastParams,
    ),
    responses((status = 200, description = "The forecast", body = Forecast)),
)]
#[get("/customers/{id}/forecast")]
pub(super) async fn forecast_usage(
    caller: Caller,
    id: Id<CustomerId>,
    query: Query<ForecastParams>,
    catalogs: Data<Catalogs>,
    ledger: Data<Ledger>,
    usage: Data<Usage>,
) -> Result<Json<Forecast>, Error> {
    caller.sees(id.0, "customer")?;
    let (scope, ForecastParams { days, currency }) = (caller.scope(), query.0);
    let balance = ledger.balance(scope, id.0).await?;
    let back = ReportQuery {
        from: scope.now - TimeDelta::days(days.0.into()),
        to: scope.now + TimeDelta::microseconds(1),
        interval: Interval::Whole,
        by_model: true,
        by_band: true,
        by_kind: false,
        by_api_key: false,
    };
    let report = usage.report(scope, id.0, back).await?;
    let (used, from, now) = (report.total.credits, report.from, scope.now);
    let a_month = advice::used_in_days(used, from, now, DAYS_A_MONTH)?;
    let history = catalogs.history(scope.tenant).await?;
    let catalog = history.at(now);
    let currency = currency.into();
    let payg = match catalog {
        Some(catalog) => payg_of(catalog, &report, currency)?,
        None => None,
    };
    let payg =
        payg.map(|paid| advice::paid_in_days(paid, from, now, DAYS_A_MONTH)?.round(currency)).transpose()?;
    let depleted_at = advice::depleted_at(balance.available, used, from, now);
    Ok(Json(Forecast {
        customer: id.0,
        from: Instant(from),
        to: Instant(now),
        used: used.get(),
        available: balance.available.get(),
        depleted_at: depleted_at.map(Instant),
        resets_at: balance.resets_at.map(Instant),
        credits_a_month: a_month.get(),
        offers: catalog.map(|catalog| offers(catalog, a_month, currency)).transpose()?.unwrap_or_default(),
        pay_as_you_go: payg.map(Money::from),
    }))
}

/// What the reported usage would have cost without a plan.
fn payg_of(catalog: &Catalog, report: &Report, currency: domain::Currency) -> Result<Option<Pico>, Refusal> {
    let mut sum = Pico::default();
    for (key, sums) in &report.rows {
        let context = Context::BandUpTo(key.band_prompt_tokens_max.flatten());
        let model = key.model.as_deref().unwrap_or_default();
        let Some(paid) = advice::payg_price(catalog, model, context, &sums.tokens, currency)? else {
            return Ok(None);
        };
        sum = sum.plus(paid)?;
    }
    Ok(Some(sum))
}
