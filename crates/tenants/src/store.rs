//! All SQL of tenants, their keys and their customers.

use std::sync::Arc;

use db::schema::{api_keys, customers, tenants};
use db::{Connection, Error, Result, is_unique_violation};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, JoinOnDsl, OptionalExtension, QueryDsl, Queryable, Selectable,
    SelectableHelper,
};
use diesel_async::RunQueryDsl;
use domain::id::{ApiKeyId, CustomerId, TenantId};
use domain::policy::Policies;
use domain::scope::TenantMode;
use domain::{Refusal, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use crate::api_key::NewApiKey;
use crate::key_cache::StoredKey;
use crate::settings::Settings;
use crate::{ApiKeyInfo, Customer, NewTenant, Scope, Tenant};

#[derive(Queryable, Selectable)]
#[diesel(table_name = tenants)]
struct TenantRow {
    tenant_id: Uuid,
    name: String,
    mode: String,
    zone: String,
    policies: Value,
    clock_at: Option<Timestamp>,
    created_at: Timestamp,
}

impl TenantRow {
    fn into_tenant(self) -> Result<Tenant> {
        let id = TenantId::from_uuid(self.tenant_id);
        let zone =
            self.zone.parse().map_err(|_| Error::broken(format!("{id}: unknown time zone {}", self.zone)))?;
        let policies: Policies = serde_json::from_value(self.policies)
            .map_err(|error| Error::broken(format!("{id}: stored policies: {error}")))?;
        let problems = policies.problems();
        if !problems.is_empty() {
            return Err(Error::broken(format!("{id}: stored policies: {}", problems.join("; "))));
        }
        Ok(Tenant {
            id,
            name: self.name,
            mode: mode_from(&self.mode)?,
            zone,
            policies,
            clock_at: self.clock_at,
            created_at: self.created_at,
        })
    }

    fn into_settings(self) -> Result<Settings> {
        let tenant = self.into_tenant()?;
        Ok(Settings {
            tenant: tenant.id,
            mode: tenant.mode,
            zone: tenant.zone,
            policies: Arc::new(tenant.policies),
            clock_at: tenant.clock_at,
        })
    }
}

fn mode_name(mode: TenantMode) -> &'static str {
    match mode {
        TenantMode::Live => "live",
        TenantMode::Test => "test",
    }
}

fn mode_from(name: &str) -> Result<TenantMode> {
    [TenantMode::Live, TenantMode::Test]
        .into_iter()
        .find(|mode| mode_name(*mode) == name)
        .ok_or_else(|| Error::broken(format!("a tenant of mode {name:?}")))
}

fn scopes_from(names: &[String]) -> Result<Vec<Scope>> {
    names
        .iter()
        .map(|name| name.parse().map_err(|_| Error::broken(format!("a key of scope {name:?}"))))
        .collect()
}

pub(crate) async fn insert_tenant(
    tx: &mut Connection,
    tenant: TenantId,
    new: &NewTenant,
    now: Timestamp,
) -> Result<()> {
    let policies = serde_json::to_value(&new.policies).map_err(|error| Error::Fault(Box::new(error)))?;
    diesel::insert_into(tenants::table)
        .values((
            tenants::tenant_id.eq(tenant.uuid()),
            tenants::name.eq(&new.name),
            tenants::mode.eq(mode_name(new.mode)),
            tenants::zone.eq(new.zone.name()),
            tenants::policies.eq(policies),
            tenants::created_at.eq(now),
        ))
        .execute(tx)
        .await?;
    Ok(())
}

pub(crate) async fn tenants_all_tenants(tx: &mut Connection) -> Result<Vec<Tenant>> {
    let rows: Vec<TenantRow> =
        tenants::table.order(tenants::tenant_id).select(TenantRow::as_select()).load(tx).await?;
    rows.into_iter().map(TenantRow::into_tenant).collect()
}

