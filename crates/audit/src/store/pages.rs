//! Pages of rows for what is recomputed in Rust, each in the order of a key that the next page goes on
//! from.

use db::schema::grants;
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel::sql_types::{
    Array, BigInt, Bool, Bytea, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use domain::Timestamp;
use domain::grant::GrantSource;
use domain::id::{CustomerId, GrantId, TenantId};
use serde_json::Value;
use uuid::Uuid;

/// A transfer, as it is stored, with what is known of the event that it charges.
#[derive(Debug, Clone, QueryableByName)]
pub(crate) struct TransferRow {
    #[diesel(sql_type = SqlUuid)]
    pub(crate) customer_id: Uuid,
    #[diesel(sql_type = BigInt)]
    pub(crate) version: i64,
    #[diesel(sql_type = Text)]
    pub(crate) debit: String,
    #[diesel(sql_type = Text)]
    pub(crate) credit: String,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub(crate) grant_id: Option<Uuid>,
    #[diesel(sql_type = BigInt)]
    pub(crate) credits: i64,
    #[diesel(sql_type = Text)]
    pub(crate) cause_kind: String,
    #[diesel(sql_type = SqlUuid)]
    pub(crate) cause_id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    pub(crate) event_time: Timestamp,
    #[diesel(sql_type = Timestamptz)]
    pub(crate) recorded_at: Timestamp,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(crate) reverses: Option<i64>,
    #[diesel(sql_type = Bytea)]
    pub(crate) chain: Vec<u8>,
    /// Whether its event captured a hold; none where it has no event.
    #[diesel(sql_type = Nullable<Bool>)]
    pub(crate) is_captured: Option<bool>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub(crate) event_recorded_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub(crate) hold_granted_at: Option<Timestamp>,
}

/// Where a page of transfers begins: after this account's version.
pub(crate) type AfterTransfer = (Uuid, i64);

pub(crate) async fn transfers_page(
    tx: &mut Connection,
    tenant: TenantId,
    customer: Option<CustomerId>,
    after: AfterTransfer,
    limit: i64,
) -> Result<Vec<TransferRow>> {
    let rows = diesel::sql_query(
        "select t.customer_id, t.version, t.debit, t.credit, t.grant_id, t.credits, t.cause_kind, t.cause_id,
             t.event_time, t.recorded_at, t.reverses, t.chain, e.is_captured,
             e.recorded_at as event_recorded_at, h.granted_at as hold_granted_at
         from (
             select * from transfers
             where tenant_id = $1 and (customer_id, version) > ($2, $3)
                 and ($4::uuid is null or customer_id = $4)
             order by customer_id, version limit $5) t
         left join lateral (
             select e.hold = 'captured' as is_captured, e.hold_id, e.recorded_at from usage_events e
             where e.tenant_id = $1 and e.customer_id = t.customer_id and e.event_time = t.event_time
                 and e.identity = t.cause_id and t.cause_kind = 'usage' limit 1) e on true
         left join holds h on h.tenant_id = $1 and h.customer_id = t.customer_id and h.hold_id = e.hold_id
         order by t.customer_id, t.version",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(after.0)
    .bind::<BigInt, _>(after.1)
    .bind::<Nullable<SqlUuid>, _>(customer.map(CustomerId::uuid))
    .bind::<BigInt, _>(limit)
    .load(tx)
    .await?;
    Ok(rows)
}

/// What never changes of a grant.
#[derive(Debug, Clone)]
pub(crate) struct GrantTerms {
    pub(crate) id: GrantId,
    pub(crate) customer: Uuid,
    pub(crate) source: GrantSource,
    pub(crate) priority: i16,
    pub(crate) effective_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
}

/// All grants of some customers.
pub(crate) async fn grant_terms(
    tx: &mut Connection,
    tenant: TenantId,
    customers: &[Uuid],
) -> Result<Vec<GrantTerms>> {
    type Row = (Uuid, Uuid, String, i16, Timestamp, Option<Timestamp>);
    let rows: Vec<Row> = grants::table
        .filter(grants::tenant_id.eq(tenant.uuid()))
        .filter(grants::customer_id.eq_any(customers))
        .select((
            grants::grant_id,
            grants::customer_id,
            grants::source,
            grants::priority,
            grants::effective_at,
            grants::expires_at,
        ))
        .load(tx)
        .await?;
    rows.into_iter()
        .map(|(id, customer, source, priority, effective_at, expires_at)| {
            let source = GrantSource::ALL
                .into_iter()
                .find(|known| known.name() == source)
                .ok_or_else(|| Error::broken(format!("a grant from {source:?}")))?;
            let id = GrantId::from_uuid(id);
            Ok(GrantTerms { id, customer, source, priority, effective_at, expires_at })
        })
        .collect()
}

/// An event with what it was charged.
#[derive(Debug, Clone, QueryableByName)]
pub(crate) struct EventRow {
    #[diesel(sql_type = SqlUuid)]
    pub(crate) customer_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub(crate) identity: Uuid,
    #[diesel(sql_type = Text)]
    pub(crate) source: String,
    #[diesel(sql_type = Text)]
    pub(crate) event_id: String,
    #[diesel(sql_type = Text)]
    pub(crate) model: String,
    #[diesel(sql_type = BigInt)]
    pub(crate) input_tokens: i64,
    #[diesel(sql_type = BigInt)]
    pub(crate) cache_read_tokens: i64,
    #[diesel(sql_type = BigInt)]
    pub(crate) cache_write_tokens: i64,
    #[diesel(sql_type = BigInt)]
    pub(crate) output_tokens: i64,
    #[diesel(sql_type = BigInt)]
    pub(crate) reasoning_tokens: i64,
    #[diesel(sql_type = Timestamptz)]
    pub(crate) event_time: Timestamp,
    #[diesel(sql_type = Timestamptz)]
    pub(crate) recorded_at: Timestamp,
    /// When its last transfer was recorded: one that was kept is charged later.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub(crate) charged_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) unrated_reason: Option<String>,
    #[diesel(sql_type = BigInt)]
    pub(crate) credits: i64,
    #[diesel(sql_type = Nullable<Integer>)]
    pub(crate) catalog_version: Option<i32>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(crate) band_prompt_tokens_max: Option<i64>,
    #[diesel(sql_type = Jsonb)]
    pub(crate) rates: Value,
    /// Where it is of several calls: see the column.
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub(crate) calls: Option<Value>,
    /// When the paid cycles began that it lies in; more than one where a plan was bought anew.
    #[diesel(sql_type = Array<Timestamptz>)]
    pub(crate) cycle_starts: Vec<Timestamp>,
    /// The currency of its money part, if it has one.
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) payg_currency: Option<String>,
    /// That part's lines, where it has a price.
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub(crate) payg_lines: Option<Value>,
}

/// Where a page of events begins: after this customer's time and identity.
pub(crate) type AfterEvent = (Uuid, Timestamp, Uuid);

pub(crate) async fn events_page(
    tx: &mut Connection,
    tenant: TenantId,
    customer: Option<CustomerId>,
    after: AfterEvent,
    limit: i64,
) -> Result<Vec<EventRow>> {
    let rows = diesel::sql_query(
        "select customer_id, identity, source, event_id, model, input_tokens, cache_read_tokens,
             cache_write_tokens, output_tokens, reasoning_tokens, event_time, recorded_at, unrated_reason,
             credits, catalog_version, band_prompt_tokens_max, rates, calls,
             (select max(t.recorded_at) from transfers t
              where t.tenant_id = e.tenant_id and t.customer_id = e.customer_id and t.version = e.account_version)
                 as charged_at,
             array(select g.effective_at from grants g
                   where g.tenant_id = e.tenant_id and g.customer_id = e.customer_id and g.source = 'plan'
                       and g.effective_at <= e.event_time and g.expires_at > e.event_time) as cycle_starts,
             (select p.currency from usage_payg p where p.tenant_id = e.tenant_id and p.identity = e.identity)
                 as payg_currency,
             (select p.lines from usage_payg p
              where p.tenant_id = e.tenant_id and p.identity = e.identity and p.unrated_reason is null)
                 as payg_lines
         from usage_events e
         where tenant_id = $1 and (customer_id, event_time) >= ($2, $3)
             and (customer_id, event_time, identity) > ($2, $3, $4)
             and ($5::uuid is null or customer_id = $5)
         order by customer_id, event_time, identity limit $6",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(after.0)
    .bind::<Timestamptz, _>(after.1)
    .bind::<SqlUuid, _>(after.2)
    .bind::<Nullable<SqlUuid>, _>(customer.map(CustomerId::uuid))
    .bind::<BigInt, _>(limit)
    .load(tx)
    .await?;
    Ok(rows)
}

/// When each version of the tenant's catalogue was published, by the tenant's time.
pub(crate) async fn published(tx: &mut Connection, tenant: TenantId) -> Result<Vec<(u32, Timestamp)>> {
    use db::schema::catalog_versions;
    let rows: Vec<(i32, Timestamp)> = catalog_versions::table
        .filter(catalog_versions::tenant_id.eq(tenant.uuid()))
        .order(catalog_versions::version)
        .select((catalog_versions::version, catalog_versions::published_at))
        .load(tx)
        .await?;
    rows.into_iter()
        .map(|(version, at)| {
            Ok((u32::try_from(version).map_err(|_| Error::broken("a version below 0"))?, at))
        })
        .collect()
}

/// A cycle with its subscription's anchor.
#[derive(Debug, Clone, QueryableByName)]
pub(crate) struct CycleRow {
    #[diesel(sql_type = SqlUuid)]
    pub(crate) customer_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub(crate) subscription_id: Uuid,
    #[diesel(sql_type = Integer)]
    pub(crate) number: i32,
    #[diesel(sql_type = Timestamptz)]
    pub(crate) starts_at: Timestamp,
    #[diesel(sql_type = Timestamptz)]
    pub(crate) ends_at: Timestamp,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub(crate) anchor_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) anchor_zone: Option<String>,
    #[diesel(sql_type = Text)]
    pub(crate) anchor_kind: String,
}

pub(crate) async fn cycles_page(
    tx: &mut Connection,
    tenant: TenantId,
    customer: Option<CustomerId>,
    after: (Uuid, i32),
    limit: i64,
) -> Result<Vec<CycleRow>> {
    let rows = diesel::sql_query(
        "select s.customer_id, c.subscription_id, c.number, c.starts_at, c.ends_at, s.anchor_at, s.anchor_zone,
             s.anchor_kind
         from cycles c
         join subscriptions s on s.tenant_id = c.tenant_id and s.subscription_id = c.subscription_id
         where c.tenant_id = $1 and (c.subscription_id, c.number) > ($2, $3)
             and ($4::uuid is null or s.customer_id = $4)
         order by c.subscription_id, c.number limit $5",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(after.0)
    .bind::<Integer, _>(after.1)
    .bind::<Nullable<SqlUuid>, _>(customer.map(CustomerId::uuid))
    .bind::<BigInt, _>(limit)
    .load(tx)
    .await?;
    Ok(rows)
}

/// A purchase that took effect, with its invoice.
#[derive(Debug, Clone, QueryableByName)]
pub(crate) struct PurchaseRow {
    #[diesel(sql_type = SqlUuid)]
    pub(crate) customer_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub(crate) subscription_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub(crate) purchase_id: Uuid,
    #[diesel(sql_type = BigInt)]
    pub(crate) invoice_number: i64,
    #[diesel(sql_type = Text)]
    pub(crate) kind: String,
    #[diesel(sql_type = Integer)]
    pub(crate) cycle_number: i32,
    #[diesel(sql_type = Text)]
    pub(crate) plan_code: String,
    #[diesel(sql_type = Integer)]
    pub(crate) catalog_version: i32,
    #[diesel(sql_type = BigInt)]
    pub(crate) credits: i64,
    #[diesel(sql_type = BigInt)]
    pub(crate) total_minor: i64,
    #[diesel(sql_type = Text)]
    pub(crate) currency: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) promotion_code: Option<String>,
    #[diesel(sql_type = Text)]
    pub(crate) term: String,
    #[diesel(sql_type = Text)]
    pub(crate) anchor_kind: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) anchor_zone: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    pub(crate) created_at: Timestamp,
    /// When a price was quoted for the same change; an upgrade may have been bought at one of these.
    #[diesel(sql_type = Array<Timestamptz>)]
    pub(crate) quoted_at: Vec<Timestamp>,
    /// Of the purchase's cycle.
    #[diesel(sql_type = Timestamptz)]
    pub(crate) starts_at: Timestamp,
    #[diesel(sql_type = Timestamptz)]
    pub(crate) ends_at: Timestamp,
}

