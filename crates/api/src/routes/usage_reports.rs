//! Where did the Credits go? Usage by time, model, band and key; and one event with its receipt.

use actix_web::web::{Data, Json};
use actix_web::{HttpRequest, get};
use chrono::TimeDelta;
use domain::id::{ApiKeyId, CustomerId, ExternalId};
use domain::rating::Rates;
use domain::usage::TokenCounts;
use serde::{Deserialize, Deserializer, Serialize};
use usage::{Interval, PaygSum, RecordedEvent, ReportKey, ReportQuery, Usage, UsageSums};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Caller;
use crate::body::Query;
use crate::error::{Error, Problem};
use crate::path::{Id, decoded_segment};
use crate::routes::usage_receipts::{Receipt, as_receipt};
use crate::schema;
use crate::wire::{Currency, Instant, Printable, code};

/// What a report is about where it does not say.
const DAYS_BY_DEFAULT: i64 = 30;

/// What a report is about, and how it is cut.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ReportParams {
    /// From the hour that this lies in; 30 days ago where it is left out.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Instant>,
    /// Until the end of the hour that ends at or after this; now where it is left out. 400 days after `from` at most, 31 by the
    /// hour or by kind.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Instant>,
    /// Hours, or days of the tenant's zone; `none` sums up all of it.
    #[serde(default)]
    #[param(inline)]
    interval: Cut,
    /// Any of `model`, `band`, `api_key` and `kind` of token, with commas between; by `model` where it is left out,
    /// and by none of them where it is empty.
    #[serde(default)]
    #[param(value_type = Option<String>, example = "model,band")]
    group_by: GroupBy,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Cut {
    Hour,
    #[default]
    Day,
    None,
}

impl From<Cut> for Interval {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Hour => Interval::Hour,
            Cut::Day => Interval::Day,
            Cut::None => Interval::Whole,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct GroupBy {
    model: bool,
    band: bool,
    api_key: bool,
    kind: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        GroupBy { model: true, band: false, api_key: false, kind: false }
    }
}

impl<'de> Deserialize<'de> for GroupBy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut by = GroupBy { model: false, band: false, api_key: false, kind: false };
        for word in text.split(',').filter(|word| !word.is_empty()) {
            match word {
                "model" => by.model = true,
                "band" => by.band = true,
                "api_key" => by.api_key = true,
                "kind" => by.kind = true,
                _ => return Err(serde::de::Error::custom(code::OUT_OF_RANGE)),
            }
        }
        Ok(by)
    }
}

/// A customer's usage that was charged. Events that have no rate yet, and events that were voided, are no part of it.
#[derive(Debug, Serialize, ToSchema)]
struct Report {
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    from: Instant,
    to: Instant,
    interval: Cut,
    /// The tenant's zone, whose hours and days these are.
    zone: &'static str,
    /// In the order of time, then of what it is grouped by. What nothing was used in is left out.
    data: Vec<Row>,
    total: Sums,
}

/// A part of a report. What it is not cut or grouped by is left out.
#[derive(Debug, Serialize, ToSchema)]
struct Row {
    /// When the hour or the day begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    start: Option<Instant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    model: Option<String>,
    /// The upper bound of the context band; null where any length fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    band_prompt_tokens_max: Option<Option<u64>>,
    /// The customer's own key; null where the gateway named none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    api_key: Option<Option<ExternalId>>,
    /// Whose tokens the row is about. An event is in a row for each kind that it was charged for: its Credits are
    /// what the kind adds to its cost, which is rounded up once, so the rows sum to the total. What no grant paid for
    /// are the last of an event's Credits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    kind: Option<schema::TokenKind>,
    #[serde(flatten)]
    sums: Sums,
}

/// Usage, summed up: tokens and Credits side by side.
#[derive(Debug, Serialize, ToSchema)]
struct Sums {
    events: u64,
    tokens: Tokens,
    credits: i64,
    /// The part of `credits` that no grant paid for.
    overage: i64,
    /// What was billed in money by the token; left out where nothing was, and by kind of token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    payg: Option<PaygAmount>,
}

/// An exact amount of money.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PaygAmount {
    pub(super) currency: Currency,
    /// In pico-units of the major unit: 1.00 is 1000000000000. A text, because it has more digits than a JSON number keeps.
    #[schema(example = "1700000000")]
    pub(super) pico: String,
}

impl From<PaygSum> for PaygAmount {
    fn from((currency, pico): PaygSum) -> Self {
        PaygAmount { currency: currency.into(), pico: pico.to_string() }
    }
}

