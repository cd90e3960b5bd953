//! PostgreSQL or Redis away under load: right answers or 503, never a hang, and back by itself.

use std::time::{Duration, Instant};

use domain::policy::Policies;
use serde_json::json;
use testkit::LoneServers;

use crate::support::{Client, World, event};

/// Keeps sending usage and authorizations, and reports each answer's status and time.
async fn load(client: &Client, customer: &str, run: &str, count: usize) -> Vec<(u16, Duration)> {
    let calls = (0..count).map(|n| {
        let (client, customer, run) = (client.clone(), customer.to_owned(), run.to_owned());
        tokio::spawn(async move {
            let id = format!("{run}-{n}");
            if n % 2 == 0 {
                let usage = event(&id, &customer, "mimo-v2-omni", json!({"input": 100}));
                client.post("/v1/usage/events", usage).await
            } else {
                client.authorize(&id, &customer, "mimo-v2-omni", 100, 0).await
            }
        })
    });
    let mut answers = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        let answer = call.await.unwrap();
        answers.push((answer.status.as_u16(), answer.elapsed));
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_the_answer_is_503_within_two_seconds_and_it_recovers_by_itself() {
    let lone = LoneServers::start("postgres-away").await;
    let world = World::on(lone.stores(), Policies::default()).await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    for (status, _) in load(client, &customer, "before", 32).await {
        assert!([200, 201].contains(&status), "{status}");
    }

    lone.servers().stop_postgres().unwrap();
    for (status, elapsed) in load(client, &customer, "away", 64).await {
        assert_eq!(status, 503);
        assert!(elapsed < Duration::from_secs(3), "{elapsed:?}: 2 seconds, and one for a busy machine");
    }
    let answer = client.get("/v1/plans").await;
    answer.expect_problem(503, "storage-unavailable");
    assert_eq!(answer.headers["retry-after"], "1");
    client.get("/readyz").await.expect(503);
    client.get("/healthz").await.expect(200);

    lone.servers().start_postgres().unwrap();
    let back = Instant::now();
    while client.get("/readyz").await.status != 200 {
        assert!(back.elapsed() < Duration::from_secs(5), "it does not recover");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (status, _) in load(client, &customer, "after", 32).await {
        assert!([200, 201].contains(&status), "{status}");
    }
    let settled = client.balance(&customer).await["settled"].as_i64().unwrap();
    assert_eq!(settled, 60_000_000 - 2 * 16 * 100, "before and after, nothing of the outage");
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_every_answer_stays_right() {
    let lone = LoneServers::start("redis-away").await;
    let world = World::on(lone.stores(), Policies::default()).await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    // Held before, and still held without Redis.
    client.authorize("before", &customer, "mimo-v2-pro", 1_000_000, 0).await.expect(201);

    lone.servers().stop_redis().unwrap();
    for (status, _) in load(client, &customer, "away", 64).await {
        assert!([200, 201].contains(&status), "{status}: no answer may fail for Redis");
    }
    let balance = client.balance(&customer).await;
    assert_eq!((&balance["settled"], &balance["held"]), (&json!(59_996_800), &json!(4_003_200)));
    // 55,993,600 are left. Each holds its prompt and 4,096 tokens of output, 508,192: 110 of them, and
    // the 92,480 that are left then pay for no prompt of 500,000.
    let mut answers = Vec::new();
    for n in 0..115 {
        let answer = client.authorize(&format!("x{n}"), &customer, "mimo-v2-pro", 250_000, 500_000).await;
        answers.push(answer.status.as_u16());
    }
    assert_eq!(answers, [vec![201; 110], vec![402; 5]].concat());
    assert_eq!(client.available(&customer).await, 92_480);
    assert_eq!(client.get("/readyz").await.expect(200)["redis"], "down");

    lone.servers().start_redis().unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.authorize("more", &customer, "mimo-v2-omni", 92_481, 0).await.expect(402);
    let whole = client.authorize("whole", &customer, "mimo-v2-omni", 92_480, 0).await.expect(201);
    assert_eq!(whole["credits_held"], 92_480);
    assert_eq!(client.available(&customer).await, 0, "Redis came back empty and is loaded");
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_told_to_stop_answers_what_it_has_accepted() {
    let world = World::new().await;
    let server = world.serve().await;
    let customer = server.client.customer("ada").await;
    server.client.subscribe(&customer, "lite").await;
    let client = server.client.clone();
    let running = {
        let (client, customer) = (client.clone(), customer.clone());
        tokio::spawn(async move { load(&client, &customer, "drain", 64).await })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stopped = std::process::Command::new("kill").arg(server.pid().to_string()).status().unwrap();
    assert!(stopped.success());
    let answers = running.await.unwrap();
    assert!(answers.iter().all(|(status, _)| [200, 201].contains(status)), "{answers:?}");
    let again = world.serve().await;
    assert_eq!(again.client.balance(&customer).await["settled"], 60_000_000 - 32 * 100);
    assert_eq!(again.client.balance(&customer).await["held"], 32 * 100, "holds were recorded before it went");
}
