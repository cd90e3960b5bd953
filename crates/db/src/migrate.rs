//! Brings a database to the newest schema.

use diesel_async::{AsyncConnection, AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::{Error, Result};

/// `migrations/`, compiled in.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

/// Locks out a second `migrate` at the same time; the number means nothing else.
const ADVISORY_LOCK: i64 = 7_046_029_254;

/// Applies what is missing and returns how many migrations that were. Connects as the role in
/// `url`, which must be allowed to create roles on the first run.
pub async fn migrate(url: &str) -> Result<usize> {
    let mut connection =
        AsyncPgConnection::establish(url).await.map_err(|error| Error::Unavailable(error.to_string()))?;
    // Held until the connection closes, at the end of this function.
    diesel::sql_query("select pg_advisory_lock($1)")
        .bind::<diesel::sql_types::BigInt, _>(ADVISORY_LOCK)
        .execute(&mut connection)
        .await?;
    let mut harness = AsyncMigrationHarness::new(connection);
    // It blocks, which a runtime of one thread allows elsewhere only.
    let applied = move || harness.run_pending_migrations(MIGRATIONS).map(|applied| applied.len());
    let applied =
        tokio::task::spawn_blocking(applied).await.map_err(|error| Error::Fault(Box::new(error)))?;
    applied.map_err(Error::Fault)
}
