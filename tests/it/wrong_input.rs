//! Bad input gets a clear, specific error and changes nothing.

use std::collections::BTreeMap;

use diesel_async::RunQueryDsl;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, World, event, subscribe};

/// The number of rows of every table.
async fn rows(world: &World) -> BTreeMap<String, i64> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Text)]
        name: String,
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        n: i64,
    }
    let counts: Vec<Row> = diesel::sql_query(
        "select table_name::text as name, (xpath('/row/c/text()', query_to_xml(
             format('select count(*) as c from %I', table_name), false, true, '')))[1]::text::bigint as n
         from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE'",
    )
    .load(&mut world.stores.superuser().await)
    .await
    .unwrap();
    counts.into_iter().map(|row| (row.name, row.n)).collect()
}

async fn raw(client: &Client, path: &str, content_type: &str, body: &str) -> (u16, String) {
    let request = client
        .request(Method::POST, path)
        .header("Idempotency-Key", "raw")
        .header("Content-Type", content_type)
        .body(body.to_owned());
    let answer = client.send(request).await;
    let code = answer.body["type"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    (answer.status.as_u16(), code.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_named_and_leaves_no_row() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    let newcomer = client.customer("grace").await;
    let before = rows(&world).await;

    // Whole bodies.
    let events = "/v1/usage/events";
    for (content_type, body, status, code) in [
        ("application/json", "{", 400, "invalid-json"),
        ("application/json", "", 400, "invalid-json"),
        ("application/json", r#"{"source": NaN}"#, 400, "invalid-json"),
        ("application/json", r#"{"source": "a", "source": "b"}"#, 400, "invalid-json"),
        ("application/json", "\u{feff}{}", 400, "invalid-json"),
        ("application/json", r#"{"source": 1e999, "source": 1}"#, 400, "invalid-json"),
        ("application/json", r#"{"source": 1e999,"#, 400, "invalid-json"),
        ("application/json", r#"{"source": 1e999}}}"#, 400, "invalid-json"),
        ("application/json", r#"{"source": 1e999}"#, 422, "invalid-field"),
        ("application/json", "7", 422, "invalid-field"),
        ("application/json", "[]", 422, "invalid-field"),
        ("text/plain", "{}", 415, "unsupported-media-type"),
        ("application/x-www-form-urlencoded", "a=b", 415, "unsupported-media-type"),
        ("application/json; charset=utf-16", "{}", 415, "unsupported-media-type"),
    ] {
        assert_eq!(raw(client, events, content_type, body).await, (status, code.to_owned()), "{body}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(raw(client, events, "application/json", &deep).await.0, 400);
    let large = format!("[{}]", vec!["{}"; 3_000_000].join(","));
    assert_eq!(raw(client, events, "application/json", &large).await, (413, "payload-too-large".to_owned()));

    // Tokens.
    for tokens in ["-1", "1.5", "1e3", "\"5\"", "null", "18446744073709551616", "true", "[]", "{}"] {
        let body = format!(
            r#"{{"source":"s","id":"1","customer":"{customer}","model":"mimo-v2-pro","usage":{{"input":{tokens}}}}}"#
        );
        let answer = raw(client, events, "application/json", &body).await;
        assert_eq!(answer, (422, "invalid-field".to_owned()), "{tokens}");
    }
    for usage in [
        json!({"input": 9_223_372_036_854_775_807_u64, "cache_read": 1}),
        json!({"input": 1_000_000_000_000_u64, "cache_read": 1}),
        json!({"input": 0, "output": 1_000_000_000_001_u64}),
        json!({"input": 0, "output": 9_200_000_000_000_000_000_u64}),
        json!({"input": 9_223_372_036_854_775_808_u64}),
    ] {
        let answer = client.post(events, event("1", &customer, "mimo-v2-pro", usage.clone())).await;
        assert_eq!(answer.status, 422, "{usage}: {}", answer.body);
    }
    let usage = json!({"output": 5, "reasoning": 6});
    let answer = client.post(events, event("1", &customer, "mimo-v2-pro", usage)).await;
    answer.expect_problem(422, "invalid-field");
    assert_eq!(answer.body["errors"][0]["pointer"], "/usage/reasoning");

    // Other fields of an event.
    let good = event("1", &customer, "mimo-v2-pro", json!({"input": 1}));
    for (field, value, code) in [
        ("id", json!(""), "invalid-field"),
        ("id", json!("x".repeat(129)), "invalid-field"),
        ("id", json!("a\u{0}b"), "invalid-field"),
        ("source", json!("caf\u{e9}"), "invalid-field"),
        ("customer", json!("' OR 1=1--"), "invalid-field"),
        ("model", json!("a b"), "invalid-field"),
        ("outcome", json!("exploded"), "invalid-field"),
        ("outcome", json!({"completed": null}), "invalid-field"),
        ("usage_source", json!(null), "invalid-field"),
        ("authorization", json!("a b"), "invalid-field"),
        ("time", json!("2026-01-31T10:00:00"), "invalid-field"),
        ("time", json!("2026-12-31T23:59:60Z"), "invalid-field"),
        ("time", json!("0001-01-01T00:00:00Z"), "event-time-out-of-range"),
        ("time", json!("9999-12-31T00:00:00Z"), "event-time-out-of-range"),
        ("time", json!("2026-02-01T10:00:00Z"), "event-time-out-of-range"),
        ("time", json!("2026-01-28T09:59:59Z"), "event-time-out-of-range"),
        ("price", json!(1), "invalid-field"),
        ("tenant_id", json!("x"), "invalid-field"),
        ("__proto__", json!({}), "invalid-field"),
    ] {
        let mut bad = good.clone();
        bad[field] = value.clone();
        client.post(events, bad).await.expect_problem(422, code);
    }

    // Authorizations and subscriptions.
    client.authorize("a", &customer, "no-such-model", 1, 1).await.expect_problem(422, "not-rated");
    client.authorize("a", &customer, "mimo-v2-flash", 1, 1).await.expect_problem(422, "not-rated");
    client.authorize("a", &customer, "mimo-v2-pro", 1_048_577, 1).await.expect_problem(422, "not-rated");
    client.authorize("a b", &customer, "mimo-v2-pro", 1, 1).await.expect_problem(422, "invalid-field");
    for (field, value, status, code) in [
        ("plan", json!("platinum"), 422, "unknown-plan"),
        ("currency", json!("EUR"), 422, "invalid-field"),
        ("currency", json!({"USD": null}), 422, "invalid-field"),
        ("payment_method", json!("pm_nobody"), 422, "unknown-payment-method"),
        ("payment_method", json!("4242-4242-4242-4242"), 422, "card-data-refused"),
        ("promotion", json!("half-price"), 422, "unknown-promotion"),
        ("customer", json!("cus_00000000000000000000000000000000"), 404, "not-found"),
        ("credits", json!(1_000_000), 422, "invalid-field"),
        ("status", json!("active"), 422, "invalid-field"),
        ("discount", json!(10_000), 422, "invalid-field"),
    ] {
        let mut bad = subscribe(&newcomer, "lite", "pm_sandbox_succeeds");
        bad[field] = value;
        client.post("/v1/subscriptions", bad).await.expect_problem(status, code);
    }

    let card = json!({"external_id": "card", "name": "4242 4242 4242 4242"});
    client.post("/v1/customers", card).await.expect_problem(422, "card-data-refused");
    let far = json!({"to": "2028-02-02T10:00:00Z"});
    client.post("/v1/test-clock/advance", far).await.expect_problem(422, "invalid-field");
    for instant in ["1999-12-31T23:59:59Z", "9000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"] {
        let answer = client.put("/v1/test-clock", json!({"now": instant})).await;
        answer.expect_problem(422, "invalid-field");
        assert_eq!(answer.body["errors"], json!([{"pointer": "/now", "code": "out-of-range"}]), "{instant}");
    }
    let scopes = json!({"name": "k", "scopes": [{"read": null}]});
    client.post("/v1/api-keys", scopes).await.expect_problem(422, "invalid-field");

    // Bodies where none is taken.
    let (subscription, nobody) = (format!("sub_{:032x}", 1), format!("whe_{:032x}", 1));
    for (method, path) in [
        (Method::POST, "/v1/rollovers".to_owned()),
        (Method::DELETE, format!("/v1/subscriptions/{subscription}/cancel")),
        (Method::DELETE, format!("/v1/subscriptions/{subscription}/scheduled-plan")),
        (Method::DELETE, format!("/v1/webhook-endpoints/{nobody}")),
        (Method::DELETE, format!("/v1/api-keys/key_{:032x}", 1)),
    ] {
        for (content_type, body, status) in [
            ("application/json", "{", 400),
            ("application/json", r#"{"a": 1}"#, 422),
            ("application/json", "[]", 422),
            ("text/plain", "{}", 415),
        ] {
            let request = client.request(method.clone(), &path).header("Idempotency-Key", "none");
            let answer = client.send(request.header("Content-Type", content_type).body(body)).await;
            assert_eq!(answer.status.as_u16(), status, "{method} {path} {body}: {}", answer.body);
        }
    }

    // Keys, cursors, paths.
    let no_key = client.request(Method::POST, "/v1/subscriptions").json(&subscribe(&customer, "lite", "x"));
    client.send(no_key).await.expect_problem(400, "idempotency-key-missing");
    for key in ["", "a b", &"x".repeat(256)] {
        let request = client.request(Method::POST, "/v1/subscriptions").header("Idempotency-Key", key);
        let answer = client.send(request.json(&subscribe(&customer, "lite", "x"))).await;
        assert_eq!(answer.status, 400, "{key:?}: {}", answer.body);
    }
    for query in ["cursor=nonsense", "cursor=%00", "limit=0", "limit=1000000", "limit=x", "sort=id"] {
        let answer = client.get(&format!("/v1/customers/{customer}/ledger?{query}")).await;
        assert!([400, 422].contains(&answer.status.as_u16()), "{query}: {} {}", answer.status, answer.body);
    }
    for path in [
        "/v1/customers/%00",
        "/v1/customers/%ff",
        "/v1/customers/..%2f",
        "/v1//customers",
        "/v1/customers;x",
        "/v1/rate-cards/+1",
        "/v1/rate-cards/01",
        "/v2",
        "/",
    ] {
        let answer = client.get(path).await;
        assert!([400, 404].contains(&answer.status.as_u16()), "{path}: {} {}", answer.status, answer.body);
    }
    let wrong_method = client.delete("/v1/plans").await;
    wrong_method.expect_problem(405, "method-not-allowed");
    assert_eq!(wrong_method.headers["allow"], "GET");

    assert_eq!(rows(&world).await, before, "no row was added or taken away");
    assert_eq!(client.available(&customer).await, 60_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_names_the_field_and_the_request_and_nothing_inside() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let mut bad = event("1", &customer, "mimo-v2-pro", json!({"input": 1}));
    bad["usage"]["output"] = json!(-5);
    let answer = client.post("/v1/usage/events", bad).await;
    answer.expect_problem(422, "invalid-field");
    assert_eq!(answer.body["errors"][0]["pointer"], "/usage/output");
    assert_eq!(answer.body["instance"], answer.headers["x-request-id"].to_str().unwrap());
    let text = answer.body.to_string();
    for inside in ["serde", "diesel", "select", "panicked", ".rs", "i64", "u64"] {
        assert!(!text.contains(inside), "{inside} in {text}");
    }
    let unknown: Value = client.get("/v1/nothing").await.body;
    assert_eq!(unknown["status"], 404);
}
