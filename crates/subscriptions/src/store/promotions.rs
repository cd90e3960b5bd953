//! Who has used the first-cycle promotion, and with which card.

use db::schema::promotion_uses;
use db::{Connection, Result};
use diesel::dsl::{exists, select};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::Timestamp;
use domain::id::{CustomerId, SubscriptionId, TenantId};

/// A use of the promotion, as it is reserved before charging.
#[derive(Debug, Clone)]
pub struct Use<'a> {
    pub customer: CustomerId,
    pub promotion_code: &'a str,
    pub subscription: SubscriptionId,
    /// None where the provider tells none, or the tenant does not care.
    pub fingerprint: Option<&'a str>,
}

pub async fn is_used(tx: &mut Connection, tenant: TenantId, customer: CustomerId) -> Result<bool> {
    let found = promotion_uses::table.find((tenant.uuid(), customer.uuid()));
    Ok(select(exists(found)).get_result(tx).await?)
}

/// Reserves the promotion. False where the customer or the card has used it; waits where another
/// transaction is just doing so.
pub async fn reserve(tx: &mut Connection, tenant: TenantId, used: Use<'_>, now: Timestamp) -> Result<bool> {
    let inserted = diesel::insert_into(promotion_uses::table)
        .values((
            promotion_uses::tenant_id.eq(tenant.uuid()),
            promotion_uses::customer_id.eq(used.customer.uuid()),
            promotion_uses::promotion_code.eq(used.promotion_code),
            promotion_uses::subscription_id.eq(used.subscription.uuid()),
            promotion_uses::fingerprint.eq(used.fingerprint),
            promotion_uses::used_at.eq(now),
        ))
        .on_conflict_do_nothing()
        .execute(tx)
        .await?;
    Ok(inserted == 1)
}

/// Releases what a subscription that was never paid has reserved, and says which promotion.
pub async fn release(
    tx: &mut Connection,
    tenant: TenantId,
    subscription: SubscriptionId,
) -> Result<Option<String>> {
    let released = diesel::delete(promotion_uses::table)
        .filter(promotion_uses::tenant_id.eq(tenant.uuid()))
        .filter(promotion_uses::subscription_id.eq(subscription.uuid()))
        .returning(promotion_uses::promotion_code)
        .get_result(tx)
        .await
        .optional()?;
    Ok(released)
}
