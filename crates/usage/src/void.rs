//! Voids an event that should not have been counted: what it cost goes back to where it came from (R-33, R-25b).
//!
//! The event stays, and says when and why it was voided. So its id stays taken: sent again it is a repeat, and what
//! should have been counted is reported under another id. One that waits for its charge is never charged. One in
//! quarantine was not counted, so there is nothing to void. A void ends no hold and brings none back.

use db::{Connection, Error, Result};
use domain::account::Void;
use domain::card::contains_card_number;
use domain::id::{ApiKeyId, GrantId};
use domain::usage::event_identity;
use domain::{Credits, Refusal, TenantScope, Timestamp};
use ledger::Accounts;
use outbox::NewEvent;
use serde_json::json;
use uuid::Uuid;

use crate::alerts::Before;
use crate::hours::{HourKey, Hours};
use crate::read_event::RecordedEvent;
use crate::{Usage, store};

pub const VOIDED: &str = "usage.voided";

/// That an event was voided, and what came of it. What it gave back is what its receipt says that it cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventVoid {
    pub at: Timestamp,
    /// The operator's words.
    pub reason: String,
    /// The operator's key; none where that was not kept.
    pub by: Option<ApiKeyId>,
    /// How much of what went back to grants could be spent again; the rest had ended, and expired at once.
    pub spendable: Credits,
    pub balance_after: Credits,
    /// The account's version after the void.
    pub version: i64,
}

impl Usage {
    /// Voids the event of this source and id; one that is voided stays as it is, with its first reason. Refused:
    /// `not-found`; `account-parked`, since nothing is certain about such an account until it was looked at;
    /// `card-data-refused` for a reason with a card's number in it.
    pub async fn void(
        &self,
        scope: &TenantScope,
        source: &str,
        id: &str,
        reason: &str,
        by: Option<ApiKeyId>,
    ) -> Result<RecordedEvent> {
        if contains_card_number(reason) {
            return Err(Refusal::CardDataRefused.into());
        }
        let tenant = scope.tenant;
        let identity = Uuid::from_bytes(event_identity(tenant, source, id));
        let voiding = async |tx: &mut Connection| void_in(tx, scope, identity, reason, by).await;
        let (event, accounts) = self.parts.db.transaction(tenant, voiding).await?;
        // Of a repeat too: its first try may have died before Redis was told.
        self.parts.ledger.publish(tenant, &accounts, scope.now).await?;
        Ok(event)
    }
}

async fn void_in(
    tx: &mut Connection,
    scope: &TenantScope,
    identity: Uuid,
    reason: &str,
    by: Option<ApiKeyId>,
) -> Result<(RecordedEvent, Accounts)> {
    let (tenant, now) = (scope.tenant, scope.now);
    let customer = read(tx, scope, identity).await?.customer;
    // The account first, as every charge does: of two that run at once the second finds the event voided.
    let mut accounts = ledger::lock(tx, tenant, &[customer]).await?;
    let mut event = read(tx, scope, identity).await?;
    if event.void.is_some() {
        return Ok((event, accounts));
    }
    accounts.get_mut(customer)?.check_spends()?;
    let paid: Vec<GrantId> = event.receipt.draws.iter().map(|draw| draw.grant).collect();
    let mut accounts = ledger::lock_for_void(tx, tenant, customer, &paid, now).await?;
    let of_charge = (paid.len(), event.receipt.version);
    let charged = ledger::charged(tx, tenant, customer, identity, of_charge).await?;

    let before = Before::of(&accounts, now);
    let void = Void { event: identity, charged: &charged };
    let voided = accounts.get_mut(customer)?.void(&void, now);
    let voided =
        voided.map_err(|refusal| Error::broken(format!("event {identity} is not voided: {refusal}")))?;
    if (voided.returned.plus(voided.overage)?, voided.overage)
        != (event.receipt.credits, event.receipt.overage)
    {
        return Err(Error::broken(format!("event {identity} was charged otherwise than its receipt says")));
    }
    let void = EventVoid {
        at: now,
        reason: reason.to_owned(),
        by,
        spendable: voided.spendable,
        balance_after: voided.balance_after,
        version: voided.version,
    };

    if event.receipt.payg.is_some()
        && let Some(pico) = store::payg::void(tx, tenant, identity, now).await?
    {
        // What was invoiced is an operator's to give back.
        accounts.get_mut(customer)?.take_accrued(pico);
    }
    ledger::write(tx, tenant, &accounts, now).await?;
    store::insert_void(tx, tenant, identity, &event, &void).await?;
    take_from_hours(tx, scope, &event).await?;
    before.tell(tx, scope, &accounts, now).await?;
    let payload = json!({
        "source": event.source,
        "id": event.id,
        "customer": customer,
        "reason": void.reason,
        "credits": event.receipt.credits,
        "overage": event.receipt.overage,
        "spendable": void.spendable,
        "available": void.balance_after,
        "account_version": void.version,
    });
    let news = NewEvent { kind: VOIDED, subject: customer.to_string(), payload };
    outbox::emit(tx, tenant, news, now).await?;
    event.void = Some(void);
    Ok((event, accounts))
}

async fn read(tx: &mut Connection, scope: &TenantScope, identity: Uuid) -> Result<RecordedEvent> {
    let found = store::recorded_event(tx, scope.tenant, identity).await?;
    Ok(found.ok_or(Refusal::NotFound { what: "event" })?)
}

/// An event without a charge is in none.
async fn take_from_hours(tx: &mut Connection, scope: &TenantScope, event: &RecordedEvent) -> Result<()> {
    let receipt = &event.receipt;
    let key = HourKey {
        customer: event.customer,
        hour: scope.zone.hour_of(event.event_time),
        model: event.model.clone(),
        band_prompt_tokens_max: receipt.band_prompt_tokens_max,
        api_key: event.api_key.clone(),
    };
    let mut hours = Hours::default();
    hours.add(key, event.usage, receipt)?;
    for (key, of_event) in hours.iter() {
        store::take_from_hour(tx, scope.tenant, key, of_event).await?;
    }
    Ok(())
}
