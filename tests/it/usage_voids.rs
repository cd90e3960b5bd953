//! An event that should not have been counted is voided: what it cost goes back to where it came from, once, and the
//! ledger, statements and reports show it as what it is (R-33, R-25b).

use diesel_async::SimpleAsyncConnection;
use domain::id::CustomerId;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tenants::Scope;

use crate::support::{Answer, Client, World, event};

/// A call of 1,000 tokens in and 500 out at 2x: 3,000 Credits.
fn call(id: &str, customer: &str) -> Value {
    event(id, customer, "mimo-v2-pro", json!({"input": 1_000, "output": 500}))
}

/// A call that costs so many Credits, at 2x.
fn costing(id: &str, customer: &str, credits: u64) -> Value {
    event(id, customer, "mimo-v2-pro", json!({"input": 0, "output": credits / 2}))
}

async fn try_void(client: &Client, id: &str, reason: &str) -> Answer {
    client.post(&format!("/v1/usage/events/{id}/void?source=urn:test"), json!({"reason": reason})).await
}

/// Voids it, and returns `voided` of the answer.
async fn void(client: &Client, id: &str) -> Value {
    try_void(client, id, "counted twice").await.expect(200)["voided"].clone()
}

async fn subscriber(client: &Client) -> (String, String) {
    let customer = client.customer("ada").await;
    let bought = client.subscribe(&customer, "lite").await;
    (customer, bought["subscription"]["id"].as_str().unwrap().to_owned())
}

/// Of each grant: spent, expired, remaining.
async fn parts(client: &Client, customer: &str) -> Vec<[i64; 3]> {
    let part = |grant: &Value, name: &str| grant[name].as_i64().unwrap();
    let grants = client.grants(customer).await;
    grants.iter().map(|grant| ["spent", "expired", "remaining"].map(|name| part(grant, name))).collect()
}

/// From where to where, how much, why and what it reverses, of the transfers after a version.
async fn moved(client: &Client, customer: &str, after_version: usize) -> Value {
    let transfers = client.transfers(customer).await;
    let rows = transfers[after_version..].iter();
    let rows =
        rows.map(|of| json!([of["debit"], of["credit"], of["credits"], of["cause"]["kind"], of["reverses"]]));
    rows.collect()
}

/// The numbers of a void, in the order returned, spendable, overage, balance after and version.
fn numbers(voided: &Value) -> Value {
    ["returned", "spendable", "overage", "balance_after", "account_version"]
        .map(|name| voided[name].clone())
        .into()
}

async fn used(client: &Client, customer: &str) -> Value {
    let report =
        client.get(&format!("/v1/customers/{customer}/usage?from=2026-01-31T00:00:00Z")).await.expect(200);
    json!([report["total"]["events"], report["total"]["credits"], report["data"].as_array().unwrap().len()])
}

