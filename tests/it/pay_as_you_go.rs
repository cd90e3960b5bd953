//! Without Credits: by the token up to a spend cap, at the cycle's or the month's end; or a top-up that buys itself.

use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use domain::exhaustion::Exhaustion;
use domain::policy::Policies;
use serde_json::{Value, json};
use testkit::Stores;

use crate::support::{Client, World, event};
use crate::top_ups::verify;

async fn set(client: &Client, customer: &str, body: Value) -> Value {
    client.put(&format!("/v1/customers/{customer}/exhaustion"), body).await.expect(200)
}

async fn exhaustion(client: &Client, customer: &str) -> Value {
    client.get(&format!("/v1/customers/{customer}/exhaustion")).await.expect(200)
}

async fn use_up(client: &Client, id: &str, customer: &str, model: &str, usage: Value) -> Value {
    client.post("/v1/usage/events", event(id, customer, model, usage)).await.expect(200)["receipt"].clone()
}

async fn invoices(client: &Client, customer: &str) -> Vec<Value> {
    let page = client.get(&format!("/v1/invoices?customer={customer}&limit=200")).await.expect(200);
    let mut invoices = Vec::new();
    for invoice in page["data"].as_array().unwrap() {
        invoices
            .push(client.get(&format!("/v1/invoices/{}", invoice["id"].as_str().unwrap())).await.expect(200));
    }
    invoices
}

fn lines(invoice: &Value) -> Vec<(&str, &str, i64)> {
    let lines = invoice["lines"].as_array().unwrap().iter();
    lines
        .map(|l| {
            (
                l["kind"].as_str().unwrap(),
                l["description"].as_str().unwrap(),
                l["amount_minor"].as_i64().unwrap(),
            )
        })
        .collect()
}

fn big() -> Value {
    json!({"input": 262_144, "output": 737_856})
}

