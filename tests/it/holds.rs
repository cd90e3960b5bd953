//! Holds, whatever becomes of Redis: never more than there is, never less than was granted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::policy::Policies;
use serde_json::json;
use testkit::LoneServers;

use crate::support::{Client, RedisAsItWas, World, event};

const CLIENTS: usize = 64;

/// 64 clients ask through these servers, in turn, for holds of 20,000 Credits each; answers how many were
/// granted and how many refused. Any other answer fails.
async fn attempts(servers: [&Client; 2], customer: &str, range: std::ops::Range<usize>) -> (usize, usize) {
    let next = Arc::new(AtomicUsize::new(range.start));
    let clients = (0..CLIENTS).map(|n| {
        let (client, customer) = (servers[n % 2].clone(), customer.to_owned());
        let (next, end) = (next.clone(), range.end);
        tokio::spawn(async move {
            let (mut granted, mut refused) = (0, 0);
            loop {
                let attempt = next.fetch_add(1, Ordering::Relaxed);
                if attempt >= end {
                    return (granted, refused);
                }
                let id = format!("a{attempt}");
                match decision(&client, &id, &customer).await {
                    201 => granted += 1,
                    402 => refused += 1,
                    other => panic!("{id}: {other}"),
                }
            }
        })
    });
    let mut sums = (0, 0);
    for client in clients.collect::<Vec<_>>() {
        let (granted, refused) = client.await.unwrap();
        sums = (sums.0 + granted, sums.1 + refused);
    }
    sums
}

