//! A dearer rate does not start inside a paid cycle, where the tenant says so (policy `dearer_rates`).
//!
//! Whoever paid for a pool of Credits knew what they buy. So usage of a paid cycle is rated by the version in
//! force at its own time, as any usage is, or by the one in force when the cycle began, whichever costs this
//! event less. A receipt names the one that it was.

use chrono::Duration;

use crate::catalog::{Catalog, CatalogHistory};
use crate::rating::{Estimate, NoCost, Rated, estimate, rate_event};
use crate::usage::TokenCounts;
use crate::usage_format::Call;
use crate::{Refusal, Timestamp};

/// No cycle is longer: a month of 31 days, and an hour of a clock that is put back.
const CYCLE_MAX: Duration = Duration::days(32);

/// Something to be rated at its own time by one of a tenant's versions.
pub trait Ratable {
    type Cost;

    fn cost(&self, catalog: Option<&Catalog>, time: Timestamp) -> Result<Self::Cost, NoCost>;

    fn is_less(one: &Self::Cost, other: &Self::Cost) -> bool;
}

/// Usage of a model.
pub struct Used<'a> {
    pub model: &'a str,
    pub usage: &'a TokenCounts,
    /// Where it is of several calls, or of one on another model; `usage` is their sum.
    pub calls: &'a [Call],
}

impl Ratable for Used<'_> {
    type Cost = Rated;

    fn cost(&self, catalog: Option<&Catalog>, time: Timestamp) -> Result<Rated, NoCost> {
        rate_event(catalog, self.model, self.usage, self.calls, time)
    }

    fn is_less(one: &Rated, other: &Rated) -> bool {
        one.credits < other.credits
    }
}

/// A request that is about to start.
pub struct Asked<'a> {
    pub model: &'a str,
    pub prompt: &'a TokenCounts,
    pub output_tokens_max: Option<u64>,
    pub estimate_output_tokens_max: u64,
}

impl Ratable for Asked<'_> {
    type Cost = Estimate;

    fn cost(&self, catalog: Option<&Catalog>, time: Timestamp) -> Result<Estimate, NoCost> {
        let Asked { model, prompt, output_tokens_max, estimate_output_tokens_max } = *self;
        estimate(catalog, model, prompt, output_tokens_max, estimate_output_tokens_max, time)
    }

    fn is_less(one: &Estimate, other: &Estimate) -> bool {
        one.full < other.full
    }
}

/// By the version in force at `time`, whatever the cycle.
pub fn cost_in_force<R: Ratable>(
    asked: &R,
    history: &CatalogHistory,
    time: Timestamp,
) -> Result<R::Cost, NoCost> {
    asked.cost(history.at(time).map(AsRef::as_ref), time)
}

/// Whether it matters when the cycle began: whether any version that one of `time` may have begun under costs less
/// than the one in force. Hardly ever: then nobody has to ask.
pub fn depends_on_cycle<R: Ratable>(asked: &R, history: &CatalogHistory, time: Timestamp) -> bool {
    let mut replaced = history.replaced(time - CYCLE_MAX, time).peekable();
    if replaced.peek().is_none() {
        return false;
    }
    let Ok(in_force) = cost_in_force(asked, history, time) else { return false };
    replaced.any(|catalog| asked.cost(Some(catalog), time).is_ok_and(|cost| R::is_less(&cost, &in_force)))
}

