//! Locked upgrade prices (R-14a).

use db::schema::quotes;
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use domain::id::{QuoteId, SubscriptionId, TenantId};
use domain::{Credits, Money, Refusal, Timestamp};
use uuid::Uuid;

use super::{to_i32, to_u32};
use crate::preview_upgrade::Quote;

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = quotes, check_for_backend(diesel::pg::Pg))]
struct Row {
    tenant_id: Uuid,
    quote_id: Uuid,
    subscription_id: Uuid,
    cycle_number: i32,
    from_plan_code: String,
    to_plan_code: String,
    catalog_version: i32,
    amount_minor: i64,
    currency: String,
    credits: i64,
    created_at: Timestamp,
    expires_at: Timestamp,
}

impl TryFrom<Row> for Quote {
    type Error = Error;

    fn try_from(row: Row) -> Result<Quote> {
        let id = QuoteId::from_uuid(row.quote_id);
        let broken = |_| Error::broken(format!("{id} has an amount that cannot be"));
        let currency = row.currency.parse().map_err(broken)?;
        Ok(Quote {
            id,
            subscription: SubscriptionId::from_uuid(row.subscription_id),
            cycle_number: to_u32(row.cycle_number)?,
            from_plan_code: row.from_plan_code,
            to_plan_code: row.to_plan_code,
            catalog_version: to_u32(row.catalog_version)?,
            amount: Money::new(row.amount_minor, currency).map_err(broken)?,
            credits: Credits::new(row.credits).map_err(broken)?,
            created_at: row.created_at,
            expires_at: row.expires_at,
        })
    }
}

pub async fn insert(tx: &mut Connection, tenant: TenantId, quote: &Quote) -> Result<()> {
    let row = Row {
        tenant_id: tenant.uuid(),
        quote_id: quote.id.uuid(),
        subscription_id: quote.subscription.uuid(),
        cycle_number: to_i32(quote.cycle_number)?,
        from_plan_code: quote.from_plan_code.clone(),
        to_plan_code: quote.to_plan_code.clone(),
        catalog_version: to_i32(quote.catalog_version)?,
        amount_minor: quote.amount.amount_minor,
        currency: quote.amount.currency.code().to_owned(),
        credits: quote.credits.get(),
        created_at: quote.created_at,
        expires_at: quote.expires_at,
    };
    diesel::insert_into(quotes::table).values(row).execute(tx).await?;
    Ok(())
}

pub async fn find(tx: &mut Connection, tenant: TenantId, quote: QuoteId) -> Result<Quote> {
    quotes::table
        .find((tenant.uuid(), quote.uuid()))
        .select(Row::as_select())
        .first(tx)
        .await
        .optional()?
        .ok_or(Refusal::NotFound { what: "quote" })?
        .try_into()
}
