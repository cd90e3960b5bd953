//! A point of a transaction to which it can go back, where a statement in it may fail.

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};

use crate::Result;

/// Sets the transaction's one savepoint, or sets it anew. It ends with the transaction.
pub async fn savepoint(tx: &mut AsyncPgConnection) -> Result<()> {
    Ok(tx.batch_execute("savepoint tollgate").await?)
}

/// Undoes what was done since, a statement that failed included: the transaction goes on from there.
pub async fn back_to_savepoint(tx: &mut AsyncPgConnection) -> Result<()> {
    Ok(tx.batch_execute("rollback to savepoint tollgate").await?)
}
