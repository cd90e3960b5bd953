//! All SQL about provider accounts, customers and saved methods.

use db::schema::{provider_accounts, provider_customers, saved_methods};
use db::{Connection, Result};
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::Timestamp;
use domain::id::{CustomerId, TenantId};
use stripe::Method;
use uuid::Uuid;

use crate::{AccountView, SavedMethod};

/// Credentials as they are stored.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) account: Option<String>,
    pub(crate) is_live: bool,
    pub(crate) secret_key: Vec<u8>,
    pub(crate) signing_secrets: Vec<Vec<u8>>,
}

/// Sets them, at the database's time: other people's servers do not live by a test clock.
pub(crate) async fn set(tx: &mut Connection, tenant: TenantId, sealed: &Sealed) -> Result<AccountView> {
    let now = diesel::dsl::now;
    let (created_at, changed_at): (Timestamp, Timestamp) = diesel::insert_into(provider_accounts::table)
        .values((
            provider_accounts::tenant_id.eq(tenant.uuid()),
            provider_accounts::provider.eq("stripe"),
            provider_accounts::account.eq(&sealed.account),
            provider_accounts::is_live.eq(sealed.is_live),
            provider_accounts::sealed_secret_key.eq(&sealed.secret_key),
            provider_accounts::sealed_signing_secrets.eq(&sealed.signing_secrets),
            provider_accounts::created_at.eq(now),
            provider_accounts::changed_at.eq(now),
            provider_accounts::reread_until.eq(now),
        ))
        .on_conflict(provider_accounts::tenant_id)
        .do_update()
        .set((
            provider_accounts::account.eq(&sealed.account),
            provider_accounts::is_live.eq(sealed.is_live),
            provider_accounts::sealed_secret_key.eq(&sealed.secret_key),
            provider_accounts::sealed_signing_secrets.eq(&sealed.signing_secrets),
            provider_accounts::changed_at.eq(now),
        ))
        .returning((provider_accounts::created_at, provider_accounts::changed_at))
        .get_result(tx)
        .await?;
    Ok(AccountView {
        account: sealed.account.clone(),
        is_live: sealed.is_live,
        signing_secrets: sealed.signing_secrets.len(),
        created_at,
        changed_at,
    })
}

pub(crate) async fn view(tx: &mut Connection, tenant: TenantId) -> Result<Option<AccountView>> {
    type Row = (Option<String>, bool, Vec<Vec<u8>>, Timestamp, Timestamp);
    let found: Option<Row> = provider_accounts::table
        .find(tenant.uuid())
        .select((
            provider_accounts::account,
            provider_accounts::is_live,
            provider_accounts::sealed_signing_secrets,
            provider_accounts::created_at,
            provider_accounts::changed_at,
        ))
        .first(tx)
        .await
        .optional()?;
    Ok(found.map(|(account, is_live, secrets, created_at, changed_at)| AccountView {
        account,
        is_live,
        signing_secrets: secrets.len(),
        created_at,
        changed_at,
    }))
}

pub(crate) async fn sealed(tx: &mut Connection, tenant: TenantId) -> Result<Option<(Sealed, Timestamp)>> {
    type Row = (Option<String>, bool, Vec<u8>, Vec<Vec<u8>>, Timestamp);
    let found: Option<Row> = provider_accounts::table
        .find(tenant.uuid())
        .select((
            provider_accounts::account,
            provider_accounts::is_live,
            provider_accounts::sealed_secret_key,
            provider_accounts::sealed_signing_secrets,
            provider_accounts::reread_until,
        ))
        .first(tx)
        .await
        .optional()?;
    Ok(found.map(|(account, is_live, secret_key, signing_secrets, reread_until)| {
        (Sealed { account, is_live, secret_key, signing_secrets }, reread_until)
    }))
}

pub(crate) async fn tenants_all_tenants(tx: &mut Connection) -> Result<Vec<TenantId>> {
    let found: Vec<Uuid> = provider_accounts::table
        .select(provider_accounts::tenant_id)
        .order(provider_accounts::tenant_id)
        .load(tx)
        .await?;
    Ok(found.into_iter().map(TenantId::from_uuid).collect())
}

pub(crate) async fn note_reread(tx: &mut Connection, tenant: TenantId, until: Timestamp) -> Result<()> {
    diesel::update(provider_accounts::table.find(tenant.uuid()))
        .filter(provider_accounts::reread_until.lt(until))
        .set(provider_accounts::reread_until.eq(until))
        .execute(tx)
        .await?;
    Ok(())
}

/// The provider's customer of one of ours.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) provider_customer: String,
    pub(crate) is_deleted: bool,
}

pub(crate) async fn customer(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
) -> Result<Option<Known>> {
    let found: Option<(String, Option<Timestamp>)> = provider_customers::table
        .find((tenant.uuid(), customer.uuid()))
        .select((provider_customers::provider_customer, provider_customers::deleted_at))
        .first(tx)
        .await
        .optional()?;
    Ok(found
        .map(|(provider_customer, deleted_at)| Known { provider_customer, is_deleted: deleted_at.is_some() }))
}