/// Refused with `not-found`.
pub(crate) async fn settings(tx: &mut Connection, tenant: TenantId) -> Result<Settings> {
    let row: Option<TenantRow> =
        tenants::table.find(tenant.uuid()).select(TenantRow::as_select()).first(tx).await.optional()?;
    row.ok_or(Refusal::NotFound { what: "tenant" })?.into_settings()
}

/// Refused with `not-found`.
pub(crate) async fn name(tx: &mut Connection, tenant: TenantId) -> Result<String> {
    let name = tenants::table.find(tenant.uuid()).select(tenants::name).first(tx).await.optional()?;
    Ok(name.ok_or(Refusal::NotFound { what: "tenant" })?)
}

/// Makes other changes of this tenant's row wait, but no insert that refers to it.
pub(crate) async fn lock_settings(tx: &mut Connection, tenant: TenantId) -> Result<Settings> {
    let row: Option<TenantRow> = tenants::table
        .find(tenant.uuid())
        .select(TenantRow::as_select())
        .for_no_key_update()
        .first(tx)
        .await
        .optional()?;
    row.ok_or(Refusal::NotFound { what: "tenant" })?.into_settings()
}

pub(crate) async fn settings_with_customer(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
) -> Result<Option<Settings>> {
    let row: Option<TenantRow> = tenants::table
        .inner_join(customers::table.on(customers::tenant_id.eq(tenants::tenant_id)))
        .filter(tenants::tenant_id.eq(tenant.uuid()).and(customers::customer_id.eq(customer.uuid())))
        .select(TenantRow::as_select())
        .first(tx)
        .await
        .optional()?;
    row.map(TenantRow::into_settings).transpose()
}

pub(crate) async fn set_clock(tx: &mut Connection, tenant: TenantId, to: Timestamp) -> Result<()> {
    diesel::update(tenants::table.find(tenant.uuid())).set(tenants::clock_at.eq(to)).execute(tx).await?;
    Ok(())
}

pub(crate) async fn insert_key(
    tx: &mut Connection,
    tenant: TenantId,
    id: ApiKeyId,
    key: &NewApiKey,
    name: &str,
    scopes: &[Scope],
    now: Timestamp,
) -> Result<()> {
    let scopes: std::collections::BTreeSet<Scope> = scopes.iter().copied().collect();
    let scopes: Vec<&str> = scopes.into_iter().map(Scope::name).collect();
    diesel::insert_into(api_keys::table)
        .values((
            api_keys::tenant_id.eq(tenant.uuid()),
            api_keys::api_key_id.eq(id.uuid()),
            api_keys::prefix.eq(&key.prefix),
            api_keys::secret_sha256.eq(key.secret_sha256().as_slice()),
            api_keys::name.eq(name),
            api_keys::scopes.eq(scopes),
            api_keys::created_at.eq(now),
        ))
        .execute(tx)
        .await?;
    Ok(())
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = api_keys)]
struct KeyRow {
    api_key_id: Uuid,
    prefix: String,
    secret_sha256: Vec<u8>,
    name: String,
    scopes: Vec<String>,
    created_at: Timestamp,
    revoked_at: Option<Timestamp>,
}

/// A key that is not revoked, by its prefix, which is unique over all tenants.
pub(crate) async fn live_key_all_tenants(tx: &mut Connection, prefix: &str) -> Result<Option<StoredKey>> {
    let row: Option<(KeyRow, TenantRow)> = api_keys::table
        .inner_join(tenants::table.on(tenants::tenant_id.eq(api_keys::tenant_id)))
        .filter(api_keys::prefix.eq(prefix).and(api_keys::revoked_at.is_null()))
        .select((KeyRow::as_select(), TenantRow::as_select()))
        .first(tx)
        .await
        .optional()?;
    let Some((key, tenant)) = row else { return Ok(None) };
    Ok(Some(StoredKey {
        id: ApiKeyId::from_uuid(key.api_key_id),
        scopes: scopes_from(&key.scopes)?.into(),
        secret_sha256: key.secret_sha256,
        settings: tenant.into_settings()?,
    }))
}

