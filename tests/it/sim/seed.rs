//! One seed: its tenant, its model, and the commands that both get.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::model::calendar::DAY;
use domain::model::{Answer, Command, Model, Noun};
use serde_json::{Value, json};

use super::generate::Generator;
use super::report::Counts;
use super::sells;
use super::site::{Fault, Site};
use super::wire::{Call, Got, Ids};
use crate::support::Client;

/// How long a command is tried before Tollgate counts as down.
const PATIENCE: Duration = Duration::from_secs(40);
/// How many commands a failure shows.
const SHOWN: usize = 20;

/// An earlier success with its Idempotency-Key.
struct Kept {
    command: Command,
    key: String,
    got: Got,
    at: i64,
}

/// A seed under way.
pub struct Seed {
    pub number: u64,
    site: Arc<Site>,
    client: Client,
    model: Model,
    ids: Ids,
    generator: Generator,
    step: usize,
    kept: Vec<Kept>,
    last: VecDeque<String>,
    pub counts: Counts,
    /// What went wrong, if anything did: then it asks no more.
    pub failure: Option<String>,
}

/// Whether a command may have been done already when its answer came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tries {
    One,
    Many,
}

impl Seed {
    pub async fn start(number: u64, site: &Arc<Site>) -> Seed {
        Seed {
            number,
            site: site.clone(),
            client: site.tenant(number).await,
            model: Model::new(sells::START, sells::catalogs()),
            ids: Ids::default(),
            generator: Generator::new(number),
            step: 0,
            kept: Vec::new(),
            last: VecDeque::new(),
            counts: Counts::default(),
            failure: None,
        }
    }

    /// The next command; at every fifth step one of a kind that is given, repeated or sent twice.
    pub async fn step(&mut self) {
        if self.failure.is_some() {
            return;
        }
        self.step += 1;
        if self.generator.random.percent(3) && self.repeat_an_earlier_one().await {
            return;
        }
        let turn = self.step / 10;
        let kind = Command::KINDS[(usize::try_from(self.number).unwrap() * 7 + turn) % Command::KINDS.len()];
        let fault = match self.step % 10 {
            4 => Some(Fault::Repeat),
            9 => Some(Fault::Twice),
            _ => None,
        };
        let command = match fault {
            None => self.generator.any(&self.model),
            Some(_) => self.generator.of_kind(kind, &self.model),
        };
        let outcome = match fault {
            Some(Fault::Repeat) => self.do_and_repeat(&command).await,
            Some(Fault::Twice) => self.do_twice_at_once(&command).await,
            _ => self.do_once(&command).await,
        };
        self.note(&command, fault, outcome);
    }

    /// A command of this kind while `fault` happens to the processes under it.
    pub async fn step_under(&mut self, fault: Fault, kind: &str) {
        if self.failure.is_some() {
            return;
        }
        self.step += 1;
        let command = self.generator.of_kind(kind, &self.model);
        let outcome = self.do_once(&command).await;
        self.note(&command, Some(fault), outcome);
    }

    /// Everything that can be read of every customer, twice over: the second time from PostgreSQL and
    /// Redis as they are at rest.
    pub async fn check_at_rest(&mut self) {
        for customer in 0..self.model.customers.len() {
            for command in [
                Command::ReadBalance { customer },
                Command::ListGrants { customer },
                Command::ListTransfers { customer },
                Command::ListInvoices { customer },
                Command::ListSubscriptions { customer },
            ] {
                if self.failure.is_some() {
                    return;
                }
                self.step += 1;
                let outcome = self.do_once(&command).await;
                self.note(&command, None, outcome);
            }
        }
    }

    /// What only a read makes sure: this server has recorded the holds that it granted.
    pub async fn settle(&mut self) {
        if self.failure.is_none() && !self.model.customers.is_empty() {
            let command = Command::ReadBalance { customer: 0 };
            let outcome = self.do_once(&command).await;
            self.note(&command, None, outcome);
        }
    }

    fn note(&mut self, command: &Command, fault: Option<Fault>, outcome: Result<(), String>) {
        let fault_name = fault.map_or(String::new(), |fault| format!(" [{}]", fault.name()));
        self.last.push_back(format!("{:>4}{fault_name} {command:?}", self.step));
        if self.last.len() > SHOWN {
            self.last.pop_front();
        }
        match outcome {
            Ok(()) => self.counts.add(command.kind(), fault),
            Err(why) => {
                let last: Vec<String> = self.last.iter().cloned().collect();
                self.failure = Some(format!(
                    "seed {}, step {}{fault_name}: {command:?}\n{why}\n\nthe last commands:\n{}\n\n\
                     again: TOLLGATE_SIM_FIRST={} TOLLGATE_SIM_SEEDS=1 \
                     cargo test -p tollgate --test it sim::long -- --ignored --nocapture",
                    self.number,
                    self.step,
                    last.join("\n"),
                    self.number
                ));
            }
        }
    }

    fn key(&self) -> String {
        format!("key-{}", self.step)
    }

