//! Authorizations and usage: priced exactly, never oversold, explained.

use serde_json::{Value, json};

use crate::support::{World, event};

/// A small generator, so that a trace is the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// One request of a made-up trace.
struct Row {
    model: &'static str,
    input: u64,
    cache_read: u64,
    cache_write: u64,
    output: u64,
}

/// Prompts around the bands' bounds and up to 1M, cache kinds, zero counts.
fn trace(seed: u64, rows: usize) -> Vec<Row> {
    let mut random = Random(seed);
    let bounds = [0, 1, 262_143, 262_144, 262_145, 500_000, 1_048_575, 1_048_576];
    (0..rows)
        .map(|_| {
            let model = ["mimo-v2-pro", "mimo-v2-omni", "mimo-v2-tts", "cached"][random.below(4) as usize];
            let prompt = match random.below(3) {
                0 => bounds[random.below(8) as usize],
                1 => random.below(10_000),
                _ => random.below(1_048_577),
            };
            let prompt = if model == "mimo-v2-omni" { prompt.min(262_144) } else { prompt };
            let cache_read = random.below(prompt + 1);
            let cache_write = random.below(prompt - cache_read + 1);
            let output = random.below(3) * random.below(4_000);
            Row { model, input: prompt - cache_read - cache_write, cache_read, cache_write, output }
        })
        .collect()
}

