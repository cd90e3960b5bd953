//! What is due: cycles that are over, purchases and grants whose time is up, retries.

use db::schema::{grants, payments, purchases, subscriptions};
use db::{Connection, Locked, Result};
use diesel::dsl::{exists, not};
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::Timestamp;
use domain::id::{CustomerId, SubscriptionId, TenantId};
use domain::invoice::PaymentStatus;
use domain::subscription::Status;
use uuid::Uuid;

use super::subscriptions::Row;
use crate::subscription::{PurchaseKind, PurchaseStatus, Subscription};

/// The states in which cycles run.
pub const RUNNING: [Status; 3] = [Status::Active, Status::PastDue, Status::Suspended];

/// Conditions on the subscriptions that are due at `now`.
macro_rules! is_due {
    ($tenant:expr, $now:expr) => {
        subscriptions::tenant_id
            .eq($tenant.uuid())
            .and(subscriptions::status.eq_any(RUNNING.map(Status::name)))
            .and(subscriptions::cycle_end.le($now))
            .and(not(exists(
                purchases::table
                    .inner_join(
                        payments::table.on(payments::tenant_id
                            .eq(purchases::tenant_id)
                            .and(payments::invoice_id.eq(purchases::invoice_id))),
                    )
                    .filter(purchases::tenant_id.eq(subscriptions::tenant_id))
                    .filter(purchases::subscription_id.eq(subscriptions::subscription_id.nullable()))
                    .filter(purchases::cycle_number.eq(subscriptions::cycle_number))
                    .filter(purchases::kind.eq(PurchaseKind::Renewal.name()))
                    .filter(purchases::status.eq(PurchaseStatus::Pending.name()))
                    .filter(payments::status.eq_any(PaymentStatus::UNDECIDED.map(PaymentStatus::name))),
            )))
    };
}

/// Where a page of due subscriptions begins: after this cycle end and id.
pub type After = (Timestamp, SubscriptionId);

/// Claims subscriptions whose cycle is over at `now`, the longest overdue first. Those whose
/// renewal the provider has not decided yet are left out (R-22: a pending last try postpones the
/// end).
pub async fn claim(
    tx: &mut Connection,
    tenant: TenantId,
    now: Timestamp,
    limit: u32,
    locked: Locked,
) -> Result<Vec<Subscription>> {
    let query = subscriptions::table
        .filter(is_due!(tenant, now))
        .order((subscriptions::cycle_end, subscriptions::subscription_id))
        .limit(limit.into())
        .select(Row::as_select())
        .for_no_key_update();
    let rows: Vec<Row> = match locked {
        Locked::Skip => query.skip_locked().load(tx).await?,
        Locked::Wait => query.load(tx).await?,
    };
    rows.into_iter().map(Subscription::try_from).collect()
}

/// The same subscriptions, page by page and without a lock: what a claim would find.
pub async fn peek(
    tx: &mut Connection,
    tenant: TenantId,
    now: Timestamp,
    after: Option<After>,
    limit: u32,
) -> Result<Vec<Subscription>> {
    let mut query = subscriptions::table
        .filter(is_due!(tenant, now))
        .order((subscriptions::cycle_end, subscriptions::subscription_id))
        .limit(limit.into())
        .select(Row::as_select())
        .into_boxed();
    if let Some((cycle_end, id)) = after {
        query =
            query.filter(subscriptions::cycle_end.gt(cycle_end).or(
                subscriptions::cycle_end.eq(cycle_end).and(subscriptions::subscription_id.gt(id.uuid())),
            ));
    }
    let rows: Vec<Row> = query.load(tx).await?;
    rows.into_iter().map(Subscription::try_from).collect()
}

/// Customers who hold grants past their expiry with something left in them. Not those with a cycle to close, which may be in
/// another run's hands: what it leaves expires with it, and a part of it may be carried on.
pub async fn customers_with_expired_grants(
    tx: &mut Connection,
    tenant: TenantId,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<CustomerId>> {
    let found: Vec<Uuid> = grants::table
        .filter(grants::tenant_id.eq(tenant.uuid()))
        .filter(diesel::dsl::not(grants::is_used_up))
        .filter(grants::expires_at.le(now))
        .filter(not(exists(
            subscriptions::table
                .filter(is_due!(tenant, now))
                .filter(subscriptions::customer_id.eq(grants::customer_id)),
        )))
        .select(grants::customer_id)
        .distinct()
        .limit(limit.into())
        .load(tx)
        .await?;
    Ok(found.into_iter().map(CustomerId::from_uuid).collect())
}

#[derive(QueryableByName)]
struct Instant {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    at: Option<Timestamp>,
}

/// The first instant after `after` at which something of the tenant is due.
pub async fn next_instant(
    tx: &mut Connection,
    tenant: TenantId,
    after: Timestamp,
) -> Result<Option<Timestamp>> {
    let found: Instant = db::sql_query(
        "select least(
            (select min(cycle_end) from subscriptions
             where tenant_id = $1 and cycle_end > $2 and status in ('active', 'past_due', 'suspended')),
            (select min(expires_at) from purchases
             where tenant_id = $1 and expires_at > $2 and status = 'pending'),
            (select min(next_try_at) from dunnings where tenant_id = $1 and next_try_at > $2),
            (select min(expires_at) from grants
             where tenant_id = $1 and expires_at > $2 and not is_used_up),
            (select min(payg_due_at) from credit_accounts
             where tenant_id = $1 and payg_due_at > $2),
            (select min(top_up_blocked_until) from credit_accounts
             where tenant_id = $1 and exhaustion = 'topup' and top_up_blocked_until > $2
                 and available <= top_up_at)
        ) as at",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Timestamptz, _>(after)
    .get_result(tx)
    .await?;
    Ok(found.at)
}

#[derive(QueryableByName)]
struct Tenant {
    #[diesel(sql_type = SqlUuid)]
    tenant_id: Uuid,
}

/// The tenants that have anything due by their own clock.
pub async fn tenants_with_due_work_all_tenants(tx: &mut Connection) -> Result<Vec<TenantId>> {
    let found: Vec<Tenant> = db::sql_query(
        "select tenant_id from tenants t
         where exists (select from subscriptions s
                       where s.tenant_id = t.tenant_id and s.cycle_end <= coalesce(t.clock_at, now())
                         and s.status in ('active', 'past_due', 'suspended'))
            or exists (select from purchases p
                       where p.tenant_id = t.tenant_id and p.expires_at <= coalesce(t.clock_at, now())
                         and p.status = 'pending')
            or exists (select from dunnings d
                       where d.tenant_id = t.tenant_id and d.next_try_at <= coalesce(t.clock_at, now()))
            or exists (select from grants g
                       where g.tenant_id = t.tenant_id and g.expires_at <= coalesce(t.clock_at, now())
                         and not g.is_used_up)
            or exists (select from credit_accounts a
                       where a.tenant_id = t.tenant_id and a.payg_due_at <= coalesce(t.clock_at, now())
                         and not exists (select from subscriptions s
                             where s.tenant_id = a.tenant_id and s.customer_id = a.customer_id
                                 and s.status in ('active', 'past_due', 'suspended')))
            or exists (select from credit_accounts a
                       where a.tenant_id = t.tenant_id and a.exhaustion = 'topup' and a.available <= a.top_up_at
                         and coalesce(a.top_up_blocked_until, '-infinity') <= coalesce(t.clock_at, now()))
         order by tenant_id",
    )
    .load(tx)
    .await?;
    Ok(found.into_iter().map(|tenant| TenantId::from_uuid(tenant.tenant_id)).collect())
}
