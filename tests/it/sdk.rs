//! The official clients of OpenAI and Anthropic at a small gateway (`tests/sdk`): they fetch packages, so these tests run
//! when they are asked for: `cargo test -p tollgate --test it sdk:: -- --ignored`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{World, event};

struct Gateway(Child, String);

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sdk")
}

/// A Python with both clients, made once in the build's folder.
fn python() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sdk");
    let python = dir.join("bin/python");
    let run = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
    if !dir.join("ready").exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&dir));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "openai", "anthropic"]));
        std::fs::write(dir.join("ready"), "").unwrap();
    }
    python
}

fn start(python: &Path, base: &str, key: &str, customer: &str) -> Gateway {
    let mut child = Command::new(python)
        .arg(sources().join("gateway.py"))
        .env("TOLLGATE_URL", base)
        .env("TOLLGATE_API_KEY", key)
        .env("TOLLGATE_CUSTOMER", customer)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut address = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
    Gateway(child, address.trim().to_owned())
}

fn ask(python: &Path, gateway: &Gateway) -> Value {
    let output = Command::new(python).arg(sources().join("clients.py")).arg(&gateway.1).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fetches the official clients from the package registry"]
async fn out_of_credits_the_official_clients_show_our_message_at_once_and_do_not_retry() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "lite").await;
    let key = world.key(&[tenants::Scope::Usage]).await;
    let python = tokio::task::spawn_blocking(python).await.unwrap();
    let gateway = start(&python, &client.base, &key, &ada);

    let seen = ask(&python, &gateway);
    assert_eq!((&seen["openai"]["text"], &seen["anthropic"]["text"]), (&json!("Hello."), &json!("Hello.")));
    // Twice 100 tokens in and 20 out.
    assert_eq!(client.available(&ada).await, 60_000_000 - 240);
    assert_eq!(client.balance(&ada).await["held"], 0);

    let all = event("all", &ada, "mimo-v2-omni", json!({"input": 0, "output": 60_000_000}));
    client.post("/v1/usage/events", all).await.expect(200);
    let refused = ask(&python, &gateway);
    for vendor in ["openai", "anthropic"] {
        let seen = &refused[vendor];
        assert_eq!(seen["status"], 402, "{seen}");
        assert!(seen["message"].as_str().unwrap().contains("Credits"), "{seen}");
        assert!(seen["seconds"].as_f64().unwrap() < 5.0, "{seen}");
    }
    let calls: Value = reqwest::get(&gateway.1).await.unwrap().json().await.unwrap();
    let count = |path: &str| calls.as_array().unwrap().iter().filter(|call| **call == path).count();
    // One that was answered, one that was refused: none was sent again.
    assert_eq!((count("/v1/chat/completions"), count("/v1/messages")), (2, 2));
}
