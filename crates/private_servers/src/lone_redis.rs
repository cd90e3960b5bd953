//! Redis servers for one test alone: a single one, or the three masters of a cluster.
//!
//! Unlike [`PrivateServers`](crate::PrivateServers) nobody shares them, and they take no keeper: each
//! runs under a shell that kills it, and removes its folder, at the end of a pipe that we hold. The
//! kernel closes the pipe when this process ends, however it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Doing, Error};
use crate::places::{Places, write_secret};
use crate::process::{detached, tail};
use crate::{Setup, find_or_fetch, port, redis};

/// How long a server, or the cluster that they make up, may take until it answers.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How many slots a cluster has.
const SLOTS: usize = 16_384;

/// Runs $1 with the settings $2 in the folder $3 until its input ends.
const SHELL: &str =
    "\"$1\" \"$2\" >\"$3/redis.log\" 2>&1 & server=$!; cat >/dev/null; kill -9 $server; rm -rf \"$3\"";

/// Running Redis servers, empty and with nothing on disk. Killed when dropped.
pub struct LoneRedis {
    servers: Vec<Server>,
    password: String,
    is_cluster: bool,
}

struct Server {
    port: u16,
    /// The port that the masters of a cluster talk to each other on.
    bus: u16,
    /// There until it is dropped.
    shell: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // Best effort: a panic here would hide the failure of the test that is ending.
        let _ = self.shell.wait();
    }
}

impl LoneRedis {
    /// A single Redis, in a folder of its own below `dir`.
    ///
    /// # Errors
    /// As [`PrivateServers::start`](crate::PrivateServers::start).
    pub fn start(dir: &Path) -> Result<LoneRedis, Error> {
        LoneRedis::start_servers(dir, 1)
    }

    /// Three masters that share the slots of a cluster, each in a folder of its own below `dir`. Takes
    /// some seconds: a master of a new cluster waits before it takes writes.
    ///
    /// # Errors
    /// As [`PrivateServers::start`](crate::PrivateServers::start).
    pub fn start_cluster(dir: &Path) -> Result<LoneRedis, Error> {
        let cluster = LoneRedis::start_servers(dir, 3)?;
        cluster.form().doing(|| "cannot form a cluster".to_owned())?;
        Ok(cluster)
    }

    fn start_servers(dir: &Path, count: usize) -> Result<LoneRedis, Error> {
        let places = Places::prepare(dir)?;
        let setup = Setup {
            places,
            durable: false,
            postgres_settings: Vec::new(),
            progress: Arc::new(|line| eprintln!("{line}")),
        };
        let program = find_or_fetch(&setup, &mut None)?.redis.clone();
        let password = setup.places.create_password()?;
        let is_cluster = count > 1;
        let servers: Result<Vec<Server>, Error> = (0..count)
            .map(|number| {
                let folder = setup.places.dir.join(format!("redis-{number}"));
                Server::start(&program, folder, &password, is_cluster)
            })
            .collect();
        Ok(LoneRedis { servers: servers?, password, is_cluster })
    }

    /// `redis://:password@127.0.0.1:port`, or for a cluster `redis-cluster://:password@..,..,..`.
    pub fn url(&self) -> String {
        let hosts: Vec<String> =
            self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        let scheme = if self.is_cluster { "redis-cluster" } else { "redis" };
        format!("{scheme}://:{}@{}", self.password, hosts.join(","))
    }

    /// The URL of each server by itself.
    pub fn server_urls(&self) -> Vec<String> {
        let url = |server: &Server| format!("redis://:{}@127.0.0.1:{}", self.password, server.port);
        self.servers.iter().map(url).collect()
    }

    /// Shares the slots out and waits until every master agrees.
    fn form(&self) -> std::io::Result<()> {
        let count = self.servers.len();
        for (number, server) in self.servers.iter().enumerate() {
            let (first, last) = (SLOTS * number / count, SLOTS * (number + 1) / count - 1);
            self.ask(server, &format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1))?;
            self.ask(server, &format!("CLUSTER ADDSLOTSRANGE {first} {last}"))?;
            let Server { port, bus, .. } = server;
            self.ask(&self.servers[0], &format!("CLUSTER MEET 127.0.0.1 {port} {bus}"))?;
        }
        let asked = Instant::now();
        while asked.elapsed() < START_PATIENCE {
            let mut infos = Vec::with_capacity(count);
            for server in &self.servers {
                infos.push(self.ask(server, "CLUSTER INFO")?);
            }
            let known = format!("cluster_known_nodes:{count}\r");
            let slots = format!("cluster_slots_ok:{SLOTS}\r");
            let is_ok = |info: &String| {
                info.contains("cluster_state:ok") && info.contains(&known) && info.contains(&slots)
            };
            if infos.iter().all(is_ok) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(std::io::Error::other(format!("no agreement within {} seconds", START_PATIENCE.as_secs())))
    }

    /// Sends one command and reads its answer, a line or a text with its length before it.
    fn ask(&self, server: &Server, command: &str) -> std::io::Result<String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "AUTH {}\r\n{command}\r\n", self.password)?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        for _ in 0..2 {
            line.clear();
            reader.read_line(&mut line)?;
        }
        match line.split_at_checked(1) {
            Some(("+", rest)) => Ok(rest.to_owned()),
            Some(("$", length)) => {
                let mut text = vec![0; length.trim().parse().map_err(std::io::Error::other)?];
                reader.read_exact(&mut text)?;
                String::from_utf8(text).map_err(std::io::Error::other)
            }
            _ => Err(std::io::Error::other(format!("{command}: {line}"))),
        }
    }
}

impl Server {
    fn start(program: &Path, folder: PathBuf, password: &str, is_cluster: bool) -> Result<Server, Error> {
        std::fs::create_dir_all(&folder).doing(|| format!("cannot create {}", folder.display()))?;
        let (port, bus) = (port::free()?, port::free()?);
        let mut settings = format!(
            "bind 127.0.0.1\nport {port}\nprotected-mode yes\nrequirepass {password}\nmasterauth {password}\n\
             save \"\"\nappendonly no\ndaemonize no\n"
        );
        if is_cluster {
            settings += &format!("cluster-enabled yes\ncluster-config-file nodes.conf\ncluster-port {bus}\n");
        }
        let file = folder.join("redis.conf");
        write_secret(&file, &settings)?;
        let mut command = detached(Path::new("/bin/sh"), None);
        command.args(["-c", SHELL, "tollgate-redis"]).args([program, &file, &folder]);
        let shell = command
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .doing(|| "cannot run setsid (package util-linux)".to_owned())?;
        let server = Server { port, bus, shell };
        let asked = Instant::now();
        while !redis::answers(port, password) {
            if asked.elapsed() > START_PATIENCE {
                let log = folder.join("redis.log");
                let reason = format!("no answer within {} seconds", START_PATIENCE.as_secs());
                return Err(Error::DidNotStart { server: "Redis", reason, tail: tail(&log), log });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}
