//! A parked account spends nothing, and the others go on; un-parked, it pays what it would have.

use domain::id::CustomerId;
use serde_json::{Value, json};

use crate::support::{Client, World, event};

/// A call of 1,000 tokens in and 500 out at 2x: 3,000 Credits.
fn call(id: &str, customer: &str) -> Value {
    event(id, customer, "mimo-v2-pro", json!({"input": 1_000, "output": 500}))
}

async fn subscriber(client: &Client, name: &str) -> String {
    let customer = client.customer(name).await;
    client.subscribe(&customer, "lite").await;
    customer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_account_authorizes_nothing_and_keeps_its_usage_while_others_go_on() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (parked, other) = (subscriber(client, "ada").await, subscriber(client, "bob").await);
    let id: CustomerId = parked.parse().unwrap();
    client.authorize("before", &parked, "mimo-v2-pro", 1_000, 500).await.expect(201);

    let (ledger, scope) = (world.ledger(), world.scope().await);
    assert!(ledger.park(&scope, id, "its books do not add up").await.unwrap());
    assert!(!ledger.park(&scope, id, "another reason").await.unwrap(), "the first reason stays");
    let refused = client.authorize("after", &parked, "mimo-v2-pro", 1_000, 500).await;
    refused.expect_problem(409, "account-parked");
    client.authorize("after", &other, "mimo-v2-pro", 1_000, 500).await.expect(201);

    let mut captures = call("1", &parked);
    captures["authorization"] = json!("before");
    let batch = json!([captures, call("2", &parked), call("3", &other)]);
    let answer = client.post("/v1/usage/events", batch.clone()).await.expect(200);
    let results = answer["results"].as_array().unwrap();
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["unrated", "unrated", "accepted"]);
    assert_eq!(results[0]["receipt"]["unrated_reason"], "account-parked");
    assert_eq!(client.balance(&parked).await["settled"], 60_000_000);
    assert_eq!(client.balance(&other).await["settled"], 59_997_000);
    let waiting = client.get("/v1/usage/unrated").await.expect(200);
    assert_eq!(waiting["data"].as_array().unwrap().len(), 2);

    // Money and grants go on.
    let subscriptions = client.get(&format!("/v1/subscriptions?customer={parked}")).await.expect(200);
    let subscription = subscriptions["data"][0]["id"].as_str().unwrap();
    let path = format!("/v1/subscriptions/{subscription}/upgrade");
    client.post(&path, json!({"plan": "standard"})).await.expect(200);
    assert_eq!(client.balance(&parked).await["settled"], 200_000_000);

    assert!(ledger.unpark(&scope, id).await.unwrap());
    assert!(!ledger.unpark(&scope, id).await.unwrap());
    let usage = world.usage();
    let charged = usage.charge_kept(&scope, id).await.unwrap();
    assert_eq!((charged.events, charged.credits.get()), (2, 6_000));
    assert_eq!(usage.charge_kept(&scope, id).await.unwrap(), usage::ChargedKept::default(), "once");
    assert_eq!(client.balance(&parked).await["available"], 199_994_000);
    let again = client.post("/v1/usage/events", batch).await.expect(200);
    assert_eq!(again["results"][0]["status"], "duplicate");
    assert_eq!(again["results"][0]["receipt"]["credits"], 3_000, "the receipt is what it was charged");
    client.authorize("again", &parked, "mimo-v2-pro", 1_000, 500).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_usage_is_charged_to_the_cycle_and_at_the_rate_of_its_own_time() {
    // Given two customers with the same calls around a rollover, one of them parked meanwhile, when it is
    // un-parked a day later, then both have paid the same from the same cycles.
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (parked, free) = (subscriber(client, "ada").await, subscriber(client, "bob").await);
    let id: CustomerId = parked.parse().unwrap();
    let ledger = world.ledger();
    client.advance_to("2026-02-28T09:59:50Z").await;
    for customer in [&parked, &free] {
        client.authorize("call", customer, "mimo-v2-pro", 1_000, 500).await.expect(201);
    }
    ledger.park(&world.scope().await, id, "looked at").await.unwrap();
    for customer in [&parked, &free] {
        client.post("/v1/usage/events", call(&format!("{customer}-1"), customer)).await;
    }
    client.advance_to("2026-02-28T10:00:05Z").await;
    for customer in [&parked, &free] {
        let mut captures = call(&format!("{customer}-2"), customer);
        captures["authorization"] = json!("call");
        client.post("/v1/usage/events", captures).await;
        client.post("/v1/usage/events", call(&format!("{customer}-3"), customer)).await;
    }
    client.advance_to("2026-03-01T10:00:05Z").await;
    ledger.unpark(&world.scope().await, id).await.unwrap();
    let charged = world.usage().charge_kept(&world.scope().await, id).await.unwrap();
    assert_eq!((charged.events, charged.credits.get()), (3, 9_000));
    let mut spent = Vec::new();
    for customer in [&parked, &free] {
        let grants = client.grants(customer).await;
        spent.push(grants.iter().map(|grant| grant["spent"].as_i64().unwrap()).collect::<Vec<_>>());
    }
    assert_eq!(spent, [[6_000, 3_000], [6_000, 3_000]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_charge_the_kept_usage_at_once_charge_it_once() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = subscriber(client, "ada").await;
    let id: CustomerId = customer.parse().unwrap();
    let (ledger, scope) = (world.ledger(), world.scope().await);
    ledger.park(&scope, id, "looked at").await.unwrap();
    // More than two batches of 500.
    for half in 0..2 {
        let calls: Vec<Value> = (0..600).map(|n| call(&format!("{half}-{n}"), &customer)).collect();
        client.post("/v1/usage/events", json!(calls)).await.expect(200);
    }
    world.usage().charge_kept(&scope, id).await.unwrap_err();
    ledger.unpark(&scope, id).await.unwrap();
    let runs = [world.usage(), world.usage()].map(|usage| {
        let scope = scope.clone();
        tokio::spawn(async move { usage.charge_kept(&scope, id).await.unwrap() })
    });
    let mut events = 0;
    for run in runs {
        events += run.await.unwrap().events;
    }
    assert_eq!(events, 1_200);
    assert_eq!(client.balance(&customer).await["settled"], 60_000_000 - 1_200 * 3_000);
    let waiting = client.get("/v1/usage/unrated").await.expect(200);
    assert_eq!(waiting["data"], json!([]));
}

/// An operator's command that dies between letting the account spend and charging what was kept is given again.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_interrupted_unpark_has_not_charged_the_next_one_charges() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = subscriber(client, "ada").await;
    let id: CustomerId = customer.parse().unwrap();
    let (ledger, scope) = (world.ledger(), world.scope().await);
    ledger.park(&scope, id, "looked at").await.unwrap();
    client.post("/v1/usage/events", call("1", &customer)).await.expect(202);
    ledger.unpark(&scope, id).await.unwrap();
    assert_eq!(client.balance(&customer).await["settled"], 60_000_000);
    for said in ["may spend again. 1 events were charged, 3000 Credits.", "is not parked."] {
        let mut unpark = world.command("unpark");
        let output = unpark.args(["--tenant", &world.tenant.to_string(), "--customer", &customer]).output();
        let printed = String::from_utf8(output.unwrap().stdout).unwrap();
        assert!(printed.contains(said), "{printed}");
        assert_eq!(client.balance(&customer).await["settled"], 59_997_000);
    }
    world.verify().await;
}

/// a model that is sold for money alone waits like any other.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_parked_account_used_for_money_is_billed_once_it_is_unparked() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let id: CustomerId = customer.parse().unwrap();
    let path = format!("/v1/customers/{customer}/exhaustion");
    client.put(&path, json!({"exhaustion": "payg", "spend_cap_minor": 1_000})).await.expect(200);
    let (ledger, scope) = (world.ledger(), world.scope().await);
    ledger.park(&scope, id, "looked at").await.unwrap();
    // 200,000 in at 0.09 and 100,000 out at 0.29 a million: 0.018 + 0.029 dollars.
    let used = event("1", &customer, "mimo-v2-flash", json!({"input": 200_000, "output": 100_000}));
    let kept = client.post("/v1/usage/events", used.clone()).await.expect(202);
    assert_eq!(kept["receipt"]["unrated_reason"], "account-parked");
    assert_eq!(client.get(&path).await.expect(200)["accrued_pico"], "0");

    ledger.unpark(&scope, id).await.unwrap();
    let charged = world.usage().charge_kept(&scope, id).await.unwrap();
    assert_eq!((charged.events, charged.credits.get()), (1, 0));
    assert_eq!(client.get(&path).await.expect(200)["accrued_pico"], "47000000000");
    let again = client.post("/v1/usage/events", used).await.expect(200);
    assert_eq!(again["receipt"]["payg"]["pico"], "47000000000");
    world.verify().await;
}
