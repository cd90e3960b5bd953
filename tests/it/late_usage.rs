//! Usage of a cycle that is over is charged to that cycle, and the next pool stays whole (R-19a, R-32).

use domain::policy::{LateUsage, Policies};
use serde_json::{Value, json};
use testkit::Stores;

use crate::support::{Client, World, event};

/// The first cycle of a customer who subscribes at the tests' start ends here.
const CYCLE_END: &str = "2026-02-28T10:00:00Z";

/// A call of 1,000 tokens in and 500 out at 2x: 3,000 Credits.
fn call(id: &str, customer: &str, time: Option<&str>, authorization: Option<&str>) -> Value {
    let mut call = event(id, customer, "mimo-v2-pro", json!({"input": 1_000, "output": 500}));
    for (field, value) in [("time", time), ("authorization", authorization)] {
        if let Some(value) = value {
            call[field] = json!(value);
        }
    }
    call
}

/// Of each grant: spent, expired, remaining.
async fn parts(client: &Client, customer: &str) -> Vec<[i64; 3]> {
    let part = |grant: &Value, name: &str| grant[name].as_i64().unwrap();
    let grants = client.grants(customer).await;
    grants.iter().map(|grant| ["spent", "expired", "remaining"].map(|name| part(grant, name))).collect()
}

async fn subscriber(client: &Client) -> String {
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    customer
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_authorized_just_before_the_rollover_charges_the_old_cycle_after_it() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = subscriber(client).await;
    client.advance_to("2026-02-28T09:59:50Z").await;
    client.authorize("call", &customer, "mimo-v2-pro", 1_000, 500).await.expect(201);
    client.advance_to("2026-02-28T10:00:05Z").await;
    assert_eq!(parts(client, &customer).await, [[0, 60_000_000, 0], [0, 0, 60_000_000]]);

    let usage = call("1", &customer, None, Some("call"));
    let answer = client.post("/v1/usage/events", usage.clone()).await.expect(200);
    assert_eq!(answer["receipt"]["credits"], 3_000);
    assert_eq!(answer["receipt"]["overage"], 0);
    let expected = [[3_000, 59_997_000, 0], [0, 0, 60_000_000]];
    assert_eq!(parts(client, &customer).await, expected);
    assert_eq!(client.available(&customer).await, 60_000_000);
    let transfers = client.transfers(&customer).await;
    let moved: Vec<_> = transfers
        .iter()
        .map(|of| [&of["version"], &of["debit"], &of["credit"], &of["credits"], &of["reverses"]])
        .map(|of| json!(of))
        .collect();
    assert_eq!(
        json!(moved),
        json!([
            [1, "issued", "available", 60_000_000, null],
            [2, "available", "expired", 60_000_000, null],
            [3, "issued", "available", 60_000_000, null],
            [4, "expired", "available", 3_000, 2],
            [5, "available", "spent", 3_000, null],
        ])
    );
    assert_eq!(transfers[3]["cause"], transfers[4]["cause"], "both are the event's");

    let again = client.post("/v1/usage/events", usage).await.expect(200);
    assert_eq!(again["status"], "duplicate");
    assert_eq!(parts(client, &customer).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_the_same_when_the_expiry_is_booked_after_the_charge() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = subscriber(client).await;
    client.advance_to("2026-02-28T09:59:50Z").await;
    client.authorize("call", &customer, "mimo-v2-pro", 1_000, 500).await.expect(201);
    // The clock alone: nothing that is due by it is done.
    client.set_clock("2026-02-28T10:00:05Z").await;
    client.post("/v1/usage/events", call("1", &customer, None, Some("call"))).await.expect(200);
    assert_eq!(parts(client, &customer).await, [[3_000, 0, 59_997_000]]);
    client.advance_to("2026-02-28T10:00:06Z").await;
    assert_eq!(parts(client, &customer).await, [[3_000, 59_997_000, 0], [0, 0, 60_000_000]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_authorization_an_hour_after_the_cycle_is_in_time_and_a_second_more_is_not() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = subscriber(client).await;
    client.advance_to("2026-02-28T11:00:00Z").await;
    let before_the_end = Some("2026-02-28T09:59:59Z");
    client.post("/v1/usage/events", call("in-time", &customer, before_the_end, None)).await.expect(200);
    assert_eq!(parts(client, &customer).await, [[3_000, 59_997_000, 0], [0, 0, 60_000_000]]);
    // The end itself is the next cycle's.
    client.post("/v1/usage/events", call("at-the-end", &customer, Some(CYCLE_END), None)).await.expect(200);
    assert_eq!(parts(client, &customer).await, [[3_000, 59_997_000, 0], [3_000, 0, 59_997_000]]);

    client.advance_to("2026-02-28T11:00:01Z").await;
    client.post("/v1/usage/events", call("late", &customer, before_the_end, None)).await.expect(200);
    assert_eq!(parts(client, &customer).await, [[3_000, 59_997_000, 0], [6_000, 0, 59_994_000]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_may_absorb_what_comes_after_a_grace_of_its_own() {
    let policies = Policies { late_grace_minutes: 5, late_usage: LateUsage::Absorb, ..Policies::default() };
    let world = World::on(Stores::fresh().await, policies).await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = subscriber(client).await;
    client.advance_to("2026-02-28T10:05:01Z").await;
    let before_the_end = Some("2026-02-28T09:59:59Z");
    let late =
        client.post("/v1/usage/events", call("late", &customer, before_the_end, None)).await.expect(200);
    assert_eq!((&late["receipt"]["credits"], &late["receipt"]["overage"]), (&json!(3_000), &json!(3_000)));
    assert_eq!(parts(client, &customer).await, [[0, 60_000_000, 0], [0, 0, 60_000_000]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_cycle_cannot_pay_is_overage_and_not_the_new_pools() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = subscriber(client).await;
    // 59,998,000 of 60,000,000 Credits.
    for (id, output) in [("a", 20_000_000), ("b", 9_999_000)] {
        let usage = json!({"input": 0, "output": output});
        client.post("/v1/usage/events", event(id, &customer, "mimo-v2-pro", usage)).await.expect(200);
    }
    client.advance_to("2026-02-28T10:00:05Z").await;
    let before_the_end = Some("2026-02-28T09:59:59Z");
    let late =
        client.post("/v1/usage/events", call("late", &customer, before_the_end, None)).await.expect(200);
    assert_eq!(late["receipt"]["overage"], 1_000);
    // A cycle that was spent whole stays closed all the same.
    let more =
        client.post("/v1/usage/events", call("more", &customer, before_the_end, None)).await.expect(200);
    assert_eq!(more["receipt"]["overage"], 3_000);
    assert_eq!(parts(client, &customer).await, [[60_000_000, 0, 0], [0, 0, 60_000_000]]);
}
