//! What is bought and paid.

use super::account::Grant;
use super::calendar::{HOUR, MINUTE, Micros, day_of_month};
use super::command::{Answer, Noun, Plain};
use super::rates::discounted;
use super::tenant::{Bought, Cycle, Invoice, Model, Quote, Subscription};

/// How long an unpaid first purchase stays open (*policy*).
const INCOMPLETE: Micros = 23 * HOUR;
/// How long an upgrade's payment may be pending (*policy*).
const UPGRADE_PENDING: Micros = HOUR;
/// How long a quote is good for (*policy*).
const QUOTE: Micros = 10 * MINUTE;

/// What the provider says to a payment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Payment {
    Succeeds,
    Declines,
    /// It is undecided, and can be given up.
    Pends,
    /// The bank wants the customer to act.
    Waits,
    /// It is with the bank, and nobody can give it up.
    Processes,
}

/// What comes of a method: of the sandbox's, or of Stripe's, without the card.
pub(super) fn payment(method: &str) -> Option<Payment> {
    match method.split(':').next() {
        Some("pm_sandbox_succeeds" | "pm_stripe_succeeds") => Some(Payment::Succeeds),
        Some("pm_sandbox_declines" | "pm_stripe_declines") => Some(Payment::Declines),
        Some("pm_sandbox_pends") => Some(Payment::Pends),
        Some("pm_stripe_waits") => Some(Payment::Waits),
        Some("pm_stripe_processes") => Some(Payment::Processes),
        _ => None,
    }
}

/// The card, without whose method it is.
fn card(method: &str) -> Option<String> {
    let (_, card) = method.split_once(':')?;
    card.split('/').next().map(str::to_owned)
}

/// An upgrade that may be bought.
struct Offer {
    cycle: Cycle,
    from: String,
    catalog: u32,
    amount: i64,
    credits: i64,
}

