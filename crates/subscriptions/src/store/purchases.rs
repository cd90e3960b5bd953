//! What was bought for subscriptions.

use db::schema::{disputes, payments, purchases, subscriptions};
use db::{Connection, Error, Result};
use diesel::dsl::{exists, not};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::dispute::DisputeState;
use domain::id::{CustomerId, GrantId, InvoiceId, PurchaseId, SubscriptionId, TenantId};
use domain::invoice::PaymentStatus;
use domain::{Credits, Refusal, Timestamp};
use uuid::Uuid;

use super::{by_name, to_i32, to_u32};
use crate::subscription::{Purchase, PurchaseKind, PurchaseStatus};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = purchases, check_for_backend(diesel::pg::Pg))]
struct Row {
    tenant_id: Uuid,
    purchase_id: Uuid,
    kind: String,
    subscription_id: Option<Uuid>,
    cycle_number: Option<i32>,
    plan_code: Option<String>,
    catalog_version: Option<i32>,
    credits: i64,
    invoice_id: Uuid,
    status: String,
    granted_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    created_at: Timestamp,
    customer_id: Uuid,
}

/// What a purchase for a subscription has, and a customer's without one has not.
fn given<T>(value: Option<T>, id: PurchaseId) -> Result<T> {
    value.ok_or_else(|| Error::broken(format!("{id} was bought for no subscription")))
}

impl TryFrom<Row> for Purchase {
    type Error = Error;

    fn try_from(row: Row) -> Result<Purchase> {
        let id = PurchaseId::from_uuid(row.purchase_id);
        let credits =
            Credits::new(row.credits).map_err(|_| Error::broken(format!("{id} grants {}", row.credits)))?;
        Ok(Purchase {
            id,
            kind: by_name(&PurchaseKind::ALL, PurchaseKind::name, &row.kind)?,
            customer: CustomerId::from_uuid(row.customer_id),
            subscription: SubscriptionId::from_uuid(given(row.subscription_id, id)?),
            cycle_number: to_u32(given(row.cycle_number, id)?)?,
            plan_code: given(row.plan_code, id)?,
            catalog_version: to_u32(given(row.catalog_version, id)?)?,
            credits,
            invoice: InvoiceId::from_uuid(row.invoice_id),
            status: by_name(&PurchaseStatus::ALL, PurchaseStatus::name, &row.status)?,
            granted_at: row.granted_at,
            expires_at: given(row.expires_at, id)?,
            created_at: row.created_at,
        })
    }
}

pub async fn insert(tx: &mut Connection, tenant: TenantId, purchase: &Purchase) -> Result<()> {
    let row = Row {
        tenant_id: tenant.uuid(),
        purchase_id: purchase.id.uuid(),
        kind: purchase.kind.name().to_owned(),
        subscription_id: Some(purchase.subscription.uuid()),
        cycle_number: Some(to_i32(purchase.cycle_number)?),
        plan_code: Some(purchase.plan_code.clone()),
        catalog_version: Some(to_i32(purchase.catalog_version)?),
        credits: purchase.credits.get(),
        invoice_id: purchase.invoice.uuid(),
        status: purchase.status.name().to_owned(),
        granted_at: purchase.granted_at,
        expires_at: Some(purchase.expires_at),
        created_at: purchase.created_at,
        customer_id: purchase.customer.uuid(),
    };
    diesel::insert_into(purchases::table).values(row).execute(tx).await?;
    Ok(())
}

/// Writes all that can change. The caller holds the subscription's lock.
pub async fn update(tx: &mut Connection, tenant: TenantId, purchase: &Purchase) -> Result<()> {
    diesel::update(purchases::table.find((tenant.uuid(), purchase.id.uuid())))
        .set((purchases::status.eq(purchase.status.name()), purchases::granted_at.eq(purchase.granted_at)))
        .execute(tx)
        .await?;
    Ok(())
}

