//! Closes the cycles that are over and opens the next ones: one batch, one
//! transaction, five beats.
//!
//! Any number of processes may run it at once: each claims its own subscriptions, and leaves those
//! that another holds. What is claimed is due by its own row under its lock, and a cycle is a row
//! under the key (subscription, number): run twice, or killed half way, it has one effect.

use std::collections::{BTreeMap, BTreeSet};

use db::{Connection, Locked, Result};
use domain::account::{Account, Cause, CauseKind, Draw, NewGrant};
use domain::catalog::CatalogHistory;
use domain::grant::GrantSource;
use domain::id::{CustomerId, GrantId, InvoiceId, PurchaseId, RolloverId, SubscriptionId};
use domain::policy::RenewalGrant;
use domain::subscription::{Event, after};
use domain::{Credits, Money, Refusal, TenantScope};
use futures_util::{StreamExt, stream};
use ledger::Accounts;
use serde_json::json;
use uuid::Uuid;

use crate::cancel::sum;
use crate::next_cycle::{Charge, EndReason, Migration, Next, Opening, decide};
use crate::paid_for::PaidFor;
use crate::purchase::{self, NewPurchase};
use crate::subscribe::term_line;
use crate::subscription::{Purchase, PurchaseKind, Subscription};
use crate::{Subscriptions, effect, event, status_change, store, usage_invoice};

/// Subscriptions, or accounts, a transaction.
pub const BATCH: u32 = 50;

/// Payments that are collected at the same time.
pub(crate) const COLLECTED_AT_ONCE: usize = 4;

/// What a batch, or a run of batches, has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub cycles_closed: i64,
    pub cycles_opened: i64,
    /// Cycles that were over before they could be opened.
    pub cycles_skipped: i64,
    pub subscriptions_ended: i64,
    /// Credits; a count for people, so it stops at the largest number.
    pub credits_expired: i64,
}

impl Progress {
    /// Whether nothing was due.
    pub fn is_zero(&self) -> bool {
        *self == Progress::default()
    }

    pub fn add(&mut self, other: &Progress) {
        self.cycles_closed = self.cycles_closed.saturating_add(other.cycles_closed);
        self.cycles_opened = self.cycles_opened.saturating_add(other.cycles_opened);
        self.cycles_skipped = self.cycles_skipped.saturating_add(other.cycles_skipped);
        self.subscriptions_ended = self.subscriptions_ended.saturating_add(other.subscriptions_ended);
        self.credits_expired = self.credits_expired.saturating_add(other.credits_expired);
    }

    fn expired(&mut self, credits: Credits) {
        self.credits_expired = self.credits_expired.saturating_add(credits.get());
    }
}

/// What a batch leaves to do after its commit.
struct Batch {
    progress: Progress,
    accounts: Accounts,
    /// Invoices with a payment to collect.
    to_collect: Vec<InvoiceId>,
}

impl Subscriptions {
    /// Rolls at most `limit` due subscriptions over and collects their renewals; where none is
    /// due, expires the due grants of at most `limit` other accounts. All zero: nothing is left.
    pub async fn roll_over(&self, scope: &TenantScope, limit: u32) -> Result<Progress> {
        self.roll_batch(scope, limit, Locked::Skip, None).await
    }

    /// The same; counted in a watched run, if there is one, in the batch's own transaction.
    pub(crate) async fn roll_batch(
        &self,
        scope: &TenantScope,
        limit: u32,
        locked: Locked,
        run: Option<RolloverId>,
    ) -> Result<Progress> {
        let history = self.catalogs.history(scope.tenant).await?;
        let batch = self
            .db
            .transaction(scope.tenant, async |tx| {
                let batch = roll(tx, scope, &history, limit, locked).await?;
                if let Some(run) = run {
                    store::rollovers::add(tx, scope.tenant, run, &batch.progress).await?;
                }
                Ok(batch)
            })
            .await?;
        self.ledger.publish(scope.tenant, &batch.accounts, scope.now).await?;
        stream::iter(batch.to_collect)
            .for_each_concurrent(COLLECTED_AT_ONCE, async |invoice| {
                // One that went wrong does not hold the others up: its job tries again.
                if let Err(error) = self.collect_in_flight(scope, invoice).await {
                    tracing::warn!(%invoice, %error, "a renewal was not collected yet");
                }
            })
            .await;
        Ok(batch.progress)
    }
}

