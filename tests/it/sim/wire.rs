//! A command as HTTP requests, and an answer compared with what the model says.

use std::collections::HashMap;

use chrono::{DateTime, SecondsFormat};
use domain::id::TenantId;
use domain::model::calendar::Micros;
use domain::model::{Answer, Ask, Command, Event, Noun, Plain};
use reqwest::Method;
use serde_json::{Value, json};

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Got {
    pub status: u16,
    pub body: Value,
}

/// One request of a command.
pub struct Call {
    pub method: Method,
    pub path: String,
    pub body: Option<Value>,
    /// Whether the path is a list's, to be read page by page.
    pub is_list: bool,
}

/// The ids that Tollgate made, by the model's numbers, and back.
#[derive(Default, Clone)]
pub struct Ids {
    by_number: HashMap<(Noun, usize), String>,
    by_id: HashMap<String, (Noun, usize)>,
    pub tenant: Option<TenantId>,
    /// What payment methods are called at the provider.
    methods: HashMap<String, String>,
}

impl Ids {
    pub fn new(tenant: TenantId, methods: impl Iterator<Item = (String, String)>) -> Ids {
        Ids { tenant: Some(tenant), methods: methods.collect(), ..Ids::default() }
    }

    /// One of the sandbox's is called what it is.
    fn method<'a>(&'a self, name: &'a str) -> &'a str {
        self.methods.get(name).map_or(name, String::as_str)
    }

    /// The id of a thing; one that does not exist for a number that is not known.
    pub fn id(&self, noun: Noun, number: usize) -> String {
        let prefix = match noun {
            Noun::Customer => "cus",
            Noun::Subscription => "sub",
            Noun::Invoice => "inv",
            Noun::Grant => "gra",
            Noun::Quote => "quo",
        };
        self.by_number.get(&(noun, number)).cloned().unwrap_or_else(|| format!("{prefix}_{number:032x}"))
    }

    pub fn knows(&self, noun: Noun, number: usize) -> bool {
        self.by_number.contains_key(&(noun, number))
    }

    pub fn learn(&mut self, noun: Noun, number: usize, id: &str) {
        self.by_number.insert((noun, number), id.to_owned());
        self.by_id.insert(id.to_owned(), (noun, number));
    }

    /// What is not as the model says, a line each; learns the ids where everything is.
    pub fn compare(&mut self, expected: &Answer, got: &Got) -> Result<(), String> {
        let mut wrong = Vec::new();
        let mut learned = Vec::new();
        if got.status != expected.status {
            wrong.push(format!("status: {} where the model says {}", got.status, expected.status));
        }
        let code = code(&got.body);
        if code != expected.code {
            wrong.push(format!("code: {code:?} where the model says {:?}", expected.code));
        }
        if wrong.is_empty() {
            for (pointer, plain) in &expected.facts {
                let value = got.body.pointer(pointer);
                if !self.is_as_told(plain, value, &mut learned) {
                    let shown = value.map_or("nothing".to_owned(), Value::to_string);
                    wrong.push(format!("{pointer}: {shown} where the model says {}", self.shown(plain)));
                }
            }
        }
        if !wrong.is_empty() {
            return Err(wrong.join("\n"));
        }
        for (noun, number, id) in learned {
            self.learn(noun, number, &id);
        }
        Ok(())
    }

    /// Whether an answer is as expected, without learning from it.
    pub fn tells(&self, expected: &Answer, got: &Got) -> bool {
        self.clone().compare(expected, got).is_ok()
    }

    fn is_as_told(
        &self,
        plain: &Plain,
        value: Option<&Value>,
        learned: &mut Vec<(Noun, usize, String)>,
    ) -> bool {
        let Some(value) = value else { return false };
        match plain {
            Plain::Number(number) => value.as_i64() == Some(*number),
            Plain::Text(text) => value.as_str() == Some(self.method(text)),
            Plain::Flag(flag) => value.as_bool() == Some(*flag),
            Plain::At(instant) => value.as_str() == Some(&written(*instant)),
            Plain::Length(length) => value.as_array().map(Vec::len) == Some(*length),
            Plain::Null => value.is_null(),
            Plain::Id(noun, number) => {
                let Some(id) = value.as_str() else { return false };
                match (self.by_number.get(&(*noun, *number)), self.by_id.get(id)) {
                    (Some(known), _) => known == id,
                    (None, Some(_)) => false,
                    (None, None) => {
                        learned.push((*noun, *number, id.to_owned()));
                        true
                    }
                }
            }
        }
    }

    fn shown(&self, plain: &Plain) -> String {
        match plain {
            Plain::At(instant) => written(*instant),
            Plain::Id(noun, number) => format!("{noun:?} {number} ({})", self.id(*noun, *number)),
            other => format!("{other:?}"),
        }
    }

