//! A renewal that cannot be collected: retries, notices, recovery and the end.

use domain::policy::{DunningEnd, Policies, RenewalGrant};
use serde_json::{Value, json};

use crate::support::{Client, World, subscribe};

/// A customer of the plan `lite`, whose card stops working before the first renewal on 28 February, 10:00.
struct Unlucky {
    customer: String,
    path: String,
}

impl Unlucky {
    async fn new(client: &Client, name: &str, method: &str) -> Unlucky {
        let customer = client.customer(name).await;
        let bought = client.subscribe(&customer, "lite").await;
        let path = format!("/v1/subscriptions/{}", bought["subscription"]["id"].as_str().unwrap());
        let unlucky = Unlucky { customer, path };
        unlucky.use_method(client, method).await;
        unlucky
    }

    async fn use_method(&self, client: &Client, method: &str) {
        let method = json!({"payment_method": method});
        client.put(&format!("{}/payment-method", self.path), method).await.expect(200);
    }

    async fn view(&self, client: &Client) -> Value {
        client.get(&self.path).await.expect(200)
    }

    /// (status, failed tries, next try), the latter two null without dunning.
    async fn state(&self, client: &Client) -> (Value, Value, Value) {
        let view = self.view(client).await;
        let of = |field: &str| view["dunning"][field].clone();
        (view["status"].clone(), of("failed_tries"), of("next_try_at"))
    }

    async fn renewal(&self, client: &Client) -> Value {
        let invoices = client.get(&format!("/v1/invoices?customer={}", self.customer)).await.expect(200);
        let id = invoices["data"][1]["id"].as_str().unwrap().to_owned();
        client.get(&format!("/v1/invoices/{id}")).await.expect(200)
    }
}

fn past_due(failed_tries: u32, next: &str) -> (Value, Value, Value) {
    (json!("past_due"), json!(failed_tries), json!(next))
}

