//! Rates events of which a paid cycle may keep the rates that it began with (policy `dearer_rates`).

use std::collections::BTreeMap;

use db::{Connection, Result};
use domain::Timestamp;
use domain::catalog::CatalogHistory;
use domain::cycle_rates::{Used, cost_in_cycle};
use domain::id::{CustomerId, TenantId};
use domain::rating::{NoCost, Rated, Unrated};

/// An event with the versions that it may be rated by.
pub(crate) type OfCycle<'a> = (CustomerId, Timestamp, Used<'a>, &'a CatalogHistory);

/// What each costs, by its place. One round trip, or none.
pub(crate) async fn rate_all(
    tx: &mut Connection,
    tenant: TenantId,
    events: BTreeMap<usize, OfCycle<'_>>,
) -> Result<BTreeMap<usize, std::result::Result<Rated, Unrated>>> {
    let asked: Vec<_> = events.values().map(|(customer, time, _, _)| (*customer, *time)).collect();
    let starts = ledger::paid_cycle_starts(tx, tenant, &asked).await?;
    let mut rated = BTreeMap::new();
    for ((place, (_, time, used, history)), start) in events.into_iter().zip(starts) {
        let cost = match cost_in_cycle(&used, history, start, time) {
            Ok(cost) => Ok(cost),
            Err(NoCost::Unrated(why)) => Err(why),
            Err(NoCost::Refused(refusal)) => return Err(refusal.into()),
        };
        rated.insert(place, cost);
    }
    Ok(rated)
}
