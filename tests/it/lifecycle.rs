//! A token plan from its first purchase to its renewal, with the guide's numbers.

use serde_json::{Value, json};

use crate::support::{World, event, events_totalling, subscribe};

#[tokio::test(flavor = "multi_thread")]
async fn a_standard_subscriber_spends_upgrades_and_renews_to_the_last_credit() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;

    let bought = client.subscribe(&customer, "standard").await;
    assert_eq!(bought["invoice"]["total"], json!({"amount_minor": 192, "currency": "USD"}));
    assert_eq!(bought["subscription"]["status"], "active");
    let subscription = bought["subscription"]["id"].as_str().unwrap().to_owned();
    assert_eq!(client.available(&customer).await, 200_000_000);

    // As many tokens as an hour of a real code assistant's traffic, at 2x: 36,611,740 Credits.
    let code = events_totalling("code", &customer, "mimo-v2-pro", 18_059_974, 245_896);
    let first = client.post("/v1/usage/events", json!(code)).await.expect(200);
    assert_eq!(statuses(&first), vec!["accepted"; code.len()]);
    assert_eq!(client.available(&customer).await, 163_388_260);
    let again = client.post("/v1/usage/events", json!(code)).await.expect(200);
    assert_eq!(statuses(&again), vec!["duplicate"; code.len()]);
    assert_eq!(client.available(&customer).await, 163_388_260);
    // And of a chat service's, at 1x: 26,450,535 Credits.
    let conv = events_totalling("conv", &customer, "mimo-v2-omni", 22_361_870, 4_088_665);
    client.post("/v1/usage/events", json!(conv)).await.expect(200);
    assert_eq!(client.available(&customer).await, 136_937_725);

    let path = format!("/v1/subscriptions/{subscription}");
    let quote = client.post(&format!("{path}/upgrade-preview"), json!({"plan": "pro"})).await.expect(201);
    assert_eq!(quote["amount"]["amount_minor"], 408, "6.00 less 1.92: the cycle is discounted");
    assert_eq!(quote["credits"], 500_000_000);
    let upgrade = json!({"plan": "pro", "quote": quote["id"]});
    let upgraded = client.post(&format!("{path}/upgrade"), upgrade).await.expect(200);
    assert_eq!(upgraded["invoice"]["total"]["amount_minor"], 408);
    assert_eq!(client.available(&customer).await, 636_937_725);

    let downgrade = client.post(&format!("{path}/upgrade"), json!({"plan": "lite"})).await;
    downgrade.expect_problem(409, "downgrade-within-cycle");
    assert_eq!(downgrade.body["effective_at"], "2026-02-28T10:00:00.000000Z");

    client.advance_to("2026-02-28T10:00:00Z").await;
    let balance = client.balance(&customer).await;
    assert_eq!(balance["available"], 700_000_000);
    let ledger = client.get(&format!("/v1/customers/{customer}/ledger?limit=200")).await.expect(200);
    let expired: i64 =
        entries(&ledger, "expired").iter().map(|entry| entry["credits"].as_i64().unwrap()).sum();
    assert_eq!(expired, 636_937_725);
    let invoices = client.get(&format!("/v1/invoices?customer={customer}")).await.expect(200);
    let totals: Vec<i64> = invoices["data"].as_array().unwrap().iter().map(total_minor).collect();
    assert_eq!(totals, [192, 408, 5_000]);
    let renewed = client.get(&path).await.expect(200);
    assert_eq!(renewed["cycle"]["end"], "2026-03-31T10:00:00.000000Z", "back to the anchor's day");
    world.verify().await;
}

fn statuses(batch: &Value) -> Vec<&str> {
    batch["results"].as_array().unwrap().iter().map(|result| result["status"].as_str().unwrap()).collect()
}

fn entries<'a>(ledger: &'a Value, credit: &str) -> Vec<&'a Value> {
    ledger["data"].as_array().unwrap().iter().filter(|entry| entry["credit"] == credit).collect()
}

