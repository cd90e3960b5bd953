//! Usage as the vendors report it: charged as its format means it, and in quarantine where it cannot be.

use diesel_async::SimpleAsyncConnection;
use reqwest::Method;
use serde_json::{Value, json};
use tenants::Scope;

use crate::support::{Answer, Client, World, event};

const EVENTS: &str = "/v1/usage/events";
const QUARANTINED: &str = "/v1/usage/quarantined";

/// An event of mimo-v2-pro (2x to 256K, 4x above) in a vendor's format.
fn reported(id: &str, customer: &str, format: &str, usage: Value) -> Value {
    let mut event = event(id, customer, "mimo-v2-pro", usage);
    event["usage_format"] = json!(format);
    event
}

/// A total that is not prompt plus output.
fn contradicting() -> Value {
    json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 111})
}

async fn quarantined(client: &Client) -> Vec<Value> {
    client.get(QUARANTINED).await.expect(200)["data"].as_array().unwrap().clone()
}

async fn replay(client: &Client, id: &Value) -> Answer {
    client.post(&format!("{QUARANTINED}/{}/replay", id.as_str().unwrap()), json!({})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendors_usage_is_charged_as_its_format_means_it() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    let mut left = 60_000_000;
    for (id, format, usage, credits, band) in [
        ("1", "tollgate", json!({"input": 10, "output": 5}), 30, 262_144),
        (
            "2",
            "openai.chat", // cached tokens are inside the prompt
            json!({
                "prompt_tokens": 2006,
                "completion_tokens": 300,
                "total_tokens": 2306,
                "prompt_tokens_details": {"cached_tokens": 1920}
            }),
            4_612, // 2,306 x 2
            262_144,
        ),
        (
            "3",
            "openai.responses", // reasoning is inside the output
            json!({
                "input_tokens": 75,
                "output_tokens": 1186,
                "output_tokens_details": {"reasoning_tokens": 1024},
                "total_tokens": 1261
            }),
            2_522, // 1,261 x 2
            262_144,
        ),
        (
            "4",
            "anthropic.messages", // cached tokens are beside the input; a stream is not added up
            json!([
                {"input_tokens": 21, "cache_read_input_tokens": 188_086, "output_tokens": 1},
                {"output_tokens": 393}
            ]),
            377_000, // (21 + 188,086 + 393) x 2
            262_144,
        ),
        (
            "5",
            "gemini", // the cached prompt chooses the band
            json!({
                "promptTokenCount": 323_388,
                "candidatesTokenCount": 397,
                "totalTokenCount": 323_785,
                "cachedContentTokenCount": 323_383
            }),
            1_295_140, // 323,785 x 4
            1_048_576,
        ),
    ] {
        // Given a vendor's usage, when it is reported with its format, then it is charged by its kinds.
        let event = reported(id, &customer, format, usage);
        let answer = client.post(EVENTS, event.clone()).await.expect(200);
        assert_eq!(answer["status"], "accepted");
        assert_eq!(answer["receipt"]["credits"], credits, "{format}");
        assert_eq!(answer["receipt"]["band_prompt_tokens_max"], band, "{format}");
        left -= credits;
        // And once, however often it is sent.
        assert_eq!(client.post(EVENTS, event).await.expect(200)["status"], "duplicate");
        assert_eq!(client.available(&customer).await, left, "{format}");
    }
    // The same kinds by hand are the same event.
    let by_hand =
        event("2", &customer, "mimo-v2-pro", json!({"input": 86, "cache_read": 1920, "output": 300}));
    assert_eq!(client.post(EVENTS, by_hand).await.expect(200)["status"], "duplicate");
    assert_eq!(quarantined(client).await, [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_that_contradicts_itself_is_kept_and_not_charged_until_it_is_corrected() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    let available = client.available(&customer).await;

    // Given usage whose total is wrong, when it is reported,
    let wrong = reported("1", &customer, "openai.chat", contradicting());
    let answer = client.post(EVENTS, wrong.clone()).await.expect(202);
    // then it is in quarantine, with the reason, and nothing is charged,
    assert_eq!(
        (&answer["status"], &answer["receipt"], &answer["id"]),
        (&json!("quarantined"), &Value::Null, &json!("1"))
    );
    let why =
        json!({"reason": "total-differs", "message": "/total_tokens is 111, which is not 100 + 10 = 110"});
    assert_eq!(answer["quarantine"], why);
    assert_eq!(client.available(&customer).await, available);
    // sent again it is there once, and other content under its id is a conflict.
    assert_eq!(client.post(EVENTS, wrong).await.expect(202)["quarantine"], why);
    let other = reported("1", &customer, "openai.chat", json!({"prompt_tokens": 1}));
    client.post(EVENTS, other).await.expect_problem(409, "event-conflict");
    let listed = quarantined(client).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0]["event_id"], &listed[0]["usage"], &listed[0]["reason"]),
        (&json!("1"), &json!(contradicting().to_string()), &json!("total-differs"))
    );
    // It is not understood any better now.
    assert_eq!(replay(client, &listed[0]["id"]).await.expect(202)["quarantine"], why);

    // When the gateway corrects it, under the same id, then it is charged and leaves quarantine.
    let corrected = json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110});
    let corrected = reported("1", &customer, "openai.chat", corrected);
    let answer = client.post(EVENTS, corrected).await.expect(200);
    assert_eq!((&answer["status"], &answer["receipt"]["credits"]), (&json!("accepted"), &json!(220)));
    assert_eq!(quarantined(client).await, [] as [Value; 0]);
    // What was in quarantine is not charged beside it.
    replay(client, &listed[0]["id"]).await.expect_problem(409, "event-conflict");
    assert_eq!(client.available(&customer).await, available - 220);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_charges_once_and_to_the_cycle_of_the_first_receipt() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    let wrong = reported("1", &customer, "openai.chat", contradicting());
    client.post(EVENTS, wrong).await.expect(202);
    let listed = quarantined(client).await;

    // Given that the format is understood better now (here the kept usage is what changes),
    let known = json!({"prompt_tokens": 101, "completion_tokens": 10, "total_tokens": 111});
    let sql = format!("update usage_quarantined set usage = '{known}'");
    world.stores.superuser().await.batch_execute(&sql).await.unwrap();
    // when it is replayed, days later,
    client.set_clock("2026-02-20T10:00:00Z").await;
    let answer = replay(client, &listed[0]["id"]).await.expect(200);
    // then it is charged as of when it was received,
    assert_eq!((&answer["status"], &answer["receipt"]["credits"]), (&json!("accepted"), &json!(222)));
    assert_eq!(client.available(&customer).await, 60_000_000 - 222);
    let transfers = client.transfers(&customer).await;
    let spent = transfers.iter().find(|transfer| transfer["credit"] == "spent").unwrap();
    assert_eq!(spent["event_time"], listed[0]["received_at"]);
    // and once.
    assert_eq!(replay(client, &listed[0]["id"]).await.expect(200)["status"], "duplicate");
    assert_eq!(client.available(&customer).await, 60_000_000 - 222);
    assert_eq!(quarantined(client).await, [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_batch_each_event_has_its_own_format() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    let good = json!({"input_tokens": 10, "output_tokens": 5});
    let several = json!({
        "input_tokens": 30,
        "output_tokens": 5,
        "iterations": [
            {"type": "message", "input_tokens": 10, "output_tokens": 2},
            {"type": "message", "input_tokens": 20, "output_tokens": 3}
        ]
    });
    let of = |id: &str, format: &str, usage: &Value| reported(id, &customer, format, usage.clone());
    let batch = json!([
        of("1", "anthropic.messages", &good),
        of("2", "openai.responses", &good), // no total: the same names mean another thing there
        of("3", "anthropic.messages", &several),
        of("4", "guessed", &good),
        event("5", &customer, "mimo-v2-pro", good.clone()), // without a format these are no kinds of ours
        of("6", "openai.chat", &contradicting()),
        of("6", "openai.chat", &contradicting()),
        of("6", "openai.chat", &json!(null)),
        of("6", "openai.chat", &json!({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})),
        of("6", "openai.chat", &contradicting()),
        reported("7", "cus_00000000000000000000000000000000", "openai.chat", contradicting()),
    ]);
    let answer = client.post(EVENTS, batch).await.expect(200);
    let said: Vec<(&str, &str)> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| {
            let problem = result["problem"]["type"].as_str().unwrap_or_default();
            let reason = result["quarantine"]["reason"].as_str();
            (
                result["status"].as_str().unwrap(),
                reason.unwrap_or_else(|| problem.rsplit('/').next().unwrap_or_default()),
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            ("accepted", ""),
            ("quarantined", "missing-count"),
            ("quarantined", "several-calls"),
            ("rejected", "invalid-field"),
            ("rejected", "invalid-field"),
            ("quarantined", "total-differs"),
            ("quarantined", "total-differs"),
            ("conflict", "event-conflict"),
            ("accepted", ""),
            ("conflict", "event-conflict"),
            ("rejected", "not-found"),
        ]
    );
    assert_eq!(client.available(&customer).await, 60_000_000 - 30 - 4);
    let mut waiting: Vec<String> = quarantined(client)
        .await
        .iter()
        .map(|event| event["event_id"].as_str().unwrap().to_owned())
        .collect();
    waiting.sort();
    assert_eq!(waiting, ["2", "3"], "6 was counted after all");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_kept_as_it_was_sent() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let send = async |id: &str, usage: &str| {
        let body = format!(
            r#"{{"source": "urn:test", "id": "{id}", "customer": "{customer}", "model": "m",
                "usage_format": "openai.chat", "usage": {usage}}}"#
        );
        let request =
            client.request(Method::POST, EVENTS).header("Content-Type", "application/json").body(body);
        client.send(request).await
    };
    for (id, usage, reason) in [
        ("1", r#"{"prompt_tokens": 1.0, "completion_tokens": 1, "total_tokens": 2}"#, "not-a-whole-number"),
        ("2", r#"{"prompt_tokens": 1e999}"#, "unreadable"),
        (
            "3",
            r#"{"total_tokens": 2, "prompt_tokens": -1, "completion_tokens": 18446744073709551616}"#,
            "negative-count",
        ),
        ("4", "null", "wrong-shape"),
        ("5", r#""many""#, "wrong-shape"),
    ] {
        assert_eq!(send(id, usage).await.expect(202)["quarantine"]["reason"], reason, "{usage}");
        let listed = quarantined(client).await;
        let listed = listed.iter().find(|event| event["event_id"] == id).unwrap();
        assert_eq!(listed["usage"], usage, "letter by letter");
    }
    // What is no JSON, or says a thing twice, is not kept.
    for usage in [r#"{"prompt_tokens": 1, "prompt_tokens": 2}"#, "NaN", &"[".repeat(500)] {
        send("9", usage).await.expect_problem(400, "invalid-json");
    }
    assert_eq!(quarantined(client).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantine_is_the_operators_and_the_tenants_own() {
    let world = World::new().await;
    let server = world.serve().await;
    let ours = &server.client;
    let theirs = ours.with_key(&world.other_tenant().await);
    let customer = theirs.customer("ada").await;
    theirs.post(EVENTS, reported("1", &customer, "openai.chat", contradicting())).await.expect(202);
    let listed = quarantined(&theirs).await;
    assert_eq!(quarantined(ours).await, [] as [Value; 0]);
    replay(ours, &listed[0]["id"]).await.expect_problem(404, "not-found");
    replay(ours, &json!("qua_00000000000000000000000000000000")).await.expect_problem(404, "not-found");
    let gateway = ours.with_key(&world.key(&[Scope::Usage]).await);
    gateway.get(QUARANTINED).await.expect_problem(403, "insufficient-scope");
    replay(&gateway, &listed[0]["id"]).await.expect_problem(403, "insufficient-scope");
}