    /// The requests of a command, in order: the last one's answer is the command's.
    pub fn calls(&self, command: &Command) -> Vec<Call> {
        let customer = |number: &usize| self.id(Noun::Customer, *number);
        let subscription = |number: &usize| self.id(Noun::Subscription, *number);
        let of = |number: &usize, rest: &str| format!("/v1/subscriptions/{}{rest}", subscription(number));
        let call = match command {
            Command::CreateCustomer { external_id } => {
                post("/v1/customers".to_owned(), json!({ "external_id": external_id }))
            }
            Command::Subscribe { customer: whose, plan, currency, method, promotion, annual } => {
                let mut body = json!({"customer": customer(whose), "plan": plan, "currency": currency,
                    "payment_method": self.method(method)});
                if *annual {
                    body["term"] = json!("annual");
                }
                set(&mut body, "promotion", promotion.as_deref());
                post("/v1/subscriptions".to_owned(), body)
            }
            Command::PreviewUpgrade { subscription, plan } => {
                post(of(subscription, "/upgrade-preview"), json!({ "plan": plan }))
            }
            Command::Upgrade { subscription, plan, quote, method } => {
                let mut body = json!({ "plan": plan });
                set(&mut body, "quote", quote.map(|quote| self.id(Noun::Quote, quote)));
                set(&mut body, "payment_method", method.as_deref().map(|method| self.method(method)));
                post(of(subscription, "/upgrade"), body)
            }
            Command::Cancel { subscription, at_once, refund } => {
                let mut body = json!({ "at_once": at_once });
                if *refund {
                    body["refund"] = json!(true);
                }
                post(of(subscription, "/cancel"), body)
            }
            Command::WithdrawCancel { subscription } => bare(Method::DELETE, of(subscription, "/cancel")),
            Command::SchedulePlan { subscription, plan } => {
                put(of(subscription, "/scheduled-plan"), json!({ "plan": plan }))
            }
            Command::WithdrawPlan { subscription } => {
                bare(Method::DELETE, of(subscription, "/scheduled-plan"))
            }
            Command::Migrate { subscription } => bare(Method::PUT, of(subscription, "/migration")),
            Command::WithdrawMigration { subscription } => {
                bare(Method::DELETE, of(subscription, "/migration"))
            }
            Command::SetMethod { subscription, method } => {
                put(of(subscription, "/payment-method"), json!({ "payment_method": self.method(method) }))
            }
            Command::PayInvoice { invoice, method } => {
                let mut body = json!({});
                set(&mut body, "payment_method", method.as_deref().map(|method| self.method(method)));
                post(format!("/v1/invoices/{}/pay", self.id(Noun::Invoice, *invoice)), body)
            }
            Command::BuyTopUp { customer: whose, top_up, currency, method } => post(
                "/v1/top-ups".to_owned(),
                json!({"customer": customer(whose), "top_up": top_up, "currency": currency,
                    "payment_method": self.method(method)}),
            ),
            Command::PayAnotherAmount { of, .. } => return self.calls(of),
            Command::Refund { invoice, amount } => {
                let mut body = json!({});
                set(&mut body, "amount_minor", *amount);
                post(format!("/v1/invoices/{}/refunds", self.id(Noun::Invoice, *invoice)), body)
            }
            Command::Suspend { subscription } => post(of(subscription, "/suspend"), json!({})),
            Command::Resume { subscription } => bare(Method::POST, of(subscription, "/resume")),
            Command::Campaign { tag, credits, expires, whom } => {
                let mut body = json!({"tag": tag, "credits": credits, "reason": "a test", "filter": {}});
                set(&mut body, "expires_at", expires.map(written));
                let named = whom.customers.as_ref();
                set(
                    &mut body,
                    "customers",
                    named.map(|named| named.iter().map(customer).collect::<Vec<_>>()),
                );
                set(&mut body["filter"], "plan", whom.plan.as_deref());
                set(&mut body["filter"], "status", whom.status);
                post("/v1/campaigns".to_owned(), body)
            }
            Command::SetExhaustion { customer: whose, cap, method } => {
                let mut body = json!({ "exhaustion": if cap.is_some() { "payg" } else { "absorb" } });
                set(&mut body, "spend_cap_minor", *cap);
                set(&mut body, "payment_method", method.as_deref().map(|method| self.method(method)));
                put(format!("/v1/customers/{}/exhaustion", customer(whose)), body)
            }
            Command::SetAutoTopUp { customer: whose, top_up, method } => {
                let mut body = json!({"exhaustion": "topup", "auto_top_up": {"top_up": top_up.code,
                    "currency": top_up.currency, "at_credits_left": top_up.at,
                    "per_cycle_max": top_up.per_cycle, "cool_off_minutes": top_up.cool_off_minutes}});
                set(&mut body, "payment_method", method.as_deref().map(|method| self.method(method)));
                put(format!("/v1/customers/{}/exhaustion", customer(whose)), body)
            }
            Command::ReadExhaustion { customer: whose } => {
                bare(Method::GET, format!("/v1/customers/{}/exhaustion", customer(whose)))
            }
            Command::DecidePayment { .. }
            | Command::RefundElsewhere { .. }
            | Command::GiveBackInstead { .. }
            | Command::OpenDispute { .. }
            | Command::CloseDispute { .. }
            | Command::ReverseDispute { .. }
            | Command::TellAgain => panic!("{command:?} happens at the provider"),
            Command::Unpark { .. } => panic!("{command:?} is asked for in a terminal"),
            Command::Give { customer: whose, source, credits, expires } => {
                let mut body = json!({"source": source, "credits": credits, "reason": "a test"});
                set(&mut body, "expires_at", expires.map(written));
                post(format!("/v1/customers/{}/grants", customer(whose)), body)
            }
            Command::Price { ask } => post("/v1/authorizations/price".to_owned(), asked(ask)),
            Command::Authorize { id, customer: whose, ask } => {
                let mut body = asked(ask);
                body["id"] = json!(id);
                body["customer"] = json!(customer(whose));
                post("/v1/authorizations".to_owned(), body)
            }
            Command::Release { id, customer: whose } => {
                let body = json!({ "customer": customer(whose) });
                post(format!("/v1/authorizations/{id}/release"), body)
            }
            Command::Use { event } | Command::UseUp { event } => {
                post("/v1/usage/events".to_owned(), self.event(event))
            }
            Command::UseBatch { events } => {
                let events: Vec<Value> = events.iter().map(|event| self.event(event)).collect();
                post("/v1/usage/events".to_owned(), json!(events))
            }
            Command::Void { source, id, reason } => {
                // `gateway/1` is a part of a query as it is.
                post(format!("/v1/usage/events/{id}/void?source={source}"), json!({ "reason": reason }))
            }
            Command::Advance { to } => {
                post("/v1/test-clock/advance".to_owned(), json!({ "to": written(*to) }))
            }
            Command::Jump { to } => {
                let set = put("/v1/test-clock".to_owned(), json!({ "now": written(*to) }));
                return vec![set, bare(Method::POST, "/v1/rollovers".to_owned())];
            }
            Command::ReadBalance { customer: whose } => {
                bare(Method::GET, format!("/v1/customers/{}/balance", customer(whose)))
            }
            Command::ReadSubscription { subscription } => bare(Method::GET, of(subscription, "")),
            Command::ListGrants { customer: whose } => {
                list(format!("/v1/customers/{}/grants?", customer(whose)))
            }
            Command::ListTransfers { customer: whose } => {
                list(format!("/v1/customers/{}/ledger?", customer(whose)))
            }
            Command::ListInvoices { customer: whose } => {
                list(format!("/v1/invoices?customer={}&", customer(whose)))
            }
            Command::ListSubscriptions { customer: whose } => {
                list(format!("/v1/subscriptions?customer={}&", customer(whose)))
            }
        };
        vec![call]
    }

