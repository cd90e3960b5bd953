//! Usage as CloudEvents, as a stream of lines, older than the window, and without a rate that comes later.

use domain::catalog::{Band, CreditRates, Model};
use domain::credits::RateMilli;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Client, World, event};

async fn send(client: &Client, media: &str, path: &str, body: String) -> Answer {
    let request = client.request(Method::POST, path).header("content-type", media).body(body);
    client.send(request).await
}

fn cloud_event(id: &str, customer: &str, usage: Value) -> Value {
    json!({"specversion": "1.0", "type": "dev.tollgate.usage", "source": "urn:test", "id": id,
        "data": {"customer": customer, "model": "mimo-v2-omni", "usage": usage}})
}

#[tokio::test]
async fn a_cloud_event_counts_as_the_same_event_in_our_own_form_does() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "lite").await;
    let (one, many) = ("application/cloudevents+json", "application/cloudevents-batch+json; charset=utf-8");
    let path = "/v1/usage/events";

    let mut first = cloud_event("e1", &ada, json!({"input": 100}));
    // Attributes of others are passed over.
    first["traceparent"] = json!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    first["subject"] = json!("anything");
    let accepted = send(client, one, path, first.to_string()).await.expect(200);
    assert_eq!((&accepted["status"], &accepted["receipt"]["credits"]), (&json!("accepted"), &json!(100)));
    let own = event("e1", &ada, "mimo-v2-omni", json!({"input": 100}));
    assert_eq!(client.post(path, own).await.expect(200)["status"], "duplicate", "one event, two forms");

    let mut vendors =
        cloud_event("e2", &ada, json!({"prompt_tokens": 70, "completion_tokens": 30, "total_tokens": 100}));
    vendors["data"]["usage_format"] = json!("openai.chat");
    let mut other_type = cloud_event("e3", &ada, json!({"input": 1}));
    other_type["type"] = json!("com.example.other");
    let mut typo = cloud_event("e4", &ada, json!({"input": 1}));
    typo["data"]["modell"] = json!("x");
    let batch = json!([vendors, other_type, typo, first]);
    let answer = send(client, many, path, batch.to_string()).await.expect(200);
    let results = answer["results"].as_array().unwrap();
    let statuses: Vec<&str> = results.iter().map(|result| result["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["accepted", "rejected", "rejected", "duplicate"]);
    assert_eq!(results[1]["problem"]["errors"][0], json!({"pointer": "/type", "code": "unknown-value"}));
    assert_eq!(
        results[2]["problem"]["errors"][0],
        json!({"pointer": "/data/modell", "code": "unknown-field"})
    );
    assert_eq!(client.available(&ada).await, 60_000_000 - 200);

    let mut old = first.clone();
    old["specversion"] = json!("0.3");
    send(client, one, path, old.to_string()).await.expect_problem(422, "invalid-field");
    send(client, "text/plain", path, first.to_string()).await.expect_problem(415, "unsupported-media-type");
    let twice = first.to_string().replacen('{', "{\"traceparent\": 1,", 1);
    send(client, one, path, twice).await.expect_problem(400, "invalid-json");
}

#[tokio::test]
async fn lines_are_recorded_as_they_come_and_answered_in_order() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "lite").await;
    // 2,500 events of 10 Credits, each third sent twice, a line that is no JSON, an empty one, no newline at the end.
    let mut lines = Vec::new();
    for n in 0..2_500 {
        let line = event(&format!("e{n}"), &ada, "mimo-v2-omni", json!({"input": 10})).to_string();
        if n % 3 == 0 {
            lines.push(line.clone());
        }
        lines.push(line);
    }
    lines.insert(1_500, "{\"source\": ".to_owned());
    lines.insert(1_600, String::new());
    let request =
        client.request(Method::POST, "/v1/usage/events").header("content-type", "application/x-ndjson");
    let response = request.body(lines.join("\n")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let text = response.text().await.unwrap();
    let results: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(results.len(), 2_500 + 834 + 1);
    let count = |status: &str| results.iter().filter(|result| result["status"] == status).count();
    assert_eq!((count("accepted"), count("duplicate"), count("rejected")), (2_500, 834, 1));
    assert_eq!(results[1_500]["problem"]["type"], "https://tollgate.dev/problems/invalid-json");
    assert_eq!(
        (&results[0]["id"], &results[1]["id"], &results[2]["id"]),
        (&json!("e0"), &json!("e0"), &json!("e1"))
    );
    assert_eq!(client.available(&ada).await, 60_000_000 - 25_000);

    let long = format!("{}\n{}", lines[0], "x".repeat((1 << 20) + 2));
    let answer = send_text(client, long).await;
    let answers: Vec<Value> = answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 1, "the whole batch that it lies in is to be sent again");
    assert_eq!(answers[0]["problem"]["type"], "https://tollgate.dev/problems/payload-too-large");
}

