//! The database as the application meets it: schema, walls, append-only, retries.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use db::{Connection, Error, Result, Rows, column};
use diesel::pg::Pg;
use diesel::sql_types::{BigInt, Text, Uuid as SqlUuid};
use diesel::{QueryableByName, debug_query};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use domain::id::TenantId;
use testkit::Stores;
use uuid::Uuid;

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

async fn count(tx: &mut Connection, sql: &str) -> Result<i64> {
    let row: Count = diesel::sql_query(sql).get_result(tx).await?;
    Ok(row.n)
}

async fn names(connection: &mut Connection, sql: &str) -> Vec<String> {
    let rows: Vec<Name> = diesel::sql_query(sql).load(connection).await.unwrap();
    rows.into_iter().map(|row| row.name).collect()
}

async fn add_tenant(stores: &Stores) -> TenantId {
    let tenant = Uuid::now_v7();
    diesel::sql_query(
        "insert into tenants (tenant_id, name, mode, zone, created_at) values ($1, 'T', 'test', 'UTC', now())",
    )
    .bind::<SqlUuid, _>(tenant)
    .execute(&mut stores.superuser().await)
    .await
    .unwrap();
    TenantId::from_uuid(tenant)
}

/// A customer with an account and one transfer.
async fn add_transfer(stores: &Stores, tenant: TenantId) {
    let (tenant, customer) = (tenant.uuid(), Uuid::now_v7());
    stores
        .superuser()
        .await
        .batch_execute(&format!(
            "insert into customers values ('{tenant}', '{customer}', 'c', null, now());
             insert into credit_accounts (tenant_id, customer_id, last_recorded_at)
                 values ('{tenant}', '{customer}', now());
             insert into transfers values ('{tenant}', '{customer}', 1, 'overage', 'spent', null, 5, 'usage',
                 '{customer}', now(), now(), sha256(''));"
        ))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_that_diesel_sees_is_the_schema_of_the_migrations() {
    let stores = Stores::fresh().await;
    let real = names(
        &mut stores.superuser().await,
        "select table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable as name
         from information_schema.columns
         where table_schema = 'public' and table_name <> '__diesel_schema_migrations'
             and not (select relispartition from pg_class where oid = table_name::regclass)
         order by table_name, ordinal_position",
    )
    .await;
    let written = include_str!("../src/schema.rs");
    let mut seen: BTreeMap<String, ()> = BTreeMap::new();
    let mut table = String::new();
    for line in written.lines() {
        if line.starts_with("    ") && line.contains(" (") {
            table = line.trim().split(' ').next().unwrap().to_owned();
        } else if let Some((column, sql_type)) = line.trim().trim_end_matches(',').split_once(" -> ") {
            let (inner, nullable) = match sql_type.strip_prefix("Nullable<") {
                Some(inner) => (inner.strip_suffix('>').unwrap(), "YES"),
                None => (sql_type, "NO"),
            };
            let data_type = match inner {
                "Uuid" => "uuid",
                "Text" => "text",
                "BigInt" => "bigint",
                "Integer" => "integer",
                "SmallInt" => "smallint",
                "Bool" => "boolean",
                "Numeric" => "numeric",
                "Jsonb" => "jsonb",
                "Bytea" => "bytea",
                "Timestamptz" => "timestamp with time zone",
                array if array.starts_with("Array<") => "ARRAY",
                other => panic!("a type that this test does not know: {other}"),
            };
            seen.insert(format!("{table}.{column} {data_type} {nullable}"), ());
        }
    }
    let mut real_sorted = real.clone();
    real_sorted.sort();
    assert_eq!(seen.into_keys().collect::<Vec<_>>(), real_sorted);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_of_a_tenant_is_walled_in() {
    let stores = Stores::fresh().await;
    let mut superuser = stores.superuser().await;
    let open = names(
        &mut superuser,
        "select c.relname::text as name from pg_class c
         join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
         where c.relkind in ('r', 'p') and not (c.relrowsecurity and c.relforcerowsecurity)",
    )
    .await;
    assert_eq!(open, Vec::<String>::new(), "tables with a tenant and without forced row level security");
    let owned = names(
        &mut superuser,
        "select relname::text as name from pg_class where relowner = 'tollgate_app'::regrole",
    )
    .await;
    assert_eq!(owned, Vec::<String>::new(), "the application's role owns nothing");
    let keys_without_tenant = names(
        &mut superuser,
        "select c.conrelid::regclass::text || ' ' || c.conname::text as name from pg_constraint c
         join pg_attribute a on a.attrelid = c.conrelid and a.attname = 'tenant_id'
         where c.contype in ('p', 'u') and not (a.attnum = any (c.conkey))",
    )
    .await;
    assert_eq!(keys_without_tenant, ["api_keys api_keys_prefix_key"], "found before the tenant is known");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_sees_its_own_tenant_and_the_setting_does_not_outlive_it() {
    let stores = Stores::fresh().await;
    let (ours, theirs) = (add_tenant(&stores).await, add_tenant(&stores).await);
    let db = stores.db();
    for _ in 0..8 {
        for tenant in [ours, theirs] {
            let seen: Vec<Uuid> = db
                .transaction(tenant, async |tx| {
                    use diesel::QueryDsl;
                    Ok(db::schema::tenants::table
                        .select(db::schema::tenants::tenant_id)
                        .load::<Uuid>(tx)
                        .await?)
                })
                .await
                .unwrap();
            assert_eq!(seen, [tenant.uuid()]);
        }
    }
    let unset = db
        .all_tenants_transaction(async |tx| {
            tx.batch_execute("select set_config('tollgate.all_tenants', '', true)").await?;
            count(tx, "select count(*) as n from tenants").await
        })
        .await
        .unwrap();
    assert_eq!(unset, 0, "no tenant set: no rows");
    let written = db
        .transaction(ours, async |tx| {
            Ok(diesel::sql_query(format!(
                "update tenants set name = 'x' where tenant_id = '{}'",
                theirs.uuid()
            ))
            .execute(tx)
            .await?)
        })
        .await
        .unwrap();
    assert_eq!(written, 0, "another tenant's row cannot be reached");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_is_never_changed_not_even_by_the_owner() {
    let stores = Stores::fresh().await;
    let tenant = add_tenant(&stores).await;
    add_transfer(&stores, tenant).await;
    for attempt in ["update transfers set credits = 1", "delete from transfers", "truncate transfers"] {
        let as_owner = stores.superuser().await.batch_execute(attempt).await.unwrap_err().to_string();
        assert!(as_owner.contains("append-only"), "{attempt}: {as_owner}");
        let as_application =
            stores.db().transaction(tenant, async |tx| Ok(tx.batch_execute(attempt).await?)).await;
        let error = as_application.unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{attempt}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_run_again() {
    let stores = Stores::fresh().await;
    let (first, second) = (add_tenant(&stores).await, add_tenant(&stores).await);
    let db = stores.db();
    let runs = AtomicU32::new(0);
    // Two transactions lock the same two rows in opposite order; each waits before its second lock.
    let lock_both = async |order: [TenantId; 2]| {
        db.all_tenants_transaction(async |tx| {
            runs.fetch_add(1, Ordering::Relaxed);
            for tenant in order {
                tx.batch_execute(&format!(
                    "select * from tenants where tenant_id = '{}' for update; select pg_sleep(0.2)",
                    tenant.uuid()
                ))
                .await?;
            }
            Ok(())
        })
        .await
    };
    let (forth, back) = tokio::join!(lock_both([first, second]), lock_both([second, first]));
    forth.unwrap();
    back.unwrap();
    assert!(
        AtomicU32::load(&runs, Ordering::Relaxed) > 2,
        "one of them was the deadlock's victim and ran again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_past_its_deadline_is_an_outage_and_leaves_nothing() {
    let stores = Stores::fresh().await;
    let tenant = add_tenant(&stores).await;
    let db = db::Db::new(db::Options {
        url: stores.database_url.clone(),
        connections_max: 1,
        deadline: std::time::Duration::from_millis(300),
    })
    .unwrap();
    let late = db
        .transaction(tenant, async |tx| {
            tx.batch_execute("update tenants set name = 'late'; select pg_sleep(2)").await?;
            Ok(())
        })
        .await;
    assert!(matches!(late, Err(Error::Unavailable(_))), "{late:?}");
    let changed = db
        .transaction(tenant, async |tx| {
            count(tx, "select count(*) as n from tenants where name = 'late'").await
        })
        .await
        .unwrap();
    assert_eq!(changed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_for_a_connection_longer_than_a_request_does() {
    let stores = Stores::fresh().await;
    let tenant = add_tenant(&stores).await;
    let wait_for_the_only_connection = async |deadline_ms, held_seconds: f64| {
        let db = db::Db::new(db::Options {
            url: stores.database_url.clone(),
            connections_max: 1,
            deadline: std::time::Duration::from_millis(deadline_ms),
        })
        .unwrap();
        let is_taken = tokio::sync::Notify::new();
        let holder = db.transaction(tenant, async |tx| {
            is_taken.notify_one();
            tx.batch_execute(&format!("select pg_sleep({held_seconds})")).await?;
            Ok(())
        });
        let waiter = async {
            is_taken.notified().await;
            db.transaction(tenant, async |tx| count(tx, "select count(*) as n from tenants").await).await
        };
        tokio::join!(holder, waiter).1
    };
    // Half of their deadlines, and 10 s at most: 0.9 s and 10 s.
    let request = wait_for_the_only_connection(1_800, 5.0).await.unwrap_err().to_string();
    assert_eq!(request, "storage unavailable: every connection was in use for too long");
    assert_eq!(wait_for_the_only_connection(60_000, 1.2).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_may_take_as_long_to_make_as_a_transaction_may_take() {
    let stores = Stores::fresh().await;
    let tenant = add_tenant(&stores).await;
    // PostgreSQL itself waits four seconds before it begins with a connection.
    let and = if stores.database_url.contains('?') { '&' } else { '?' };
    let url = format!("{}{and}options=-c%20post_auth_delay%3D4", stores.database_url);
    let deadline = std::time::Duration::from_secs(7);
    let db = db::Db::new(db::Options { url, connections_max: 1, deadline }).unwrap();
    let tenants =
        db.transaction(tenant, async |tx| count(tx, "select count(*) as n from tenants").await).await;
    assert_eq!(tenants.unwrap(), 1);
}

/// On one thread: what happens to connections while that stands still is noticed by whoever uses them next.
#[tokio::test]
async fn connections_that_died_in_the_pool_fail_no_transaction() {
    let stores = Stores::fresh().await;
    let tenant = add_tenant(&stores).await;
    let db = stores.db();
    let all_there = tokio::sync::Barrier::new(4);
    let four_at_once = async || {
        let transactions = (0..4).map(|_| {
            db.transaction(tenant, async |tx| {
                all_there.wait().await;
                count(tx, "select pg_backend_pid()::bigint as n").await
            })
        });
        futures_util::future::try_join_all(transactions).await.unwrap()
    };
    let before = four_at_once().await;
    std::thread::scope(|scope| {
        let restart = async {
            let mut superuser = stores.superuser().await;
            for pid in &before {
                let closed = format!("select pg_terminate_backend({pid}, 5000)::int::bigint as n");
                assert_eq!(count(&mut superuser, &closed).await.unwrap(), 1);
            }
        };
        scope.spawn(|| tokio::runtime::Runtime::new().unwrap().block_on(restart));
    });

    let after = four_at_once().await;
    assert!(before.iter().all(|pid| !after.contains(pid)), "{before:?} and {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn migrating_again_does_nothing() {
    let stores = Stores::fresh().await;
    assert_eq!(db::migrate(&stores.superuser_url).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_no_wall_holds_is_refused() {
    let stores = Stores::fresh().await;
    stores.db().check_login().await.unwrap();
    let superuser = db::Db::new(db::Options {
        url: stores.superuser_url.clone(),
        connections_max: 1,
        deadline: std::time::Duration::from_secs(10),
    });
    let refused = superuser.unwrap().check_login().await.unwrap_err().to_string();
    assert!(refused.contains("superuser"), "{refused}");
}

#[test]
fn a_group_whose_columns_are_all_alike_is_sent_once_and_any_other_as_arrays() {
    let insert = |bands: [i64; 2]| {
        let rows = Rows::default().each([column::<Text, _>("id", vec!["a", "b"])]).once_if_alike([
            column::<Text, _>("model", vec!["m", "m"]),
            column::<BigInt, _>("band", bands.to_vec()),
        ]);
        debug_query::<Pg, _>(&rows.insert_into("events")).to_string()
    };
    assert_eq!(
        insert([7, 7]),
        "insert into events (id, model, band) select unnest($1) as id, $2 as model, $3 as band \
         -- binds: [[\"a\", \"b\"], \"m\", 7]"
    );
    assert_eq!(
        insert([7, 8]),
        "insert into events (id, model, band) select unnest($1) as id, unnest($2) as model, unnest($3) as band \
         -- binds: [[\"a\", \"b\"], [\"m\", \"m\"], [7, 8]]"
    );
}

#[test]
fn the_parameters_of_rows_come_after_those_of_the_query_they_are_in() {
    let rows = Rows::default()
        .each([column::<Text, _>("id", vec!["a"])])
        .once_if_alike([column::<BigInt, _>("spent", vec![7])]);
    let update = db::sql_query("update accounts a set spent = n.spent from (")
        .bind::<Text, _>("t")
        .rows(rows, ") n where a.tenant = $1 and a.id = n.id");
    assert_eq!(
        debug_query::<Pg, _>(&update).to_string(),
        "update accounts a set spent = n.spent from (select unnest($2) as id, $3 as spent) n \
         where a.tenant = $1 and a.id = n.id -- binds: [\"t\", [\"a\"], 7]"
    );
}
