//! Real servers, started and taken away. The first run on a bare machine fetches programs.
//!
//! Every test has a folder of its own below the system's temporary folder.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use private_servers::{Options, PrivateServers};

/// The folder that a child process of a test uses; only such a child has it.
const CHILD_FOLDER: &str = "PRIVATE_SERVERS_CHILD_FOLDER";

/// A folder that is removed at the end of a test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("private-servers-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn start(&self) -> PrivateServers {
        start(&self.0.join("test"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // When a test has failed its servers may still write here; the folder may then stay.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(dir: &Path) -> PrivateServers {
    PrivateServers::start(Options {
        dir: dir.to_owned(),
        durable: false,
        progress: Arc::new(|line| println!("{line}")),
    })
    .unwrap_or_else(|error| panic!("{error}"))
}

fn connect(url: &str) -> std::io::Result<TcpStream> {
    let after_password = url.split_once('@').expect("a URL with a password").1;
    let address: SocketAddr =
        after_password.split('/').next().and_then(|address| address.parse().ok()).expect("an address");
    assert!(address.ip().is_loopback());
    assert!(address.port() != 5432 && address.port() != 6379);
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// Sends lines to Redis, the password first, and returns the answers' lines.
fn redis(servers: &PrivateServers, commands: &[&str]) -> Vec<String> {
    let url = servers.redis_url();
    let password = url.trim_start_matches("redis://:").split('@').next().expect("a password");
    let mut stream = connect(&url).expect("Redis listens");
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut answer = |command: &str| {
        write!(stream, "{command}\r\n").expect("Redis reads");
        let mut line = String::new();
        reader.read_line(&mut line).expect("Redis answers");
        line.trim_end().to_owned()
    };
    assert_eq!(answer("PING"), "-NOAUTH Authentication required.");
    assert_eq!(answer(&format!("AUTH {password}")), "+OK");
    commands.iter().map(|command| answer(command)).collect()
}

/// Whether PostgreSQL answers a login by asking for a SCRAM-SHA-256 password.
fn postgres_asks_for_scram(servers: &PrivateServers) -> bool {
    let mut stream = connect(&servers.postgres_url("postgres")).expect("PostgreSQL listens");
    stream.write_all(b"\0\0\0\x1c\0\x03\0\0user\0tollgate_root\0\0").expect("PostgreSQL reads");
    let mut answer = [0_u8; 22];
    stream.read_exact(&mut answer).expect("PostgreSQL answers");
    answer.first() == Some(&b'R') && answer.ends_with(b"SCRAM-SHA-256")
}

fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn assert_gone_within(patience: Duration, pids: [u32; 2]) {
    let asked = Instant::now();
    while pids.into_iter().any(is_running) {
        assert!(asked.elapsed() < patience, "still running");
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("gone after {:?}", asked.elapsed());
}

#[test]
fn servers_answer_and_a_second_start_is_quick() {
    let folder = Folder::new("answer");
    let began = Instant::now();
    let servers = folder.start();
    println!("first start: {:?}", began.elapsed());
    assert!(postgres_asks_for_scram(&servers));
    assert_eq!(redis(&servers, &["PING"]), ["+PONG"]);
    let pids = [servers.postgres_pid(), servers.redis_pid()];
    assert!(servers.stop().expect("stops"));
    assert!(!pids.into_iter().any(is_running));

    let began = Instant::now();
    let servers = folder.start();
    let took = began.elapsed();
    println!("second start, same data: {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(servers.stop().expect("stops"));
}

#[test]
fn users_of_a_folder_share_servers_and_the_last_one_stops_them() {
    let folder = Folder::new("share");
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| folder.start());
        let second = scope.spawn(|| folder.start());
        (first.join().expect("starts"), second.join().expect("starts"))
    });
    assert_eq!(first.postgres_url("a"), second.postgres_url("a"));
    assert_eq!(first.redis_url(), second.redis_url());
    assert_eq!(first.postgres_pid(), second.postgres_pid());

    assert!(!first.stop().expect("is refused"), "another user is left");
    assert_eq!(redis(&second, &["PING"]), ["+PONG"]);
    assert!(second.stop().expect("stops"));
}

#[test]
fn folders_are_independent() {
    let (one, other) = (Folder::new("one"), Folder::new("other"));
    let (one, other) = (one.start(), other.start());
    assert_ne!(one.postgres_url("a"), other.postgres_url("a"));
    assert_eq!(redis(&one, &["SET key 1"]), ["+OK"]);
    assert_eq!(redis(&other, &["GET key"]), ["$-1"]);
    assert!(one.stop().expect("stops"));
    assert!(postgres_asks_for_scram(&other));
    assert!(other.stop().expect("stops"));
}

#[test]
fn a_server_that_was_taken_away_comes_back_on_the_same_port() {
    let folder = Folder::new("away");
    let servers = folder.start();
    let urls = [servers.postgres_url("a"), servers.redis_url()];
    let pids = [servers.postgres_pid(), servers.redis_pid()];
    assert_eq!(redis(&servers, &["SET key 1"]), ["+OK"]);

    servers.stop_postgres().expect("stops");
    servers.stop_redis().expect("stops");
    assert!(!pids.into_iter().any(is_running));
    assert!(urls.iter().all(|url| connect(url).is_err()));

    servers.start_postgres().expect("starts");
    servers.start_redis().expect("starts");
    assert_eq!(urls, [servers.postgres_url("a"), servers.redis_url()]);
    assert_ne!(pids, [servers.postgres_pid(), servers.redis_pid()]);
    assert!(postgres_asks_for_scram(&servers));
    assert_eq!(redis(&servers, &["GET key"]), ["$-1"], "Redis comes back empty");

    kill_9(servers.postgres_pid());
    servers.start_postgres().expect("recovers");
    assert!(postgres_asks_for_scram(&servers));
    assert!(servers.stop().expect("stops"));
}

#[test]
fn a_killed_user_leaves_no_servers_behind() {
    let folder = Folder::new("killed");
    let dir = folder.0.join("test");
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "child_that_uses_servers_until_killed"])
        .args(["--ignored", "--nocapture"])
        .env(CHILD_FOLDER, &dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program runs again");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let pids = loop {
        let mut line = String::new();
        assert!(output.read_line(&mut line).expect("text") > 0, "it ended");
        if let Some((_, pids)) = line.split_once("pids ") {
            let pids: Vec<u32> = pids.split_whitespace().flat_map(str::parse).collect();
            break <[u32; 2]>::try_from(pids).expect("two numbers");
        }
    };
    assert!(pids.into_iter().all(is_running));

    kill_9(child.id());
    child.wait().expect("it ends");
    // Servers that held the child's output would keep this from ending, as they would a CI job.
    output.read_to_end(&mut Vec::new()).expect("the end");
    assert!(pids.into_iter().all(is_running), "the keeper lingers");
    assert_gone_within(Duration::from_secs(5), pids);

    let servers = start(&dir);
    assert_eq!(redis(&servers, &["PING"]), ["+PONG"]);
    assert!(servers.stop().expect("stops"));
}