/// Tokens by kind; `reasoning` is a part of `output`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tokens {
    input: u64,
    cache_read: u64,
    cache_write: u64,
    output: u64,
    reasoning: u64,
}

/// Read a customer's usage
///
/// By hour or day of the tenant's zone, model, context band, the customer's own keys and kind of token.
#[utoipa::path(
    tag = "Usage",
    security(("bearer" = ["read", "customer"])),
    params(
        ("id" = schema::CustomerId, Path, description = "The customer"),
        ReportParams,
    ),
    responses(
        (status = 200, description = "The usage", body = Report),
        (status = 422, description = "`invalid-field`: `to` is not after `from`, or too long after it", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/customers/{id}/usage")]
pub(super) async fn read_usage(
    caller: Caller,
    id: Id<CustomerId>,
    query: Query<ReportParams>,
    tenants: Data<tenants::Tenants>,
    usage: Data<Usage>,
) -> Result<Json<Report>, Error> {
    caller.sees(id.0, "customer")?;
    let scope = caller.scope();
    tenants.customer(scope, id.0).await?;
    let ReportParams { from, to, interval, group_by } = query.0;
    // What happens now is in it too.
    let to = to.map_or(scope.now + TimeDelta::microseconds(1), |to| to.0);
    let from = from.map_or(scope.now - TimeDelta::days(DAYS_BY_DEFAULT), |from| from.0);
    let asked = ReportQuery {
        from,
        to,
        interval: interval.into(),
        by_model: group_by.model,
        by_band: group_by.band,
        by_api_key: group_by.api_key,
        by_kind: group_by.kind,
    };
    let mut report = usage.report(scope, id.0, asked).await?;
    let mut total = Sums::from(report.total);
    total.payg = billed_in_all(&report)?.map(PaygAmount::from);
    let row = |(key, sums): (ReportKey, UsageSums)| {
        let payg = report.payg.remove(&key).map(PaygAmount::from);
        let row = Row::from((key, sums));
        Row { sums: Sums { payg, ..row.sums }, ..row }
    };
    let data = report.rows.into_iter().map(row).collect();
    Ok(Json(Report {
        customer: id.0,
        from: Instant(report.from),
        to: Instant(report.to),
        interval,
        zone: scope.zone.name(),
        data,
        total,
    }))
}

/// None where nothing was billed in money. A customer pays by the token in one currency.
fn billed_in_all(report: &usage::Report) -> Result<Option<PaygSum>, Error> {
    let mut sums = report.payg.values().copied();
    let Some((currency, first)) = sums.next() else { return Ok(None) };
    let same = sums.filter(|(other, _)| *other == currency);
    let all = same.map(|(_, pico)| pico).try_fold(first, |sum, pico| sum.plus(pico));
    Ok(Some((currency, all?)))
}

impl From<(ReportKey, UsageSums)> for Row {
    fn from((key, sums): (ReportKey, UsageSums)) -> Self {
        Row {
            start: key.start.map(Instant),
            model: key.model,
            band_prompt_tokens_max: key.band_prompt_tokens_max,
            api_key: key.api_key,
            kind: key.kind.map(schema::TokenKind),
            sums: sums.into(),
        }
    }
}

impl From<UsageSums> for Sums {
    fn from(sums: UsageSums) -> Self {
        Sums {
            events: sums.events,
            tokens: sums.tokens.into(),
            credits: sums.credits.get(),
            overage: sums.overage.get(),
            payg: None,
        }
    }
}

impl From<TokenCounts> for Tokens {
    fn from(counts: TokenCounts) -> Self {
        let TokenCounts { input, cache_read, cache_write, output, reasoning } = counts;
        Tokens { input, cache_read, cache_write, output, reasoning }
    }
}

/// Who reported the event.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventParams {
    /// The event's source: with its id it names the event.
    #[param(value_type = String, min_length = 1, max_length = 256, pattern = "^[!-~]+$", example = "gateway/eu-1")]
    pub(super) source: Printable<256>,
}

/// An event, and why it cost what it did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventView {
    source: String,
    id: String,
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    #[schema(value_type = String)]
    model: ExternalId,
    event_time: Instant,
    recorded_at: Instant,
    outcome: &'static str,
    usage_source: &'static str,
    #[schema(value_type = Option<String>, required)]
    authorization: Option<ExternalId>,
    #[schema(value_type = Option<String>, required)]
    api_key: Option<ExternalId>,
    tokens: Tokens,
    /// Input, cache reads and cache writes together: what chooses the context band, whose rate all tokens have. Of several
    /// calls those of each choose its own.
    prompt_tokens: u64,
    /// What each kind cost, of several calls those of one call after the other. Their sum is rounded up once, to the
    /// event's Credits.
    lines: Vec<Line>,
    /// As it was charged, also where it was voided since.
    #[serde(serialize_with = "as_receipt")]
    #[schema(value_type = Receipt<'static>)]
    receipt: usage::Receipt,
    /// Null unless it was voided.
    #[schema(required)]
    voided: Option<Voided>,
}