/// The status that answers an attempt. On a machine that is too busy to decide in time a gateway is told
/// to ask again, and does, under the same id.
async fn decision(client: &Client, id: &str, customer: &str) -> u16 {
    loop {
        let answer = client.authorize(id, customer, "mimo-v2-omni", 20_000, 0).await;
        if answer.status != 503 {
            return answer.status.as_u16();
        }
        answer.expect_problem(503, "storage-unavailable");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_forty_thousand_attempts_the_ten_thousand_that_there_is_room_for_are_granted_whatever_redis_does()
{
    let lone = LoneServers::start("ten-thousand").await;
    let world = World::on(lone.stores(), Policies::default()).await;
    let servers = [world.serve().await, world.serve().await];
    let clients = [&servers[0].client, &servers[1].client];
    let customer = clients[0].customer("ada").await;
    // 200,000,000 Credits: room for exactly 10,000 holds of 20,000.
    clients[0].subscribe(&customer, "standard").await;

    let redis = redis::Client::open(world.stores.redis_url.as_str()).unwrap();
    let ask = async |command: &'static [&'static str]| {
        let mut connection = redis.get_multiplexed_async_connection().await.unwrap();
        let answer: redis::Value =
            redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await.unwrap();
        redis::from_redis_value::<Vec<String>>(answer).unwrap_or_default()
    };
    let crash = async || {
        let pid = lone.servers().redis_pid().to_string();
        assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        tokio::time::sleep(Duration::from_millis(300)).await;
        lone.servers().start_redis().unwrap();
    };
    // Each blow falls half way into a run of attempts.
    let mut granted = 0;
    let mut refused = 0;
    for number in 0..5 {
        let range = number * 2_000..(number + 1) * 2_000;
        let (sums, ()) = tokio::join!(attempts(clients, &customer, range), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            match number {
                // What is restored later, when it is long out of date.
                0 => drop(ask(&["SAVE"]).await),
                1 => drop(ask(&["FLUSHALL"]).await),
                // Loads the dump.
                2 => crash().await,
                // Nothing to load.
                3 => {
                    let Ok([_, dir]) = <[String; 2]>::try_from(ask(&["CONFIG", "GET", "dir"]).await) else {
                        panic!("where Redis keeps its dump")
                    };
                    std::fs::remove_file(std::path::Path::new(&dir).join("dump.rdb")).unwrap();
                    crash().await;
                }
                _ => {}
            }
        });
        granted += sums.0;
        refused += sums.1;
    }
    let (more, most) = attempts(clients, &customer, 10_000..40_000).await;
    assert_eq!((granted + more, refused + most), (10_000, 30_000));
    let balance = clients[0].balance(&customer).await;
    assert_eq!((&balance["held"], &balance["available"]), (&json!(200_000_000), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_nobody_has_asked_for_is_loaded_once_however_many_come_first() {
    let world = World::new().await;
    let servers = [world.serve().await, world.serve().await];
    let client = &servers[0].client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    let calls = (0..CLIENTS).map(|n| {
        let (client, customer) = (servers[n % 2].client.clone(), customer.clone());
        tokio::spawn(
            async move { client.authorize(&format!("a{n}"), &customer, "mimo-v2-omni", 1_000, 0).await },
        )
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().expect(201);
    }
    let balance = client.balance(&customer).await;
    assert_eq!((&balance["settled"], &balance["held"]), (&json!(60_000_000), &json!(64_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_authorization_runs_on_up_to_its_longest_life() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    let granted = client.authorize("call", &customer, "mimo-v2-omni", 1_000, 0).await.expect(201);
    assert_eq!(granted["expires_at"], "2026-01-31T10:15:00.000000Z");
    let owner = json!({"customer": customer});
    let renew = async |at: &str| {
        client.advance_to(at).await;
        client.post("/v1/authorizations/call/renew", owner.clone()).await
    };
    let renewed = renew("2026-01-31T10:10:00Z").await.expect(200);
    assert_eq!(
        (&renewed["granted_at"], &renewed["expires_at"], &renewed["credits_held"]),
        (&json!("2026-01-31T10:00:00.000000Z"), &json!("2026-01-31T10:25:00.000000Z"), &json!(1_000))
    );
    client.advance_to("2026-01-31T10:20:00Z").await;
    assert_eq!(client.balance(&customer).await["held"], 1_000, "past the first expiry");
    for minute in ["10:24", "10:38", "10:52", "11:06", "11:20", "11:34"] {
        renew(&format!("2026-01-31T{minute}:00Z")).await.expect(200);
    }
    // Two hours after the grant, and no later.
    let last = renew("2026-01-31T11:48:00Z").await.expect(200);
    assert_eq!(last["expires_at"], "2026-01-31T12:00:00.000000Z");
    renew("2026-01-31T11:59:00Z").await.expect_problem(409, "authorization-not-renewable");
    renew("2026-01-31T12:00:00Z").await.expect_problem(409, "authorization-ended");
    assert_eq!(client.balance(&customer).await["held"], 0);

    client.authorize("used", &customer, "mimo-v2-omni", 1_000, 0).await.expect(201);
    let mut usage = event("1", &customer, "mimo-v2-omni", json!({"input": 10}));
    usage["authorization"] = json!("used");
    client.post("/v1/usage/events", usage).await.expect(200);
    let ended = client.post("/v1/authorizations/used/renew", owner.clone()).await;
    ended.expect_problem(409, "authorization-ended");
    let unknown = client.post("/v1/authorizations/unknown/renew", owner).await;
    unknown.expect_problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_is_renewed_while_redis_is_away_and_known_when_it_is_back() {
    let lone = LoneServers::start("renew").await;
    let world = World::on(lone.stores(), Policies::default()).await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    client.authorize("call", &customer, "mimo-v2-omni", 1_000, 0).await.expect(201);
    client.advance_to("2026-01-31T10:10:00Z").await;
    lone.servers().stop_redis().unwrap();
    let owner = json!({"customer": customer});
    let renewed = client.post("/v1/authorizations/call/renew", owner.clone()).await.expect(200);
    assert_eq!(renewed["expires_at"], "2026-01-31T10:25:00.000000Z");
    lone.servers().start_redis().unwrap();
    client.advance_to("2026-01-31T10:20:00Z").await;
    // Redis decides again a second after it was found back.
    for _ in 0..30 {
        assert_eq!(client.balance(&customer).await["held"], 1_000);
        let again = client.authorize("call", &customer, "mimo-v2-omni", 1_000, 0).await.expect(201);
        assert_eq!(again["expires_at"], "2026-01-31T10:25:00.000000Z", "the same authorization");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_that_redis_was_not_told_is_told_by_the_repeat() {
    let lone = LoneServers::start("told-again").await;
    let world = World::on(lone.stores(), Policies::default()).await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "lite").await;
    client.authorize("a1", &ada, "mimo-v2-omni", 20_000, 0).await.expect(201);
    let before = RedisAsItWas::noted(&world.stores).await;
    let mut used = event("e1", &ada, "mimo-v2-omni", json!({"input": 1_000}));
    used["authorization"] = json!("a1");
    client.post("/v1/usage/events", used.clone()).await.expect(200);
    before.restore().await;
    assert_eq!(client.balance(&ada).await["held"], 20_000, "the hold seems to run");

    client.post("/v1/usage/events", used).await.expect(200);

    assert_eq!(client.balance(&ada).await["held"], 0);
}
