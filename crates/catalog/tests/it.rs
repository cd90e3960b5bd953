//! Catalogue versions on a real database: published once, never changed, served from memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::{Catalogs, REFERENCE, parse};
use chrono::DateTime;
use db::{Db, Error};
use diesel::QueryableByName;
use diesel::sql_types::{Integer, Timestamptz, Uuid as SqlUuid};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use domain::catalog::{Catalog, CatalogDocument};
use domain::id::TenantId;
use domain::{Currency, Refusal, Timestamp};
use testkit::{LoneServers, Stores};
use uuid::Uuid;

fn at(second: i64) -> Timestamp {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

/// The reference catalogue with Lite at this price.
fn document(lite_usd_cents: i64) -> CatalogDocument {
    let mut document = parse(REFERENCE).unwrap();
    document.plans[0].prices_minor.insert(Currency::Usd, lite_usd_cents);
    document
}

fn lite_usd_cents(catalog: &Catalog) -> i64 {
    catalog.plan("lite").unwrap().prices_minor[&Currency::Usd]
}

/// A tenant, and a server's catalogues.
struct Given {
    stores: Stores,
    db: Db,
    catalogs: Catalogs,
    tenant: TenantId,
}

async fn given(stores: Stores) -> Given {
    let tenant = add_tenant(&stores).await;
    let db = stores.db();
    Given { catalogs: Catalogs::new(db.clone()), stores, db, tenant }
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

impl Given {
    async fn publish(&self, lite_usd_cents: i64, effective_at: Timestamp) -> db::Result<Arc<Catalog>> {
        self.catalogs.publish(self.tenant, document(lite_usd_cents), effective_at, at(0)).await
    }

    /// What another server sees.
    fn other_catalogs(&self) -> Catalogs {
        Catalogs::new(self.stores.db())
    }

    /// The price of Lite in the version in force at an instant.
    async fn lite_at(&self, second: i64) -> Option<i64> {
        let history = self.catalogs.history(self.tenant).await.unwrap();
        history.at(at(second)).map(|catalog| lite_usd_cents(catalog))
    }

    /// Version and effective instant of what is stored.
    async fn stored(&self) -> Vec<(i32, Timestamp)> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Integer)]
            version: i32,
            #[diesel(sql_type = Timestamptz)]
            effective_at: Timestamp,
        }
        let rows: Vec<Row> = diesel::sql_query(
            "select version, effective_at from catalog_versions where tenant_id = $1 order by version",
        )
        .bind::<SqlUuid, _>(self.tenant.uuid())
        .load(&mut self.stores.superuser().await)
        .await
        .unwrap();
        rows.into_iter().map(|row| (row.version, row.effective_at)).collect()
    }

    async fn change_by_hand(&self, sql: &str) {
        self.stores.superuser().await.batch_execute(sql).await.unwrap();
    }
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(result: db::Result<T>) -> Refusal {
    match result {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_is_in_force_from_its_instant_on_and_the_old_one_before() {
    let given = given(Stores::fresh().await).await;
    assert_eq!(given.lite_at(1_000).await, None, "nothing is published");
    assert_eq!(given.publish(600, at(10)).await.unwrap().version(), 1);
    assert_eq!(given.publish(700, at(20)).await.unwrap().version(), 2);
    let mut prices = Vec::new();
    for second in [9, 10, 19, 20] {
        prices.push(given.lite_at(second).await);
    }
    assert_eq!(prices, [None, Some(600), Some(600), Some(700)]);

    let read_anew = given.other_catalogs().history(given.tenant).await.unwrap();
    let served = given.catalogs.history(given.tenant).await.unwrap();
    for version in [1, 2] {
        assert_eq!(read_anew.version(version), served.version(version), "as stored, so served");
    }
    assert_eq!(lite_usd_cents(read_anew.version(1).unwrap()), 600, "what was bought stays readable");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_document_again_changes_nothing() {
    let given = given(Stores::fresh().await).await;
    let first = given.publish(600, at(10)).await.unwrap();
    for effective_at in [at(0), at(10), at(20)] {
        assert_eq!(given.publish(600, effective_at).await.unwrap(), first);
    }
    assert_eq!(given.stored().await, [(1, at(10))]);
    given.publish(700, at(20)).await.unwrap();
    assert_eq!(given.publish(600, at(30)).await.unwrap().version(), 3, "back to an older price is a change");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_later_or_makes_no_sense_or_has_no_tenant_is_refused() {
    let given = given(Stores::fresh().await).await;
    given.publish(600, at(10)).await.unwrap();
    for effective_at in [at(9), at(10)] {
        assert_eq!(refusal(given.publish(700, effective_at).await), Refusal::CatalogNotLater);
    }
    let mut twice = document(700);
    twice.plans[1].code = "lite".to_owned();
    let refused = refusal(given.catalogs.publish(given.tenant, twice, at(20), at(0)).await);
    let Refusal::InvalidCatalog { problems } = refused else { panic!("{refused:?}") };
    assert!(problems.contains(&"plan lite appears twice".to_owned()), "{problems:?}");
    assert_eq!(given.stored().await, [(1, at(10))]);

    let nobody = TenantId::from_uuid(Uuid::now_v7());
    let refused = refusal(given.catalogs.publish(nobody, document(600), at(10), at(0)).await);
    assert_eq!(refused, Refusal::NotFound { what: "tenant" });
}

#[tokio::test(flavor = "multi_thread")]
async fn publishers_at_once_leave_versions_without_holes_in_the_order_of_their_instants() {
    let given = given(Stores::fresh().await).await;
    let servers = [given.catalogs.clone(), given.other_catalogs()];
    // No more than the servers have connections.
    let publishers = (0..8).map(|n| {
        let (catalogs, tenant) = (servers[n % 2].clone(), given.tenant);
        let n = i64::try_from(n).unwrap();
        tokio::spawn(async move { catalogs.publish(tenant, document(600 + n), at(n), at(0)).await })
    });
    let mut published = Vec::new();
    for publisher in publishers.collect::<Vec<_>>() {
        match publisher.await.unwrap() {
            Ok(catalog) => {
                published.push((i32::try_from(catalog.version()).unwrap(), catalog.effective_at()))
            }
            Err(Error::Refused(Refusal::CatalogNotLater)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    published.sort_unstable();
    let stored = given.stored().await;
    assert_eq!(stored, published, "who was told a version has it");
    assert!(stored.iter().map(|(version, _)| *version).eq(1..=i32::try_from(stored.len()).unwrap()));
    assert!(stored.is_sorted_by_key(|(_, effective_at)| effective_at), "{stored:?}");
    assert_eq!(stored.last().unwrap().1, at(7), "the latest is refused in no order");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_that_load_the_same_file_at_once_publish_it_once() {
    let given = given(Stores::fresh().await).await;
    let other = given.other_catalogs();
    let (one, two) =
        tokio::join!(given.publish(600, at(10)), other.publish(given.tenant, document(600), at(11), at(1)),);
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(given.stored().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_sees_a_new_version_within_a_second() {
    let given = given(Stores::fresh().await).await;
    given.publish(600, at(10)).await.unwrap();
    let other = given.other_catalogs();
    assert_eq!(other.history(given.tenant).await.unwrap().latest().unwrap().version(), 1);
    given.publish(700, at(20)).await.unwrap();
    assert_eq!(given.lite_at(20).await, Some(700), "at once where it was published");
    let published_at = Instant::now();
    while other.history(given.tenant).await.unwrap().latest().unwrap().version() == 1 {
        // A second, and some for the query on a busy machine.
        assert!(published_at.elapsed() < Duration::from_millis(1_500), "still the old version");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let history = other.history(given.tenant).await.unwrap();
    assert_eq!(history.version(1).map(|catalog| lite_usd_cents(catalog)), Some(600), "and keeps the old one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_version_cannot_be_changed_by_the_application() {
    let given = given(Stores::fresh().await).await;
    given.publish(600, at(10)).await.unwrap();
    for attempt in [
        "update catalog_versions set document = '{}'",
        "delete from catalog_versions",
        "truncate catalog_versions",
    ] {
        let changed =
            given.db.transaction(given.tenant, async |tx| Ok(tx.batch_execute(attempt).await?)).await;
        let error = changed.unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{attempt}: {error}");
    }
    assert_eq!(given.other_catalogs().history(given.tenant).await.unwrap().latest().unwrap().version(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_what_is_known_is_served_and_nothing_is_made_up() {
    let lone = LoneServers::start("catalog").await;
    let given = given(lone.stores()).await;
    given.publish(600, at(10)).await.unwrap();
    assert_eq!(given.lite_at(10).await, Some(600));

    lone.servers().stop_postgres().unwrap();
    // From here on it asks for newer versions, in vain.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(given.lite_at(10).await, Some(600));
    let unknown = given.catalogs.history(TenantId::from_uuid(Uuid::now_v7())).await;
    assert!(matches!(unknown, Err(Error::Unavailable(_))), "{unknown:?}");
    let published = given.publish(700, at(20)).await;
    assert!(matches!(published, Err(Error::Unavailable(_))), "{published:?}");
    assert_eq!(given.lite_at(20).await, Some(600), "a publish in vain forgets nothing");

    lone.servers().start_postgres().unwrap();
    given.publish(700, at(20)).await.unwrap();
    assert_eq!(given.lite_at(20).await, Some(700));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_changed_by_hand_into_nonsense_is_a_fault_and_never_served() {
    let given = given(Stores::fresh().await).await;
    let healthy = add_tenant(&given.stores).await;
    given.catalogs.publish(healthy, document(600), at(10), at(0)).await.unwrap();
    given.publish(600, at(10)).await.unwrap();
    given.lite_at(10).await;
    let ours = format!("where tenant_id = '{}'", given.tenant.uuid());
    for (nonsense, why) in [
        ("jsonb_set(document, '{plans,1,code}', '\"lite\"')", "plan lite appears twice"),
        ("jsonb_set(document, '{plans,0,rank}', '\"first\"')", "invalid type"),
        ("'{}'", "missing field"),
    ] {
        given.change_by_hand(&format!("update catalog_versions set document = {nonsense} {ours}")).await;
        let error = given.other_catalogs().history(given.tenant).await.unwrap_err();
        assert!(matches!(error, Error::Fault(_)), "{error}");
        assert!(error.to_string().contains("stored catalogue version 1"), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    let error = given.publish(700, at(20)).await.unwrap_err();
    assert!(matches!(error, Error::Fault(_)), "nothing is built on it: {error}");
    assert_eq!(given.lite_at(10).await, Some(600), "memory has the true one");
    assert!(given.other_catalogs().history(healthy).await.is_ok(), "another tenant does not notice");
}
