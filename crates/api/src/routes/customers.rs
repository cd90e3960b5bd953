//! Customers and their tokens.

use std::time::Duration;

use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, get, post};
use domain::id::{CustomerId, ExternalId};
use serde::{Deserialize, Serialize};
use tenants::Tenants;
use utoipa::ToSchema;

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
