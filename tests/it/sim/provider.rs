//! A seed's account at the payment provider: its cards, what happens on the provider's own site, and how Tollgate hears
//! of it.

use std::collections::{HashMap, HashSet};

use domain::id::TenantId;
use domain::model::Model;
use serde_json::Value;
use stripe_double::{Behaviour, Call, Fault, Options, StripeDouble, signature};

use super::generate::{STRIPE_CARDS, STRIPE_METHODS, stripe_method};
use super::random::Random;

/// What the webhooks of every account are signed with.
pub const SIGNING_SECRET: &str = "whsec_of_the_simulation_01";

/// An account with the events that Tollgate was told of.
pub struct Account {
    double: StripeDouble,
    tenant: TenantId,
    /// By the model's names.
    methods: HashMap<String, String>,
    told: HashSet<String>,
    /// By the model's numbers.
    disputes: Vec<String>,
}

/// The secret key of a seed's account.
pub fn secret_key(seed: u64) -> String {
    format!("sk_test_seed{seed:012}")
}

impl Account {
    /// An account of a seed's own, with every card that its customers may have.
    pub fn open(site: &StripeDouble, seed: u64, tenant: TenantId) -> Account {
        let options = Options { seed, secret_keys: vec![secret_key(seed)], ..Options::default() };
        let double = site.another_account(options);
        let mut methods = HashMap::new();
        for customer in 0..super::generate::CUSTOMERS_MAX {
            for (_, kind) in STRIPE_METHODS {
                for card in STRIPE_CARDS.into_iter().chain([None]) {
                    let behaviour = match kind {
                        "succeeds" => Behaviour::Succeeds,
                        "declines" => Behaviour::Declines("insufficient_funds".to_owned()),
                        "waits" => Behaviour::NeedsCustomer,
                        "processes" => Behaviour::Processes,
                        other => panic!("no card {other}"),
                    };
                    let name = stripe_method(kind, card, customer);
                    let (_, card) = name.split_once(':').unwrap();
                    let card = card.split('/').next().unwrap();
                    methods.insert(name.clone(), double.card(card, behaviour));
                }
            }
        }
        Account { double, tenant, methods, told: HashSet::new(), disputes: Vec::new() }
    }

    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// What a method is called at the provider.
    pub fn method(&self, name: &str) -> String {
        self.methods.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }

    /// Now and then the next charge goes wrong in a way that Tollgate gets over at once: by the same key, or by a look.
    pub fn sow_trouble(&self, random: &mut Random) {
        // Two for one charge would leave its payment undecided for a minute.
        if !random.percent(20) || self.double.faults_waiting() > 0 {
            return;
        }
        let fault = match random.below(5) {
            0 => Fault::Late(20),
            1 => Fault::Lost,
            2 => Fault::ActThenReset,
            3 => Fault::ActThenError,
            _ => Fault::Garbled,
        };
        self.double.fault(Call::CreateIntent, fault);
    }

    /// The next charge takes so much, whatever it is asked for, and nothing else goes wrong with it.
    pub fn take_instead(&self, amount: i64) {
        self.double.forget_faults();
        self.double.fault(Call::CreateIntent, Fault::TakeInstead(amount));
    }

    /// Nothing goes wrong with the next charge.
    pub fn forget_trouble(&self) {
        self.double.forget_faults();
    }

    /// The payment of an invoice that somebody still has to decide is decided.
    pub fn decide(&self, invoice: &str, succeeds: bool) {
        for intent in self.double.intents().iter().filter(|intent| is_of(intent, invoice)) {
            let id = intent["id"].as_str().unwrap();
            match intent["status"].as_str() {
                Some("processing") => self.double.settle(id, succeeds),
                Some("requires_action" | "requires_payment_method") => self.double.authenticate(id, succeeds),
                _ => {}
            }
        }
    }

    pub fn refund(&self, invoice: &str, amount: i64) {
        if let Some(intent) = self.paid_with(invoice) {
            self.double.refund(&intent, amount);
        }
    }