async fn send_text(client: &Client, body: String) -> String {
    let request =
        client.request(Method::POST, "/v1/usage/events").header("content-type", "application/x-ndjson");
    request.body(body).send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn usage_of_any_age_is_taken_from_a_key_that_may_report_it() {
    use tenants::Scope;
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "lite").await;
    client.advance_to("2026-02-20T10:00:00Z").await;
    let mut old = event("old", &ada, "mimo-v2-omni", json!({"input": 100}));
    old["time"] = json!("2026-02-01T00:00:00Z");
    let path = "/v1/usage/events";
    client.post(path, old.clone()).await.expect_problem(422, "event-time-out-of-range");
    let gateway = client.with_key(&world.key(&[Scope::Usage]).await);
    gateway
        .post(&format!("{path}?backfill=true"), old.clone())
        .await
        .expect_problem(403, "insufficient-scope");
    client.post(&format!("{path}?backfill=maybe"), old.clone()).await.expect_problem(422, "invalid-field");
    let loader = client.with_key(&world.key(&[Scope::Usage, Scope::Backfill]).await);
    let accepted = loader.post(&format!("{path}?backfill=true"), old.clone()).await.expect(200);
    assert_eq!(accepted["receipt"]["credits"], 100);
    assert_eq!(
        gateway.post(path, old.clone()).await.expect(200)["status"],
        "duplicate",
        "once, whoever asks"
    );
    old["id"] = json!("ahead");
    old["time"] = json!("2026-02-20T10:00:00.000001Z");
    loader.post(&format!("{path}?backfill=true"), old.clone()).await.expect(200);
    old["time"] = json!("2026-02-20T10:06:00Z");
    old["id"] = json!("too-far-ahead");
    let refused = loader.post(&format!("{path}?backfill=true"), old).await;
    refused.expect_problem(422, "event-time-out-of-range");
}

#[tokio::test]
async fn usage_without_a_rate_is_charged_when_a_line_appears() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "lite").await;
    client.advance_to("2026-02-03T10:00:00Z").await;
    let new = |id: &str, model: &str| event(id, &ada, model, json!({"input": 1_000}));
    client
        .post("/v1/usage/events", json!([new("a", "mimo-v3"), new("b", "mimo-v3"), new("c", "mimo-v4")]))
        .await
        .expect(200);
    assert_eq!(client.available(&ada).await, 60_000_000);
    let usage = world.usage();
    let scope = world.scope().await;
    assert_eq!(usage.rerate(&scope).await.unwrap().events, 0, "there is nothing new");

    let mut document = catalog::parse(catalog::REFERENCE).unwrap();
    document.models.push(Model {
        code: "mimo-v3".to_owned(),
        output_tokens_max: None,
        bands: vec![Band {
            prompt_tokens_min: None,
            prompt_tokens_max: None,
            max_is_inclusive: true,
            credit_rates_milli: Some(CreditRates::Uniform(RateMilli(1_500))),
            credit_rates_until: None,
            payg_prices_micro: Default::default(),
        }],
    });
    let effective_at = chrono::DateTime::parse_from_rfc3339("2026-02-01T00:00:00Z").unwrap().to_utc();
    let catalogs = catalog::Catalogs::new(world.stores.db());
    catalogs.publish(scope.tenant, document, effective_at, scope.now).await.unwrap();

    // Once, whoever does it: here two at once, and the worker's minute.
    let other = world.usage();
    let (one, two) = tokio::join!(usage.rerate(&scope), other.rerate(&scope));
    assert_eq!(one.unwrap().events + two.unwrap().events, 2);
    assert_eq!(client.available(&ada).await, 60_000_000 - 3_000);
    let seen = client.get("/v1/usage/events/a?source=urn:test").await.expect(200);
    assert_eq!(
        (&seen["receipt"]["credits"], &seen["receipt"]["catalog_version"]),
        (&json!(1_500), &json!(2))
    );
    let unrated = client.get("/v1/usage/unrated").await.expect(200);
    assert_eq!(unrated["data"].as_array().unwrap().len(), 1, "mimo-v4 waits for its own line");
    let report = client.get(&format!("/v1/customers/{ada}/usage")).await.expect(200);
    assert_eq!(report["total"]["credits"], 3_000);
}