impl Model {
    pub(super) fn subscribe(
        &mut self,
        customer: usize,
        plan: &str,
        (currency, is_annual): (&'static str, bool),
        method: &str,
        promotion: Option<&str>,
    ) -> Answer {
        if payment(method).is_none() {
            return Answer::no(422, "unknown-payment-method");
        }
        let Some(catalog) = self.catalog_at(self.now).cloned() else {
            return Answer::no(422, "unknown-plan");
        };
        if customer >= self.customers.len() {
            return Answer::no(404, "not-found");
        }
        let live = self.subscriptions.iter().position(|s| s.customer == customer && s.is_live());
        if let Some(live) = live {
            return Answer::no(409, "already-subscribed")
                .with("/subscription", Plain::Id(Noun::Subscription, live));
        }
        let Some(bought) = catalog.plan(plan) else { return Answer::no(422, "unknown-plan") };
        let Some(price) = bought.price(currency, is_annual) else {
            return Answer::no(409, "no-price-in-currency");
        };
        let is_calendar = self.policies.is_calendar && !is_annual;
        let share = match (is_calendar, day_of_month(self.now)) {
            (true, (day, of)) => (of - day, of),
            (false, _) => (1, 1),
        };
        let list_price = part(price, share);
        let fitting =
            catalog.promotions.iter().filter(|p| p.plans.is_empty() || p.plans.contains(&bought.code));
        let mut chosen = match promotion {
            Some("none") => None,
            // A year has none (R-22b).
            None if is_annual => None,
            Some(_) if is_annual => return Answer::no(422, "unknown-promotion"),
            None => fitting.max_by_key(|promotion| promotion.off_bps),
            Some(code) => match fitting.into_iter().find(|promotion| promotion.code == code) {
                None => return Answer::no(422, "unknown-promotion"),
                found => found,
            },
        };
        let used = Answer::no(409, "promotion-used").with("/list_price/amount_minor", list_price);
        if chosen.is_some() && self.has_used_promotion(customer) {
            if promotion.is_some() {
                return used;
            }
            chosen = None;
        }
        if chosen.is_some() && self.is_card_used(card(method), self.subscriptions.len()) {
            return used;
        }
        let discount = chosen.map_or(0, |promotion| promotion.off_bps);
        self.subscriptions.push(Subscription {
            customer,
            status: "incomplete",
            plan: plan.to_owned(),
            catalog: catalog.version,
            currency,
            method: method.to_owned(),
            discount,
            anchor: None,
            cycle: None,
            is_calendar,
            share,
            is_annual,
            annual_from: None,
            migrates: false,
            cancels_at_end: false,
            scheduled: None,
            created: self.now,
            ended: None,
            is_suspended_by_dispute: false,
            promotion: chosen.map(|promotion| (promotion.code, card(method))),
        });
        let invoice = self.open_invoice(Invoice {
            customer,
            currency,
            subscription: Some(self.subscriptions.len() - 1),
            made: 0,
            bought: Bought::FirstCycle,
            paid_by: None,
            cycle: 0,
            plan: plan.to_owned(),
            catalog: catalog.version,
            credits: whole_part(bought.credits, share),
            list_price,
            total: discounted(list_price, discount),
            status: "open",
            is_in_flight: false,
            is_customers_turn: false,
            is_at_bank: false,
            taken_instead: None,
            is_given_back: false,
            tried_with: String::new(),
            created: self.now,
            expires: self.now + INCOMPLETE,
            paid: None,
            refunded: 0,
            next_try: None,
            failed_tries: 0,
        });
        self.collect(invoice, method);
        self.purchased(invoice, 201)
    }

    pub(super) fn preview(&mut self, subscription: usize, plan: &str) -> Answer {
        let offer = match self.offer(subscription, plan) {
            Ok(offer) => offer,
            Err(no) => return no,
        };
        let quote = Quote {
            subscription,
            cycle: offer.cycle.number,
            from: offer.from,
            to: plan.to_owned(),
            catalog: offer.catalog,
            amount: offer.amount,
            credits: offer.credits,
            expires: earlier(offer.cycle.end, self.now + QUOTE),
        };
        self.quotes.push(quote.clone());
        Answer::ok(201)
            .with("/id", Plain::Id(Noun::Quote, self.quotes.len() - 1))
            .with("/subscription", Plain::Id(Noun::Subscription, subscription))
            .with("/plan", plan)
            .with("/amount/amount_minor", quote.amount)
            .with("/amount/currency", self.subscriptions[subscription].currency)
            .with("/credits", quote.credits)
            .with("/expires_at", Plain::At(quote.expires))
    }

    pub(super) fn upgrade(
        &mut self,
        subscription: usize,
        plan: &str,
        quote: Option<usize>,
        method: Option<&str>,
    ) -> Answer {
        if method.is_some_and(|method| payment(method).is_none()) {
            return Answer::no(422, "unknown-payment-method");
        }
        if subscription >= self.subscriptions.len() || quote.is_some_and(|quote| quote >= self.quotes.len()) {
            return Answer::no(404, "not-found");
        }
        let offer = match self.offer(subscription, plan) {
            Ok(offer) => offer,
            Err(no) => return no,
        };
        if let Some(quote) = quote.map(|quote| &self.quotes[quote]) {
            let is_its = quote.subscription == subscription
                && quote.cycle == offer.cycle.number
                && quote.from == offer.from
                && quote.to == plan
                && quote.catalog == offer.catalog
                && (quote.amount, quote.credits) == (offer.amount, offer.credits);
            if !is_its || quote.expires <= self.now {
                return Answer::no(409, "quote-not-valid");
            }
        }
        let own = &self.subscriptions[subscription];
        let invoice = self.open_invoice(Invoice {
            customer: own.customer,
            currency: own.currency,
            subscription: Some(subscription),
            made: 0,
            bought: Bought::Upgrade,
            paid_by: None,
            cycle: offer.cycle.number,
            plan: plan.to_owned(),
            catalog: offer.catalog,
            credits: offer.credits,
            list_price: offer.amount,
            total: offer.amount,
            status: "open",
            is_in_flight: false,
            is_customers_turn: false,
            is_at_bank: false,
            taken_instead: None,
            is_given_back: false,
            tried_with: String::new(),
            created: self.now,
            expires: earlier(offer.cycle.end, self.now + UPGRADE_PENDING),
            paid: None,
            refunded: 0,
            next_try: None,
            failed_tries: 0,
        });
        let method = method.map_or(self.subscriptions[subscription].method.clone(), str::to_owned);
        self.collect(invoice, &method);
        self.purchased(invoice, 200)
    }

    /// What an upgrade costs and adds now, or why there can be none.
    fn offer(&self, subscription: usize, plan: &str) -> Result<Offer, Answer> {
        let Some(own) = self.subscriptions.get(subscription) else {
            return Err(Answer::no(404, "not-found"));
        };
        self.check_changeable(subscription)?;
        let Some(cycle) = own.cycle else { return Err(Answer::no(409, "subscription-incomplete")) };
        let waits = |bought| self.open_of(subscription).any(|(_, invoice)| invoice.bought == bought);
        if waits(Bought::Renewal) {
            return Err(Answer::no(409, "subscription-past-due"));
        }
        if waits(Bought::Upgrade) {
            return Err(Answer::no(409, "upgrade-pending"));
        }
        let from = self.plan_of(&own.plan, own.catalog);
        let catalog = self.catalog_at(self.now).ok_or_else(|| Answer::no(422, "unknown-plan"))?;
        let to = catalog.plan(plan).ok_or_else(|| Answer::no(422, "unknown-plan"))?;
        if to.rank < from.rank {
            let no = Answer::no(409, "downgrade-within-cycle");
            return Err(no.with("/effective_at", Plain::At(own.renews().unwrap_or(cycle.end))));
        }
        if to.rank == from.rank {
            return Err(Answer::no(409, "not-an-upgrade"));
        }
        let (Some(old), Some(new)) =
            (from.price(own.currency, own.is_annual), to.price(own.currency, own.is_annual))
        else {
            return Err(Answer::no(409, "no-price-in-currency"));
        };
        let amount = if own.is_annual {
            let left = i64::from(own.renewal() - cycle.number);
            twelfths(if new < old { 0 } else { new - old }, left)
        } else {
            discounted(part(new, own.share), own.discount) - discounted(part(old, own.share), own.discount)
        };
        let credits = whole_part(to.credits, own.share) - whole_part(from.credits, own.share);
        Ok(Offer {
            cycle,
            from: own.plan.clone(),
            catalog: catalog.version,
            amount: if amount < 0 { 0 } else { amount },
            credits: if credits < 0 { 0 } else { credits },
        })
    }

    pub(super) fn pay(&mut self, invoice: usize, method: Option<&str>) -> Answer {
        if method.is_some_and(|method| payment(method).is_none()) {
            return Answer::no(422, "unknown-payment-method");
        }
        if invoice >= self.invoices.len() {
            return Answer::no(404, "not-found");
        }
        let Invoice { subscription, bought, list_price, .. } = self.invoices[invoice];
        if self.invoices[invoice].status != "open" || self.invoices[invoice].expires <= self.now {
            return Answer::no(409, "invoice-not-open");
        }
        if let (Bought::Upgrade, Some(subscription)) = (bought, subscription)
            && let Err(no) = self.check_changeable(subscription)
        {
            return no;
        }
        // What is in flight is given up with the provider first.
        if self.invoices[invoice].is_in_flight {
            if self.invoices[invoice].is_at_bank {
                return Answer::no(409, "payment-pending");
            }
            self.invoices[invoice].is_in_flight = false;
            // One that waited for its customer has counted as failed already.
            if bought == Bought::Renewal && !self.invoices[invoice].is_customers_turn {
                self.try_ended(invoice);
            }
            self.invoices[invoice].is_customers_turn = false;
        }
        let Some(subscription) = subscription else {
            let Some(method) = method.map(str::to_owned) else { return Answer::no(422, "invalid-field") };
            self.collect(invoice, &method);
            return self.purchased(invoice, 200);
        };
        if let (Bought::FirstCycle, Some(method)) = (bought, method)
            && !self.move_to_card(subscription, method)
        {
            return Answer::no(409, "promotion-used").with("/list_price/amount_minor", list_price);
        }
        let method = method.map_or(self.subscriptions[subscription].method.clone(), str::to_owned);
        self.collect(invoice, &method);
        self.purchased(invoice, 200)
    }

    /// Moves the promotion of an unpaid first cycle to another card, unless that has used it.
    pub(super) fn move_to_card(&mut self, subscription: usize, method: &str) -> bool {
        let Some((code, _)) = self.subscriptions[subscription].promotion else { return true };
        if self.is_card_used(card(method), subscription) {
            return false;
        }
        self.subscriptions[subscription].promotion = Some((code, card(method)));
        true
    }

    fn has_used_promotion(&self, customer: usize) -> bool {
        self.subscriptions.iter().any(|s| s.customer == customer && s.promotion.is_some())
    }

    fn is_card_used(&self, card: Option<String>, but: usize) -> bool {
        let others = self.subscriptions.iter().enumerate().filter(|(index, _)| *index != but);
        let mut cards = others.filter_map(|(_, other)| other.promotion.as_ref()?.1.clone());
        card.is_some_and(|card| cards.any(|other| other == card))
    }

    pub(super) fn open_invoice(&mut self, invoice: Invoice) -> usize {
        self.made += 1;
        self.invoices.push(Invoice { made: self.made, ..invoice });
        self.invoices.len() - 1
    }

    /// A subscription's unsettled invoices with their numbers.
    pub(super) fn open_of(&self, subscription: usize) -> impl Iterator<Item = (usize, &Invoice)> {
        let open = self.invoices.iter().enumerate().filter(|(_, invoice)| invoice.status == "open");
        open.filter(move |(_, invoice)| invoice.subscription == Some(subscription))
    }

    /// Asks the provider, and lets what it says take effect.
    pub(super) fn collect(&mut self, number: usize, method: &str) {
        let outcome =
            if self.invoices[number].total == 0 { Some(Payment::Succeeds) } else { payment(method) };
        self.invoices[number].tried_with = method.to_owned();
        let total = self.invoices[number].total;
        let is_charged = outcome == Some(Payment::Succeeds) && total > 0 && method.starts_with("pm_stripe_");
        let instead = if is_charged { self.takes_instead.take() } else { None };
        if let Some(taken) = instead.filter(|taken| *taken != total) {
            return self.take_instead(number, method, taken);
        }
        if outcome == Some(Payment::Processes) {
            self.invoices[number].is_at_bank = true;
        }
        let Some(subscription) = self.invoices[number].subscription else {
            match outcome {
                Some(Payment::Succeeds) => self.take_effect(number),
                Some(Payment::Pends | Payment::Processes) => self.invoices[number].is_in_flight = true,
                Some(Payment::Waits) => self.wait_for_customer(number),
                Some(Payment::Declines) | None => self.automatic_failed(number),
            }
            return;
        };
        match (outcome, self.invoices[number].bought) {
            (Some(Payment::Succeeds), bought) => {
                if bought == Bought::FirstCycle {
                    self.subscriptions[subscription].method = method.to_owned();
                }
                self.take_effect(number);
            }
            (Some(Payment::Waits), bought) => {
                self.wait_for_customer(number);
                // Nobody is there when a renewal is charged: unpaid it is, until the customer has acted.
                if bought == Bought::Renewal {
                    self.renewal_failed(number, subscription);
                }
            }
            (Some(Payment::Pends | Payment::Processes), _) => {
                self.invoices[number].is_in_flight = true;
                self.invoices[number].next_try = None;
            }
            (Some(Payment::Declines) | None, Bought::FirstCycle) => {}
            (Some(Payment::Declines) | None, Bought::Upgrade) => self.invoices[number].status = "void",
            (Some(Payment::Declines) | None, Bought::WithinYear) => {}
            // What was bought without a subscription is above.
            (Some(Payment::Declines) | None, Bought::TopUp | Bought::AutomaticTopUp | Bought::Usage) => {}
            (Some(Payment::Declines) | None, Bought::Renewal) => self.renewal_failed(number, subscription),
        }
    }

    fn wait_for_customer(&mut self, number: usize) {
        self.invoices[number].is_in_flight = true;
        self.invoices[number].is_customers_turn = true;
    }

    /// past due until the next try; after the last one, over.
    pub(super) fn renewal_failed(&mut self, number: usize, subscription: usize) {
        if self.subscriptions[subscription].status == "active" {
            self.subscriptions[subscription].status = "past_due";
        }
        self.try_ended(number);
        if self.invoices[number].next_try.is_none() {
            self.end_unpaid(subscription);
        }
    }

    /// What was paid for starts now.
    pub(super) fn take_effect(&mut self, number: usize) {
        let now = self.now;
        self.invoices[number].status = "paid";
        self.invoices[number].is_in_flight = false;
        self.invoices[number].is_customers_turn = false;
        self.invoices[number].paid = Some(now);
        self.invoices[number].next_try = None;
        let invoice = self.invoices[number].clone();
        let Some(subscription) = invoice.subscription else {
            let lasts = self.lasts_of(&invoice);
            let expiry = lasts.map(|lasts| now + lasts);
            self.issue(number, "top_up", expiry);
            return;
        };
        let own = &mut self.subscriptions[subscription];
        match invoice.bought {
            Bought::FirstCycle => {
                own.status = "active";
                own.anchor = Some(now);
                own.cycle = Some(Cycle { number: 0, start: now, end: own.bound(now, 1) });
                own.annual_from = if own.is_annual { Some(0) } else { None };
            }
            Bought::Upgrade => {
                own.plan = invoice.plan.clone();
                own.catalog = invoice.catalog;
                own.scheduled = None;
            }
            // What an operator has stopped stays so.
            Bought::Renewal if own.status == "suspended" => {}
            Bought::Renewal => own.status = "active",
            Bought::WithinYear | Bought::TopUp | Bought::AutomaticTopUp | Bought::Usage => {}
        }
        let Some(cycle) = own.cycle else { return };
        let source = if invoice.bought == Bought::Upgrade { "upgrade" } else { "plan" };
        self.issue(number, source, Some(cycle.end));
    }

    /// The Credits that an invoice has paid for, from now on.
    fn issue(&mut self, number: usize, source: &'static str, expiry: Option<Micros>) {
        let (now, invoice) = (self.now, &self.invoices[number]);
        self.customers[invoice.customer].account.issue(Grant {
            number,
            made: invoice.made,
            cause: "purchase",
            source,
            amount: invoice.credits,
            spent: 0,
            expired: 0,
            revoked: 0,
            effective: now,
            expiry,
            created: now,
            expired_by: None,
        });
    }

    /// Whose turn it is while a payment is not decided.
    pub(super) fn undecided(&self, number: usize) -> &'static str {
        if self.invoices[number].is_customers_turn { "requires_action" } else { "pending" }
    }

