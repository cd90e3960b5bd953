//! Where did the Credits go: reports by hour, day, model, band and key, and receipts.

use serde_json::{Value, json};

use crate::support::{Client, World, event};

fn at(mut event: Value, time: &str) -> Value {
    event["time"] = json!(time);
    event
}

fn with_key(mut event: Value, key: &str) -> Value {
    event["api_key"] = json!(key);
    event
}

/// Four calls on two days (the clock stands at 2026-02-02 10:00): 1,000 of omni; 2,000 x 2 of pro, by a key; a
/// long prompt of pro at 4x, by the same key; 30 of omni the day before.
async fn used(client: &Client) -> String {
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "standard").await;
    client.advance_to("2026-02-02T10:00:00Z").await;
    let omni = |id, input| event(id, &ada, "mimo-v2-omni", json!({"input": input}));
    let pro = |id, usage| with_key(event(id, &ada, "mimo-v2-pro", usage), "key-7");
    let events = json!([
        at(omni("o1", 1_000), "2026-02-02T09:59:59Z"),
        at(pro("p1", json!({"input": 1_500, "output": 500, "reasoning": 100})), "2026-02-02T09:00:00Z"),
        at(pro("p2", json!({"input": 262_144, "cache_read": 1})), "2026-02-02T08:59:59.999999Z"),
        at(omni("o2", 30), "2026-02-01T23:30:00Z"),
        event("unrated", &ada, "unknown-model", json!({"input": 5})),
    ]);
    client.post("/v1/usage/events", events).await.expect(200);
    ada
}

fn rows(report: &Value, fields: &[&str]) -> Vec<Value> {
    let rows = report["data"].as_array().unwrap().iter();
    rows.map(|row| Value::Array(fields.iter().map(|field| row[field].clone()).collect())).collect()
}

#[tokio::test]
async fn usage_is_reported_by_time_model_band_and_key() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = used(client).await;
    let path = format!("/v1/customers/{ada}/usage");

    let by_day = client.get(&path).await.expect(200);
    let day = |day: u32| json!(format!("2026-02-0{day}T00:00:00.000000Z"));
    assert_eq!(
        rows(&by_day, &["start", "model", "events", "credits"]),
        [
            json!([day(1), "mimo-v2-omni", 1, 30]),
            json!([day(2), "mimo-v2-omni", 1, 1_000]),
            json!([day(2), "mimo-v2-pro", 2, 4_000 + 4 * 262_145]),
        ]
    );
    assert_eq!(by_day["total"]["credits"], 30 + 1_000 + 4_000 + 4 * 262_145);
    assert_eq!(
        by_day["data"][2]["tokens"],
        json!({"input": 263_644, "cache_read": 1, "cache_write": 0, "output": 500, "reasoning": 100})
    );
    assert_eq!((&by_day["zone"], &by_day["data"][0].get("api_key")), (&json!("UTC"), &None));

    let by_hour = format!("{path}?interval=hour&group_by=band,api_key&from=2026-02-02T00:00:00Z");
    let by_hour = client.get(&by_hour).await.expect(200);
    assert_eq!(
        rows(&by_hour, &["start", "band_prompt_tokens_max", "api_key", "credits"]),
        [
            json!(["2026-02-02T08:00:00.000000Z", 1_048_576, "key-7", 4 * 262_145]),
            json!(["2026-02-02T09:00:00.000000Z", 262_144, null, 1_000]),
            json!(["2026-02-02T09:00:00.000000Z", 262_144, "key-7", 4_000]),
        ]
    );

    let whole = client.get(&format!("{path}?interval=none&group_by=")).await.expect(200);
    assert_eq!(rows(&whole, &["events"]), [json!([4])], "what has no rate yet is no part of it");
    let of_one_hour = format!("{path}?from=2026-02-02T09:30:00Z&to=2026-02-02T09:31:00Z");
    let of_one_hour = client.get(&of_one_hour).await.expect(200);
    assert_eq!(of_one_hour["total"]["credits"], 5_000, "whole hours");
    assert_eq!(of_one_hour["to"], "2026-02-02T10:00:00.000000Z");
}

