//! What would a catalogue have charged for usage that was charged already? Reads, and changes nothing.
//!
//! Usage is read a page at a time, each page in a transaction of its own, and summed up as it comes: what is held
//! in memory is a page and a row a model. A preview ends after [`EVENTS_MAX`] events or [`TIME_MAX`], and says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use db::{Connection, Result};
use domain::catalog::{Catalog, CatalogDocument, CatalogHistory};
use domain::cycle_rates::{Used, cost_in_force, depends_on_cycle};
use domain::id::CustomerId;
use domain::policy::DearerRates;
use domain::rating::NoCost;
use domain::usage::TokenCounts;
use domain::usage_format::Call;
use domain::{Credits, Refusal, TenantScope, Timestamp};
use uuid::Uuid;

use crate::record::latest_version;
use crate::{Usage, cycle_rates, store};

/// The longest time that a preview looks at.
const DAYS_MAX: i64 = 31;
/// The most events that one looks at.
const EVENTS_MAX: u64 = 1_000_000;
/// The longest that one takes.
const TIME_MAX: Duration = Duration::from_secs(15);
const PAGE: usize = 2_000;
/// Events name models as they like: beyond so many, the rest is one row.
const MODELS_MAX: usize = 1_000;

/// What was charged, beside what would have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    pub from: Timestamp,
    pub to: Timestamp,
    /// Whether all usage of that time was looked at.
    pub is_complete: bool,
    pub total: PreviewSums,
    /// By the name of the model; without one, the models beyond the most that are told apart.
    pub by_model: Vec<(Option<String>, PreviewSums)>,
}

/// Both sides, summed up. What has no rate adds no Credits to its side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreviewSums {
    pub events: u64,
    pub charged: Credits,
    pub previewed: Credits,
    /// Events that are not charged yet.
    pub unrated: u64,
    /// Events that would not be, by the reason's code.
    pub unrated_previewed: BTreeMap<&'static str, u64>,
}

/// An event as it was charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChargedEvent {
    /// Where the next page begins: after this customer's time and identity.
    pub(crate) place: (Uuid, Timestamp, Uuid),
    pub(crate) model: String,
    pub(crate) usage: TokenCounts,
    /// Where it is of several.
    pub(crate) calls: Vec<Call>,
    pub(crate) credits: Credits,
    pub(crate) is_rated: bool,
}

impl PreviewSums {
    /// Refused with `amount-overflow` where the sums leave what Tollgate counts in.
    fn add(
        &mut self,
        event: &ChargedEvent,
        previewed: &std::result::Result<Credits, &'static str>,
    ) -> Result<()> {
        self.events += 1;
        self.charged = self.charged.plus(event.credits)?;
        self.unrated += u64::from(!event.is_rated);
        match previewed {
            Ok(credits) => self.previewed = self.previewed.plus(*credits)?,
            Err(reason) => *self.unrated_previewed.entry(reason).or_default() += 1,
        }
        Ok(())
    }
}

/// An event, and what it would have cost, or the code of why it would have no cost.
type Previewed = (ChargedEvent, std::result::Result<Credits, &'static str>);

/// The events after a place.
async fn previewed_page(
    tx: &mut Connection,
    scope: &TenantScope,
    history: &CatalogHistory,
    (from, to): (Timestamp, Timestamp),
    after: (Uuid, Timestamp, Uuid),
) -> Result<Vec<Previewed>> {
    let events = store::preview::charged_page(tx, scope.tenant, from, to, after, PAGE).await?;
    let keeps_rates = scope.policies.dearer_rates == DearerRates::NextCycle;
    let mut by_cycle = BTreeMap::new();
    for (place, event) in events.iter().enumerate().filter(|_| keeps_rates) {
        let time = event.place.1;
        if depends_on_cycle(&event.used(), history, time) {
            by_cycle.insert(place, (CustomerId::from_uuid(event.place.0), time, event.used(), history));
        }
    }
    let by_cycle = cycle_rates::rate_all(tx, scope.tenant, by_cycle).await?;
    let costs = events.iter().enumerate().map(|(place, event)| match by_cycle.get(&place) {
        Some(Ok(rated)) => Ok(rated.credits),
        Some(Err(why)) => Err(why.code()),
        None => match cost_in_force(&event.used(), history, event.place.1) {
            Ok(rated) => Ok(rated.credits),
            Err(NoCost::Unrated(why)) => Err(why.code()),
            Err(NoCost::Refused(refusal)) => Err(refusal.code()),
        },
    });
    let costs: Vec<_> = costs.collect();
    Ok(events.into_iter().zip(costs).collect())
}

impl ChargedEvent {
    fn used(&self) -> Used<'_> {
        Used { model: &self.model, usage: &self.usage, calls: &self.calls }
    }
}

impl Usage {
    /// Rates all usage that happened from `from` until before `to` by this document, each event at its own time: as if it
    /// had been published to be in force from `from` on, also for cycles that were paid before it (policy `dearer_rates`).
    /// Refused: `invalid-catalog`; `invalid-field` where `to` is not after `from`, or too long after it.
    pub async fn preview(
        &self,
        scope: &TenantScope,
        document: CatalogDocument,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Preview> {
        if from >= to || to - from > chrono::TimeDelta::days(DAYS_MAX) {
            return Err(Refusal::invalid_field("/to", "out-of-range").into());
        }
        let history = self.parts.catalogs.history(scope.tenant).await?;
        // Its version is told to nobody.
        let catalog = Catalog::new(latest_version(&history).saturating_add(1), from, document)?;
        // Cycles that began before it may keep the rates of then.
        let before = history.versions().filter(|catalog| catalog.effective_at() < from).cloned();
        let previewed = CatalogHistory::new(before.chain([Arc::new(catalog)]).collect());
        let (started, mut after) = (Instant::now(), (Uuid::nil(), from, Uuid::nil()));
        let mut total = PreviewSums::default();
        let mut by_model: BTreeMap<Option<String>, PreviewSums> = BTreeMap::new();
        let is_complete = loop {
            let page = self
                .parts
                .db
                .transaction(scope.tenant, async |tx| {
                    previewed_page(tx, scope, &previewed, (from, to), after).await
                })
                .await?;
            for (event, previewed) in &page {
                total.add(event, previewed)?;
                let name = Some(event.model.clone());
                let is_told_apart = by_model.len() < MODELS_MAX || by_model.contains_key(&name);
                by_model.entry(name.filter(|_| is_told_apart)).or_default().add(event, previewed)?;
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after = last.place,
                Some(_) | None => break true,
            }
            if total.events >= EVENTS_MAX || started.elapsed() >= TIME_MAX {
                break false;
            }
        };
        Ok(Preview { from, to, is_complete, total, by_model: by_model.into_iter().collect() })
    }
}