/// The grant that paying an invoice makes, whatever was bought.
pub async fn grant_of_invoice(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<GrantId> {
    let purchase: Uuid = purchases::table
        .filter(purchases::tenant_id.eq(tenant.uuid()))
        .filter(purchases::invoice_id.eq(invoice.uuid()))
        .select(purchases::purchase_id)
        .first(tx)
        .await
        .optional()?
        .ok_or(Refusal::NotFound { what: "invoice" })?;
    Ok(GrantId::from_uuid(purchase))
}

/// Whether the money of anything that was bought for a subscription is with a customer's bank for good.
pub async fn has_lost_dispute(
    tx: &mut Connection,
    tenant: TenantId,
    subscription: SubscriptionId,
) -> Result<bool> {
    let lost = disputes::table
        .inner_join(purchases::table.on(
            purchases::tenant_id.eq(disputes::tenant_id).and(purchases::invoice_id.eq(disputes::invoice_id)),
        ))
        .filter(disputes::tenant_id.eq(tenant.uuid()))
        .filter(purchases::subscription_id.eq(subscription.uuid()))
        .filter(disputes::state.eq(DisputeState::Lost.name()));
    Ok(diesel::select(exists(lost)).get_result(tx).await?)
}

/// The purchase that an invoice was issued for.
pub async fn of_invoice(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<Purchase> {
    purchases::table
        .filter(purchases::tenant_id.eq(tenant.uuid()))
        .filter(purchases::invoice_id.eq(invoice.uuid()))
        .select(Row::as_select())
        .first(tx)
        .await
        .optional()?
        .ok_or(Refusal::NotFound { what: "invoice" })?
        .try_into()
}

pub async fn find(tx: &mut Connection, tenant: TenantId, purchase: PurchaseId) -> Result<Purchase> {
    purchases::table
        .find((tenant.uuid(), purchase.uuid()))
        .select(Row::as_select())
        .first(tx)
        .await
        .optional()?
        .ok_or(Refusal::NotFound { what: "purchase" })?
        .try_into()
}

/// What a subscription was bought with.
pub async fn first_cycle(
    tx: &mut Connection,
    tenant: TenantId,
    subscription: SubscriptionId,
) -> Result<Purchase> {
    purchases::table
        .filter(purchases::tenant_id.eq(tenant.uuid()))
        .filter(purchases::subscription_id.eq(subscription.uuid()))
        .filter(purchases::kind.eq(PurchaseKind::FirstCycle.name()))
        .select(Row::as_select())
        .first(tx)
        .await
        .optional()?
        .ok_or(Refusal::NotFound { what: "subscription" })?
        .try_into()
}

/// All that is waiting for its payment, of some subscriptions.
pub async fn pending(
    tx: &mut Connection,
    tenant: TenantId,
    subscriptions: &[SubscriptionId],
) -> Result<Vec<Purchase>> {
    let ids: Vec<Uuid> = subscriptions.iter().map(|id| id.uuid()).collect();
    let rows: Vec<Row> = purchases::table
        .filter(purchases::tenant_id.eq(tenant.uuid()))
        .filter(purchases::subscription_id.eq_any(ids))
        .filter(purchases::status.eq(PurchaseStatus::Pending.name()))
        .order(purchases::purchase_id)
        .select(Row::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(Purchase::try_from).collect()
}

/// What has taken effect in one cycle of a subscription, oldest first.
pub async fn applied_in_cycle(
    tx: &mut Connection,
    tenant: TenantId,
    subscription: SubscriptionId,
    cycle_number: u32,
) -> Result<Vec<Purchase>> {
    let rows: Vec<Row> = purchases::table
        .filter(purchases::tenant_id.eq(tenant.uuid()))
        .filter(purchases::subscription_id.eq(subscription.uuid()))
        .filter(purchases::cycle_number.eq(to_i32(cycle_number)?))
        .filter(purchases::status.eq(PurchaseStatus::Applied.name()))
        .order(purchases::purchase_id)
        .select(Row::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(Purchase::try_from).collect()
}

/// What a purchase of a year, or of an upgrade within it, gives each later cycle of the year (R-22b).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct YearPart {
    pub purchase: PurchaseId,
    pub invoice: InvoiceId,
    /// Its part of the pool: a year's all of its plan's, an upgrade's the difference.
    pub credits: Credits,
    /// Whether some of its money has gone back, or is with the customer's bank for good.
    pub is_less: bool,
}

/// What gives a cycle of a subscription's year its pool, oldest first. `paid_with` is the cycle that the year was paid with.
pub async fn parts_of_year(
    tx: &mut Connection,
    tenant: TenantId,
    subscription: SubscriptionId,
    paid_with: u32,
    cycle: u32,
) -> Result<Vec<YearPart>> {
    let has_gone_back = payments::table
        .filter(payments::tenant_id.eq(purchases::tenant_id))
        .filter(payments::invoice_id.eq(purchases::invoice_id))
        .filter(payments::status.eq(PaymentStatus::Succeeded.name()))
        .filter(payments::refunded_minor.gt(0));
    let is_lost = disputes::table
        .filter(disputes::tenant_id.eq(purchases::tenant_id))
        .filter(disputes::invoice_id.eq(purchases::invoice_id))
        .filter(disputes::state.eq(DisputeState::Lost.name()));
    let rows: Vec<(Uuid, Uuid, i64, bool)> = purchases::table
        .filter(purchases::tenant_id.eq(tenant.uuid()))
        .filter(purchases::subscription_id.eq(subscription.uuid()))
        .filter(purchases::cycle_number.ge(to_i32(paid_with)?))
        .filter(purchases::cycle_number.lt(to_i32(cycle)?))
        .filter(purchases::status.eq(PurchaseStatus::Applied.name()))
        .select((
            purchases::purchase_id,
            purchases::invoice_id,
            purchases::credits,
            exists(has_gone_back).or(exists(is_lost)),
        ))
        .order(purchases::purchase_id)
        .load(tx)
        .await?;
    let part = |(purchase, invoice, credits, is_less)| {
        let (purchase, invoice) = (PurchaseId::from_uuid(purchase), InvoiceId::from_uuid(invoice));
        Ok(YearPart { purchase, invoice, credits: Credits::new(credits)?, is_less })
    };
    rows.into_iter().map(part).collect()
}

/// Those of these subscriptions whose current cycle has been paid for. A year whose money has gone back, by a refund of
/// all of it or by a lost dispute, pays for no further cycle (R-22a, R-22b).
pub async fn with_paid_cycle(
    tx: &mut Connection,
    tenant: TenantId,
    subscriptions: &[SubscriptionId],
) -> Result<Vec<SubscriptionId>> {
    let ids: Vec<Uuid> = subscriptions.iter().map(|id| id.uuid()).collect();
    let found: Vec<Uuid> = purchases::table
        .inner_join(
            subscriptions::table.on(subscriptions::tenant_id
                .eq(purchases::tenant_id)
                .and(subscriptions::subscription_id.nullable().eq(purchases::subscription_id))),
        )
        // A year is paid for with its first cycle (R-22b).
        .filter(subscriptions::annual_from.eq(purchases::cycle_number).or(
            subscriptions::annual_from.is_null().and(subscriptions::cycle_number.eq(purchases::cycle_number)),
        ))
        .filter(
            subscriptions::annual_from.is_null().or(not(exists(
                payments::table
                    .filter(payments::tenant_id.eq(purchases::tenant_id))
                    .filter(payments::invoice_id.eq(purchases::invoice_id))
                    .filter(payments::status.eq(PaymentStatus::Succeeded.name()))
                    .filter(payments::refunded_minor.ge(payments::amount_minor)),
            ))),
        )
        .filter(
            subscriptions::annual_from.is_null().or(not(exists(
                disputes::table
                    .filter(disputes::tenant_id.eq(purchases::tenant_id))
                    .filter(disputes::invoice_id.eq(purchases::invoice_id))
                    .filter(disputes::state.eq(DisputeState::Lost.name())),
            ))),
        )
        .filter(purchases::tenant_id.eq(tenant.uuid()))
        .filter(purchases::subscription_id.eq_any(ids))
        .filter(purchases::kind.ne(PurchaseKind::Upgrade.name()))
        .filter(purchases::status.eq(PurchaseStatus::Applied.name()))
        .select(subscriptions::subscription_id)
        .load(tx)
        .await?;
    Ok(found.into_iter().map(SubscriptionId::from_uuid).collect())
}

/// Pending purchases whose time is up at `now`, with or without a subscription, `limit` of those after `after`.
pub async fn overdue(
    tx: &mut Connection,
    tenant: TenantId,
    now: Timestamp,
    after: Option<PurchaseId>,
    limit: u32,
) -> Result<Vec<(PurchaseId, InvoiceId)>> {
    let rows: Vec<(Uuid, Uuid)> = purchases::table
        .filter(purchases::tenant_id.eq(tenant.uuid()))
        .filter(purchases::status.eq(PurchaseStatus::Pending.name()))
        .filter(purchases::expires_at.le(now))
        .filter(purchases::purchase_id.gt(after.map_or(Uuid::nil(), PurchaseId::uuid)))
        .order(purchases::purchase_id)
        .limit(limit.into())
        .select((purchases::purchase_id, purchases::invoice_id))
        .load(tx)
        .await?;
    let ids = |(purchase, invoice)| (PurchaseId::from_uuid(purchase), InvoiceId::from_uuid(invoice));
    Ok(rows.into_iter().map(ids).collect())
}
