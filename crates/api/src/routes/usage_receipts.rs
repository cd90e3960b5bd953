//! How usage events are answered: what became of each, and why it cost what it did.

use std::sync::Arc;

use domain::Refusal;
use domain::credits::RateMilli;
use domain::hold::NoHold;
use domain::id::{ExternalId, GrantId};
use domain::rating::{Rates, Unrated};
use serde::{Serialize, Serializer};
use usage::{EventResult, UsageEvent};
use utoipa::ToSchema;

use crate::error::Problem;
use crate::routes::usage_events::Element;
use crate::routes::usage_reports::{PaygAmount, Tokens};
use crate::schema;
use crate::wire::Printable;

/// What became of one event.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ResultOfEvent {
    /// Null where the event had none that could be read.
    #[schema(value_type = Option<String>, required)]
    source: Option<Printable<256>>,
    #[schema(value_type = Option<String>, required)]
    id: Option<Printable<128>>,
    status: EventStatus,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_some_receipt")]
    #[schema(value_type = Option<Receipt<'static>>, nullable = false)]
    receipt: Option<Arc<usage::Receipt>>,
    /// Why its usage is not understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    quarantine: Option<Quarantine>,
    /// Why it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Problem>, nullable = false)]
    problem: Option<Box<Problem>>,
}

/// `accepted`: counted and charged now. `duplicate`: counted before, with this receipt. `conflict`: its
/// id was used for other content, which stays. `unrated`: kept, and charged once there is a rate.
/// `quarantined`: kept as it was sent, because its usage is not understood; nothing was counted under its id,
/// so it can be reported again, corrected, or replayed. `rejected`: invalid by itself, and not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum EventStatus {
    Accepted,
    Duplicate,
    Conflict,
    Unrated,
    Quarantined,
    Rejected,
}

/// Why a usage is not understood.
#[derive(Debug, Serialize, ToSchema)]
struct Quarantine {
    #[schema(example = "total-differs")]
    reason: String,
    #[schema(example = "/total_tokens is 111, which is not 100 + 10 = 110")]
    message: String,
}

/// Why an event cost what it did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Receipt<'r> {
    credits: i64,
    /// What no grant paid for, in Credits.
    overage: i64,
    /// What of that is billed in money, where the customer pays by the token; null where nothing is.
    #[schema(required)]
    payg: Option<MoneyPart>,
    /// Why it has no price yet.
    #[schema(required)]
    unrated_reason: Option<&'static str>,
    #[schema(required)]
    catalog_version: Option<u32>,
    /// The upper bound of the context band; null where any length fits.
    #[schema(required)]
    band_prompt_tokens_max: Option<u64>,
    #[serde(serialize_with = "as_rates")]
    #[schema(value_type = Vec<Rate>)]
    rates: Rates,
    /// Of an event of several calls each by itself, with a band of its own: then there is no band and no rate above.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    calls: Vec<CallOfEvent>,
    /// The grants that paid, in order.
    #[serde(serialize_with = "as_draws")]
    #[schema(value_type = Vec<Draw>)]
    draws: &'r [domain::account::Draw],
    hold: Hold,
    /// Why it was charged without an authorization: `not-named`, `unknown`, `expired`, `captured` (by an
    /// earlier event) or `released`.
    #[schema(required)]
    no_hold_reason: Option<&'static str>,
    /// What was left to spend after it.
    balance_after: i64,
    /// The account's version after it.
    account_version: i64,
}

/// One call of an event of several, and what it adds to the event's cost.
#[derive(Debug, Serialize, ToSchema)]
struct CallOfEvent {
    /// Where it ran on another model than the event names; null where it is that one.
    #[schema(value_type = Option<String>, required, example = "mimo-v2-omni")]
    model: Option<ExternalId>,
    tokens: Tokens,
    credits: i64,
    /// What no grant paid for, in Credits.
    overage: i64,
    /// The upper bound of its context band, by its own prompt; null where any length fits, or it is not charged yet.
    #[schema(required)]
    band_prompt_tokens_max: Option<u64>,
    #[serde(serialize_with = "as_rates")]
    #[schema(value_type = Vec<Rate>)]
    rates: Rates,
}

/// The part of an event that is billed in money.
#[derive(Debug, Serialize, ToSchema)]
struct MoneyPart {
    /// The part of `overage` that it is for: zero of a model that has no Credit rate.
    credits: i64,
    #[serde(flatten)]
    amount: PaygAmount,
    /// What the spend cap kept from being billed, in pico-units.
    past_cap_pico: String,
    /// By kind of token; they sum to `pico`.
    lines: Vec<MoneyLine>,
    /// Why the part has no price; then it comes to nothing yet.
    #[schema(required)]
    unrated_reason: Option<&'static str>,
}

/// What the tokens of one kind add to an event's amount.
#[derive(Debug, Serialize, ToSchema)]
struct MoneyLine {
    kind: schema::TokenKind,
    tokens: u64,
    /// Micro-units of the major unit per 1M tokens.
    #[schema(example = 1_000_000)]
    price_micro: u64,
    pico: String,
}

/// Whether the event captured its authorization.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Hold {
    Captured,
    None,
}

/// The rate of a kind of token.
#[derive(Debug, Serialize, ToSchema)]
struct Rate {
    kind: schema::TokenKind,
    /// Milli-Credits per token.
    #[schema(example = 1_000)]
    rate_milli: u32,
}