    /// The answer to whoever bought or paid.
    fn purchased(&self, number: usize, paid: u16) -> Answer {
        let invoice = &self.invoices[number];
        let (status, payment_status) = match (invoice.status, invoice.is_in_flight) {
            ("paid", _) => (paid, "paid"),
            (_, true) => (202, self.undecided(number)),
            _ => {
                let no =
                    Answer::no(402, "payment-declined").with("/invoice", Plain::Id(Noun::Invoice, number));
                return match invoice.subscription {
                    Some(own) => no.with("/subscription", Plain::Id(Noun::Subscription, own)),
                    None => no,
                };
            }
        };
        let answer = Answer::ok(status)
            .with("/payment_status", payment_status)
            .with_all("/invoice", self.invoice_facts(number));
        match invoice.subscription {
            Some(own) => answer.with_all("/subscription", self.subscription_facts(own)),
            None => answer,
        }
    }
}

/// So many twelfths of an amount.
fn twelfths(amount: i64, count: i64) -> i64 {
    part(amount, (count, 12))
}

/// A part of an amount; a half goes to the even side.
fn part(amount: i64, (count, of): (i64, i64)) -> i64 {
    let (whole, rest) = (amount * count / of, amount * count % of);
    if 2 * rest > of || 2 * rest == of && whole % 2 == 1 { whole + 1 } else { whole }
}

/// A part of Credits, without what is no whole one.
fn whole_part(credits: i64, (count, of): (i64, i64)) -> i64 {
    credits * count / of
}

fn earlier(one: Micros, other: Micros) -> Micros {
    if one < other { one } else { other }
}