/// That an event was voided: what it had cost went back to the grants that had paid.
#[derive(Debug, Serialize, ToSchema)]
struct Voided {
    at: Instant,
    /// The operator's words.
    reason: String,
    /// The API key of the operator; null where that was not kept yet.
    #[schema(value_type = Option<schema::ApiKeyId>, required)]
    voided_by: Option<ApiKeyId>,
    /// What went back to the grants that had paid, the last one that was drawn on first.
    returned: i64,
    /// How much of that became spendable. The rest went back to grants that had ended, and expired at once.
    spendable: i64,
    /// What no grant had paid for, and counts as overage no more.
    overage: i64,
    /// What was left to spend after it.
    balance_after: i64,
    /// The account's version after it.
    account_version: i64,
}

/// What the tokens of one kind cost.
#[derive(Debug, Serialize, ToSchema)]
struct Line {
    kind: schema::TokenKind,
    tokens: u64,
    /// Milli-Credits per token: 1,000 is 1x.
    rate_milli: u32,
    /// `tokens` times `rate_milli`, exactly.
    #[schema(value_type = String, example = "1500")]
    milli_credits: String,
}

/// Read an event
///
/// With its receipt: the kinds of tokens, the band, the rates and the catalogue version they are from, the grants
/// that paid, and what was left.
#[utoipa::path(
    tag = "Usage",
    security(("bearer" = ["read", "customer"])),
    params(
        ("id" = String, Path, description = "The event's id, percent-encoded", example = "req-1"),
        EventParams,
    ),
    responses((status = 200, description = "The event", body = EventView)),
)]
#[get("/usage/events/{id}")]
pub(super) async fn read_event(
    caller: Caller,
    request: HttpRequest,
    query: Query<EventParams>,
    usage: Data<Usage>,
) -> Result<Json<EventView>, Error> {
    let id = decoded_segment(&request, "id");
    let event = usage.read_event(caller.scope(), &query.0.source.0, &id).await?;
    caller.sees(event.customer, "event")?;
    Ok(Json(EventView::of(event)?))
}

fn lines(usage: &TokenCounts, rates: Rates) -> Vec<Line> {
    let lines = rates.iter().map(|(kind, rate)| {
        let tokens = usage.of(kind);
        let milli_credits = (u128::from(tokens) * u128::from(rate.0)).to_string();
        Line { kind: schema::TokenKind(kind), tokens, rate_milli: rate.0, milli_credits }
    });
    lines.collect()
}

impl EventView {
    pub(super) fn of(event: RecordedEvent) -> Result<EventView, Error> {
        let receipt = &event.receipt;
        let voided = event.void.map(|void| Voided {
            at: Instant(void.at),
            reason: void.reason,
            voided_by: void.by,
            returned: receipt.credits.minus_floor_zero(receipt.overage).get(),
            spendable: void.spendable.get(),
            overage: receipt.overage.get(),
            balance_after: void.balance_after.get(),
            account_version: void.version,
        });
        let calls = receipt.calls.iter().map(|call| lines(&call.usage, call.rates));
        let lines = lines(&event.usage, receipt.rates).into_iter().chain(calls.flatten()).collect();
        Ok(EventView {
            lines,
            prompt_tokens: event.usage.prompt()?,
            tokens: event.usage.into(),
            source: event.source,
            id: event.id,
            customer: event.customer,
            model: event.model,
            event_time: Instant(event.event_time),
            recorded_at: Instant(event.recorded_at),
            outcome: event.outcome.name(),
            usage_source: event.usage_source.name(),
            authorization: event.authorization,
            api_key: event.api_key,
            voided,
            receipt: event.receipt,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_grouped_by_what_is_named() {
        let read = |text: &str| {
            let text = serde_json::Value::String(text.to_owned());
            serde_json::from_value::<GroupBy>(text).map(|by| (by.model, by.band, by.api_key, by.kind)).ok()
        };
        assert_eq!(read(""), Some((false, false, false, false)));
        assert_eq!(read("model,api_key"), Some((true, false, true, false)));
        assert_eq!(read("band,kind"), Some((false, true, false, true)));
        assert_eq!(read("colour"), None);
    }
}
