//! What accrued on pay-as-you-go and is not invoiced yet.

use db::schema::{credit_accounts, exhaustion_settings, payments, purchases, subscriptions, tenants};
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::id::{CustomerId, InvoiceId, PurchaseId, TenantId};
use domain::invoice::PaymentStatus;
use domain::payg::Pico;
use domain::subscription::Status;
use domain::usage::TokenKind;
use domain::{Currency, Timestamp};
use uuid::Uuid;

use super::{by_name, to_i32, to_u32};
use crate::auto_top_up::topping_up;
use crate::exhaustion::{Settings, TopUpSettings};
use crate::subscription::{PurchaseKind, PurchaseStatus};

/// The money that the tokens of one model and kind came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accrued {
    pub model: String,
    pub kind: TokenKind,
    pub pico: Pico,
}

#[derive(QueryableByName)]
struct AccruedRow {
    #[diesel(sql_type = Text)]
    model: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    pico: String,
}

/// What is not invoiced, summed up by model and kind. Under the account's lock, under which alone it accrues.
pub async fn accrued(tx: &mut Connection, tenant: TenantId, customer: CustomerId) -> Result<Vec<Accrued>> {
    let rows: Vec<AccruedRow> = db::sql_query(
        "select p.model, l.line ->> 0 as kind, sum((l.line ->> 3)::numeric)::text as pico
         from usage_payg p cross join lateral jsonb_array_elements(p.lines) as l (line)
         where p.tenant_id = $1 and p.customer_id = $2 and p.invoice_id is null and p.voided_at is null
             and p.unrated_reason is null
         group by 1, 2 order by 1, 2",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(customer.uuid())
    .load(tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let kind = by_name(&TokenKind::ALL, TokenKind::name, &row.kind)?;
            Ok(Accrued { model: row.model, kind, pico: row.pico.parse()? })
        })
        .collect()
}

#[derive(QueryableByName)]
struct Total {
    #[diesel(sql_type = Text)]
    pico: String,
}

/// Marks all of it as invoiced, and says what it comes to.
pub async fn mark_invoiced(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    invoice: InvoiceId,
) -> Result<Pico> {
    let total: Total = db::sql_query(
        "with invoiced as (
             update usage_payg set invoice_id = $3
             where tenant_id = $1 and customer_id = $2 and invoice_id is null and voided_at is null
                 and unrated_reason is null
             returning pico)
         select coalesce(sum(pico), 0)::text as pico from invoiced",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(customer.uuid())
    .bind::<SqlUuid, _>(invoice.uuid())
    .get_result(tx)
    .await?;
    total.pico.parse().map_err(|_| Error::broken("an accrued amount out of range"))
}

#[derive(QueryableByName)]
struct Customer {
    #[diesel(sql_type = SqlUuid)]
    customer_id: Uuid,
}

