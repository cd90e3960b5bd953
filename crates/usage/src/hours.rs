//! Sums by the hour of the tenant's zone: kept by the transaction that charges, so that what was used in a
//! month is read without its events. Always the sum of the events that are charged.

use std::collections::BTreeMap;

use db::Result;
use domain::id::{CustomerId, ExternalId};
use domain::usage::TokenCounts;
use domain::{Credits, Timestamp};

use crate::record::Receipt;

/// What one row is the sum of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HourKey {
    pub(crate) customer: CustomerId,
    pub(crate) hour: Timestamp,
    pub(crate) model: ExternalId,
    /// None where any length fits.
    pub(crate) band_prompt_tokens_max: Option<u64>,
    pub(crate) api_key: Option<ExternalId>,
}

/// Usage, summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageSums {
    pub events: u64,
    pub tokens: TokenCounts,
    /// What it cost, `overage` included.
    pub credits: Credits,
    /// What no grant paid for.
    pub overage: Credits,
}

impl UsageSums {
    /// Refused with `amount-overflow`.
    pub(crate) fn plus(self, other: UsageSums) -> Result<UsageSums> {
        Ok(UsageSums {
            events: self.events.saturating_add(other.events),
            tokens: self.tokens.plus(&other.tokens)?,
            credits: self.credits.plus(other.credits)?,
            overage: self.overage.plus(other.overage)?,
        })
    }
}

/// The sums that a transaction adds to.
#[derive(Debug, Default)]
pub(crate) struct Hours(BTreeMap<HourKey, UsageSums>);

impl Hours {
    /// Adds an event's charge; one that has no rate yet has none. Of several calls each adds to its own model and band,
    /// and the first counts as the event.
    pub(crate) fn add(&mut self, key: HourKey, tokens: TokenCounts, receipt: &Receipt) -> Result<()> {
        if receipt.unrated_reason.is_some() {
            return Ok(());
        }
        if receipt.calls.is_empty() {
            let one = UsageSums { events: 1, tokens, credits: receipt.credits, overage: receipt.overage };
            return self.add_part(key, one);
        }
        for (place, call) in receipt.calls.iter().enumerate() {
            let model = call.model.as_ref().unwrap_or(&key.model).clone();
            let key = HourKey { model, band_prompt_tokens_max: call.band_prompt_tokens_max, ..key.clone() };
            let events = u64::from(place == 0);
            let (credits, overage) = (call.credits, call.overage);
            self.add_part(key, UsageSums { events, tokens: call.usage, credits, overage })?;
        }
        Ok(())
    }

    fn add_part(&mut self, key: HourKey, part: UsageSums) -> Result<()> {
        let sums = self.0.entry(key).or_default();
        *sums = sums.plus(part)?;
        Ok(())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&HourKey, &UsageSums)> {
        self.0.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
