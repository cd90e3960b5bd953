//! The pool, and the one way to a transaction.

use std::future::Future;
use std::time::Duration;

use diesel::sql_types::Text;
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod};
use diesel_async::{
    AnsiTransactionManager, AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection,
    TransactionManager,
};
use futures_util::FutureExt;

use crate::error::{is_outage, is_retryable};
use crate::{Error, Result};
use domain::id::TenantId;

/// How a pool behaves. A request path wants a short deadline, a job a long one.
#[derive(Debug, Clone)]
pub struct Options {
    pub url: String,
    pub connections_max: usize,
    /// How long a transaction may take, waiting for a connection included.
    pub deadline: Duration,
}

/// A handle on the database; cheap to clone.
#[derive(Clone)]
pub struct Db {
    pool: Pool<AsyncPgConnection>,
    deadline: Duration,
}

/// An async closure over a connection whose future can be sent between threads. (`AsyncFn` alone
/// cannot say that of its future; see `diesel_async::AsyncConnection::transaction`.)
pub trait Body<T, R>: AsyncFn(T) -> R + Fn(T) -> <Self as Body<T, R>>::Fut {
    type Fut: Future<Output = R>;
}

impl<F, T, Fut, R> Body<T, R> for F
where
    F: AsyncFn(T) -> R + Fn(T) -> Fut,
    Fut: Future<Output = R>,
{
    type Fut = Fut;
}

/// Which rows a transaction sees.
enum Visible {
    Tenant(TenantId),
    AllTenants,
    /// The tenant's, all as of one instant.
    Snapshot(TenantId),
}

const TRIES_MAX: u32 = 5;
/// A connection is waited for no longer than this: a machine may be busy for seconds, and a PostgreSQL that restarts is
/// asked for all its connections at once.
const CONNECTION_WAIT_MAX: Duration = Duration::from_secs(10);

impl Db {
    /// Makes the pool; connects when first asked to.
    pub fn new(options: Options) -> Result<Db> {
        let mut config = ManagerConfig::<AsyncPgConnection>::default();
        // No test query at each checkout: a broken connection shows itself when a transaction begins.
        config.recycling_method = RecyclingMethod::Fast;
        let deadline = options.deadline;
        config.custom_setup = Box::new(move |url| connect(url.to_owned(), deadline).boxed());
        let manager = AsyncDieselConnectionManager::new_with_config(options.url, config);
        let pool = Pool::builder(manager)
            .max_size(options.connections_max)
            // The one that was used last: what its backend has in memory is the warmest.
            .queue_mode(deadpool::managed::QueueMode::Lifo)
            // Whoever waits for others to be done leaves itself time to be done.
            .wait_timeout(Some((deadline / 2).min(CONNECTION_WAIT_MAX)))
            .create_timeout(Some(deadline.min(CONNECTION_WAIT_MAX)))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|error| Error::Fault(Box::new(error)))?;
        Ok(Db { pool, deadline })
    }

    /// Runs `body` in a transaction that sees one tenant's rows. Rolled back when it returns an
    /// error; run again after a deadlock or a serialization failure (R-35a).
    pub async fn transaction<R, F>(&self, tenant: TenantId, body: F) -> Result<R>
    where
        for<'c> F: AsyncFn(&'c mut AsyncPgConnection) -> Result<R>
            + Body<&'c mut AsyncPgConnection, Result<R>, Fut: Send>
            + Send
            + Sync,
        R: Send,
    {
        self.retrying(Visible::Tenant(tenant), body).await
    }

    /// Runs `body` in a transaction that sees every tenant's rows: for finding out whose a key or
    /// a piece of due work is, never for acting on it.
    pub async fn all_tenants_transaction<R, F>(&self, body: F) -> Result<R>
    where
        for<'c> F: AsyncFn(&'c mut AsyncPgConnection) -> Result<R>
            + Body<&'c mut AsyncPgConnection, Result<R>, Fut: Send>
            + Send
            + Sync,
        R: Send,
    {
        self.retrying(Visible::AllTenants, body).await
    }

    /// Runs `body` on a snapshot: what it reads of the tenant's rows, in however many statements, is as
    /// of one instant, and it can write nothing. For comparing rows while others are writing, and for
    /// answers that are put together from several.
    pub async fn snapshot<R, F>(&self, tenant: TenantId, body: F) -> Result<R>
    where
        for<'c> F: AsyncFn(&'c mut AsyncPgConnection) -> Result<R>
            + Body<&'c mut AsyncPgConnection, Result<R>, Fut: Send>
            + Send
            + Sync,
        R: Send,
    {
        self.retrying(Visible::Snapshot(tenant), body).await
    }

    async fn retrying<R, F>(&self, visible: Visible, body: F) -> Result<R>
    where
        for<'c> F: AsyncFn(&'c mut AsyncPgConnection) -> Result<R>
            + Body<&'c mut AsyncPgConnection, Result<R>, Fut: Send>
            + Send
            + Sync,
        R: Send,
    {
        let all_tries = async {
            let mut attempt = 1;
            loop {
                let mut connection = self.pool.get().await?;
                if let Err(error) = begin(&mut connection, &visible).await {
                    // It may have begun all the same, so the connection is closed. One that has died in the pool, as all
                    // of them do when PostgreSQL restarts, says nothing of PostgreSQL, and the next is tried.
                    let was_pooled = Object::metrics(&connection).recycle_count > 0;
                    drop(Object::take(connection));
                    if was_pooled && is_outage(&error) {
                        continue;
                    }
                    return Err(error.into());
                }
                match finish(&mut connection, &body).await {
                    Err(error) if attempt < TRIES_MAX && is_retryable(&error) => {
                        tracing::debug!(attempt, %error, "running a transaction again");
                        drop(connection);
                        tokio::time::sleep(jittered_pause(attempt)).await;
                        attempt += 1;
                    }
                    answer => return answer,
                }
            }
        };
        // A future dropped here closes its connection: an open transaction is never recycled.
        self.within_deadline(all_tries).await
    }

    /// Gives work up once it has taken as long as a transaction may: for a wait that stands before one.
    pub async fn within_deadline<R>(&self, work: impl Future<Output = Result<R>>) -> Result<R> {
        tokio::time::timeout(self.deadline, work).await.map_err(|_| Error::past_deadline(self.deadline))?
    }

    /// Refuses a login that row level security cannot hold: a superuser, one that bypasses it, or the
    /// tables' owner. Stepping down with `set role`, as every connection does, can be taken back.
    pub async fn check_login(&self) -> Result<()> {
        #[derive(diesel::QueryableByName)]
        struct Login {
            #[diesel(sql_type = Text)]
            name: String,
            #[diesel(sql_type = diesel::sql_types::Bool)]
            is_above_the_wall: bool,
        }
        let login: Login = self
            .all_tenants_transaction(async |connection| {
                Ok(diesel::sql_query(
                    "select rolname::text as name, rolsuper or rolbypassrls or exists (
                         select from pg_class where relowner = pg_roles.oid and relname = 'tenants'
                     ) as is_above_the_wall
                     from pg_roles where rolname = session_user",
                )
                .get_result(connection)
                .await?)
            })
            .await?;
        if login.is_above_the_wall {
            let why = "is a superuser, bypasses row level security, or owns the tables";
            return Err(Error::broken(format!(
                "the database role {:?} {why}; log in as a plain member of tollgate_app",
                login.name
            )));
        }
        Ok(())
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        self.all_tenants_transaction(async |connection| {
            crate::sql_query("select 1").execute(connection).await?;
            Ok(())
        })
        .await
    }
}

