//! One client: asks until it knows, and writes everything down.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use reqwest::Method;
use serde_json::{Value, json};

use crate::history::{
    AccountIndex, Answer, EventAnswer, List, Name, Operation, Outcome, Request, SentEvent, Try,
};
use crate::http::{Call, Reply, SERVERS};
use crate::wire;
use crate::world::World;

/// A client and its history.
pub(crate) struct Client {
    pub(crate) number: u32,
    pub(crate) rng: Rng,
    pub(crate) world: Arc<World>,
    pub(crate) history: Vec<Operation>,
    /// Asks this server alone, whatever it answers.
    pub(crate) only_server: Option<usize>,
    named: u32,
}

/// A request that can be sent again, word for word.
#[derive(Clone)]
pub(crate) struct Sendable {
    request: Request,
    account: Option<AccountIndex>,
    tenant: usize,
    key: String,
    method: Method,
    path: String,
    /// Whether the key goes into the header; else it is in the path or body.
    has_header: bool,
    body: Option<String>,
}

impl Client {
    pub(crate) fn new(number: u32, seed: u64, world: Arc<World>) -> Client {
        let rng = Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(u64::from(number)));
        Client { number, rng, world, history: Vec::new(), only_server: None, named: 0 }
    }

    pub(crate) fn name(&mut self) -> Name {
        self.named += 1;
        Name { client: self.number, number: self.named }
    }

    fn path_of(&self, account: AccountIndex, rest: &str) -> String {
        format!("/v1/customers/{}/{rest}", self.world.customers[account].id)
    }

    fn sendable(&self, request: Request, account: AccountIndex, key: String, path: String) -> Sendable {
        let tenant = self.world.customers[account].tenant;
        Sendable {
            request,
            account: Some(account),
            tenant,
            key,
            method: Method::POST,
            path,
            has_header: true,
            body: None,
        }
    }

    // What can be asked

    /// A batch, or one event as an object.
    pub(crate) fn usage(&mut self, events: Vec<SentEvent>, is_batch: bool) -> Sendable {
        let bodies: Vec<Value> = events.iter().map(|event| wire::event(&self.world, event)).collect();
        let body =
            if is_batch { Value::Array(bodies) } else { bodies.into_iter().next().unwrap_or_default() };
        let first = events.first().map_or(0, |event| event.account);
        let key = self.name().to_string();
        let account = (!is_batch).then_some(first);
        let path = "/v1/usage/events".to_owned();
        let sendable = self.sendable(Request::Usage(events), first, key, path);
        Sendable { account, has_header: false, body: Some(body.to_string()), ..sendable }
    }

    /// `event` says which model and how many tokens are expected.
    pub(crate) fn authorize(&mut self, hold: Name, event: &SentEvent) -> Sendable {
        let body = json!({
            "id": hold.to_string(),
            "customer": self.world.customers[event.account].id,
            "model": event.model.code(),
            "prompt": {"input": event.tokens.input, "cache_read": event.tokens.cache_read},
            "max_output_tokens": event.tokens.output,
        });
        // Of a model without a rate nothing is held.
        let estimate = event.model.cost(event.tokens).unwrap_or(0);
        let request = Request::Authorize { hold, estimate };
        let path = "/v1/authorizations".to_owned();
        let sendable = self.sendable(request, event.account, hold.to_string(), path);
        Sendable { has_header: false, body: Some(body.to_string()), ..sendable }
    }

    pub(crate) fn release(&mut self, hold: Name, account: AccountIndex) -> Sendable {
        let body = json!({"customer": self.world.customers[account].id}).to_string();
        let (request, path) = (Request::Release { hold }, format!("/v1/authorizations/{hold}/release"));
        let sendable = self.sendable(request, account, hold.to_string(), path);
        Sendable { has_header: false, body: Some(body), ..sendable }
    }

    pub(crate) fn subscribe(&mut self, account: AccountIndex, plan: &'static str) -> Sendable {
        let body = json!({"customer": self.world.customers[account].id, "plan": plan, "currency": "USD",
            "payment_method": "pm_sandbox_succeeds"});
        let key = self.name().to_string();
        let sendable =
            self.sendable(Request::Subscribe { plan }, account, key, "/v1/subscriptions".to_owned());
        Sendable { body: Some(body.to_string()), ..sendable }
    }

    pub(crate) fn upgrade(
        &mut self,
        account: AccountIndex,
        subscription: &str,
        plan: &'static str,
    ) -> Sendable {
        let key = self.name().to_string();
        let path = format!("/v1/subscriptions/{subscription}/upgrade");
        let sendable = self.sendable(Request::Upgrade { plan }, account, key, path);
        Sendable { body: Some(json!({"plan": plan}).to_string()), ..sendable }
    }

    pub(crate) fn cancel(&mut self, account: AccountIndex, subscription: &str, at_once: bool) -> Sendable {
        let key = self.name().to_string();
        let request = if at_once { Request::CancelAtOnce } else { Request::CancelAtEnd };
        let path = format!("/v1/subscriptions/{subscription}/cancel");
        let sendable = self.sendable(request, account, key, path);
        Sendable { body: Some(json!({"at_once": at_once}).to_string()), ..sendable }
    }

    pub(crate) fn withdraw_cancel(&mut self, account: AccountIndex, subscription: &str) -> Sendable {
        let key = self.name().to_string();
        let path = format!("/v1/subscriptions/{subscription}/cancel");
        let sendable = self.sendable(Request::WithdrawCancel, account, key, path);
        Sendable { method: Method::DELETE, ..sendable }
    }

    pub(crate) fn balance(&mut self, account: AccountIndex) -> Sendable {
        let path = self.path_of(account, "balance");
        let sendable = self.sendable(Request::Balance, account, String::new(), path);
        Sendable { method: Method::GET, has_header: false, ..sendable }
    }

    pub(crate) fn create_customer(&mut self, tenant: usize) -> Sendable {
        let external_id = format!("visitor-{}", self.name());
        Sendable {
            request: Request::CreateCustomer { tenant },
            account: None,
            tenant,
            body: Some(json!({"external_id": external_id}).to_string()),
            key: external_id,
            method: Method::POST,
            path: "/v1/customers".to_owned(),
            has_header: false,
        }
    }

    // Asking

    /// Asks until the answer is known, or the run gives up; writes down all of it.
    pub(crate) async fn ask(&mut self, sendable: &Sendable, is_repeat: bool) -> Option<Answer> {
        let mut tries = Vec::new();
        let reply = self.until_known(sendable, &sendable.path, &mut tries).await;
        let answer = reply.map(|reply| wire::answer(&sendable.request, &reply));
        if let (Some(Answer::Usage(results)), false) = (&answer, is_repeat) {
            let is_new =
                |result: &&EventAnswer| matches!(result, EventAnswer::Accepted(_) | EventAnswer::Unrated(_));
            let new = u64::try_from(results.iter().filter(is_new).count()).unwrap_or_default();
            self.world.counts.events.fetch_add(new, Ordering::Relaxed);
        }
        self.write_down(sendable, is_repeat, tries, answer.clone());
        answer
    }

    /// Reads a list to its end, page by page, while others write; `None` where the run gave up.
    pub(crate) async fn list(&mut self, list: List, account: AccountIndex) -> Option<Vec<Value>> {
        let customer = self.world.customers[account].id.clone();
        let mut path = match list {
            List::Ledger => self.path_of(account, "ledger?limit=100"),
            List::Grants => self.path_of(account, "grants?limit=3"),
            List::Invoices => format!("/v1/invoices?customer={customer}&limit=3"),
            List::Subscriptions => format!("/v1/subscriptions?customer={customer}&limit=3"),
            List::Customers(_) => "/v1/customers?limit=20".to_owned(),
        };
        let sendable = self.sendable(Request::List(list), account, String::new(), path.clone());
        let sendable = Sendable { method: Method::GET, has_header: false, ..sendable };
        let first_path = path.clone();
        let (mut tries, mut items) = (Vec::new(), Vec::new());
        loop {
            let page = self.until_known(&sendable, &path, &mut tries).await;
            let is_page = page.as_ref().is_some_and(|page| page.status == 200);
            let Some(page) = page.filter(|_| is_page) else {
                let refused = |t: &Try| matches!(t.outcome, Outcome::Refused(_));
                let strange =
                    tries.last().is_some_and(refused).then(|| Answer::Strange("no page".to_owned()));
                self.write_down(&sendable, false, tries, strange);
                return None;
            };
            items.extend(page.body["data"].as_array().cloned().unwrap_or_default());
            match page.body["next_cursor"].as_str() {
                Some(cursor) => path = format!("{}{}cursor={cursor}", first_path, '&'),
                None => break,
            }
        }
        let field = if list == List::Ledger { "version" } else { "id" };
        let ids = items.iter().map(|item| match &item[field] {
            Value::String(id) => id.clone(),
            other => other.to_string(),
        });
        let answer = Answer::Listed(ids.collect());
        self.write_down(&sendable, false, tries, Some(answer));
        Some(items)
    }

    fn write_down(&mut self, sendable: &Sendable, is_repeat: bool, tries: Vec<Try>, answer: Option<Answer>) {
        self.history.push(Operation {
            client: self.number,
            key: sendable.key.clone(),
            request: sendable.request.clone(),
            account: sendable.account,
            is_repeat,
            tries,
            answer,
        });
    }

    async fn until_known(&mut self, sendable: &Sendable, path: &str, tries: &mut Vec<Try>) -> Option<Reply> {
        let world = self.world.clone();
        let call = Call {
            method: sendable.method.clone(),
            path,
            bearer: &world.tenants[sendable.tenant].key,
            idempotency_key: sendable.has_header.then_some(sendable.key.as_str()),
            body: sendable.body.clone(),
        };
        loop {
            let server = self.only_server.unwrap_or_else(|| self.rng.usize(0..SERVERS));
            let (a_try, reply) = world.site.send(server, &call).await;
            tries.push(a_try);
            world.counts.requests.fetch_add(1, Ordering::Relaxed);
            if matches!(a_try.outcome, Outcome::Unknown(_)) {
                world.counts.unknown.fetch_add(1, Ordering::Relaxed);
            }
            if reply.is_some() || world.has_given_up() {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(self.rng.u64(20..120))).await;
        }
    }
}
