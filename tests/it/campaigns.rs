//! What operators give and take by hand: grants, revokes, and campaigns that give many customers the same once.

use std::time::Duration;

use serde_json::{Value, json};
use tenants::Scope;

use crate::support::{Client, World, event};
use crate::top_ups::verify;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_gives_and_takes_and_the_ledger_says_who_and_why() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "lite").await;
    let path = format!("/v1/customers/{ada}/grants");

    let gift = json!({"source": "promotion", "credits": 1_000, "expires_at": "2026-02-10T00:00:00Z", "reason": "hello"});
    let given = client.post_as("one", &path, gift.clone()).await.expect(201);
    assert_eq!(client.post_as("one", &path, gift).await.expect(201), given, "once");
    assert_eq!(
        (&given["kind"], &given["credits"], &given["account_version"]),
        (&json!("grant"), &json!(1_000), &json!(2))
    );
    assert_eq!((&given["grant"]["priority"], &given["grant"]["purchase"]), (&json!(50), &Value::Null));
    let makeup = json!({"source": "adjustment", "credits": 500, "priority": 10, "reason": "the outage"});
    let makeup = client.post(&path, makeup).await.expect(201);
    assert_eq!(client.available(&ada).await, 60_001_500);

    // By priority: 500 of the adjustment at 10, 700 of the promotion at 50, nothing of the plan.
    let used = event("e1", &ada, "mimo-v2-omni", json!({"input": 1_200}));
    client.post("/v1/usage/events", used).await.expect(200);
    let rest: Vec<i64> =
        client.grants(&ada).await.iter().map(|grant| grant["remaining"].as_i64().unwrap()).collect();
    assert_eq!(rest, [60_000_000, 300, 0]);

    let revoke = format!("{path}/{}/revoke", given["grant"]["id"].as_str().unwrap());
    let too_much = client.post(&revoke, json!({"credits": 301, "reason": "a mistake"})).await;
    too_much.expect_problem(409, "more-than-remains");
    assert_eq!(too_much.body["remaining"], 300);
    let taken = client.post(&revoke, json!({"credits": 100, "reason": "a mistake"})).await.expect(200);
    assert_eq!((&taken["kind"], &taken["grant"]["remaining"]), (&json!("revoke"), &json!(200)));
    client.post(&revoke, json!({"reason": "all of it"})).await.expect(200);
    client.post(&revoke, json!({"reason": "all of it"})).await.expect_problem(409, "more-than-remains");
    let used_up = format!("{path}/{}/revoke", makeup["grant"]["id"].as_str().unwrap());
    client.post(&used_up, json!({"reason": "too late"})).await.expect_problem(409, "more-than-remains");
    assert_eq!(client.available(&ada).await, 60_000_000, "what was spent stays spent");

    let by_hand: Vec<Value> = client.transfers(&ada).await;
    let by_hand: Vec<&Value> =
        by_hand.iter().filter(|transfer| transfer["cause"]["kind"] == "adjustment").collect();
    let told: Vec<_> = by_hand
        .iter()
        .map(|t| {
            (
                t["credit"].as_str().unwrap(),
                t["credits"].as_i64().unwrap(),
                t["cause"]["reason"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("available", 1_000, "hello"),
            ("available", 500, "the outage"),
            ("revoked", 100, "a mistake"),
            ("revoked", 200, "all of it")
        ]
    );
    assert!(by_hand.iter().all(|transfer| transfer["cause"]["made_by"] == given["made_by"]));
    assert!(given["made_by"].as_str().unwrap().starts_with("key_"));
    verify(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_given_or_taken_changes_nothing() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (ada, grace) = (client.customer("ada").await, client.customer("grace").await);
    let path = format!("/v1/customers/{ada}/grants");
    let fine = json!({"source": "adjustment", "credits": 10, "reason": "why not"});
    for (field, value) in [
        ("credits", json!(0)),
        ("credits", json!(-5)),
        ("credits", json!(1.5)),
        ("credits", json!(9_007_199_254_740_992_u64)),
        ("source", json!("plan")),
        ("effective_at", json!("2026-01-31T09:59:59Z")),
        ("expires_at", json!("2026-01-31T10:00:00Z")),
        ("priority", json!(-1)),
        ("reason", json!("")),
        ("reason", json!("two\nlines")),
        ("customer", json!(ada)),
    ] {
        let mut body = fine.clone();
        body[field] = value;
        client.post(&path, body).await.expect_problem(422, "invalid-field");
    }
    let mut card = fine.clone();
    card["reason"] = json!("card 4242 4242 4242 4242");
    client.post(&path, card).await.expect_problem(422, "card-data-refused");
    let seller = client.with_key(&world.key(&[Scope::Billing]).await);
    seller.post(&path, fine.clone()).await.expect_problem(403, "insufficient-scope");
    let given = client.post(&path, fine.clone()).await.expect(201);
    let grant = given["grant"]["id"].as_str().unwrap();
    let of_another = format!("/v1/customers/{grace}/grants/{grant}/revoke");
    client.post(&of_another, json!({"reason": "not hers"})).await.expect_problem(404, "not-found");
    let other = client.with_key(&world.other_tenant().await);
    other.post(&path, fine).await.expect_problem(404, "not-found");
    let own = format!("{path}/{grant}/revoke");
    other.post(&own, json!({"reason": "not theirs"})).await.expect_problem(404, "not-found");
    client.post(&own, json!({"credits": 0, "reason": "nothing"})).await.expect_problem(422, "invalid-field");
    assert_eq!((client.available(&ada).await, client.grants(&ada).await.len()), (10, 1));
    verify(&world);
}

pub async fn until_done(client: &Client, campaign: &Value) -> Value {
    let path = format!("/v1/campaigns/{}", campaign["id"].as_str().unwrap());
    for _ in 0..600 {
        let campaign = client.get(&path).await.expect(200);
        if campaign["state"] == "done" {
            return campaign;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the campaign was not done in 30 seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_gives_each_customer_its_tag_once() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let _workers = (world.work(), world.work());
    let ada = client.customer("ada").await;
    let grace = client.customer("grace").await;
    let mary = client.customer("mary").await;
    client.subscribe(&ada, "lite").await;
    client.subscribe(&grace, "pro").await;
    let used = event("e1", &grace, "mimo-v2-omni", json!({"input": 100}));
    client.post("/v1/usage/events", used).await.expect(200);

    let start = |filter: Value| {
        json!({"tag": "outage", "credits": 5_000, "expires_at": "2026-03-01T00:00:00Z",
        "reason": "the outage of 30 January", "filter": filter})
    };
    let spend = async |id: &str| {
        let held = client.authorize(id, &ada, "mimo-v2-omni", 1, 1).await.expect(201);
        client.post(&format!("/v1/authorizations/{id}/release"), json!({"customer": ada})).await.expect(200);
        held["account_version"].clone()
    };
    spend("before").await;
    let lite = client.post("/v1/campaigns", start(json!({"plan": "lite"}))).await.expect(202);
    let lite = until_done(client, &lite).await;
    let version = spend("at-once").await;
    assert_eq!(version, client.balance(&ada).await["account_version"], "done, it can be spent");
    assert_eq!((&lite["granted"], &lite["skipped"]), (&json!(1), &json!(0)));
    let active = client.post("/v1/campaigns", start(json!({"status": "active"}))).await.expect(202);
    let active = until_done(client, &active).await;
    assert_eq!((&active["granted"], &active["skipped"]), (&json!(1), &json!(1)), "ada has had it");
    let hour =
        json!({"had_usage_between": {"from": "2026-01-31T10:00:00Z", "to": "2026-01-31T10:00:00.000001Z"}});
    let hour = client.post("/v1/campaigns", start(hour)).await.expect(202);
    assert_eq!(until_done(client, &hour).await["skipped"], 1, "grace alone used something then");
    let all = client.post("/v1/campaigns", start(json!({}))).await.expect(202);
    assert_eq!(until_done(client, &all).await["granted"], 1, "mary");
    let available =
        [client.available(&ada).await, client.available(&grace).await, client.available(&mary).await];
    assert_eq!(available, [60_005_000, 700_000_000 - 100 + 5_000, 5_000]);

    let mut other = start(json!({}));
    other["credits"] = json!(6_000);
    client.post("/v1/campaigns", other).await.expect_problem(409, "campaign-differs");
    let nobody = format!("cus_{}", "0".repeat(32));
    let named = json!({"tag": "named", "credits": 1, "reason": "x", "customers": [ada, nobody]});
    let named = client.post("/v1/campaigns", named).await;
    named.expect_problem(422, "invalid-field");
    assert_eq!(named.body["errors"], json!([{"pointer": "/customers/1", "code": "not-found"}]));
    client
        .post("/v1/campaigns", json!({"tag": "none", "credits": 1, "reason": "x"}))
        .await
        .expect_problem(422, "invalid-field");
    let grants = client.transfers(&mary).await;
    assert_eq!(
        (&grants[0]["cause"]["campaign"], &grants[0]["cause"]["reason"]),
        (&json!("outage"), &json!("the outage of 30 January"))
    );
    verify(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_that_is_killed_again_and_again_completes_once() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customers = client.customers(450).await;
    let body = json!({"tag": "sorry", "credits": 7, "reason": "an outage", "customers": customers});
    let campaign = client.post_as("one", "/v1/campaigns", body.clone()).await.expect(202);
    assert_eq!(client.post_as("one", "/v1/campaigns", body.clone()).await.expect(202), campaign);
    // Each is killed with -9 a moment after it began, wherever it is.
    for milliseconds in [150, 400, 700, 900] {
        let worker = (world.work(), world.work());
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        drop(worker);
    }
    // What a killed worker had claimed is somebody else's once its lease is over: as if it were.
    let release = "update jobs set leased_until = null where kind = 'campaign'";
    use diesel_async::SimpleAsyncConnection;
    world.stores.superuser().await.batch_execute(release).await.unwrap();
    let _workers = (world.work(), world.work());
    let done = until_done(client, &campaign).await;
    assert_eq!((&done["granted"], &done["skipped"]), (&json!(450), &json!(0)));
    let again = client.post("/v1/campaigns", body).await.expect(202);
    let again = until_done(client, &again).await;
    assert_eq!(
        (&again["granted"], &again["skipped"]),
        (&json!(0), &json!(450)),
        "the same tag gives nothing twice"
    );
    for customer in [&customers[0], &customers[99], &customers[100], &customers[449]] {
        assert_eq!((client.available(customer).await, client.grants(customer).await.len()), (7, 1));
    }
    verify(&world);
}