#[tokio::test]
async fn credits_by_kind_of_token_sum_to_the_total() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = used(client).await;
    // Bob has no Credits at all: what he used is overage.
    let bob = client.customer("bob").await;
    let both = event("b1", &bob, "mimo-v2-pro", json!({"input": 10, "output": 5, "reasoning": 2}));
    client.post("/v1/usage/events", both).await.expect(200);

    let path = format!("/v1/customers/{ada}/usage?interval=none");
    let by_kind = client.get(&format!("{path}&group_by=kind")).await.expect(200);
    assert_eq!(
        rows(&by_kind, &["kind", "events", "credits"]),
        [
            // 1,000 and 30 of omni at 1x; 1,500 of pro at 2x, and 262,144 at 4x.
            json!(["input", 4, 1_000 + 30 + 2 * 1_500 + 4 * 262_144]),
            json!(["cache_read", 1, 4]),
            json!(["output", 1, 2 * 500]),
        ]
    );
    let whole = client.get(&format!("{path}&group_by=")).await.expect(200);
    assert_eq!(by_kind["total"], whole["total"], "as it is without");
    assert_eq!(
        by_kind["data"][2]["tokens"],
        json!({"input": 0, "cache_read": 0, "cache_write": 0, "output": 500, "reasoning": 100})
    );
    let by_day = client.get(&format!("/v1/customers/{ada}/usage?group_by=model,kind")).await.expect(200);
    assert_eq!(
        rows(&by_day, &["start", "model", "kind", "credits"]),
        [
            json!(["2026-02-01T00:00:00.000000Z", "mimo-v2-omni", "input", 30]),
            json!(["2026-02-02T00:00:00.000000Z", "mimo-v2-omni", "input", 1_000]),
            json!(["2026-02-02T00:00:00.000000Z", "mimo-v2-pro", "input", 2 * 1_500 + 4 * 262_144]),
            json!(["2026-02-02T00:00:00.000000Z", "mimo-v2-pro", "cache_read", 4]),
            json!(["2026-02-02T00:00:00.000000Z", "mimo-v2-pro", "output", 1_000]),
        ]
    );
    let of_bob =
        client.get(&format!("/v1/customers/{bob}/usage?interval=none&group_by=kind")).await.expect(200);
    assert_eq!(
        rows(&of_bob, &["kind", "credits", "overage"]),
        [json!(["input", 20, 20]), json!(["output", 10, 10])]
    );
    let too_long = format!("/v1/customers/{ada}/usage?group_by=kind&from=2025-12-01T00:00:00Z");
    client.get(&too_long).await.expect_problem(422, "invalid-field");
}

#[tokio::test]
async fn a_report_of_nonsense_is_refused_and_one_of_others_is_not_shown() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = used(client).await;
    let path = format!("/v1/customers/{ada}/usage");
    for query in [
        "from=2026-02-02T10:00:00Z&to=2026-02-02T10:00:00Z",
        "from=2024-01-31T10:00:00Z",
        "interval=hour&from=2025-12-01T00:00:00Z",
        "interval=minute",
        "group_by=colour",
        "from=yesterday",
        "days=3",
    ] {
        client.get(&format!("{path}?{query}")).await.expect_problem(422, "invalid-field");
    }
    let token = client.post(&format!("/v1/customers/{ada}/tokens"), json!({})).await.expect(201);
    let own = client.with_key(token["token"].as_str().unwrap());
    assert_eq!(own.get(&path).await.expect(200)["total"]["events"], 4);
    let bob = client.customer("bob").await;
    own.get(&format!("/v1/customers/{bob}/usage")).await.expect_problem(404, "not-found");
    own.get("/v1/usage/events/o1?source=urn:test").await.expect(200);
    client
        .post("/v1/usage/events", event("of/bob+1%", &bob, "mimo-v2-omni", json!({"input": 1})))
        .await
        .expect(200);
    let of_bob = "/v1/usage/events/of%2Fbob%2B1%25?source=urn:test";
    assert_eq!(client.get(of_bob).await.expect(200)["id"], "of/bob+1%");
    own.get(of_bob).await.expect_problem(404, "not-found");
    let other = client.with_key(&world.other_tenant().await);
    other.get("/v1/usage/events/o1?source=urn:test").await.expect_problem(404, "not-found");
    other.get(&path).await.expect_problem(404, "not-found");
}

