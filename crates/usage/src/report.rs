//! Where did the Credits go? A customer's usage by time, model, context band and key: from the sums by the hour.
//! By kind of token from the events themselves, page after page: the sums do not say at which rates they are.

use std::collections::{BTreeMap, BTreeSet};

use db::Result;
use domain::calendar::Zone;
use domain::id::{CustomerId, ExternalId};
use domain::payg::Pico;
use domain::rating::{Rates, by_kind};
use domain::usage::{TokenCounts, TokenKind};
use domain::{Currency, Refusal, TenantScope, Timestamp};
use uuid::Uuid;

use crate::hours::{HourKey, UsageSums};
use crate::{Usage, store};

/// The longest that a report by the day, or as a whole, reaches.
const DAYS_MAX: i64 = 400;
/// The longest that a report by the hour, or by kind, reaches.
const DAYS_BY_HOUR_MAX: i64 = 31;
/// Events that are read together.
const PAGE: usize = 5_000;

/// How a report cuts its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    Hour,
    /// Days of the tenant's zone.
    Day,
    /// Not at all.
    Whole,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportQuery {
    /// Rounded down to an hour of the tenant's zone.
    pub from: Timestamp,
    /// Rounded up to one; what begins there is no part of it.
    pub to: Timestamp,
    pub interval: Interval,
    pub by_model: bool,
    pub by_band: bool,
    pub by_api_key: bool,
    pub by_kind: bool,
}

/// What the rows of a report differ in; none where it is not cut by that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportKey {
    /// When the hour or the day begins.
    pub start: Option<Timestamp>,
    pub model: Option<String>,
    /// Within: none where any length fits.
    pub band_prompt_tokens_max: Option<Option<u64>>,
    /// Within: none where no key was named.
    pub api_key: Option<Option<ExternalId>>,
    pub kind: Option<TokenKind>,
}

/// An event as it was charged, with the rates of its receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReceiptOf {
    /// Where the next page begins: after this time and identity.
    pub(crate) place: (Timestamp, Uuid),
    pub(crate) sums: UsageSums,
    /// One, or each of several calls.
    pub(crate) parts: Vec<PartOf>,
}

/// A call of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartOf {
    pub(crate) key: HourKey,
    pub(crate) tokens: TokenCounts,
    pub(crate) rates: Rates,
}

/// A customer's charged usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub from: Timestamp,
    pub to: Timestamp,
    pub rows: Vec<(ReportKey, UsageSums)>,
    pub total: UsageSums,
    /// What was billed in money, in the same rows: not by kind of token. Empty where the customer paid by Credits alone.
    pub payg: BTreeMap<ReportKey, PaygSum>,
}

/// An amount of money, exact.
pub type PaygSum = (Currency, Pico);

impl Usage {
    /// Sums up what a customer used and was charged for; events that have no rate yet are no part of it.
    /// Refused: `invalid-field` where `to` is not after `from`, or too long after it.
    pub async fn report(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        query: ReportQuery,
    ) -> Result<Report> {
        let (tenant, zone) = (scope.tenant, scope.zone);
        let (from, to) = whole_hours(&query, zone)?;
        if query.by_kind {
            return self.report_by_kind(scope, customer, &query, from, to).await;
        }
        let starts = match query.interval {
            Interval::Hour => Vec::new(),
            Interval::Day => zone.days(from, to),
            Interval::Whole => vec![from],
        };
        let parts = self
            .parts
            .db
            .transaction(tenant, async |tx| store::sums(tx, tenant, customer, (from, to), &starts).await)
            .await?;
        let mut rows: BTreeMap<ReportKey, UsageSums> = BTreeMap::new();
        let mut total = UsageSums::default();
        for (key, sums) in parts {
            let row = rows.entry(report_key(key, &query, zone)).or_default();
            *row = row.plus(sums)?;
            total = total.plus(sums)?;
        }
        let mut payg = BTreeMap::new();
        for (key, (currency, pico)) in self.payg_by_hour(scope, customer, from, to).await? {
            let sum = payg.entry(report_key(key, &query, zone)).or_insert((currency, Pico::ZERO));
            sum.1 = sum.1.plus(pico)?;
        }
        Ok(Report { from, to, rows: rows.into_iter().collect(), total, payg })
    }

    async fn payg_by_hour(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<BTreeMap<HourKey, PaygSum>> {
        let (tenant, zone) = (scope.tenant, scope.zone);
        self.parts
            .db
            .transaction(tenant, async |tx| store::payg::by_hour(tx, tenant, customer, zone, from, to).await)
            .await
    }

    /// An event is in a row for each kind that it was charged for; in the total it counts once.
    async fn report_by_kind(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        query: &ReportQuery,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Report> {
        let (tenant, zone) = (scope.tenant, scope.zone);
        let mut rows: BTreeMap<ReportKey, UsageSums> = BTreeMap::new();
        let (mut total, mut after) = (UsageSums::default(), (from, Uuid::nil()));
        loop {
            let page = self
                .parts
                .db
                .transaction(tenant, async |tx| {
                    store::receipts::page(tx, tenant, customer, zone, after, to, PAGE).await
                })
                .await?;
            for receipt in &page {
                total = total.plus(receipt.sums)?;
                let used: Vec<_> = receipt.parts.iter().map(|part| (&part.tokens, part.rates)).collect();
                let costs = by_kind(&used, receipt.sums.overage)?;
                // Calls of one event may be in one row: it has the event once.
                let mut counted = BTreeSet::new();
                for (part, costs) in receipt.parts.iter().zip(costs) {
                    let key = report_key(part.key.clone(), query, zone);
                    for cost in costs {
                        let key = ReportKey { kind: Some(cost.kind), ..key.clone() };
                        let of_kind = UsageSums {
                            events: u64::from(counted.insert(key.clone())),
                            tokens: part.tokens.only(cost.kind),
                            credits: cost.credits,
                            overage: cost.overage,
                        };
                        let row = rows.entry(key).or_default();
                        *row = row.plus(of_kind)?;
                    }
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = last.place,
                Some(_) | None => {
                    let (rows, payg) = (rows.into_iter().collect(), BTreeMap::new());
                    return Ok(Report { from, to, rows, total, payg });
                }
            }
        }
    }
}

fn whole_hours(query: &ReportQuery, zone: Zone) -> Result<(Timestamp, Timestamp)> {
    let from = zone.hour_of(query.from);
    let mut to = zone.hour_of(query.to);
    if to < query.to {
        to += chrono::TimeDelta::hours(1);
    }
    let is_detailed = query.interval == Interval::Hour || query.by_kind;
    let days_max = if is_detailed { DAYS_BY_HOUR_MAX } else { DAYS_MAX };
    if from >= to || to - from > chrono::TimeDelta::days(days_max) {
        return Err(Refusal::invalid_field("to", "out-of-range").into());
    }
    Ok((from, to))
}

fn report_key(key: HourKey, query: &ReportQuery, zone: Zone) -> ReportKey {
    ReportKey {
        start: match query.interval {
            Interval::Hour => Some(key.hour),
            Interval::Day => Some(zone.day_of(key.hour)),
            Interval::Whole => None,
        },
        model: query.by_model.then_some(key.model.to_string()),
        band_prompt_tokens_max: query.by_band.then_some(key.band_prompt_tokens_max),
        api_key: query.by_api_key.then_some(key.api_key),
        kind: None,
    }
}
