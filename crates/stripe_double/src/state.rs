//! Everything that the double knows, and what each call does to it.

use std::collections::BTreeMap;

use chrono::Utc;
use serde_json::{Value, json};

use crate::Options;
use crate::faults::{Call, Fault, Faults};
use crate::idempotency::Keys;
use crate::objects::{Answer, Behaviour, error, invalid, missing};
use crate::params::Params;
use crate::webhooks::Endpoint;

/// The version of the API that events are written in.
const API_VERSION: &str = "2026-09-30.endive";

pub(crate) struct State {
    options: Options,
    pub(crate) base: String,
    pub(crate) http: reqwest::Client,
    pub(crate) random: fastrand::Rng,
    pub(crate) faults: Faults,
    pub(crate) keys: Keys,
    pub(crate) calls: Vec<Call>,
    pub(crate) endpoint: Option<Endpoint>,
    /// The oldest first; those before `sent` were handed to the sender.
    pub(crate) events: Vec<Value>,
    pub(crate) sent: usize,
    made: u64,
    customers: BTreeMap<String, Value>,
    methods: BTreeMap<String, (Value, Behaviour)>,
    intents: BTreeMap<String, Value>,
    charges: BTreeMap<String, Value>,
    refunds: BTreeMap<String, Value>,
    setups: BTreeMap<String, Value>,
    sessions: BTreeMap<String, Value>,
    disputes: BTreeMap<String, Value>,
}

type Answered = Result<Answer, Answer>;

impl State {
    pub(crate) fn new(options: Options) -> State {
        State {
            base: String::new(),
            http: reqwest::Client::new(),
            random: fastrand::Rng::with_seed(options.seed),
            faults: Faults::default(),
            keys: Keys::default(),
            calls: Vec::new(),
            endpoint: options.endpoint.clone(),
            events: Vec::new(),
            sent: 0,
            made: 0,
            customers: BTreeMap::new(),
            methods: BTreeMap::new(),
            intents: BTreeMap::new(),
            charges: BTreeMap::new(),
            refunds: BTreeMap::new(),
            setups: BTreeMap::new(),
            sessions: BTreeMap::new(),
            disputes: BTreeMap::new(),
            options,
        }
    }