async fn roll(
    tx: &mut Connection,
    scope: &TenantScope,
    history: &CatalogHistory,
    limit: u32,
    locked: Locked,
) -> Result<Batch> {
    let (tenant, now) = (scope.tenant, scope.now);
    let due = store::due::claim(tx, tenant, now, limit, locked).await?;
    if due.is_empty() {
        return expire_others(tx, scope, limit).await;
    }
    let ids: Vec<SubscriptionId> = due.iter().map(|subscription| subscription.id).collect();
    let paid: BTreeSet<SubscriptionId> =
        store::purchases::with_paid_cycle(tx, tenant, &ids).await?.into_iter().collect();
    let mut pending: BTreeMap<SubscriptionId, Vec<Purchase>> = BTreeMap::new();
    for purchase in store::purchases::pending(tx, tenant, &ids).await? {
        pending.entry(purchase.subscription).or_default().push(purchase);
    }
    // What a cycle leaves unpaid ends with it, before any account is locked.
    for subscription in &due {
        for purchase in pending.entry(subscription.id).or_default() {
            purchase::end(tx, scope, subscription, purchase, "cycle-ended").await?;
        }
    }
    let customers: Vec<CustomerId> = due.iter().map(|subscription| subscription.customer).collect();
    let mut batch = Batch {
        progress: Progress::default(),
        accounts: ledger::lock(tx, tenant, &customers).await?,
        to_collect: Vec::new(),
    };
    for mut subscription in due {
        let next = decide(scope, history, &subscription, paid.contains(&subscription.id))?;
        let account = batch.accounts.get_mut(subscription.customer)?;
        let rest = close(tx, scope, &subscription, account, &mut batch.progress).await?;
        // What was used on pay-as-you-go in the cycle is owed, whether another one follows or not.
        let method = Some(subscription.payment_method.clone());
        batch.to_collect.extend(usage_invoice::invoice(tx, scope, account, method).await?);
        match next {
            Next::Ends { reason } => {
                end(tx, scope, &mut subscription, account, reason).await?;
                batch.progress.subscriptions_ended += 1;
            }
            Next::Opens(opening) => {
                carry(tx, scope, &subscription, account, rest).await?;
                let invoice =
                    open(tx, scope, &mut subscription, account, &opening, &mut batch.progress).await?;
                batch.to_collect.extend(invoice);
            }
        }
        store::subscriptions::update(tx, tenant, &subscription).await?;
    }
    ledger::write(tx, tenant, &batch.accounts, now).await?;
    Ok(batch)
}

/// Expires what is due of accounts without a due subscription.
async fn expire_others(tx: &mut Connection, scope: &TenantScope, limit: u32) -> Result<Batch> {
    let (tenant, now) = (scope.tenant, scope.now);
    let customers = store::due::customers_with_expired_grants(tx, tenant, now, limit).await?;
    let mut accounts = ledger::lock(tx, tenant, &customers).await?;
    let mut progress = Progress::default();
    for customer in customers {
        let expired = sum(&accounts.get_mut(customer)?.expire(now)?)?;
        progress.expired(expired);
        event::emit_credits_expired(tx, scope, customer, expired).await?;
    }
    ledger::write(tx, tenant, &accounts, now).await?;
    Ok(Batch { progress, accounts, to_collect: Vec::new() })
}

/// Closes the cycle that is over, and expires what it leaves: how much of that was its plan's.
async fn close(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &Subscription,
    account: &mut Account,
    progress: &mut Progress,
) -> Result<Credits> {
    let cycle = subscription.cycle().ok_or(Refusal::SubscriptionIncomplete)?;
    let draws = account.expire(scope.now)?;
    let expired = sum(&draws)?;
    store::cycles::close(tx, scope.tenant, subscription, cycle.number, scope.now).await?;
    progress.cycles_closed += 1;
    progress.expired(expired);
    event::emit_cycle_closed(tx, scope, subscription, cycle, expired).await?;
    Ok(sum(&of_the_plan(account, draws))?)
}