/// What one grant paid.
#[derive(Debug, Serialize, ToSchema)]
struct Draw {
    #[schema(value_type = schema::GrantId)]
    grant: GrantId,
    credits: i64,
}

/// The places of a batch: rejected, or waiting for the next result.
pub(super) fn take_readable(elements: Vec<Element>) -> (Vec<ResultOfEvent>, Vec<UsageEvent>) {
    let mut events = Vec::with_capacity(elements.len());
    let place = |Element { source, id, event }| {
        let problem = match event {
            Ok(event) => {
                events.push(event);
                None
            }
            Err(problem) => Some(Box::new(problem)),
        };
        ResultOfEvent { source, id, status: EventStatus::Rejected, receipt: None, quarantine: None, problem }
    };
    let places = elements.into_iter().map(place).collect();
    (places, events)
}

pub(super) fn fill(
    mut places: Vec<ResultOfEvent>,
    results: Vec<EventResult>,
) -> Result<Vec<ResultOfEvent>, db::Error> {
    let mut results = results.into_iter();
    for place in places.iter_mut().filter(|place| place.problem.is_none()) {
        let result = results.next().ok_or_else(|| db::Error::broken("an event without a result"))?;
        let (source, id) = (place.source.take(), place.id.take());
        *place = ResultOfEvent::of(source, id, result);
    }
    Ok(places)
}

impl ResultOfEvent {
    pub(super) fn of(
        source: Option<Printable<256>>,
        id: Option<Printable<128>>,
        result: EventResult,
    ) -> ResultOfEvent {
        let mut quarantine = None;
        let (status, receipt, problem) = match result {
            EventResult::Accepted(receipt) => (EventStatus::Accepted, Some(receipt), None),
            EventResult::Duplicate(receipt) => (EventStatus::Duplicate, Some(receipt), None),
            EventResult::Conflict => {
                (EventStatus::Conflict, None, Some(Box::new(Problem::of(&Refusal::EventConflict))))
            }
            EventResult::Unrated(receipt) => (EventStatus::Unrated, Some(receipt), None),
            EventResult::Quarantined(why) => {
                quarantine = Some(Quarantine { reason: why.reason.code().to_owned(), message: why.message });
                (EventStatus::Quarantined, None, None)
            }
            EventResult::Rejected(refusal) => {
                (EventStatus::Rejected, None, Some(Box::new(Problem::of_rejected(&refusal))))
            }
        };
        ResultOfEvent { source, id, status, receipt, quarantine, problem }
    }
}

impl<'r> From<&'r usage::Receipt> for Receipt<'r> {
    fn from(receipt: &'r usage::Receipt) -> Self {
        Receipt {
            credits: receipt.credits.get(),
            overage: receipt.overage.get(),
            payg: receipt.payg.as_ref().map(MoneyPart::from),
            unrated_reason: receipt.unrated_reason.map(Unrated::code),
            catalog_version: receipt.catalog_version,
            band_prompt_tokens_max: receipt.band_prompt_tokens_max,
            rates: receipt.rates,
            calls: receipt.calls.iter().map(CallOfEvent::from).collect(),
            draws: &receipt.draws,
            hold: if receipt.no_hold.is_none() { Hold::Captured } else { Hold::None },
            no_hold_reason: receipt.no_hold.map(NoHold::code),
            balance_after: receipt.balance_after.get(),
            account_version: receipt.version,
        }
    }
}

// What is listed is put into words as it is written: a batch has a thousand receipts.

pub(super) fn as_receipt<S: Serializer>(receipt: &usage::Receipt, serializer: S) -> Result<S::Ok, S::Error> {
    Receipt::from(receipt).serialize(serializer)
}

fn as_some_receipt<S: Serializer>(
    receipt: &Option<Arc<usage::Receipt>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    receipt.as_deref().map(Receipt::from).serialize(serializer)
}

fn as_rates<S: Serializer>(rates: &Rates, serializer: S) -> Result<S::Ok, S::Error> {
    let shown = |(kind, rate): (_, RateMilli)| Rate { kind: schema::TokenKind(kind), rate_milli: rate.0 };
    serializer.collect_seq(rates.iter().map(shown))
}

fn as_draws<S: Serializer>(draws: &[domain::account::Draw], serializer: S) -> Result<S::Ok, S::Error> {
    let shown = |draw: &domain::account::Draw| Draw { grant: draw.grant, credits: draw.credits.get() };
    serializer.collect_seq(draws.iter().map(shown))
}

impl From<&usage::CallReceipt> for CallOfEvent {
    fn from(call: &usage::CallReceipt) -> Self {
        CallOfEvent {
            model: call.model.clone(),
            tokens: call.usage.into(),
            credits: call.credits.get(),
            overage: call.overage.get(),
            band_prompt_tokens_max: call.band_prompt_tokens_max,
            rates: call.rates,
        }
    }
}

impl From<&usage::PaygShare> for MoneyPart {
    fn from(share: &usage::PaygShare) -> Self {
        let line = |line: &domain::payg::KindAmount| MoneyLine {
            kind: schema::TokenKind(line.kind),
            tokens: line.tokens,
            price_micro: line.price_micro,
            pico: line.pico.to_string(),
        };
        MoneyPart {
            credits: share.credits.get(),
            amount: PaygAmount::from((share.currency, share.pico)),
            past_cap_pico: share.past_cap.to_string(),
            lines: share.lines.iter().map(line).collect(),
            unrated_reason: share.unrated_reason.map(Unrated::code),
        }
    }
}
