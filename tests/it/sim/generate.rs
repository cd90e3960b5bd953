//! The next command of a seed. It looks at the model alone, so a seed asks the same questions however
//! Tollgate answers them.

use domain::model::calendar::{DAY, HOUR, MINUTE, Micros};
use domain::model::holds::Hold;
use domain::model::tenant::{Bought, Subscription};
use domain::model::{Ask, AutoTopUp, Command, Counted, Event, Model, Whom};

use super::random::Random;
use super::sells::{MODELS, PLANS};

/// The number of something that is not there.
const NOWHERE: usize = 1_000_000;
pub const CUSTOMERS_MAX: usize = 3;

/// What becomes of a payment with one of Stripe's cards, and how often each is chosen.
pub const STRIPE_METHODS: [(u64, &str); 4] =
    [(60, "succeeds"), (10, "declines"), (16, "waits"), (14, "processes")];
/// Cards that customers share.
pub const STRIPE_CARDS: [Option<u64>; 2] = [Some(0), Some(1)];

/// What one of Stripe's methods is called here: the card has a fingerprint always, of its customer's own unless it is shared.
pub fn stripe_method(kind: &str, card: Option<u64>, customer: usize) -> String {
    let card = card.map_or(format!("own-{customer}"), |card| format!("shared-{card}"));
    format!("pm_stripe_{kind}:{card}/{customer}")
}

/// All of them.
pub fn stripe_names() -> impl Iterator<Item = String> {
    (0..CUSTOMERS_MAX).flat_map(|customer| {
        STRIPE_METHODS.into_iter().flat_map(move |(_, kind)| {
            let cards = STRIPE_CARDS.into_iter().chain([None]);
            cards.map(move |card| stripe_method(kind, card, customer))
        })
    })
}

/// What a charge takes instead of its amount, in minor units: a top-up costs 1.00 or 1.11.
const TAKEN: [i64; 6] = [1, 99, 101, 110, 112, 25_001];

/// How often each kind is chosen.
const WEIGHTS: [(u64, &str); 45] = [
    (3, "create-customer"),
    (6, "subscribe"),
    (3, "preview-upgrade"),
    (7, "upgrade"),
    (3, "cancel"),
    (2, "withdraw-cancel"),
    (3, "schedule-plan"),
    (2, "withdraw-plan"),
    (2, "migrate"),
    (1, "withdraw-migration"),
    (3, "set-method"),
    (6, "pay-invoice"),
    (5, "buy-top-up"),
    (1, "pay-another-amount"),
    (3, "unpark"),
    (5, "refund"),
    (1, "suspend"),
    (3, "resume"),
    (4, "decide-payment"),
    (2, "refund-elsewhere"),
    (2, "give-back-instead"),
    (2, "open-dispute"),
    (2, "close-dispute"),
    (2, "reverse-dispute"),
    (1, "tell-again"),
    (2, "campaign"),
    (4, "set-exhaustion"),
    (4, "set-auto-top-up"),
    (2, "read-exhaustion"),
    (4, "give"),
    (2, "price"),
    (20, "authorize"),
    (6, "release"),
    (20, "use"),
    (8, "use-batch"),
    (4, "use-up"),
    (5, "void"),
    (12, "advance"),
    (1, "jump"),
    (7, "read-balance"),
    (2, "read-subscription"),
    (2, "list-grants"),
    (2, "list-transfers"),
    (2, "list-invoices"),
    (2, "list-subscriptions"),
];