    fn event(&self, event: &Event) -> Value {
        let [input, cache_read, cache_write, output] = event.tokens;
        let mut body = json!({
            "source": event.source,
            "id": event.id,
            "customer": self.id(Noun::Customer, event.customer),
            "model": event.model,
            "usage": {"input": input, "cache_read": cache_read, "cache_write": cache_write, "output": output,
                "reasoning": event.reasoning},
            "outcome": event.outcome,
            "usage_source": event.usage_source,
        });
        set(&mut body, "time", event.time.map(written));
        set(&mut body, "authorization", event.authorization.as_deref());
        body
    }
}

/// The code of a problem, or of "out of Credits".
fn code(body: &Value) -> Option<&str> {
    let of_problem =
        body["type"].as_str().and_then(|kind| kind.strip_prefix("https://tollgate.dev/problems/"));
    of_problem.or_else(|| body["error"]["code"].as_str())
}

pub fn written(instant: Micros) -> String {
    DateTime::from_timestamp_micros(instant).unwrap().to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn asked(ask: &Ask) -> Value {
    let [input, cache_read, cache_write] = ask.prompt;
    let prompt = json!({"input": input, "cache_read": cache_read, "cache_write": cache_write});
    let mut body = json!({"model": ask.model, "prompt": prompt});
    set(&mut body, "max_output_tokens", ask.output_max);
    body
}

fn set(body: &mut Value, field: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        body[field] = value.into();
    }
}

fn post(path: String, body: Value) -> Call {
    Call { method: Method::POST, path, body: Some(body), is_list: false }
}

fn put(path: String, body: Value) -> Call {
    Call { method: Method::PUT, path, body: Some(body), is_list: false }
}

fn bare(method: Method, path: String) -> Call {
    Call { method, path, body: None, is_list: false }
}

fn list(path: String) -> Call {
    Call { method: Method::GET, path, body: None, is_list: true }
}
