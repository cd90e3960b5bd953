//! What the payment provider tells: signed, stored before it is answered, applied once, in any order.

use std::time::Duration;

use diesel_async::RunQueryDsl;
use serde_json::{Value, json};
use stripe_double::{Behaviour, Call, Fault, Plan};

use crate::stripe_shop::{SIGNING_SECRET, Shop, account, eventually};

fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// A purchase whose payment the bank has not decided yet, and its intent.
async fn processing(shop: &Shop, name: &str, plan: &str) -> (String, Value, String) {
    let customer = shop.client().customer(name).await;
    let card = shop.double.card(name, Behaviour::Processes);
    let bought = shop.subscribe(&customer, plan, &card).await.expect(202);
    assert_eq!(bought["payment_status"], "pending");
    let intent = shop.double.intents().last().unwrap()["id"].as_str().unwrap().to_owned();
    (customer, bought, intent)
}

/// The event by which the double tells that a payment succeeded.
fn success(shop: &Shop, intent: &str) -> Value {
    shop.double.settle(intent, true);
    let events = shop.double.events();
    let told = events.into_iter().rev().find(|event| event["type"] == "payment_intent.succeeded");
    let told = told.unwrap();
    assert_eq!(told["data"]["object"]["id"], intent);
    told
}

/// The same under another id, as an event of its own.
fn renamed(event: &Value, id: &str) -> Value {
    let mut event = event.clone();
    event["id"] = json!(id);
    event
}

async fn applied(shop: &Shop, id: &str, state: &str) -> Value {
    eventually(Duration::from_secs(20), async || {
        shop.event(id).await.is_some_and(|event| event["state"] != "received")
    })
    .await;
    let event = shop.event(id).await.unwrap();
    assert_eq!(event["state"], state, "{event}");
    event
}

/// The kinds of our own events so far.
async fn told_by_us(shop: &Shop) -> Vec<String> {
    #[derive(diesel::QueryableByName)]
    struct Kind {
        #[diesel(sql_type = diesel::sql_types::Text)]
        kind: String,
    }
    let kinds: Vec<Kind> = diesel::sql_query("select kind from outbox order by event_id")
        .load(&mut shop.world.stores.superuser().await)
        .await
        .unwrap();
    kinds.into_iter().map(|row| row.kind).collect()
}

/// A-16 to A-19: what is not signed by Stripe, for this tenant, now, is refused, and nothing is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_not_stripes_is_refused_and_not_stored() {
    let shop = Shop::open().await;
    let (_, _, intent) = processing(&shop, "ada", "lite").await;
    let event = success(&shop, &intent);
    let body = event.to_string();
    let sign = |secret: &str, at: i64| stripe_double::signature(secret, at, &body);
    let good = sign(SIGNING_SECRET, now());
    let hex = good.split_once("v1=").unwrap().1.to_owned();
    let t = now();
    for signature in [
        String::new(),
        format!("t={t}"),
        format!("v1={hex}"),
        good.replace("v1=", "v0="),
        sign("whsec_of_somebody_else", t),
        // A-17, A-18.
        sign(SIGNING_SECRET, t - 302),
        sign(SIGNING_SECRET, t + 3_600),
        // A-19.
        good.replace(&hex, &hex.to_uppercase()),
    ] {
        let answer = shop.tell_raw(&signature, body.clone()).await;
        answer.expect_problem(400, "invalid-signature");
    }
    for changed in [format!("{body} "), format!(" {body}"), serde_json::to_string_pretty(&event).unwrap()] {
        shop.tell_raw(&good, changed).await.expect_problem(400, "invalid-signature");
    }
    let client = shop.client();
    let unsigned = client.anonymous(reqwest::Method::POST, &shop.webhook_path()).body(body.clone());
    client.send(unsigned).await.expect_problem(400, "invalid-signature");
    // A-21: signed for another tenant, or for nobody; the answers do not tell who there is.
    let other = client.with_key(&shop.world.other_tenant().await);
    other.put("/v1/payment-provider", account(&["whsec_of_the_other_one"])).await.expect(200);
    let for_the_other = sign("whsec_of_the_other_one", t);
    shop.tell_raw(&for_the_other, body.clone()).await.expect_problem(400, "invalid-signature");
    for nobody in ["ten_00000000000000000000000000000000", "ten_x", "x"] {
        let request = client.anonymous(reqwest::Method::POST, &format!("/v1/webhooks/stripe/{nobody}"));
        let answer = client.send(request.header("stripe-signature", &good).body(body.clone())).await;
        answer.expect_problem(400, "invalid-signature");
    }
    // A-23.
    let large = "x".repeat(10_000_000);
    shop.tell_raw(&good, large).await.expect_problem(413, "payload-too-large");
    assert_eq!(shop.all_events().await.len(), 0);

    // A-19: one good signature of several, with either secret while one is being replaced.
    client.put("/v1/payment-provider", account(&["whsec_the_next_one", SIGNING_SECRET])).await.expect(200);
    let rotated = format!("t={t},v1={},v1={},v1={hex}", "0".repeat(64), "f".repeat(64))
        .replace(&hex, sign(SIGNING_SECRET, t).split_once("v1=").unwrap().1);
    let first = shop.tell_raw(&rotated, body.clone()).await.expect(200);
    assert_eq!(first["is_new"], true);
    let again = shop.tell_signed(&event, "whsec_the_next_one").await.expect(200);
    assert_eq!(again["is_new"], false);
    shop.world.verify().await;
}