fn assert_verified(world: &World) {
    let output = world.command("verify").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let output = world.command("rebuild").arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn within_its_cycle_an_event_gives_its_credits_back_to_the_grants_that_paid_last_draw_first() {
    // Given 60,000,000 of the plan and 140,000,000 of an upgrade, of which a call spends all and 4,000 more,
    // when it is voided, then all of it is back, the last draw first.
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (customer, subscription) = subscriber(client).await;
    client.post("/v1/usage/events", call("first", &customer)).await.expect(200);
    client
        .post(&format!("/v1/subscriptions/{subscription}/upgrade"), json!({"plan": "standard"}))
        .await
        .expect(200);
    client.advance_to("2026-02-10T10:00:00Z").await;
    let big = costing("big", &customer, 200_001_000);
    let charged = client.post("/v1/usage/events", big.clone()).await.expect(200);
    assert_eq!((&charged["receipt"]["overage"], client.available(&customer).await), (&json!(4_000), 0));
    assert_eq!(used(client, &customer).await, json!([2, 200_004_000, 2]));

    client.advance_to("2026-02-11T10:00:00Z").await;
    let answer = try_void(client, "big", "the gateway counted a retry").await.expect(200);
    let voided = &answer["voided"];
    assert_eq!(numbers(voided), json!([199_997_000, 199_997_000, 4_000, 199_997_000, 9]));
    assert_eq!(voided["at"], "2026-02-11T10:00:00.000000Z");
    assert_eq!(voided["reason"], "the gateway counted a retry");
    let keys = client.get("/v1/api-keys").await.expect(200);
    assert_eq!(voided["voided_by"], keys["data"][0]["id"], "the tenant has one key");
    assert_eq!(answer["receipt"], charged["receipt"], "the receipt stays what it was");
    let expected = json!([
        ["issued", "available", 60_000_000, "purchase", null],
        ["available", "spent", 3_000, "usage", null],
        ["issued", "available", 140_000_000, "purchase", null],
        ["available", "spent", 59_997_000, "usage", null],
        ["available", "spent", 140_000_000, "usage", null],
        ["overage", "spent", 4_000, "usage", null],
        ["spent", "overage", 4_000, "void", 6],
        ["spent", "available", 140_000_000, "void", 5],
        ["spent", "available", 59_997_000, "void", 4],
    ]);
    assert_eq!(moved(client, &customer, 0).await, expected);
    assert_eq!(parts(client, &customer).await, [[3_000, 0, 59_997_000], [0, 0, 140_000_000]]);
    let balance = client.balance(&customer).await;
    assert_eq!((&balance["available"], &balance["overage"]), (&json!(199_997_000), &json!(0)));
    client.authorize("next", &customer, "mimo-v2-pro", 1_000, 500).await.expect(201);

    // Who reads the event sees it; reports leave it out; sent again it is a repeat, with its first receipt.
    let path = "/v1/usage/events/big?source=urn:test";
    assert_eq!(client.get(path).await.expect(200), answer);
    assert_eq!(used(client, &customer).await, json!([1, 3_000, 1]));
    let by_kind = format!("/v1/customers/{customer}/usage?from=2026-01-31T00:00:00Z&group_by=kind");
    assert_eq!(client.get(&by_kind).await.expect(200)["total"]["credits"], 3_000);
    let again = client.post("/v1/usage/events", big).await.expect(200);
    assert_eq!((&again["status"], &again["receipt"]), (&json!("duplicate"), &charged["receipt"]));
    assert_verified(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_cycle_what_goes_back_expires_at_once_and_only_late_usage_of_that_cycle_gets_it() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (customer, _) = subscriber(client).await;
    client.post("/v1/usage/events", call("1", &customer)).await.expect(200);
    client.advance_to("2026-02-28T10:05:00Z").await;
    assert_eq!(parts(client, &customer).await, [[3_000, 59_997_000, 0], [0, 0, 60_000_000]]);

    // Versions 1 to 4 are the two purchases, the charge and the expiry.
    assert_eq!(numbers(&void(client, "1").await), json!([3_000, 0, 0, 60_000_000, 6]));
    let expected =
        json!([["spent", "available", 3_000, "void", 2], ["available", "expired", 3_000, "void", null],]);
    assert_eq!(moved(client, &customer, 4).await, expected);
    assert_eq!(parts(client, &customer).await, [[0, 60_000_000, 0], [0, 0, 60_000_000]]);

    // The call as it should have been counted, within the grace: it takes from what expired, also of what was voided.
    let mut right = costing("right", &customer, 59_999_000);
    right["time"] = json!("2026-02-28T09:59:59Z");
    let receipt = client.post("/v1/usage/events", right).await.expect(200)["receipt"].clone();
    assert_eq!((&receipt["overage"], &receipt["balance_after"]), (&json!(0), &json!(60_000_000)));
    assert_eq!(parts(client, &customer).await, [[59_999_000, 1_000, 0], [0, 0, 60_000_000]]);
    // And that one as well.
    assert_eq!(numbers(&void(client, "right").await), json!([59_999_000, 0, 0, 60_000_000, 10]));
    assert_eq!(parts(client, &customer).await, [[0, 60_000_000, 0], [0, 0, 60_000_000]]);
    assert_verified(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_back_expires_at_once_also_where_nobody_booked_the_cycles_end_yet() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (customer, _) = subscriber(client).await;
    client.post("/v1/usage/events", call("1", &customer)).await.expect(200);
    // The clock alone: nothing that is due by it is done.
    client.set_clock("2026-02-28T10:00:05Z").await;
    assert_eq!(numbers(&void(client, "1").await), json!([3_000, 0, 0, 0, 4]));
    assert_eq!(parts(client, &customer).await, [[0, 3_000, 59_997_000]]);
    client.advance_to("2026-02-28T10:00:06Z").await;
    assert_eq!(parts(client, &customer).await, [[0, 60_000_000, 0], [0, 0, 60_000_000]]);
    assert_verified(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_back_to_a_canceled_plan_can_be_spent_until_its_cycle_would_have_ended() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (customer, subscription) = subscriber(client).await;
    client.post("/v1/usage/events", call("1", &customer)).await.expect(200);
    client
        .post(&format!("/v1/subscriptions/{subscription}/cancel"), json!({"at_once": true}))
        .await
        .expect(200);
    assert_eq!(numbers(&void(client, "1").await), json!([3_000, 3_000, 0, 3_000, 4]));
    client.advance_to("2026-02-28T09:59:59Z").await;
    assert_eq!(client.available(&customer).await, 3_000);
    client.advance_to("2026-02-28T10:00:00Z").await;
    assert_eq!((client.available(&customer).await, parts(client, &customer).await), (0, vec![[0, 3_000, 0]]));
    assert_verified(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_voided_once_however_many_ask_at_once() {
    let world = World::new().await;
    let servers = [world.serve().await, world.serve().await];
    let client = &servers[0].client;
    let (customer, _) = subscriber(client).await;
    client.post("/v1/usage/events", json!([call("1", &customer), call("2", &customer)])).await.expect(200);
    let asking = (0..20).map(|number| {
        let client = servers[number % 2].client.clone();
        async move { try_void(&client, "1", &format!("reason {number}")).await.expect(200) }
    });
    let answers = join_all(asking).await;
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "all with the first one's reason: {answers:?}"
    );
    assert_eq!(numbers(&answers[0]["voided"]), json!([3_000, 3_000, 0, 59_997_000, 4]));
    assert_eq!(client.transfers(&customer).await.len(), 4);

    // Much later, and after the next cycle has begun: still the first answer.
    client.advance_to("2026-03-05T10:00:00Z").await;
    assert_eq!(try_void(client, "1", "again").await.expect(200), answers[0]);
    assert_eq!(client.available(&customer).await, 60_000_000);
    assert_verified(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_is_in_the_statement_of_when_it_was_made_and_both_add_up() {
    // Given two calls of the first cycle, one of which is voided in it and one after it, and a call of the second
    // that is voided in it.
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (customer, subscription) = subscriber(client).await;
    let omni = event("omni", &customer, "mimo-v2-omni", json!({"input": 10_000}));
    client.post("/v1/usage/events", json!([call("pro", &customer), omni])).await.expect(200);
    void(client, "omni").await;
    client.advance_to("2026-02-28T10:00:05Z").await;
    let path = format!("/v1/subscriptions/{subscription}/statement");
    let first = client.get(&format!("{path}?cycle=0")).await.expect(200);
    client.post("/v1/usage/events", call("march", &customer)).await.expect(200);
    void(client, "pro").await;
    void(client, "march").await;

    let amounts = |statement: &Value| {
        ["opening", "taken_back", "voided", "spent", "expired", "closing", "overage", "overage_voided"]
            .map(|name| statement[name].as_i64().unwrap())
    };
    // 60,000,000 + 10,000 voided - 13,000 spent - 59,997,000 expired = 0.
    assert_eq!(amounts(&first), [0, 0, 10_000, 13_000, 59_997_000, 0, 0, 0]);
    let usage = json!([
        {"model": "mimo-v2-omni", "spent": 10_000, "overage": 0, "voided": 10_000, "overage_voided": 0},
        {"model": "mimo-v2-pro", "spent": 3_000, "overage": 0, "voided": 0, "overage_voided": 0}
    ]);
    assert_eq!(first["usage"], usage);
    assert_eq!(client.get(&format!("{path}?cycle=0")).await.expect(200), first, "it stays as it was");
    // 60,000,000 + 6,000 voided - 3,000 spent - 3,000 expired = 60,000,000.
    let second = client.get(&path).await.expect(200);
    assert_eq!(amounts(&second), [0, 0, 6_000, 3_000, 3_000, 60_000_000, 0, 0]);
    let csv = client.get(&format!("{path}?format=csv")).await.expect(200);
    assert!(csv.as_str().unwrap().contains(",voided,mimo-v2-pro,6000\n"), "{csv}");
    assert_verified(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_a_rate_that_is_voided_is_never_charged() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (customer, _) = subscriber(client).await;
    let unknown = ["voided", "kept"].map(|id| event(id, &customer, "mimo-v9", json!({"input": 1_000})));
    client.post("/v1/usage/events", json!(unknown)).await.expect(200);
    assert_eq!(numbers(&void(client, "voided").await), json!([0, 0, 0, 60_000_000, 1]));
    let waiting = client.get("/v1/usage/unrated").await.expect(200);
    assert_eq!(waiting["data"].as_array().unwrap().iter().map(|of| &of["id"]).collect::<Vec<_>>(), ["kept"]);

    let mut with_v9 = catalog::parse(catalog::REFERENCE).unwrap();
    let mut v9 = with_v9.models[0].clone();
    v9.code = "mimo-v9".to_owned();
    with_v9.models.push(v9);
    let scope = world.scope().await;
    let catalogs = catalog::Catalogs::new(world.stores.db());
    let start = domain::time::parse_rfc3339(crate::support::START).unwrap();
    catalogs.publish(world.tenant, with_v9, start + chrono::TimeDelta::seconds(1), scope.now).await.unwrap();
    world.usage().rerate(&scope).await.unwrap();
    let voided = client.get("/v1/usage/events/voided?source=urn:test").await.expect(200);
    assert_eq!(
        (&voided["receipt"]["credits"], &voided["receipt"]["unrated_reason"]),
        (&json!(0), &json!("unknown-model"))
    );
    assert_verified(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_is_told_and_so_is_a_balance_that_recovers_by_it() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (customer, _) = subscriber(client).await;
    client.post("/v1/usage/events", costing("all", &customer, 60_000_000)).await.expect(200);
    void(client, "all").await;
    void(client, "all").await;
    #[derive(diesel::QueryableByName)]
    struct Told {
        #[diesel(sql_type = diesel::sql_types::Text)]
        kind: String,
        #[diesel(sql_type = diesel::sql_types::Jsonb)]
        payload: Value,
    }
    let told = diesel::sql_query(
        "select kind, payload from outbox where kind in ('usage.voided', 'balance.recovered') order by event_id",
    );
    let told: Vec<Told> =
        diesel_async::RunQueryDsl::load(told, &mut world.stores.superuser().await).await.unwrap();
    assert_eq!(
        told.iter().map(|of| of.kind.as_str()).collect::<Vec<_>>(),
        ["balance.recovered", "usage.voided"]
    );
    let payload = json!({"source": "urn:test", "id": "all", "customer": customer, "reason": "counted twice",
        "credits": 60_000_000, "overage": 0, "spendable": 60_000_000, "available": 60_000_000, "account_version": 3});
    assert_eq!(told[1].payload, payload);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_operator_voids_and_only_what_was_counted() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (customer, _) = subscriber(client).await;
    client.post("/v1/usage/events", call("1", &customer)).await.expect(200);
    for scope in [Scope::Read, Scope::Usage, Scope::Billing] {
        let other = client.with_key(&world.key(&[scope]).await);
        try_void(&other, "1", "why").await.expect_problem(403, "insufficient-scope");
    }
    let other_tenant = client.with_key(&world.other_tenant().await);
    try_void(&other_tenant, "1", "why").await.expect_problem(404, "not-found");
    try_void(client, "2", "why").await.expect_problem(404, "not-found");
    let path = "/v1/usage/events/1/void";
    client
        .post(&format!("{path}?source=urn:other"), json!({"reason": "why"}))
        .await
        .expect_problem(404, "not-found");
    let source = format!("{path}?source=urn:test");
    for body in [json!({}), json!({"reason": ""}), json!({"reason": null}), json!({"reason": "a", "more": 1})]
    {
        client.post(&source, body).await.expect_problem(422, "invalid-field");
    }
    client.post(path, json!({"reason": "why"})).await.expect_problem(422, "invalid-field");
    try_void(client, "1", "card 4242 4242 4242 4242").await.expect_problem(422, "card-data-refused");
    // What is in quarantine was not counted.
    let mut odd = call("odd", &customer);
    odd["usage_format"] = json!("openai.chat");
    odd["usage"] = json!({"tokens": "many"});
    client.post("/v1/usage/events", odd).await.expect(202);
    try_void(client, "odd", "why").await.expect_problem(404, "not-found");

    // A parked account is looked at first.
    let id: CustomerId = customer.parse().unwrap();
    let (ledger, scope) = (world.ledger(), world.scope().await);
    ledger.park(&scope, id, "its books do not add up").await.unwrap();
    try_void(client, "1", "why").await.expect_problem(409, "account-parked");
    assert_eq!(client.transfers(&customer).await.len(), 2, "nothing was voided");
    ledger.unpark(&scope, id).await.unwrap();
    assert_eq!(numbers(&void(client, "1").await), json!([3_000, 3_000, 0, 60_000_000, 3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_that_was_made_by_hand_is_found() {
    // Somebody who wants 3,000 Credits back marks the event, and says nothing to the ledger.
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (customer, _) = subscriber(client).await;
    client.post("/v1/usage/events", call("1", &customer)).await.expect(200);
    let by_hand = "insert into usage_voids (tenant_id, identity, customer_id, event_time, voided_at, reason, credits,
            overage, spendable, balance_after, account_version)
        select tenant_id, identity, customer_id, event_time, event_time, 'a favour', credits, 0, credits, 60000000, 3
        from usage_events where event_id = '1'";
    world.stores.superuser().await.batch_execute(by_hand).await.unwrap();
    let output = world.command("verify").arg("--no-park").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("I-9") && said.contains("usage_voids"), "{said}");
    assert!(said.contains("I-13") && said.contains("usage_hours"), "{said}");
}
