//! May this request start?

use super::calendar::{MINUTE, Micros};
use super::command::{Answer, Ask, Fact, Noun, Plain};
use super::rates::{ModelCost, cost};
use super::tenant::{Model, ModelRates};

/// How long a hold lives (*policy*).
const LIFE: Micros = 15 * MINUTE;
/// The most output that an estimate counts, in tokens (*policy*).
const OUTPUT_MAX: u64 = 4_096;

/// How a hold ended, if it did not just run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldEnd {
    Captured,
    Released,
}

/// A granted authorization.
#[derive(Debug, Clone)]
pub struct Hold {
    pub ask: Ask,
    pub credits: i64,
    pub granted: Micros,
    pub expires: Micros,
    /// Until when it takes from what is available: no longer than its cycle (R-19a).
    pub counts_until: Micros,
    /// Whether it was granted although the Credits do not pay for it.
    pub is_on_account: bool,
    pub end: Option<HoldEnd>,
}

struct Estimate {
    full: i64,
    prompt_only: i64,
    output: u64,
}

impl Model {
    pub(super) fn price(&self, ask: &Ask) -> Answer {
        match self.estimate(ask) {
            Ok(estimate) => Answer::ok(200).with_all("", price_facts(&estimate)),
            Err(no) => no,
        }
    }

    pub(super) fn authorize(&mut self, id: &str, customer: usize, ask: &Ask) -> Answer {
        let estimate = match self.estimate(ask) {
            Ok(estimate) => estimate,
            // A model that is sold for money alone: nothing of it is held in Credits.
            Err(no) if no.code == Some("not-rated") && self.is_sold_for_money(ask) => {
                if !self.may_start_on_account(customer, ask) {
                    return no;
                }
                Estimate { full: 0, prompt_only: 0, output: 0 }
            }
            Err(no) => return no,
        };
        if customer >= self.customers.len() {
            return Answer::no(404, "not-found");
        }
        if self.customers[customer].is_parked {
            return Answer::no(409, "account-parked");
        }
        if self.is_suspended(customer) {
            return Answer::no(402, "subscription-suspended");
        }
        let key = (customer, id.to_owned());
        if let Some(hold) = self.holds.get(&key) {
            if hold.end.is_some() {
                return Answer::no(409, "authorization-ended");
            }
            if hold.ask != *ask {
                return Answer::no(409, "authorization-reused");
            }
            if hold.expires <= self.now {
                return Answer::no(409, "authorization-ended");
            }
            return self.authorized(id, customer, hold, &estimate);
        }
        let available = self.available(customer);
        let mut is_on_account = false;
        let credits = if estimate.full <= available {
            estimate.full
        } else if estimate.prompt_only <= available && available > 0 {
            available
        } else if self.may_start_on_account(customer, ask) || self.tops_up(customer) {
            is_on_account = true;
            available
        } else {
            return Answer::no(402, "insufficient_quota")
                .with("/needed", estimate.prompt_only)
                .with("/remaining", available)
                .with("/resets_at", self.resets_at(customer).map_or(Plain::Null, Plain::At));
        };
        let expires = self.now + LIFE;
        let plans = self.customers[customer].account.grants.iter().filter(|grant| grant.is_the_plans());
        let live = plans.filter(|grant| grant.is_live(self.now) && grant.remaining() > 0);
        let left = live.filter_map(|grant| grant.expiry).max();
        let cycle_end = self.resets_at(customer).or(left);
        let counts_until = cycle_end.map_or(expires, |end| if end < expires { end } else { expires });
        let hold = Hold {
            ask: ask.clone(),
            credits,
            granted: self.now,
            expires,
            counts_until,
            is_on_account,
            end: None,
        };
        let answer = self.authorized(id, customer, &hold, &estimate);
        self.holds.insert(key, hold);
        answer
    }

    fn authorized(&self, id: &str, customer: usize, hold: &Hold, estimate: &Estimate) -> Answer {
        let is_partial = hold.credits < estimate.full && !hold.is_on_account;
        let paid_output = if is_partial { self.output_paid_by(hold, estimate) } else { None };
        Answer::ok(201)
            .with("/id", id)
            .with("/customer", Plain::Id(Noun::Customer, customer))
            .with("/credits_held", hold.credits)
            .with("/max_output_tokens", paid_output.map_or(Plain::Null, |count| Plain::Number(tokens(count))))
            .with("/granted_at", Plain::At(hold.granted))
            .with("/expires_at", Plain::At(hold.expires))
            .with("/account_version", self.version_of(customer))
            .with_all("", price_facts(estimate))
    }

    /// The most output for which prompt and output together cost no more than is held: the cost does not
    /// fall as the output grows, so halves are tried.
    fn output_paid_by(&self, hold: &Hold, estimate: &Estimate) -> Option<u64> {
        let (mut fits, mut too_much) = (0, estimate.output + 1);
        while too_much - fits > 1 {
            let middle = fits + (too_much - fits) / 2;
            match self.cost_of(&hold.ask, middle) {
                Ok(cost) if cost <= hold.credits => fits = middle,
                _ => too_much = middle,
            }
        }
        Some(fits)
    }

