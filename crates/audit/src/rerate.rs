//! Rates each event again, from its tokens and the catalogue version in force at its own time (I-14),
//! and names it again, from its source and id (I-12).

use chrono::TimeDelta;
use domain::Timestamp;
use domain::catalog::CatalogHistory;
use domain::cycle_rates::{Used, cost_in_cycle, depends_on_cycle};
use domain::id::{CustomerId, TenantId};
use domain::payg::price_event;
use domain::rating::{NoCost, Rated, Unrated, band_max, rate_event};
use domain::usage::{TokenCounts, event_identity};
use domain::usage_format::Call;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::finding::{Finding, Invariant};
use crate::store::EventRow;

/// How long after its publishing a version may not have been known to a server that rated by the one
/// before it.
const SERVED_AFTER: TimeDelta = TimeDelta::seconds(10);

/// A tenant's catalogue, with when each version was published.
pub(crate) struct Rerate<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) history: &'a CatalogHistory,
    pub(crate) published: &'a [(u32, Timestamp)],
}

impl Rerate<'_> {
    /// What is wrong about an event, if anything.
    pub(crate) fn check(&self, row: &EventRow) -> Vec<Finding> {
        let mut findings = Vec::new();
        let identity = Uuid::from_bytes(event_identity(self.tenant, &row.source, &row.event_id));
        if identity != row.identity {
            let expected = format!("identity {identity}, of its source and id");
            findings.push(self.finding(12, row, format!("identity {}", row.identity), expected));
        }
        let allowed = self.allowed(row);
        let found = stored(row);
        if !allowed.is_empty() && !allowed.contains(&found) {
            findings.push(self.finding(14, row, found, allowed.join(", or ")));
        }
        findings.extend(self.wrong_prices(row));
        findings
    }

    /// A money part is priced by its tokens and a version that was in force, kind by kind.
    fn wrong_prices(&self, row: &EventRow) -> Option<Finding> {
        let lines = row.payg_lines.as_ref()?.as_array()?;
        let priced = |line: &Value| json!([line[0], line[1], line[2]]);
        let found = Value::Array(lines.iter().map(priced).collect());
        let (usage, calls) = (counts(row)?, calls(row)?);
        let currency = row.payg_currency.as_deref()?.parse().ok()?;
        let effective = self.history.versions().filter(|catalog| catalog.effective_at() <= row.event_time);
        let prices = effective
            .filter_map(|catalog| price_event(Some(catalog), &row.model, &usage, &calls, currency).ok()?);
        let allowed: Vec<Value> = prices
            .map(|kinds| kinds.iter().map(|kind| json!([kind.kind, kind.tokens, kind.price_micro])).collect())
            .collect();
        (!allowed.contains(&found)).then(|| {
            let expected = allowed.last().map_or("no price".to_owned(), Value::to_string);
            self.finding(14, row, format!("money part {found}"), expected)
        })
    }

    /// What the event's receipt may say: one thing, but while a version was being published. Empty where
    /// it waits for another reason than its rate.
    fn allowed(&self, row: &EventRow) -> Vec<String> {
        let waits = |reason: &str| {
            [Unrated::AccountOverflow, Unrated::AccountParked, Unrated::NoPrice]
                .iter()
                .any(|why| why.code() == reason)
        };
        if row.unrated_reason.as_deref().is_some_and(waits) {
            return Vec::new();
        }
        let in_force = self.history.at(row.event_time).map(|catalog| catalog.version());
        let rated_by = row.charged_at.map_or(row.recorded_at, |at| at.max(row.recorded_at));
        let mut allowed: Vec<String> = self
            .published
            .iter()
            // Known when it was rated, or perhaps; from the latest on.
            .rev()
            .filter(|(version, at)| in_force.is_some_and(|last| *version <= last) && *at <= rated_by)
            .scan(false, |is_over, (version, at)| {
                let is_candidate = !*is_over && self.is_effective(*version, row.event_time);
                *is_over |= is_candidate && *at + SERVED_AFTER <= row.recorded_at;
                Some(is_candidate.then_some(*version))
            })
            .flatten()
            .map(|version| self.rated(Some(version), row))
            .collect();
        if allowed.is_empty() {
            allowed.push(self.rated(None, row));
        }
        allowed.extend(self.kept_by_cycles(row));
        allowed
    }

    fn is_effective(&self, version: u32, at: Timestamp) -> bool {
        self.history.version(version).is_some_and(|catalog| catalog.effective_at() <= at)
    }

    /// What a paid cycle keeps where a dearer rate waits for the next one. A cycle is paid for a moment after its
    /// instant: usage that was charged until then was in none, or in the one before. Whatever the tenant says by now:
    /// what it said when the event was rated is not known.
    fn kept_by_cycles(&self, row: &EventRow) -> Vec<String> {
        let (Some(usage), Some(calls)) = (counts(row), calls(row)) else { return Vec::new() };
        let used = Used { model: &row.model, usage: &usage, calls: &calls };
        if !depends_on_cycle(&used, self.history, row.event_time) {
            return Vec::new();
        }
        let starts = row.cycle_starts.iter();
        let kept = starts.map(|start| cost_in_cycle(&used, self.history, Some(*start), row.event_time));
        kept.flatten().map(|rated| receipt_of(&rated)).collect()
    }

    fn rated(&self, version: Option<u32>, row: &EventRow) -> String {
        let Some(counts) = counts(row) else { return "token counts of at least 0".to_owned() };
        let Some(calls) = calls(row) else { return "the tokens of each call".to_owned() };
        let sum = calls.iter().try_fold(TokenCounts::default(), |sum, call| sum.plus(&call.usage));
        if !calls.is_empty() && sum != Ok(counts) {
            return format!("the tokens of its calls, {sum:?}");
        }
        let catalog = version.and_then(|version| self.history.version(version));
        let catalog = catalog.map(|catalog| catalog.as_ref());
        match rate_event(catalog, &row.model, &counts, &calls, row.event_time) {
            Ok(rated) => receipt_of(&rated),
            // Priced in money alone.
            Err(NoCost::Unrated(Unrated::NoCreditRate)) if row.payg_currency.is_some() => {
                let band =
                    |model: &str, usage: &TokenCounts| catalog.and_then(|of| band_max(of, model, usage));
                let whole = if calls.is_empty() { band(&row.model, &counts) } else { None };
                let each =
                    calls.iter().map(|call| json!([0, band(call.model_of(&row.model), &call.usage), []]));
                receipt(0, version.map(i128::from), whole.map(i128::from), &json!([]), each.collect())
            }
            Err(NoCost::Unrated(why)) => format!("unrated, {}", why.code()),
            Err(NoCost::Refused(refusal)) => format!("refused, {}", refusal.code()),
        }
    }

    fn finding(&self, invariant: u8, row: &EventRow, found: String, expected: String) -> Finding {
        Finding {
            invariant: Invariant(invariant),
            tenant: Some(self.tenant),
            customer: Some(CustomerId::from_uuid(row.customer_id)),
            table: "usage_events".to_owned(),
            key: format!("event {} of {} ({})", row.event_id, row.source, row.identity),
            found,
            expected,
            is_damage: true,
        }
    }
}

