//! Charges usage that was kept: of an account that was parked, or without a rate that there is by now
//! . Each event at the rate of its own time and to the cycle of its own charge instant, and once.

use std::collections::BTreeMap;

use db::{Connection, Error, Result};
use domain::TenantScope;
use domain::catalog::CatalogHistory;
use domain::cycle_rates::{Used, cost_in_force, depends_on_cycle};
use domain::hold::{self, Capture, NoHold};
use domain::id::{CustomerId, ExternalId};
use domain::policy::DearerRates;
use domain::rating::NoCost;
use domain::usage::TokenCounts;
use domain::usage_format::Call;
use domain::{Credits, Timestamp};
use ledger::{Accounts, FoundHold, Looked};
use uuid::Uuid;

use crate::alerts::Before;
use crate::charge::ToCharge;
use crate::cycle_rates;
use crate::hours::{HourKey, Hours};
use crate::payg::{PaygTerms, pays_by_the_token};
use crate::record::{Receipt, latest_version};
use crate::store::payg::NewShare;
use crate::{Usage, overdraft, store};

/// Events a transaction.
const BATCH: i64 = 500;

/// Why usage was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhyKept {
    Parked,
    /// There was no rate for it in any version before this one.
    NoRate {
        latest_version: u32,
    },
}

/// What was charged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChargedKept {
    pub events: u64,
    /// What they cost together, overage included.
    pub credits: Credits,
}

/// An event as it was kept.
#[derive(Debug, Clone)]
pub(crate) struct KeptEvent {
    pub(crate) identity: Uuid,
    pub(crate) model: ExternalId,
    pub(crate) usage: TokenCounts,
    /// Where it is of several.
    pub(crate) calls: Vec<Call>,
    pub(crate) event_time: Timestamp,
    pub(crate) received_at: Timestamp,
    /// The hold that it captured.
    pub(crate) captured: Option<ExternalId>,
    pub(crate) api_key: Option<ExternalId>,
}

impl Usage {
    /// Charges the usage of `customer` that was kept while its account was parked, in the order of the
    /// events' times. What was charged before is not charged again, however often or wherever this runs.
    /// Refused: `account-parked` while it is; `not-found`.
    pub async fn charge_kept(&self, scope: &TenantScope, customer: CustomerId) -> Result<ChargedKept> {
        let history = self.parts.catalogs.history(scope.tenant).await?;
        self.charge_all(scope, &history, customer, WhyKept::Parked).await
    }

    /// Until none is left: one that has no rate still is not tried again with the same version.
    pub(crate) async fn charge_all(
        &self,
        scope: &TenantScope,
        history: &CatalogHistory,
        customer: CustomerId,
        why: WhyKept,
    ) -> Result<ChargedKept> {
        let mut charged = ChargedKept::default();
        loop {
            let batch =
                async |tx: &mut Connection| self.charge_batch(tx, scope, history, customer, why).await;
            let (receipts, accounts) = self.parts.db.transaction(scope.tenant, batch).await?;
            if receipts.is_empty() {
                return Ok(charged);
            }
            self.parts.ledger.publish(scope.tenant, &accounts, scope.now).await?;
            for receipt in &receipts {
                charged.events += u64::from(receipt.unrated_reason.is_none());
                charged.credits = charged.credits.plus(receipt.credits)?;
            }
        }
    }

