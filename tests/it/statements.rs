//! The past as it was: balances and the ledger at a version or an instant, and cycles' statements that add up.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, World, event};

/// A call of 1,000 tokens in and 500 out at 2x: 3,000 Credits.
fn call(id: &str, customer: &str) -> Value {
    event(id, customer, "mimo-v2-pro", json!({"input": 1_000, "output": 500}))
}

struct Subscriber {
    customer: String,
    subscription: String,
}

async fn subscriber(client: &Client) -> Subscriber {
    let customer = client.customer("ada").await;
    let bought = client.subscribe(&customer, "lite").await;
    Subscriber { customer, subscription: bought["subscription"]["id"].as_str().unwrap().to_owned() }
}

/// Two cycles: in the first, 13,000 Credits of two models and an upgrade; in the second, late usage of the
/// first, and 3,000 Credits more than there are.
async fn live_two_cycles(client: &Client) -> Subscriber {
    let subscriber = subscriber(client).await;
    let customer = &subscriber.customer;
    let omni = event("omni", customer, "mimo-v2-omni", json!({"input": 10_000}));
    client.post("/v1/usage/events", json!([call("pro", customer), omni])).await.expect(200);
    let upgrade = format!("/v1/subscriptions/{}/upgrade", subscriber.subscription);
    client.post(&upgrade, json!({"plan": "standard"})).await.expect(200);
    client.advance_to("2026-02-28T10:00:05Z").await;
    let mut late = call("late", customer);
    late["time"] = json!("2026-02-28T09:59:59Z");
    // 100,000,000 each.
    let all =
        ["a", "b"].map(|id| event(id, customer, "mimo-v2-pro", json!({"input": 0, "output": 50_000_000})));
    let [first, second] = all;
    let batch = json!([late, first, second, call("more", customer)]);
    client.post("/v1/usage/events", batch).await.expect(200);
    subscriber
}

async fn statement(client: &Client, subscriber: &Subscriber, query: &str) -> Value {
    let path = format!("/v1/subscriptions/{}/statement{query}", subscriber.subscription);
    client.get(&path).await.expect(200)
}

fn amounts(statement: &Value) -> [i64; 7] {
    ["opening", "taken_back", "spent", "expired", "revoked", "closing", "overage"]
        .map(|name| statement[name].as_i64().unwrap())
}

fn sum(list: &Value, of: &str) -> i64 {
    list.as_array().unwrap().iter().map(|item| item[of].as_i64().unwrap()).sum()
}

