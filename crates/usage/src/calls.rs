//! The calls of an event of several: each with a prompt, a band and rates of its own.

use domain::Credits;
use domain::id::ExternalId;
use domain::rating::{RatedCall, Rates, overage_of_each};
use domain::usage::TokenCounts;
use domain::usage_format::Call;

/// One call, and what it adds to the cost of its event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallReceipt {
    /// Where it ran on another model than the event names.
    pub model: Option<ExternalId>,
    pub usage: TokenCounts,
    pub credits: Credits,
    /// What no grant paid for: of all calls the last Credits.
    pub overage: Credits,
    pub band_prompt_tokens_max: Option<u64>,
    pub rates: Rates,
}

/// Of calls that cost this, of which no grant paid for `overage`.
pub(crate) fn charged(calls: &[Call], rated: &[RatedCall], overage: Credits) -> Vec<CallReceipt> {
    let credits: Vec<Credits> = rated.iter().map(|rated| rated.credits).collect();
    let calls = calls.iter().zip(rated).zip(overage_of_each(&credits, overage));
    let receipts = calls.map(|((call, rated), overage)| CallReceipt {
        model: call.model.clone(),
        usage: call.usage,
        credits: rated.credits,
        overage,
        band_prompt_tokens_max: rated.band_prompt_tokens_max,
        rates: rated.rates,
    });
    receipts.collect()
}

/// Of calls that are not charged yet.
pub(crate) fn not_charged(calls: &[Call]) -> Vec<CallReceipt> {
    let receipts = calls.iter().map(|call| CallReceipt {
        model: call.model.clone(),
        usage: call.usage,
        credits: Credits::ZERO,
        overage: Credits::ZERO,
        band_prompt_tokens_max: None,
        rates: Rates::NONE,
    });
    receipts.collect()
}