/// For a customer in a paid cycle that began then; in none, as [`cost_in_force`] says. What has no rate in the
/// version in force has none: a line that was taken away is not a dearer one.
pub fn cost_in_cycle<R: Ratable>(
    asked: &R,
    history: &CatalogHistory,
    cycle_start: Option<Timestamp>,
    time: Timestamp,
) -> Result<R::Cost, NoCost> {
    let in_force = cost_in_force(asked, history, time)?;
    let at_start = cycle_start.and_then(|start| history.at(start.min(time)));
    let kept = at_start.map(|catalog| asked.cost(Some(catalog), time));
    Ok(match kept {
        Some(Ok(kept)) if R::is_less(&kept, &in_force) => kept,
        Some(Ok(_) | Err(NoCost::Unrated(_) | NoCost::Refused(Refusal::AmountOverflow))) | None => in_force,
        Some(Err(refused)) => return Err(refused),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::catalog::{CreditRates, Model};
    use crate::credits::RateMilli;
    use crate::fixtures::{at, band, model, reference_document};
    use crate::rating::Unrated;
    use crate::usage::TokenKind;

    /// A version with these models alone.
    fn version(number: u32, effective_at: &str, models: Vec<Model>) -> Arc<Catalog> {
        let document = crate::catalog::CatalogDocument { models, ..reference_document() };
        Arc::new(Catalog::new(number, at(effective_at), document).unwrap())
    }

    fn at_rate(rate_milli: u32) -> Vec<Model> {
        vec![model("m", vec![band(None, Some(rate_milli), None)])]
    }

    /// 1x in January, 3x from 10 February, 2x from 20 February.
    fn history() -> CatalogHistory {
        CatalogHistory::new(vec![
            version(1, "2026-01-01T00:00:00Z", at_rate(1_000)),
            version(2, "2026-02-10T00:00:00Z", at_rate(3_000)),
            version(3, "2026-02-20T00:00:00Z", at_rate(2_000)),
        ])
    }

    const TEN: TokenCounts =
        TokenCounts { input: 10, cache_read: 0, cache_write: 0, output: 0, reasoning: 0 };
    const USED: Used<'_> = Used { model: "m", usage: &TEN, calls: &[] };

    #[test]
    fn a_cycle_keeps_the_rate_that_it_began_with_where_that_is_cheaper() {
        // When the cycle began, when the event happened, what it costs, by which version.
        for (start, time, credits, by) in [
            (Some("2026-02-01T00:00:00Z"), "2026-02-09T23:59:59Z", 10, 1),
            (Some("2026-02-01T00:00:00Z"), "2026-02-10T00:00:00Z", 10, 1),
            (Some("2026-02-01T00:00:00Z"), "2026-02-25T00:00:00Z", 10, 1),
            (Some("2026-02-10T00:00:00Z"), "2026-02-15T00:00:00Z", 30, 2),
            // A cheaper rate starts at once.
            (Some("2026-02-10T00:00:00Z"), "2026-02-20T00:00:00Z", 20, 3),
            (Some("2026-02-20T00:00:00Z"), "2026-02-20T00:00:00Z", 20, 3),
            // Nothing was paid.
            (None, "2026-02-15T00:00:00Z", 30, 2),
            // Nothing was sold when it began.
            (Some("2025-12-31T00:00:00Z"), "2026-01-10T00:00:00Z", 10, 1),
        ] {
            let rated = cost_in_cycle(&USED, &history(), start.map(at), at(time)).unwrap();
            assert_eq!((rated.credits.get(), rated.catalog_version), (credits, by), "{start:?} {time}");
        }
    }

    #[test]
    fn it_is_asked_for_the_cycle_only_while_one_may_have_begun_at_a_cheaper_rate() {
        for (time, expected) in [
            ("2026-02-09T00:00:00Z", false),
            ("2026-02-10T00:00:00Z", true),
            ("2026-02-20T00:00:00Z", true),
            ("2026-03-13T00:00:00Z", true),
            // 32 days after the last instant of 1x; 3x was dearer than what is in force.
            ("2026-03-14T00:00:00Z", false),
            ("2027-01-01T00:00:00Z", false),
        ] {
            assert_eq!(depends_on_cycle(&USED, &history(), at(time)), expected, "{time}");
        }
    }

    #[test]
    fn it_is_decided_for_each_event_by_what_it_costs() {
        let per_kind = |input, output| {
            let rates = [(TokenKind::Input, RateMilli(input)), (TokenKind::Output, RateMilli(output))];
            let mut any = band(None, None, None);
            any.credit_rates_milli = Some(CreditRates::PerKind(rates.into_iter().collect()));
            vec![model("m", vec![any])]
        };
        let history = CatalogHistory::new(vec![
            version(1, "2026-01-01T00:00:00Z", per_kind(1_000, 5_000)),
            version(2, "2026-02-10T00:00:00Z", per_kind(2_000, 3_000)),
        ]);
        let of = |input, output| {
            let usage = TokenCounts { input, output, ..TokenCounts::default() };
            let used = Used { model: "m", usage: &usage, calls: &[] };
            let start = Some(at("2026-02-01T00:00:00Z"));
            let rated = cost_in_cycle(&used, &history, start, at("2026-02-15T00:00:00Z")).unwrap();
            (rated.credits.get(), rated.catalog_version)
        };
        assert_eq!(of(100, 10), (150, 1), "100 + 50, not 200 + 30");
        assert_eq!(of(10, 100), (320, 2), "20 + 300, not 10 + 500");
        assert_eq!(of(20, 10), (70, 2), "70 by both");
    }

    #[test]
    fn a_line_that_was_taken_away_is_not_kept_and_a_new_one_counts() {
        let old = vec![model("old", vec![band(None, Some(1_000), None)])];
        let history = CatalogHistory::new(vec![
            version(1, "2026-01-01T00:00:00Z", old),
            version(2, "2026-02-10T00:00:00Z", at_rate(2_000)),
        ]);
        let of = |model| {
            let used = Used { model, usage: &TEN, calls: &[] };
            let start = Some(at("2026-02-01T00:00:00Z"));
            cost_in_cycle(&used, &history, start, at("2026-02-15T00:00:00Z"))
        };
        assert_eq!(of("old"), Err(NoCost::Unrated(Unrated::UnknownModel)));
        assert_eq!(of("m").map(|rated| rated.credits.get()), Ok(20));
    }

    #[test]
    fn what_is_held_is_estimated_by_the_same_rule() {
        let asked =
            Asked { model: "m", prompt: &TEN, output_tokens_max: Some(5), estimate_output_tokens_max: 4_096 };
        let time = at("2026-02-15T00:00:00Z");
        let of = |start: Option<&str>| {
            let estimate = cost_in_cycle(&asked, &history(), start.map(at), time).unwrap();
            (estimate.prompt_only.get(), estimate.full.get())
        };
        assert_eq!(of(Some("2026-02-01T00:00:00Z")), (10, 15));
        assert_eq!(of(None), (30, 45));
        assert!(depends_on_cycle(&asked, &history(), time));
    }
}
