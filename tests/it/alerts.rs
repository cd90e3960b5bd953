//! Somebody is told when a balance crosses a threshold, is used up, or recovers: once each, and again next cycle.

use diesel::sql_types::{Jsonb, Text};
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use crate::campaigns::until_done;
use crate::support::{World, event, subscribe};

/// The balance events so far: what happened, at which threshold, and what was available.
async fn told(world: &World) -> Vec<Value> {
    #[derive(diesel::QueryableByName)]
    struct Told {
        #[diesel(sql_type = Text)]
        kind: String,
        #[diesel(sql_type = Jsonb)]
        payload: Value,
    }
    let mut superuser = world.stores.superuser().await;
    let told: Vec<Told> =
        diesel::sql_query("select kind, payload from outbox where kind like 'balance.%' order by event_id")
            .load(&mut superuser)
            .await
            .unwrap();
    told.iter().map(|of| json!([of.kind, of.payload["threshold"], of.payload["available"]])).collect()
}

#[tokio::test]
async fn each_threshold_is_told_once_and_of_several_the_most_severe() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    // 60,000,000 Credits; the thresholds are 50, 80 and 95 percent.
    client.subscribe(&ada, "lite").await;
    let spend = async |id: &str, credits: u64| {
        let spent = event(id, &ada, "mimo-v2-omni", json!({"input": 0, "output": credits}));
        client.post("/v1/usage/events", spent).await.expect(200);
    };
    spend("a", 29_999_999).await;
    assert!(told(&world).await.is_empty());
    spend("b", 1).await;
    spend("b", 1).await;
    let mut expected = vec![json!(["balance.dropped", {"used_percent": 50}, 30_000_000])];
    assert_eq!(told(&world).await, expected, "the repeat tells nothing");
    // Past 80 and 95 at once.
    spend("c", 28_000_000).await;
    expected.push(json!(["balance.dropped", {"used_percent": 95}, 2_000_000]));
    spend("d", 1_000_000).await;
    assert_eq!(told(&world).await, expected);
    spend("e", 5_000_000).await;
    spend("f", 5_000_000).await;
    expected.push(json!(["balance.depleted", null, 0]));
    assert_eq!(told(&world).await, expected, "overage is not told again");

    client.advance_to("2026-02-28T10:00:00Z").await;
    expected.push(json!(["balance.recovered", null, 60_000_000]));
    assert_eq!(told(&world).await, expected);
    spend("g", 30_000_000).await;
    expected.push(json!(["balance.dropped", {"used_percent": 50}, 30_000_000]));
    assert_eq!(told(&world).await, expected, "armed again");
}

#[tokio::test]
async fn only_what_was_used_up_recovers_and_whatever_fills_it_tells_so() {
    let world = World::new().await;
    let server = world.serve().await;
    let _worker = world.work();
    let client = &server.client;
    let ada = client.customer("ada").await;
    let recovered = |available: i64| json!(["balance.recovered", null, available]);
    let spend_all = async |id: &str| {
        let credits = client.available(&ada).await;
        let spent = event(id, &ada, "mimo-v2-omni", json!({"input": 0, "output": credits}));
        client.post("/v1/usage/events", spent).await.expect(200);
    };

    // Nothing had been used when the first cycle ended: the second one is no recovery.
    client.subscribe(&ada, "lite").await;
    client.advance_to("2026-02-28T10:00:00Z").await;
    assert_eq!((told(&world).await, client.available(&ada).await), (vec![], 60_000_000));

    spend_all("a").await;
    let mut expected = vec![json!(["balance.depleted", null, 0])];
    let gift = json!({"source": "promotion", "credits": 100, "reason": "sorry"});
    client.post(&format!("/v1/customers/{ada}/grants"), gift.clone()).await.expect(201);
    expected.push(recovered(100));
    client.post(&format!("/v1/customers/{ada}/grants"), gift).await.expect(201);
    assert_eq!(told(&world).await, expected, "and more of it is not told");

    spend_all("b").await;
    expected.push(json!(["balance.depleted", null, 0]));
    let campaign = json!({"tag": "spring", "credits": 300, "reason": "spring", "customers": [ada]});
    let campaign = client.post("/v1/campaigns", campaign).await.expect(202);
    until_done(client, &campaign).await;
    expected.push(recovered(300));
    assert_eq!(told(&world).await, expected);

    spend_all("c").await;
    expected.push(json!(["balance.depleted", null, 0]));
    let top_up = json!({"customer": ada, "top_up": "topup-10m", "currency": "USD", "payment_method": "pm_sandbox_succeeds"});
    client.post("/v1/top-ups", top_up).await.expect(201);
    expected.push(recovered(10_000_000));
    assert_eq!(told(&world).await, expected);

    // What an operator takes is not used up.
    let grants = client.grants(&ada).await;
    let bought = grants.iter().find(|grant| grant["remaining"] == 10_000_000).unwrap();
    let revoke = format!("/v1/customers/{ada}/grants/{}/revoke", bought["id"].as_str().unwrap());
    client.post(&revoke, json!({"reason": "a mistake"})).await.expect(200);
    client.advance_to("2026-03-31T10:00:00Z").await;
    assert_eq!((told(&world).await, client.available(&ada).await), (expected, 60_000_000));
}

#[tokio::test]
async fn of_a_year_the_next_cycle_is_a_recovery_where_the_last_one_was_used_up() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    let mut a_year = subscribe(&ada, "lite", "pm_sandbox_succeeds");
    a_year["term"] = json!("annual");
    client.post("/v1/subscriptions", a_year).await.expect(201);
    client.advance_to("2026-02-28T10:00:00Z").await;
    assert!(told(&world).await.is_empty(), "all of the first was left");
    let all = event("all", &ada, "mimo-v2-omni", json!({"input": 0, "output": 60_000_000}));
    client.post("/v1/usage/events", all).await.expect(200);
    client.advance_to("2026-03-31T10:00:00Z").await;
    let expected = [json!(["balance.depleted", null, 0]), json!(["balance.recovered", null, 60_000_000])];
    assert_eq!(told(&world).await, expected);
}
