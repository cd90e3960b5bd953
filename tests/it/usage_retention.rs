//! Usage that is old enough is dropped by the month; the ledger that it wrote stays, and nothing of it can be counted again.

use diesel_async::RunQueryDsl;
use serde_json::json;

use crate::support::{World, event};

const PATH: &str = "/v1/usage/events?backfill=true";

#[derive(diesel::QueryableByName)]
struct Rows {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    events: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    identities: i64,
}

async fn rows(world: &World) -> (i64, i64) {
    let query = "select (select count(*) from usage_events) as events,
        (select count(*) from usage_identities) as identities";
    let rows: Rows = diesel::sql_query(query).get_result(&mut world.stores.superuser().await).await.unwrap();
    (rows.events, rows.identities)
}

async fn drop_months(world: &World) -> u32 {
    world.usage().drop_months(chrono::Utc::now(), "2".parse().unwrap()).await.unwrap()
}

fn verify(world: &World) -> (bool, String) {
    let output = world.command("verify").arg("--no-park").output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test]
async fn a_dropped_month_leaves_its_transfers_and_cannot_be_counted_again() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    let bought = client.subscribe(&ada, "lite").await;
    let subscription = bought["subscription"]["id"].as_str().unwrap();
    let in_january = event("january", &ada, "mimo-v2-omni", json!({"input": 1_000}));
    let voided = event("voided", &ada, "mimo-v2-omni", json!({"input": 500}));
    client.post(PATH, in_january.clone()).await.expect(200);
    client.post(PATH, voided).await.expect(200);
    client
        .post("/v1/usage/events/voided/void?source=urn:test", json!({"reason": "counted twice"}))
        .await
        .expect(200);
    // The clock stands at 31 January; in February the same customer uses 2,000 Credits more.
    client.advance_to("2026-02-10T10:00:00Z").await;
    client.post(PATH, event("february", &ada, "mimo-v2-omni", json!({"input": 2_000}))).await.expect(200);
    client.post(PATH, event("unknown", &ada, "mimo-v9", json!({"input": 10}))).await.expect(202);
    assert_eq!(rows(&world).await, (4, 4));

    // February waits for a rate, so only January goes.
    assert_eq!(drop_months(&world).await, 1);
    assert_eq!(rows(&world).await, (2, 2));
    client.get("/v1/usage/events/january?source=urn:test").await.expect_problem(404, "not-found");
    client.get("/v1/usage/events/february?source=urn:test").await.expect(200);
    assert_eq!(client.available(&ada).await, 60_000_000 - 3_000);
    let statement =
        client.get(&format!("/v1/subscriptions/{subscription}/statement?cycle=0")).await.expect(200);
    assert_eq!((&statement["spent"], &statement["voided"]), (&json!(3_500), &json!(500)), "{statement}");
    let of_models: Vec<_> =
        statement["usage"].as_array().unwrap().iter().map(|of| (&of["model"], &of["spent"])).collect();
    assert_eq!(of_models, [(&json!(""), &json!(1_500)), (&json!("mimo-v2-omni"), &json!(2_000))]);
    let usage = format!("/v1/customers/{ada}/usage?from=2026-01-01T00:00:00Z&to=2026-02-20T00:00:00Z");
    assert_eq!(client.get(&usage).await.expect(200)["total"]["credits"], 3_000);

    // Sent again with its time, of which nobody knows any more whether it was counted.
    let mut again = in_january;
    again["time"] = json!("2026-01-31T10:00:00Z");
    client.post(PATH, again).await.expect_problem(422, "event-time-out-of-range");
    assert_eq!(client.available(&ada).await, 60_000_000 - 3_000);
    let (is_clean, said) = verify(&world);
    assert!(is_clean, "{said}");
    assert_eq!(drop_months(&world).await, 0, "there is nothing more to drop");

    // Once nothing of it waits any more, February goes too.
    let reason = json!({"reason": "a test of the gateway"});
    client.post("/v1/usage/events/unknown/void?source=urn:test", reason).await.expect(200);
    assert_eq!(drop_months(&world).await, 1);
    assert_eq!(rows(&world).await, (0, 0));
    assert_eq!(client.available(&ada).await, 60_000_000 - 3_000);
    let (is_clean, said) = verify(&world);
    assert!(is_clean, "{said}");
}
