//! A tenant: what it sells, who its customers are, and what time it is.

use std::collections::BTreeMap;

use super::account::Account;
use super::calendar::{Micros, month_start_after, months_after};
use super::command::{Answer, Command, Noun, Plain};
use super::holds::Hold;
use super::payg::OnAccount;
use super::rates::ModelBand;
use super::usage::Counted;

/// A plan of a catalogue.
#[derive(Debug, Clone)]
pub struct ModelPlan {
    pub code: &'static str,
    pub rank: u32,
    pub credits: i64,
    /// Currency and minor units a cycle.
    pub prices: Vec<(&'static str, i64)>,
    /// The same of a year of twelve cycles.
    pub annual_prices: Vec<(&'static str, i64)>,
}

impl ModelPlan {
    pub(super) fn price(&self, currency: &str, is_annual: bool) -> Option<i64> {
        let prices = if is_annual { &self.annual_prices } else { &self.prices };
        prices.iter().find(|(code, _)| *code == currency).map(|(_, price)| *price)
    }
}

/// Credits apart from a plan.
#[derive(Debug, Clone)]
pub struct ModelTopUp {
    pub code: &'static str,
    pub credits: i64,
    /// How long they last; none for ever.
    pub lasts: Option<Micros>,
    /// Currency and minor units.
    pub prices: Vec<(&'static str, i64)>,
}

/// A discount on a first cycle.
#[derive(Debug, Clone)]
pub struct ModelPromotion {
    pub code: &'static str,
    pub off_bps: i64,
    /// The plans that it is for; all where it names none.
    pub plans: Vec<&'static str>,
}

/// The rates of one AI model.
#[derive(Debug, Clone)]
pub struct ModelRates {
    pub model: &'static str,
    /// The most output that it makes, in tokens.
    pub output_max: Option<u64>,
    pub bands: Vec<ModelBand>,
    /// When the rates of all its bands end.
    pub until: Option<Micros>,
}

/// A catalogue version.
#[derive(Debug, Clone)]
pub struct ModelCatalog {
    pub version: u32,
    pub effective: Micros,
    pub plans: Vec<ModelPlan>,
    pub top_ups: Vec<ModelTopUp>,
    pub promotions: Vec<ModelPromotion>,
    pub models: Vec<ModelRates>,
}

impl ModelCatalog {
    pub(super) fn plan(&self, code: &str) -> Option<&ModelPlan> {
        self.plans.iter().find(|plan| plan.code == code)
    }
}

/// A customer.
#[derive(Debug, Clone)]
pub struct Customer {
    pub external_id: String,
    /// Nothing is authorized, and what was used is kept, until an operator has looked.
    pub is_parked: bool,
    pub account: Account,
    pub on_account: OnAccount,
}

/// A cycle of a subscription, from its start up to, and without, its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cycle {
    pub number: u32,
    pub start: Micros,
    pub end: Micros,
}

/// A subscription.
#[derive(Debug, Clone)]
pub struct Subscription {
    pub customer: usize,
    pub status: &'static str,
    pub plan: String,
    pub catalog: u32,
    pub currency: &'static str,
    pub method: String,
    /// Off the running cycle's price, in basis points.
    pub discount: i64,
    /// When it was activated: what its cycles are counted from.
    pub anchor: Option<Micros>,
    pub cycle: Option<Cycle>,
    /// Its cycles are calendar months.
    pub is_calendar: bool,
    /// The days of a month that the running cycle covers, of all of them.
    pub share: (i64, i64),
    /// Paid for by the year.
    pub is_annual: bool,
    /// The cycle that the running year was paid with.
    pub annual_from: Option<u32>,
    /// It moves to the version in force at its next renewal.
    pub migrates: bool,
    pub cancels_at_end: bool,
    pub scheduled: Option<String>,
    pub created: Micros,
    pub ended: Option<Micros>,
    /// It is suspended because a dispute was lost, and no operator has said so too.
    pub is_suspended_by_dispute: bool,
    /// The promotion that it reserved, and the card that it reserved it with.
    pub promotion: Option<(&'static str, Option<String>)>,
}

impl Subscription {
    ///
    pub fn is_live(&self) -> bool {
        ["incomplete", "active", "past_due", "suspended"].contains(&self.status)
    }

    /// The cycle that what is paid for began with.
    pub(super) fn paid_with(&self) -> u32 {
        self.annual_from.or(self.cycle.map(|cycle| cycle.number)).unwrap_or(0)
    }

    /// The first cycle that is not paid for any more.
    pub(super) fn renewal(&self) -> u32 {
        self.paid_with() + if self.is_annual { 12 } else { 1 }
    }

    /// Whether what is paid for ends with the current cycle (R-22b).
    pub(super) fn is_last_of_term(&self) -> bool {
        self.cycle.is_none_or(|cycle| cycle.number + 1 >= self.renewal())
    }

    /// When it does.
    pub(super) fn renews(&self) -> Option<Micros> {
        Some(self.bound(self.anchor?, self.renewal()))
    }

    /// Where the cycle of this number begins.
    pub(super) fn bound(&self, anchor: Micros, number: u32) -> Micros {
        if self.is_calendar && number > 0 {
            month_start_after(anchor, number)
        } else {
            months_after(anchor, number)
        }
    }
}

/// What an invoice is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bought {
    FirstCycle,
    Upgrade,
    Renewal,
    /// A cycle that its year had paid for: no invoice that anybody sees, but the grant is numbered as one.
    WithinYear,
    TopUp,
    /// A top-up that was bought because the Credits ran out.
    AutomaticTopUp,
    /// What was used by the token.
    Usage,
}

/// An invoice with the one thing that it is for.
#[derive(Debug, Clone)]
pub struct Invoice {
    pub customer: usize,
    pub currency: &'static str,
    /// None of a top-up.
    pub subscription: Option<usize>,
    /// Its place among all that was bought or given.
    pub made: usize,
    pub bought: Bought,
    /// What had paid for it, of a cycle within a year.
    pub paid_by: Option<usize>,
    /// The cycle that it is for.
    pub cycle: u32,
    pub plan: String,
    pub catalog: u32,
    pub credits: i64,
    pub list_price: i64,
    pub total: i64,
    /// `open`, `paid` or `void`.
    pub status: &'static str,
    /// Whether the provider has a payment that it has not decided.
    pub is_in_flight: bool,
    /// Whether that waits for its customer.
    pub is_customers_turn: bool,
    /// Whether a payment of it is at the bank, which lets nobody give it up, whatever became of the invoice since.
    pub is_at_bank: bool,
    /// What a payment has taken that was not what the invoice asks for: it pays nothing.
    pub taken_instead: Option<i64>,
    /// Whether all of that has gone back.
    pub is_given_back: bool,
    /// What the last payment was tried with.
    pub tried_with: String,
    pub created: Micros,
    pub expires: Micros,
    pub paid: Option<Micros>,
    /// What has gone back of the total.
    pub refunded: i64,
    /// Of an unpaid renewal, when it is tried again.
    pub next_try: Option<Micros>,
    /// Its payments that have failed or were given up.
    pub failed_tries: u32,
}

/// A locked upgrade price.
#[derive(Debug, Clone)]
pub struct Quote {
    pub subscription: usize,
    pub cycle: u32,
    pub from: String,
    pub to: String,
    pub catalog: u32,
    pub amount: i64,
    pub credits: i64,
    pub expires: Micros,
}

/// A payment whose money the customer's bank wants back.
#[derive(Debug, Clone)]
pub struct Dispute {
    pub invoice: usize,
    /// `open`, `won` or `lost`.
    pub state: &'static str,
    /// The versions of the transfers that took Credits for it, until they are given back.
    pub revoked_by: Vec<i64>,
}

/// What was found when a part of a payment went back.
#[derive(Debug, Clone)]
pub struct Refunded {
    pub invoice: usize,
    /// What had gone back by then.
    pub refunded: i64,
    /// The Credits of it that were not there any more.
    pub short: i64,
}

/// What a tag of campaigns gives, and who has had it.
#[derive(Debug, Clone)]
pub struct Gift {
    pub credits: i64,
    pub expires: Option<Micros>,
    pub given_to: Vec<usize>,
}

/// What a tenant carries over.
#[derive(Debug, Clone, Copy)]
pub struct ModelRollover {
    pub share_bps: i64,
    pub cap: i64,
    pub cycles: u32,
}

/// What a tenant has other than the defaults.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelPolicies {
    /// Cycles of new monthly subscriptions are calendar months.
    pub is_calendar: bool,
    pub rollover: Option<ModelRollover>,
}

/// A tenant whose zone is UTC.
#[derive(Debug, Clone)]
pub struct Model {
    pub now: Micros,
    pub policies: ModelPolicies,
    pub catalogs: Vec<ModelCatalog>,
    pub customers: Vec<Customer>,
    pub subscriptions: Vec<Subscription>,
    pub invoices: Vec<Invoice>,
    pub quotes: Vec<Quote>,
    pub disputes: Vec<Dispute>,
    pub refunds: Vec<Refunded>,
    /// What the next charge at Stripe takes instead of its amount.
    pub takes_instead: Option<i64>,
    /// By tag.
    pub gifts: BTreeMap<&'static str, Gift>,
    /// How many things were bought or given.
    pub made: usize,
    /// How many things were given.
    pub given: usize,
    /// By customer and id.
    pub holds: BTreeMap<(usize, String), Hold>,
    /// By source and id.
    pub events: BTreeMap<(&'static str, String), Counted>,
}

impl Model {
    /// A tenant that sells these catalogue versions and has nobody yet.
    pub fn new(now: Micros, catalogs: Vec<ModelCatalog>, policies: ModelPolicies) -> Model {
        Model {
            now,
            policies,
            catalogs,
            customers: Vec::new(),
            subscriptions: Vec::new(),
            invoices: Vec::new(),
            quotes: Vec::new(),
            disputes: Vec::new(),
            refunds: Vec::new(),
            takes_instead: None,
            gifts: BTreeMap::new(),
            made: 0,
            given: 0,
            holds: BTreeMap::new(),
            events: BTreeMap::new(),
        }
    }