    async fn charge_batch(
        &self,
        tx: &mut Connection,
        scope: &TenantScope,
        history: &CatalogHistory,
        customer: CustomerId,
        why: WhyKept,
    ) -> Result<(Vec<Receipt>, Accounts)> {
        let tenant = scope.tenant;
        // The account first, as every charge does: of two that run at once the second finds nothing.
        ledger::lock(tx, tenant, &[customer]).await?.get_mut(customer)?.check_spends()?;
        let kept = store::kept_events(tx, tenant, customer, why, BATCH).await?;
        let named: Vec<_> =
            kept.iter().filter_map(|event| Some((customer, event.captured.clone()?))).collect();
        let holds = match ledger::find_holds(tx, &self.parts.ledger, tenant, &named, scope.now).await? {
            Looked::Found(holds) => holds,
            // A captured hold has a row.
            Looked::TooEarly(_) => return Err(ledger::still_changing()),
        };
        let oldest = kept.iter().map(|event| event.event_time.min(event.received_at - hold::LIFE_MAX)).min();
        let oldest = oldest.unwrap_or(scope.now);
        let mut accounts =
            ledger::lock_for_usage(tx, &self.parts.ledger, tenant, &[customer], oldest).await?;
        let before = Before::of(&accounts, scope.now);
        let keeps_rates = scope.policies.dearer_rates == DearerRates::NextCycle;
        let mut by_cycle = BTreeMap::new();
        for (place, event) in kept.iter().enumerate().filter(|_| keeps_rates) {
            let used = Used { model: event.model.as_str(), usage: &event.usage, calls: &event.calls };
            if depends_on_cycle(&used, history, event.event_time) {
                by_cycle.insert(place, (customer, event.event_time, used, history));
            }
        }
        let by_cycle = cycle_rates::rate_all(tx, tenant, by_cycle).await?;
        let is_payg = pays_by_the_token(accounts.get_mut(customer)?, scope);
        let mut receipts = Vec::new();
        for (place, event) in kept.iter().enumerate() {
            let used = Used { model: event.model.as_str(), usage: &event.usage, calls: &event.calls };
            let in_force = match cost_in_force(&used, history, event.event_time) {
                Ok(rated) => Ok(rated),
                Err(NoCost::Unrated(unrated)) => Err(unrated),
                Err(NoCost::Refused(refusal)) => return Err(refusal.into()),
            };
            let rated = by_cycle.get(&place).unwrap_or(&in_force);
            let to_charge = ToCharge {
                identity: event.identity,
                event_time: event.event_time,
                received_at: event.received_at,
                late: scope.policies.late_rules(),
                capture: captured(customer, event, &holds)?,
                rated,
                calls: &event.calls,
                payg: is_payg.then_some(PaygTerms {
                    scope,
                    history,
                    model: event.model.as_str(),
                    usage: &event.usage,
                    calls: &event.calls,
                    event_time: event.event_time,
                }),
            };
            receipts.push(to_charge.charge(accounts.get_mut(customer)?, scope.now));
        }
        ledger::write(tx, tenant, &accounts, scope.now).await?;
        store::update_receipts(tx, tenant, customer, &kept, &receipts, latest_version(history)).await?;
        let shares = kept.iter().zip(&receipts).filter_map(|(event, receipt)| {
            let (identity, event_time, model) = (event.identity, event.event_time, event.model.as_str());
            Some(NewShare { identity, customer, event_time, model, share: receipt.payg.as_ref()? })
        });
        store::payg::insert(tx, tenant, &shares.collect::<Vec<_>>(), scope.now).await?;
        overdraft::have_topped_up(tx, scope, &accounts, scope.now).await?;
        let mut hours = Hours::default();
        for (event, receipt) in kept.iter().zip(&receipts) {
            let key = HourKey {
                customer,
                hour: scope.zone.hour_of(event.event_time),
                model: event.model.clone(),
                band_prompt_tokens_max: receipt.band_prompt_tokens_max,
                api_key: event.api_key.clone(),
            };
            hours.add(key, event.usage, receipt)?;
        }
        store::add_to_hours(tx, tenant, &hours).await?;
        before.tell(tx, scope, &accounts, scope.now).await?;
        Ok((receipts, accounts))
    }
}

/// What the event captured when it was received.
fn captured(
    customer: CustomerId,
    event: &KeptEvent,
    holds: &BTreeMap<(CustomerId, ExternalId), FoundHold>,
) -> Result<Capture> {
    let Some(id) = &event.captured else { return Ok(Capture::None(NoHold::NotNamed)) };
    match holds.get(&(customer, id.clone())) {
        Some(FoundHold::Own(known)) => Ok(Capture::Live { granted_at: known.hold.granted_at }),
        _ => Err(Error::broken(format!("event {} captured a hold that is not recorded", event.identity))),
    }
}
