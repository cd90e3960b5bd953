//! The calls of an event of several, in one column of its row.

use db::Result;
use domain::Credits;
use domain::id::ExternalId;
use domain::rating::Rates;
use domain::usage::TokenCounts;
use domain::usage_format::Call;
use serde_json::Value;

use crate::calls::CallReceipt;

/// A call as it is stored.
type Columns = (Option<ExternalId>, TokenCounts, Credits, Credits, Option<u64>, Rates);

/// None of an event of one call.
pub(super) fn to_json(calls: &[CallReceipt]) -> Result<Option<Value>> {
    if calls.is_empty() {
        return Ok(None);
    }
    let columns = calls.iter().map(|call| -> Columns {
        let CallReceipt { model, usage, credits, overage, band_prompt_tokens_max, rates } = call.clone();
        (model, usage, credits, overage, band_prompt_tokens_max, rates)
    });
    Ok(Some(super::to_json(&columns.collect::<Vec<_>>())?))
}

pub(super) fn from_json(stored: Option<Value>) -> Result<Vec<CallReceipt>> {
    let Some(stored) = stored else { return Ok(Vec::new()) };
    let calls = super::from_json::<Vec<Columns>>(stored)?.into_iter();
    let calls = calls.map(|(model, usage, credits, overage, band_prompt_tokens_max, rates)| CallReceipt {
        model,
        usage,
        credits,
        overage,
        band_prompt_tokens_max,
        rates,
    });
    Ok(calls.collect())
}

/// What was used, without what it cost.
pub(super) fn used(stored: Option<Value>) -> Result<Vec<Call>> {
    let calls = from_json(stored)?.into_iter();
    Ok(calls.map(|CallReceipt { model, usage, .. }| Call { model, usage }).collect())
}