/// Makes the commands of one seed.
#[derive(Clone)]
pub struct Generator {
    pub random: Random,
    /// How many ids it has made up.
    made: u64,
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator { random: Random::new(seed), made: 0 }
    }

    pub fn any(&mut self, model: &Model) -> Command {
        // Without anybody who has bought something, little else can be asked.
        if model.customers.is_empty() {
            return self.of_kind("create-customer", model);
        }
        if model.subscriptions.is_empty() {
            return self.of_kind("subscribe", model);
        }
        let kind = self.random.weighted(&WEIGHTS);
        self.of_kind(kind, model)
    }

    pub fn of_kind(&mut self, kind: &str, model: &Model) -> Command {
        match kind {
            "create-customer" => {
                let number = if model.customers.len() < CUSTOMERS_MAX {
                    model.customers.len()
                } else {
                    self.random.index(CUSTOMERS_MAX)
                };
                Command::CreateCustomer { external_id: format!("customer-{number}") }
            }
            "subscribe" => {
                let customer = self.customer(model);
                Command::Subscribe {
                    customer,
                    plan: self.plan(),
                    currency: self.random.of(&["USD", "USD", "CNY"]),
                    method: self.method(customer),
                    promotion: match self.random.below(10) {
                        0 => Some("none".to_owned()),
                        1 => Some("first-cycle".to_owned()),
                        2 => Some("lite-only".to_owned()),
                        _ => None,
                    },
                    annual: self.random.percent(25),
                }
            }
            "preview-upgrade" => {
                let subscription = self.subscription(model);
                Command::PreviewUpgrade { subscription, plan: self.higher_plan(model, subscription) }
            }
            "upgrade" => self.upgrade(model),
            "cancel" => {
                let (subscription, at_once) = (self.subscription(model), self.random.percent(40));
                Command::Cancel { subscription, at_once, refund: at_once && self.random.percent(60) }
            }
            "withdraw-cancel" => {
                let subscription = self.one_that(model, |own| own.cancels_at_end);
                Command::WithdrawCancel { subscription }
            }
            "schedule-plan" => {
                Command::SchedulePlan { subscription: self.subscription(model), plan: self.plan() }
            }
            "withdraw-plan" => {
                let subscription = self.one_that(model, |own| own.scheduled.is_some());
                Command::WithdrawPlan { subscription }
            }
            "migrate" => Command::Migrate { subscription: self.subscription(model) },
            "withdraw-migration" => {
                let subscription = self.one_that(model, |own| own.migrates);
                Command::WithdrawMigration { subscription }
            }
            "set-method" => {
                let subscription = self.subscription(model);
                Command::SetMethod { subscription, method: self.method(owner(model, subscription)) }
            }
            "pay-invoice" => self.pay(model),
            "buy-top-up" => {
                let customer = self.customer(model);
                let top_up = if self.random.percent(4) { "topup-1b" } else { "topup-10m" };
                let currency = self.random.of(&["USD", "USD", "CNY"]);
                Command::BuyTopUp { customer, top_up, currency, method: self.method(customer) }
            }
            "pay-another-amount" => self.pay_another_amount(model),
            "unpark" => self.unpark(model),
            "refund" => self.refund(model),
            "suspend" => Command::Suspend { subscription: self.subscription(model) },
            "resume" => {
                let subscription = self.one_that(model, |own| own.status == "suspended");
                Command::Resume { subscription }
            }
            "decide-payment" => self.decide(model),
            "refund-elsewhere" => self.refund_elsewhere(model),
            "give-back-instead" => {
                let numbers = 0..model.invoices.len();
                let taken: Vec<usize> = numbers.filter(|number| model.is_taken_instead(*number)).collect();
                match taken.is_empty() {
                    true => self.top_up_over_another_amount(model),
                    false => Command::GiveBackInstead { invoice: self.random.of(&taken) },
                }
            }
            "open-dispute" => match self.paid_at_stripe(model, false) {
                Some(invoice) => Command::OpenDispute { invoice },
                None => self.buy_with(model, "succeeds"),
            },
            "close-dispute" => self.close_dispute(model),
            "reverse-dispute" => self.reverse_dispute(model),
            "tell-again" => Command::TellAgain,
            "campaign" => self.campaign(model),
            "set-exhaustion" => {
                let customer = self.customer(model);
                let cap = self.random.percent(75).then(|| self.random.number_below(3_000));
                let method = self.random.percent(50).then(|| self.method(customer));
                Command::SetExhaustion { customer, cap, method }
            }
            "set-auto-top-up" => self.set_auto_top_up(model),
            "read-exhaustion" => Command::ReadExhaustion { customer: self.customer(model) },
            "give" => Command::Give {
                customer: self.customer(model),
                source: self.random.of(&["adjustment", "promotion"]),
                credits: 1 + self.random.number_below(5_000_000),
                expires: match self.random.below(3) {
                    0 => None,
                    1 => Some(model.now + self.random.number_below(40 * DAY)),
                    _ => Some(model.now + 1 + self.random.number_below(3 * DAY)),
                },
            },
            "price" => Command::Price { ask: self.ask(model, None) },
            "authorize" => self.authorize(model),
            "release" => self.release(model),
            "use" => Command::Use { event: self.event(model) },
            "use-batch" => self.batch(model),
            "use-up" => self.use_up(model),
            "void" => self.void(model),
            "advance" => Command::Advance { to: self.instant_ahead(model) },
            "jump" => {
                let days = self.random.number_below(100);
                Command::Jump { to: model.now + days * DAY + self.random.number_below(HOUR) }
            }
            "read-balance" => Command::ReadBalance { customer: self.customer(model) },
            "read-subscription" => Command::ReadSubscription { subscription: self.subscription(model) },
            "list-grants" => Command::ListGrants { customer: self.customer(model) },
            "list-transfers" => Command::ListTransfers { customer: self.customer(model) },
            "list-invoices" => Command::ListInvoices { customer: self.customer(model) },
            "list-subscriptions" => Command::ListSubscriptions { customer: self.customer(model) },
            other => panic!("{other} is no kind of command"),
        }
    }

    fn new_id(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}-{}", self.made)
    }

    // Whose, and which

    fn customer(&mut self, model: &Model) -> usize {
        if model.customers.is_empty() || self.random.percent(3) {
            NOWHERE
        } else {
            self.random.index(model.customers.len())
        }
    }

    /// Mostly one that lives.
    fn subscription(&mut self, model: &Model) -> usize {
        if self.random.percent(80) {
            self.one_that(model, Subscription::is_live)
        } else if model.subscriptions.is_empty() || self.random.percent(15) {
            NOWHERE
        } else {
            self.random.index(model.subscriptions.len())
        }
    }

    /// One of those that are so, if there are any; else the last.
    fn one_that(&mut self, model: &Model, is_so: impl Fn(&Subscription) -> bool) -> usize {
        let numbers: Vec<usize> =
            (0..model.subscriptions.len()).filter(|number| is_so(&model.subscriptions[*number])).collect();
        match numbers.is_empty() {
            true => model.subscriptions.len().checked_sub(1).unwrap_or(NOWHERE),
            false => self.random.of(&numbers),
        }
    }

    fn plan(&mut self) -> String {
        if self.random.percent(3) { "gold".to_owned() } else { self.random.of(&PLANS).to_owned() }
    }

    fn higher_plan(&mut self, model: &Model, subscription: usize) -> String {
        let own = model.subscriptions.get(subscription).map_or("lite", |own| own.plan.as_str());
        let place = PLANS.iter().position(|plan| *plan == own).unwrap_or(0);
        let higher = &PLANS[(place + 1).min(PLANS.len() - 1)..];
        if self.random.percent(75) { self.random.of(higher).to_owned() } else { self.plan() }
    }

    /// Of the sandbox or, as often, a card of the customer's at Stripe.
    fn method(&mut self, customer: usize) -> String {
        if customer < CUSTOMERS_MAX && self.random.percent(50) {
            let kind = self.random.weighted(&STRIPE_METHODS);
            let card = if self.random.percent(20) { self.random.of(&STRIPE_CARDS) } else { None };
            return stripe_method(kind, card, customer);
        }
        let name = self.random.weighted(&[
            (66, "pm_sandbox_succeeds"),
            (16, "pm_sandbox_declines"),
            (15, "pm_sandbox_pends"),
            (3, "pm_of_nobody"),
        ]);
        match self.random.below(10) {
            card @ 0..3 => format!("{name}:card-{card}"),
            _ => name.to_owned(),
        }
    }

    // What

    fn upgrade(&mut self, model: &Model) -> Command {
        let subscription = self.subscription(model);
        let last = model.quotes.iter().rposition(|quote| quote.subscription == subscription);
        let quote = match self.random.below(20) {
            0..8 => last,
            8 => Some(NOWHERE),
            9 if !model.quotes.is_empty() => Some(self.random.index(model.quotes.len())),
            _ => None,
        };
        let quoted = quote.and_then(|quote| model.quotes.get(quote)).map(|quote| quote.to.clone());
        let plan = match quoted {
            Some(plan) if self.random.percent(90) => plan,
            _ => self.higher_plan(model, subscription),
        };
        let customer = owner(model, subscription);
        let method = if self.random.percent(40) { Some(self.method(customer)) } else { None };
        Command::Upgrade { subscription, plan, quote, method }
    }

    fn pay(&mut self, model: &Model) -> Command {
        let open: Vec<usize> =
            (0..model.invoices.len()).filter(|number| model.invoices[*number].status == "open").collect();
        let invoice = if !open.is_empty() && self.random.percent(85) {
            self.random.of(&open)
        } else {
            let seen = |number: &usize| model.invoices[*number].bought != Bought::WithinYear;
            let seen: Vec<usize> = (0..model.invoices.len()).filter(seen).collect();
            if seen.is_empty() || self.random.percent(15) { NOWHERE } else { self.random.of(&seen) }
        };
        // A top-up has no method of its own.
        let is_top_up = model.invoices.get(invoice).is_some_and(|invoice| invoice.subscription.is_none());
        let customer = model.invoices.get(invoice).map_or(NOWHERE, |invoice| invoice.customer);
        let method = if is_top_up || self.random.percent(70) { Some(self.method(customer)) } else { None };
        Command::PayInvoice { invoice, method }
    }

    fn pay_another_amount(&mut self, model: &Model) -> Command {
        if model.customers.is_empty() {
            return self.of_kind("create-customer", model);
        }
        let customer = self.random.index(model.customers.len());
        let method = stripe_method("succeeds", None, customer);
        let taken = self.random.of(&TAKEN);
        let renewing =
            (0..model.subscriptions.len()).filter_map(|number| Some((number, model.charged_next(number)?)));
        let renewing: Vec<(usize, Micros)> = renewing.collect();
        let of = match self.random.below(10) {
            0..6 if !renewing.is_empty() => {
                let (subscription, to) = self.random.of(&renewing);
                if !model.subscriptions[subscription].method.starts_with("pm_stripe_succeeds") {
                    let method = stripe_method("succeeds", None, owner(model, subscription));
                    return Command::SetMethod { subscription, method };
                }
                Command::Advance { to }
            }
            0..3 => {
                let subscription = self.one_that(model, |own| own.status == "active");
                let method = Some(stripe_method("succeeds", None, owner(model, subscription)));
                let plan = self.higher_plan(model, subscription);
                match owner(model, subscription) {
                    NOWHERE => return self.of_kind("subscribe", model),
                    _ => Command::Upgrade { subscription, plan, quote: None, method },
                }
            }
            3..6 => Command::Subscribe {
                customer,
                plan: self.random.of(&PLANS).to_owned(),
                currency: "USD",
                method,
                promotion: None,
                annual: self.random.percent(25),
            },
            _ => return self.top_up_over_another_amount(model),
        };
        Command::PayAnotherAmount { of: Box::new(of), taken }
    }

    /// One that nothing is in the way of.
    fn top_up_over_another_amount(&mut self, model: &Model) -> Command {
        let taken = self.random.of(&TAKEN);
        match self.buy_with(model, "succeeds") {
            of @ Command::BuyTopUp { .. } => Command::PayAnotherAmount { of: Box::new(of), taken },
            other => other,
        }
    }

    /// A parked account; now and then one that is not.
    fn unpark(&mut self, model: &Model) -> Command {
        let parked: Vec<usize> =
            (0..model.customers.len()).filter(|number| model.customers[*number].is_parked).collect();
        let customer = match parked.is_empty() {
            true if model.customers.is_empty() || self.random.percent(60) => {
                return self.top_up_over_another_amount(model);
            }
            true => self.random.index(model.customers.len()),
            false => self.random.of(&parked),
        };
        Command::Unpark { customer, in_order: model.kept_of(customer) }
    }

    /// Mostly of something that was paid.
    fn refund(&mut self, model: &Model) -> Command {
        let seen: Vec<usize> =
            (0..model.invoices.len()).filter(|of| model.invoices[*of].bought != Bought::WithinYear).collect();
        let paid: Vec<usize> =
            seen.iter().copied().filter(|of| model.invoices[*of].status == "paid").collect();
        let from = if !paid.is_empty() && self.random.percent(85) { paid } else { seen };
        if from.is_empty() || self.random.percent(4) {
            return Command::Refund { invoice: NOWHERE, amount: None };
        }
        let invoice = self.random.of(&from);
        let own = &model.invoices[invoice];
        let amount = match self.random.below(4) {
            0 => None,
            _ => Some(1 + self.random.number_below(own.total - own.refunded + 2)),
        };
        Command::Refund { invoice, amount }
    }

    /// A payment that the bank, or the customer at it, has left open.
    fn decide(&mut self, model: &Model) -> Command {
        let open: Vec<usize> =
            (0..model.invoices.len()).filter(|number| model.can_be_decided(*number)).collect();
        if open.is_empty() {
            let kind = self.random.of(&["waits", "processes"]);
            return self.buy_with(model, kind);
        }
        let invoice = self.random.of(&open);
        Command::DecidePayment { invoice, succeeds: self.random.percent(65) }
    }

    /// Of those that were paid there, one; with something left to give back where that is asked for.
    fn paid_at_stripe(&mut self, model: &Model, has_rest: bool) -> Option<usize> {
        let is_so = |number: &usize| {
            let invoice = &model.invoices[*number];
            model.is_paid_at_stripe(*number) && (!has_rest || invoice.refunded < invoice.total)
        };
        let paid: Vec<usize> = (0..model.invoices.len()).filter(is_so).collect();
        if paid.is_empty() { None } else { Some(self.random.of(&paid)) }
    }

    fn refund_elsewhere(&mut self, model: &Model) -> Command {
        let Some(invoice) = self.paid_at_stripe(model, true) else { return self.buy_with(model, "succeeds") };
        let rest = model.invoices[invoice].total - model.invoices[invoice].refunded;
        let amount = if self.random.percent(30) { rest } else { 1 + self.random.number_below(rest) };
        Command::RefundElsewhere { invoice, amount }
    }

    fn close_dispute(&mut self, model: &Model) -> Command {
        let open: Vec<usize> =
            (0..model.disputes.len()).filter(|number| model.disputes[*number].state == "open").collect();
        if open.is_empty() {
            return self.of_kind("open-dispute", model);
        }
        Command::CloseDispute { dispute: self.random.of(&open), is_won: self.random.percent(40) }
    }

    /// One that was lost; where none was, the next step to one.
    fn reverse_dispute(&mut self, model: &Model) -> Command {
        let disputes = model.disputes.iter().enumerate();
        let lost: Vec<usize> =
            disputes.filter(|(_, dispute)| dispute.state == "lost").map(|(number, _)| number).collect();
        if !lost.is_empty() {
            return Command::ReverseDispute { dispute: self.random.of(&lost) };
        }
        match self.close_dispute(model) {
            Command::CloseDispute { dispute, .. } => Command::CloseDispute { dispute, is_won: false },
            other => other,
        }
    }

    /// A top-up with one of Stripe's cards.
    fn buy_with(&mut self, model: &Model, kind: &str) -> Command {
        if model.customers.is_empty() {
            return self.of_kind("create-customer", model);
        }
        let customer = self.random.index(model.customers.len());
        let method = stripe_method(kind, None, customer);
        Command::BuyTopUp { customer, top_up: "topup-10m", currency: "USD", method }
    }

    fn campaign(&mut self, model: &Model) -> Command {
        let tag = self.random.of(&["outage-1", "outage-2", "outage-3", "outage-4"]);
        let known = model.gifts.get(tag).filter(|_| self.random.percent(90));
        let (credits, expires) = match known {
            Some(gift) => (gift.credits, gift.expires),
            None => {
                let days = self.random.number_below(40);
                let expires = self.random.percent(60).then(|| model.now + 1 + days * DAY);
                (1 + self.random.number_below(3_000_000), expires)
            }
        };
        let customers = self.random.percent(40).then(|| {
            let mut named: Vec<usize> =
                (0..model.customers.len()).filter(|_| self.random.percent(60)).collect();
            if self.random.percent(4) {
                named.push(NOWHERE);
            }
            named
        });
        let plan = self.random.percent(25).then(|| self.random.of(&PLANS).to_owned());
        let statuses = ["active", "past_due", "suspended", "canceled"];
        let status = self.random.percent(25).then(|| self.random.of(&statuses));
        Command::Campaign { tag, credits, expires, whom: Whom { customers, plan, status } }
    }

    fn set_auto_top_up(&mut self, model: &Model) -> Command {
        let customer = self.customer(model);
        let code = if self.random.percent(4) { "topup-1b" } else { "topup-10m" };
        let currency = self.random.of(&["USD", "USD", "CNY"]);
        // The last is more than a top-up brings; the cool-offs are long, because a clock stops at the end of each.
        let at = self.random.of(&[0, 5_000, 2_000_000, 15_000_000]);
        let per_cycle = if self.random.percent(4) { 0 } else { 1 + self.random.number_below(5) };
        let cool_off_minutes = self.random.of(&[720, 1_440, 10_080, 44_640]);
        let top_up = AutoTopUp { code, currency, at, per_cycle, cool_off_minutes };
        let method = self.random.percent(70).then(|| self.method(customer));
        Command::SetAutoTopUp { customer, top_up, method }
    }

    /// Of somebody for whom a top-up will be bought; where there is nobody, somebody is set to it.
    fn use_up(&mut self, model: &Model) -> Command {
        let goes_on = |customer: &usize| {
            let of = &model.customers[*customer];
            !of.is_parked && !model.is_suspended(*customer) && of.on_account.accrued == 0
        };
        let all: Vec<usize> = (0..model.customers.len()).filter(goes_on).collect();
        let buys = |customer: &usize| {
            let own = &model.customers[*customer].on_account;
            let pays = own.method.as_deref().is_some_and(|method| method.contains("_succeeds"));
            model.tops_up(*customer) && model.top_ups_left(*customer) > 0 && pays
        };
        let ready: Vec<usize> = all.iter().copied().filter(buys).collect();
        if ready.is_empty() {
            let Some(customer) = (!all.is_empty()).then(|| self.random.of(&all)) else {
                return self.of_kind("create-customer", model);
            };
            let method = match self.random.percent(50) {
                true => "pm_sandbox_succeeds".to_owned(),
                false => stripe_method("succeeds", None, customer),
            };
            let (at, per_cycle) = (self.random.of(&[0, 15_000_000]), 40);
            let top_up =
                AutoTopUp { code: "topup-10m", currency: "USD", at, per_cycle, cool_off_minutes: 1_440 };
            return Command::SetAutoTopUp { customer, top_up, method: Some(method) };
        }
        let customer = self.random.of(&ready);
        let at = model.customers[customer].on_account.top_up.as_ref().map_or(0, |top_up| top_up.at);
        let settled = model.customers[customer].account.settled(model.now);
        let tokens = u64::try_from((settled - self.random.number_below(at + 1)).max(0)).unwrap() / 2 + 1;
        let event = Event {
            source: "gateway/1",
            id: self.new_id("all"),
            customer,
            model: "mimo-v2-pro",
            tokens: [0, 0, 0, tokens],
            reasoning: 0,
            outcome: "completed",
            usage_source: "provider",
            time: None,
            authorization: None,
        };
        Command::UseUp { event }
    }

    /// A prompt, around the bounds of bands often, in up to three kinds.
    fn prompt(&mut self) -> [u64; 3] {
        const BOUNDS: [u64; 8] = [0, 1, 262_143, 262_144, 262_145, 1_048_575, 1_048_576, 1_048_577];
        let tokens = match self.random.below(10) {
            0..3 => self.random.of(&BOUNDS),
            3..8 => self.random.below(20_000),
            _ => self.random.below(1_048_577),
        };
        if self.random.percent(50) {
            return [tokens, 0, 0];
        }
        let cache_read = self.random.below(tokens + 1);
        let cache_write =
            if self.random.percent(40) { self.random.below(tokens - cache_read + 1) } else { 0 };
        [tokens - cache_read - cache_write, cache_read, cache_write]
    }

    fn ask(&mut self, model: &Model, customer: Option<usize>) -> Ask {
        let available =
            customer.filter(|customer| *customer < model.customers.len()).map(|one| model.available(one));
        let near = available.filter(|left| (0..4_000_000).contains(left) && self.random.percent(60));
        let output_max = match self.random.below(4) {
            0 => None,
            1 => Some(0),
            2 => Some(self.random.below(4_000)),
            _ => Some(32_000),
        };
        match near {
            // About what is left: in whole, in part, or just too much.
            Some(left) => {
                let tokens = u64::try_from(left).unwrap() / 2 + self.random.below(3);
                let short = self.random.below(3_000).min(tokens);
                Ask { model: "mimo-v2-pro", prompt: [tokens - short, 0, 0], output_max }
            }
            None => Ask { model: self.random.weighted(&MODELS), prompt: self.prompt(), output_max },
        }
    }

    fn authorize(&mut self, model: &Model) -> Command {
        let customer = self.customer(model);
        // Live or ended; of one that has run out by itself Redis may have lost the id (R-35b).
        // One of a model that is sold for money alone is asked anew whether there is money.
        let is_asked_again = |key: &&(usize, String)| {
            model.now < model.holds[*key].expires && model.holds[*key].ask.model != "mimo-v2-flash"
        };
        let known: Vec<&(usize, String)> = model.holds.keys().filter(is_asked_again).collect();
        if !known.is_empty() && self.random.percent(16) {
            // An id that is taken: mostly for the same request, else for another, or by somebody else.
            let (owner, id) = self.random.of(&known).clone();
            let ask = model.holds[&(owner, id.clone())].ask.clone();
            return match self.random.below(4) {
                0 => Command::Authorize { id, customer: owner, ask: self.ask(model, Some(owner)) },
                1 => Command::Authorize { id, customer, ask },
                _ => Command::Authorize { id, customer: owner, ask },
            };
        }
        Command::Authorize { id: self.new_id("hold"), customer, ask: self.ask(model, Some(customer)) }
    }

    fn release(&mut self, model: &Model) -> Command {
        let known: Vec<&(usize, String)> =
            model.holds.iter().filter(|(_, hold)| is_remembered(model, hold)).map(|(key, _)| key).collect();
        let live: Vec<&(usize, String)> = known.iter().copied().filter(|key| is_live(model, key)).collect();
        let from = if !live.is_empty() && self.random.percent(60) { live } else { known };
        if from.is_empty() || self.random.percent(5) {
            return Command::Release { id: "nobodys".to_owned(), customer: self.customer(model) };
        }
        let (customer, id) = self.random.of(&from).clone();
        let customer = if self.random.percent(5) { self.customer(model) } else { customer };
        Command::Release { id, customer }
    }

    fn event(&mut self, model: &Model) -> Event {
        let sent: Vec<&Event> = model.events.values().map(|counted| &counted.event).collect();
        if !sent.is_empty() && self.random.percent(14) {
            let event = self.random.of(&sent).clone();
            let again = self.again(model, event);
            return self.naming_what_is_known(model, again);
        }
        let customer = self.customer(model);
        let mut event = Event {
            source: self.random.of(&["gateway/1", "gateway/2"]),
            id: self.new_id("call"),
            customer,
            model: self.random.weighted(&MODELS),
            tokens: [0; 4],
            reasoning: 0,
            outcome: self.random.of(&["completed", "completed", "aborted", "failed"]),
            usage_source: self.random.of(&["provider", "provider", "estimate"]),
            time: self.time(model.now),
            authorization: self.authorization(model, customer),
        };
        let [input, cache_read, cache_write] = self.prompt();
        event.tokens = [input, cache_read, cache_write, self.random.below(6_000)];
        let settled = model.customers.get(customer).map_or(0, |own| own.account.settled(model.now));
        if settled > 0 && self.random.percent(12) {
            // About all that is left, at 2x.
            let half = u64::try_from(settled).unwrap() / 2;
            event.model = "mimo-v2-pro";
            event.tokens = [0, 0, 0, (half + 2).saturating_sub(self.random.below(9_000))];
        }
        event.reasoning = match self.random.below(12) {
            0 => event.tokens[3] + 1,
            1..4 => self.random.below(event.tokens[3] + 1),
            _ => 0,
        };
        self.naming_what_is_known(model, event)
    }

    /// The same event again, often with one thing changed.
    fn again(&mut self, model: &Model, mut event: Event) -> Event {
        match self.random.below(8) {
            0 => event.tokens[0] += 1,
            1 => event.outcome = "failed",
            2 => event.time = self.time(model.now),
            3 => event.authorization = self.authorization(model, event.customer),
            4 => event.customer = self.customer(model),
            _ => {}
        }
        event
    }

    /// When it ran: often not said, else in the last days or at a bound of what is taken.
    fn time(&mut self, now: Micros) -> Option<Micros> {
        match self.random.below(20) {
            0..9 => None,
            9..12 => Some(now - self.random.number_below(30 * MINUTE)),
            12..15 => Some(now - self.random.number_below(72 * HOUR)),
            15 => Some(now - 72 * HOUR),
            16 => Some(now - 72 * HOUR - 1),
            17 => Some(now + 5 * MINUTE),
            18 => Some(now + 5 * MINUTE + 1),
            _ => Some(now),
        }
    }

    /// Mostly a hold that is live.
    fn authorization(&mut self, model: &Model, customer: usize) -> Option<String> {
        let own: Vec<&(usize, String)> = model.holds.keys().filter(|key| key.0 == customer).collect();
        let live: Vec<&(usize, String)> = own.iter().copied().filter(|key| is_live(model, key)).collect();
        match self.random.below(20) {
            0..9 if !live.is_empty() => Some(self.random.of(&live).1.clone()),
            9..12 if !own.is_empty() => Some(self.random.of(&own).1.clone()),
            12 => model.holds.keys().find(|key| key.0 != customer).map(|key| key.1.clone()),
            13 => Some("nobodys".to_owned()),
            _ => None,
        }
    }

    /// The event without the name of a hold that only Redis may know of, and may have lost: another
    /// customer's that has not ended (R-29 says: known to be another's).
    fn naming_what_is_known(&self, model: &Model, mut event: Event) -> Event {
        let Some(id) = event.authorization.clone() else { return event };
        let is_remembered = match model.holds.get(&(event.customer, id.clone())) {
            Some(own) => is_remembered(model, own),
            None => model.holds.iter().all(|((_, other), hold)| *other != id || hold.end.is_some()),
        };
        event.authorization = event.authorization.filter(|_| is_remembered);
        event
    }

    fn batch(&mut self, model: &Model) -> Command {
        let count = 1 + self.random.index(8);
        let mut events: Vec<Event> = Vec::new();
        for _ in 0..count {
            // Within a batch too something may be there twice, or capture what another has captured.
            let event = if !events.is_empty() && self.random.percent(15) {
                let twice = events[self.random.index(events.len())].clone();
                let again = self.again(model, twice);
                self.naming_what_is_known(model, again)
            } else {
                self.event(model)
            };
            events.push(event);
        }
        Command::UseBatch { events }
    }

    /// Mostly an event that was counted and not voided, whatever its cycle; also one that was, or that is not there.
    fn void(&mut self, model: &Model) -> Command {
        let reason = self.new_id("reason");
        let counted: Vec<&Counted> = model.events.values().collect();
        let open: Vec<&Counted> = counted.iter().copied().filter(|of| of.voided.is_none()).collect();
        let from = if !open.is_empty() && self.random.percent(85) { open } else { counted };
        if from.is_empty() || self.random.percent(4) {
            return Command::Void { source: "gateway/1", id: "nobodys".to_owned(), reason };
        }
        let event = &from[self.random.index(from.len())].event;
        Command::Void { source: event.source, id: event.id.clone(), reason }
    }

    /// Minutes, hours or days on; often just before, at or after an instant at which something is due.
    fn instant_ahead(&mut self, model: &Model) -> Micros {
        let now = model.now;
        let cycles = model.subscriptions.iter().filter(|own| own.is_live()).filter_map(|own| own.cycle);
        let invoices = model.invoices.iter().filter(|invoice| invoice.status == "open");
        let holds = model.holds.values().map(|hold| hold.expires);
        let mut due: Vec<Micros> = cycles.map(|cycle| cycle.end).collect();
        due.extend(invoices.map(|invoice| invoice.expires).filter(|expires| *expires < Micros::MAX));
        due.extend(model.customers.iter().filter_map(|own| own.on_account.due));
        due.extend(holds);
        due.retain(|instant| *instant > now);
        let random = &mut self.random;
        match random.below(100) {
            0..30 => now + random.number_below(20 * MINUTE),
            30..48 => now + random.number_below(30 * HOUR),
            48..60 => now + random.number_below(10 * DAY),
            60..66 => now + 31 * DAY + random.number_below(10 * DAY),
            66..68 => now - 1,
            68..70 => now,
            70..76 if !due.is_empty() => random.of(&due) - 1,
            76..94 if !due.is_empty() => random.of(&due),
            _ if !due.is_empty() => random.of(&due) + 1 + random.number_below(40 * MINUTE),
            _ => now + 1,
        }
    }
}

/// Whose a subscription is.
fn owner(model: &Model, subscription: usize) -> usize {
    model.subscriptions.get(subscription).map_or(NOWHERE, |own| own.customer)
}

/// Whether what became of a hold is known for certain: of one that ran out Redis may have lost the id.
fn is_remembered(model: &Model, hold: &Hold) -> bool {
    hold.end.is_some() || model.now < hold.expires
}

fn is_live(model: &Model, key: &(usize, String)) -> bool {
    let hold = &model.holds[key];
    hold.end.is_none() && model.now < hold.expires
}