/// Begins and says what is visible, in one round trip. The setting lasts as long as the transaction, so a
/// pooled connection carries nothing over.
async fn begin(connection: &mut AsyncPgConnection, visible: &Visible) -> diesel::QueryResult<()> {
    let sql = match visible {
        // A uuid: nothing that would have to be quoted.
        Visible::Tenant(tenant) => format!("begin; set local tollgate.tenant = '{}'", tenant.uuid()),
        Visible::AllTenants => "begin; set local tollgate.all_tenants = 'on'".to_owned(),
        Visible::Snapshot(tenant) => format!(
            "begin isolation level repeatable read, read only; set local tollgate.tenant = '{}'",
            tenant.uuid()
        ),
    };
    AnsiTransactionManager::begin_transaction_sql(connection, &sql).await
}

/// Runs `body` in the transaction that has begun, and commits what it did, or takes it back.
async fn finish<R, F>(connection: &mut AsyncPgConnection, body: &F) -> Result<R>
where
    for<'c> F: AsyncFn(&'c mut AsyncPgConnection) -> Result<R>
        + Body<&'c mut AsyncPgConnection, Result<R>, Fut: Send>
        + Send
        + Sync,
    R: Send,
{
    // On the heap: it is as large as all that a transaction does, and whoever waits for it would carry that along.
    let answer = Box::pin(body(connection)).await;
    match answer {
        Ok(value) => {
            AnsiTransactionManager::commit_transaction(connection).await?;
            Ok(value)
        }
        Err(error) => {
            // The body's error is the one to report; a connection that cannot roll back is closed.
            if let Err(rollback) = AnsiTransactionManager::rollback_transaction(connection).await {
                tracing::debug!(%rollback, "rollback failed");
            }
            Err(error)
        }
    }
}

/// Connects and steps down: from here on the connection may do what `tollgate_app` may.
async fn connect(url: String, deadline: Duration) -> diesel::ConnectionResult<AsyncPgConnection> {
    let mut connection = AsyncPgConnection::establish(&url).await?;
    connection
        .batch_execute(&format!(
            "set role tollgate_app; set statement_timeout = {}; set lock_timeout = {};",
            deadline.as_millis(),
            deadline.as_millis(),
        ))
        .await
        .map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

/// 5 to 10 ms at first, doubling: enough for the transactions that collided to come apart.
fn jittered_pause(attempt: u32) -> Duration {
    let base_micros = 5_000_u64 << attempt.min(6);
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::from(since.subsec_nanos()));
    Duration::from_micros(base_micros / 2 + (nanos / 1_000) % (base_micros / 2))
}