fn over(status: &str) -> (Value, Value, Value) {
    (json!(status), Value::Null, Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn four_retries_fail_and_the_last_one_cancels() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = Unlucky::new(client, "ada", "pm_sandbox_declines").await;
    for (to, failed, next) in [
        ("2026-02-28T10:00:00Z", 1, "2026-03-01T10:00:00.000000Z"),
        ("2026-03-01T09:59:59Z", 1, "2026-03-01T10:00:00.000000Z"),
        ("2026-03-01T10:00:00Z", 2, "2026-03-03T10:00:00.000000Z"),
        ("2026-03-03T10:00:00Z", 3, "2026-03-05T10:00:00.000000Z"),
        ("2026-03-05T10:00:00Z", 4, "2026-03-07T10:00:00.000000Z"),
        ("2026-03-07T09:59:59Z", 4, "2026-03-07T10:00:00.000000Z"),
    ] {
        client.advance_to(to).await;
        assert_eq!(ada.state(client).await, past_due(failed, next), "{to}");
    }
    client.advance_to("2026-03-07T10:00:00Z").await;
    assert_eq!(ada.state(client).await, over("canceled"));
    let view = ada.view(client).await;
    assert_eq!(view["ended_at"], "2026-03-07T10:00:00.000000Z", "at once, not at the cycle's end");
    let renewal = ada.renewal(client).await;
    let tries: Vec<(&str, &str)> = renewal["payments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|payment| (payment["status"].as_str().unwrap(), &payment["created_at"].as_str().unwrap()[..10]))
        .collect();
    let days = ["2026-02-28", "2026-03-01", "2026-03-03", "2026-03-05", "2026-03-07"];
    assert_eq!((tries, &renewal["status"]), (days.map(|day| ("failed", day)).to_vec(), &json!("void")));

    // A notice of each failed try says when the next one is.
    let notices = world.events("subscription.renewal_failed").await;
    let next: Vec<&Value> = notices.iter().map(|notice| &notice["next_try_at"]).collect();
    let expected = ["2026-03-01", "2026-03-03", "2026-03-05", "2026-03-07"];
    let expected = expected.map(|day| json!(format!("{day}T10:00:00Z")));
    assert_eq!(next, expected.iter().chain([&Value::Null]).collect::<Vec<_>>());
    assert_eq!(notices.iter().map(|notice| &notice["failed_tries"]).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!((&notices[3]["is_canceled"], &notices[4]["is_canceled"]), (&json!(false), &json!(true)));
    let ended = world.events("subscription.canceled").await;
    assert_eq!((ended.len(), &ended[0]["reason"]), (1, &json!("unpaid")));

    // The customer is free again: at list price, because the promotion was used.
    let again = client.subscribe(&ada.customer, "lite").await;
    assert_eq!(again["invoice"]["total"]["amount_minor"], 600);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_succeeds_brings_the_whole_pool_until_the_unchanged_end() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = Unlucky::new(client, "ada", "pm_sandbox_declines").await;
    client.advance_to("2026-03-02T00:00:00Z").await;
    ada.use_method(client, "pm_sandbox_succeeds").await;
    assert_eq!(client.available(&ada.customer).await, 0);
    client.advance_to("2026-03-03T10:00:00Z").await;
    assert_eq!(ada.state(client).await, over("active"));
    assert_eq!(client.available(&ada.customer).await, 60_000_000);
    assert_eq!(ada.view(client).await["cycle"]["end"], "2026-03-31T10:00:00.000000Z");
    assert_eq!(ada.renewal(client).await["total"]["amount_minor"], 600);
    let grants = client.grants(&ada.customer).await;
    let last = grants.last().unwrap();
    assert_eq!(
        (&last["effective_at"], &last["expires_at"]),
        (&json!("2026-03-03T10:00:00.000000Z"), &json!("2026-03-31T10:00:00.000000Z"))
    );
    // Nothing is tried any more, and the next renewal is on time.
    client.advance_to("2026-03-31T10:00:00Z").await;
    assert_eq!(client.available(&ada.customer).await, 60_000_000);
    let renewals = client.get(&format!("/v1/invoices?customer={}", ada.customer)).await.expect(200);
    assert_eq!(renewals["data"].as_array().unwrap().len(), 3);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_who_pays_by_himself_is_not_charged_again() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = Unlucky::new(client, "ada", "pm_sandbox_declines").await;
    client.advance_to("2026-03-02T00:00:00Z").await;
    let pay = format!("/v1/invoices/{}/pay", ada.view(client).await["open_invoice"].as_str().unwrap());
    // A try of his own that fails too changes nothing about the next one.
    client.post(&pay, json!({})).await.expect_problem(402, "payment-declined");
    assert_eq!(ada.state(client).await, past_due(3, "2026-03-03T10:00:00.000000Z"));
    client.post(&pay, json!({"payment_method": "pm_sandbox_succeeds"})).await.expect(200);
    assert_eq!(ada.state(client).await, over("active"));
    client.advance_to("2026-03-20T00:00:00Z").await;
    let renewal = ada.renewal(client).await;
    let statuses: Vec<&Value> =
        renewal["payments"].as_array().unwrap().iter().map(|payment| &payment["status"]).collect();
    assert_eq!(statuses, ["failed", "failed", "failed", "succeeded"]);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_try_that_is_pending_postpones_the_end() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = Unlucky::new(client, "ada", "pm_sandbox_declines").await;
    client.advance_to("2026-03-06T00:00:00Z").await;
    ada.use_method(client, "pm_sandbox_pends").await;
    client.advance_to("2026-03-20T00:00:00Z").await;
    let (status, failed, next) = ada.state(client).await;
    assert_eq!((status, failed, next), (json!("past_due"), json!(4), Value::Null), "the fifth is pending");
    // Paid in another way, the whole pool is there: the pending one is given up first.
    let pay = format!("/v1/invoices/{}/pay", ada.view(client).await["open_invoice"].as_str().unwrap());
    client.post(&pay, json!({"payment_method": "pm_sandbox_succeeds"})).await.expect(200);
    assert_eq!(ada.state(client).await, over("active"));
    assert_eq!(client.available(&ada.customer).await, 60_000_000);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_days_are_the_tenants_own_and_so_is_what_follows_the_last() {
    let policies =
        Policies { dunning_days: vec![2, 10], dunning_end: DunningEnd::CycleEnd, ..Policies::default() };
    let world = World::with(policies).await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = Unlucky::new(client, "ada", "pm_sandbox_declines").await;
    client.advance_to("2026-03-01T10:00:00Z").await;
    assert_eq!(ada.state(client).await, past_due(1, "2026-03-02T10:00:00.000000Z"));
    client.advance_to("2026-03-30T10:00:00Z").await;
    assert_eq!(ada.state(client).await, (json!("past_due"), json!(3), Value::Null), "and payable still");
    client.advance_to("2026-03-31T10:00:00Z").await;
    assert_eq!(ada.state(client).await, over("canceled"));
    assert_eq!(ada.view(client).await["ended_at"], "2026-03-31T10:00:00.000000Z");
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credits_that_were_given_on_trust_are_taken_back_as_far_as_they_are_left() {
    let policies = Policies { renewal_grant: RenewalGrant::OnInvoice, ..Policies::default() };
    let world = World::with(policies).await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = Unlucky::new(client, "ada", "pm_sandbox_declines").await;
    client.advance_to("2026-03-07T09:59:59Z").await;
    assert_eq!(client.available(&ada.customer).await, 60_000_000);
    let usage = crate::support::event("1", &ada.customer, "mimo-v2-pro", json!({"input": 100_000}));
    client.post("/v1/usage/events", usage).await.expect(200);
    client.advance_to("2026-03-07T10:00:00Z").await;
    assert_eq!(client.available(&ada.customer).await, 0);
    let last = client.grants(&ada.customer).await.pop().unwrap();
    assert_eq!((&last["spent"], &last["revoked"]), (&json!(200_000), &json!(59_800_000)));
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_processes_run_each_retry_is_made_once() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let mut unlucky = Vec::new();
    for n in 0..12 {
        unlucky.push(Unlucky::new(client, &format!("c{n}"), "pm_sandbox_declines").await);
    }
    client.advance_to("2026-02-28T10:00:00Z").await;
    // Set, not advanced: the retries of 1 March are due, and nobody has made them.
    client.set_clock("2026-03-01T10:00:00Z").await;
    let _workers = [world.work(), world.work()];
    for _ in 0..3 {
        client.post("/v1/rollovers", json!({})).await.expect(202);
    }
    let command = world.command("rollover").output().unwrap();
    assert!(command.status.success(), "{}", String::from_utf8_lossy(&command.stderr));
    for ada in &unlucky {
        // One of the others may still be at it.
        for _ in 0..100 {
            if ada.state(client).await.1 == json!(2) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert_eq!(ada.state(client).await, past_due(2, "2026-03-03T10:00:00.000000Z"));
        assert_eq!(ada.renewal(client).await["payments"].as_array().unwrap().len(), 2);
    }
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_advance_of_the_clock_visits_whatever_is_due_on_the_way_in_its_order() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    Unlucky::new(client, "ada", "pm_sandbox_declines").await;
    // Never paid: given up 23 hours later. And a hold and a quote, which end by themselves.
    let bob = client.customer("bob").await;
    client.post("/v1/subscriptions", subscribe(&bob, "lite", "pm_sandbox_pends")).await.expect(202);
    let grace = client.customer("grace").await;
    let path = client.subscribe(&grace, "lite").await["subscription"]["id"].as_str().unwrap().to_owned();
    client.authorize("hold", &grace, "mimo-v2-pro", 1_000_000, 0).await.expect(201);
    let held = client.available(&grace).await;
    let preview = json!({"plan": "pro"});
    let quote = client.post(&format!("/v1/subscriptions/{path}/upgrade-preview"), preview).await.expect(201);
    client.advance_to("2026-01-31T10:20:00Z").await;
    assert!(held < 60_000_000 && client.available(&grace).await == 60_000_000, "the hold is over");
    let confirm = json!({"plan": "pro", "quote": quote["id"]});
    let late = client.post(&format!("/v1/subscriptions/{path}/upgrade"), confirm).await;
    late.expect_problem(409, "quote-not-valid");
    client.advance_to("2026-04-01T00:00:00Z").await;
    let visited: Vec<String> = world
        .told(&[
            "subscription.expired",
            "subscription.renewal_failed",
            "subscription.canceled",
            "cycle.opened",
        ])
        .await
        .into_iter()
        .map(|(kind, at)| format!("{} {kind}", &at[5..16]))
        .collect();
    let expected = [
        "02-01T09:00 subscription.expired",
        "02-28T10:00 cycle.opened",
        "02-28T10:00 cycle.opened",
        "02-28T10:00 subscription.renewal_failed",
        "03-01T10:00 subscription.renewal_failed",
        "03-03T10:00 subscription.renewal_failed",
        "03-05T10:00 subscription.renewal_failed",
        "03-07T10:00 subscription.renewal_failed",
        "03-07T10:00 subscription.canceled",
        "03-31T10:00 cycle.opened",
    ];
    assert_eq!(visited, expected);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpaid_first_purchase_is_not_tried_again_by_itself() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let declined = subscribe(&customer, "lite", "pm_sandbox_declines");
    let declined = client.post("/v1/subscriptions", declined).await.expect(402);
    client.advance_to("2026-02-01T08:59:59Z").await;
    let invoice = format!("/v1/invoices/{}", declined["invoice"].as_str().unwrap());
    assert_eq!(client.get(&invoice).await.expect(200)["payments"].as_array().unwrap().len(), 1);
    world.verify().await;
}