fn total_minor(invoice: &Value) -> i64 {
    invoice["total"]["amount_minor"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn first_cycles_cost_12_percent_in_both_currencies_and_a_returning_customer_pays_list() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    for (plan, usd, cny) in
        [("lite", 72, 468), ("standard", 192, 1_188), ("pro", 600, 3_948), ("max", 1_200, 7_908)]
    {
        for (currency, first) in [("USD", usd), ("CNY", cny)] {
            let customer = client.customer(&format!("{plan}-{currency}")).await;
            let mut body = subscribe(&customer, plan, "pm_sandbox_succeeds");
            body["currency"] = json!(currency);
            let bought = client.post("/v1/subscriptions", body.clone()).await.expect(201);
            assert_eq!(bought["invoice"]["total"], json!({"amount_minor": first, "currency": currency}));
            client.post("/v1/subscriptions", body).await.expect_problem(409, "already-subscribed");
        }
    }
    let customer = client.customer("returning").await;
    let first = client.subscribe(&customer, "lite").await;
    let path = format!("/v1/subscriptions/{}/cancel", first["subscription"]["id"].as_str().unwrap());
    client.post(&path, json!({"at_once": true})).await.expect(200);
    assert_eq!(client.available(&customer).await, 0, "what was left is revoked");
    let second = client.subscribe(&customer, "lite").await;
    assert_eq!(second["invoice"]["total"]["amount_minor"], 600);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrading_step_by_step_costs_and_grants_what_the_last_step_alone_would() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let bought = client.subscribe(&customer, "lite").await;
    let path = format!("/v1/subscriptions/{}/upgrade", bought["subscription"]["id"].as_str().unwrap());
    let mut paid = 72;
    for plan in ["standard", "pro", "max"] {
        let upgraded = client.post(&path, json!({"plan": plan})).await.expect(200);
        paid += total_minor(&upgraded["invoice"]);
    }
    assert_eq!(paid, 1_200, "12.00 in all, as for max at once");
    assert_eq!(client.available(&customer).await, 1_600_000_000);
    client.post(&path, json!({"plan": "max"})).await.expect_problem(409, "not-an-upgrade");
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_card_changes_nothing_and_another_one_pays() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let declined =
        client.post("/v1/subscriptions", subscribe(&customer, "lite", "pm_sandbox_declines")).await;
    declined.expect_problem(402, "payment-declined");
    assert_eq!(client.available(&customer).await, 0);
    let invoice = declined.body["invoice"].as_str().unwrap();
    let pay = format!("/v1/invoices/{invoice}/pay");
    client.post(&pay, json!({})).await.expect_problem(402, "payment-declined");
    client.post(&pay, json!({"payment_method": "pm_sandbox_succeeds"})).await.expect(200);
    assert_eq!(client.available(&customer).await, 60_000_000);
    client.post(&pay, json!({})).await.expect_problem(409, "invoice-not-open");

    // A failed upgrade leaves everything as it was.
    let subscription = declined.body["subscription"].as_str().unwrap();
    let upgrade = format!("/v1/subscriptions/{subscription}/upgrade");
    let body = json!({"plan": "max", "payment_method": "pm_sandbox_declines"});
    client.post(&upgrade, body).await.expect_problem(402, "payment-declined");
    assert_eq!(client.available(&customer).await, 60_000_000);
    let view = client.get(&format!("/v1/subscriptions/{subscription}")).await.expect(200);
    assert_eq!((&view["plan"], &view["pending_upgrade"]), (&json!("lite"), &Value::Null));
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpaid_first_purchase_expires_and_gives_its_promotion_back() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let pending = client.post("/v1/subscriptions", subscribe(&customer, "lite", "pm_sandbox_pends")).await;
    let subscription = pending.expect(202)["subscription"]["id"].as_str().unwrap().to_owned();
    client.advance_to("2026-02-01T08:59:59Z").await;
    let path = format!("/v1/subscriptions/{subscription}");
    assert_eq!(client.get(&path).await.expect(200)["status"], "incomplete");
    client.advance_to("2026-02-01T09:00:00Z").await;
    assert_eq!(client.get(&path).await.expect(200)["status"], "expired");
    let again = client.subscribe(&customer, "lite").await;
    assert_eq!(total_minor(&again["invoice"]), 72);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpaid_renewal_is_past_due_until_paid_and_canceled_if_it_never_is() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let mut subscriptions = Vec::new();
    for name in ["pays", "never"] {
        let customer = client.customer(name).await;
        let bought = client.subscribe(&customer, "lite").await;
        let path = format!("/v1/subscriptions/{}", bought["subscription"]["id"].as_str().unwrap());
        let method = json!({"payment_method": "pm_sandbox_declines"});
        client.put(&format!("{path}/payment-method"), method).await.expect(200);
        subscriptions.push((customer, path));
    }
    client.advance_to("2026-02-28T10:00:00Z").await;
    let (customer, path) = &subscriptions[0];
    let view = client.get(path).await.expect(200);
    assert_eq!(view["status"], "past_due");
    assert_eq!(client.available(customer).await, 0);
    let refused = client.authorize("a", customer, "mimo-v2-pro", 1_000, 0).await;
    assert_eq!(refused.status, 402);
    assert_eq!(refused.body["resets_at"], Value::Null, "no date while the renewal is unpaid");
    client
        .post(&format!("{path}/upgrade"), json!({"plan": "max"}))
        .await
        .expect_problem(409, "subscription-past-due");

    client.advance_to("2026-03-06T10:00:00Z").await;
    let invoice = view["open_invoice"].as_str().unwrap();
    let pay = json!({"payment_method": "pm_sandbox_succeeds"});
    client.post(&format!("/v1/invoices/{invoice}/pay"), pay).await.expect(200);
    let view = client.get(path).await.expect(200);
    assert_eq!(
        (&view["status"], &view["cycle"]["end"]),
        (&json!("active"), &json!("2026-03-31T10:00:00.000000Z"))
    );
    assert_eq!(client.available(customer).await, 60_000_000, "the whole pool");

    // Seven days after the cycle's start, by its last retry.
    client.advance_to("2026-03-07T10:00:00Z").await;
    let (_, path) = &subscriptions[1];
    assert_eq!(client.get(path).await.expect(200)["status"], "canceled");
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_takes_effect_at_the_cycles_end_and_can_be_withdrawn() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let bought = client.subscribe(&customer, "lite").await;
    let path = format!("/v1/subscriptions/{}", bought["subscription"]["id"].as_str().unwrap());
    client.post(&format!("{path}/cancel"), json!({})).await.expect(200);
    client.delete(&format!("{path}/cancel")).await.expect(200);
    client.advance_to("2026-02-28T10:00:00Z").await;
    assert_eq!(client.available(&customer).await, 60_000_000, "renewed");
    client.post(&format!("{path}/cancel"), json!({})).await.expect(200);
    assert_eq!(client.available(&customer).await, 60_000_000, "usable until then");
    client.advance_to("2026-03-31T10:00:00Z").await;
    let view = client.get(&path).await.expect(200);
    assert_eq!((&view["status"], client.available(&customer).await), (&json!("canceled"), 0));
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_downgrade_comes_with_the_next_cycle_unless_it_is_withdrawn_or_upgraded_over() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let bought = client.subscribe(&customer, "standard").await;
    let path = format!("/v1/subscriptions/{}", bought["subscription"]["id"].as_str().unwrap());
    let schedule = format!("{path}/scheduled-plan");
    client.delete(&schedule).await.expect_problem(409, "nothing-scheduled");
    client.put(&schedule, json!({"plan": "max"})).await.expect_problem(409, "not-a-downgrade");
    client.put(&schedule, json!({"plan": "lite"})).await.expect(200);
    client.post(&format!("{path}/upgrade"), json!({"plan": "pro"})).await.expect(200);
    assert_eq!(client.get(&path).await.expect(200)["scheduled_plan"], Value::Null);
    client.put(&schedule, json!({"plan": "lite"})).await.expect(200);
    client.advance_to("2026-02-28T10:00:00Z").await;
    let view = client.get(&path).await.expect(200);
    assert_eq!((&view["plan"], client.available(&customer).await), (&json!("lite"), 60_000_000));
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_over_three_cycles_visits_each_of_them() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    client.advance_to("2026-04-30T10:00:00Z").await;
    let invoices = client.get(&format!("/v1/invoices?customer={customer}")).await.expect(200);
    let totals: Vec<i64> = invoices["data"].as_array().unwrap().iter().map(total_minor).collect();
    assert_eq!(totals, [72, 600, 600, 600], "28 February, 31 March, 30 April");
    let back = client.post("/v1/test-clock/advance", json!({"to": "2026-04-01T00:00:00Z"})).await;
    back.expect_problem(409, "clock-moves-back");
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollover_that_was_down_for_months_skips_the_cycles_that_are_over() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    // Set, not advanced: as if no worker had run for three months.
    client.put("/v1/test-clock", json!({"now": "2026-04-30T11:00:00Z"})).await.expect(200);
    let dry = world.command("rollover").arg("--dry-run").output().unwrap();
    let dry = String::from_utf8(dry.stdout).unwrap();
    assert!(dry.contains("60000000") && dry.contains("2 skipped"), "{dry}");
    let started = client.post("/v1/rollovers", json!({})).await.expect(202);
    let _worker = world.work();
    let path = format!("/v1/rollovers/{}", started["id"].as_str().unwrap());
    let mut run = Value::Null;
    for _ in 0..100 {
        run = client.get(&path).await.expect(200);
        if run["state"] == "done" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let counts =
        ["cycles_closed", "cycles_skipped", "cycles_opened", "credits_expired"].map(|c| run[c].as_i64());
    assert_eq!(counts, [Some(1), Some(2), Some(1), Some(60_000_000)], "{run}");
    let invoices = client.get(&format!("/v1/invoices?customer={customer}")).await.expect(200);
    let totals: Vec<i64> = invoices["data"].as_array().unwrap().iter().map(total_minor).collect();
    assert_eq!(totals, [72, 600], "the skipped ones are not invoiced");
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_began_before_the_cycles_end_charges_the_old_cycle() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    client.put("/v1/test-clock", json!({"now": "2026-02-28T09:59:00Z"})).await.expect(200);
    client.authorize("stream", &customer, "mimo-v2-pro", 1_000, 100).await.expect(201);
    // The cycle is over, and its expiry is not booked yet.
    client.put("/v1/test-clock", json!({"now": "2026-02-28T10:01:00Z"})).await.expect(200);
    let mut usage = event("1", &customer, "mimo-v2-pro", json!({"input": 1_000, "output": 100}));
    usage["authorization"] = json!("stream");
    let result = client.post("/v1/usage/events", usage).await.expect(200);
    assert_eq!((&result["receipt"]["hold"], &result["receipt"]["overage"]), (&json!("captured"), &json!(0)));
    client.advance_to("2026-02-28T10:01:00Z").await;
    let ledger = client.get(&format!("/v1/customers/{customer}/ledger")).await.expect(200);
    assert_eq!(entries(&ledger, "expired")[0]["credits"], 60_000_000 - 2_200);
    assert_eq!(client.available(&customer).await, 60_000_000);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_holds_its_price_and_no_other() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (ada, grace) = (client.customer("ada").await, client.customer("grace").await);
    let ada = client.subscribe(&ada, "lite").await["subscription"]["id"].as_str().unwrap().to_owned();
    let grace = client.subscribe(&grace, "lite").await["subscription"]["id"].as_str().unwrap().to_owned();
    let preview = json!({"plan": "pro"});
    let quote = client.post(&format!("/v1/subscriptions/{ada}/upgrade-preview"), preview).await.expect(201);
    let confirm = json!({"plan": "pro", "quote": quote["id"]});
    let foreign = client.post(&format!("/v1/subscriptions/{grace}/upgrade"), confirm.clone()).await;
    foreign.expect_problem(409, "quote-not-valid");
    client.advance_to("2026-01-31T10:10:01Z").await;
    let late = client.post(&format!("/v1/subscriptions/{ada}/upgrade"), confirm).await;
    late.expect_problem(409, "quote-not-valid");
    let unknown = json!({"plan": "pro", "quote": "quo_00000000000000000000000000000000"});
    client.post(&format!("/v1/subscriptions/{ada}/upgrade"), unknown).await.expect_problem(404, "not-found");
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_for_the_first_time_may_lie_before_the_customers_but_not_before_a_transfer() {
    let world = World::new().await;
    let server = world.serve().await;
    // A tenant in real time, which sold nothing yet.
    let client = &server.client.with_key(&world.tenant_in_real_time().await);
    let customer = client.customer("ada").await;
    client.put("/v1/test-clock", json!({"now": "2026-01-31T10:00:00Z"})).await.expect(200);
    let bought = client.subscribe(&customer, "lite").await;
    let usage = event("1", &customer, "mimo-v2-pro", json!({"input": 500}));
    let used = client.post("/v1/usage/events", usage).await.expect(200);
    assert_eq!(used["receipt"]["balance_after"], 59_999_000);
    let cancel = format!("/v1/subscriptions/{}/cancel", bought["subscription"]["id"].as_str().unwrap());
    client.post(&cancel, json!({"at_once": true})).await.expect(200);
    assert_eq!(client.available(&customer).await, 0, "revoked");

    let late = &server.client.with_key(&world.tenant_in_real_time().await);
    let customer = late.customer("grace").await;
    late.subscribe(&customer, "lite").await;
    let back = late.put("/v1/test-clock", json!({"now": "2026-01-31T10:00:00Z"})).await;
    back.expect_problem(409, "clock-moves-back");
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_card_gets_the_first_cycle_discount_once_whichever_way_it_is_named() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (ada, grace) = (client.customer("ada").await, client.customer("grace").await);
    let card = "pm_sandbox_succeeds:one-card";
    client.post("/v1/subscriptions", subscribe(&ada, "lite", card)).await.expect(201);
    let direct = client.post("/v1/subscriptions", subscribe(&grace, "lite", card)).await;
    direct.expect_problem(409, "promotion-used");
    assert_eq!(direct.body["list_price"]["amount_minor"], 600);
    // By way of another card that is declined, and the used one put in its place.
    let declined =
        client.post("/v1/subscriptions", subscribe(&grace, "lite", "pm_sandbox_declines:other")).await;
    let path =
        format!("/v1/subscriptions/{}/payment-method", declined.body["subscription"].as_str().unwrap());
    client.put(&path, json!({"payment_method": card})).await.expect_problem(409, "promotion-used");
    let pay = format!("/v1/invoices/{}/pay", declined.body["invoice"].as_str().unwrap());
    client.post(&pay, json!({"payment_method": card})).await.expect_problem(409, "promotion-used");
    // Accepting the list price is another purchase.
    let cancel = format!("/v1/subscriptions/{}/cancel", declined.body["subscription"].as_str().unwrap());
    client.post(&cancel, json!({"at_once": true})).await.expect(200);
    let mut list = subscribe(&grace, "lite", card);
    list["promotion"] = json!("none");
    let bought = client.post("/v1/subscriptions", list).await.expect(201);
    assert_eq!(total_minor(&bought["invoice"]), 600);
    world.verify().await;
}
