//! What did it use?

use super::account::Charge;
use super::calendar::{HOUR, MINUTE, Micros};
use super::command::{Answer, Event, Fact, Noun, Plain};
use super::holds::{HoldEnd, NoRate, tokens};
use super::tenant::{Customer, Model};

/// How far back an event's time may lie (*policy*).
const AGE_MAX: Micros = 72 * HOUR;
/// How far ahead (*policy*).
const AHEAD_MAX: Micros = 5 * MINUTE;

/// An event that was counted, and what was answered.
#[derive(Debug, Clone)]
pub struct Counted {
    pub event: Event,
    pub received: Micros,
    /// When the hold was granted that it captured.
    pub captured: Option<Micros>,
    /// Whether it waits until its account is un-parked.
    pub is_kept: bool,
    pub receipt: Vec<Fact>,
    /// The versions of the transfers that charged it.
    pub charged_by: Vec<i64>,
    /// What of it no grant paid for.
    pub overage: i64,
    pub cost: i64,
    /// What was answered when it was voided.
    pub voided: Option<Vec<Fact>>,
}

/// What became of an event.
struct Outcome {
    /// `accepted`, `duplicate`, `conflict`, `unrated` or `rejected`.
    status: &'static str,
    code: Option<&'static str>,
    receipt: Vec<Fact>,
}

impl Outcome {
    fn no(status: &'static str, code: &'static str) -> Outcome {
        Outcome { status, code: Some(code), receipt: Vec::new() }
    }

    fn facts(&self) -> Vec<Fact> {
        let mut facts = vec![("/status".to_owned(), self.status.into())];
        if let Some(code) = self.code {
            let problem_type = format!("https://tollgate.dev/problems/{code}");
            facts.push(("/problem/type".to_owned(), Plain::Text(problem_type)));
        }
        facts.extend(self.receipt.iter().map(|(rest, value)| (format!("/receipt{rest}"), value.clone())));
        facts
    }
}

impl Model {
    pub(super) fn use_one(&mut self, event: &Event) -> Answer {
        let outcome = self.count(event);
        match outcome.status {
            "accepted" | "duplicate" => Answer::ok(200).with_all("", outcome.facts()),
            "unrated" => Answer::ok(202).with_all("", outcome.facts()),
            "conflict" => Answer::no(409, "event-conflict"),
            _ => Answer { status: 422, code: outcome.code, facts: Vec::new() },
        }
    }

    pub(super) fn use_batch(&mut self, events: &[Event]) -> Answer {
        let mut answer = Answer::ok(200).with("/results", Plain::Length(events.len()));
        for (index, event) in events.iter().enumerate() {
            let facts = self.count(event).facts();
            answer = answer.with_all(&format!("/results/{index}"), facts);
        }
        answer
    }

    fn count(&mut self, event: &Event) -> Outcome {
        let now = self.now;
        if event.reasoning > event.tokens[3] {
            return Outcome::no("rejected", "invalid-field");
        }
        let time = event.time.unwrap_or(now);
        let rated = self.rate(event.model, event.tokens, time);
        if matches!(rated, Err(NoRate::Overflow)) {
            return Outcome::no("rejected", "amount-overflow");
        }
        if event.customer >= self.customers.len() {
            return Outcome::no("rejected", "not-found");
        }
        let named = event.authorization.as_ref().map(|id| (event.customer, id.clone()));
        if let Some((customer, id)) = &named
            && !self.holds.contains_key(&(*customer, id.clone()))
            && self.holds.keys().any(|(_, other)| other == id)
        {
            return Outcome::no("rejected", "authorization-foreign");
        }
        if let Some(counted) = self.events.get(&(event.source, event.id.clone())) {
            if !is_same(&counted.event, event) {
                return Outcome::no("conflict", "event-conflict");
            }
            let receipt = counted.receipt.clone();
            self.end_hold(named.as_ref(), HoldEnd::Released);
            return Outcome { status: "duplicate", code: None, receipt };
        }
        if time < now - AGE_MAX || time > now + AHEAD_MAX {
            return Outcome::no("rejected", "event-time-out-of-range");
        }
        let (capture, no_hold) = self.capture(named.as_ref());
        let kept = Counted {
            event: event.clone(),
            received: now,
            captured: capture,
            is_kept: false,
            receipt: Vec::new(),
            charged_by: Vec::new(),
            overage: 0,
            cost: 0,
            voided: None,
        };
        let (status, mut counted) = self.charge(kept);
        let mut fact = |pointer: &str, value: Plain| counted.receipt.push((pointer.to_owned(), value));
        fact("/hold", if no_hold.is_none() { "captured" } else { "none" }.into());
        fact("/no_hold_reason", no_hold.into());
        self.end_hold(named.as_ref(), HoldEnd::Captured);
        let receipt = counted.receipt.clone();
        self.events.insert((event.source, event.id.clone()), counted);
        Outcome { status, code: None, receipt }
    }