/// Customers without a running cycle of whom something is to be invoiced at `now`.
pub async fn customers_due(
    tx: &mut Connection,
    tenant: TenantId,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<CustomerId>> {
    let found: Vec<Customer> = db::sql_query(
        "select a.customer_id from credit_accounts a
         where a.tenant_id = $1 and a.payg_due_at <= $2
             and not exists (select from subscriptions s
                 where s.tenant_id = a.tenant_id and s.customer_id = a.customer_id
                     and s.status in ('active', 'past_due', 'suspended'))
         order by a.customer_id limit $3",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Timestamptz, _>(now)
    .bind::<BigInt, _>(i64::from(limit))
    .load(tx)
    .await?;
    Ok(found.into_iter().map(|row| CustomerId::from_uuid(row.customer_id)).collect())
}

/// The currency of the customer's live subscription.
pub async fn live_currency(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
) -> Result<Option<Currency>> {
    let live = Status::ALL.into_iter().filter(|status| status.is_live()).map(Status::name);
    let found: Option<String> = subscriptions::table
        .filter(subscriptions::tenant_id.eq(tenant.uuid()))
        .filter(subscriptions::customer_id.eq(customer.uuid()))
        .filter(subscriptions::status.eq_any(live))
        .select(subscriptions::currency)
        .first(tx)
        .await
        .optional()?;
    Ok(found.map(|code| code.parse()).transpose()?)
}

/// The bounds of the customer's running cycle.
pub async fn running_cycle(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
) -> Result<Option<(Timestamp, Timestamp)>> {
    let live = Status::ALL.into_iter().filter(|status| status.is_live()).map(Status::name);
    let found: Option<(Option<Timestamp>, Option<Timestamp>)> = subscriptions::table
        .filter(subscriptions::tenant_id.eq(tenant.uuid()))
        .filter(subscriptions::customer_id.eq(customer.uuid()))
        .filter(subscriptions::status.eq_any(live))
        .select((subscriptions::cycle_start, subscriptions::cycle_end))
        .first(tx)
        .await
        .optional()?;
    Ok(found.and_then(|(start, end)| start.zip(end)))
}

/// A customer's settings apart from the account.
pub async fn settings(tx: &mut Connection, tenant: TenantId, customer: CustomerId) -> Result<Settings> {
    type Row = (Option<String>, Option<String>, Option<String>, Option<i32>, Option<i32>);
    let row: Option<Row> = exhaustion_settings::table
        .find((tenant.uuid(), customer.uuid()))
        .select((
            exhaustion_settings::payment_method,
            exhaustion_settings::top_up_code,
            exhaustion_settings::top_up_currency,
            exhaustion_settings::per_cycle_max,
            exhaustion_settings::cool_off_minutes,
        ))
        .first(tx)
        .await
        .optional()?;
    let Some((payment_method, code, currency, per_cycle_max, cool_off)) = row else {
        return Ok(Settings::default());
    };
    let top_up = match (code, currency, per_cycle_max, cool_off) {
        (Some(code), Some(currency), Some(per_cycle_max), Some(cool_off)) => Some(TopUpSettings {
            code,
            currency: currency.parse()?,
            per_cycle_max: to_u32(per_cycle_max)?,
            cool_off_minutes: to_u32(cool_off)?,
        }),
        _ => None,
    };
    Ok(Settings { payment_method, top_up })
}

/// Replaces them.
pub async fn set_settings(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    new: &Settings,
    now: Timestamp,
) -> Result<()> {
    let top_up = new.top_up.as_ref();
    let values = (
        exhaustion_settings::payment_method.eq(&new.payment_method),
        exhaustion_settings::top_up_code.eq(top_up.map(|top_up| &top_up.code)),
        exhaustion_settings::top_up_currency.eq(top_up.map(|top_up| top_up.currency.code())),
        exhaustion_settings::per_cycle_max
            .eq(top_up.map(|top_up| to_i32(top_up.per_cycle_max)).transpose()?),
        exhaustion_settings::cool_off_minutes
            .eq(top_up.map(|top_up| to_i32(top_up.cool_off_minutes)).transpose()?),
        exhaustion_settings::updated_at.eq(now),
    );
    diesel::insert_into(exhaustion_settings::table)
        .values((
            exhaustion_settings::tenant_id.eq(tenant.uuid()),
            exhaustion_settings::customer_id.eq(customer.uuid()),
            values,
        ))
        .on_conflict((exhaustion_settings::tenant_id, exhaustion_settings::customer_id))
        .do_update()
        .set(values)
        .execute(tx)
        .await?;
    Ok(())
}

/// The customer's automatic top-up that waits for its payment.
pub async fn automatic_in_flight(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
) -> Result<Option<PurchaseId>> {
    let found: Option<Uuid> = purchases::table
        .filter(purchases::tenant_id.eq(tenant.uuid()))
        .filter(purchases::customer_id.eq(customer.uuid()))
        .filter(purchases::is_automatic)
        .filter(purchases::status.eq(PurchaseStatus::Pending.name()))
        .select(purchases::purchase_id)
        .first(tx)
        .await
        .optional()?;
    Ok(found.map(PurchaseId::from_uuid))
}

/// Whether a test tenant's clock is past `now`: another request or job is ahead of this one.
pub async fn has_moved_on(tx: &mut Connection, tenant: TenantId, now: Timestamp) -> Result<bool> {
    let ahead = tenants::table.find(tenant.uuid()).filter(tenants::clock_at.gt(now));
    Ok(diesel::select(diesel::dsl::exists(ahead)).get_result(tx).await?)
}

/// Whether the customer's renewal is being paid at this moment: the provider is asked, or will be.
pub async fn is_renewal_collected(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
) -> Result<bool> {
    let found = purchases::table
        .inner_join(payments::table.on(
            payments::tenant_id.eq(purchases::tenant_id).and(payments::invoice_id.eq(purchases::invoice_id)),
        ))
        .filter(purchases::tenant_id.eq(tenant.uuid()))
        .filter(purchases::customer_id.eq(customer.uuid()))
        .filter(purchases::kind.eq(PurchaseKind::Renewal.name()))
        .filter(purchases::status.eq(PurchaseStatus::Pending.name()))
        .filter(payments::status.eq(PaymentStatus::Created.name()))
        // One that has taken another amount waits for an operator.
        .filter(payments::mismatch_minor.is_null());
    Ok(diesel::select(diesel::dsl::exists(found)).get_result(tx).await?)
}

/// How many automatic top-ups of the customer were tried since an instant, failed ones too.
pub async fn automatic_since(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    since: Timestamp,
) -> Result<u32> {
    let count: i64 = purchases::table
        .filter(purchases::tenant_id.eq(tenant.uuid()))
        .filter(purchases::customer_id.eq(customer.uuid()))
        .filter(purchases::is_automatic)
        .filter(purchases::created_at.ge(since))
        .count()
        .get_result(tx)
        .await?;
    u32::try_from(count).map_err(|_| Error::broken("a count out of range"))
}

/// Customers who are set to top up, are down to where one is bought, and may: in the order of their ids, after one.
pub async fn waiting_for_top_up(
    tx: &mut Connection,
    tenant: TenantId,
    now: Timestamp,
    after: Option<CustomerId>,
    limit: u32,
) -> Result<Vec<CustomerId>> {
    let found: Vec<Uuid> = credit_accounts::table
        .filter(credit_accounts::tenant_id.eq(tenant.uuid()))
        .filter(credit_accounts::exhaustion.eq(topping_up()))
        .filter(credit_accounts::available.nullable().le(credit_accounts::top_up_at))
        .filter(
            credit_accounts::top_up_blocked_until.is_null().or(credit_accounts::top_up_blocked_until.le(now)),
        )
        .filter(credit_accounts::customer_id.gt(after.map_or(Uuid::nil(), CustomerId::uuid)))
        .order(credit_accounts::customer_id)
        .limit(limit.into())
        .select(credit_accounts::customer_id)
        .load(tx)
        .await?;
    Ok(found.into_iter().map(CustomerId::from_uuid).collect())
}
