//! What would it cost, and how long will it last? Estimates for people who choose a plan; nothing is
//! charged by them.

use chrono::TimeDelta;

use crate::catalog::{Catalog, PaygPrices, Plan};
use crate::rating::{NoCost, rate_in_band_of};
use crate::usage::{TokenCounts, TokenKind};
use crate::{Credits, Currency, Money, Refusal, Timestamp};

/// Sessions that are alike: each uses `tokens` in requests of which none has a longer prompt than
/// `context_tokens`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sessions {
    pub count: u64,
    pub tokens: TokenCounts,
    /// What chooses the context band.
    pub context_tokens: u64,
}

/// What sessions cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionsCost {
    pub each: Credits,
    pub all: Credits,
}

/// The Credits that sessions of a model cost at `now`. Each is rounded up by itself. Refused or unrated as
/// usage is.
pub fn sessions_cost(
    catalog: Option<&Catalog>,
    model_code: &str,
    sessions: &Sessions,
    now: Timestamp,
) -> Result<SessionsCost, NoCost> {
    let each = rate_in_band_of(catalog, model_code, sessions.context_tokens, &sessions.tokens, now)?.credits;
    let count = i64::try_from(sessions.count).map_err(|_| Refusal::AmountOverflow)?;
    let all = each.get().checked_mul(count).ok_or(Refusal::AmountOverflow)?;
    Ok(SessionsCost { each, all: Credits::new(all)? })
}

/// A way to pay for a month: a plan, and as many top-ups as its pool is too small by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub plan_code: String,
    /// What the plan and the top-ups give.
    pub credits: Credits,
    pub top_up: Option<TopUps>,
    /// A later cycle's list price, and that of the top-ups.
    pub price: Money,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopUps {
    pub code: String,
    pub count: u64,
}

/// Every plan that is sold in `currency`, the cheapest way to get `credits` a month first; at the same price, the
/// one with more Credits. A plan that is too small comes with the top-up that costs least; where none is sold, it
/// is left out. Refused with `amount-overflow`.
pub fn offers(catalog: &Catalog, credits: Credits, currency: Currency) -> Result<Vec<Offer>, Refusal> {
    let mut offers = Vec::new();
    for plan in &catalog.document().plans {
        let Some(price) = plan.prices_minor.get(&currency) else { continue };
        let missing = credits.minus_floor_zero(plan.credits_per_cycle);
        if missing.is_zero() {
            let price = Money::new(*price, currency)?;
            offers.push(Offer {
                plan_code: plan.code.clone(),
                credits: plan.credits_per_cycle,
                top_up: None,
                price,
            });
        } else if let Some(offer) = with_top_ups(catalog, plan, missing, Money::new(*price, currency)?)? {
            offers.push(offer);
        }
    }
    offers.sort_by_key(|offer| (offer.price.amount_minor, std::cmp::Reverse(offer.credits)));
    Ok(offers)
}

fn with_top_ups(
    catalog: &Catalog,
    plan: &Plan,
    missing: Credits,
    plan_price: Money,
) -> Result<Option<Offer>, Refusal> {
    let currency = plan_price.currency;
    let mut best: Option<Offer> = None;
    for top_up in catalog.document().top_ups.iter().filter(|top_up| !top_up.credits.is_zero()) {
        let Some(price) = top_up.prices_minor.get(&currency) else { continue };
        let (missing, each) = (missing.get().unsigned_abs(), top_up.credits.get().unsigned_abs());
        let count = missing.div_ceil(each);
        let times = i64::try_from(count).map_err(|_| Refusal::AmountOverflow)?;
        let amount_minor =
            price.checked_mul(times).and_then(|price| price.checked_add(plan_price.amount_minor));
        let added = top_up.credits.get().checked_mul(times).ok_or(Refusal::AmountOverflow)?;
        let offer = Offer {
            plan_code: plan.code.clone(),
            credits: plan.credits_per_cycle.plus(Credits::new(added)?)?,
            top_up: Some(TopUps { code: top_up.code.clone(), count }),
            price: Money::new(amount_minor.ok_or(Refusal::AmountOverflow)?, currency)?,
        };
        if best.as_ref().is_none_or(|best| offer.price.amount_minor < best.price.amount_minor) {
            best = Some(offer);
        }
    }
    Ok(best)
}

/// A sum of money in pico-units of the major unit: rounded to the minor unit once, at its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pico(u128);

impl Pico {
    /// Refused with `amount-overflow`.
    pub fn plus(self, other: Pico) -> Result<Pico, Refusal> {
        self.0.checked_add(other.0).map(Pico).ok_or(Refusal::AmountOverflow)
    }

