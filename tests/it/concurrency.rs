//! Whatever is done twice, or through two server processes at once, has one effect.

use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use serde_json::{Value, json};

use crate::support::{Answer, Client, World, event, subscribe};

/// Sends the same POST many times at once, through all servers in turn.
async fn at_once(
    clients: &[&Client],
    count: usize,
    key: impl Fn(usize) -> String,
    path: &str,
    body: &Value,
) -> Vec<Answer> {
    let calls = (0..count).map(|n| {
        let (client, key, path, body) =
            (clients[n % clients.len()].clone(), key(n), path.to_owned(), body.clone());
        tokio::spawn(async move { client.post_as(&key, &path, body).await })
    });
    let mut answers = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        answers.push(call.await.unwrap());
    }
    answers
}

fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status.as_u16() == status).count()
}

/// How many answered with this problem.
fn problems(answers: &[Answer], code: &str) -> usize {
    let is_it = |answer: &&Answer| {
        let problem_type = answer.body["type"].as_str().unwrap_or_default();
        answer.status == 409 && problem_type.rsplit('/').next() == Some(code)
    };
    answers.iter().filter(is_it).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_subscribes_at_once_make_one_subscription() {
    let world = World::new().await;
    let servers = [world.serve().await, world.serve().await];
    let clients = [&servers[0].client, &servers[1].client];
    let customer = clients[0].customer("ada").await;
    let body = subscribe(&customer, "lite", "pm_sandbox_succeeds");
    let answers = at_once(&clients, 50, |n| format!("key-{n}"), "/v1/subscriptions", &body).await;
    assert_eq!(
        (count(&answers, 201), count(&answers, 409)),
        (1, 49),
        "{:?}",
        answers.iter().map(|a| a.status).collect::<Vec<_>>()
    );
    assert_eq!(problems(&answers, "already-subscribed"), 49);
    assert_eq!(clients[0].available(&customer).await, 60_000_000);
    assert_eq!(clients[0].totals(&customer).await, [72]);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_accounts_with_one_card_at_once_get_one_promotion() {
    let world = World::new().await;
    let servers = [world.serve().await, world.serve().await];
    let mut calls = Vec::new();
    let mut customers = Vec::new();
    for n in 0..20 {
        let client = servers[n % 2].client.clone();
        let customer = client.customer(&format!("account-{n}")).await;
        customers.push(customer.clone());
        let body = subscribe(&customer, "lite", "pm_sandbox_succeeds:one-card");
        calls.push(async move { client.post("/v1/subscriptions", body).await });
    }
    let calls: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    assert_eq!((count(&answers, 201), problems(&answers, "promotion-used")), (1, 19));
    let refused = answers.iter().find(|answer| answer.status == 409).unwrap();
    assert_eq!(refused.body["list_price"], json!({"amount_minor": 600, "currency": "USD"}));
    let client = &servers[0].client;
    let mut paid = 0;
    for customer in &customers {
        let totals = client.totals(customer).await;
        assert!(totals.is_empty() || totals == [72], "{totals:?}");
        paid += totals.len();
    }
    assert_eq!(paid, 1, "a refused purchase leaves nothing behind");
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_used_by_many_at_once_has_one_effect_and_one_answer() {
    let world = World::new().await;
    let servers = [world.serve().await, world.serve().await];
    let clients = [&servers[0].client, &servers[1].client];
    let customer = clients[0].customer("ada").await;
    let body = subscribe(&customer, "lite", "pm_sandbox_succeeds");
    let answers = at_once(&clients, 20, |_| "one-key".to_owned(), "/v1/subscriptions", &body).await;
    assert_eq!(count(&answers, 201), 20, "{:?}", answers.iter().map(|a| &a.body).collect::<Vec<_>>());
    let ids: Vec<&Value> = answers.iter().map(|answer| &answer.body["subscription"]["id"]).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(clients[0].available(&customer).await, 60_000_000);

    let replayed = clients[0].post_as("one-key", "/v1/subscriptions", body.clone()).await;
    assert_eq!(replayed.headers["idempotency-replayed"], "true");
    assert_eq!(replayed.body, answers[0].body);
    let other = subscribe(&customer, "max", "pm_sandbox_succeeds");
    clients[0]
        .post_as("one-key", "/v1/subscriptions", other)
        .await
        .expect_problem(422, "idempotency-key-reused");

    let path = format!("/v1/subscriptions/{}/upgrade", ids[0].as_str().unwrap());
    let body = json!({"plan": "max"});
    let answers = at_once(&clients, 20, |_| "upgrade-key".to_owned(), &path, &body).await;
    assert_eq!(count(&answers, 200), 20, "{:?}", answers.iter().map(|a| &a.body).collect::<Vec<_>>());
    assert_eq!(clients[0].available(&customer).await, 1_600_000_000);
    let invoices = clients[0].get(&format!("/v1/invoices?customer={customer}")).await.expect(200);
    assert_eq!(invoices["data"].as_array().unwrap().len(), 2);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_upgrades_at_once_pay_for_one() {
    let world = World::new().await;
    let servers = [world.serve().await, world.serve().await];
    let clients = [&servers[0].client, &servers[1].client];
    let customer = clients[0].customer("ada").await;
    let bought = clients[0].subscribe(&customer, "lite").await;
    let path = format!("/v1/subscriptions/{}/upgrade", bought["subscription"]["id"].as_str().unwrap());
    let answers = at_once(&clients, 50, |n| format!("key-{n}"), &path, &json!({"plan": "pro"})).await;
    assert_eq!((count(&answers, 200), count(&answers, 409)), (1, 49));
    // While the one is being paid for, and once it is.
    let (pending, done) = (problems(&answers, "upgrade-pending"), problems(&answers, "not-an-upgrade"));
    assert_eq!(pending + done, 49, "{pending} and {done}");
    assert_eq!(clients[0].available(&customer).await, 700_000_000);
    assert_eq!(clients[0].totals(&customer).await, [72, 528]);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_sent_by_many_at_once_counts_once() {
    let world = World::new().await;
    let servers = [world.serve().await, world.serve().await];
    let clients = [&servers[0].client, &servers[1].client];
    let customer = clients[0].customer("ada").await;
    clients[0].subscribe(&customer, "lite").await;
    let usage = event("1", &customer, "mimo-v2-pro", json!({"input": 500, "output": 0}));
    let answers = at_once(&clients, 100, |n| format!("k{n}"), "/v1/usage/events", &usage).await;
    let accepted = answers.iter().filter(|answer| answer.body["status"] == "accepted").count();
    assert_eq!((accepted, count(&answers, 200)), (1, 100));
    assert_eq!(clients[0].available(&customer).await, 59_999_000);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_and_a_command_roll_each_cycle_over_once() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let mut customers = Vec::new();
    for n in 0..25 {
        let customer = client.customer(&format!("c{n}")).await;
        client.subscribe(&customer, "lite").await;
        customers.push(customer);
    }
    client.put("/v1/test-clock", json!({"now": "2026-02-28T10:00:00Z"})).await.expect(200);
    let _workers = [world.work(), world.work()];
    for _ in 0..2 {
        client.post("/v1/rollovers", json!({})).await.expect(202);
    }
    let command = world.command("rollover").output().unwrap();
    assert!(command.status.success(), "{}", String::from_utf8_lossy(&command.stderr));
    for customer in &customers {
        // One of the others may still be at it.
        for _ in 0..100 {
            if client.available(customer).await == 60_000_000 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let invoices = client.get(&format!("/v1/invoices?customer={customer}")).await.expect(200);
        assert_eq!(invoices["data"].as_array().unwrap().len(), 2, "the first cycle and one renewal");
        let grants = client.get(&format!("/v1/customers/{customer}/grants")).await.expect(200);
        let grants = grants["data"].as_array().unwrap();
        assert_eq!((grants.len(), &grants[0]["expired"]), (2, &json!(60_000_000)));
    }
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_the_middle_loses_nothing_it_has_accepted() {
    let world = World::new().await;
    let server = world.serve().await;
    let customer = server.client.customer("ada").await;
    server.client.subscribe(&customer, "max").await;
    let mut accepted = 0;
    let mut sent = 0;
    let mut server = server;
    for round in 0..3 {
        let calls: Vec<_> = (0..64)
            .map(|n| {
                let (client, customer) = (server.client.clone(), customer.clone());
                tokio::spawn(async move {
                    let usage =
                        event(&format!("{round}-{n}"), &customer, "mimo-v2-omni", json!({"input": 1_000}));
                    let request = client.request(reqwest::Method::POST, "/v1/usage/events").json(&usage);
                    client.try_send(request).await.is_ok_and(|answer| answer.status == 200)
                })
            })
            .collect();
        tokio::time::sleep(std::time::Duration::from_millis(15)).await;
        drop(server);
        sent += calls.len();
        for call in calls {
            accepted += i64::from(call.await.unwrap());
        }
        server = world.serve().await;
    }
    let spent = 1_600_000_000 - server.client.balance(&customer).await["settled"].as_i64().unwrap();
    assert!(spent >= accepted * 1_000, "{accepted} were acknowledged, {} were charged", spent / 1_000);
    assert_eq!(spent % 1_000, 0, "an event is wholly there or not at all");
    // Sent again, all of them: each counts once in the end.
    for round in 0..3 {
        let events: Vec<Value> = (0..64)
            .map(|n| event(&format!("{round}-{n}"), &customer, "mimo-v2-omni", json!({"input": 1_000})))
            .collect();
        server.client.post("/v1/usage/events", json!(events)).await.expect(200);
    }
    let settled = server.client.balance(&customer).await["settled"].as_i64().unwrap();
    assert_eq!(settled, 1_600_000_000 - i64::try_from(sent).unwrap() * 1_000);
    world.verify().await;
}

#[tokio::test]
async fn an_answer_that_is_read_while_its_payment_is_applied_is_of_before_or_after() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = server.client.clone();
    let ada = client.customer("ada").await;
    let declined = subscribe(&ada, "lite", "pm_sandbox_declines");
    let declined = client.post("/v1/subscriptions", declined).await.expect(402);
    let (invoice, subscription) = (&declined["invoice"], declined["subscription"].as_str().unwrap());
    let method = json!({"payment_method": "pm_sandbox_pends"});
    client.put(&format!("/v1/subscriptions/{subscription}/payment-method"), method).await.expect(200);
    // The lines are read between the invoice and its payments: while they cannot be, the payment arrives.
    let mut provider = world.stores.superuser().await;
    provider.batch_execute("begin; lock table invoice_lines").await.unwrap();
    let pay = format!("/v1/invoices/{}/pay", invoice.as_str().unwrap());
    let paying = client.post(&pay, json!({}));
    let arriving = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let arrive = "update invoices set status = 'paid', paid_at = created_at;
             update payments set status = 'succeeded', succeeded_at = created_at where status = 'pending';
             commit";
        provider.batch_execute(arrive).await.unwrap();
    };
    let (paid, ()) = tokio::join!(paying, arriving);
    assert_eq!(paid.expect(202)["invoice"]["id"], *invoice, "pending, as it was, and not declined");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_that_fails_what_it_says_of_a_customer_is_recorded_wholly_or_not_at_all() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customers = client.customers(24).await;
    let uses = |n: usize, customer: &str| {
        event(&format!("use-{n}"), customer, "mimo-v2-omni", json!({"input": 1_000}))
    };
    let batch: Vec<Value> = (0..72).map(|n| uses(n, &customers[n % 24])).collect();
    // Somebody else has the first customer's account for longer than a request may take.
    let mut other = world.stores.superuser().await;
    let lock = "begin; select from credit_accounts a join customers using (tenant_id, customer_id)
         where external_id = 'customer-0' for update of a";
    other.batch_execute(lock).await.unwrap();
    client.post("/v1/usage/events", json!(batch)).await.expect(503);
    other.batch_execute("rollback").await.unwrap();

    let mut recorded = Vec::new();
    for customer in &customers {
        recorded.push(client.transfers(customer).await.len());
    }
    assert_eq!(recorded[0], 0);
    assert!(recorded.iter().all(|count| matches!(count, 0 | 3)), "{recorded:?}");
    assert!(recorded.contains(&3), "what the others used did not wait for the first customer's account");

    let answer = client.post("/v1/usage/events", json!(batch)).await.expect(200);
    for (n, result) in answer["results"].as_array().unwrap().iter().enumerate() {
        let was_there = recorded[n % 24] == 3;
        assert_eq!(result["status"], if was_there { "duplicate" } else { "accepted" }, "{n}: {result}");
    }
    for customer in &customers {
        assert_eq!(client.transfers(customer).await.len(), 3);
    }
    world.verify().await;
}

#[tokio::test]
async fn an_id_that_a_batch_uses_for_two_customers_is_the_firsts() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customers = client.customers(8).await;
    for (n, first) in customers.iter().enumerate() {
        let id = format!("use-{n}");
        let batch: Vec<Value> = std::iter::once(first)
            .chain(customers.iter().filter(|other| *other != first))
            .map(|customer| event(&id, customer, "mimo-v2-omni", json!({"input": 1_000})))
            .collect();
        let answer = client.post("/v1/usage/events", json!(batch)).await.expect(200);
        let statuses: Vec<&Value> =
            answer["results"].as_array().unwrap().iter().map(|result| &result["status"]).collect();
        assert_eq!(statuses[0], "accepted");
        assert!(statuses[1..].iter().all(|status| *status == "conflict"), "{statuses:?}");
    }
    for customer in &customers {
        assert_eq!(client.transfers(customer).await.len(), 1);
    }
}