/// A-20 and I-25.
#[tokio::test(flavor = "multi_thread")]
async fn one_event_a_hundred_times_at_once_and_one_payment_under_two_events_grants_once() {
    let shop = Shop::open().await;
    let _worker = shop.world.work();
    let client = shop.client();
    let (customer, _, intent) = processing(&shop, "ada", "standard").await;
    let event = success(&shop, &intent);
    let calls = (0..100).map(|_| shop.tell(&event));
    let answers = futures_util::future::join_all(calls).await;
    let new = answers.into_iter().filter(|answer| answer.clone().expect(200)["is_new"] == true).count();
    assert_eq!(new, 1);
    applied(&shop, event["id"].as_str().unwrap(), "applied").await;
    shop.tell(&renamed(&event, "evt_another")).await.expect(200);
    applied(&shop, "evt_another", "applied").await;
    shop.tell(&event).await.expect(200);
    assert_eq!(client.available(&customer).await, 200_000_000);
    assert_eq!(client.grants(&customer).await.len(), 1);
    shop.agree().await;
}

/// A-21 to A-23: signed, and not what it should be.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_does_not_add_up_is_stored_and_grants_nothing() {
    let shop = Shop::open().await;
    let _worker = shop.world.work();
    let client = shop.client();
    let (customer, bought, intent) = processing(&shop, "ada", "pro").await;
    let good = success(&shop, &intent);
    let changed = |id: &str, change: &dyn Fn(&mut Value)| {
        let mut event = renamed(&good, id);
        change(&mut event);
        event
    };
    let other_invoice = format!("inv_{}", "0".repeat(32));
    let other_payment = format!("pay_{}", "0".repeat(32));
    for (event, state, reason) in [
        (changed("evt_live", &|event| event["livemode"] = json!(true)), "rejected", "other-mode"),
        (changed("evt_account", &|event| event["account"] = json!("acct_2")), "rejected", "other-account"),
        (changed("evt_kind", &|event| event["type"] = json!("payout.paid")), "ignored", "not-acted-on"),
        (
            changed("evt_half", &|event| {
                event["data"]["object"].as_object_mut().unwrap().remove("amount_received");
            }),
            "parked",
            "the event has no amount_received",
        ),
        (
            changed("evt_invoice", &|event| {
                event["data"]["object"]["metadata"]["tollgate_invoice"] = json!(other_invoice);
            }),
            "parked",
            "another-invoice",
        ),
        (
            changed("evt_payment", &|event| {
                event["data"]["object"]["metadata"]["tollgate_payment"] = json!(other_payment);
            }),
            "parked",
            "unknown-payment",
        ),
        (
            changed("evt_tenant", &|event| {
                let tenant = format!("ten_{}", "0".repeat(32));
                event["data"]["object"]["metadata"]["tollgate_tenant"] = json!(tenant);
            }),
            "parked",
            "another-tenant",
        ),
        (
            changed("evt_charge", &|event| event["data"]["object"]["id"] = json!("pi_2")),
            "parked",
            "another-charge",
        ),
        (
            changed("evt_nobody", &|event| {
                event["data"]["object"]["metadata"] = json!({});
                event["data"]["object"]["id"] = json!("pi_of_nobody");
            }),
            "parked",
            "unknown-payment",
        ),
    ] {
        let id = event["id"].as_str().unwrap().to_owned();
        shop.tell(&event).await.expect(200);
        let settled = applied(&shop, &id, state).await;
        assert_eq!(settled["reason"], reason, "{id}");
    }
    // Signed, and no event at all.
    let body = r#"{"hello": "world"}"#;
    let signature = stripe_double::signature(SIGNING_SECRET, now(), body);
    shop.tell_raw(&signature, body).await.expect(200);
    assert_eq!(client.available(&customer).await, 0);
    assert_eq!(shop.status_of(&bought["subscription"]["id"]).await, "incomplete");
    let parked = client.get("/v1/provider-events?state=parked").await.expect(200);
    assert_eq!(parked["data"].as_array().unwrap().len(), 7);
    let alerts = told_by_us(&shop).await.into_iter().filter(|kind| kind == "provider_event.parked").count();
    assert_eq!(alerts, 7);

    // A-22: less money, or other money, parks the account, and the right one still pays.
    for (id, change) in [
        ("evt_less", json!({"amount_received": 599})),
        ("evt_more", json!({"amount_received": 601})),
        ("evt_other", json!({"currency": "cny"})),
        ("evt_foreign", json!({"currency": "jpy"})),
    ] {
        let event = changed(id, &|event| {
            event["data"]["object"].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        });
        shop.tell(&event).await.expect(200);
        let settled = applied(&shop, id, "parked").await;
        assert_eq!(settled["reason"], "another-amount");
        assert_eq!(settled["payment"], bought["invoice"]["payments"][0]["id"]);
    }
    assert_eq!(client.available(&customer).await, 0);
    client.authorize("a", &customer, "mimo-v2-pro", 10, 0).await.expect_problem(409, "account-parked");
    let mismatches = told_by_us(&shop).await.into_iter().filter(|kind| kind == "payment.mismatched").count();
    assert_eq!(mismatches, 1, "one alarm for one payment");
    shop.tell(&good).await.expect(200);
    applied(&shop, good["id"].as_str().unwrap(), "applied").await;
    assert_eq!(client.available(&customer).await, 700_000_000);
    shop.world.verify().await;
}