    pub fn open_dispute(&mut self, invoice: &str) {
        if let Some(intent) = self.paid_with(invoice) {
            self.disputes.push(self.double.open_dispute(&intent));
        }
    }

    pub fn close_dispute(&self, number: usize, is_won: bool) {
        if let Some(dispute) = self.disputes.get(number) {
            self.double.close_dispute(dispute, is_won);
        }
    }

    /// The payment over another amount than the invoice's goes back.
    pub fn give_back_instead(&self, invoice: &str) {
        for intent in self.double.intents().iter().filter(|intent| is_of(intent, invoice)) {
            if intent["status"] == "succeeded" && !is_as_asked(intent) {
                self.double
                    .refund(intent["id"].as_str().unwrap(), intent["amount_received"].as_i64().unwrap());
            }
        }
    }

    fn paid_with(&self, invoice: &str) -> Option<String> {
        let intents = self.double.intents();
        let is_it = |intent: &&Value| {
            is_of(intent, invoice) && intent["status"] == "succeeded" && is_as_asked(intent)
        };
        intents.iter().find(is_it).map(|intent| intent["id"].as_str().unwrap().to_owned())
    }

    /// What is kept of an invoice's money there.
    pub fn kept(&self, invoice: &str) -> i64 {
        self.double.kept_of("tollgate_invoice", invoice)
    }

    /// All payments that succeeded over what they were asked for, by their ids.
    pub fn taken(&self) -> Vec<(String, i64)> {
        let is_so = |intent: &Value| intent["status"] == "succeeded" && is_as_asked(intent);
        let succeeded = self.double.intents().into_iter().filter(is_so);
        let mut taken: Vec<(String, i64)> = succeeded
            .map(|intent| {
                (intent["id"].as_str().unwrap().to_owned(), intent["amount_received"].as_i64().unwrap())
            })
            .collect();
        taken.sort();
        taken
    }

    /// What it has to tell that it has not told; from now on it has.
    pub fn news(&mut self) -> Vec<Value> {
        let id = |event: &Value| event["id"].as_str().unwrap().to_owned();
        let news: Vec<Value> =
            self.double.events().into_iter().filter(|event| !self.told.contains(&id(event))).collect();
        self.told.extend(news.iter().map(id));
        news
    }

    /// All that it ever told.
    pub fn everything(&self) -> Vec<Value> {
        self.double.events()
    }
}

fn is_of(intent: &Value, invoice: &str) -> bool {
    intent["metadata"]["tollgate_invoice"] == *invoice
}

/// Whether it took what it was asked for.
fn is_as_asked(intent: &Value) -> bool {
    intent["amount_received"] == intent["amount"]
}

/// The body and the signature of an event that is sent now.
pub fn signed(event: &Value) -> (String, String) {
    let body = event.to_string();
    let signature = signature(SIGNING_SECRET, chrono::Utc::now().timestamp(), &body);
    (body, signature)
}

/// How Tollgate hears of what has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    InOrder,
    Shuffled,
    /// Each twice, one after the other.
    Twice,
    /// Each to both servers at once.
    AtOnce,
    /// A half of them never; Tollgate finds those in the provider's list.
    HalfLost,
}

impl Telling {
    pub fn any(random: &mut Random) -> Telling {
        random.of(&[Telling::InOrder, Telling::Shuffled, Telling::Twice, Telling::AtOnce, Telling::HalfLost])
    }
}

/// What the provider must have kept of an invoice once everything is at rest.
pub fn kept_by_the_model(model: &Model, invoice: usize) -> i64 {
    let own = &model.invoices[invoice];
    let instead = own.taken_instead.filter(|_| model.is_taken_instead(invoice));
    if let Some(taken) = instead {
        return taken;
    }
    if model.is_paid_at_stripe(invoice) { own.total - own.refunded } else { 0 }
}
