//! Customers, their Credits and their tokens.

use std::time::Duration;

use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, get, post};
use domain::id::{CustomerId, ExternalId, GrantId, PurchaseId};
use ledger::{GrantRow, Ledger, TransferRow};
use serde::{Deserialize, Serialize};
use tenants::Tenants;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::{Bills, Caller, Reads};
use crate::body::{Body, NoQuery, Query};
use crate::error::Error;
use crate::page::{List, PageQuery};
use crate::path::Id;
use crate::schema;
use crate::wire::{Instant, Page};

/// A customer to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCustomer {
    /// Your own id of the customer, unique among yours.
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "acme-42")]
    external_id: ExternalId,
    #[schema(min_length = 1, max_length = 200, example = "Acme")]
    name: Option<String>,
}

/// Somebody who buys plans and spends Credits.
#[derive(Debug, Serialize, ToSchema)]
struct Customer {
    #[schema(value_type = schema::CustomerId)]
    id: CustomerId,
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "acme-42")]
    external_id: ExternalId,
    #[schema(required)]
    name: Option<String>,
    created_at: Instant,
}

/// A customer's Credits now.
#[derive(Debug, Serialize, ToSchema)]
struct Balance {
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    /// Rises by one with every transfer.
    account_version: i64,
    /// What the live grants have left.
    settled: i64,
    /// What running authorizations set aside.
    held: i64,
    /// What the next authorization can get: `settled` less `held`.
    available: i64,
    /// What the live grants were made with.
    granted: i64,
    /// `granted` less `settled`.
    used: i64,
    /// When the first of the live grants ends.
    #[schema(required)]
    expires_next_at: Option<Instant>,
    /// When the pool fills again; null while no paid renewal is ahead.
    #[schema(required)]
    resets_at: Option<Instant>,
    /// Usage ever, in Credits, that no grant paid for.
    overage: i64,
}

/// Credits from one source. `amount` is always `spent + expired + revoked + remaining`.
#[derive(Debug, Serialize, ToSchema)]
struct Grant {
    #[schema(value_type = schema::GrantId)]
    id: GrantId,
    source: schema::GrantSource,
    /// The lower number is spent first.
    priority: i16,
    amount: i64,
    spent: i64,
    expired: i64,
    revoked: i64,
    remaining: i64,
    effective_at: Instant,
    #[schema(required)]
    expires_at: Option<Instant>,
    /// What was bought: a cycle or an upgrade.
    #[schema(value_type = schema::PurchaseId)]
    purchase: PurchaseId,
    created_at: Instant,
}

/// A movement of Credits from the debit book to the credit book.
#[derive(Debug, Serialize, ToSchema)]
struct Transfer {
    version: i64,
    debit: schema::Book,
    credit: schema::Book,
    /// The grant whose Credits move.
    #[schema(value_type = Option<schema::GrantId>, required)]
    grant: Option<GrantId>,
    #[schema(minimum = 1)]
    credits: i64,
    cause: Cause,
    /// When what caused it happened.
    event_time: Instant,
    recorded_at: Instant,
    /// The version of the earlier transfer that this one takes back: a late charge takes an expiry back.
    #[schema(required)]
    reverses: Option<i64>,
}

/// Why a transfer was made.
#[derive(Debug, Serialize, ToSchema)]
struct Cause {
    kind: schema::CauseKind,
    /// The UUID of what caused it: the purchase, the event, the grant that expired or the subscription
    /// that was canceled. In their own ids it is the part after the prefix.
    id: Uuid,
}

/// A token to mint.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewToken {
    /// How long it is good for, in seconds of real time.
    #[serde(default = "one_hour")]
    #[schema(minimum = 60, maximum = 86_400, default = 3_600)]
    ttl_seconds: u32,
}

fn one_hour() -> u32 {
    3_600
}

/// A customer's token: a JWT. It is shown once and cannot be revoked.
#[derive(Serialize, ToSchema)]
struct Token {
    token: String,
    expires_at: Instant,
}