pub(crate) async fn keys(tx: &mut Connection, tenant: TenantId) -> Result<Vec<ApiKeyInfo>> {
    let rows: Vec<KeyRow> = api_keys::table
        .filter(api_keys::tenant_id.eq(tenant.uuid()))
        .order(api_keys::api_key_id)
        .select(KeyRow::as_select())
        .load(tx)
        .await?;
    let info = |row: KeyRow| {
        Ok(ApiKeyInfo {
            id: ApiKeyId::from_uuid(row.api_key_id),
            scopes: scopes_from(&row.scopes)?,
            prefix: row.prefix,
            name: row.name,
            created_at: row.created_at,
            revoked_at: row.revoked_at,
        })
    };
    rows.into_iter().map(info).collect()
}

/// False where there is no such key. The first revocation's time stays.
pub(crate) async fn revoke_key(
    tx: &mut Connection,
    tenant: TenantId,
    key: ApiKeyId,
    now: Timestamp,
) -> Result<bool> {
    let row = api_keys::table.find((tenant.uuid(), key.uuid()));
    let revoked = diesel::update(row)
        .filter(api_keys::revoked_at.is_null())
        .set(api_keys::revoked_at.eq(now))
        .execute(tx)
        .await?;
    if revoked == 1 {
        return Ok(true);
    }
    let is_there: Option<Uuid> = row.select(api_keys::api_key_id).first(tx).await.optional()?;
    Ok(is_there.is_some())
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = customers)]
struct CustomerRow {
    customer_id: Uuid,
    external_id: String,
    name: Option<String>,
    created_at: Timestamp,
}

impl CustomerRow {
    fn into_customer(self) -> Result<Customer> {
        let id = CustomerId::from_uuid(self.customer_id);
        let external_id =
            self.external_id.parse().map_err(|_| Error::broken(format!("{id}: a malformed external id")))?;
        Ok(Customer { id, external_id, name: self.name, created_at: self.created_at })
    }
}

/// Refused with `customer-exists`.
pub(crate) async fn insert_customer(
    tx: &mut Connection,
    tenant: TenantId,
    customer: &Customer,
) -> Result<()> {
    diesel::insert_into(customers::table)
        .values((
            customers::tenant_id.eq(tenant.uuid()),
            customers::customer_id.eq(customer.id.uuid()),
            customers::external_id.eq(customer.external_id.as_str()),
            customers::name.eq(&customer.name),
            customers::created_at.eq(customer.created_at),
        ))
        .execute(tx)
        .await
        .map_err(|error| {
            if is_unique_violation(&error, "customers_tenant_id_external_id_key") {
                Refusal::CustomerExists.into()
            } else {
                Error::from(error)
            }
        })?;
    Ok(())
}

pub(crate) async fn customer(
    tx: &mut Connection,
    tenant: TenantId,
    id: CustomerId,
) -> Result<Option<Customer>> {
    let row: Option<CustomerRow> = customers::table
        .find((tenant.uuid(), id.uuid()))
        .select(CustomerRow::as_select())
        .first(tx)
        .await
        .optional()?;
    row.map(CustomerRow::into_customer).transpose()
}

pub(crate) async fn customers(
    tx: &mut Connection,
    tenant: TenantId,
    after: Option<CustomerId>,
    limit: u32,
) -> Result<Vec<Customer>> {
    // The nil id comes before every other.
    let after = after.map_or(Uuid::nil(), CustomerId::uuid);
    let rows: Vec<CustomerRow> = customers::table
        .filter(customers::tenant_id.eq(tenant.uuid()).and(customers::customer_id.gt(after)))
        .order(customers::customer_id)
        .limit(i64::from(limit))
        .select(CustomerRow::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(CustomerRow::into_customer).collect()
}
