//! A tenant's events reach its own server, signed.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::support::World;

/// Answers every request with 200 and hands its head and body on.
fn receiver() -> (String, mpsc::Receiver<(String, String)>) {
    receiver_that(|_| 200)
}

/// Answers every request with the status that its head gets, and hands both on.
fn receiver_that(
    answer: impl Fn(&str) -> u16 + Send + 'static,
) -> (String, mpsc::Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hooks", listener.local_addr().unwrap());
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = Vec::new();
            let mut buffer = [0; 4_096];
            let (head, body) = loop {
                let read = stream.read(&mut buffer).unwrap();
                bytes.extend_from_slice(&buffer[..read]);
                let text = String::from_utf8(bytes.clone()).unwrap();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = header(head, "content-length").parse::<usize>().unwrap();
                if body.len() >= length {
                    break (head.to_owned(), body.to_owned());
                }
            };
            let status = answer(&head);
            let answer = format!("HTTP/1.1 {status} .\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            if sender.send((head, body)).is_err() {
                return;
            }
        }
    });
    (url, received)
}

fn header<'h>(head: &'h str, name: &str) -> &'h str {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let (_, value) = lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).unwrap();
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_told_to_the_tenants_endpoint_and_to_no_other_tenants() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    // The configuration allows 127.0.0.1 and no other inside address.
    let inside = client.post("/v1/webhook-endpoints", json!({"url": "http://127.0.0.2:8000/"})).await;
    inside.expect_problem(422, "url-not-allowed");
    let (url, received) = receiver();
    let endpoint = client.post("/v1/webhook-endpoints", json!({"url": url})).await.expect(201);
    let customer = client.customer("ada").await;
    let bought = client.subscribe(&customer, "lite").await;
    let other = client.with_key(&world.other_tenant().await);
    let stranger = other.customer("grace").await;
    other.subscribe(&stranger, "lite").await;
    let _worker = world.work();

    let verifier = Webhook::new(endpoint["secret"].as_str().unwrap()).unwrap();
    let mut kinds = Vec::new();
    // The scheduler looks every five seconds.
    while let Ok((head, body)) = received.recv_timeout(Duration::from_secs(20)) {
        let mut headers = reqwest::header::HeaderMap::new();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            headers.insert(name, header(&head, name).parse().unwrap());
        }
        verifier.verify(body.as_bytes(), &headers).expect("signed with the endpoint's secret");
        assert!(!body.contains(&stranger), "another tenant's event: {body}");
        let event: Value = serde_json::from_str(&body).unwrap();
        kinds.push(event["type"].as_str().unwrap().to_owned());
        if kinds.contains(&"subscription.activated".to_owned()) {
            assert_eq!(event["subject"], bought["subscription"]["id"]);
            return;
        }
    }
    panic!("only these were delivered: {kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_webhook_is_tried_again_once_the_test_clock_has_passed_its_pause() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (url, received) = receiver_that(|_| 500);
    client.post("/v1/webhook-endpoints", json!({"url": url})).await.expect(201);
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    let _worker = world.work();
    // The first attempt, and the second one five seconds later; the third is five minutes away.
    let mut attempts: HashMap<String, u32> = HashMap::new();
    let mut wait_for = |count: u32, seconds: u64| {
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until {
            if let Ok((head, _)) = received.recv_timeout(Duration::from_millis(200)) {
                let made = attempts.entry(header(&head, "webhook-id").to_owned()).or_default();
                *made += 1;
                if *made == count {
                    return true;
                }
            }
        }
        false
    };
    assert!(wait_for(2, 60), "the second attempt");
    assert!(!wait_for(3, 8), "not yet");
    client.advance_to("2026-01-31T10:20:00Z").await;
    assert!(wait_for(3, 60), "the third attempt");
}
