//! The outbox on a real database: an event exists exactly when its cause does.

use chrono::DateTime;
use db::Error;
use diesel::QueryableByName;
use diesel::sql_types::{Jsonb, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::Timestamp;
use domain::id::TenantId;
use outbox::{NewEvent, emit};
use serde_json::{Value, json};
use testkit::Stores;
use uuid::Uuid;

fn at(second: i64) -> Timestamp {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn event(subject: &str) -> NewEvent {
    NewEvent {
        kind: "subscription.activated",
        subject: subject.to_owned(),
        payload: json!({ "plan": "lite", "credits": 60_000_000 }),
    }
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

#[derive(Debug, PartialEq, QueryableByName)]
struct Stored {
    #[diesel(sql_type = SqlUuid)]
    tenant_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    subject: String,
    #[diesel(sql_type = Jsonb)]
    payload: Value,
    #[diesel(sql_type = Timestamptz)]
    occurred_at: Timestamp,
}

async fn stored(stores: &Stores) -> Vec<Stored> {
    diesel::sql_query("select * from outbox where dispatched_at is null order by event_id")
        .load(&mut stores.superuser().await)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_stored_with_its_transaction_and_not_without() {
    let stores = Stores::fresh().await;
    let (db, tenant) = (stores.db(), add_tenant(&stores).await);
    let rolled_back = db
        .transaction(tenant, async |tx| {
            emit(tx, tenant, event("sub_1"), at(1)).await?;
            Err::<(), _>(Error::broken("the cause failed"))
        })
        .await;
    rolled_back.unwrap_err();
    assert_eq!(stored(&stores).await, []);

    let id = db.transaction(tenant, async |tx| emit(tx, tenant, event("sub_2"), at(2)).await).await.unwrap();
    let expected = Stored {
        tenant_id: tenant.uuid(),
        event_id: id.uuid(),
        kind: "subscription.activated".to_owned(),
        subject: "sub_2".to_owned(),
        payload: json!({ "plan": "lite", "credits": 60_000_000 }),
        occurred_at: at(2),
    };
    assert_eq!(stored(&stores).await, [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_emitted_for_a_tenant_in_the_transaction_of_another() {
    let stores = Stores::fresh().await;
    let (db, ours, theirs) = (stores.db(), add_tenant(&stores).await, add_tenant(&stores).await);
    let emitted = db
        .transaction(ours, async |tx| {
            emit(tx, ours, event("sub_1"), at(1)).await?;
            emit(tx, theirs, event("sub_1"), at(1)).await
        })
        .await;
    let error = emitted.unwrap_err().to_string();
    assert!(error.contains("row-level security"), "{error}");
    assert_eq!(stored(&stores).await, [], "nor is what came before it");
}
