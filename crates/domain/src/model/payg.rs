//! Without Credits: what is paid by the token (R-2, R-30, R-30a).

use super::calendar::{Micros, month_start_after};
use super::command::{Answer, Ask, AutoTopUp, Fact, Noun, Plain};
use super::sales::payment;
use super::tenant::{Bought, Invoice, Model};

/// Pico-units of a minor unit.
const CENT: i128 = 10_000_000_000;

/// What a customer owes for usage, and how it goes on without Credits.
#[derive(Debug, Clone, Default)]
pub struct OnAccount {
    /// `absorb`, `payg` or `topup`; none where nobody has said.
    pub policy: Option<&'static str>,
    /// None before that was said: US dollars.
    pub currency: Option<&'static str>,
    pub cap_minor: i64,
    pub method: Option<String>,
    pub top_up: Option<AutoTopUp>,
    /// No top-up buys itself before.
    pub blocked_until: Option<Micros>,
    pub accrued: i128,
    /// When that is invoiced, unless a cycle ends before.
    pub due: Option<Micros>,
    pub parts: Vec<Part>,
}

/// The money part of an event.
#[derive(Debug, Clone)]
pub struct Part {
    pub event: (&'static str, String),
    model: &'static str,
    /// Each kind of token with its pico-units.
    kinds: Vec<(usize, i128)>,
    pico: i128,
    /// Whether it was invoiced, or voided.
    is_settled: bool,
}

impl OnAccount {
    /// What may still be accrued.
    fn room(&self) -> i128 {
        let room = i128::from(self.cap_minor) * CENT - self.accrued;
        if room < 0 { 0 } else { room }
    }

