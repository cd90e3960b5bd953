//! Idempotency keys on a real database: a request sent again has one effect and one answer.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use db::{Connection, Db, Error};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::id::TenantId;
use domain::{Refusal, Timestamp};
use idempotency::{Answer, Claim, Idempotency, RequestKey, claim};
use serde_json::{Value, json};
use testkit::Stores;
use tokio::sync::Notify;
use uuid::Uuid;

fn at(second: i64) -> Timestamp {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

const DAY: i64 = 86_400;

/// A request under the key `k`.
fn request(body: &str) -> RequestKey {
    request_under("k", body)
}

fn request_under(key: &str, body: &str) -> RequestKey {
    let body: Value = serde_json::from_str(body).unwrap();
    RequestKey::new(Some(key), "POST", "/v1/subscriptions", &body).unwrap()
}

fn answer(status: u16, plan: &str) -> Answer {
    Answer { status, body: json!({ "plan": plan }) }
}

const LITE: &str = r#"{"plan":"lite","customer":"c"}"#;
const PRO: &str = r#"{"plan":"pro","customer":"c"}"#;

/// A tenant, and another one.
struct Given {
    stores: Stores,
    db: Db,
    idempotency: Idempotency,
    tenant: TenantId,
    other: TenantId,
}

async fn given() -> Given {
    let stores = Stores::fresh().await;
    // As many claims at once as there are connections: the rest wait for one.
    let db = Db::new(db::Options {
        url: stores.database_url.clone(),
        connections_max: 10,
        deadline: Duration::from_secs(10),
    })
    .unwrap();
    let (tenant, other) = (add_tenant(&stores, None).await, add_tenant(&stores, None).await);
    Given { idempotency: Idempotency::new(db.clone()), stores, db, tenant, other }
}

async fn add_tenant(stores: &Stores, clock_at: Option<Timestamp>) -> TenantId {
    let tenant = Uuid::now_v7();
    diesel::sql_query(
        "insert into tenants (tenant_id, name, mode, zone, clock_at, created_at) \
         values ($1, 'T', 'test', 'UTC', $2, now())",
    )
    .bind::<SqlUuid, _>(tenant)
    .bind::<Nullable<Timestamptz>, _>(clock_at)
    .execute(&mut stores.superuser().await)
    .await
    .unwrap();
    TenantId::from_uuid(tenant)
}

impl Given {
    /// Claims in a transaction of its own and creates nothing.
    async fn claim(&self, request: &RequestKey, fact: Uuid, now: Timestamp) -> db::Result<Claim> {
        let tenant = self.tenant;
        self.db.transaction(tenant, async |tx| claim(tx, tenant, request, fact, now).await).await
    }

    async fn replay(&self, request: &RequestKey, now: Timestamp) -> Option<Answer> {
        self.idempotency.replay(self.tenant, request, now).await.unwrap()
    }

    async fn remember(&self, request: &RequestKey, answer: &Answer) -> Answer {
        self.idempotency.remember(self.tenant, request, answer.clone()).await.unwrap()
    }

    async fn count(&self, sql: &str) -> i64 {
        #[derive(QueryableByName)]
        struct Count {
            #[diesel(sql_type = BigInt)]
            n: i64,
        }
        let row: Count = diesel::sql_query(sql).get_result(&mut self.stores.superuser().await).await.unwrap();
        row.n
    }
}

/// What a verb would create: a customer stands for it here.
async fn create(tx: &mut Connection, tenant: TenantId, fact: Uuid) -> db::Result<()> {
    diesel::sql_query(
        "insert into customers (tenant_id, customer_id, external_id, created_at) values ($1, $2, $3, now())",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(fact)
    .bind::<Text, _>(fact.to_string())
    .execute(tx)
    .await?;
    Ok(())
}

#[track_caller]
fn assert_reused<T: std::fmt::Debug>(result: db::Result<T>) {
    assert!(matches!(result, Err(Error::Refused(Refusal::IdempotencyKeyReused))), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_50_tries_at_once_one_creates_and_all_others_find_what_it_created() {
    let given = given().await;
    let tries = (0..50).map(|_| {
        let (db, tenant, fact) = (given.db.clone(), given.tenant, Uuid::now_v7());
        tokio::spawn(async move {
            let request = request(LITE);
            loop {
                let claimed = db
                    .transaction(tenant, async |tx| {
                        let claim = claim(tx, tenant, &request, fact, at(0)).await?;
                        if claim == Claim::New {
                            create(tx, tenant, fact).await?;
                        }
                        Ok(claim)
                    })
                    .await;
                match claimed {
                    // On a slow machine some wait in vain for a connection, and ask again.
                    Err(Error::Unavailable(_)) => {}
                    claimed => break (fact, claimed.unwrap()),
                }
            }
        })
    });
    let (mut created, mut found) = (Vec::new(), Vec::new());
    for attempt in tries.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            (fact, Claim::New) => created.push(fact),
            (_, Claim::Unfinished { fact }) => found.push(fact),
        }
    }
    assert_eq!(created.len(), 1);
    assert_eq!(found, vec![created[0]; 49]);
    assert_eq!(given.count("select count(*) as n from customers").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stands_for_one_request_however_that_is_written_down() {
    let given = given().await;
    let fact = Uuid::now_v7();
    assert_eq!(given.claim(&request(LITE), fact, at(0)).await.unwrap(), Claim::New);
    let rewritten = request(r#" { "customer" : "c",  "plan" : "lite" } "#);
    let again = given.claim(&rewritten, Uuid::now_v7(), at(1)).await.unwrap();
    assert_eq!(again, Claim::Unfinished { fact });

    assert_reused(given.claim(&request(PRO), Uuid::now_v7(), at(1)).await);
    assert_reused(given.idempotency.replay(given.tenant, &request(PRO), at(1)).await);
    given.remember(&request(PRO), &answer(201, "pro")).await;
    assert_eq!(given.replay(&rewritten, at(1)).await, None, "another request's answer is not kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_back_try_frees_its_key_for_the_one_that_waited() {
    let given = given().await;
    let (claimed, fail) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let first = {
        let (db, tenant) = (given.db.clone(), given.tenant);
        let (claimed, fail) = (claimed.clone(), fail.clone());
        tokio::spawn(async move {
            db.transaction(tenant, async |tx| {
                let fact = Uuid::now_v7();
                assert_eq!(claim(tx, tenant, &request(LITE), fact, at(0)).await?, Claim::New);
                create(tx, tenant, fact).await?;
                claimed.notify_one();
                fail.notified().await;
                Err::<(), _>(Refusal::UnknownPlan.into())
            })
            .await
        })
    };
    claimed.notified().await;
    // A corrected request, under the same key.
    let corrected = request(PRO);
    let mut second = std::pin::pin!(given.claim(&corrected, Uuid::now_v7(), at(1)));
    let waited = tokio::time::timeout(Duration::from_millis(200), &mut second).await;
    assert!(waited.is_err(), "it waits for the first one's end");
    fail.notify_one();
    assert_eq!(second.await.unwrap(), Claim::New);
    first.await.unwrap().unwrap_err();
    assert_eq!(given.count("select count(*) as n from customers").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_answered_as_the_first_try_was() {
    let given = given().await;
    let request = request(LITE);
    given.remember(&request, &answer(201, "lite")).await;
    assert_eq!(given.replay(&request, at(0)).await, None, "what was never claimed is not kept");

    given.claim(&request, Uuid::now_v7(), at(0)).await.unwrap();
    assert_eq!(given.replay(&request, at(1)).await, None, "no answer yet");
    assert_eq!(given.remember(&request, &answer(402, "lite")).await, answer(402, "lite"));
    let of_another_try = given.remember(&request, &answer(201, "max")).await;
    assert_eq!(of_another_try, answer(402, "lite"), "two tries at once are answered alike");
    assert_eq!(given.replay(&request, at(2)).await, Some(answer(402, "lite")), "the first answer stays");
    assert_eq!(given.replay(&request_under("k2", LITE), at(2)).await, None, "another key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_kept_for_24_hours_and_free_after_that() {
    let given = given().await;
    let (old, new, fact) = (request(LITE), request(PRO), Uuid::now_v7());
    given.claim(&old, fact, at(0)).await.unwrap();
    given.remember(&old, &answer(201, "lite")).await;
    assert_eq!(given.replay(&old, at(DAY)).await, Some(answer(201, "lite")));
    assert_eq!(given.claim(&old, Uuid::now_v7(), at(DAY)).await.unwrap(), Claim::Unfinished { fact });
    assert_reused(given.claim(&new, Uuid::now_v7(), at(DAY)).await);

    let past = at(DAY) + TimeDelta::microseconds(1);
    assert_eq!(given.replay(&old, past).await, None);
    assert_eq!(given.claim(&new, Uuid::now_v7(), past).await.unwrap(), Claim::New);
    assert_eq!(given.replay(&new, past).await, None, "the old answer went with the old request");
    given.remember(&old, &answer(201, "lite")).await;
    assert_eq!(given.replay(&new, past).await, None, "nor does it come back");
    assert_reused(given.idempotency.replay(given.tenant, &old, past).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_keys_are_pruned_by_their_tenants_own_time() {
    let given = given().await;
    // A day behind the others.
    let slow = add_tenant(&given.stores, Some(at(0))).await;
    let past = at(DAY) + TimeDelta::microseconds(1);
    for tenant in [given.tenant, given.other, slow] {
        given
            .db
            .transaction(tenant, async |tx| {
                claim(tx, tenant, &request_under("old", LITE), Uuid::now_v7(), at(0)).await?;
                claim(tx, tenant, &request_under("new", LITE), Uuid::now_v7(), at(1)).await
            })
            .await
            .unwrap();
    }
    assert_eq!(given.idempotency.prune(at(DAY)).await.unwrap(), 0);
    assert_eq!(given.idempotency.prune(past).await.unwrap(), 2, "`old`, of the two in real time");
    let sql = format!(
        "select count(*) as n from idempotency_keys where key = 'new' or tenant_id = '{}'",
        slow.uuid()
    );
    assert_eq!(given.count(&sql).await, 4);
    assert_eq!(given.count("select count(*) as n from idempotency_keys").await, 4);
}

/// A-4.
#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_key_is_nothing_to_us() {
    let given = given().await;
    let (request, other) = (request(LITE), given.other);
    given.claim(&request, Uuid::now_v7(), at(0)).await.unwrap();
    given.remember(&request, &answer(201, "ours")).await;

    assert_eq!(given.idempotency.replay(other, &request, at(0)).await.unwrap(), None);
    let fact = Uuid::now_v7();
    let theirs =
        given.db.transaction(other, async |tx| claim(tx, other, &request, fact, at(0)).await).await.unwrap();
    assert_eq!(theirs, Claim::New);
    given.idempotency.remember(other, &request, answer(201, "theirs")).await.unwrap();
    assert_eq!(given.replay(&request, at(0)).await, Some(answer(201, "ours")));
    let replayed = given.idempotency.replay(other, &request, at(0)).await.unwrap();
    assert_eq!(replayed, Some(answer(201, "theirs")));
}