/// Stores the provider's customer, where there is none yet or it was deleted, and says which one it is.
pub(crate) async fn set_customer(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    provider_customer: &str,
    now: Timestamp,
) -> Result<String> {
    db::sql_query(
        "insert into provider_customers (tenant_id, customer_id, provider_customer, created_at) \
         values ($1, $2, $3, $4) \
         on conflict (tenant_id, customer_id) do update \
         set provider_customer = excluded.provider_customer, deleted_at = null, default_method = null, \
             default_event_at = null, default_event_id = null \
         where provider_customers.deleted_at is not null \
             and provider_customers.provider_customer <> excluded.provider_customer",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(customer.uuid())
    .bind::<Text, _>(provider_customer)
    .bind::<Timestamptz, _>(now)
    .execute(tx)
    .await?;
    let stored = provider_customers::table
        .find((tenant.uuid(), customer.uuid()))
        .select(provider_customers::provider_customer)
        .first(tx)
        .await?;
    Ok(stored)
}

pub(crate) async fn customer_of(
    tx: &mut Connection,
    tenant: TenantId,
    provider_customer: &str,
) -> Result<Option<CustomerId>> {
    let found: Option<Uuid> = provider_customers::table
        .filter(provider_customers::tenant_id.eq(tenant.uuid()))
        .filter(provider_customers::provider_customer.eq(provider_customer))
        .select(provider_customers::customer_id)
        .first(tx)
        .await
        .optional()?;
    Ok(found.map(CustomerId::from_uuid))
}

/// The latest event counts; of one second's, the one with the greatest id.
pub(crate) async fn set_default(
    tx: &mut Connection,
    tenant: TenantId,
    provider_customer: &str,
    method: Option<&str>,
    (event_at, event_id): (Timestamp, &str),
) -> Result<()> {
    db::sql_query(
        "update provider_customers \
         set default_method = $3, default_event_at = $4, default_event_id = $5 \
         where tenant_id = $1 and provider_customer = $2 \
             and (default_event_at is null or (default_event_at, default_event_id) < ($4, $5))",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Text, _>(provider_customer)
    .bind::<Nullable<Text>, _>(method)
    .bind::<Timestamptz, _>(event_at)
    .bind::<Text, _>(event_id)
    .execute(tx)
    .await?;
    Ok(())
}

pub(crate) async fn delete_customer(
    tx: &mut Connection,
    tenant: TenantId,
    provider_customer: &str,
    now: Timestamp,
) -> Result<()> {
    db::sql_query(
        "with gone as ( \
             update provider_customers set deleted_at = coalesce(deleted_at, $3) \
             where tenant_id = $1 and provider_customer = $2 returning customer_id) \
         update saved_methods set detached_at = coalesce(detached_at, $3) from gone \
         where saved_methods.tenant_id = $1 and saved_methods.customer_id = gone.customer_id",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Text, _>(provider_customer)
    .bind::<Timestamptz, _>(now)
    .execute(tx)
    .await?;
    Ok(())
}

pub(crate) async fn is_saved(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    method: &str,
) -> Result<bool> {
    let found = saved_methods::table
        .find((tenant.uuid(), method))
        .filter(saved_methods::customer_id.eq(customer.uuid()))
        .filter(saved_methods::detached_at.is_null());
    Ok(diesel::select(diesel::dsl::exists(found)).get_result(tx).await?)
}

pub(crate) async fn save_method(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    method: &Method,
    now: Timestamp,
) -> Result<()> {
    diesel::insert_into(saved_methods::table)
        .values((
            saved_methods::tenant_id.eq(tenant.uuid()),
            saved_methods::method.eq(&method.id),
            saved_methods::customer_id.eq(customer.uuid()),
            saved_methods::fingerprint.eq(&method.fingerprint),
            saved_methods::brand.eq(&method.brand),
            saved_methods::last4.eq(&method.last4),
            saved_methods::saved_at.eq(now),
        ))
        .on_conflict_do_nothing()
        .execute(tx)
        .await?;
    Ok(())
}

pub(crate) async fn detach_method(
    tx: &mut Connection,
    tenant: TenantId,
    method: &str,
    now: Timestamp,
) -> Result<()> {
    diesel::update(saved_methods::table.find((tenant.uuid(), method)))
        .filter(saved_methods::detached_at.is_null())
        .set(saved_methods::detached_at.eq(now))
        .execute(tx)
        .await?;
    Ok(())
}

pub(crate) async fn saved_methods(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
) -> Result<Vec<SavedMethod>> {
    type Row = (String, Option<String>, Option<String>, Timestamp);
    let default: Option<Option<String>> = provider_customers::table
        .find((tenant.uuid(), customer.uuid()))
        .select(provider_customers::default_method)
        .first(tx)
        .await
        .optional()?;
    let default = default.flatten();
    let rows: Vec<Row> = saved_methods::table
        .filter(saved_methods::tenant_id.eq(tenant.uuid()))
        .filter(saved_methods::customer_id.eq(customer.uuid()))
        .filter(saved_methods::detached_at.is_null())
        .order(saved_methods::method)
        .select((saved_methods::method, saved_methods::brand, saved_methods::last4, saved_methods::saved_at))
        .load(tx)
        .await?;
    let shown = |(method, brand, last4, saved_at): Row| {
        let is_default = default.as_deref() == Some(method.as_str());
        SavedMethod { method, brand, last4, saved_at, is_default }
    };
    Ok(rows.into_iter().map(shown).collect())
}
