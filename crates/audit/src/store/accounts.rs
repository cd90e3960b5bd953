//! Accounts as a whole: parked ones, and what the transfers say of them.

use db::schema::credit_accounts;
use db::{Connection, Result};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::id::{CustomerId, TenantId};
use uuid::Uuid;

/// Customers that have an account, in the order of their ids, those after `after`.
pub(crate) async fn accounts_page(
    tx: &mut Connection,
    tenant: TenantId,
    after: Uuid,
    limit: i64,
) -> Result<Vec<CustomerId>> {
    let found: Vec<Uuid> = credit_accounts::table
        .filter(credit_accounts::tenant_id.eq(tenant.uuid()))
        .filter(credit_accounts::customer_id.gt(after))
        .order(credit_accounts::customer_id)
        .limit(limit)
        .select(credit_accounts::customer_id)
        .load(tx)
        .await?;
    Ok(found.into_iter().map(CustomerId::from_uuid).collect())
}

/// How many accounts are parked, of all tenants together.
pub(crate) async fn parked_count_all_tenants(tx: &mut Connection) -> Result<i64> {
    Ok(credit_accounts::table.filter(credit_accounts::parked_at.is_not_null()).count().get_result(tx).await?)
}

/// Whether there is such an account, and why it is parked.
pub(crate) async fn parked_reason(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
) -> Result<Option<Option<String>>> {
    Ok(credit_accounts::table
        .find((tenant.uuid(), customer.uuid()))
        .select(credit_accounts::parked_reason)
        .first(tx)
        .await
        .optional()?)
}