/// The double itself takes another amount than it was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_charge_over_another_amount_pays_nothing() {
    let shop = Shop::open().await;
    let client = shop.client();
    for (name, fault) in [("less", Fault::TakeInstead(71)), ("other", Fault::TakeIn("eur".to_owned()))] {
        let customer = client.customer(name).await;
        let card = shop.double.card(name, Behaviour::Succeeds);
        shop.double.fault(Call::CreateIntent, fault);
        let bought = shop.subscribe(&customer, "lite", &card).await.expect(202);
        assert_eq!(bought["payment_status"], "pending", "{name}");
        assert_eq!(client.available(&customer).await, 0);
        client.authorize(name, &customer, "mimo-v2-pro", 10, 0).await.expect_problem(409, "account-parked");
        // An operator gives it back on Stripe's own site: then the invoice can be paid anew.
        let path = format!("/v1/invoices/{}/pay", bought["invoice"]["id"].as_str().unwrap());
        let good = shop.double.card(&format!("{name}-good"), Behaviour::Succeeds);
        let again = json!({"payment_method": good});
        client.post(&path, again.clone()).await.expect_problem(409, "payment-pending");
        let wrong = shop.double.intents().last().unwrap().clone();
        shop.double.refund(wrong["id"].as_str().unwrap(), wrong["amount_received"].as_i64().unwrap());
        let paid = client.post(&path, again).await.expect(200);
        let statuses: Vec<&Value> = paid["invoice"]["payments"]
            .as_array()
            .unwrap()
            .iter()
            .map(|payment| &payment["status"])
            .collect();
        assert_eq!(statuses, ["canceled", "succeeded"]);
        assert_eq!(client.available(&customer).await, 60_000_000);
    }
    shop.world.verify().await;
}