    pub(super) fn release(&mut self, id: &str, customer: usize) -> Answer {
        let now = self.now;
        let Some(hold) = self.holds.get_mut(&(customer, id.to_owned())) else {
            return Answer::no(404, "not-found");
        };
        match hold.end {
            Some(HoldEnd::Captured) => return Answer::no(409, "authorization-ended"),
            None if hold.expires <= now => return Answer::no(409, "authorization-ended"),
            Some(HoldEnd::Released) | None => hold.end = Some(HoldEnd::Released),
        }
        Answer::ok(200).with("/id", id).with("/account_version", self.version_of(customer))
    }

    /// What live holds set aside.
    pub(super) fn held(&self, customer: usize) -> i64 {
        let own = self.holds.iter().filter(|((owner, _), _)| *owner == customer).map(|(_, hold)| hold);
        own.filter(|hold| hold.end.is_none() && self.now < hold.counts_until).map(|hold| hold.credits).sum()
    }

    /// What the next authorization can get.
    pub fn available(&self, customer: usize) -> i64 {
        let left = self.customers[customer].account.settled(self.now) - self.held(customer);
        if left < 0 { 0 } else { left }
    }

    fn estimate(&self, ask: &Ask) -> Result<Estimate, Answer> {
        let prompt_only = self.cost_of(ask, 0)?;
        let own_max = self.rates_now(ask.model).and_then(|rates| rates.output_max);
        let mut output = OUTPUT_MAX;
        for limit in [ask.output_max, own_max].into_iter().flatten() {
            if limit < output {
                output = limit;
            }
        }
        Ok(Estimate { full: self.cost_of(ask, output)?, prompt_only, output })
    }

    fn cost_of(&self, ask: &Ask, output: u64) -> Result<i64, Answer> {
        let [input, cache_read, cache_write] = ask.prompt;
        self.rate(ask.model, [input, cache_read, cache_write, output], self.now)
            .map(|rated| rated.credits)
            .map_err(|no| match no {
                NoRate::Unrated(_) => Answer::no(422, "not-rated"),
                NoRate::Overflow => Answer::no(422, "amount-overflow"),
            })
    }

    /// Whether its band has no Credit rate.
    fn is_sold_for_money(&self, ask: &Ask) -> bool {
        let [input, cache_read, cache_write] = ask.prompt;
        let rated = self.rate(ask.model, [input, cache_read, cache_write, 0], self.now);
        matches!(rated, Err(NoRate::Unrated("no-credit-rate")))
    }

    fn rates_now(&self, model: &str) -> Option<&ModelRates> {
        self.catalog_at(self.now)?.models.iter().find(|rates| rates.model == model)
    }

    /// What a call of this time costs, by the rate card of that time.
    pub(super) fn rate(&self, model: &str, counts: [u64; 4], at: Micros) -> Result<Rated, NoRate> {
        let prompt = counts[..3].iter().try_fold(0_u64, |sum, count| sum.checked_add(*count));
        let Some(prompt) = prompt else { return Err(NoRate::Overflow) };
        let Some(catalog) = self.catalog_at(at) else { return Err(NoRate::Unrated("no-catalog")) };
        let Some(rates) = catalog.models.iter().find(|rates| rates.model == model) else {
            return Err(NoRate::Unrated("unknown-model"));
        };
        if rates.until.is_some_and(|until| at >= until) {
            return Err(NoRate::Unrated("credit-rate-ended"));
        }
        match cost(&rates.bands, counts) {
            ModelCost::Credits(credits) => {
                let band = rates.bands.iter().find(|band| band.reaches(prompt)).and_then(|band| band.upper);
                let credits = i64::try_from(credits).map_err(|_| NoRate::Overflow)?;
                Ok(Rated { credits, catalog: catalog.version, band })
            }
            ModelCost::Unrated(reason) => Err(NoRate::Unrated(reason)),
            ModelCost::Overflow => Err(NoRate::Overflow),
        }
    }
}

impl Model {
    /// The line of a model that has no Credit rate: it costs no Credits.
    pub(super) fn sold_for_money(&self, model: &str, counts: [u64; 4], at: Micros) -> Result<Rated, NoRate> {
        let prompt = counts[..3].iter().sum();
        let Some(catalog) = self.catalog_at(at) else { return Err(NoRate::Unrated("no-catalog")) };
        let rates = catalog.models.iter().find(|rates| rates.model == model);
        let band = rates.and_then(|rates| rates.bands.iter().find(|band| band.reaches(prompt)));
        Ok(Rated { credits: 0, catalog: catalog.version, band: band.and_then(|band| band.upper) })
    }
}

/// A cost with the line that it comes from.
pub(super) struct Rated {
    pub(super) credits: i64,
    pub(super) catalog: u32,
    /// The band's bound.
    pub(super) band: Option<u64>,
}

pub(super) enum NoRate {
    Unrated(&'static str),
    Overflow,
}

fn price_facts(estimate: &Estimate) -> Vec<Fact> {
    vec![
        ("/estimate_credits".to_owned(), estimate.full.into()),
        ("/prompt_credits".to_owned(), estimate.prompt_only.into()),
        ("/estimate_output_tokens".to_owned(), Plain::Number(tokens(estimate.output))),
    ]
}

pub(super) fn tokens(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
