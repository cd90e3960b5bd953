//! Usage events: each counted once, for what it costs, and as it was acknowledged (I-31, I-14).

use std::collections::HashMap;

use uuid::Uuid;

use super::{
    COST, DOUBLED, EFFECT, EXPECTED, Evidence, Findings, LOST, PHANTOM, RECEIPT, REFUSED, SAME_ANSWER,
    UNKNOWN,
};
use crate::history::{
    AccountIndex, Answer, EventAnswer, HoldUse, Name, Operation, Receipt, Request, SentEvent,
};
use crate::store::{EventRow, TransferRow};

/// What the clients know of every event.
pub(crate) struct Events {
    pub(crate) known: HashMap<Name, Known>,
}

/// What the clients know of one event.
pub(crate) struct Known {
    /// As it was sent first.
    pub(crate) sent: SentEvent,
    /// The operation that sent it first.
    pub(crate) operation: usize,
    /// The first that was acknowledged.
    pub(crate) receipt: Option<Receipt>,
    /// Some request with it was never answered.
    pub(crate) is_open: bool,
}

impl Events {
    /// Reads all answers to usage, and checks each against the earlier ones.
    pub(crate) fn read(evidence: &Evidence<'_>, findings: &mut Findings) -> Events {
        let mut events = Events { known: HashMap::new() };
        for (index, operation) in evidence.operations.iter().enumerate() {
            let Request::Usage(sent) = &operation.request else { continue };
            for event in sent {
                let new = Known { sent: *event, operation: index, receipt: None, is_open: false };
                events.known.entry(event.name).or_insert(new);
            }
            match &operation.answer {
                None => sent.iter().for_each(|event| events.open(event.name)),
                Some(Answer::Usage(results)) => {
                    for (event, result) in sent.iter().zip(results) {
                        events.answered(index, operation, event, result, findings);
                    }
                    events.check_wholeness(index, operation, sent, results, findings);
                }
                Some(other) => {
                    findings.expect(EXPECTED, false, || format!("usage {}: {other:?}", operation.key))
                }
            }
        }
        events
    }

    fn open(&mut self, name: Name) {
        if let Some(known) = self.known.get_mut(&name) {
            known.is_open = true;
        }
    }

    fn answered(
        &mut self,
        index: usize,
        operation: &Operation,
        event: &SentEvent,
        result: &EventAnswer,
        findings: &mut Findings,
    ) {
        let Some(known) = self.known.get_mut(&event.name) else { return };
        let is_same = is_same_content(&known.sent, event);
        let describe = |what: &str| format!("{what}: {event:?} in {} got {result:?}", operation.key);
        match result {
            EventAnswer::Accepted(receipt) | EventAnswer::Unrated(receipt) => {
                findings
                    .expect(EXPECTED, is_same && !event.is_too_old, || describe("should not be accepted"));
                findings.expect(DOUBLED, known.receipt.is_none(), || describe("accepted a second time"));
                let cost = event.model.cost(event.tokens);
                let is_right = receipt.credits == cost.unwrap_or(0) && receipt.is_unrated == cost.is_none();
                findings.expect(COST, is_right, || describe(&format!("costs {cost:?}")));
                known.receipt.get_or_insert(*receipt);
            }
            EventAnswer::Duplicate(receipt) => {
                findings.expect(EXPECTED, is_same, || describe("other content is no duplicate"));
                match known.receipt {
                    // The first answer to it was never heard: then it is new in this very request.
                    None => {
                        let may_be = operation.was_unknown() && known.operation == index || known.is_open;
                        findings.expect(SAME_ANSWER, may_be, || describe("a duplicate of nothing"));
                        known.receipt = Some(*receipt);
                    }
                    Some(first) => {
                        findings.expect(SAME_ANSWER, first == *receipt, || {
                            describe(&format!("before: {first:?}"))
                        });
                    }
                }
            }
            EventAnswer::Conflict => {
                let is_right = !is_same && (known.receipt.is_some() || known.is_open);
                findings.expect(EXPECTED, is_right, || describe("no conflict"));
            }
            EventAnswer::Rejected => {
                findings.expect(EXPECTED, event.is_too_old, || describe("nothing is wrong with it"));
            }
            EventAnswer::Strange => findings.expect(EXPECTED, false, || describe("strange")),
        }
    }

    /// The new events of one account in a batch whose outcome was unknown are all there, or none is.
    fn check_wholeness(
        &self,
        index: usize,
        operation: &Operation,
        sent: &[SentEvent],
        results: &[EventAnswer],
        findings: &mut Findings,
    ) {
        if !operation.was_unknown() || operation.is_repeat {
            return;
        }
        let mut times: HashMap<Name, u32> = HashMap::new();
        sent.iter().for_each(|event| *times.entry(event.name).or_default() += 1);
        let mut parts: HashMap<AccountIndex, Part> = HashMap::new();
        for (event, result) in sent.iter().zip(results) {
            let is_new = self.known.get(&event.name).is_some_and(|known| known.operation == index);
            if !is_new || times.get(&event.name) != Some(&1) {
                continue;
            }
            let part = parts.entry(event.account).or_default();
            match result {
                EventAnswer::Accepted(_) | EventAnswer::Unrated(_) => part.missing += 1,
                EventAnswer::Duplicate(_) => part.there += 1,
                EventAnswer::Conflict | EventAnswer::Rejected | EventAnswer::Strange => {}
            }
        }
        expect_whole(operation, &parts, findings);
    }