/// A-23 and R-34: what cannot be stored is not answered for.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_stored_is_sent_again() {
    let shop = Shop::open().await;
    let (customer, _, intent) = processing(&shop, "ada", "lite").await;
    let event = success(&shop, &intent);
    let mut superuser = shop.world.stores.superuser().await;
    // A table that nobody gets at stands for a database that is away, for this event alone.
    for lock in ["begin", "lock table provider_events"] {
        diesel::sql_query(lock).execute(&mut superuser).await.unwrap();
    }
    shop.tell(&event).await.expect_problem(503, "storage-unavailable");
    diesel::sql_query("rollback").execute(&mut superuser).await.unwrap();
    let _worker = shop.world.work();
    let stored = shop.tell(&event).await.expect(200);
    assert_eq!(stored["is_new"], true);
    applied(&shop, event["id"].as_str().unwrap(), "applied").await;
    assert_eq!(shop.client().available(&customer).await, 60_000_000);
    shop.world.verify().await;
}

/// F-11: no webhook ever arrives.
#[tokio::test(flavor = "multi_thread")]
async fn what_never_came_is_found_in_the_providers_list_within_a_minute() {
    let shop = Shop::open().await;
    shop.listen(Plan { lost_percent: 100, ..Plan::default() });
    let _worker = shop.world.work();
    let client = shop.client();
    let (customer, bought, intent) = processing(&shop, "ada", "max").await;
    shop.double.settle(&intent, true);
    let refused = client.customer("grace").await;
    let (_, declined, other) = {
        let card = shop.double.card("grace", Behaviour::Processes);
        let bought = shop.subscribe(&refused, "lite", &card).await.expect(202);
        let intent = shop.double.intents().last().unwrap()["id"].as_str().unwrap().to_owned();
        (refused.clone(), bought, intent)
    };
    shop.double.settle(&other, false);
    // A look each minute, and the time that one takes.
    eventually(Duration::from_secs(75), async || client.available(&customer).await == 1_600_000_000).await;
    assert_eq!(shop.status_of(&bought["subscription"]["id"]).await, "active");
    let path = format!("/v1/invoices/{}", declined["invoice"]["id"].as_str().unwrap());
    eventually(Duration::from_secs(20), async || {
        client.get(&path).await.expect(200)["payments"][0]["status"] == "failed"
    })
    .await;
    let events = shop.all_events().await;
    assert!(!events.is_empty() && events.iter().all(|event| event["came_by"] == "reread"));
    shop.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_settled_ninety_days_ago_is_deleted_and_what_is_parked_stays() {
    let shop = Shop::open().await;
    // Its list stays away: what is deleted would be found there again.
    for _ in 0..100 {
        shop.double.fault(Call::ListEvents, Fault::Error);
    }
    let _worker = shop.world.work();
    let (customer, _, intent) = processing(&shop, "ada", "lite").await;
    let paid = success(&shop, &intent);
    let mut of_nobody = renamed(&paid, "evt_parked");
    of_nobody["data"]["object"]["id"] = json!("pi_of_nobody");
    let mut ignored = renamed(&paid, "evt_ignored");
    ignored["type"] = json!("payout.paid");
    for event in [&paid, &renamed(&paid, "evt_young"), &of_nobody, &ignored] {
        shop.tell(event).await.expect(200);
    }
    shop.settled(4).await;
    let mut superuser = shop.world.stores.superuser().await;
    for change in [
        "update provider_events set received_at = now() - interval '91 days',
             settled_at = case event_id when 'evt_young' then now() - interval '89 days'
                 else now() - interval '91 days' end",
        // A job that was done is forgotten after seven days.
        "delete from jobs where kind = 'apply_provider_event'",
        "insert into jobs (job_id, kind, key, payload, run_at, created_at)
         values (gen_random_uuid(), 'prune_provider_events', 'now', '{}', now(), now())",
    ] {
        diesel::sql_query(change).execute(&mut superuser).await.unwrap();
    }
    eventually(Duration::from_secs(20), async || shop.all_events().await.len() == 2).await;
    let left = shop.all_events().await;
    let left: Vec<&Value> = left.iter().map(|event| &event["id"]).collect();
    assert_eq!(left, ["evt_parked", "evt_young"]);
    // Told once more it is applied once more, and changes nothing.
    let id = paid["id"].as_str().unwrap();
    assert_eq!(shop.tell(&paid).await.expect(200)["is_new"], true);
    applied(&shop, id, "applied").await;
    assert_eq!(shop.client().available(&customer).await, 60_000_000);
    shop.agree().await;
}