    /// Once, as far as the outside can tell: while no answer comes it is sent again.
    async fn do_once(&mut self, command: &Command) -> Result<(), String> {
        self.know_of(command).await?;
        let expected = self.model.apply(command);
        let key = self.key();
        let (got, tries) = self.send(command, &key).await?;
        self.judge(command, &expected, &got, tries, &key).await
    }

    async fn judge(
        &mut self,
        command: &Command,
        expected: &Answer,
        got: &Got,
        tries: Tries,
        key: &str,
    ) -> Result<(), String> {
        let mut got = got.clone();
        let mut outcome = self.ids.compare(expected, &got);
        if outcome.is_err() && is_read(command) {
            // A hold is recorded a few milliseconds after it was granted, by the server that did.
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_millis(60)).await;
                got = self.send(command, key).await?.0;
                outcome = self.ids.compare(expected, &got);
                if outcome.is_ok() {
                    break;
                }
            }
        }
        if outcome.is_err() && tries == Tries::Many && !command.has_key() {
            // It may have been done by a try that was not answered: then this is a repeat's answer.
            let again = self.model.clone().apply(command);
            if self.ids.compare(&again, &got).is_ok() {
                outcome = Ok(());
                if let Command::CreateCustomer { external_id } = command {
                    self.find_customer(external_id).await?;
                }
            }
        }
        let shown = serde_json::to_string_pretty(&got.body).unwrap();
        outcome.map_err(|wrong| {
            format!("{wrong}\n\nanswered {}: {shown}\nthe model: {expected:?}", got.status)
        })?;
        if command.has_key() && got.status < 300 {
            let at = self.model.now;
            self.kept.push(Kept { command: command.clone(), key: key.to_owned(), got, at });
        }
        Ok(())
    }

    async fn do_and_repeat(&mut self, command: &Command) -> Result<(), String> {
        self.do_once(command).await?;
        // An event's identity makes it one, whatever stands before it in the batch.
        let again = match command {
            Command::UseBatch { events } => {
                let mut events = events.clone();
                events.reverse();
                Command::UseBatch { events }
            }
            other => other.clone(),
        };
        let key = self.key();
        let expected = match self.kept.last().filter(|kept| kept.key == key) {
            Some(kept) => {
                let earlier = kept.got.clone();
                let (got, _) = self.send(&again, &key).await?;
                return same(&earlier, &got);
            }
            None if command.has_key() => self.model.clone().apply(&again),
            None => self.model.apply(&again),
        };
        let (got, tries) = self.send(&again, &key).await?;
        if command.has_key() && got.status == 402 {
            // Kept as well; the model would let it be tried anew.
            return Ok(());
        }
        self.judge(&again, &expected, &got, tries, &key).await
    }

    async fn do_twice_at_once(&mut self, command: &Command) -> Result<(), String> {
        self.know_of(command).await?;
        let first = self.model.apply(command);
        let second = if command.has_key() { first.clone() } else { self.model.apply(command) };
        let key = self.key();
        let mut other = self.client.clone();
        other.base = self.site.base(self.number + 1);
        let (one, two) = tokio::join!(
            send(&self.client, &self.ids, command, &key, self.step),
            send(&other, &self.ids, command, &key, self.step)
        );
        let (one, two) = (self.or_again(command, &key, one).await?, self.or_again(command, &key, two).await?);
        let before = self.ids.clone();
        let mut outcome = Ok(());
        // Either may have come first.
        for (earlier, later) in [(&one, &two), (&two, &one)] {
            self.ids = before.clone();
            outcome = self.ids.compare(&first, earlier).and_then(|()| self.ids.compare(&second, later));
            if outcome.is_ok() {
                break;
            }
        }
        outcome.map_err(|wrong| {
            format!("{wrong}\n\nanswered {one:?}\nand {two:?}\nthe model: {first:?}\nand {second:?}")
        })
    }

    /// The answer, or where another seed's fault has cut it off that of the same request again: its key says that it is one.
    async fn or_again(
        &mut self,
        command: &Command,
        key: &str,
        answer: Result<Got, String>,
    ) -> Result<Got, String> {
        match answer {
            Ok(got) if got.status != 503 => Ok(got),
            _ if command.has_key() => Ok(self.send(command, key).await?.0),
            other => other,
        }
    }

    /// An earlier success again, a day at most after it: whatever has happened since, it is answered as
    /// it was. False where there is none.
    async fn repeat_an_earlier_one(&mut self) -> bool {
        let now = self.model.now;
        self.kept.retain(|kept| now - kept.at <= DAY);
        if self.kept.is_empty() {
            return false;
        }
        let index = self.generator.random.index(self.kept.len());
        let Kept { command, key, got, .. } = &self.kept[index];
        let (command, key, earlier) = (command.clone(), key.clone(), got.clone());
        let outcome = match self.send(&command, &key).await {
            Ok((got, _)) => same(&earlier, &got),
            Err(why) => Err(why),
        };
        self.note(&command, Some(Fault::Repeat), outcome);
        true
    }

    /// Asks until there is an answer that is one.
    async fn send(&mut self, command: &Command, key: &str) -> Result<(Got, Tries), String> {
        let started = Instant::now();
        let mut tries = Tries::One;
        loop {
            let answer = send(&self.client, &self.ids, command, key, self.step).await;
            let why = match answer {
                Ok(got) if got.status != 503 => return Ok((got, tries)),
                Ok(got) => format!("{}", got.body),
                Err(why) => why,
            };
            if started.elapsed() > PATIENCE {
                return Err(format!("no answer within {PATIENCE:?}: {why}"));
            }
            tries = Tries::Many;
            self.counts.retries += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.client.base = self.site.base(self.number);
        }
    }

    /// Invoices that no answer named are looked up.
    async fn know_of(&mut self, command: &Command) -> Result<(), String> {
        let (Command::PayInvoice { invoice, .. } | Command::Refund { invoice, .. }) = command else {
            return Ok(());
        };
        if self.ids.knows(Noun::Invoice, *invoice) || *invoice >= self.model.invoices.len() {
            return Ok(());
        }
        let customer = self.model.invoices[*invoice].customer;
        let list = Command::ListInvoices { customer };
        let expected = self.model.apply(&list);
        let (got, _) = self.send(&list, "").await?;
        self.ids.compare(&expected, &got)
    }

    async fn find_customer(&mut self, external_id: &str) -> Result<(), String> {
        let found = self.client.get("/v1/customers?limit=200").await;
        let customers = found.body["data"].as_array().cloned().unwrap_or_default();
        let own = customers.iter().find(|customer| customer["external_id"] == external_id);
        let id = own.and_then(|own| own["id"].as_str()).ok_or("the customer is not listed")?;
        let number = self.model.customers.iter().position(|customer| customer.external_id == external_id);
        self.ids.learn(Noun::Customer, number.ok_or("the model has no such customer")?, id);
        Ok(())
    }
}

