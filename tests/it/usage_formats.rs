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
            ("accepted", ""),
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
    assert_eq!(client.available(&customer).await, 60_000_000 - 30 - 70 - 4);
    let mut waiting: Vec<String> = quarantined(client)
        .await
        .iter()
        .map(|event| event["event_id"].as_str().unwrap().to_owned())
        .collect();
    waiting.sort();
    assert_eq!(waiting, ["2"], "6 was counted after all");
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

/// An answer that two calls of mimo-v2-pro and an advisor on mimo-v2-omni made: 200,000 tokens in and 100 out below 256K
/// at 2x, 262,145 in and 50 out above it at 4x, 1,000 in and 10 out of omni at 1x.
fn of_three_calls() -> Value {
    json!({
        "input_tokens": 200_000,
        "output_tokens": 150,
        "iterations": [
            {"type": "message", "input_tokens": 200_000, "output_tokens": 100},
            {"type": "message", "input_tokens": 145, "cache_read_input_tokens": 262_000, "output_tokens": 50},
            {"type": "advisor_message", "model": "mimo-v2-omni", "input_tokens": 1_000, "output_tokens": 10}
        ]
    })
}
const THREE_CALLS: i64 = 2 * 200_100 + 4 * 262_195 + 1_010;

fn assert_verified(world: &World) {
    let output = world.command("verify").arg("--no-park").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_an_event_of_several_is_charged_in_its_own_band() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    let available = client.available(&customer).await;

    // Given usage of three calls, when it is reported, then each is at the rate of its own prompt and model,
    let several = reported("1", &customer, "anthropic.messages", of_three_calls());
    let answer = client.post(EVENTS, several.clone()).await.expect(200);
    assert_eq!(answer["status"], "accepted");
    let receipt = &answer["receipt"];
    assert_eq!(receipt["credits"], THREE_CALLS);
    assert_eq!((&receipt["band_prompt_tokens_max"], &receipt["rates"]), (&json!(null), &json!([])));
    let calls = receipt["calls"].as_array().unwrap().iter().map(|call| {
        json!([
            call["model"],
            call["tokens"]["input"],
            call["tokens"]["cache_read"],
            call["credits"],
            call["band_prompt_tokens_max"]
        ])
    });
    assert_eq!(
        calls.collect::<Value>(),
        json!([
            [null, 200_000, 0, 400_200, 262_144],
            [null, 145, 262_000, 1_048_780, 1_048_576],
            ["mimo-v2-omni", 1_000, 0, 1_010, 262_144],
        ])
    );
    assert_eq!(client.available(&customer).await, available - THREE_CALLS);
    assert_eq!(quarantined(client).await, [] as [Value; 0]);
    // and once: the same calls are a repeat, other calls of the same sum are other content.
    let again = client.post(EVENTS, several).await.expect(200);
    assert_eq!((&again["status"], &again["receipt"]), (&json!("duplicate"), receipt));
    let mut other = of_three_calls();
    other["iterations"][0]["input_tokens"] = json!(200_001);
    other["iterations"][1]["input_tokens"] = json!(144);
    let other = reported("1", &customer, "anthropic.messages", other);
    client.post(EVENTS, other).await.expect_problem(409, "event-conflict");

    // Who reads the event sees what each kind of each call cost.
    let path = "/v1/usage/events/1?source=urn:test";
    let event = client.get(path).await.expect(200);
    assert_eq!((&event["receipt"], &event["prompt_tokens"]), (receipt, &json!(463_145)));
    let lines = event["lines"].as_array().unwrap().iter();
    let lines: Vec<_> =
        lines.map(|line| (line["kind"].as_str().unwrap(), line["rate_milli"].as_i64().unwrap())).collect();
    assert_eq!(
        lines,
        [
            ("input", 2_000),
            ("output", 2_000),
            ("input", 4_000),
            ("cache_read", 4_000),
            ("output", 4_000),
            ("input", 1_000),
            ("output", 1_000),
        ]
    );

    // In reports the first call counts as the event, and each adds to its own model and band.
    let report = async |group_by: &str| {
        let path = format!("/v1/customers/{customer}/usage?interval=none&group_by={group_by}");
        let report = client.get(&path).await.expect(200);
        let rows = report["data"].as_array().unwrap().iter();
        let rows: Value = rows
            .map(|row| {
                json!([
                    row["model"],
                    row["band_prompt_tokens_max"],
                    row["kind"],
                    row["events"],
                    row["credits"]
                ])
            })
            .collect();
        (rows, json!([report["total"]["events"], report["total"]["credits"]]))
    };
    let by_band = json!([
        ["mimo-v2-omni", 262_144, null, 0, 1_010],
        ["mimo-v2-pro", 262_144, null, 1, 400_200],
        ["mimo-v2-pro", 1_048_576, null, 0, 1_048_780],
    ]);
    assert_eq!(report("model,band").await, (by_band, json!([1, THREE_CALLS])));
    let by_kind = json!([
        [null, null, "input", 1, 400_000 + 580 + 1_000],
        [null, null, "cache_read", 1, 1_048_000],
        [null, null, "output", 1, 200 + 200 + 10],
    ]);
    assert_eq!(report("kind").await, (by_kind, json!([1, THREE_CALLS])));
    assert_verified(&world);

    // Voided, it gives back what all its calls cost, and is in no report.
    let void =
        client.post("/v1/usage/events/1/void?source=urn:test", json!({"reason": "a test"})).await.expect(200);
    assert_eq!(void["voided"]["returned"], THREE_CALLS);
    assert_eq!(client.available(&customer).await, available);
    assert_eq!(report("model,band").await, (json!([]), json!([0, 0])));
    assert_verified(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_several_calls_that_was_kept_is_charged_by_each_of_them_later() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    let (ledger, scope, id) = (world.ledger(), world.scope().await, customer.parse().unwrap());

    // Given a parked account, when usage of three calls is reported, then it is kept with the tokens of each;
    ledger.park(&scope, id, "to be looked at").await.unwrap();
    let several = reported("1", &customer, "anthropic.messages", of_three_calls());
    let kept = client.post(EVENTS, several).await.expect(202);
    assert_eq!(kept["receipt"]["calls"][2]["tokens"]["input"], 1_000);
    assert_eq!(kept["receipt"]["calls"][2]["credits"], 0);
    assert_verified(&world);
    // once it is un-parked, it costs what it would have.
    ledger.unpark(&scope, id).await.unwrap();
    assert_eq!(world.usage().charge_kept(&scope, id).await.unwrap().credits.get(), THREE_CALLS);
    let event = client.get("/v1/usage/events/1?source=urn:test").await.expect(200);
    assert_eq!(event["receipt"]["calls"][1]["credits"], 1_048_780);

    // Of an event that no grant covers to the end, the last Credits are overage: lite has 60,000,000.
    let spent = event_of(&customer, 60_000_000 - 2 * THREE_CALLS + 1_020);
    client.post(EVENTS, spent).await.expect(200);
    let last = reported("3", &customer, "anthropic.messages", of_three_calls());
    let receipt = client.post(EVENTS, last).await.expect(200)["receipt"].clone();
    assert_eq!(receipt["overage"], 1_020);
    let overage: Value =
        receipt["calls"].as_array().unwrap().iter().map(|call| call["overage"].clone()).collect();
    assert_eq!(overage, json!([0, 10, 1_010]));
    assert_verified(&world);
}

/// An event that costs so many Credits, at 2x.
fn event_of(customer: &str, credits: i64) -> Value {
    event("2", customer, "mimo-v2-pro", json!({"output": credits / 2}))
}