    /// Does it, and says what Tollgate must answer.
    pub fn apply(&mut self, command: &Command) -> Answer {
        match command {
            Command::CreateCustomer { external_id } => self.create_customer(external_id),
            Command::Subscribe { customer, plan, currency, method, promotion, annual } => {
                self.subscribe(*customer, plan, (*currency, *annual), method, promotion.as_deref())
            }
            Command::PreviewUpgrade { subscription, plan } => self.preview(*subscription, plan),
            Command::Upgrade { subscription, plan, quote, method } => {
                self.upgrade(*subscription, plan, *quote, method.as_deref())
            }
            Command::Cancel { subscription, at_once, refund } => {
                self.cancel(*subscription, *at_once, *refund)
            }
            Command::WithdrawCancel { subscription } => self.withdraw_cancel(*subscription),
            Command::SchedulePlan { subscription, plan } => self.schedule(*subscription, plan),
            Command::WithdrawPlan { subscription } => self.withdraw_plan(*subscription),
            Command::Migrate { subscription } => self.migrate(*subscription),
            Command::WithdrawMigration { subscription } => self.withdraw_migration(*subscription),
            Command::SetMethod { subscription, method } => self.set_method(*subscription, method),
            Command::PayInvoice { invoice, method } => self.pay(*invoice, method.as_deref()),
            Command::BuyTopUp { customer, top_up, currency, method } => {
                self.buy_top_up(*customer, top_up, currency, method)
            }
            Command::PayAnotherAmount { of, taken } => {
                self.takes_instead = Some(*taken);
                let answer = self.apply(of);
                self.takes_instead = None;
                answer
            }
            Command::Unpark { customer, in_order } => self.unpark(*customer, in_order),
            Command::Refund { invoice, amount } => self.refund(*invoice, *amount),
            Command::Suspend { subscription } => self.suspend(*subscription),
            Command::Resume { subscription } => self.resume(*subscription),
            Command::DecidePayment { invoice, succeeds } => self.decide(*invoice, *succeeds),
            Command::RefundElsewhere { invoice, amount } => self.refund_elsewhere(*invoice, *amount),
            Command::GiveBackInstead { invoice } => self.give_back_instead(*invoice),
            Command::OpenDispute { invoice } => self.open_dispute(*invoice),
            Command::CloseDispute { dispute, is_won } => self.close_dispute(*dispute, *is_won),
            Command::ReverseDispute { dispute } => self.close_dispute(*dispute, true),
            Command::TellAgain => Model::told(),
            Command::SetExhaustion { customer, cap, method } => {
                self.set_exhaustion(*customer, (*cap, None), method.as_deref())
            }
            Command::SetAutoTopUp { customer, top_up, method } => {
                self.set_exhaustion(*customer, (None, Some(top_up)), method.as_deref())
            }
            Command::ReadExhaustion { customer } => self.read_exhaustion(*customer),
            Command::Campaign { tag, credits, expires, whom } => self.campaign(tag, *credits, *expires, whom),
            Command::Give { customer, source, credits, expires } => {
                self.give(*customer, source, *credits, *expires)
            }
            Command::Price { ask } => self.price(ask),
            Command::Authorize { id, customer, ask } => self.authorize(id, *customer, ask),
            Command::Release { id, customer } => self.release(id, *customer),
            Command::Use { event } | Command::UseUp { event } => self.use_one(event),
            Command::UseBatch { events } => self.use_batch(events),
            Command::Void { source, id, reason } => self.void(source, id, reason),
            Command::Advance { to } => self.advance(*to),
            Command::Jump { to } => self.jump(*to),
            Command::ReadBalance { customer } => self.read_balance(*customer),
            Command::ReadSubscription { subscription } => self.read_subscription(*subscription),
            Command::ListGrants { customer } => self.list_grants(*customer),
            Command::ListTransfers { customer } => self.list_transfers(*customer),
            Command::ListInvoices { customer } => self.list_invoices(*customer),
            Command::ListSubscriptions { customer } => self.list_subscriptions(*customer),
        }
    }

