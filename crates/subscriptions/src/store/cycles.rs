//! One row a cycle: its key makes a rollover once-only.

use db::schema::{cycle_grants, cycles};
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::Timestamp;
use domain::calendar::Cycle;
use domain::id::{CustomerId, GrantId, PurchaseId, SubscriptionId, TenantId};
use uuid::Uuid;

use super::{to_i32, to_u32};
use crate::read_cycle::CycleView;
use crate::subscription::Subscription;

#[derive(Insertable)]
#[diesel(table_name = cycles)]
struct Row<'a> {
    tenant_id: Uuid,
    subscription_id: Uuid,
    number: i32,
    state: &'static str,
    starts_at: Timestamp,
    ends_at: Timestamp,
    plan_code: &'a str,
    opened_at: Timestamp,
    closed_at: Option<Timestamp>,
}

/// Opens a cycle with the subscription's plan.
pub async fn open(
    tx: &mut Connection,
    tenant: TenantId,
    subscription: &Subscription,
    cycle: Cycle,
    now: Timestamp,
) -> Result<()> {
    insert(tx, tenant, subscription, &[cycle], "open", now).await
}

/// Notes the grant that a cycle has for what a purchase of an earlier one had paid for (R-22b).
pub async fn granted(
    tx: &mut Connection,
    tenant: TenantId,
    (subscription, number): (SubscriptionId, u32),
    purchase: PurchaseId,
    grant: GrantId,
) -> Result<()> {
    diesel::insert_into(cycle_grants::table)
        .values((
            cycle_grants::tenant_id.eq(tenant.uuid()),
            cycle_grants::subscription_id.eq(subscription.uuid()),
            cycle_grants::cycle_number.eq(to_i32(number)?),
            cycle_grants::purchase_id.eq(purchase.uuid()),
            cycle_grants::grant_id.eq(grant.uuid()),
        ))
        .execute(tx)
        .await?;
    Ok(())
}

/// The grant that a cycle has for what a purchase of an earlier one had paid for, if any.
pub async fn grant_for(
    tx: &mut Connection,
    tenant: TenantId,
    (subscription, number): (SubscriptionId, u32),
    purchase: PurchaseId,
) -> Result<Option<GrantId>> {
    let key = (tenant.uuid(), subscription.uuid(), to_i32(number)?, purchase.uuid());
    let grant = cycle_grants::table.find(key).select(cycle_grants::grant_id).first(tx).await.optional()?;
    Ok(grant.map(GrantId::from_uuid))
}

/// Records cycles that were over before they could be opened.
pub async fn skip(
    tx: &mut Connection,
    tenant: TenantId,
    subscription: &Subscription,
    cycles: &[Cycle],
    now: Timestamp,
) -> Result<()> {
    insert(tx, tenant, subscription, cycles, "skipped", now).await
}

async fn insert(
    tx: &mut Connection,
    tenant: TenantId,
    subscription: &Subscription,
    cycles: &[Cycle],
    state: &'static str,
    now: Timestamp,
) -> Result<()> {
    let mut rows = Vec::new();
    for cycle in cycles {
        rows.push(Row {
            tenant_id: tenant.uuid(),
            subscription_id: subscription.id.uuid(),
            number: to_i32(cycle.number)?,
            state,
            starts_at: cycle.start,
            ends_at: cycle.end,
            plan_code: &subscription.plan_code,
            opened_at: now,
            closed_at: (state != "open").then_some(now),
        });
    }
    diesel::insert_into(cycles::table).values(rows).execute(tx).await?;
    Ok(())
}

/// Closes the open cycle of this number.
pub async fn close(
    tx: &mut Connection,
    tenant: TenantId,
    subscription: &Subscription,
    number: u32,
    now: Timestamp,
) -> Result<()> {
    let key = (tenant.uuid(), subscription.id.uuid(), to_i32(number)?);
    let closed = diesel::update(cycles::table.find(key))
        .filter(cycles::state.eq("open"))
        .set((cycles::state.eq("closed"), cycles::closed_at.eq(now)))
        .execute(tx)
        .await?;
    if closed == 1 {
        Ok(())
    } else {
        Err(Error::broken(format!("cycle {number} of {} is not open", subscription.id)))
    }
}

/// Notes what a closed cycle has left for the next ones.
pub async fn carried(
    tx: &mut Connection,
    tenant: TenantId,
    subscription: SubscriptionId,
    number: u32,
    grant: GrantId,
) -> Result<()> {
    diesel::update(cycles::table.find((tenant.uuid(), subscription.uuid(), to_i32(number)?)))
        .set(cycles::carried_grant_id.eq(grant.uuid()))
        .execute(tx)
        .await?;
    Ok(())
}

/// The cycle of this number, else the latest; `customer` is the subscription's.
pub async fn find(
    tx: &mut Connection,
    tenant: TenantId,
    subscription: SubscriptionId,
    customer: CustomerId,
    number: Option<u32>,
) -> Result<Option<CycleView>> {
    type Found = (i32, Timestamp, Timestamp, String, Timestamp, Option<Timestamp>);
    let number = number.map(to_i32).transpose()?;
    let found: Option<Found> = cycles::table
        .filter(cycles::tenant_id.eq(tenant.uuid()))
        .filter(cycles::subscription_id.eq(subscription.uuid()))
        .filter(cycles::number.ge(number.unwrap_or(0)))
        .filter(cycles::number.le(number.unwrap_or(i32::MAX)))
        .order(cycles::number.desc())
        .select((
            cycles::number,
            cycles::starts_at,
            cycles::ends_at,
            cycles::plan_code,
            cycles::opened_at,
            cycles::closed_at,
        ))
        .first(tx)
        .await
        .optional()?;
    let view = |(number, start, end, plan_code, opened_at, closed_at): Found| {
        let cycle = Cycle { number: to_u32(number)?, start, end };
        Ok(CycleView { subscription, customer, cycle, plan_code, opened_at, closed_at })
    };
    found.map(view).transpose()
}
