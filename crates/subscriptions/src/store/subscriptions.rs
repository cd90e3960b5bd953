//! The subscriptions themselves.

use db::schema::{customers, purchases, subscriptions};
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::calendar::{Anchor, AnchorKind, Cycle};
use domain::id::{CustomerId, InvoiceId, SubscriptionId, TenantId};
use domain::money::DiscountBps;
use domain::month_share::MonthShare;
use domain::subscription::Status;
use domain::term::Term;
use domain::{Refusal, Timestamp};
use uuid::Uuid;

use super::{by_name, to_i32, to_u32};
use crate::subscription::{Running, Subscription};

#[derive(Queryable, Selectable, Insertable, AsChangeset, Identifiable)]
#[diesel(table_name = subscriptions, check_for_backend(diesel::pg::Pg))]
#[diesel(primary_key(tenant_id, subscription_id), treat_none_as_null = true)]
pub(super) struct Row {
    tenant_id: Uuid,
    subscription_id: Uuid,
    customer_id: Uuid,
    status: String,
    plan_code: String,
    catalog_version: i32,
    currency: String,
    payment_method: String,
    discount_bps: i16,
    anchor_at: Option<Timestamp>,
    anchor_zone: Option<String>,
    cycle_number: Option<i32>,
    cycle_start: Option<Timestamp>,
    cycle_end: Option<Timestamp>,
    cancel_at_cycle_end: bool,
    scheduled_plan_code: Option<String>,
    created_at: Timestamp,
    ended_at: Option<Timestamp>,
    term: String,
    annual_from: Option<i32>,
    anchor_kind: String,
    share_days: i16,
    share_of: i16,
    migrates: bool,
    is_suspended_by_dispute: bool,
}

impl Row {
    fn new(tenant: TenantId, subscription: &Subscription) -> Result<Row> {
        let running = subscription.running;
        Ok(Row {
            tenant_id: tenant.uuid(),
            subscription_id: subscription.id.uuid(),
            customer_id: subscription.customer.uuid(),
            status: subscription.status.name().to_owned(),
            plan_code: subscription.plan_code.clone(),
            catalog_version: to_i32(subscription.catalog_version)?,
            currency: subscription.currency.code().to_owned(),
            payment_method: subscription.payment_method.clone(),
            discount_bps: to_i16(subscription.discount.get())?,
            anchor_at: running.map(|running| running.anchor.instant()),
            anchor_zone: running.map(|running| running.anchor.zone().name().to_owned()),
            cycle_number: running.map(|running| to_i32(running.cycle.number)).transpose()?,
            cycle_start: running.map(|running| running.cycle.start),
            cycle_end: running.map(|running| running.cycle.end),
            cancel_at_cycle_end: subscription.cancel_at_cycle_end,
            scheduled_plan_code: subscription.scheduled_plan_code.clone(),
            created_at: subscription.created_at,
            ended_at: subscription.ended_at,
            term: subscription.term.name().to_owned(),
            annual_from: subscription.annual_from.map(to_i32).transpose()?,
            anchor_kind: subscription.anchor_kind.name().to_owned(),
            share_days: to_i16(subscription.share.days())?,
            share_of: to_i16(subscription.share.of())?,
            migrates: subscription.migrates,
            is_suspended_by_dispute: subscription.is_suspended_by_dispute
                && subscription.status == Status::Suspended,
        })
    }

    /// The anchor and the cycle, all of it or nothing.
    fn running(&self) -> Result<Option<Running>> {
        let parts = (
            self.anchor_at,
            self.anchor_zone.as_deref(),
            self.cycle_number,
            self.cycle_start,
            self.cycle_end,
        );
        match parts {
            (None, None, None, None, None) => Ok(None),
            (Some(anchor_at), Some(zone), Some(number), Some(start), Some(end)) => {
                let zone = zone.parse().map_err(|_| self.broken("an unknown time zone"))?;
                let cycle = Cycle { number: to_u32(number)?, start, end };
                let kind = by_name(&AnchorKind::ALL, AnchorKind::name, &self.anchor_kind)?;
                Ok(Some(Running { anchor: Anchor::of_kind(kind, anchor_at, zone), cycle }))
            }
            _ => Err(self.broken("half a cycle")),
        }
    }