fn is_read(command: &Command) -> bool {
    matches!(
        command,
        Command::ReadBalance { .. }
            | Command::ReadSubscription { .. }
            | Command::ListGrants { .. }
            | Command::ListTransfers { .. }
            | Command::ListInvoices { .. }
            | Command::ListSubscriptions { .. }
    )
}

fn same(earlier: &Got, got: &Got) -> Result<(), String> {
    if earlier == got {
        Ok(())
    } else {
        Err(format!("answered at first {earlier:?}\nand when it was repeated {got:?}"))
    }
}

/// Sends a command's requests. An error where one was not answered.
async fn send(client: &Client, ids: &Ids, command: &Command, key: &str, step: usize) -> Result<Got, String> {
    let mut got = Got { status: 0, body: Value::Null };
    for call in ids.calls(command) {
        got = if call.is_list {
            send_list(client, &call, step).await?
        } else {
            send_one(client, &call, key).await?
        };
        if got.status >= 300 {
            return Ok(got);
        }
    }
    if matches!(command, Command::Jump { .. }) { wait_for_rollover(client, got).await } else { Ok(got) }
}

async fn send_one(client: &Client, call: &Call, key: &str) -> Result<Got, String> {
    let mut request = client.request(call.method.clone(), &call.path).header("Idempotency-Key", key);
    if let Some(body) = &call.body {
        request = request.json(body);
    }
    let answer = client.try_send(request).await.map_err(|error| format!("{error:?}"))?;
    Ok(Got { status: answer.status.as_u16(), body: answer.body })
}

/// All pages as one answer; how long they are differs.
async fn send_list(client: &Client, call: &Call, step: usize) -> Result<Got, String> {
    let limit = [200, 7, 50][step % 3];
    let mut rows: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("{}limit={limit}{cursor}", call.path);
        let page =
            send_one(client, &Call { path, body: None, method: call.method.clone(), is_list: false }, "list")
                .await?;
        if page.status != 200 {
            return Ok(page);
        }
        rows.extend(page.body["data"].as_array().cloned().unwrap_or_default());
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(Got { status: 200, body: json!({ "data": rows }) }),
        }
    }
}

/// Until the run is done. One that died with its worker is taken up again only when its lease is over, so
/// after a while another is started, which does the rest of its work.
async fn wait_for_rollover(client: &Client, started: Got) -> Result<Got, String> {
    let mut run = started;
    for _ in 0..10 {
        let id = run.body["id"].as_str().unwrap_or_default().to_owned();
        for _ in 0..100 {
            let read = Call {
                method: reqwest::Method::GET,
                path: format!("/v1/rollovers/{id}"),
                body: None,
                is_list: false,
            };
            let got = send_one(client, &read, "read").await?;
            if got.status != 200 || got.body["state"] == "done" {
                return Ok(got);
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        let start = Call {
            method: reqwest::Method::POST,
            path: "/v1/rollovers".to_owned(),
            body: None,
            is_list: false,
        };
        run = send_one(client, &start, "start").await?;
        if run.status >= 300 {
            return Ok(run);
        }
    }
    Err("no rollover is done".to_owned())
}