    /// Refused with `amount-overflow`.
    pub fn times(self, count: u64) -> Result<Pico, Refusal> {
        self.0.checked_mul(count.into()).map(Pico).ok_or(Refusal::AmountOverflow)
    }

    /// In the minor unit, a half to the even one.
    pub fn round(self, currency: Currency) -> Result<Money, Refusal> {
        let minor = 10_u128.pow(12 - currency.minor_digits());
        let (whole, rest) = (self.0 / minor, self.0 % minor);
        let is_up = rest * 2 > minor || (rest * 2 == minor && whole % 2 == 1);
        let rounded = i64::try_from(whole + u128::from(is_up)).map_err(|_| Refusal::AmountOverflow)?;
        Money::new(rounded, currency)
    }
}

/// What chooses a context band.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// A prompt of this length.
    Prompt(u64),
    /// The band with this upper bound: that of usage which was rated before.
    BandUpTo(Option<u64>),
}

/// What tokens cost by pay-as-you-go; none where their model or band has no price in this currency.
/// Refused with `amount-overflow`.
pub fn payg_price(
    catalog: &Catalog,
    model_code: &str,
    context: Context,
    tokens: &TokenCounts,
    currency: Currency,
) -> Result<Option<Pico>, Refusal> {
    let bands = catalog.model(model_code).map(|model| model.bands.as_slice()).unwrap_or_default();
    let band = bands.iter().find(|band| match context {
        Context::Prompt(tokens) => band.reaches(tokens),
        Context::BandUpTo(bound) => band.prompt_tokens_max == bound,
    });
    let Some(prices) = band.and_then(|band| band.payg_prices_micro.get(&currency)) else { return Ok(None) };
    let mut sum = Pico::default();
    for kind in TokenKind::ALL {
        // Micro-units a million tokens are pico-units a token.
        sum = sum.plus(Pico(price_of(prices, kind).into()).times(tokens.of(kind))?)?;
    }
    Ok(Some(sum))
}

fn price_of(prices: &PaygPrices, kind: TokenKind) -> u64 {
    match kind {
        TokenKind::Input => prices.input,
        TokenKind::CacheRead => prices.cache_read.unwrap_or(prices.input),
        TokenKind::CacheWrite => prices.cache_write.unwrap_or(prices.input),
        TokenKind::Output => prices.output,
    }
}

/// When what is available is used up, if it goes on as it did: `used` in the time from `since` until `now`. None
/// where nothing was used, or that lies beyond the calendar's end.
pub fn depleted_at(available: Credits, used: Credits, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let span = i128::from((now - since).num_seconds().max(1));
    let seconds = i128::from(available.get()).checked_mul(span)?.checked_div(used.get().into())?;
    now.checked_add_signed(TimeDelta::try_seconds(i64::try_from(seconds).ok()?)?)
}

/// The same of money.
pub fn paid_in_days(paid: Pico, since: Timestamp, now: Timestamp, to: u32) -> Result<Pico, Refusal> {
    let span = u128::from((now - since).num_seconds().max(1).unsigned_abs());
    let scaled = paid.0.checked_mul(u128::from(to) * 86_400).ok_or(Refusal::AmountOverflow)?;
    Ok(Pico(scaled / span))
}