/// 59,999,000 of lite's 60,000,000 Credits.
async fn spend_all_but_a_thousand(client: &Client, customer: &str) {
    for n in 0..59 {
        use_up(client, &format!("{customer}-{n}"), customer, "mimo-v2-omni", big()).await;
    }
    use_up(
        client,
        &format!("{customer}-rest"),
        customer,
        "mimo-v2-omni",
        json!({"input": 1, "output": 998_999}),
    )
    .await;
    assert_eq!(client.available(customer).await, 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgresql_does_not_answer_nobody_who_pays_by_the_token_is_said_to_be_out_of_credits() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (ada, bob) = (client.customer("ada").await, client.customer("bob").await);
    set(client, &ada, json!({"exhaustion": "payg", "spend_cap_minor": 1_000})).await;
    // Neither has any Credits, and Redis knows of both how they go on.
    client.authorize("a1", &ada, "mimo-v2-omni", 1_000, 0).await.expect(201);
    client.authorize("b1", &bob, "mimo-v2-omni", 1_000, 0).await.expect(402);
    let mut superuser = world.stores.superuser().await;
    superuser.batch_execute("begin; lock table credit_accounts in access exclusive mode").await.unwrap();
    client.authorize("a2", &ada, "mimo-v2-omni", 1_000, 0).await.expect(503);
    client.authorize("b2", &bob, "mimo-v2-omni", 1_000, 0).await.expect(402);
    superuser.batch_execute("rollback").await.unwrap();
    client.authorize("a2", &ada, "mimo-v2-omni", 1_000, 0).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_plan_does_not_cover_is_billed_by_the_token_at_the_cycles_end() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "lite").await;
    let settings = set(client, &ada, json!({"exhaustion": "payg", "spend_cap_minor": 1_000})).await;
    assert_eq!(
        (&settings["exhaustion"], &settings["currency"], &settings["accrued_pico"]),
        (&json!("payg"), &json!("USD"), &json!("0"))
    );
    spend_all_but_a_thousand(client, &ada).await;

    // 1,000 of input and 1,000 of output of pro: 4,000 Credits, of which 1,000 are covered, and 0.001 + 0.003 USD, of which
    // three quarters are billed.
    let partly =
        use_up(client, "partly", &ada, "mimo-v2-pro", json!({"input": 1_000, "output": 1_000})).await;
    assert_eq!(
        (&partly["credits"], &partly["overage"], &partly["balance_after"]),
        (&json!(4_000), &json!(3_000), &json!(0))
    );
    assert_eq!(
        (&partly["payg"]["credits"], &partly["payg"]["pico"], &partly["payg"]["past_cap_pico"]),
        (&json!(3_000), &json!("3000000000"), &json!("0"))
    );
    assert_eq!(
        partly["payg"]["lines"],
        json!([
            {"kind": "input", "tokens": 1_000, "price_micro": 1_000_000, "pico": "750000000"},
            {"kind": "output", "tokens": 1_000, "price_micro": 3_000_000, "pico": "2250000000"},
        ])
    );
    let again = use_up(client, "partly", &ada, "mimo-v2-pro", json!({"input": 1_000, "output": 1_000})).await;
    assert_eq!(again, partly, "a repeat is billed once");

    // The whole of the next: 1M of omni's output would be 2.00 USD, 500,000 are 1.00.
    let whole =
        use_up(client, "whole", &ada, "mimo-v2-omni", json!({"input": 250_000, "output": 500_000})).await;
    assert_eq!((&whole["overage"], &whole["payg"]["pico"]), (&json!(750_000), &json!("1100000000000")));
    // Flash has no Credit rate: 0.09 and 0.29 USD a million.
    let flash =
        use_up(client, "flash", &ada, "mimo-v2-flash", json!({"input": 100_000, "output": 1_000_000})).await;
    assert_eq!(
        (&flash["credits"], &flash["payg"]["credits"], &flash["payg"]["pico"]),
        (&json!(0), &json!(0), &json!("299000000000"))
    );
    // Free is free.
    assert_eq!(use_up(client, "tts", &ada, "mimo-v2-tts", json!({"input": 5})).await["payg"], Value::Null);

    let go = client.authorize("go", &ada, "mimo-v2-pro", 10_000, 1_000).await.expect(201);
    let again = client.authorize("go", &ada, "mimo-v2-pro", 10_000, 1_000).await.expect(201);
    assert_eq!(again, go, "asked again it is answered as it was: no limit on what is paid by the token");
    client.authorize("flash", &ada, "mimo-v2-flash", 10_000, 1_000).await.expect(201);
    let accrued = exhaustion(client, &ada).await;
    assert_eq!(accrued["accrued_pico"], "1402000000000", "0.003 + 1.10 + 0.299");
    let report = client.get(&format!("/v1/customers/{ada}/usage")).await.expect(200);
    assert_eq!(report["total"]["payg"], json!({"currency": "USD", "pico": "1402000000000"}));
    let of = |model: &str| {
        report["data"].as_array().unwrap().iter().find(|row| row["model"] == model).unwrap().clone()
    };
    assert_eq!(
        (&of("mimo-v2-flash")["payg"]["pico"], &of("mimo-v2-omni")["payg"]["pico"]),
        (&json!("299000000000"), &json!("1100000000000"))
    );

    // A void takes its money back while it is not invoiced.
    client.post("/v1/usage/events/whole/void?source=urn:test", json!({"reason": "a bug"})).await.expect(200);
    assert_eq!(exhaustion(client, &ada).await["accrued_pico"], "302000000000");
    let again =
        use_up(client, "whole-2", &ada, "mimo-v2-omni", json!({"input": 250_000, "output": 500_000})).await;
    assert_eq!(again["payg"]["pico"], "1100000000000");
    verify(&world);

    client.advance_to("2026-02-28T10:00:00Z").await;
    let all = invoices(client, &ada).await;
    let usage = all.iter().find(|invoice| lines(invoice)[0].0 == "usage").unwrap();
    // 0.0090 (rounds to 0.01), 0.29; 0.10 and 1.00; 0.00075 and 0.00225, which round to nothing.
    assert_eq!(
        lines(usage),
        [
            ("usage", "Pay-as-you-go mimo-v2-flash, input", 1),
            ("usage", "Pay-as-you-go mimo-v2-flash, output", 29),
            ("usage", "Pay-as-you-go mimo-v2-omni, input", 10),
            ("usage", "Pay-as-you-go mimo-v2-omni, output", 100),
            ("usage", "Pay-as-you-go mimo-v2-pro, input", 0),
            ("usage", "Pay-as-you-go mimo-v2-pro, output", 0),
        ]
    );
    assert_eq!((&usage["status"], &usage["total"]["amount_minor"]), (&json!("paid"), &json!(140)));
    let settled = exhaustion(client, &ada).await;
    assert_eq!((&settled["accrued_pico"], &settled["accrued_due_at"]), (&json!("0"), &Value::Null));
    assert_eq!(client.available(&ada).await, 60_000_000, "and the plan is renewed");
    // What was invoiced is not taken back by a void.
    client
        .post("/v1/usage/events/whole-2/void?source=urn:test", json!({"reason": "a bug"}))
        .await
        .expect(200);
    assert_eq!(exhaustion(client, &ada).await["accrued_pico"], "0");
    client.advance_to("2026-03-31T10:00:00Z").await;
    assert_eq!(
        invoices(client, &ada).await.iter().filter(|invoice| lines(invoice)[0].0 == "usage").count(),
        1
    );
    verify(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_billed_past_the_spend_cap_and_nothing_starts_there() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "lite").await;
    client.authorize("flash", &ada, "mimo-v2-flash", 1, 1).await.expect_problem(422, "not-rated");
    set(client, &ada, json!({"exhaustion": "payg", "spend_cap_minor": 100})).await;
    spend_all_but_a_thousand(client, &ada).await;
    use_up(client, "last", &ada, "mimo-v2-omni", json!({"input": 1_000})).await;

    // 400,000 of omni's output are 0.80 USD. The next 0.40 finds room for 0.20: half of its Credits are billed.
    use_up(client, "first", &ada, "mimo-v2-omni", json!({"output": 400_000})).await;
    let capped = use_up(client, "second", &ada, "mimo-v2-omni", json!({"output": 200_000})).await;
    assert_eq!((&capped["overage"], &capped["payg"]["credits"]), (&json!(200_000), &json!(100_000)));
    assert_eq!(
        (&capped["payg"]["pico"], &capped["payg"]["past_cap_pico"]),
        (&json!("200000000000"), &json!("200000000000"))
    );
    let beyond = event("third", &ada, "mimo-v2-flash", json!({"input": 1_000_000}));
    let beyond = client.post("/v1/usage/events", beyond).await.expect(202);
    assert_eq!(beyond["receipt"]["unrated_reason"], "prompt-above-last-band");
    let past = use_up(client, "fourth", &ada, "mimo-v2-flash", json!({"input": 100_000})).await;
    assert_eq!((&past["payg"]["pico"], &past["payg"]["past_cap_pico"]), (&json!("0"), &json!("9000000000")));
    assert_eq!(exhaustion(client, &ada).await["accrued_pico"], "1000000000000");

    let out = client.authorize("no", &ada, "mimo-v2-omni", 10, 10).await;
    assert_eq!((out.status.as_u16(), &out.body["error"]["code"]), (402, &json!("insufficient_quota")));
    client.authorize("no-flash", &ada, "mimo-v2-flash", 10, 10).await.expect_problem(422, "not-rated");
    // With a higher cap it goes on.
    set(client, &ada, json!({"exhaustion": "payg", "spend_cap_minor": 200})).await;
    client.authorize("yes", &ada, "mimo-v2-omni", 10, 10).await.expect(201);
    // Where it ends nobody is billed: absorb.
    set(client, &ada, json!({"exhaustion": "absorb"})).await;
    let absorbed = use_up(client, "fifth", &ada, "mimo-v2-omni", json!({"output": 10})).await;
    assert_eq!((&absorbed["overage"], &absorbed["payg"]), (&json!(10), &Value::Null));
    verify(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_knows_at_once_how_a_customer_goes_on() {
    let world = World::new().await;
    let (first, second) = (world.serve().await, world.serve().await);
    let ada = first.client.customer("ada").await;
    let status = async |client: &Client, id: &str| {
        client.authorize(id, &ada, "mimo-v2-omni", 10, 10).await.status.as_u16()
    };
    for (turn, payg, expected) in [(0, false, 402), (1, true, 201), (2, false, 402), (3, true, 201)] {
        if turn > 0 {
            let exhaustion = if payg { "payg" } else { "absorb" };
            let spend_cap_minor = if payg { 100 } else { 0 };
            let body =
                json!({"exhaustion": exhaustion, "currency": "USD", "spend_cap_minor": spend_cap_minor});
            set(&first.client, &ada, body).await;
        }
        assert_eq!(status(&second.client, &format!("second-{turn}")).await, expected, "turn {turn}");
        assert_eq!(status(&first.client, &format!("first-{turn}")).await, expected, "turn {turn}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_plan_usage_is_invoiced_at_the_months_end() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    set(
        client,
        &ada,
        json!({"exhaustion": "payg", "spend_cap_minor": 500, "payment_method": "pm_sandbox_succeeds"}),
    )
    .await;
    client.advance_to("2026-02-01T10:00:00Z").await;
    client.authorize("a1", &ada, "mimo-v2-pro", 1_000, 1_000).await.expect(201);
    // 200,000 of input, 50,000 of it from the cache, and 100,000 of output: 0.15 + 0.01 + 0.30 USD.
    let usage = json!({"input": 150_000, "cache_read": 50_000, "output": 100_000});
    let receipt = use_up(client, "e1", &ada, "mimo-v2-pro", usage).await;
    assert_eq!(receipt["payg"]["pico"], "460000000000");
    // Above 256K pro has a Credit rate and no price: kept, not free (R-30a, R-31).
    let unpriced = client
        .post("/v1/usage/events", event("e2", &ada, "mimo-v2-pro", json!({"input": 300_000})))
        .await
        .expect(202);
    assert_eq!(unpriced["receipt"]["unrated_reason"], "no-price");
    let due = exhaustion(client, &ada).await;
    assert_eq!(
        (&due["accrued_pico"], &due["accrued_due_at"]),
        (&json!("460000000000"), &json!("2026-03-01T00:00:00.000000Z"))
    );
    client.advance_to("2026-02-28T23:59:59Z").await;
    assert!(invoices(client, &ada).await.is_empty());
    client.advance_to("2026-03-01T00:00:00Z").await;
    let all = invoices(client, &ada).await;
    assert_eq!(all.len(), 1);
    assert_eq!(
        lines(&all[0]),
        [
            ("usage", "Pay-as-you-go mimo-v2-pro, cache_read", 1),
            ("usage", "Pay-as-you-go mimo-v2-pro, input", 15),
            ("usage", "Pay-as-you-go mimo-v2-pro, output", 30),
        ]
    );
    assert_eq!((&all[0]["status"], &all[0]["total"]["amount_minor"]), (&json!("paid"), &json!(46)));
    // A tenth of a cent is carried over until it is something.
    use_up(client, "e3", &ada, "mimo-v2-pro", json!({"input": 1_000})).await;
    client.advance_to("2026-04-01T00:00:00Z").await;
    assert_eq!(invoices(client, &ada).await.len(), 1);
    use_up(client, "e4", &ada, "mimo-v2-pro", json!({"input": 9_000})).await;
    client.advance_to("2026-05-01T00:00:00Z").await;
    assert_eq!(invoices(client, &ada).await[1]["total"]["amount_minor"], 1);
    verify(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_of_usage_that_is_declined_stays_owed() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    set(
        client,
        &ada,
        json!({"exhaustion": "payg", "spend_cap_minor": 500, "payment_method": "pm_sandbox_declines"}),
    )
    .await;
    use_up(client, "e1", &ada, "mimo-v2-pro", json!({"input": 100_000})).await;
    client.advance_to("2026-03-15T00:00:00Z").await;
    let owed = invoices(client, &ada).await;
    assert_eq!((&owed[0]["status"], &owed[0]["payments"][0]["status"]), (&json!("open"), &json!("failed")));
    let pay = format!("/v1/invoices/{}/pay", owed[0]["id"].as_str().unwrap());
    client.post(&pay, json!({})).await.expect_problem(402, "payment-declined");
    let paid = client.post(&pay, json!({"payment_method": "pm_sandbox_succeeds"})).await.expect(200);
    assert_eq!(
        (&paid["payment_status"], &paid["invoice"]["total"]["amount_minor"]),
        (&json!("paid"), &json!(10))
    );
    verify(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollover_run_invoices_the_months_that_are_over() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    set(client, &ada, json!({"exhaustion": "payg", "spend_cap_minor": 500})).await;
    // 0.10 USD.
    use_up(client, "e1", &ada, "mimo-v2-pro", json!({"input": 100_000})).await;
    client.put("/v1/test-clock", json!({"now": "2026-02-01T00:00:00Z"})).await.expect(200);
    let (subscriptions, scope) = (world.subscriptions(), world.scope().await);
    let run = subscriptions.start_rollover(&scope).await.unwrap();
    subscriptions.run_rollover(&scope, run).await.unwrap();
    let all = invoices(client, &ada).await;
    assert_eq!(all.len(), 1);
    assert_eq!((&all[0]["status"], &all[0]["total"]["amount_minor"]), (&json!("open"), &json!(10)));
    verify(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_are_refused_and_change_nothing() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    let path = format!("/v1/customers/{ada}/exhaustion");
    let mut cny = crate::support::subscribe(&ada, "lite", "pm_sandbox_succeeds");
    cny["currency"] = json!("CNY");
    client.post("/v1/subscriptions", cny).await.expect(201);
    let auto = json!({"top_up": "topup-10m", "currency": "CNY", "per_cycle_max": 1});
    for (body, status, code) in [
        (json!({"exhaustion": "payg", "spend_cap_minor": 1}), 409, "no-price-in-currency"),
        (json!({"exhaustion": "payg", "currency": "USD", "spend_cap_minor": 1}), 409, "no-price-in-currency"),
        (json!({"exhaustion": "payg", "spend_cap_minor": -1}), 422, "invalid-field"),
        (json!({"exhaustion": "topup"}), 422, "invalid-field"),
        (json!({"exhaustion": "none"}), 422, "invalid-field"),
        (
            json!({"exhaustion": "topup", "auto_top_up": {"top_up": "topup-10m", "currency": "CNY", "per_cycle_max": 0}}),
            422,
            "invalid-field",
        ),
        (
            json!({"exhaustion": "topup", "auto_top_up": {"top_up": "more", "currency": "CNY", "per_cycle_max": 1}}),
            422,
            "unknown-top-up",
        ),
        (
            json!({"exhaustion": "topup", "auto_top_up": auto, "payment_method": "nobodys"}),
            422,
            "unknown-payment-method",
        ),
    ] {
        client.put(&path, body.clone()).await.expect_problem(status, code);
    }
    let read = exhaustion(client, &ada).await;
    assert_eq!((&read["exhaustion"], &read["is_set"]), (&json!("absorb"), &json!(false)));
    let other = client.with_key(&world.other_tenant().await);
    other.get(&path).await.expect_problem(404, "not-found");
    other.put(&path, json!({"exhaustion": "absorb"})).await.expect_problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_may_bill_everybody_by_the_token() {
    let policies = Policies { exhaustion: Exhaustion::Payg, spend_cap_minor: 300, ..Policies::default() };
    let world = World::on(Stores::fresh().await, policies).await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    client.authorize("a1", &ada, "mimo-v2-omni", 1_000, 10).await.expect(201);
    let receipt = use_up(client, "e1", &ada, "mimo-v2-omni", json!({"input": 1_000})).await;
    assert_eq!(receipt["payg"]["pico"], "400000000");
    let read = exhaustion(client, &ada).await;
    assert_eq!((&read["is_set"], &read["spend_cap_minor"]), (&json!(false), &json!(300)));
    verify(&world);
}

async fn automatic(client: &Client, customer: &str) -> Vec<String> {
    let page = client.get(&format!("/v1/top-ups?customer={customer}")).await.expect(200);
    let all = page["data"].as_array().unwrap().iter();
    all.filter(|top_up| top_up["automatic"] == true)
        .map(|top_up| top_up["status"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_top_up_buys_itself_so_often_a_cycle() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "lite").await;
    set(
        client,
        &ada,
        json!({"exhaustion": "topup", "auto_top_up":
        {"top_up": "topup-10m", "currency": "USD", "at_credits_left": 5_000, "per_cycle_max": 2}}),
    )
    .await;
    spend_all_but_a_thousand(client, &ada).await;
    // With nothing left a request starts, because a top-up will be there.
    use_up(client, "last", &ada, "mimo-v2-omni", json!({"input": 1_000})).await;
    client.authorize("meanwhile", &ada, "mimo-v2-omni", 100, 100).await.expect(201);
    let _worker = world.work();
    for _ in 0..400 {
        if client.available(&ada).await > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(client.balance(&ada).await["settled"], 10_000_000);
    assert_eq!(automatic(client, &ada).await, ["applied"]);
    // The second of two, and no third.
    for n in 0..10 {
        use_up(client, &format!("t{n}"), &ada, "mimo-v2-omni", big()).await;
    }
    client.advance_to("2026-02-01T10:00:00Z").await;
    assert_eq!(automatic(client, &ada).await, ["applied", "applied"]);
    for n in 10..20 {
        use_up(client, &format!("t{n}"), &ada, "mimo-v2-omni", big()).await;
    }
    client.advance_to("2026-02-02T10:00:00Z").await;
    assert_eq!(automatic(client, &ada).await.len(), 2);
    let out = client.authorize("out", &ada, "mimo-v2-omni", 100, 100).await;
    assert_eq!(out.status.as_u16(), 402, "none will be there any more");
    assert_eq!(exhaustion(client, &ada).await["top_up_blocked_until"], "2026-02-28T10:00:00.000000Z");
    verify(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_automatic_top_up_cools_off_and_counts() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    set(
        client,
        &ada,
        json!({"exhaustion": "topup", "payment_method": "pm_sandbox_declines", "auto_top_up":
        {"top_up": "topup-10m", "currency": "USD", "per_cycle_max": 3, "cool_off_minutes": 60}}),
    )
    .await;
    use_up(client, "e1", &ada, "mimo-v2-omni", json!({"input": 10})).await;
    client.advance_to("2026-01-31T10:30:00Z").await;
    assert_eq!(automatic(client, &ada).await, ["ended"]);
    assert_eq!(exhaustion(client, &ada).await["top_up_blocked_until"], "2026-01-31T11:00:00.000000Z");
    assert_eq!(client.authorize("a", &ada, "mimo-v2-omni", 1, 1).await.status.as_u16(), 402);
    client.advance_to("2026-01-31T10:59:59Z").await;
    assert_eq!(automatic(client, &ada).await.len(), 1);
    client.advance_to("2026-01-31T11:00:00Z").await;
    assert_eq!(automatic(client, &ada).await, ["ended", "ended"]);
    // Until the month's three are tried; then not before the next month.
    client.advance_to("2026-01-31T20:00:00Z").await;
    assert_eq!(automatic(client, &ada).await.len(), 3);
    assert_eq!(exhaustion(client, &ada).await["top_up_blocked_until"], "2026-02-01T00:00:00.000000Z");
    client.advance_to("2026-02-01T00:00:00Z").await;
    assert_eq!(automatic(client, &ada).await.len(), 4);
    // With another card it works.
    set(
        client,
        &ada,
        json!({"exhaustion": "topup", "payment_method": "pm_sandbox_succeeds", "auto_top_up":
        {"top_up": "topup-10m", "currency": "USD", "per_cycle_max": 3, "cool_off_minutes": 60}}),
    )
    .await;
    client.advance_to("2026-02-01T00:00:01Z").await;
    assert_eq!((automatic(client, &ada).await.len(), client.available(&ada).await), (5, 10_000_000));
    verify(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn top_ups_buy_themselves_until_there_is_enough() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "lite").await;
    let body = json!({"exhaustion": "topup", "auto_top_up":
        {"top_up": "topup-10m", "currency": "USD", "at_credits_left": 15_000_000, "per_cycle_max": 5}});
    set(client, &ada, body).await;
    spend_all_but_a_thousand(client, &ada).await;
    // One leaves 10,001,000, which is not above 15,000,000.
    client.advance_to("2026-01-31T10:00:01Z").await;
    assert_eq!(automatic(client, &ada).await, ["applied", "applied"]);
    assert_eq!(client.available(&ada).await, 20_001_000);
    verify(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_top_up_buys_itself_for_a_subscription_that_is_suspended() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    let subscription = client.subscribe(&ada, "lite").await;
    let body = json!({"exhaustion": "topup", "auto_top_up":
        {"top_up": "topup-10m", "currency": "USD", "per_cycle_max": 5}});
    set(client, &ada, body).await;
    let path = format!("/v1/subscriptions/{}", subscription["subscription"]["id"].as_str().unwrap());
    client.post(&format!("{path}/suspend"), json!({})).await.expect(200);
    // What has happened is recorded, and nobody is charged for what cannot be spent.
    spend_all_but_a_thousand(client, &ada).await;
    use_up(client, "last", &ada, "mimo-v2-omni", json!({"input": 1_000})).await;
    client.advance_to("2026-02-01T10:00:00Z").await;
    assert_eq!((client.available(&ada).await, automatic(client, &ada).await.len()), (0, 0));
    client.post(&format!("{path}/resume"), json!({})).await.expect(200);
    client.advance_to("2026-02-01T10:00:01Z").await;
    assert_eq!((client.available(&ada).await, automatic(client, &ada).await.len()), (10_000_000, 1));
    verify(&world);
}