/// What grants of the plan lost, of what all lost.
pub(crate) fn of_the_plan(account: &Account, mut draws: Vec<Draw>) -> Vec<Draw> {
    draws.retain(|draw| account.source_of(draw.grant).is_some_and(GrantSource::is_the_plans));
    draws
}

/// Carries a part of what the closed cycle left into the next ones, as a grant of its own. Nothing where the
/// tenant does not, or where the subscription ends.
async fn carry(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &Subscription,
    account: &mut Account,
    rest: Credits,
) -> Result<()> {
    let (Some(policy), Some(running)) = (&scope.policies.rollover, subscription.running) else {
        return Ok(());
    };
    let Some(carried) = policy.carry(running.anchor, running.cycle, rest, scope.now)? else {
        return Ok(());
    };
    let id = GrantId::from_uuid(Uuid::now_v7());
    let grant = NewGrant {
        id,
        source: GrantSource::Rollover,
        credits: carried.credits,
        effective_at: carried.effective_at,
        expires_at: Some(carried.expires_at),
    };
    account.issue(grant, Cause { kind: CauseKind::Cycle, id: id.uuid() }, scope.now)?;
    store::cycles::carried(tx, scope.tenant, subscription.id, running.cycle.number, id).await?;
    let details = json!({
        "cycle": running.cycle.number,
        "credits": carried.credits,
        "expires_at": carried.expires_at,
    });
    event::emit(tx, scope, event::CREDITS_CARRIED, subscription, details).await
}

async fn end(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &mut Subscription,
    account: &mut Account,
    reason: EndReason,
) -> Result<()> {
    let before = subscription.status;
    subscription.status = after(before, Event::EndedForGood)?;
    status_change::moved(tx, scope, subscription, before, Event::EndedForGood).await?;
    subscription.ended_at = subscription.cycle().map(|cycle| cycle.end);
    account.set_refills_at(None);
    // What was suspended is over.
    account.set_suspended(false);
    event::emit(tx, scope, event::CANCELED, subscription, json!({"reason": reason.name()})).await
}

/// Opens the next cycle and invoices it at list price. The invoice to collect, if any.
async fn open(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &mut Subscription,
    account: &mut Account,
    opening: &Opening,
    progress: &mut Progress,
) -> Result<Option<InvoiceId>> {
    let (tenant, now) = (scope.tenant, scope.now);
    let running = subscription.running.ok_or(Refusal::SubscriptionIncomplete)?;
    if !opening.skipped.is_empty() {
        store::cycles::skip(tx, tenant, subscription, &opening.skipped, now).await?;
    }
    for cycle in &opening.skipped {
        progress.cycles_skipped += 1;
        event::emit(tx, scope, event::CYCLE_SKIPPED, subscription, json!({"cycle": cycle})).await?;
    }
    if let Some(plan) = &opening.dropped_schedule {
        let details = json!({"scheduled_plan": plan, "reason": "no-longer-sold"});
        event::emit(tx, scope, event::DOWNGRADE_WITHDRAWN, subscription, details).await?;
    }
    let Charge::Renewal(price) = opening.charge else {
        open_within_year(tx, scope, subscription, account, opening).await?;
        progress.cycles_opened += 1;
        return Ok(None);
    };
    effect::enter(subscription, opening.running(running), opening.plan.code.clone(), opening.catalog_version);
    store::cycles::open(tx, tenant, subscription, opening.cycle, now).await?;
    progress.cycles_opened += 1;
    event::emit(tx, scope, event::CYCLE_OPENED, subscription, json!({"cycle": opening.cycle})).await?;
    tell_of_migration(tx, scope, subscription, opening).await?;
    // Nothing refills until this is paid (R-33a).
    account.set_refills_at(None);
    invoice(tx, scope, subscription, account, opening, price).await
}

