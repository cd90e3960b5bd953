//! One seed: its tenant, its model, and the commands that both get.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use domain::model::calendar::DAY;
use domain::model::{Answer, Command, Model, Noun};
use domain::usage::event_identity;
use serde_json::{Value, json};

use super::generate::{Generator, stripe_names};
use super::provider::{Account, Telling, kept_by_the_model, signed};
use super::report::Counts;
use super::sells;
use super::site::{Fault, Site};
use super::wire::{Call, Got, Ids};
use crate::support::Client;

/// How long a command is tried before Tollgate counts as down.
const PATIENCE: Duration = Duration::from_secs(40);
/// How many commands a failure shows.
const SHOWN: usize = 60;

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
    provider: Account,
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
        let (client, provider) = site.tenant(number).await;
        let ids =
            Ids::new(provider.tenant(), stripe_names().map(|name| (name.clone(), provider.method(&name))));
        Seed {
            number,
            site: site.clone(),
            client,
            provider,
            model: Model::new(sells::START, sells::catalogs(), sells::policies(number).1),
            ids,
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
        if fault.is_some() {
            let before = self.step;
            self.prepare(kind).await;
            if self.step > before {
                // Its number is its Idempotency-Key: this command has its own.
                self.step += 1;
            }
        }
        if self.failure.is_some() {
            return;
        }
        let command = match fault {
            None => self.generator.any(&self.model),
            Some(_) => self.generator.of_kind(kind, &self.model),
        };
        let command = self.as_stored(command);
        self.provider.sow_trouble(&mut self.generator.random);
        let outcome = match fault {
            _ if command.is_the_providers() => self.hear(&command, fault).await,
            Some(Fault::Repeat) => self.do_and_repeat(&command).await,
            Some(Fault::Twice) => self.do_twice_at_once(&command).await,
            _ => self.do_once(&command).await,
        };
        self.note(&command, fault, outcome);
        self.after(&command, None).await;
    }

    /// Events that were kept, and are of one instant, are charged in the order of their hashes.
    fn as_stored(&self, command: Command) -> Command {
        match command {
            Command::Unpark { customer, mut in_order } => {
                let tenant = self.provider.tenant();
                in_order
                    .sort_by_key(|name| (self.model.time_of(name), event_identity(tenant, name.0, &name.1)));
                Command::Unpark { customer, in_order }
            }
            other => other,
        }
    }

    /// What is in force only a moment later.
    async fn after(&mut self, command: &Command, fault: Option<Fault>) {
        if let Command::PayAnotherAmount { .. } = command {
            // Where it was refused, nothing was charged.
            self.provider.forget_trouble();
        }
        // Usage of a month that is over is due at once where no cycle runs any more, and a top-up where the Credits went
        // without being used; a minute's tick would find them.
        let is_at_once = matches!(command, Command::Cancel { at_once: true, .. });
        if is_at_once || self.model.is_top_up_due() {
            self.run_what_is_due().await;
        }
        // A job sees to whoever is left with too little, now or for nothing.
        let may_buy = matches!(
            command.kind(),
            "use"
                | "use-up"
                | "use-batch"
                | "unpark"
                | "advance"
                | "jump"
                | "decide-payment"
                | "give-back-instead"
                | "pay-another-amount"
        );
        if !may_buy || !self.model.has_automatic_top_ups() {
            return;
        }
        self.wait_for_top_ups(command).await;
        // What a run that was killed has left to the next one.
        if fault.is_some_and(|fault| Fault::TO_PROCESSES.contains(&fault)) {
            self.run_what_is_due().await;
            self.wait_for_top_ups(command).await;
        }
    }

    async fn run_what_is_due(&mut self) {
        if self.failure.is_none() {
            let run = Command::Jump { to: self.model.now };
            let outcome = self.do_once(&run).await;
            self.note(&run, None, outcome);
        }
    }

    async fn wait_for_top_ups(&mut self, after: &Command) {
        if self.failure.is_none()
            && let Err(why) = self.when_topped_up().await
        {
            self.note(after, None, Err(why));
        }
    }

    /// Until nobody has a top-up in hand. Where processes are killed, the jobs that look after payments come before their
    /// minute: they cure what one that died had not told.
    async fn when_topped_up(&mut self) -> Result<(), String> {
        let started = Instant::now();
        let tenant = self.provider.tenant();
        let of_tenant = format!("payload ->> 'tenant' = '{tenant}' and state = 'queued'");
        let mut kinds = "('auto_top_up', 'run_due')";
        if self.site.has_kills() {
            kinds = "('auto_top_up', 'run_due', 'collect_payment')";
            let due = "update jobs set run_at = least(run_at, now()) where kind = 'collect_payment'";
            self.sql(&format!("{due} and {of_tenant}")).await;
        }
        let jobs = format!("select count(*) as count from jobs where kind in {kinds} and {of_tenant}");
        let payments = format!(
            "select count(*) as count from payments p join purchases b using (tenant_id, invoice_id) \
             where tenant_id = '{}' and p.status = 'created' and p.mismatch_minor is null \
                 and (b.is_automatic or b.kind = 'renewal')",
            tenant.uuid()
        );
        while self.count(&jobs).await + self.count(&payments).await > 0 {
            self.hurry(started).await?;
        }
        Ok(())
    }

    /// A command of this kind while `fault` happens to the processes under it.
    pub async fn step_under(&mut self, fault: Fault, kind: &str) {
        if self.failure.is_some() {
            return;
        }
        self.step += 1;
        let command = self.generator.of_kind(kind, &self.model);
        let command = self.as_stored(command);
        let outcome = match command.is_the_providers() {
            true => self.hear(&command, Some(fault)).await,
            false => self.do_once(&command).await,
        };
        self.note(&command, Some(fault), outcome);
        self.after(&command, Some(fault)).await;
    }

    /// Asks for what a command of this kind is about, where there is none yet: to lose a dispute somebody must have
    /// paid.
    pub async fn prepare(&mut self, kind: &str) {
        for _ in 0..4 {
            if self.failure.is_some() {
                return;
            }
            let command = self.generator.clone().of_kind(kind, &self.model);
            if command.kind() == kind {
                return;
            }
            let command = self.generator.of_kind(kind, &self.model);
            let command = self.as_stored(command);
            self.step += 1;
            let outcome = match command.is_the_providers() {
                true => self.hear(&command, None).await,
                false => self.do_once(&command).await,
            };
            self.note(&command, None, outcome);
            self.after(&command, None).await;
        }
    }

    /// Something happens at the provider, and Tollgate hears of it, and of all that it was not told before.
    async fn hear(&mut self, command: &Command, fault: Option<Fault>) -> Result<(), String> {
        self.make_ready(command).await?;
        let expected = self.model.apply(command);
        let invoice = |number: &usize| self.ids.id(Noun::Invoice, *number);
        match command {
            Command::DecidePayment { invoice: of, succeeds } => self.provider.decide(&invoice(of), *succeeds),
            Command::RefundElsewhere { invoice: of, amount } => self.provider.refund(&invoice(of), *amount),
            Command::GiveBackInstead { invoice: of } => self.provider.give_back_instead(&invoice(of)),
            Command::OpenDispute { invoice: of } => self.provider.open_dispute(&invoice(of)),
            Command::CloseDispute { dispute, is_won } => self.provider.close_dispute(*dispute, *is_won),
            Command::ReverseDispute { dispute } => self.provider.close_dispute(*dispute, true),
            _ => {}
        }
        let telling = match fault {
            Some(Fault::Repeat) => Telling::Twice,
            Some(Fault::Twice) => Telling::AtOnce,
            _ => Telling::any(&mut self.generator.random),
        };
        let mut events = self.provider.news();
        if *command == Command::TellAgain {
            events = self.provider.everything();
            let kept = 1 + self.generator.random.index(30);
            self.generator.random.shuffle(&mut events);
            events.truncate(kept);
        }
        self.tell(events, telling).await?;
        let got = self.when_heard().await?;
        // What only waited for the bank is due now; a minute's tick would find it.
        if let Command::DecidePayment { .. } | Command::GiveBackInstead { .. } = command {
            let run = Command::Jump { to: self.model.now };
            let (got, _) = self.send(&run, "").await?;
            if got.body["state"] != "done" {
                return Err(format!("a rollover: {}", got.body));
            }
        }
        self.ids.compare(&expected, &got).map_err(|wrong| format!("{wrong}\n\n{telling:?}: {}", got.body))
    }

    async fn tell(&mut self, mut events: Vec<Value>, telling: Telling) -> Result<(), String> {
        match telling {
            Telling::InOrder => {}
            Telling::Shuffled | Telling::AtOnce => self.generator.random.shuffle(&mut events),
            Telling::Twice => events = events.into_iter().flat_map(|event| [event.clone(), event]).collect(),
            Telling::HalfLost => events.retain(|_| self.generator.random.percent(50)),
        }
        for event in &events {
            let mut other = self.client.clone();
            other.base = self.site.base(self.number + 1);
            match telling {
                Telling::AtOnce => {
                    let (one, two) =
                        tokio::join!(self.tell_one(&self.client, event), self.tell_one(&other, event));
                    one.and(two)?;
                }
                _ => self.tell_one(&self.client, event).await?,
            }
        }
        if telling == Telling::HalfLost { self.have_it_reread().await } else { Ok(()) }
    }

    /// As the provider does, again and again until it is taken.
    async fn tell_one(&self, client: &Client, event: &Value) -> Result<(), String> {
        let path = format!("/v1/webhooks/stripe/{}", self.provider.tenant());
        let mut client = client.clone();
        let started = Instant::now();
        loop {
            let (body, signature) = signed(event);
            let request = client
                .anonymous(reqwest::Method::POST, &path)
                .header("stripe-signature", signature)
                .header("content-type", "application/json")
                .body(body);
            let why = match client.try_send(request).await {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) => format!("{} {}", answer.status, answer.body),
                Err(error) => format!("{error:?}"),
            };
            if started.elapsed() > PATIENCE {
                return Err(format!("a webhook was not taken within {PATIENCE:?}: {why}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            client.base = self.site.base(self.number);
        }
    }

    /// The job that a minute's tick would start.
    async fn have_it_reread(&self) -> Result<(), String> {
        let tenant = self.provider.tenant();
        let key = format!("{tenant}/{}", self.step);
        let started = Instant::now();
        self.sql(&format!(
            "insert into jobs (job_id, kind, key, payload, run_at, created_at) values (gen_random_uuid(), \
             'reread_provider_events', '{key}', '{{\"tenant\": \"{tenant}\"}}', now(), now()) \
             on conflict (kind, key) do nothing"
        ))
        .await;
        let open = format!(
            "select count(*) as count from jobs where kind = 'reread_provider_events' and key = '{key}' \
             and state = 'queued'"
        );
        while self.count(&open).await > 0 {
            self.hurry(started).await?;
        }
        Ok(())
    }

    /// What is still waiting once everything that was told is settled, and what somebody has to look at.
    async fn when_heard(&mut self) -> Result<Got, String> {
        let started = Instant::now();
        let list = |state: &str| Call {
            method: reqwest::Method::GET,
            path: format!("/v1/provider-events?state={state}&"),
            body: None,
            is_list: true,
        };
        loop {
            let waiting = self.read(&list("received")).await?;
            if waiting.body["data"] == json!([]) {
                let parked = self.read(&list("parked")).await?;
                // Over another amount is what the model knows of; the alert is looked for at rest.
                let listed = parked.body["data"].as_array().cloned();
                let mut parked_events = listed.ok_or_else(|| format!("no list: {}", parked.body))?;
                parked_events.retain(|event| event["reason"] != "another-amount");
                let body = json!({"waiting": [], "parked": parked_events});
                return Ok(Got { status: parked.status, body });
            }
            self.hurry(started).await?;
        }
    }

    async fn read(&mut self, call: &Call) -> Result<Got, String> {
        let started = Instant::now();
        loop {
            let why = match send_list(&self.client, call, self.step).await {
                Ok(got) if got.status != 503 => return Ok(got),
                Ok(got) => format!("{}", got.body),
                Err(why) => why,
            };
            if started.elapsed() > PATIENCE {
                return Err(format!("no answer within {PATIENCE:?}: {why}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.client.base = self.site.base(self.number);
        }
    }

    /// Waits a little. What a killed worker had in hand is somebody else's once its lease is over: as if it were.
    async fn hurry(&self, started: Instant) -> Result<(), String> {
        hurry(&self.site, &self.provider.tenant().to_string(), started).await
    }

    async fn sql(&self, text: &str) {
        sql(&self.site, text).await;
    }

    async fn count(&self, query: &str) -> i64 {
        #[derive(diesel::QueryableByName)]
        struct Count {
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            count: i64,
        }
        loop {
            let mut connection = self.site.superuser().await;
            let found: Result<Count, _> = diesel::sql_query(query).get_result(&mut connection).await;
            match found {
                Ok(found) => return found.count,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Every invariant holds of the seed's tenant, and the provider has the money that the model says (I-29).
    pub async fn audit(&mut self) {
        if self.failure.is_some() {
            return;
        }
        let outcome = match self.money_is_there().await {
            Ok(()) => self.site.verify_tenant(self.provider.tenant()).await,
            wrong => wrong,
        };
        if let Err(why) = outcome {
            let last: Vec<String> = self.last.iter().cloned().collect();
            self.failure = Some(format!("seed {}, at rest: {why}\n{}", self.number, last.join("\n")));
        }
    }

    async fn money_is_there(&mut self) -> Result<(), String> {
        #[derive(diesel::QueryableByName)]
        struct Paid {
            #[diesel(sql_type = diesel::sql_types::Text)]
            intent: String,
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            amount: i64,
        }
        let paid: Vec<Paid> = diesel::sql_query(
            "select provider_ref as intent, amount_minor as amount from payments where tenant_id = $1 \
             and status in ('succeeded', 'refunded') and provider_ref is not null",
        )
        .bind::<diesel::sql_types::Uuid, _>(self.provider.tenant().uuid())
        .load(&mut self.site.superuser().await)
        .await
        .map_err(|error| error.to_string())?;
        let mut here: Vec<(String, i64)> = paid.into_iter().map(|paid| (paid.intent, paid.amount)).collect();
        here.sort();
        let alerts = format!(
            "select count(*) as count from outbox where kind = 'payment.mismatched' and tenant_id = '{}'",
            self.provider.tenant().uuid()
        );
        let other = self.model.invoices.iter().filter(|of| of.taken_instead.is_some()).count();
        let told = self.count(&alerts).await;
        if i64::try_from(other) != Ok(told) {
            return Err(format!("{told} alerts of {other} payments over another amount"));
        }
        let there = self.provider.taken();
        if here != there {
            return Err(format!("payments here: {here:?}\nthere: {there:?}"));
        }
        for number in 0..self.model.invoices.len() {
            if !self.ids.knows(Noun::Invoice, number) {
                continue;
            }
            let (id, expected) = (self.ids.id(Noun::Invoice, number), kept_by_the_model(&self.model, number));
            let started = Instant::now();
            // What was paid too late goes back by a job.
            while self.provider.kept(&id) != expected {
                let kept = self.provider.kept(&id);
                let wrong = |why| {
                    format!("{why}: of invoice {number} ({id}) the provider keeps {kept}, not {expected}")
                };
                self.hurry(started).await.map_err(wrong)?;
            }
        }
        Ok(())
    }

    /// Everything that can be read of every customer, twice over: the second time from PostgreSQL and
    /// Redis as they are at rest.
    pub async fn check_at_rest(&mut self) {
        if self.failure.is_none() {
            let outcome = self.hear(&Command::TellAgain, None).await;
            self.note(&Command::TellAgain, None, outcome);
        }
        for customer in 0..self.model.customers.len() {
            for command in [
                Command::ReadBalance { customer },
                Command::ReadExhaustion { customer },
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
        self.make_ready(command).await?;
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
            let answer = match command {
                Command::UseBatch { .. } => {
                    let is_again = |customer| self.ids.tells(&part_of(command, customer, &again), &got);
                    mixed(command, expected, &again, is_again)
                }
                _ => again,
            };
            if self.ids.compare(&answer, &got).is_ok() {
                outcome = Ok(());
                if let Command::CreateCustomer { external_id } = command {
                    self.find_customer(external_id).await?;
                }
            }
        }
        let shown = serde_json::to_string_pretty(&got.body).unwrap();
        if let Err(wrong) = outcome {
            // What PostgreSQL has tells a wrong balance from one that Redis was not told.
            let stored = match command {
                Command::Authorize { customer, .. } => {
                    let read = Command::ReadBalance { customer: *customer };
                    format!("\nstored: {}", self.send(&read, key).await?.0.body)
                }
                _ => String::new(),
            };
            return Err(format!(
                "{wrong}\n\nanswered {}: {shown}\nthe model: {expected:?}{stored}",
                got.status
            ));
        }
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
        let expected = match self.kept.last().filter(|kept| kept.key == key && command.has_key()) {
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
        self.make_ready(command).await?;
        let first = self.model.apply(command);
        let second = if command.has_key() { first.clone() } else { self.model.apply(command) };
        let key = self.key();
        // Where a server was killed, its place has another address now.
        self.client.base = self.site.base(self.number);
        let mut other = self.client.clone();
        other.base = self.site.base(self.number + 1);
        let (one, two) = tokio::join!(
            send(&self.client, &self.ids, command, &key, self.step, &self.site),
            send(&other, &self.ids, command, &key, self.step, &self.site)
        );
        let (one, two) = (self.or_again(command, &key, one).await?, self.or_again(command, &key, two).await?);
        let before = self.ids.clone();
        let mut outcome = Ok(());
        // Either may have come first; of a batch, with each customer by itself.
        for (earlier, later) in [(&one, &two), (&two, &one)] {
            self.ids = before.clone();
            let is_later = |customer| !before.tells(&part_of(command, customer, &first), earlier);
            let of_earlier = mixed(command, &first, &second, is_later);
            let of_later = mixed(command, &second, &first, is_later);
            outcome =
                self.ids.compare(&of_earlier, earlier).and_then(|()| self.ids.compare(&of_later, later));
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
            let answer = send(&self.client, &self.ids, command, key, self.step, &self.site).await;
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

    /// Invoices that no answer named are looked up; what goes wrong with a payment is ordered.
    async fn make_ready(&mut self, command: &Command) -> Result<(), String> {
        if let Command::PayAnotherAmount { taken, .. } = command {
            self.provider.take_instead(*taken);
        }
        let (Command::PayInvoice { invoice, .. }
        | Command::Refund { invoice, .. }
        | Command::DecidePayment { invoice, .. }
        | Command::RefundElsewhere { invoice, .. }
        | Command::GiveBackInstead { invoice }
        | Command::OpenDispute { invoice }) = command
        else {
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
            | Command::ReadExhaustion { .. }
            | Command::ReadSubscription { .. }
            | Command::ListGrants { .. }
            | Command::ListTransfers { .. }
            | Command::ListInvoices { .. }
            | Command::ListSubscriptions { .. }
    )
}

/// Of a batch's answer, what it says of one customer.
fn part_of(command: &Command, customer: usize, answer: &Answer) -> Answer {
    let facts = answer.facts.iter().filter(|(pointer, _)| customer_of(command, pointer) == Some(customer));
    Answer { facts: facts.cloned().collect(), ..answer.clone() }
}

/// One answer to a batch, with what the other says of some customers: what a batch says of a customer is recorded by itself.
/// To any other command, the one.
fn mixed(command: &Command, one: &Answer, other: &Answer, is_other: impl Fn(usize) -> bool) -> Answer {
    let is_of_other = |pointer: &str| customer_of(command, pointer).is_some_and(&is_other);
    let of_one = one.facts.iter().filter(|(pointer, _)| !is_of_other(pointer));
    let of_other = other.facts.iter().filter(|(pointer, _)| is_of_other(pointer));
    Answer { facts: of_one.chain(of_other).cloned().collect(), ..one.clone() }
}

/// Whose event a fact of a batch's answer is about.
fn customer_of(command: &Command, pointer: &str) -> Option<usize> {
    let Command::UseBatch { events } = command else { return None };
    let (place, _) = pointer.strip_prefix("/results/")?.split_once('/')?;
    Some(events[place.parse::<usize>().ok()?].customer)
}

fn same(earlier: &Got, got: &Got) -> Result<(), String> {
    if earlier == got {
        Ok(())
    } else {
        Err(format!("answered at first {earlier:?}\nand when it was repeated {got:?}"))
    }
}

/// Sends a command's requests. An error where one was not answered.
async fn send(
    client: &Client,
    ids: &Ids,
    command: &Command,
    key: &str,
    step: usize,
    site: &Site,
) -> Result<Got, String> {
    if let (Command::Unpark { customer, .. }, Some(tenant)) = (command, ids.tenant) {
        let (events, credits) = site.unpark(tenant, &ids.id(Noun::Customer, *customer)).await?;
        return Ok(Got { status: 200, body: json!({"events": events, "credits": credits}) });
    }
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
    match command {
        Command::Jump { .. } => wait_for_rollover(client, got).await,
        Command::Campaign { .. } => wait_for_campaign(client, got, site).await,
        _ => Ok(got),
    }
}

/// Until it is done.
async fn wait_for_campaign(client: &Client, started: Got, site: &Site) -> Result<Got, String> {
    let since = Instant::now();
    let id = started.body["id"].as_str().unwrap_or_default().to_owned();
    let path = format!("/v1/campaigns/{id}");
    loop {
        let read = Call { method: reqwest::Method::GET, path: path.clone(), body: None, is_list: false };
        let got = send_one(client, &read, "read").await?;
        if got.status != 200 || got.body["state"] == "done" {
            return Ok(got);
        }
        free_jobs(site, &format!("payload ->> 'campaign' = '{id}'"), since).await?;
    }
}

async fn hurry(site: &Site, tenant: &str, started: Instant) -> Result<(), String> {
    free_jobs(site, &format!("payload ->> 'tenant' = '{tenant}'"), started).await
}

/// Waits a little; after a while, jobs that nobody has in hand any more are due now.
async fn free_jobs(site: &Site, which: &str, started: Instant) -> Result<(), String> {
    if started.elapsed() > PATIENCE {
        return Err(format!("jobs are not done within {PATIENCE:?}"));
    }
    tokio::time::sleep(Duration::from_millis(40)).await;
    if started.elapsed() > Duration::from_secs(2) && started.elapsed().subsec_millis() < 200 {
        let kinds = "('apply_provider_event', 'reread_provider_events', 'campaign', 'refund_payment', 'auto_top_up', \
             'collect_payment', 'run_due')";
        let free = "update jobs set leased_until = null, run_at = least(run_at, now())";
        sql(site, &format!("{free} where state = 'queued' and kind in {kinds} and {which}")).await;
    }
    Ok(())
}

async fn sql(site: &Site, text: &str) {
    while site.superuser().await.batch_execute(text).await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
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