#[track_caller]
fn assert_adds_up(statement: &Value) {
    let [opening, taken_back, spent, expired, revoked, closing, overage] = amounts(statement);
    let granted = sum(&statement["granted"], "credits");
    assert_eq!(opening + granted + taken_back - spent - expired - revoked, closing, "{statement}");
    assert_eq!((sum(&statement["usage"], "spent"), sum(&statement["usage"], "overage")), (spent, overage));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statements_of_a_lively_customer_add_up_and_stay_as_they_were() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let subscriber = live_two_cycles(client).await;

    let first = statement(client, &subscriber, "?cycle=0").await;
    assert_adds_up(&first);
    assert_eq!((&first["is_final"], &first["plan"]), (&json!(true), &json!("lite")));
    assert_eq!(first["end"], "2026-02-28T10:00:00.000000Z");
    assert_eq!(amounts(&first), [0, 0, 13_000, 199_987_000, 0, 0, 0]);
    let granted = json!([
        {"source": "plan", "credits": 60_000_000},
        {"source": "upgrade", "credits": 140_000_000}
    ]);
    assert_eq!(first["granted"], granted);
    let by_model = json!([
        {"model": "mimo-v2-omni", "spent": 10_000, "overage": 0, "voided": 0, "overage_voided": 0},
        {"model": "mimo-v2-pro", "spent": 3_000, "overage": 0, "voided": 0, "overage_voided": 0}
    ]);
    assert_eq!(first["usage"], by_model);

    let open = statement(client, &subscriber, "").await;
    assert_adds_up(&open);
    assert_eq!((&open["cycle"], &open["is_final"]), (&json!(1), &json!(false)));
    assert_eq!(amounts(&open), [0, 3_000, 200_003_000, 0, 0, 0, 3_000]);

    client.advance_to("2026-03-31T10:00:00Z").await;
    let second = statement(client, &subscriber, "?cycle=1").await;
    assert_adds_up(&second);
    assert_eq!(second["is_final"], true);
    assert_eq!(amounts(&second), amounts(&open));
    assert_eq!(second["after_version"], first["to_version"], "a transfer is in one statement");
    assert_eq!(statement(client, &subscriber, "?cycle=0").await, first);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_csv_where_that_is_asked_for() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let subscriber = live_two_cycles(client).await;
    let Subscriber { customer: _, subscription } = &subscriber;
    let path = format!("/v1/subscriptions/{subscription}/statement?cycle=1");
    let answer = client.get(&format!("{path}&format=csv")).await;
    assert_eq!(answer.headers["content-type"], "text/csv; charset=utf-8");
    let of = format!("{subscription},1,2026-02-28T10:00:00.000000Z,2026-03-31T10:00:00.000000Z,false");
    let expected = [
        "subscription,cycle,start,end,is_final,entry,detail,credits".to_owned(),
        format!("{of},opening,,0"),
        format!("{of},granted,plan,200000000"),
        format!("{of},taken_back,,3000"),
        format!("{of},voided,mimo-v2-pro,0"),
        format!("{of},reinstated,,0"),
        format!("{of},spent,mimo-v2-pro,200003000"),
        format!("{of},expired,,0"),
        format!("{of},revoked,,0"),
        format!("{of},closing,,0"),
        format!("{of},overage,mimo-v2-pro,3000"),
        format!("{of},overage_voided,mimo-v2-pro,0"),
    ];
    let text = answer.expect(200).as_str().unwrap().to_owned();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    let accepted = client.send(client.request(Method::GET, &path).header("Accept", "text/csv")).await;
    assert_eq!(accepted.expect(200), text);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immediate_cancel_closes_the_statement_with_what_it_revoked() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let subscriber = subscriber(client).await;
    client.post("/v1/usage/events", call("1", &subscriber.customer)).await.expect(200);
    client.advance_to("2026-02-10T10:00:00Z").await;
    let path = format!("/v1/subscriptions/{}", subscriber.subscription);
    client.post(&format!("{path}/cancel"), json!({"at_once": true})).await.expect(200);
    let canceled = statement(client, &subscriber, "").await;
    assert_adds_up(&canceled);
    assert_eq!(amounts(&canceled), [0, 0, 3_000, 0, 59_997_000, 0, 0]);
    assert_eq!(
        (&canceled["is_final"], &canceled["end"]),
        (&json!(true), &json!("2026-02-10T10:00:00.000000Z"))
    );
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_cycles_that_there_are_have_statements_and_only_their_owner_sees_them() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let subscriber = subscriber(client).await;
    let path = format!("/v1/subscriptions/{}/statement", subscriber.subscription);
    client.get(&format!("{path}?cycle=1")).await.expect_problem(404, "not-found");
    for wrong in ["cycle=-1", "cycle=4294967296", "cycle=2147483648", "cycle=x", "format=xml", "cycles=0"] {
        client.get(&format!("{path}?{wrong}")).await.expect_problem(422, "invalid-field");
    }
    let token = async |customer: &str| {
        let minted = client.post(&format!("/v1/customers/{customer}/tokens"), json!({})).await.expect(201);
        client.with_key(minted["token"].as_str().unwrap())
    };
    token(&subscriber.customer).await.get(&path).await.expect(200);
    let other = client.customer("bob").await;
    token(&other).await.get(&path).await.expect_problem(404, "not-found");
    token(&other).await.get(&format!("{path}?cycle=1")).await.expect_problem(404, "not-found");
    let other_tenant = world.other_tenant().await;
    client.with_key(&other_tenant).get(&path).await.expect_problem(404, "not-found");
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_and_the_ledger_can_be_read_as_they_were() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let Subscriber { customer, .. } = live_two_cycles(client).await;
    let (balance, ledger) =
        (format!("/v1/customers/{customer}/balance"), format!("/v1/customers/{customer}/ledger"));
    let transfers = client.transfers(&customer).await;

    // At every version: what the transfers up to it have left of the grants that were live then.
    let grants = client.grants(&customer).await;
    let mut left = std::collections::BTreeMap::new();
    for transfer in &transfers {
        let credits = transfer["credits"].as_i64().unwrap();
        if let Some(grant) = transfer["grant"].as_str() {
            let left: &mut i64 = left.entry(grant).or_default();
            *left += if transfer["credit"] == "available" { credits } else { 0 };
            *left -= if transfer["debit"] == "available" { credits } else { 0 };
        }
        let (version, at) = (&transfer["version"], transfer["recorded_at"].as_str().unwrap());
        let live = grants.iter().filter(|grant| {
            grant["effective_at"].as_str().unwrap() <= at && at < grant["expires_at"].as_str().unwrap()
        });
        let settled: i64 =
            live.map(|grant| left.get(grant["id"].as_str().unwrap()).copied().unwrap_or_default()).sum();
        let past = client.get(&format!("{balance}?version={version}")).await.expect(200);
        assert_eq!((&past["settled"], &past["account_version"]), (&json!(settled), version));
        assert_eq!(past["as_of"], transfer["recorded_at"]);
        assert_eq!((&past["held"], &past["available"]), (&Value::Null, &Value::Null));
    }
    let last = client.get(&format!("{balance}?version={}", transfers.len())).await.expect(200);
    let now = client.balance(&customer).await;
    for same in ["settled", "granted", "used", "overage", "account_version", "expires_next_at"] {
        assert_eq!(last[same], now[same], "{same}");
    }

    // By instants: before the purchase, just before the cycle's end, and at it.
    for (at, settled, granted) in [
        ("2026-01-31T09:59:59Z", 0, 0),
        ("2026-02-28T09:59:59.999999Z", 199_987_000, 200_000_000),
        ("2026-02-28T10:00:00Z", 200_000_000, 200_000_000),
    ] {
        let past = client.get(&format!("{balance}?at={at}")).await.expect(200);
        assert_eq!((&past["settled"], &past["granted"]), (&json!(settled), &json!(granted)), "{at}");
    }
    let page = client.get(&format!("{ledger}?version=3&limit=2")).await.expect(200);
    assert_eq!(page["data"], json!(transfers[..2]));
    let next = page["next_cursor"].as_str().unwrap();
    let page = client.get(&format!("{ledger}?version=3&limit=2&cursor={next}")).await.expect(200);
    assert_eq!((&page["data"], &page["next_cursor"]), (&json!(transfers[2..3]), &Value::Null));
    let page = client.get(&format!("{ledger}?at=2026-01-31T10:00:00Z")).await.expect(200);
    assert_eq!(page["data"], json!(transfers[..4]));

    for path in [&balance, &ledger] {
        for (wrong, pointer, code) in [
            ("version=1&at=2026-01-31T10:00:00Z".to_owned(), "version", "not-with-at"),
            ("at=2026-02-28T10:00:05.000001Z".to_owned(), "at", "in-the-future"),
            (format!("version={}", transfers.len() + 1), "version", "out-of-range"),
            ("version=0".to_owned(), "version", "out-of-range"),
            ("version=+1".to_owned(), "version", "out-of-range"),
            ("at=yesterday".to_owned(), "at", "not-an-instant"),
        ] {
            let answer = client.get(&format!("{path}?{wrong}")).await;
            answer.expect_problem(422, "invalid-field");
            assert_eq!(answer.body["errors"][0], json!({"pointer": pointer, "code": code}), "{wrong}");
        }
    }
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_that_changes_an_account_says_its_version() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let bought = client.subscribe(&customer, "lite").await;
    assert_eq!(bought["subscription"]["account_version"], 1);
    let path = format!("/v1/subscriptions/{}", bought["subscription"]["id"].as_str().unwrap());
    let upgraded = client.post(&format!("{path}/upgrade"), json!({"plan": "standard"})).await.expect(200);
    assert_eq!(upgraded["subscription"]["account_version"], 2);
    let held = client.authorize("call", &customer, "mimo-v2-pro", 1_000, 500).await.expect(201);
    assert_eq!(held["account_version"], 2, "the version read");
    let charged = client.post("/v1/usage/events", call("1", &customer)).await.expect(200);
    assert_eq!(charged["receipt"]["account_version"], 3);
    let unrated = event("2", &customer, "unknown", json!({"input": 1}));
    let unrated = client.post("/v1/usage/events", unrated).await.expect(202);
    assert_eq!(unrated["receipt"]["account_version"], 3);
    let released =
        client.post("/v1/authorizations/call/release", json!({"customer": customer})).await.expect(200);
    assert_eq!(released["account_version"], 3);
    let canceled = client.post(&format!("{path}/cancel"), json!({"at_once": true})).await.expect(200);
    assert_eq!(canceled["account_version"], 5, "what was left of two grants was revoked");
    world.verify().await;
}