    fn broken(&self, what: &str) -> Error {
        Error::broken(format!("{} has {what}", SubscriptionId::from_uuid(self.subscription_id)))
    }
}

impl TryFrom<Row> for Subscription {
    type Error = Error;

    fn try_from(row: Row) -> Result<Subscription> {
        let running = row.running()?;
        let discount = u16::try_from(row.discount_bps).ok().and_then(DiscountBps::new);
        let share = match (u16::try_from(row.share_days), u16::try_from(row.share_of)) {
            (Ok(days), Ok(of)) => MonthShare::new(days, of),
            _ => None,
        };
        Ok(Subscription {
            id: SubscriptionId::from_uuid(row.subscription_id),
            customer: CustomerId::from_uuid(row.customer_id),
            status: by_name(&Status::ALL, Status::name, &row.status)?,
            catalog_version: to_u32(row.catalog_version)?,
            currency: row.currency.parse().map_err(|_| row.broken("an unknown currency"))?,
            discount: discount.ok_or_else(|| row.broken("a discount above the price"))?,
            share: share.ok_or_else(|| row.broken("a part of no month"))?,
            term: by_name(&Term::ALL, Term::name, &row.term)?,
            annual_from: row.annual_from.map(to_u32).transpose()?,
            anchor_kind: by_name(&AnchorKind::ALL, AnchorKind::name, &row.anchor_kind)?,
            migrates: row.migrates,
            is_suspended_by_dispute: row.is_suspended_by_dispute,
            running,
            plan_code: row.plan_code,
            payment_method: row.payment_method,
            cancel_at_cycle_end: row.cancel_at_cycle_end,
            scheduled_plan_code: row.scheduled_plan_code,
            created_at: row.created_at,
            ended_at: row.ended_at,
        })
    }
}

fn to_i16(number: u16) -> Result<i16> {
    i16::try_from(number).map_err(|_| Refusal::AmountOverflow.into())
}

fn not_found() -> Refusal {
    Refusal::NotFound { what: "subscription" }
}

/// Locks a customer's row, so that one request at a time decides whether it can subscribe.
/// The weaker lock: rows that refer to the customer can still be written meanwhile.
pub async fn lock_customer(tx: &mut Connection, tenant: TenantId, customer: CustomerId) -> Result<()> {
    customers::table
        .find((tenant.uuid(), customer.uuid()))
        .select(customers::customer_id)
        .for_no_key_update()
        .first::<Uuid>(tx)
        .await
        .optional()?
        .ok_or(Refusal::NotFound { what: "customer" })?;
    Ok(())
}

pub async fn insert(tx: &mut Connection, tenant: TenantId, subscription: &Subscription) -> Result<()> {
    let row = Row::new(tenant, subscription)?;
    diesel::insert_into(subscriptions::table).values(row).execute(tx).await?;
    Ok(())
}

/// Writes all that can change. The caller holds the row's lock.
pub async fn update(tx: &mut Connection, tenant: TenantId, subscription: &Subscription) -> Result<()> {
    let row = Row::new(tenant, subscription)?;
    diesel::update(subscriptions::table.find((row.tenant_id, row.subscription_id)))
        .set(&row)
        .execute(tx)
        .await?;
    Ok(())
}

pub async fn find(
    tx: &mut Connection,
    tenant: TenantId,
    subscription: SubscriptionId,
) -> Result<Subscription> {
    subscriptions::table
        .find((tenant.uuid(), subscription.uuid()))
        .select(Row::as_select())
        .first(tx)
        .await
        .optional()?
        .ok_or_else(not_found)?
        .try_into()
}

pub async fn lock(
    tx: &mut Connection,
    tenant: TenantId,
    subscription: SubscriptionId,
) -> Result<Subscription> {
    subscriptions::table
        .find((tenant.uuid(), subscription.uuid()))
        .select(Row::as_select())
        .for_no_key_update()
        .first(tx)
        .await
        .optional()?
        .ok_or_else(not_found)?
        .try_into()
}