#[tokio::test]
async fn no_count_of_one_event_fills_the_sums_of_its_customer() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    // Of the free model, where no cost is too large.
    let of = |id: &str, output: u64| event(id, &ada, "mimo-v2-tts", json!({"input": 1, "output": output}));
    let most = 1_000_000_000_000_u64;
    client.post("/v1/usage/events", of("one", most)).await.expect(200);
    let batch = json!([of("two", most), of("more", most + 1), of("huge", i64::MAX as u64), of("three", 5)]);
    let answer = client.post("/v1/usage/events", batch).await.expect(200);
    let statuses: Vec<_> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["status"].as_str().unwrap())
        .collect();
    assert_eq!(statuses, ["accepted", "rejected", "rejected", "accepted"]);
    assert_eq!(
        answer["results"][1]["problem"]["errors"][0],
        json!({"code": "amount-overflow", "pointer": "/usage/output"})
    );

    let used = client.get(&format!("/v1/customers/{ada}/usage")).await.expect(200);
    let total = &used["total"];
    assert_eq!((&total["events"], &total["tokens"]["output"]), (&json!(3), &json!(2 * most + 5)));
}

#[tokio::test]
async fn a_receipt_explains_what_an_event_cost() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = used(client).await;
    let seen = client.get("/v1/usage/events/p2?source=urn:test").await.expect(200);
    assert_eq!((&seen["customer"], &seen["model"]), (&json!(ada), &json!("mimo-v2-pro")));
    assert_eq!((&seen["api_key"], &seen["prompt_tokens"]), (&json!("key-7"), &json!(262_145)));
    assert_eq!(
        seen["lines"],
        json!([
            {"kind": "input", "tokens": 262_144, "rate_milli": 4_000, "milli_credits": "1048576000"},
            {"kind": "cache_read", "tokens": 1, "rate_milli": 4_000, "milli_credits": "4000"},
        ])
    );
    let receipt = &seen["receipt"];
    assert_eq!(receipt["credits"], 4 * 262_145);
    assert_eq!(
        (&receipt["band_prompt_tokens_max"], &receipt["catalog_version"]),
        (&json!(1_048_576), &json!(1))
    );
    assert_eq!(receipt["draws"][0]["credits"], 4 * 262_145);
    let unrated = client.get("/v1/usage/events/unrated?source=urn:test").await.expect(200);
    assert_eq!(unrated["receipt"]["unrated_reason"], "unknown-model");
    client.get("/v1/usage/events/o1").await.expect_problem(422, "invalid-field");
    client.get("/v1/usage/events/o1?source=urn:other").await.expect_problem(404, "not-found");
}

#[tokio::test]
async fn usage_lies_in_the_month_that_it_happened_in() {
    use diesel::sql_types::{BigInt, Text};
    use diesel_async::RunQueryDsl;
    #[derive(diesel::QueryableByName)]
    struct Partition {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = BigInt)]
        events: i64,
    }
    let world = World::new().await;
    let server = world.serve().await;
    used(&server.client).await;
    let february = chrono::DateTime::parse_from_rfc3339("2026-02-15T00:00:00Z").unwrap().to_utc();
    let usage = world.usage();
    // January to April: what lay in none of them moves.
    assert_eq!(usage.open_months(february).await.unwrap(), 4);
    assert_eq!(usage.open_months(february).await.unwrap(), 0);
    let again = event("o1", "cus_00000000000000000000000000000001", "mimo-v2-omni", json!({"input": 1}));
    let again = server.client.post("/v1/usage/events", again).await;
    assert_eq!(again.status, 422, "of nobody");
    let mut superuser = world.stores.superuser().await;
    let partitions: Vec<Partition> = diesel::sql_query(
        "select tableoid::regclass::text as name, count(*) as events from usage_events group by 1 order by 1",
    )
    .load(&mut superuser)
    .await
    .unwrap();
    let partitions: Vec<(&str, i64)> = partitions.iter().map(|of| (of.name.as_str(), of.events)).collect();
    assert_eq!(partitions, [("usage_events_2026_02", 5)]);
    let seen = server.client.get("/v1/usage/events/p2?source=urn:test").await.expect(200);
    assert_eq!(seen["receipt"]["credits"], 4 * 262_145);
}

