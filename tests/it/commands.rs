//! The commands, as somebody at a terminal meets them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use private_servers::{Options, PrivateServers};
use serde_json::Value;

use crate::support::{Process, World};

/// A running `tollgate dev` and what it printed.
struct Dev {
    process: Process,
    printed: Vec<String>,
}

/// Starts it in a folder of its own and reads until it says that it is ready.
fn dev(dir: &Path) -> Dev {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["dev", "--listen", "127.0.0.1:0", "--dir"])
        .arg(dir)
        .env_remove("DATABASE_URL")
        .env_remove("REDIS_URL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut printed = Vec::new();
    for line in lines {
        let line = line.unwrap();
        let is_last = line.starts_with("Ctrl-C");
        printed.push(line);
        if is_last {
            break;
        }
    }
    Dev { process: Process(child), printed }
}

impl Dev {
    /// Pastes the printed lines into a shell; the answers' bodies.
    fn paste(&self) -> Vec<Value> {
        let lines = self.printed.iter().filter(|line| line.starts_with("curl"));
        let outputs = lines.map(|line| Command::new("sh").arg("-c").arg(line).output().unwrap());
        outputs.map(|output| serde_json::from_slice(&output.stdout).unwrap()).collect()
    }

    fn server_pids(dir: &Path) -> Vec<u64> {
        let state = std::fs::read_to_string(dir.join("servers.json")).unwrap();
        let state: Value = serde_json::from_str(&state).unwrap();
        ["postgres", "redis"].map(|name| pid_in(&state[name])).to_vec()
    }
}

fn pid_in(server: &Value) -> u64 {
    let direct = server["pid"].as_u64();
    direct.or_else(|| server["process"]["pid"].as_u64()).unwrap_or_else(|| panic!("no pid in {server}"))
}

fn folder(name: &str) -> PathBuf {
    testkit::checkout().join(".tollgate").join(format!("test-{name}-{}", std::process::id()))
}