/// A cycle that its year has paid for: its Credits are there at once, a grant for each purchase that has paid for a part of
/// them, and there is no invoice (R-22b). Those of money that has gone back are revoked at once (R-22a).
async fn open_within_year(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &mut Subscription,
    account: &mut Account,
    opening: &Opening,
) -> Result<()> {
    let (tenant, now) = (scope.tenant, scope.now);
    let running = subscription.running.ok_or(Refusal::SubscriptionIncomplete)?;
    subscription.running = Some(opening.running(running));
    let paid_with = subscription.paid_with().ok_or(Refusal::SubscriptionIncomplete)?;
    let number = opening.cycle.number;
    store::cycles::open(tx, tenant, subscription, opening.cycle, now).await?;
    event::emit(tx, scope, event::CYCLE_OPENED, subscription, json!({"cycle": opening.cycle})).await?;
    account.set_refills_at(effect::refills_at(subscription));
    let was_used_up = ledger::is_used_up(tx, tenant, account, now).await?;
    let (mut credits, mut revoked) = (Credits::ZERO, Credits::ZERO);
    for part in store::purchases::parts_of_year(tx, tenant, subscription.id, paid_with, number).await? {
        if part.credits.is_zero() {
            continue;
        }
        let grant = GrantId::from_uuid(Uuid::now_v7());
        effect::grant_within_year(opening.cycle, part.credits, grant, account, now)?;
        store::cycles::granted(tx, tenant, (subscription.id, number), part.purchase, grant).await?;
        credits = credits.plus(part.credits)?;
        if part.is_less {
            let paid_for = PaidFor { grant: Some(grant) };
            revoked = revoked.plus(paid_for.take_back_at_once(tx, scope, part.invoice, account).await?)?;
        }
    }
    if !credits.is_zero() {
        let details = json!({
            "cycle": number,
            "plan": opening.plan.code,
            "credits": credits,
            "credits_revoked": revoked,
        });
        event::emit(tx, scope, event::CREDITS_GRANTED, subscription, details).await?;
    }
    if was_used_up {
        outbox::emit_recovered(tx, tenant, account, now).await?;
    }
    Ok(())
}

async fn tell_of_migration(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &Subscription,
    opening: &Opening,
) -> Result<()> {
    let (kind, details) = match opening.migration {
        None => return Ok(()),
        Some(Migration::From(before)) => {
            (event::MIGRATED, json!({"from_version": before, "to_version": opening.catalog_version}))
        }
        Some(Migration::NotSold) => (
            event::MIGRATION_WITHDRAWN,
            json!({"version": opening.catalog_version, "reason": "no-longer-sold"}),
        ),
    };
    event::emit(tx, scope, kind, subscription, details).await
}

async fn invoice(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &mut Subscription,
    account: &mut Account,
    opening: &Opening,
    price: Money,
) -> Result<Option<InvoiceId>> {
    let (tenant, now) = (scope.tenant, scope.now);
    let renewal = NewPurchase {
        id: PurchaseId::from_uuid(Uuid::now_v7()),
        kind: PurchaseKind::Renewal,
        cycle_number: opening.cycle.number,
        plan_code: opening.plan.code.clone(),
        catalog_version: opening.catalog_version,
        credits: opening.plan.credits_per_cycle,
        lines: vec![term_line(subscription.term, &opening.plan, price)],
        payment_method: subscription.payment_method.clone(),
        // A renewal can be paid until its cycle is over.
        expires_at: opening.cycle.end,
    };
    let mut opened = purchase::open(tx, scope, subscription, renewal).await?;
    if opened.payment.is_none() {
        purchase::take(tx, scope, subscription, &mut opened.purchase, account, now).await?;
        return Ok(None);
    }
    if scope.policies.renewal_grant == RenewalGrant::OnInvoice {
        effect::grant_on_invoice(subscription, &mut opened.purchase, account, now)?;
        store::purchases::update(tx, tenant, &opened.purchase).await?;
        let details = event::purchase(&opened.purchase);
        event::emit(tx, scope, event::CREDITS_GRANTED, subscription, details).await?;
    }
    Ok(Some(opened.invoice.id))
}
