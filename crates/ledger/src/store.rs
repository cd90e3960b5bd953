//! All SQL of the ledger, a file a noun.

mod accounts;
mod grants;
mod holds;
mod hot_state;
mod past;
mod sweep;
mod transfers;

use db::{Error, Result};
use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use domain::id::CustomerId;
use uuid::Uuid;

pub(crate) use accounts::*;
pub(crate) use grants::*;
pub(crate) use holds::*;
pub(crate) use hot_state::*;
pub(crate) use past::*;
pub(crate) use sweep::*;
pub(crate) use transfers::*;

#[derive(QueryableByName)]
struct SumRow {
    #[diesel(sql_type = BigInt)]
    total: i64,
}

fn uuids(customers: &[CustomerId]) -> Vec<Uuid> {
    customers.iter().map(|customer| customer.uuid()).collect()
}

/// The value of this stored name; a name that no value has is a broken row.
fn by_name<T: Copy>(all: &[T], name_of: fn(T) -> &'static str, name: &str) -> Result<T> {
    all.iter()
        .copied()
        .find(|value| name_of(*value) == name)
        .ok_or_else(|| Error::broken(format!("a stored name that nothing has: {name:?}")))
}