#[test]
#[ignore = "not a test: the child process of another test"]
fn child_that_uses_servers_until_killed() {
    let Some(dir) = std::env::var_os(CHILD_FOLDER) else {
        return;
    };
    let servers = start(Path::new(&dir));
    println!("pids {} {}", servers.postgres_pid(), servers.redis_pid());
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_user_who_comes_while_the_keeper_lingers_keeps_the_servers() {
    let folder = Folder::new("linger");
    let servers = folder.start();
    let pids = [servers.postgres_pid(), servers.redis_pid()];
    drop(servers);
    std::thread::sleep(Duration::from_millis(700));
    let servers = folder.start();
    assert_eq!(pids, [servers.postgres_pid(), servers.redis_pid()]);
    std::thread::sleep(Duration::from_secs(3));
    assert!(pids.into_iter().all(is_running));
    drop(servers);
    assert_gone_within(Duration::from_secs(5), pids);
}

#[test]
fn a_folder_that_was_deleted_loses_its_servers_and_a_new_one_keeps_its_own() {
    let folder = Folder::new("deleted");
    let old = folder.start();
    let old_pids = [old.postgres_pid(), old.redis_pid()];
    // The keeper looks at servers.json every two seconds while it waits.
    std::thread::sleep(Duration::from_secs(3));
    std::fs::remove_dir_all(&folder.0).expect("it can be removed");
    let lines = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&lines);
    let new = PrivateServers::start(Options {
        dir: folder.0.join("test"),
        durable: false,
        progress: Arc::new(move |line| heard.lock().expect("whole").push(line.to_owned())),
    })
    .expect("starts");
    assert!(lines.lock().expect("whole").contains(&"Creating a PostgreSQL cluster.".to_owned()));
    drop(old);
    assert_gone_within(Duration::from_secs(15), old_pids);
    assert!(postgres_asks_for_scram(&new));
    assert_eq!(redis(&new, &["PING"]), ["+PONG"]);
    assert!(new.stop().expect("stops"));
}

fn kill_9(pid: u32) {
    let killed = Command::new("sh").args(["-c", "kill -9 $0", &pid.to_string()]).status();
    assert!(killed.expect("a shell").success());
}