/// What is used in `to` days, if it goes on as it did in the time from `since` until `now`; rounded up. Refused
/// with `amount-overflow`.
pub fn used_in_days(used: Credits, since: Timestamp, now: Timestamp, to: u32) -> Result<Credits, Refusal> {
    let span = u128::from((now - since).num_seconds().max(1).unsigned_abs());
    let wanted = u128::from(to) * 86_400;
    let used = u128::from(used.get().unsigned_abs()) * wanted;
    Credits::new(i64::try_from(used.div_ceil(span)).map_err(|_| Refusal::AmountOverflow)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{at, credits, reference, usd};
    use crate::rating::Unrated;

    const NOTHING: TokenCounts =
        TokenCounts { input: 0, cache_read: 0, cache_write: 0, output: 0, reasoning: 0 };
    const NOW: &str = "2026-03-01T00:00:00Z";

    fn half_a_million(context_tokens: u64) -> Sessions {
        Sessions { count: 1, tokens: TokenCounts { input: 500_000, ..NOTHING }, context_tokens }
    }

    /// The guide says "roughly 50" sessions a month of Pro on Standard: it is 200, and 100 with long prompts.
    #[test]
    fn sessions_of_half_a_million_tokens_fit_into_standard_200_times_or_100() {
        let each = |context_tokens| {
            let sessions = half_a_million(context_tokens);
            sessions_cost(Some(&reference()), "mimo-v2-pro", &sessions, at(NOW)).unwrap().each
        };
        let (short, long) = (each(262_144), each(262_145));
        assert_eq!((short, long), (credits(1_000_000), credits(2_000_000)));
        let standard = reference().plan("standard").unwrap().credits_per_cycle.get();
        assert_eq!((standard / short.get(), standard / long.get()), (200, 100));
    }

    #[test]
    fn sessions_cost_what_one_does_times_their_number() {
        let sessions = Sessions { count: 3, ..half_a_million(1) };
        let cost = sessions_cost(Some(&reference()), "mimo-v2-pro", &sessions, at(NOW)).unwrap();
        assert_eq!(cost, SessionsCost { each: credits(1_000_000), all: credits(3_000_000) });
        let many = Sessions { count: u64::MAX, ..half_a_million(1) };
        let refused = sessions_cost(Some(&reference()), "mimo-v2-pro", &many, at(NOW));
        assert_eq!(refused, Err(NoCost::Refused(Refusal::AmountOverflow)));
        let unknown = sessions_cost(Some(&reference()), "mimo-v9", &sessions, at(NOW));
        assert_eq!(unknown, Err(NoCost::Unrated(Unrated::UnknownModel)));
    }

    fn ways(needed: i64) -> Vec<(String, Option<u64>, i64)> {
        let offers = offers(&reference(), credits(needed), Currency::Usd).unwrap().into_iter();
        offers.map(|o| (o.plan_code, o.top_up.map(|t| t.count), o.price.amount_minor)).collect()
    }

    #[test]
    fn the_cheapest_way_comes_first_and_a_plan_that_is_too_small_takes_top_ups() {
        // 60M for 6.00 and 2 x 10M for 1.00 each; 200M for 16.00; ...
        let way = |plan: &str, top_ups, price| (plan.to_owned(), top_ups, price);
        assert_eq!(
            ways(80_000_000),
            [
                way("lite", Some(2), 800),
                way("standard", None, 1_600),
                way("pro", None, 5_000),
                way("max", None, 10_000)
            ]
        );
        // 14 x 1.00 + 6.00 = 20.00: Standard is cheaper.
        assert_eq!(ways(200_000_000)[0], way("standard", None, 1_600));
        assert_eq!(ways(160_000_000)[..2], [way("standard", None, 1_600), way("lite", Some(10), 1_600)]);
        assert_eq!(ways(0)[0], way("lite", None, 600));
    }

    #[test]
    fn pay_as_you_go_is_summed_exactly_and_rounded_once() {
        let tokens = TokenCounts { input: 1_000_000, cache_read: 500_000, output: 100_000, ..NOTHING };
        let price = |context, currency| {
            let sum = payg_price(&reference(), "mimo-v2-pro", context, &tokens, currency).unwrap();
            sum.map(|sum| sum.round(currency).unwrap())
        };
        // 1.00 + 0.10 + 0.30
        assert_eq!(price(Context::Prompt(1_000), Currency::Usd), Some(usd(140)));
        assert_eq!(price(Context::BandUpTo(Some(262_144)), Currency::Usd), Some(usd(140)));
        assert_eq!(price(Context::Prompt(262_145), Currency::Usd), None, "no price in that band");
        assert_eq!(price(Context::Prompt(1_000), Currency::Cny), None);
        // A token of omni's input is 400,000 pico-dollars; half a cent is 5 x 10^9.
        let input = |count| {
            let tokens = TokenCounts { input: count, ..NOTHING };
            payg_price(&reference(), "mimo-v2-omni", Context::Prompt(1), &tokens, Currency::Usd)
                .unwrap()
                .unwrap()
                .round(Currency::Usd)
        };
        assert_eq!((input(12_500), input(12_501), input(37_500)), (Ok(usd(0)), Ok(usd(1)), Ok(usd(2))));
    }

    #[test]
    fn a_pool_lasts_as_long_as_it_is_burned() {
        let (since, now) = (at("2026-03-01T00:00:00Z"), at("2026-03-11T00:00:00Z"));
        // 100 in ten days: 50 last five days more.
        let ends = |available, used| depleted_at(credits(available), credits(used), since, now);
        assert_eq!(ends(50, 100), Some(at("2026-03-16T00:00:00Z")));
        assert_eq!(ends(0, 100), Some(now));
        assert_eq!(ends(50, 0), None);
        assert_eq!(ends(9_000_000_000_000_000, 1), None, "beyond the calendar");
        assert_eq!(used_in_days(credits(100), since, now, 30), Ok(credits(300)));
        assert_eq!(used_in_days(credits(1), since, now, 3), Ok(credits(1)), "rounded up");
    }
}