    /// Charges an event that was not charged yet, or keeps it; says how it stands, with its receipt but for the hold.
    fn charge(&mut self, mut of: Counted) -> (&'static str, Counted) {
        let (now, event) = (self.now, of.event.clone());
        let time = event.time.unwrap_or(of.received);
        let pays = self.pays_by_the_token(event.customer);
        let whole = if pays { self.money(event.customer, event.model, event.tokens, time) } else { None };
        let earlier = if time < of.received { time } else { of.received };
        let charge = |cost| Charge {
            cost,
            instant: of.captured.unwrap_or(earlier),
            is_captured: of.captured.is_some(),
            event_time: time,
            received: of.received,
            now,
        };
        let mut is_in_money = false;
        let is_parked = self.customers[event.customer].is_parked;
        let rated = match self.rate(event.model, event.tokens, time) {
            // What could be charged waits for an operator.
            Ok(_) if is_parked => Err(NoRate::Unrated("account-parked")),
            Err(NoRate::Unrated("no-credit-rate")) if whole.is_some() && is_parked => {
                Err(NoRate::Unrated("account-parked"))
            }
            // Of which no grant covers anything, and that has no price.
            Ok(rated) if pays && whole.is_none() && rated.credits > 0 => {
                let uncovered =
                    self.customers[event.customer].account.clone().charge(charge(rated.credits)).overage;
                if uncovered == rated.credits { Err(NoRate::Unrated("no-price")) } else { Ok(rated) }
            }
            // Sold for money alone.
            Err(NoRate::Unrated("no-credit-rate")) if whole.is_some() => {
                is_in_money = true;
                self.sold_for_money(event.model, event.tokens, time)
            }
            other => other,
        };
        let Customer { account, on_account, .. } = &mut self.customers[event.customer];
        let name = (event.source, event.id.clone());
        let mut receipt: Vec<Fact> = Vec::new();
        let mut fact = |pointer: &str, value: Plain| receipt.push((pointer.to_owned(), value));
        of.is_kept = false;
        let status = match &rated {
            Ok(rated) => {
                let charged = account.charge(charge(rated.credits));
                (of.charged_by, of.cost, of.overage) = (charged.versions, rated.credits, charged.overage);
                fact("/credits", rated.credits.into());
                fact("/overage", charged.overage.into());
                fact("/unrated_reason", Plain::Null);
                fact("/catalog_version", rated.catalog.into());
                fact("/band_prompt_tokens_max", rated.band.map(tokens).into());
                fact("/draws", Plain::Length(charged.draws.len()));
                for (index, (grant, credits)) in charged.draws.iter().enumerate() {
                    fact(&format!("/draws/{index}/grant"), Plain::Id(Noun::Grant, *grant));
                    fact(&format!("/draws/{index}/credits"), (*credits).into());
                }
                if pays && (is_in_money || charged.overage > 0) {
                    let part = (charged.overage, rated.credits);
                    for (pointer, value) in on_account.bill(name, event.model, whole, part, now) {
                        fact(&pointer, value);
                    }
                } else {
                    fact("/payg", Plain::Null);
                }
                "accepted"
            }
            Err(no) => {
                let reason = match no {
                    NoRate::Unrated(reason) => reason,
                    NoRate::Overflow => panic!("{event:?} was rejected"),
                };
                of.is_kept = *reason == "account-parked";
                fact("/credits", 0_i64.into());
                fact("/overage", 0_i64.into());
                fact("/unrated_reason", (*reason).into());
                fact("/draws", Plain::Length(0));
                "unrated"
            }
        };
        fact("/balance_after", account.settled(now).into());
        fact("/account_version", account.version().into());
        of.receipt = receipt;
        (status, of)
    }