/// The price list once more, by hand and apart from the product.
fn cost(row: &Row) -> i64 {
    let prompt = row.input + row.cache_read + row.cache_write;
    let milli = match row.model {
        "mimo-v2-pro" if prompt <= 262_144 => 2_000 * (prompt + row.output),
        "mimo-v2-pro" => 4_000 * (prompt + row.output),
        "mimo-v2-omni" => 1_000 * (prompt + row.output),
        "mimo-v2-tts" => 0,
        // The model of this test's own: 1x, cache reads 0.1x, cache writes 1.25x, output 3x.
        "cached" => 1_000 * row.input + 100 * row.cache_read + 1_250 * row.cache_write + 3_000 * row.output,
        other => panic!("{other}"),
    };
    i64::try_from(milli.div_ceil(1_000)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_trace_charges_what_a_price_list_by_hand_sums_up() {
    let world = World::new().await;
    // The reference catalogue and one model more, loaded by command as an operator would.
    let file = std::env::temp_dir().join(format!("tollgate-cached-{}.toml", std::process::id()));
    let cached = "\n[[models]]\ncode = \"cached\"\n\n[[models.bands]]\nprompt_tokens_max = 1048576\n\
         credit_rates_milli = { input = 1000, cache_read = 100, cache_write = 1250, output = 3000 }\n";
    std::fs::write(&file, format!("{}{cached}", catalog::REFERENCE)).unwrap();
    let tenant = world.tenant.to_string();
    let load =
        ["load", file.to_str().unwrap(), "--tenant", &tenant, "--effective-at", "2026-01-31T10:00:01Z"];
    let loaded = world.command("catalog").args(load).output().unwrap();
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    std::fs::remove_file(&file).unwrap();

    let server = world.serve().await;
    let client = &server.client;
    client.advance_to("2026-01-31T10:00:01Z").await;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "max").await;
    let rows = trace(20_260_131, 600);
    let events: Vec<Value> = rows
        .iter()
        .enumerate()
        .map(|(n, row)| {
            let usage = json!({"input": row.input, "cache_read": row.cache_read,
                "cache_write": row.cache_write, "output": row.output});
            event(&n.to_string(), &customer, row.model, usage)
        })
        .collect();
    let mut charged = Vec::new();
    for batch in events.chunks(100) {
        let answer = client.post("/v1/usage/events", json!(batch)).await.expect(200);
        for result in answer["results"].as_array().unwrap() {
            assert_eq!(result["status"], "accepted", "{result}");
            charged.push(result["receipt"]["credits"].as_i64().unwrap());
        }
    }
    let by_hand: Vec<i64> = rows.iter().map(cost).collect();
    assert_eq!(charged, by_hand);
    let sum: i64 = by_hand.iter().sum();
    assert!(sum < 1_600_000_000, "the pool covers the trace: {sum}");
    assert_eq!(client.available(&customer).await, 1_600_000_000 - sum);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_pool_the_answer_is_402_in_the_shape_that_coding_tools_show() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    // 59,999,000 of 60,000,000 Credits.
    for (n, tokens) in [20_000_000_u64, 9_999_500].into_iter().enumerate() {
        let usage = json!({"input": 0, "output": tokens});
        client
            .post("/v1/usage/events", event(&n.to_string(), &customer, "mimo-v2-pro", usage))
            .await
            .expect(200);
    }
    assert_eq!(client.available(&customer).await, 1_000);
    // A prompt of 400 costs 800; what is left pays for 100 tokens of output.
    let partial = client.authorize("partial", &customer, "mimo-v2-pro", 400, 32_000).await.expect(201);
    assert_eq!((&partial["credits_held"], &partial["max_output_tokens"]), (&json!(1_000), &json!(100)));
    let refused = client.authorize("refused", &customer, "mimo-v2-pro", 1_000, 100).await;
    assert_eq!(refused.status, 402);
    assert_eq!(refused.headers["content-type"], "application/json");
    assert!(!refused.headers.contains_key("retry-after"));
    let message = refused.body["error"]["message"].as_str().unwrap().to_owned();
    let request_id = refused.headers["x-request-id"].to_str().unwrap();
    assert_eq!(
        refused.body,
        json!({
            "type": "error",
            "error": {"type": "billing_error", "code": "insufficient_quota", "message": message, "param": null},
            "request_id": request_id,
            "needed": 2_000,
            "remaining": 0,
            "resets_at": "2026-02-28T10:00:00.000000Z",
            "upgrade_url": null
        })
    );
    // Usage that happened anyway is recorded: the rest is overage.
    let usage = json!({"input": 1_000, "output": 0});
    let late =
        client.post("/v1/usage/events", event("late", &customer, "mimo-v2-pro", usage)).await.expect(200);
    assert_eq!((&late["receipt"]["credits"], &late["receipt"]["overage"]), (&json!(2_000), &json!(1_000)));
    assert_eq!(client.balance(&customer).await["overage"], 1_000);
    client.authorize("free", &customer, "mimo-v2-tts", 1_000, 100).await.expect(201);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_authorizations_at_once_never_hold_more_than_is_left() {
    let world = World::new().await;
    let servers = [world.serve().await, world.serve().await];
    let client = &servers[0].client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    // 5,000,000 each: twelve fit.
    let calls = (0..64).map(|n| {
        let (client, customer) = (servers[n % 2].client.clone(), customer.clone());
        tokio::spawn(async move {
            client.authorize(&format!("a{n}"), &customer, "mimo-v2-omni", 249_904, 0).await;
            client.authorize(&format!("b{n}"), &customer, "mimo-v2-pro", 1_048_576, 0).await
        })
    });
    let mut held = 0;
    for call in calls.collect::<Vec<_>>() {
        let answer = call.await.unwrap();
        match answer.status.as_u16() {
            201 => held += answer.body["credits_held"].as_i64().unwrap(),
            402 => {}
            other => panic!("{other}: {}", answer.body),
        }
    }
    let balance = client.balance(&customer).await;
    assert!(held > 0 && held <= 60_000_000, "{held}");
    assert!(balance["held"].as_i64().unwrap() <= 60_000_000, "{balance}");
    assert_eq!(balance["settled"], 60_000_000);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_captures_its_authorization_and_a_second_one_says_that_it_is_gone() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    let granted = client.authorize("call", &customer, "mimo-v2-pro", 1_000, 500).await.expect(201);
    assert_eq!(granted["credits_held"], 3_000);
    assert_eq!(client.available(&customer).await, 59_997_000);
    let same = client.authorize("call", &customer, "mimo-v2-pro", 1_000, 500).await.expect(201);
    assert_eq!(same["granted_at"], granted["granted_at"], "the same id answers the same hold");
    let other = client.authorize("call", &customer, "mimo-v2-pro", 1_001, 500).await;
    other.expect_problem(409, "authorization-reused");

    let mut usage = event("1", &customer, "mimo-v2-pro", json!({"input": 1_000, "output": 20}));
    usage["authorization"] = json!("call");
    let result = client.post("/v1/usage/events", usage.clone()).await.expect(200);
    assert_eq!(result["receipt"]["hold"], "captured");
    assert_eq!(result["receipt"]["balance_after"], 59_997_960);
    assert_eq!(client.available(&customer).await, 59_997_960);
    assert_eq!(client.post("/v1/usage/events", usage.clone()).await.expect(200)["status"], "duplicate");
    usage["id"] = json!("2");
    let second = client.post("/v1/usage/events", usage).await.expect(200);
    assert_eq!(second["status"], "accepted");
    assert_eq!(
        (&second["receipt"]["hold"], &second["receipt"]["no_hold_reason"]),
        (&json!("none"), &json!("captured"))
    );
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_authorization_gives_all_of_it_back() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    client.authorize("call", &customer, "mimo-v2-pro", 1_000, 500).await.expect(201);
    let release = json!({"customer": customer});
    client.post("/v1/authorizations/call/release", release.clone()).await.expect(200);
    client.post("/v1/authorizations/call/release", release).await.expect(200);
    assert_eq!(client.available(&customer).await, 60_000_000);
    let price = json!({"model": "mimo-v2-pro", "prompt": {"input": 1_000}, "max_output_tokens": 500});
    let price = client.post("/v1/authorizations/price", price).await.expect(200);
    assert_eq!(price["estimate_credits"], 3_000);
    assert_eq!(client.available(&customer).await, 60_000_000, "a price holds nothing");
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_answers_one_result_for_each_event_in_order() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    let one = |id: &str, model: &str, input: u64| event(id, &customer, model, json!({"input": input}));
    let stranger = "cus_00000000000000000000000000000000";
    let batch = json!([
        one("1", "mimo-v2-pro", 10),
        one("1", "mimo-v2-pro", 10),
        one("1", "mimo-v2-pro", 11),
        one("2", "no-such-model", 10),
        one("3", "mimo-v2-flash", 10),
        event("4", stranger, "mimo-v2-pro", json!({"input": 10})),
        event("5", &customer, "mimo-v2-pro", json!({"input": -1})),
        one("6", "mimo-v2-omni", 262_145),
        one("7", "mimo-v2-omni", 1),
    ]);
    let answer = client.post("/v1/usage/events", batch).await.expect(200);
    let statuses: Vec<&str> =
        answer["results"].as_array().unwrap().iter().map(|r| r["status"].as_str().unwrap()).collect();
    assert_eq!(
        statuses,
        [
            "accepted",
            "duplicate",
            "conflict",
            "unrated",
            "unrated",
            "rejected",
            "rejected",
            "unrated",
            "accepted"
        ]
    );
    assert_eq!(client.available(&customer).await, 60_000_000 - 20 - 1);
    let unrated = client.get("/v1/usage/unrated").await.expect(200);
    let mut reasons: Vec<(&str, &str)> = unrated["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (event["id"].as_str().unwrap(), event["reason"].as_str().unwrap()))
        .collect();
    reasons.sort();
    assert_eq!(
        reasons,
        [("2", "unknown-model"), ("3", "no-credit-rate"), ("6", "prompt-above-last-band")],
        "kept and visible, never free"
    );
    client.post("/v1/usage/events", one("8", "no-such-model", 1)).await.expect(202);
    client.post("/v1/usage/events", one("7", "mimo-v2-omni", 2)).await.expect_problem(409, "event-conflict");
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_many_customers_is_answered_in_its_order_whatever_of_it_is_new() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let mut customers = Vec::new();
    for number in 0..8 {
        let customer = client.customer(&format!("customer-{number}")).await;
        client.subscribe(&customer, "lite").await;
        customers.push(customer);
    }
    // 400 events, 50 of each, in turn: event n is of customer n % 8, and the 2nd to the 51st transfer there.
    let one = |n: usize| event(&format!("e{n}"), &customers[n % 8], "mimo-v2-omni", json!({"input": n + 1}));
    let report = async |events: Vec<Value>| {
        let answer = client.post("/v1/usage/events", json!(events)).await.expect(200);
        answer["results"].as_array().unwrap().clone()
    };
    let results = report((0..400).map(one).collect()).await;
    for (n, result) in results.iter().enumerate() {
        let receipt = &result["receipt"];
        let seen = json!([result["status"], result["id"], receipt["credits"], receipt["account_version"]]);
        assert_eq!(seen, json!(["accepted", format!("e{n}"), n + 1, 2 + n / 8]));
    }
    // Sent again, with as many that are new between them: the ones are repeats with their first receipts.
    let mixed = (200..600).flat_map(|n| [one(n % 400), one(400 + n)]).collect();
    for (place, result) in report(mixed).await.iter().enumerate() {
        let n = 200 + place / 2;
        if place % 2 == 1 {
            assert_eq!(
                (&result["status"], &result["receipt"]["credits"]),
                (&json!("accepted"), &json!(401 + n))
            );
        } else {
            assert_eq!(result["status"], "duplicate");
            assert_eq!(result["receipt"], results[n % 400]["receipt"]);
        }
    }
    // An id for several customers is the first one's, whoever they are.
    for round in 0..8 {
        let of = |customer: usize| {
            event(
                &format!("x{round}"),
                &customers[(round + customer) % 8],
                "mimo-v2-omni",
                json!({"input": 1}),
            )
        };
        let statuses: Value =
            report((0..8).map(of).collect()).await.iter().map(|r| r["status"].clone()).collect();
        let expected: Vec<&str> =
            std::iter::once("accepted").chain(std::iter::repeat_n("conflict", 7)).collect();
        assert_eq!(statuses, json!(expected));
    }
    let output = world.command("verify").arg("--no-park").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hold_is_captured_once_in_a_batch_and_an_old_repeat_is_a_repeat() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    client.authorize("call", &customer, "mimo-v2-pro", 1_000, 500).await.expect(201);
    let captures = |id: &str| {
        let mut usage = event(id, &customer, "mimo-v2-pro", json!({"input": 10}));
        usage["authorization"] = json!("call");
        usage["time"] = json!("2026-01-31T10:00:00Z");
        usage
    };
    let batch = client.post("/v1/usage/events", json!([captures("1"), captures("2")])).await.expect(200);
    let holds: Vec<&Value> =
        batch["results"].as_array().unwrap().iter().map(|r| &r["receipt"]["hold"]).collect();
    assert_eq!(holds, ["captured", "none"]);

    // Four days later the event is too old to be new, and still the one that was counted.
    client.advance_to("2026-02-04T10:00:00Z").await;
    let again = client.post("/v1/usage/events", captures("1")).await.expect(200);
    assert_eq!(again["status"], "duplicate");
    client.post("/v1/usage/events", captures("3")).await.expect_problem(422, "event-time-out-of-range");
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_counts_once_though_a_batch_had_it_with_a_time_that_is_not_accepted_too() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    let now = event("1", &customer, "mimo-v2-omni", json!({"input": 1_000}));
    let mut too_old = now.clone();
    too_old["time"] = json!("2026-01-28T09:59:59Z");
    let batch = client.post("/v1/usage/events", json!([too_old, now])).await.expect(200);
    let statuses: Vec<&Value> = batch["results"].as_array().unwrap().iter().map(|r| &r["status"]).collect();
    assert_eq!(statuses, ["rejected", "accepted"]);
    let again = client.post("/v1/usage/events", now).await.expect(200);
    assert_eq!(again["status"], "duplicate");
    assert_eq!(client.available(&customer).await, 59_999_000);
    world.verify().await;
}