/// Create a customer
///
/// Its credit account comes with it, empty.
#[utoipa::path(
    tag = "Customers",
    security(("bearer" = ["billing"])),
    request_body = NewCustomer,
    responses(
        (status = 201, description = "Created", body = Customer),
        (status = 409, description = "`customer-exists`", body = crate::error::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/customers")]
pub(super) async fn create_customer(
    caller: Bills,
    _: NoQuery,
    new: Body<NewCustomer>,
    tenants: Data<Tenants>,
) -> Result<HttpResponse, Error> {
    let NewCustomer { external_id, name } = new.value;
    let customer =
        tenants.create_customer(caller.scope(), tenants::NewCustomer { external_id, name }).await?;
    Ok(HttpResponse::Created().json(Customer::from(customer)))
}

/// List customers
///
/// In the order they were created.
#[utoipa::path(
    tag = "Customers",
    security(("bearer" = ["read"])),
    params(PageQuery),
    responses((status = 200, description = "A page of customers", body = Page<Customer>)),
)]
#[get("/customers")]
pub(super) async fn list_customers(
    caller: Reads,
    query: Query<PageQuery>,
    tenants: Data<Tenants>,
) -> Result<Json<Page<Customer>>, Error> {
    let PageQuery { limit, cursor } = query.0;
    let list = List { tenant: caller.scope().tenant, kind: "customers", owner: "" };
    let after = list.after(cursor.as_deref())?;
    let customers = tenants.customers(caller.scope(), after, limit.and_one()).await?;
    Ok(Json(list.page(customers, limit, |customer| customer.id.to_string())))
}

/// Read a customer
#[utoipa::path(
    tag = "Customers",
    security(("bearer" = ["read", "customer"])),
    params(("id" = schema::CustomerId, Path, description = "The customer")),
    responses((status = 200, description = "The customer", body = Customer)),
)]
#[get("/customers/{id}")]
pub(super) async fn read_customer(
    caller: Caller,
    _: NoQuery,
    id: Id<CustomerId>,
    tenants: Data<Tenants>,
) -> Result<Json<Customer>, Error> {
    caller.sees(id.0, "customer")?;
    Ok(Json(tenants.customer(caller.scope(), id.0).await?.into()))
}

/// Read a customer's balance
///
/// From the ledger, with the authorizations that are running now.
#[utoipa::path(
    tag = "Customers",
    security(("bearer" = ["read", "customer"])),
    params(("id" = schema::CustomerId, Path, description = "The customer")),
    responses((status = 200, description = "The balance", body = Balance)),
)]
#[get("/customers/{id}/balance")]
pub(super) async fn read_balance(
    caller: Caller,
    _: NoQuery,
    id: Id<CustomerId>,
    ledger: Data<Ledger>,
) -> Result<Json<Balance>, Error> {
    caller.sees(id.0, "customer")?;
    let balance = ledger.balance(caller.scope(), id.0).await?;
    Ok(Json(Balance::of(id.0, &balance)))
}

/// List a customer's grants
///
/// In the order they were made, spent and expired ones too.
#[utoipa::path(
    tag = "Customers",
    security(("bearer" = ["read", "customer"])),
    params(
        ("id" = schema::CustomerId, Path, description = "The customer"),
        PageQuery,
    ),
    responses((status = 200, description = "A page of grants", body = Page<Grant>)),
)]
#[get("/customers/{id}/grants")]
pub(super) async fn list_grants(
    caller: Caller,
    id: Id<CustomerId>,
    query: Query<PageQuery>,
    ledger: Data<Ledger>,
) -> Result<Json<Page<Grant>>, Error> {
    caller.sees(id.0, "customer")?;
    let PageQuery { limit, cursor } = query.0;
    let owner = id.0.to_string();
    let list = List { tenant: caller.scope().tenant, kind: "grants", owner: &owner };
    let after = list.after(cursor.as_deref())?;
    let grants = ledger.grants(caller.scope(), id.0, after, limit.and_one().into()).await?;
    Ok(Json(list.page(grants, limit, |row| row.grant.id.to_string())))
}