fn counts(row: &EventRow) -> Option<TokenCounts> {
    let count = |tokens: i64| u64::try_from(tokens).ok();
    Some(TokenCounts {
        input: count(row.input_tokens)?,
        cache_read: count(row.cache_read_tokens)?,
        cache_write: count(row.cache_write_tokens)?,
        output: count(row.output_tokens)?,
        reasoning: count(row.reasoning_tokens)?,
    })
}

fn stored_calls(row: &EventRow) -> &[Value] {
    row.calls.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// What each of several calls used; none where that cannot be read.
fn calls(row: &EventRow) -> Option<Vec<Call>> {
    let calls = stored_calls(row).iter().map(|call| {
        let model = serde_json::from_value(call[0].clone()).ok()?;
        Some(Call { model, usage: serde_json::from_value(call[1].clone()).ok()? })
    });
    calls.collect()
}

fn receipt_of(rated: &Rated) -> String {
    let Rated { credits, catalog_version, band_prompt_tokens_max, rates, calls } = rated;
    let band = band_prompt_tokens_max.map(i128::from);
    let each = calls.iter().map(|call| json!([call.credits, call.band_prompt_tokens_max, call.rates]));
    receipt(credits.get(), Some((*catalog_version).into()), band, &json!(rates), each.collect())
}

fn stored(row: &EventRow) -> String {
    match &row.unrated_reason {
        Some(reason) => format!("unrated, {reason}"),
        None => receipt(
            row.credits,
            row.catalog_version.map(i128::from),
            row.band_prompt_tokens_max.map(i128::from),
            &row.rates,
            stored_calls(row).iter().map(|call| json!([call[2], call[4], call[5]])).collect(),
        ),
    }
}

/// `calls` has the Credits, the band and the rates of each of several.
fn receipt(
    credits: i64,
    version: Option<i128>,
    band: Option<i128>,
    rates: &Value,
    calls: Vec<Value>,
) -> String {
    let or_none = |number: Option<i128>| number.map_or("none".to_owned(), |number| number.to_string());
    let each = if calls.is_empty() { String::new() } else { format!(", calls {}", Value::Array(calls)) };
    format!("{credits} by version {}, band {}, rates {rates}{each}", or_none(version), or_none(band))
}
