//! What customers bought without a subscription: the other rows of the purchases.

use db::schema::{purchases, subscriptions};
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::id::{CustomerId, InvoiceId, PurchaseId, TenantId};
use domain::subscription::Status;
use domain::{Credits, Refusal, Timestamp};
use uuid::Uuid;

use super::{by_name, to_i32, to_u32};
use crate::sale::{Sale, Sold, SoldTopUp};
use crate::subscription::PurchaseStatus;

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = purchases, check_for_backend(diesel::pg::Pg))]
struct Row {
    tenant_id: Uuid,
    purchase_id: Uuid,
    kind: String,
    customer_id: Uuid,
    top_up_code: Option<String>,
    catalog_version: Option<i32>,
    credits: i64,
    lasts_days: Option<i32>,
    is_automatic: bool,
    invoice_id: Uuid,
    status: String,
    granted_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    created_at: Timestamp,
}

impl TryFrom<Row> for Sale {
    type Error = Error;

    fn try_from(row: Row) -> Result<Sale> {
        let id = PurchaseId::from_uuid(row.purchase_id);
        let sold = match (row.top_up_code, row.catalog_version, row.expires_at) {
            (None, None, None) => Sold::Usage,
            (Some(code), Some(version), Some(expires_at)) => Sold::TopUp(SoldTopUp {
                code,
                catalog_version: to_u32(version)?,
                credits: Credits::new(row.credits)
                    .map_err(|_| Error::broken(format!("{id} grants {}", row.credits)))?,
                lasts_days: row.lasts_days.map(to_u32).transpose()?,
                is_automatic: row.is_automatic,
                expires_at,
            }),
            _ => return Err(Error::broken(format!("{id} is half a top-up"))),
        };
        Ok(Sale {
            id,
            customer: CustomerId::from_uuid(row.customer_id),
            sold,
            invoice: InvoiceId::from_uuid(row.invoice_id),
            status: by_name(&PurchaseStatus::ALL, PurchaseStatus::name, &row.status)?,
            granted_at: row.granted_at,
            created_at: row.created_at,
        })
    }
}

pub async fn insert(tx: &mut Connection, tenant: TenantId, sale: &Sale) -> Result<()> {
    let top_up = match &sale.sold {
        Sold::TopUp(top_up) => Some(top_up),
        Sold::Usage => None,
    };
    let row = Row {
        tenant_id: tenant.uuid(),
        purchase_id: sale.id.uuid(),
        kind: sale.sold.kind().to_owned(),
        customer_id: sale.customer.uuid(),
        top_up_code: top_up.map(|top_up| top_up.code.clone()),
        catalog_version: top_up.map(|top_up| to_i32(top_up.catalog_version)).transpose()?,
        credits: top_up.map_or(0, |top_up| top_up.credits.get()),
        lasts_days: top_up.and_then(|top_up| top_up.lasts_days).map(to_i32).transpose()?,
        is_automatic: sale.is_automatic(),
        invoice_id: sale.invoice.uuid(),
        status: sale.status.name().to_owned(),
        granted_at: sale.granted_at,
        expires_at: top_up.map(|top_up| top_up.expires_at),
        created_at: sale.created_at,
    };
    diesel::insert_into(purchases::table).values(row).execute(tx).await?;
    Ok(())
}

/// Writes all that can change. The caller holds the lock of the customer's account.
pub async fn update(tx: &mut Connection, tenant: TenantId, sale: &Sale) -> Result<()> {
    diesel::update(purchases::table.find((tenant.uuid(), sale.id.uuid())))
        .set((purchases::status.eq(sale.status.name()), purchases::granted_at.eq(sale.granted_at)))
        .execute(tx)
        .await?;
    Ok(())
}

/// What an invoice was issued for; `not-found` where that is a subscription's.
pub async fn of_invoice(tx: &mut Connection, tenant: TenantId, invoice: InvoiceId) -> Result<Sale> {
    purchases::table
        .filter(purchases::tenant_id.eq(tenant.uuid()))
        .filter(purchases::invoice_id.eq(invoice.uuid()))
        .filter(purchases::subscription_id.is_null())
        .select(Row::as_select())
        .first(tx)
        .await
        .optional()?
        .ok_or(Refusal::NotFound { what: "invoice" })?
        .try_into()
}

/// A sale; none where a purchase of this id is a subscription's, or there is none.
pub async fn find(tx: &mut Connection, tenant: TenantId, id: PurchaseId) -> Result<Option<Sale>> {
    purchases::table
        .find((tenant.uuid(), id.uuid()))
        .filter(purchases::subscription_id.is_null())
        .select(Row::as_select())
        .first(tx)
        .await
        .optional()?
        .map(Sale::try_from)
        .transpose()
}

/// A customer's top-ups from the oldest, `limit` of those after `after`.
pub async fn top_ups(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    after: Option<PurchaseId>,
    limit: u32,
) -> Result<Vec<Sale>> {
    let rows: Vec<Row> = purchases::table
        .filter(purchases::tenant_id.eq(tenant.uuid()))
        .filter(purchases::customer_id.eq(customer.uuid()))
        .filter(purchases::subscription_id.is_null())
        .filter(purchases::top_up_code.is_not_null())
        .filter(purchases::purchase_id.gt(after.map_or(Uuid::nil(), PurchaseId::uuid)))
        .order(purchases::purchase_id)
        .limit(limit.into())
        .select(Row::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(Sale::try_from).collect()
}

/// What pays for the customer: what is set for it, else what pays for its live subscription.
pub async fn saved_method(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
) -> Result<Option<String>> {
    let set = super::payg::settings(tx, tenant, customer).await?.payment_method;
    if set.is_some() {
        return Ok(set);
    }
    let live = Status::ALL.into_iter().filter(|status| status.is_live()).map(Status::name);
    let found = subscriptions::table
        .filter(subscriptions::tenant_id.eq(tenant.uuid()))
        .filter(subscriptions::customer_id.eq(customer.uuid()))
        .filter(subscriptions::status.eq_any(live))
        .select(subscriptions::payment_method)
        .first(tx)
        .await
        .optional()?;
    Ok(found)
}
