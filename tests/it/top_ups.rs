//! Top-ups: bought with or without a plan, granted once they are paid, and nobody's cycle ends them.

use serde_json::{Value, json};

use crate::support::{Client, World, event};

/// Checks every invariant.
pub fn verify(world: &World) {
    let said = world.command("verify").output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "{text}");
}

fn top_up(customer: &str, currency: &str, method: &str) -> Value {
    json!({"customer": customer, "top_up": "topup-10m", "currency": currency, "payment_method": method})
}

async fn top_ups_of(client: &Client, customer: &str) -> Vec<Value> {
    let page = client.get(&format!("/v1/top-ups?customer={customer}")).await.expect(200);
    page["data"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_top_up_is_granted_once_it_is_paid_and_outlives_the_cycle() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "lite").await;

    // With the subscription's own card, and sent twice under one key.
    let body = json!({"customer": ada, "top_up": "topup-10m", "currency": "USD"});
    let bought = client.post_as("one", "/v1/top-ups", body.clone()).await.expect(201);
    assert_eq!(client.post_as("one", "/v1/top-ups", body).await.expect(201), bought);
    assert_eq!(bought["payment_status"], "paid");
    assert_eq!(bought["invoice"]["total"], json!({"amount_minor": 100, "currency": "USD"}));
    assert_eq!(bought["invoice"]["lines"][0]["kind"], "top_up");
    assert_eq!(bought["invoice"]["payments"][0]["method"], "pm_sandbox_succeeds");
    assert_eq!(client.available(&ada).await, 70_000_000);
    let grants = client.grants(&ada).await;
    assert_eq!(
        (&grants[1]["source"], &grants[1]["priority"], &grants[1]["expires_at"], &grants[1]["purchase"]),
        (&json!("top_up"), &json!(200), &Value::Null, &bought["top_up"]["id"])
    );
    let id = bought["top_up"]["id"].as_str().unwrap();
    let read = client.get(&format!("/v1/top-ups/{id}")).await.expect(200);
    assert_eq!((&read, &read["status"]), (&bought["top_up"], &json!("applied")));

    // The plan's Credits are spent first: 61 million are 60 of the plan and 1 of the top-up.
    for n in 0..61 {
        let used =
            event(&format!("e{n}"), &ada, "mimo-v2-omni", json!({"input": 262_144, "output": 737_856}));
        client.post("/v1/usage/events", used).await.expect(200);
    }
    assert_eq!(client.available(&ada).await, 9_000_000);
    client.advance_to("2026-02-28T10:00:00Z").await;
    assert_eq!(client.available(&ada).await, 60_000_000 + 9_000_000, "renewed, and the top-up is as it was");
    verify(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_without_a_plan_buys_one_in_its_own_currency() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    let nothing_to_pay_with = json!({"customer": ada, "top_up": "topup-10m", "currency": "CNY"});
    let refused = client.post("/v1/top-ups", nothing_to_pay_with).await;
    refused.expect_problem(422, "invalid-field");
    assert_eq!(refused.body["errors"], json!([{"pointer": "/payment_method", "code": "missing"}]));
    let bought = client.post("/v1/top-ups", top_up(&ada, "CNY", "pm_sandbox_succeeds")).await.expect(201);
    assert_eq!(bought["invoice"]["total"], json!({"amount_minor": 700, "currency": "CNY"}));
    assert_eq!(client.available(&ada).await, 10_000_000);

    // The client names no price, no Credits and no quantity.
    for field in ["price", "amount_minor", "credits", "quantity"] {
        let mut body = top_up(&ada, "CNY", "pm_sandbox_succeeds");
        body[field] = json!(1);
        client.post("/v1/top-ups", body).await.expect_problem(422, "invalid-field");
    }
    let mut unknown = top_up(&ada, "CNY", "pm_sandbox_succeeds");
    unknown["top_up"] = json!("topup-20m");
    client.post("/v1/top-ups", unknown).await.expect_problem(422, "unknown-top-up");
    let nobody = top_up(
        &"cus_".chars().chain("0".repeat(32).chars()).collect::<String>(),
        "CNY",
        "pm_sandbox_succeeds",
    );
    client.post("/v1/top-ups", nobody).await.expect_problem(404, "not-found");
    client
        .post("/v1/top-ups", top_up(&ada, "CNY", "pm_nobodys"))
        .await
        .expect_problem(422, "unknown-payment-method");
    assert_eq!(top_ups_of(client, &ada).await.len(), 1);
    let other = client.with_key(&world.other_tenant().await);
    let path = format!("/v1/top-ups/{}", bought["top_up"]["id"].as_str().unwrap());
    other.get(&path).await.expect_problem(404, "not-found");
    verify(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_top_up_grants_nothing_and_can_be_paid_with_another_card() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    let declined = client.post("/v1/top-ups", top_up(&ada, "USD", "pm_sandbox_declines")).await;
    declined.expect_problem(402, "payment-declined");
    assert_eq!((client.available(&ada).await, &declined.body["subscription"]), (0, &Value::Null));
    let invoice = declined.body["invoice"].as_str().unwrap().to_owned();
    assert_eq!(top_ups_of(client, &ada).await[0]["status"], "pending");

    let path = format!("/v1/invoices/{invoice}/pay");
    let again = json!({"payment_method": "pm_sandbox_declines"});
    client.post(&path, again).await.expect_problem(402, "payment-declined");
    let other_card = json!({"payment_method": "pm_sandbox_succeeds"});
    let paid = client.post(&path, other_card.clone()).await.expect(200);
    assert_eq!((&paid["payment_status"], &paid["subscription"]), (&json!("paid"), &Value::Null));
    assert_eq!(client.available(&ada).await, 10_000_000);
    client.post(&path, other_card).await.expect_problem(409, "invoice-not-open");
    assert_eq!(client.available(&ada).await, 10_000_000, "granted once");
    verify(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_top_up_is_given_up_after_23_hours_if_the_provider_agrees() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    let pending = client.post("/v1/top-ups", top_up(&ada, "USD", "pm_sandbox_pends")).await.expect(202);
    assert_eq!(pending["payment_status"], "pending");
    assert_eq!(pending["top_up"]["expires_at"], "2026-02-01T09:00:00.000000Z");
    client.advance_to("2026-02-01T08:59:59Z").await;
    assert_eq!(top_ups_of(client, &ada).await[0]["status"], "pending");
    client.advance_to("2026-02-01T09:00:00Z").await;
    assert_eq!(top_ups_of(client, &ada).await[0]["status"], "ended");
    let invoice = pending["invoice"]["id"].as_str().unwrap();
    let voided = client.get(&format!("/v1/invoices/{invoice}")).await.expect(200);
    assert_eq!((&voided["status"], &voided["payments"][0]["status"]), (&json!("void"), &json!("canceled")));
    let pay = json!({"payment_method": "pm_sandbox_succeeds"});
    client.post(&format!("/v1/invoices/{invoice}/pay"), pay).await.expect_problem(409, "invoice-not-open");
    assert_eq!(client.available(&ada).await, 0);
    verify(&world);
}