    /// Ids rise, so that the order of a map is the order of making. The letter keeps the digits apart: so
    /// many of them in a row might be a card's number.
    fn id(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}_{:08}x{:08x}", self.made, self.random.u32(..))
    }

    pub(crate) fn is_allowed(&self, secret_key: &str) -> bool {
        self.options.secret_keys.iter().any(|key| key == secret_key)
    }

    pub(crate) fn intents(&self) -> Vec<Value> {
        self.intents.values().cloned().collect()
    }

    pub(crate) fn customers(&self) -> Vec<Value> {
        self.customers.values().cloned().collect()
    }

    pub(crate) fn cards(&self) -> Vec<String> {
        self.methods.keys().cloned().collect()
    }

    pub(crate) fn session(&self, id: &str) -> Option<Value> {
        self.sessions.get(id).cloned()
    }

    pub(crate) fn kept_of(&self, name: &str, value: &str) -> i64 {
        let charges = self.charges.values().filter(|charge| charge["metadata"][name] == value);
        charges.map(|charge| integer(charge, "amount_captured") - integer(charge, "amount_refunded")).sum()
    }

    fn emit(&mut self, kind: &str, object: &Value) {
        let id = self.id("evt");
        let mut event = json!({
            "id": id,
            "object": "event",
            "api_version": API_VERSION,
            "created": Utc::now().timestamp(),
            "data": {"object": object},
            "livemode": self.options.is_live,
            "pending_webhooks": 1,
            "request": {"id": null, "idempotency_key": null},
            "type": kind,
        });
        if let Some(account) = &self.options.account {
            event["account"] = json!(account);
        }
        self.events.push(event);
    }

    /// Does one call. `Err` is an answer too: one of which nothing is kept for its key.
    pub(crate) fn call(
        &mut self,
        call: Call,
        method: &str,
        path: &[&str],
        params: &Params,
        fault: Option<&Fault>,
    ) -> Answered {
        match (method, path) {
            ("POST", ["customers"]) => Ok(self.create_customer(params)),
            ("GET", ["customers", id]) => found(&self.customers, id),
            ("POST", ["customers", id]) => self.update_customer(id, params),
            ("DELETE", ["customers", id]) => {
                found(&self.customers, id)?;
                self.delete_customer(id);
                Ok(Answer::ok(json!({"id": id, "object": "customer", "deleted": true})))
            }
            ("GET", ["payment_methods", id]) => {
                self.methods.get(*id).map(|(method, _)| Answer::ok(method.clone())).ok_or(missing("id", id))
            }
            ("POST", ["payment_methods", id, "attach"]) => self.attach(id, params),
            ("POST", ["payment_methods", id, "detach"]) => {
                self.methods.get(*id).ok_or(missing("id", id))?;
                self.detach(id);
                Ok(Answer::ok(self.methods[*id].0.clone()))
            }
            ("POST", ["payment_intents"]) => self.create_intent(params, fault),
            ("GET", ["payment_intents"]) => self.list_intents(params),
            ("GET", ["payment_intents", id]) => {
                let intent = self.intents.get(*id).ok_or(missing("id", id))?;
                Ok(Answer::ok(self.expanded(intent, params)))
            }
            ("POST", ["payment_intents", id, "cancel"]) => self.cancel_intent(id),
            ("POST", ["refunds"]) => self.create_refund(params),
            ("GET", ["refunds"]) => {
                let of = |refund: &&Value| {
                    params.get("payment_intent").is_none_or(|intent| refund["payment_intent"] == *intent)
                };
                Ok(page(self.refunds.values().rev().filter(of).cloned().collect(), params))
            }
            ("GET", ["refunds", id]) => found(&self.refunds, id),
            ("POST", ["setup_intents"]) => self.create_setup(params),
            ("GET", ["setup_intents", id]) => found(&self.setups, id),
            ("POST", ["checkout", "sessions"]) => self.create_session(params),
            ("GET", ["checkout", "sessions", id]) => found(&self.sessions, id),
            ("GET", ["disputes", id]) => found(&self.disputes, id),
            ("GET", ["events"]) => self.list_events(params),
            ("GET", ["events", id]) => {
                let event = self.events.iter().find(|event| event["id"] == **id).cloned();
                event.map(Answer::ok).ok_or(missing("id", id))
            }
            _ => {
                let message =
                    format!("Unrecognized request URL ({method}: /v1/{}), {call:?}", path.join("/"));
                Err(error(404, json!({"type": "invalid_request_error", "message": message})))
            }
        }
    }

    // Customers and methods

    fn create_customer(&mut self, params: &Params) -> Answer {
        let id = self.id("cus");
        let customer = json!({"id": id, "object": "customer", "created": Utc::now().timestamp(),
            "livemode": self.options.is_live, "metadata": params.metadata(),
            "invoice_settings": {"default_payment_method": null}});
        self.customers.insert(id, customer.clone());
        self.emit("customer.created", &customer);
        Answer::ok(customer)
    }

    fn update_customer(&mut self, id: &str, params: &Params) -> Answered {
        let customer = self.customers.get_mut(id).ok_or(missing("id", id))?;
        if let Some(method) = params.get("invoice_settings[default_payment_method]") {
            customer["invoice_settings"]["default_payment_method"] = json!(method);
        }
        let customer = customer.clone();
        self.emit("customer.updated", &customer);
        Ok(Answer::ok(customer))
    }

    pub(crate) fn set_default(&mut self, id: &str, method: &str) {
        let Some(customer) = self.customers.get_mut(id) else { return };
        customer["invoice_settings"]["default_payment_method"] = json!(method);
        let customer = customer.clone();
        self.emit("customer.updated", &customer);
    }

    pub(crate) fn delete_customer(&mut self, id: &str) {
        if let Some(customer) = self.customers.remove(id) {
            self.emit("customer.deleted", &customer);
        }
    }

    pub(crate) fn make_method(&mut self, card: &str, behaviour: Behaviour) -> String {
        let id = self.id("pm");
        let method = json!({"id": id, "object": "payment_method", "type": "card", "customer": null,
            "card": {"brand": "visa", "last4": "4242", "exp_month": 12, "exp_year": 2040,
                "fingerprint": format!("fp_{card}")},
            "created": Utc::now().timestamp(), "livemode": self.options.is_live, "metadata": {}});
        self.methods.insert(id.clone(), (method, behaviour));
        id
    }

    fn attach(&mut self, id: &str, params: &Params) -> Answered {
        let customer =
            params.get("customer").ok_or(invalid("customer", "Missing required param: customer."))?;
        if !self.customers.contains_key(customer) {
            return Err(missing("customer", customer));
        }
        let (method, _) = self.methods.get_mut(id).ok_or(missing("id", id))?;
        if method["customer"] == *customer {
            return Ok(Answer::ok(method.clone()));
        }
        if !method["customer"].is_null() || method["detached"] == true {
            let message = "The payment method you provided has already been attached to a customer.";
            return Err(invalid("payment_method", message));
        }
        method["customer"] = json!(customer);
        let method = method.clone();
        self.emit("payment_method.attached", &method);
        Ok(Answer::ok(method))
    }

    pub(crate) fn detach(&mut self, id: &str) {
        let Some((method, _)) = self.methods.get_mut(id) else { return };
        let before = method["customer"].take();
        // Once detached, a method can never be used again.
        method["detached"] = json!(true);
        let method = method.clone();
        self.emit("payment_method.detached", &method);
        if let Some(event) = self.events.last_mut() {
            event["data"]["previous_attributes"] = json!({"customer": before});
        }
    }

    // Payments

    fn create_intent(&mut self, params: &Params, fault: Option<&Fault>) -> Answered {
        let amount = params.integer("amount").filter(|amount| *amount > 0);
        let amount = amount.ok_or(invalid("amount", "Invalid integer"))?;
        let currency =
            params.get("currency").ok_or(invalid("currency", "Missing required param: currency."))?;
        let customer =
            params.get("customer").ok_or(invalid("customer", "Missing required param: customer."))?;
        if !self.customers.contains_key(customer) {
            return Err(missing("customer", customer));
        }
        let method = params.get("payment_method").ok_or(invalid("payment_method", "Missing"))?;
        let (known, behaviour) = self.methods.get(method).ok_or(missing("payment_method", method))?;
        if known["customer"] != *customer {
            return Err(invalid("payment_method", "The payment method belongs to no or another customer."));
        }
        if !params.is_true("confirm") {
            return Err(invalid("confirm", "This double confirms what it creates."));
        }
        let behaviour = behaviour.clone();
        let id = self.id("pi");
        let secret = format!("{id}_secret_{:08x}", self.random.u32(..));
        let intent = json!({"id": id, "object": "payment_intent", "amount": amount, "amount_received": 0,
            "currency": currency, "customer": customer, "payment_method": method, "client_secret": secret,
            "created": Utc::now().timestamp(), "livemode": self.options.is_live, "latest_charge": null,
            "last_payment_error": null, "next_action": null, "metadata": params.metadata(),
            "status": "requires_confirmation"});
        self.intents.insert(id.clone(), intent.clone());
        self.emit("payment_intent.created", &intent);
        let answer = match behaviour {
            Behaviour::Succeeds => {
                self.succeed(&id, fault);
                Answer::ok(self.intents[&id].clone())
            }
            Behaviour::Declines(decline_code) => self.decline(&id, "card_declined", Some(&decline_code)),
            Behaviour::NeedsCustomer if params.is_true("off_session") => {
                self.decline(&id, "authentication_required", Some("authentication_required"))
            }
            Behaviour::NeedsCustomer => {
                let url = format!("{}/pay/{id}/authenticate", self.base);
                let next_action = json!({"type": "redirect_to_url", "redirect_to_url": {"url": url}});
                let intent =
                    self.change(&id, &[("status", json!("requires_action")), ("next_action", next_action)]);
                self.emit("payment_intent.requires_action", &intent);
                Answer::ok(intent)
            }
            Behaviour::Processes => {
                let intent = self.change(&id, &[("status", json!("processing"))]);
                self.emit("payment_intent.processing", &intent);
                Answer::ok(intent)
            }
        };
        Ok(answer)
    }

    fn change(&mut self, intent: &str, fields: &[(&str, Value)]) -> Value {
        let Some(intent) = self.intents.get_mut(intent) else { return Value::Null };
        for (name, value) in fields {
            intent[*name] = value.clone();
        }
        intent.clone()
    }

    fn succeed(&mut self, id: &str, fault: Option<&Fault>) {
        let charge_id = self.id("ch");
        let Some(intent) = self.intents.get_mut(id) else { return };
        if let Some(Fault::TakeIn(currency)) = fault {
            intent["currency"] = json!(currency);
        }
        let amount = match fault {
            Some(Fault::TakeInstead(amount)) => json!(amount),
            _ => intent["amount"].clone(),
        };
        let charge = json!({"id": charge_id, "object": "charge", "amount": amount, "amount_captured": amount,
            "amount_refunded": 0, "currency": intent["currency"], "customer": intent["customer"],
            "payment_intent": id, "metadata": intent["metadata"], "created": Utc::now().timestamp(),
            "refunded": false, "disputed": false, "status": "succeeded"});
        self.charges.insert(charge_id.clone(), charge.clone());
        let fields = [
            ("status", json!("succeeded")),
            ("amount_received", amount),
            ("latest_charge", json!(charge_id)),
            ("next_action", Value::Null),
            ("last_payment_error", Value::Null),
        ];
        let intent = self.change(id, &fields);
        self.emit("charge.succeeded", &charge);
        self.emit("payment_intent.succeeded", &intent);
    }

    fn decline(&mut self, id: &str, code: &str, decline_code: Option<&str>) -> Answer {
        let method = self.intents.get(id).map(|intent| intent["payment_method"].clone());
        let last = json!({"type": "card_error", "code": code, "decline_code": decline_code,
            "payment_method": {"id": method}});
        let fields = [
            ("status", json!("requires_payment_method")),
            ("payment_method", Value::Null),
            ("next_action", Value::Null),
            ("last_payment_error", last),
        ];
        let intent = self.change(id, &fields);
        self.emit("payment_intent.payment_failed", &intent);
        let body = json!({"type": "card_error", "code": code, "decline_code": decline_code,
            "message": "Your card was declined.", "payment_intent": intent});
        error(402, body)
    }

    pub(crate) fn authenticate(&mut self, id: &str, succeeds: bool) {
        let waits = self.intents.get(id).is_some_and(|intent| {
            intent["status"] == "requires_action"
                || intent["last_payment_error"]["code"] == "authentication_required"
        });
        match (waits, succeeds) {
            (false, _) => {}
            (true, true) => self.succeed(id, None),
            (true, false) => {
                self.decline(id, "payment_intent_authentication_failure", None);
            }
        }
    }

    pub(crate) fn settle(&mut self, id: &str, succeeds: bool) {
        match (self.intents.get(id).is_some_and(|intent| intent["status"] == "processing"), succeeds) {
            (false, _) => {}
            (true, true) => self.succeed(id, None),
            (true, false) => {
                self.decline(id, "card_declined", Some("generic_decline"));
            }
        }
    }

    pub(crate) fn cancel_by_hand(&mut self, id: &str) {
        // What cannot be canceled stays as it is.
        let _ = self.cancel_intent(id);
    }

    fn cancel_intent(&mut self, id: &str) -> Answered {
        let intent = self.intents.get(id).ok_or(missing("id", id))?;
        if !["requires_payment_method", "requires_action", "requires_confirmation"]
            .iter()
            .any(|status| intent["status"] == *status)
        {
            let body = json!({"type": "invalid_request_error", "code": "payment_intent_unexpected_state",
                "payment_intent": intent});
            return Err(error(400, body));
        }
        let intent = self.change(id, &[("status", json!("canceled")), ("next_action", Value::Null)]);
        self.emit("payment_intent.canceled", &intent);
        Ok(Answer::ok(intent))
    }

    fn expanded(&self, intent: &Value, params: &Params) -> Value {
        let mut intent = intent.clone();
        let expands = ["expand[0]", "expand[]"].iter().any(|name| params.get(name) == Some("latest_charge"));
        let charge = intent["latest_charge"].as_str().and_then(|id| self.charges.get(id));
        if let (true, Some(charge)) = (expands, charge) {
            intent["latest_charge"] = charge.clone();
        }
        intent
    }

    fn list_intents(&self, params: &Params) -> Answered {
        let since = params.integer("created[gte]").unwrap_or(i64::MIN);
        let newest_first: Vec<Value> = self
            .intents
            .values()
            .rev()
            .filter(|intent| params.get("customer").is_none_or(|customer| intent["customer"] == *customer))
            .filter(|intent| integer(intent, "created") >= since)
            .cloned()
            .collect();
        Ok(page(newest_first, params))
    }

    fn list_events(&self, params: &Params) -> Answered {
        let since = params.integer("created[gte]").unwrap_or(i64::MIN);
        let newest_first: Vec<Value> =
            self.events.iter().rev().filter(|event| integer(event, "created") >= since).cloned().collect();
        Ok(page(newest_first, params))
    }

    // Refunds and disputes

    fn create_refund(&mut self, params: &Params) -> Answered {
        let intent = params.get("payment_intent").ok_or(invalid("payment_intent", "Missing"))?;
        let charge = self.charge_of(intent).ok_or(missing("payment_intent", intent))?;
        let rest = integer(&charge, "amount_captured") - integer(&charge, "amount_refunded");
        let amount = params.integer("amount").unwrap_or(rest);
        if rest == 0 {
            let body = json!({"type": "invalid_request_error", "code": "charge_already_refunded"});
            return Err(error(400, body));
        }
        if amount < 1 || amount > rest {
            return Err(invalid("amount", "Refund amount is greater than unrefunded amount on charge."));
        }
        Ok(Answer::ok(self.give_back(&charge, amount, params.metadata())))
    }

    pub(crate) fn refund_by_hand(&mut self, intent: &str, amount: i64) {
        if let Some(charge) = self.charge_of(intent) {
            self.give_back(&charge, amount, json!({}));
        }
    }

    fn charge_of(&self, intent: &str) -> Option<Value> {
        let charge = self.intents.get(intent)?["latest_charge"].as_str()?;
        self.charges.get(charge).cloned()
    }

    fn give_back(&mut self, charge: &Value, amount: i64, metadata: Value) -> Value {
        let id = self.id("re");
        let refund = json!({"id": id, "object": "refund", "amount": amount, "currency": charge["currency"],
            "charge": charge["id"], "payment_intent": charge["payment_intent"], "status": "succeeded",
            "metadata": metadata, "created": Utc::now().timestamp()});
        self.refunds.insert(id, refund.clone());
        let mut charge = charge.clone();
        let refunded = integer(&charge, "amount_refunded") + amount;
        charge["amount_refunded"] = json!(refunded);
        charge["refunded"] = json!(refunded == integer(&charge, "amount_captured"));
        self.charges.insert(charge["id"].as_str().unwrap_or_default().to_owned(), charge.clone());
        self.emit("refund.created", &refund);
        self.emit("charge.refunded", &charge);
        refund
    }

    pub(crate) fn fail_refund(&mut self, intent: &str) {
        let mut of_intent =
            self.refunds.values_mut().rev().filter(|refund| refund["payment_intent"] == *intent);
        let Some(refund) = of_intent.find(|refund| refund["status"] == "succeeded") else { return };
        refund["status"] = json!("failed");
        refund["failure_reason"] = json!("lost_or_stolen_card");
        let refund = refund.clone();
        let charge = refund["charge"].as_str().and_then(|charge| self.charges.get_mut(charge));
        if let Some(charge) = charge {
            charge["amount_refunded"] =
                json!(integer(charge, "amount_refunded") - integer(&refund, "amount"));
            charge["refunded"] = json!(false);
        }
        self.emit("refund.updated", &refund);
        self.emit("refund.failed", &refund);
    }

    pub(crate) fn open_dispute(&mut self, intent: &str) -> String {
        let id = self.id("dp");
        let charge = self.charge_of(intent).unwrap_or_default();
        let dispute = json!({"id": id, "object": "dispute", "amount": charge["amount"],
            "currency": charge["currency"], "charge": charge["id"], "payment_intent": intent,
            "reason": "fraudulent", "status": "needs_response", "metadata": {}});
        self.disputes.insert(id.clone(), dispute.clone());
        self.emit("charge.dispute.created", &dispute);
        self.emit("charge.dispute.funds_withdrawn", &dispute);
        id
    }

    pub(crate) fn close_dispute(&mut self, id: &str, is_won: bool) {
        let Some(dispute) = self.disputes.get_mut(id) else { return };
        dispute["status"] = json!(if is_won { "won" } else { "lost" });
        let dispute = dispute.clone();
        self.emit("charge.dispute.closed", &dispute);
        if is_won {
            self.emit("charge.dispute.funds_reinstated", &dispute);
        }
    }

    // Saving a method

    fn create_setup(&mut self, params: &Params) -> Answered {
        let customer = params.get("customer").ok_or(invalid("customer", "Missing"))?;
        if !self.customers.contains_key(customer) {
            return Err(missing("customer", customer));
        }
        let id = self.id("seti");
        let secret = format!("{id}_secret_{:08x}", self.random.u32(..));
        let setup = json!({"id": id, "object": "setup_intent", "client_secret": secret, "customer": customer,
            "payment_method": null, "status": "requires_payment_method", "metadata": params.metadata()});
        self.setups.insert(id, setup.clone());
        self.emit("setup_intent.created", &setup);
        Ok(Answer::ok(setup))
    }

    pub(crate) fn complete_setup(&mut self, id: &str, method: &str) {
        let Some(setup) = self.setups.get_mut(id) else { return };
        setup["payment_method"] = json!(method);
        setup["status"] = json!("succeeded");
        let (setup, customer) = (setup.clone(), setup["customer"].clone());
        if let Some((method, _)) = self.methods.get_mut(method) {
            method["customer"] = customer;
            let method = method.clone();
            self.emit("payment_method.attached", &method);
        }
        self.emit("setup_intent.succeeded", &setup);
    }

    fn create_session(&mut self, params: &Params) -> Answered {
        if params.get("mode") != Some("setup") {
            return Err(invalid("mode", "This double knows the mode setup."));
        }
        for name in ["success_url", "cancel_url"] {
            params.get(name).ok_or(invalid(name, "Missing"))?;
        }
        let setup = self.create_setup(params)?.body["id"].clone();
        let id = self.id("cs");
        let url = format!("{}/pay/{id}", self.base);
        let session = json!({"id": id, "object": "checkout.session", "mode": "setup", "url": url,
            "customer": params.get("customer"), "setup_intent": setup, "status": "open",
            "success_url": params.get("success_url"), "cancel_url": params.get("cancel_url"),
            "metadata": params.metadata()});
        self.sessions.insert(id, session.clone());
        Ok(Answer::ok(session))
    }

    pub(crate) fn complete_checkout(&mut self, id: &str, method: &str) {
        let Some(session) = self.sessions.get_mut(id).filter(|session| session["status"] == "open") else {
            return;
        };
        session["status"] = json!("complete");
        let session = session.clone();
        self.complete_setup(session["setup_intent"].as_str().unwrap_or_default(), method);
        self.emit("checkout.session.completed", &session);
    }
}

fn integer(object: &Value, name: &str) -> i64 {
    object[name].as_i64().unwrap_or_default()
}

fn found(objects: &BTreeMap<String, Value>, id: &str) -> Answered {
    objects.get(id).cloned().map(Answer::ok).ok_or(missing("id", id))
}

/// A page of a list, the newest first.
fn page(newest_first: Vec<Value>, params: &Params) -> Answer {
    let limit = params.integer("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(10).min(100);
    let after = params.get("starting_after");
    let start = after.and_then(|after| newest_first.iter().position(|object| object["id"] == *after));
    let rest = &newest_first[start.map_or(0, |start| start + 1)..];
    let data: Vec<&Value> = rest.iter().take(limit).collect();
    Answer::ok(json!({"object": "list", "data": data, "has_more": rest.len() > limit}))
}
