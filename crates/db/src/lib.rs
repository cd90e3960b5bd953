//! PostgreSQL: the pool, transactions with the tenant set, the schema and its migrations.
//!
//! A transaction is opened for one tenant ([`Db::transaction`]) and sees that tenant's rows only:
//! the connection has taken on the role `tollgate_app`, which owns nothing, and row level security
//! compares each row with the tenant that the transaction set. The few jobs that look for due work
//! everywhere say so ([`Db::all_tenants_transaction`]).
//!
//! Everything runs at READ COMMITTED with explicit row locks (R-35a), but for snapshots that only
//! read ([`Db::snapshot`]). A serialization failure or a
//! deadlock is retried with jitter, so a transaction's body may run more than once: it must not
//! touch anything but its connection and its own return value. Every transaction has a deadline;
//! what passes it closes its connection, so nothing half-done is ever handed to the next caller.

mod error;
mod locked;
mod migrate;
mod pool;
mod rows;
mod savepoint;
pub mod schema;
mod sql;

pub use diesel_async::AsyncPgConnection as Connection;
pub use error::{Error, Result, is_unique_violation};
pub use locked::Locked;
pub use migrate::{MIGRATIONS, migrate};
pub use pool::{Db, Options};
pub use rows::{Column, InsertRows, Rows, WithRows, column};
pub use savepoint::{back_to_savepoint, savepoint};
pub use sql::{SqlQuery, sql_query, sql_query_of};