/// Locks the subscription that an invoice was issued for; none where a customer bought without one. Which
/// it is never changes.
pub async fn lock_by_invoice(
    tx: &mut Connection,
    tenant: TenantId,
    invoice: InvoiceId,
) -> Result<Option<Subscription>> {
    match id_of_invoice(tx, tenant, invoice).await? {
        Some(subscription) => lock(tx, tenant, subscription).await.map(Some),
        None => Ok(None),
    }
}

async fn id_of_invoice(
    tx: &mut Connection,
    tenant: TenantId,
    invoice: InvoiceId,
) -> Result<Option<SubscriptionId>> {
    let subscription: Option<Uuid> = purchases::table
        .filter(purchases::tenant_id.eq(tenant.uuid()))
        .filter(purchases::invoice_id.eq(invoice.uuid()))
        .select(purchases::subscription_id)
        .first(tx)
        .await
        .optional()?
        .ok_or(Refusal::NotFound { what: "invoice" })?;
    Ok(subscription.map(SubscriptionId::from_uuid))
}

/// The customer's live subscription.
pub async fn live(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
) -> Result<Option<SubscriptionId>> {
    let live = Status::ALL.into_iter().filter(|status| status.is_live()).map(Status::name);
    let found: Option<Uuid> = subscriptions::table
        .filter(subscriptions::tenant_id.eq(tenant.uuid()))
        .filter(subscriptions::customer_id.eq(customer.uuid()))
        .filter(subscriptions::status.eq_any(live))
        .select(subscriptions::subscription_id)
        .first(tx)
        .await
        .optional()?;
    Ok(found.map(SubscriptionId::from_uuid))
}

/// A customer's subscriptions from the oldest, `limit` of those after `after`.
pub async fn of_customer(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    after: Option<SubscriptionId>,
    limit: u32,
) -> Result<Vec<Subscription>> {
    let rows: Vec<Row> = subscriptions::table
        .filter(subscriptions::tenant_id.eq(tenant.uuid()))
        .filter(subscriptions::customer_id.eq(customer.uuid()))
        .filter(subscriptions::subscription_id.gt(after.map_or(Uuid::nil(), SubscriptionId::uuid)))
        .order(subscriptions::subscription_id)
        .limit(limit.into())
        .select(Row::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(Subscription::try_from).collect()
}

/// Has every live subscription of a plan that is not of `version` move to the newest catalogue version at its next
/// renewal; those that it is new to, locked.
pub async fn migrate_plan(
    tx: &mut Connection,
    tenant: TenantId,
    plan_code: &str,
    version: u32,
) -> Result<Vec<Subscription>> {
    let rows: Vec<Row> = diesel::update(subscriptions::table)
        .filter(subscriptions::tenant_id.eq(tenant.uuid()))
        .filter(subscriptions::plan_code.eq(plan_code))
        .filter(subscriptions::catalog_version.ne(to_i32(version)?))
        .filter(subscriptions::status.eq_any(super::due::RUNNING.map(Status::name)))
        .filter(diesel::dsl::not(subscriptions::migrates))
        .set(subscriptions::migrates.eq(true))
        .returning(Row::as_returning())
        .get_results(tx)
        .await?;
    rows.into_iter().map(Subscription::try_from).collect()
}

/// How many running subscriptions of a plan move at their next renewal.
pub async fn count_migrating(tx: &mut Connection, tenant: TenantId, plan_code: &str) -> Result<usize> {
    let count: i64 = subscriptions::table
        .filter(subscriptions::tenant_id.eq(tenant.uuid()))
        .filter(subscriptions::plan_code.eq(plan_code))
        .filter(subscriptions::status.eq_any(super::due::RUNNING.map(Status::name)))
        .filter(subscriptions::migrates)
        .count()
        .get_result(tx)
        .await?;
    usize::try_from(count).map_err(|_| Error::broken(format!("{count} subscriptions")))
}