/// List a customer's transfers
///
/// The ledger, in the order of its versions. Nothing in it ever changes.
#[utoipa::path(
    tag = "Customers",
    security(("bearer" = ["read", "customer"])),
    params(
        ("id" = schema::CustomerId, Path, description = "The customer"),
        PageQuery,
    ),
    responses((status = 200, description = "A page of transfers", body = Page<Transfer>)),
)]
#[get("/customers/{id}/ledger")]
pub(super) async fn list_transfers(
    caller: Caller,
    id: Id<CustomerId>,
    query: Query<PageQuery>,
    ledger: Data<Ledger>,
) -> Result<Json<Page<Transfer>>, Error> {
    caller.sees(id.0, "customer")?;
    let PageQuery { limit, cursor } = query.0;
    let owner = id.0.to_string();
    let list = List { tenant: caller.scope().tenant, kind: "ledger", owner: &owner };
    // Versions begin at 1.
    let after = list.after(cursor.as_deref())?.unwrap_or(0);
    let transfers = ledger.transfers(caller.scope(), id.0, after, limit.and_one().into()).await?;
    Ok(Json(list.page(transfers, limit, |transfer| transfer.version.to_string())))
}

/// Mint a token for a customer
///
/// With it the customer reads its own affairs, and changes nothing.
#[utoipa::path(
    tag = "Customers",
    security(("bearer" = ["billing"])),
    params(("id" = schema::CustomerId, Path, description = "The customer")),
    request_body = NewToken,
    responses((status = 201, description = "The token", body = Token)),
)]
#[post("/customers/{id}/tokens")]
pub(super) async fn mint_customer_token(
    caller: Bills,
    _: NoQuery,
    id: Id<CustomerId>,
    new: Body<NewToken>,
    tenants: Data<Tenants>,
) -> Result<HttpResponse, Error> {
    let life = Duration::from_secs(new.value.ttl_seconds.into());
    let minted = tenants.mint_customer_token(caller.scope(), id.0, life).await?;
    let token = Token { token: minted.token, expires_at: Instant(minted.expires_at) };
    Ok(HttpResponse::Created().json(token))
}

impl From<tenants::Customer> for Customer {
    fn from(customer: tenants::Customer) -> Self {
        Customer {
            id: customer.id,
            external_id: customer.external_id,
            name: customer.name,
            created_at: Instant(customer.created_at),
        }
    }
}

impl Balance {
    fn of(customer: CustomerId, balance: &ledger::Balance) -> Balance {
        Balance {
            customer,
            account_version: balance.version,
            settled: balance.settled.get(),
            held: balance.held.get(),
            available: balance.available.get(),
            granted: balance.granted.get(),
            used: balance.granted.minus_floor_zero(balance.settled).get(),
            expires_next_at: balance.expires_next_at.map(Instant),
            resets_at: balance.resets_at.map(Instant),
            // The book is a debt: never above zero.
            overage: balance.books.overage.saturating_neg(),
        }
    }
}

impl From<GrantRow> for Grant {
    fn from(row: GrantRow) -> Self {
        let grant = &row.grant;
        Grant {
            id: grant.id,
            source: schema::GrantSource(grant.source),
            priority: grant.priority,
            amount: grant.amount.get(),
            spent: grant.spent.get(),
            expired: grant.expired.get(),
            revoked: grant.revoked.get(),
            remaining: grant.remaining().get(),
            effective_at: Instant(grant.effective_at),
            expires_at: grant.expires_at.map(Instant),
            purchase: PurchaseId::from_uuid(row.purchase_id),
            created_at: Instant(row.created_at),
        }
    }
}

impl From<TransferRow> for Transfer {
    fn from(transfer: TransferRow) -> Self {
        Transfer {
            version: transfer.version,
            debit: schema::Book(transfer.debit),
            credit: schema::Book(transfer.credit),
            grant: transfer.grant,
            credits: transfer.credits.get(),
            cause: Cause { kind: schema::CauseKind(transfer.cause.kind), id: transfer.cause.id },
            event_time: Instant(transfer.event_time),
            recorded_at: Instant(transfer.recorded_at),
            reverses: transfer.reverses,
        }
    }
}