/// Where a page of purchases begins: after this subscription's cycle and invoice number.
pub(crate) type AfterPurchase = (Uuid, i32, i64);

/// In the order in which they were made: an invoice gets its number under its subscription's lock, and a purchase its id
/// before it.
pub(crate) async fn purchases_page(
    tx: &mut Connection,
    tenant: TenantId,
    customer: Option<CustomerId>,
    after: AfterPurchase,
    limit: i64,
) -> Result<Vec<PurchaseRow>> {
    let rows = diesel::sql_query(
        "select s.customer_id, p.subscription_id, p.purchase_id, p.kind, p.cycle_number, p.plan_code,
             p.catalog_version, p.credits, i.currency,
             i.number as invoice_number,
             -- The price: what is paid without the tax that came on top.
             i.total_minor - case when i.tax_is_included then 0 else i.tax_minor end as total_minor, u.promotion_code,
             s.term, s.anchor_kind, s.anchor_zone, p.created_at, c.starts_at, c.ends_at,
             array(select q.created_at from quotes q where q.tenant_id = $1 and q.subscription_id = p.subscription_id
                 and q.cycle_number = p.cycle_number and q.to_plan_code = p.plan_code
                 and q.created_at <= p.created_at) as quoted_at
         from purchases p
         join subscriptions s on s.tenant_id = p.tenant_id and s.subscription_id = p.subscription_id
         join invoices i on i.tenant_id = p.tenant_id and i.invoice_id = p.invoice_id
         join cycles c on c.tenant_id = p.tenant_id and c.subscription_id = p.subscription_id
             and c.number = p.cycle_number
         left join lateral (select promotion_code from promotion_uses u
             where u.tenant_id = $1 and u.subscription_id = p.subscription_id limit 1) u on true
         where p.tenant_id = $1 and p.status = 'applied'
             and (p.subscription_id, p.cycle_number, i.number) > ($2, $3, $4)
             and ($5::uuid is null or s.customer_id = $5)
         order by p.subscription_id, p.cycle_number, i.number limit $6",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(after.0)
    .bind::<Integer, _>(after.1)
    .bind::<BigInt, _>(after.2)
    .bind::<Nullable<SqlUuid>, _>(customer.map(CustomerId::uuid))
    .bind::<BigInt, _>(limit)
    .load(tx)
    .await?;
    Ok(rows)
}