#[tokio::test]
async fn sessions_of_half_a_million_tokens_fit_200_times_into_standard_or_100_with_long_prompts() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ask = |context: u64| {
        json!({"model": "mimo-v2-pro", "sessions": 80, "tokens": {"input": 400_000, "output": 100_000},
            "context_tokens": context, "currency": "USD"})
    };
    let fits = |estimate: &Value| -> Vec<i64> {
        estimate["fits"].as_array().unwrap().iter().map(|fit| fit["sessions"].as_i64().unwrap()).collect()
    };
    let short = client.post("/v1/estimates", ask(262_144)).await.expect(200);
    assert_eq!((&short["credits_each"], &short["credits"]), (&json!(1_000_000), &json!(80_000_000)));
    assert_eq!(fits(&short), [60, 200, 700, 1_600]);
    // Lite has 60 of the 80 million; two top-ups of 10 million have the rest.
    assert_eq!(
        short["offers"][0],
        json!({"plan": "lite", "credits": 80_000_000, "top_up": {"top_up": "topup-10m", "count": 2},
            "price": {"amount_minor": 800, "currency": "USD"}})
    );
    // 80 x (0.40 + 0.30).
    assert_eq!(short["pay_as_you_go"], json!({"amount_minor": 5_600, "currency": "USD"}));
    let long = client.post("/v1/estimates", ask(262_145)).await.expect(200);
    assert_eq!((fits(&long), &long["pay_as_you_go"]), (vec![30, 100, 350, 800], &Value::Null));
    client.post("/v1/estimates", ask(1_048_577)).await.expect_problem(422, "not-rated");
    let mut none = ask(1);
    none["sessions"] = json!(0);
    client.post("/v1/estimates", none).await.expect_problem(422, "invalid-field");
}

#[tokio::test]
async fn a_forecast_goes_on_as_it_was() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "lite").await;
    client.advance_to("2026-02-02T10:00:00Z").await;
    // 20,000,000 Credits of omni in the last two days: 40,000,000 are left.
    let events = crate::support::events_totalling("run", &ada, "mimo-v2-omni", 20_000_000, 0);
    client.post("/v1/usage/events", json!(events)).await.expect(200);
    let forecast = client.get(&format!("/v1/customers/{ada}/forecast?days=2&currency=USD")).await.expect(200);
    assert_eq!((&forecast["used"], &forecast["available"]), (&json!(20_000_000), &json!(40_000_000)));
    assert_eq!(forecast["depleted_at"], "2026-02-06T10:00:00.000000Z");
    assert_eq!(forecast["resets_at"], "2026-02-28T10:00:00.000000Z");
    let balance = client.balance(&ada).await;
    let period = [&balance["period_start"], &balance["period_end"]];
    assert_eq!(period, ["2026-01-31T10:00:00.000000Z", "2026-02-28T10:00:00.000000Z"]);
    assert_eq!((&balance["used"], &balance["granted"]), (&json!(20_000_000), &json!(60_000_000)));
    assert_eq!(forecast["credits_a_month"], 300_000_000);
    // Standard's 200 million and ten top-ups: 16.00 + 10.00; Lite and 24 of them are 30.00.
    assert_eq!(forecast["offers"][0]["price"]["amount_minor"], 2_600);
    // 300 million tokens at 0.40.
    assert_eq!(forecast["pay_as_you_go"], json!({"amount_minor": 12_000, "currency": "USD"}));
    let unused = client.customer("bob").await;
    assert_eq!(client.balance(&unused).await["period_end"], Value::Null);
    let unused = client.get(&format!("/v1/customers/{unused}/forecast?currency=CNY")).await.expect(200);
    assert_eq!((&unused["depleted_at"], &unused["used"]), (&Value::Null, &json!(0)));
    for query in ["", "?currency=EUR", "?currency=USD&days=0", "?currency=USD&days=32"] {
        client
            .get(&format!("/v1/customers/{ada}/forecast{query}"))
            .await
            .expect_problem(422, "invalid-field");
    }
}