    /// Compares with the stored events and their transfers.
    pub(crate) fn check_stored(&self, evidence: &Evidence<'_>, findings: &mut Findings) {
        let accounts = evidence.accounts();
        let effects = effects(evidence);
        let mut times: HashMap<Name, u32> = HashMap::new();
        for row in &evidence.books.events {
            let known = row.name.and_then(|name| Some((name, self.known.get(&name)?)));
            findings.expect(PHANTOM, known.is_some(), || format!("nobody sent {row:?}"));
            let Some((name, known)) = known else { continue };
            *times.entry(name).or_default() += 1;
            let is_as_sent =
                is_as_sent(row, &known.sent) && accounts.get(&row.customer) == Some(&known.sent.account);
            findings.expect(PHANTOM, is_as_sent, || format!("sent {:?}, stored {row:?}", known.sent));
            let cost = known.sent.model.cost(known.sent.tokens);
            findings.expect(COST, row.credits == cost.unwrap_or(0), || format!("costs {cost:?}: {row:?}"));
            match known.receipt {
                Some(receipt) => findings.expect(RECEIPT, is_receipt_of(row, &receipt), || {
                    format!("acknowledged {receipt:?}, stored {row:?}")
                }),
                None => findings.expect(REFUSED, known.is_open, || format!("refused, and stored: {row:?}")),
            }
            let effect = effects.get(&row.identity).copied().unwrap_or_default();
            let expected = Effect {
                drawn: row.credits - row.overage,
                overage: row.overage,
                count: row.draws + i64::from(row.overage > 0),
                other: 0,
            };
            findings.expect(EFFECT, effect == expected, || format!("{effect:?} is not that of {row:?}"));
        }
        let stored: std::collections::HashSet<Uuid> =
            evidence.books.events.iter().map(|row| row.identity).collect();
        for identity in effects.keys() {
            findings.expect(EFFECT, stored.contains(identity), || {
                format!("a charge without an event: {identity}")
            });
        }
        for (name, known) in &self.known {
            let count = times.get(name).copied().unwrap_or(0);
            match known.receipt {
                Some(_) => findings.expect(LOST, count > 0, || format!("{name} is lost: {:?}", known.sent)),
                None if !known.is_open => {
                    findings.expect(REFUSED, count == 0, || format!("{name} was refused, and is stored"));
                }
                None => {}
            }
            findings.expect(DOUBLED, count <= 1, || format!("{name} is stored {count} times"));
        }
        self.check_unanswered(evidence, &times, findings);
    }

    /// What was never answered is there wholly or not at all, account by account.
    fn check_unanswered(&self, evidence: &Evidence<'_>, times: &HashMap<Name, u32>, findings: &mut Findings) {
        for (index, operation) in evidence.operations.iter().enumerate() {
            let (Request::Usage(sent), None) = (&operation.request, &operation.answer) else { continue };
            let is_new = |event: &&SentEvent| {
                !event.is_too_old && self.known.get(&event.name).is_some_and(|known| known.operation == index)
            };
            let mut parts: HashMap<AccountIndex, Part> = HashMap::new();
            for event in sent.iter().filter(is_new) {
                let part = parts.entry(event.account).or_default();
                match times.contains_key(&event.name) {
                    true => part.there += 1,
                    false => part.missing += 1,
                }
            }
            expect_whole(operation, &parts, findings);
        }
    }
}

/// How many events of one account in a batch were there when it was looked at, and how many were not.
#[derive(Default)]
struct Part {
    there: u64,
    missing: u64,
}

fn expect_whole(operation: &Operation, parts: &HashMap<AccountIndex, Part>, findings: &mut Findings) {
    for (account, Part { there, missing }) in parts {
        findings.expect(UNKNOWN, *there == 0 || *missing == 0, || {
            format!("{}: {there} of its events of {account:?} were there, {missing} were not", operation.key)
        });
    }
}

/// What one event moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Effect {
    drawn: i64,
    overage: i64,
    count: i64,
    /// Between any other books.
    other: i64,
}

fn effects(evidence: &Evidence<'_>) -> HashMap<Uuid, Effect> {
    let mut effects: HashMap<Uuid, Effect> = HashMap::new();
    for transfer in evidence.books.transfers.values().flatten() {
        let TransferRow { debit, credit, credits, cause_kind, cause_id, .. } = transfer;
        if cause_kind != "usage" {
            continue;
        }
        let effect = effects.entry(*cause_id).or_default();
        effect.count += 1;
        match (debit.as_str(), credit.as_str()) {
            ("available", "spent") => effect.drawn += credits,
            ("overage", "spent") => effect.overage += credits,
            _ => effect.other += credits,
        }
    }
    effects
}

/// The authorization is no part of an event's content.
fn is_same_content(first: &SentEvent, event: &SentEvent) -> bool {
    SentEvent { hold: None, ..*first } == SentEvent { hold: None, ..*event }
}

fn is_as_sent(row: &EventRow, sent: &SentEvent) -> bool {
    let tokens = sent.tokens;
    row.model == sent.model.code()
        && [row.input, row.cache_read, row.output]
            == [tokens.input, tokens.cache_read, tokens.output].map(i64::from)
        && !sent.is_too_old
}

fn is_receipt_of(row: &EventRow, receipt: &Receipt) -> bool {
    let stored = (row.credits, row.overage, row.balance_after, row.version, row.draws, row.is_unrated);
    let Receipt { credits, overage, balance_after, version, draws, is_unrated, hold } = *receipt;
    stored == (credits, overage, balance_after, version, draws, is_unrated)
        && row.captured == (hold == HoldUse::Captured)
}