    /// An operator lets an account spend again: what was kept is charged in the order of the events' times, to the cycle
    /// and at the rate of each. `in_order` names them, because those of one instant come in the order of the store.
    pub(super) fn unpark(&mut self, customer: usize, in_order: &[(&'static str, String)]) -> Answer {
        self.customers[customer].is_parked = false;
        let (mut events, mut credits) = (0_i64, 0);
        for name in in_order {
            let Some(kept) = self.events.get(name).filter(|of| of.is_kept).cloned() else { continue };
            let hold = kept.receipt.iter().filter(|(pointer, _)| pointer.contains("hold"));
            let hold: Vec<Fact> = hold.cloned().collect();
            let (status, mut counted) = self.charge(kept);
            counted.receipt.extend(hold);
            if status == "accepted" {
                events += 1;
                credits += counted.cost;
            }
            self.events.insert(name.clone(), counted);
        }
        Answer::ok(200).with("/events", events).with("/credits", credits)
    }

    /// The names of what was kept, in the order of the events' times.
    pub fn kept_of(&self, customer: usize) -> Vec<(&'static str, String)> {
        let own = self.events.iter().filter(|(_, of)| of.is_kept && of.event.customer == customer);
        let mut own: Vec<_> = own.collect();
        own.sort_by_key(|(_, of)| of.event.time.unwrap_or(of.received));
        own.into_iter().map(|(name, _)| name.clone()).collect()
    }

    /// When an event that was counted was, as it said or as it came.
    pub fn time_of(&self, name: &(&'static str, String)) -> Option<Micros> {
        self.events.get(name).map(|of| of.event.time.unwrap_or(of.received))
    }

    /// once an event, whatever the reason is the second time.
    pub(super) fn void(&mut self, source: &'static str, id: &str, reason: &str) -> Answer {
        let now = self.now;
        let Some(counted) = self.events.get_mut(&(source, id.to_owned())) else {
            return Answer::no(404, "not-found");
        };
        let customer = counted.event.customer;
        if counted.voided.is_none() && self.customers[customer].is_parked {
            return Answer::no(409, "account-parked");
        }
        let account = &mut self.customers[customer].account;
        if counted.voided.is_none() {
            let spendable = account.void(&counted.charged_by, now);
            self.customers[customer].on_account.void(&(source, id.to_owned()));
            let account = &self.customers[customer].account;
            let fact = |pointer: &str, value: Plain| (pointer.to_owned(), value);
            counted.voided = Some(vec![
                fact("/at", Plain::At(now)),
                fact("/reason", reason.into()),
                fact("/returned", (counted.cost - counted.overage).into()),
                fact("/spendable", spendable.into()),
                fact("/overage", counted.overage.into()),
                fact("/balance_after", account.settled(now).into()),
                fact("/account_version", account.version().into()),
            ]);
        }
        Answer::ok(200)
            .with("/source", source)
            .with("/id", id)
            .with("/customer", Plain::Id(Noun::Customer, customer))
            .with_all("/receipt", counted.receipt.clone())
            .with_all("/voided", counted.voided.clone().unwrap_or_default())
    }

    /// The grant instant of the hold that is captured, or why none is.
    fn capture(&self, named: Option<&(usize, String)>) -> (Option<Micros>, Option<&'static str>) {
        let Some(key) = named else { return (None, Some("not-named")) };
        match self.holds.get(key) {
            None => (None, Some("unknown")),
            Some(hold) => match hold.end {
                Some(HoldEnd::Captured) => (None, Some("captured")),
                Some(HoldEnd::Released) => (None, Some("released")),
                None if hold.expires <= self.now => (None, Some("expired")),
                None => (Some(hold.granted), None),
            },
        }
    }

    /// Ends a hold that is live.
    fn end_hold(&mut self, named: Option<&(usize, String)>, end: HoldEnd) {
        let now = self.now;
        if let Some(hold) = named.and_then(|key| self.holds.get_mut(key))
            && hold.end.is_none()
            && now < hold.expires
        {
            hold.end = Some(end);
        }
    }
}

/// the authorization is no content.
fn is_same(one: &Event, other: &Event) -> bool {
    one.customer == other.customer
        && one.model == other.model
        && one.tokens == other.tokens
        && one.reasoning == other.reasoning
        && one.outcome == other.outcome
        && one.usage_source == other.usage_source
        && one.time == other.time
}