    fn create_customer(&mut self, external_id: &str) -> Answer {
        if self.customers.iter().any(|customer| customer.external_id == external_id) {
            return Answer::no(409, "customer-exists");
        }
        self.customers.push(Customer {
            external_id: external_id.to_owned(),
            is_parked: false,
            account: Account::default(),
            on_account: OnAccount::default(),
        });
        Answer::ok(201)
            .with("/id", Plain::Id(Noun::Customer, self.customers.len() - 1))
            .with("/external_id", external_id)
            .with("/created_at", Plain::At(self.now))
    }

    /// The version in force.
    pub(super) fn catalog_at(&self, instant: Micros) -> Option<&ModelCatalog> {
        self.catalogs.iter().filter(|catalog| catalog.effective <= instant).max_by_key(|c| c.effective)
    }

    /// The plan as it was bought.
    pub(super) fn plan_of(&self, plan: &str, version: u32) -> &ModelPlan {
        self.catalogs
            .iter()
            .find(|catalog| catalog.version == version)
            .and_then(|catalog| catalog.plan(plan))
            .unwrap_or_else(|| panic!("nobody can have bought {plan} of version {version}"))
    }

    pub(super) fn version_of(&self, customer: usize) -> i64 {
        self.customers[customer].account.version()
    }
}