#[test]
fn dev_runs_everything_its_lines_work_as_pasted_and_kill_9_leaves_no_server() {
    let dir = folder("dev");
    let first = dev(&dir);
    assert!(first.printed.iter().any(|line| line.contains("API key of the demo tenant: tg_test_")));
    let [subscribed, used, balance] = &first.paste()[..] else { panic!("three lines: {:?}", first.printed) };
    assert_eq!(subscribed["invoice"]["total"]["amount_minor"], 192, "{subscribed}");
    assert_eq!(used["status"], "accepted", "{used}");
    assert_eq!(balance["available"], 200_000_000 - 2 * (4_808 + 10), "{balance}");

    let pids = Dev::server_pids(&dir);
    drop(first);
    let killed = Instant::now();
    while pids.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
        assert!(killed.elapsed() < Duration::from_secs(15), "servers outlive dev: {pids:?}");
        std::thread::sleep(Duration::from_millis(100));
    }

    // A second run finds its data again, and its lines work too.
    let second = dev(&dir);
    let [subscriptions, used, balance] = &second.paste()[..] else { panic!("{:?}", second.printed) };
    assert_eq!(subscriptions["data"][0]["status"], "active", "{subscriptions}");
    assert_eq!(used["status"], "duplicate", "{used}");
    assert_eq!(balance["available"], 200_000_000 - 2 * (4_808 + 10), "{balance}");
    let pid = second.process.0.id().to_string();
    assert!(Command::new("kill").arg(&pid).status().unwrap().success());
    let mut process = second.process;
    assert!(process.0.wait().unwrap().success(), "an orderly stop");
    assert!(!dir.join("servers.json").exists(), "the servers are stopped before it ends");

    let options = Options { dir: dir.clone(), durable: true, progress: Arc::new(|_| ()) };
    assert!(PrivateServers::start(options).unwrap().remove().unwrap(), "nobody uses them any more");
    assert!(!dir.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_a_key_and_a_catalogue_by_command_are_enough_to_sell() {
    let world = World::new().await;
    let run = |name: &str, args: &[&str]| {
        let output = world.command(name).args(args).output().unwrap();
        assert!(output.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert!(run("migrate", &[]).starts_with("0 migrations"));
    let tenant = run("tenant", &["create", "--name", "Acme", "--mode", "test", "--zone", "Asia/Shanghai"]);
    assert!(run("tenant", &["list"]).contains("Acme"));
    let scopes = ["--scope", "read", "--scope", "billing"];
    let key = run("tenant", &[&["issue-key", "--tenant", &tenant, "--name", "shop"], &scopes[..]].concat());
    let file = std::env::temp_dir().join(format!("tollgate-reference-{}.toml", std::process::id()));
    std::fs::write(&file, run("catalog", &["reference"])).unwrap();
    let path = file.to_str().unwrap();
    assert!(run("catalog", &["check", path]).contains("4 plans"));
    assert!(run("catalog", &["load", path, "--tenant", &tenant]).contains("Version 1"));
    assert!(run("catalog", &["load", path, "--tenant", &tenant]).contains("Version 1"), "the same again");

    let server = world.serve().await;
    let shop = server.client.with_key(&key);
    assert_eq!(shop.get("/v1/plans").await.expect(200)["plans"].as_array().unwrap().len(), 4);
    let clock = shop.put("/v1/test-clock", serde_json::json!({"now": "2030-01-01T00:00:00Z"})).await;
    clock.expect_problem(403, "insufficient-scope");
    let customer = shop.customer("ada").await;
    shop.subscribe(&customer, "lite").await;
    assert_eq!(shop.available(&customer).await, 60_000_000);

    // A live tenant moves real money, and the sandbox is no provider of that.
    let live = run("tenant", &["create", "--name", "Real", "--mode", "live"]);
    run("catalog", &["load", path, "--tenant", &live]);
    let live_key =
        run("tenant", &[&["issue-key", "--tenant", &live, "--name", "shop"], &scopes[..]].concat());
    assert!(live_key.starts_with("tg_live_"));
    let live_shop = server.client.with_key(&live_key);
    let grace = live_shop.customer("grace").await;
    let body = crate::support::subscribe(&grace, "lite", "pm_sandbox_succeeds");
    live_shop.post("/v1/subscriptions", body).await.expect_problem(422, "unknown-payment-method");
    std::fs::remove_file(&file).unwrap();

    let id = run("tenant", &["keys", "--tenant", &tenant]);
    let id = id.split_whitespace().find(|word| word.starts_with("key_")).unwrap().to_owned();
    run("tenant", &["revoke-key", "--tenant", &tenant, "--key", &id]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    shop.get("/v1/plans").await.expect_problem(401, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_do_its_work_says_why_and_fails() {
    let world = World::new().await;
    let file = std::env::temp_dir().join(format!("tollgate-bad-{}.toml", std::process::id()));
    let bad = "[[plans]]\ncode = \"a\"\nname = \"A\"\nrank = 1\ncredits_per_cycle = 5\nprices_minor = {}\n\
         [[models]]\ncode = \"m\"\nbands = []\n";
    std::fs::write(&file, bad).unwrap();
    let output = world.command("catalog").arg("check").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("plan a has no price") && said.contains("model m has no band"), "{said}");

    // Secrets that are missing, short, or open to everybody.
    let secret = std::env::temp_dir().join(format!("tollgate-secret-{}", std::process::id()));
    for (content, mode, expected) in [
        ("", 0o600, "fewer than 32 bytes"),
        ("short", 0o600, "fewer than"),
        (&"ab".repeat(32), 0o644, "everybody"),
    ] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(&secret, content).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
        let output = world.command("serve").env("TOLLGATE_SECRET_FILE", &secret).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{said}");
        assert!(content.is_empty() || !said.contains(content), "the value is not repeated");
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::remove_file(&secret).unwrap();

    // A login that row level security does not hold.
    for command in ["serve", "worker"] {
        let output =
            world.command(command).env("DATABASE_URL", &world.stores.superuser_url).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("is a superuser"), "{said}");
    }
}

#[test]
fn every_command_explains_itself() {
    for command in [
        vec!["dev"],
        vec!["serve"],
        vec!["worker"],
        vec!["migrate"],
        vec!["tenant"],
        vec!["tenant", "create"],
        vec!["catalog"],
        vec!["catalog", "load"],
        vec!["rollover"],
        vec!["replay"],
        vec!["openapi"],
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_tollgate")).args(&command).arg("--help").output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && help.contains("Usage: tollgate"), "{command:?}: {help}");
        assert!(help.lines().next().is_some_and(|line| line.len() > 10), "{command:?}: {help}");
    }
}