    /// Bills the uncovered part of an event: its whole price times `uncovered / cost`, rounded once, and no more than there
    /// is room for. An event without a cost in Credits is billed wholly.
    pub(super) fn bill(
        &mut self,
        event: (&'static str, String),
        model: &'static str,
        whole: Option<Vec<(usize, i128)>>,
        (uncovered, cost): (i64, i64),
        now: Micros,
    ) -> Vec<Fact> {
        let fact = |pointer: &str, value: Plain| (format!("/payg{pointer}"), value);
        let currency = fact("/currency", self.currency.unwrap_or("USD").into());
        let Some(whole) = whole else {
            return vec![
                currency,
                fact("/credits", uncovered.into()),
                fact("/pico", "0".into()),
                fact("/past_cap_pico", "0".into()),
                fact("/unrated_reason", "no-price".into()),
            ];
        };
        let room = self.room();
        let part = |pico: i128| match cost {
            0 => pico,
            _ => half_even(pico * i128::from(uncovered), i128::from(cost)),
        };
        let (mut so_far, mut before, mut kinds) = (0, 0, Vec::new());
        for (kind, pico) in whole {
            so_far += pico;
            let due = part(so_far);
            let end = if due < room { due } else { room };
            kinds.push((kind, end - before));
            before = end;
        }
        let (due, pico) = (part(so_far), before);
        let credits = if pico == due { i128::from(uncovered) } else { i128::from(uncovered) * pico / due };
        self.accrued += pico;
        if pico > 0 && self.due.is_none() {
            self.due = Some(month_start_after(now, 1));
        }
        self.parts.push(Part { event, model, kinds, pico, is_settled: false });
        vec![
            currency,
            fact("/credits", Plain::Number(i64::try_from(credits).unwrap_or(i64::MAX))),
            fact("/pico", Plain::Text(pico.to_string())),
            fact("/past_cap_pico", Plain::Text((due - pico).to_string())),
            fact("/unrated_reason", Plain::Null),
        ]
    }

    /// What was not invoiced is not owed any more.
    pub(super) fn void(&mut self, event: &(&'static str, String)) {
        let mut back = 0;
        for part in self.parts.iter_mut().filter(|part| part.event == *event && !part.is_settled) {
            part.is_settled = true;
            back += part.pico;
        }
        self.accrued -= back;
        self.due = self.due.filter(|_| self.accrued > 0);
    }
}

impl Model {
    pub(super) fn set_exhaustion(
        &mut self,
        customer: usize,
        (cap, top_up): (Option<i64>, Option<&AutoTopUp>),
        method: Option<&str>,
    ) -> Answer {
        if top_up.is_some_and(|top_up| top_up.per_cycle == 0) {
            return Answer::no(422, "invalid-field");
        }
        if method.is_some_and(|method| payment(method).is_none()) {
            return Answer::no(422, "unknown-payment-method");
        }
        if customer >= self.customers.len() {
            return Answer::no(404, "not-found");
        }
        let live = self.subscriptions.iter().find(|own| own.customer == customer && own.is_live());
        let currency = live.map_or("USD", |own| own.currency);
        if cap.is_some() && currency != "USD" {
            return Answer::no(409, "no-price-in-currency");
        }
        let own = &self.customers[customer].on_account;
        if own.currency.unwrap_or("USD") != currency && own.accrued > 0 {
            return Answer::no(409, "usage-not-invoiced");
        }
        if let Some(top_up) = top_up {
            if !self.is_top_up(top_up.code) {
                return Answer::no(422, "unknown-top-up");
            }
            if self.top_up_price(top_up.code, top_up.currency).is_none() {
                return Answer::no(409, "no-price-in-currency");
            }
        }
        let own = &mut self.customers[customer].on_account;
        own.policy = Some(match (cap, top_up) {
            (Some(_), _) => "payg",
            (None, Some(_)) => "topup",
            (None, None) => "absorb",
        });
        own.top_up = top_up.cloned();
        own.blocked_until = None;
        own.currency = Some(currency);
        own.cap_minor = cap.unwrap_or(0);
        own.method = method.map(str::to_owned);
        self.read_exhaustion(customer)
    }

    pub(super) fn read_exhaustion(&self, customer: usize) -> Answer {
        let Some(of) = self.customers.get(customer) else { return Answer::no(404, "not-found") };
        let own = &of.on_account;
        let answer = match &own.top_up {
            None => Answer::ok(200).with("/auto_top_up", Plain::Null),
            Some(top_up) => Answer::ok(200)
                .with("/auto_top_up/top_up", top_up.code)
                .with("/auto_top_up/currency", top_up.currency)
                .with("/auto_top_up/at_credits_left", top_up.at)
                .with("/auto_top_up/per_cycle_max", top_up.per_cycle)
                .with("/auto_top_up/cool_off_minutes", top_up.cool_off_minutes),
        };
        answer
            .with("/customer", Plain::Id(Noun::Customer, customer))
            .with("/exhaustion", own.policy.unwrap_or("absorb"))
            .with("/is_set", own.policy.is_some())
            .with("/top_up_blocked_until", own.blocked_until.map_or(Plain::Null, Plain::At))
            .with("/currency", own.currency.unwrap_or("USD"))
            .with("/spend_cap_minor", own.cap_minor)
            .with("/accrued_pico", Plain::Text(own.accrued.to_string()))
            .with("/accrued_due_at", own.due.map_or(Plain::Null, Plain::At))
            .with("/payment_method", own.method.as_deref())
    }

    /// Whether what no grant covers is billed to this customer.
    pub(super) fn pays_by_the_token(&self, customer: usize) -> bool {
        self.customers.get(customer).is_some_and(|of| of.on_account.policy == Some("payg"))
    }

    /// What a call costs in money by its kinds of tokens; none where it has no price.
    pub(super) fn money(
        &self,
        customer: usize,
        model: &str,
        counts: [u64; 4],
        at: Micros,
    ) -> Option<Vec<(usize, i128)>> {
        if self.customers[customer].on_account.currency != Some("USD") {
            return None;
        }
        let prompt = counts[..3].iter().sum();
        let rates = self.catalog_at(at)?.models.iter().find(|rates| rates.model == model)?;
        let prices = rates.bands.iter().find(|band| band.reaches(prompt))?.prices?;
        let kinds = (0..4).filter(|kind| counts[*kind] > 0);
        Some(kinds.map(|kind| (kind, i128::from(counts[kind]) * i128::from(prices[kind]))).collect())
    }

    /// Whether a request may start that the Credits do not pay for: there is room for its prompt under the cap.
    pub(super) fn may_start_on_account(&self, customer: usize, ask: &Ask) -> bool {
        if !self.pays_by_the_token(customer) {
            return false;
        }
        let [input, cache_read, cache_write] = ask.prompt;
        let whole = self.money(customer, ask.model, [input, cache_read, cache_write, 0], self.now);
        let room = self.customers[customer].on_account.room();
        whole.is_some_and(|kinds| room > 0 && kinds.iter().map(|(_, pico)| pico).sum::<i128>() <= room)
    }

    /// Whether a cycle of the customer's runs.
    fn has_cycle(&self, customer: usize) -> bool {
        let runs = |status| ["active", "past_due", "suspended"].contains(&status);
        self.subscriptions.iter().any(|own| own.customer == customer && runs(own.status))
    }

    /// At the end of a month, of those without a cycle.
    pub(super) fn invoice_months(&mut self) {
        for customer in 0..self.customers.len() {
            let is_due = self.customers[customer].on_account.due.is_some_and(|due| due <= self.now);
            if !is_due || self.has_cycle(customer) {
                continue;
            }
            let live = self.subscriptions.iter().find(|own| own.customer == customer && own.is_live());
            let own_method = live.map(|own| own.method.clone());
            let method = self.customers[customer].on_account.method.clone().or(own_method);
            self.invoice_usage(customer, method);
        }
    }

    /// A line a model and kind of token, each rounded once; what rounds to nothing at all is put off.
    pub(super) fn invoice_usage(&mut self, customer: usize, method: Option<String>) {
        let now = self.now;
        let own = &mut self.customers[customer].on_account;
        if own.accrued == 0 {
            return;
        }
        let mut lines: Vec<((&str, usize), i128)> = Vec::new();
        for part in own.parts.iter().filter(|part| !part.is_settled) {
            for (kind, pico) in &part.kinds {
                match lines.iter_mut().find(|(line, _)| *line == (part.model, *kind)) {
                    Some((_, sum)) => *sum += pico,
                    None => lines.push(((part.model, *kind), *pico)),
                }
            }
        }
        let total: i128 = lines.iter().map(|(_, pico)| half_even(*pico, CENT)).sum();
        if total == 0 {
            own.due = own.due.map(|_| month_start_after(now, 1));
            return;
        }
        for part in &mut own.parts {
            part.is_settled = true;
        }
        (own.accrued, own.due) = (0, None);
        let currency = own.currency.unwrap_or("USD");
        let total = i64::try_from(total).unwrap_or(i64::MAX);
        let invoice = self.open_invoice(Invoice {
            customer,
            currency,
            subscription: None,
            made: 0,
            bought: Bought::Usage,
            paid_by: None,
            cycle: 0,
            plan: String::new(),
            catalog: 0,
            credits: 0,
            list_price: total,
            total,
            status: "open",
            is_in_flight: false,
            is_customers_turn: false,
            is_at_bank: false,
            taken_instead: None,
            is_given_back: false,
            tried_with: String::new(),
            created: now,
            // It was used, so it is owed until it is paid.
            expires: Micros::MAX,
            paid: None,
            refunded: 0,
            next_try: None,
            failed_tries: 0,
        });
        if let Some(method) = method {
            self.collect(invoice, &method);
        }
    }
}

/// A quotient; a half goes to the even side.
fn half_even(amount: i128, of: i128) -> i128 {
    let (whole, rest) = (amount / of, amount % of);
    if 2 * rest > of || 2 * rest == of && whole % 2 == 1 { whole + 1 } else { whole }
}
