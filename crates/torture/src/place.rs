//! Where a run takes place: its own PostgreSQL and Redis, two servers, a worker, tenants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use private_servers::{Options, PrivateServers};

use crate::http::{SERVERS, Site};
use crate::process::Running;
use crate::{rates, store};

const DATABASE: &str = "tollgate";
/// How many tenants a run has.
pub(crate) const TENANTS: usize = 3;

/// A tenant of the run.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    /// May do everything.
    pub(crate) key: String,
}

/// Everything that a run started, and may kill.
pub(crate) struct Place {
    tollgate: PathBuf,
    dir: PathBuf,
    /// There until the place is taken down.
    stores: Option<Arc<PrivateServers>>,
    /// For us: sees every row.
    pub(crate) superuser_url: String,
    database_url: String,
    pub(crate) servers: [Option<Running>; SERVERS],
    pub(crate) worker: Option<Running>,
    pub(crate) tenants: Vec<Tenant>,
}

impl Place {
    /// Starts the stores in `dir`, migrates, and makes the tenants. No server runs yet.
    pub(crate) async fn set_up(tollgate: PathBuf, dir: PathBuf, is_durable: bool) -> anyhow::Result<Place> {
        let options =
            Options { dir: dir.clone(), durable: is_durable, progress: Arc::new(|line| eprintln!("{line}")) };
        let stores = tokio::task::spawn_blocking(|| PrivateServers::start(options)).await??;
        let superuser_url = stores.postgres_url(DATABASE);
        store::create_database(&stores.postgres_url("postgres"), DATABASE).await?;
        write_private(&dir.join("secret"), &random_bytes()?)?;
        write_private(&dir.join("token-key.pem"), token_key()?.as_bytes())?;
        std::fs::write(dir.join("catalog.toml"), rates::CATALOG)?;
        let mut place = Place {
            tollgate,
            dir,
            stores: Some(Arc::new(stores)),
            database_url: superuser_url.clone(),
            superuser_url,
            servers: Default::default(),
            worker: None,
            tenants: Vec::new(),
        };
        place.output(&["migrate"])?;
        place.database_url = store::create_login(&place.superuser_url).await?;
        for number in 0..TENANTS {
            let tenant = place.create_tenant(number)?;
            place.tenants.push(tenant);
        }
        Ok(place)
    }

    /// A test tenant whose clock was never set: it lives in real time.
    fn create_tenant(&self, number: usize) -> anyhow::Result<Tenant> {
        let id =
            self.output(&["tenant", "create", "--mode", "test", "--name", &format!("Torture {number}")])?;
        let catalog = self.dir.join("catalog.toml");
        self.output(&["catalog", "load", &catalog.to_string_lossy(), "--tenant", &id])?;
        let key =
            self.output(&["tenant", "issue-key", "--tenant", &id, "--name", "run", "--scope", "admin"])?;
        Ok(Tenant { key })
    }

    pub(crate) fn stores(&self) -> anyhow::Result<Arc<PrivateServers>> {
        self.stores.clone().context("the stores are gone")
    }

    /// A `tollgate` command with the run's configuration.
    pub(crate) fn command(&self, words: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(&self.tollgate);
        command
            .args(words)
            .env("DATABASE_URL", &self.database_url)
            .env("REDIS_URL", self.stores()?.redis_url())
            .env("TOLLGATE_SECRET_FILE", self.dir.join("secret"))
            .env("TOLLGATE_TOKEN_KEY_FILE", self.dir.join("token-key.pem"))
            .env("TOLLGATE_WEBHOOK_ALLOW", "127.0.0.1")
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a command that ends by itself, and returns what it printed.
    fn output(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = self.command(words)?.output().context("tollgate does not start")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tollgate {}: {errors}", words.join(" "));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Starts a server and tells the site its address. It may not be ready yet.
    pub(crate) fn start_server(&mut self, number: usize, site: &Site) -> anyhow::Result<()> {
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0"])?;
        command.stdout(Stdio::piped());
        let mut running = Running::start(command, &self.dir.join(format!("server-{number}.log")))?;
        let mut line = String::new();
        let stdout = running.stdout().context("no standard output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let base = line.trim().rsplit(' ').next().unwrap_or_default();
        ensure!(
            base.starts_with("http://127.0.0.1:"),
            "the server said {line:?}; see {}",
            self.dir.display()
        );
        site.set_base(number, base);
        self.servers[number] = Some(running);
        Ok(())
    }

    pub(crate) fn start_worker(&mut self) -> anyhow::Result<()> {
        let mut command = self.command(&["worker"])?;
        command.stdout(Stdio::null());
        self.worker = Some(Running::start(command, &self.dir.join("worker.log"))?);
        Ok(())
    }

    pub(crate) fn redis(&self) -> anyhow::Result<Redis> {
        let url = self.stores()?.redis_url();
        let rest = url.strip_prefix("redis://:").context("a URL of Redis")?;
        let (password, address) = rest.split_once('@').context("a URL of Redis")?;
        Ok(Redis { address: address.to_owned(), password: password.to_owned() })
    }

    /// Where Redis looks for a dump when it starts.
    pub(crate) fn redis_dump(&self) -> PathBuf {
        self.dir.join("dump.rdb")
    }

    /// Stops the servers and the worker; the stores go on.
    pub(crate) fn stop_tollgate(&mut self) {
        self.servers = Default::default();
        self.worker = None;
    }

    /// What `tollgate verify` says, where this version has it; `None` where it does not.
    pub(crate) fn verify(&self) -> anyhow::Result<Option<Result<String, String>>> {
        let help = self.output(&["--help"])?;
        if !help.lines().any(|line| line.trim_start().starts_with("verify ")) {
            return Ok(None);
        }
        let output = self.command(&["verify"])?.output()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        Ok(Some(if output.status.success() { Ok(text) } else { Err(text) }))
    }

    /// Stops everything and removes the data, unless they are evidence.
    pub(crate) fn take_down(mut self, keep: bool) -> anyhow::Result<()> {
        self.stop_tollgate();
        let stores = self.stores.take().and_then(Arc::into_inner).context("the stores are in use")?;
        let _is_last = if keep { stores.stop()? } else { stores.remove()? };
        Ok(())
    }
}

/// Redis, spoken to in its own protocol, for what no server does.
pub(crate) struct Redis {
    address: String,
    password: String,
}

impl Redis {
    /// Sends one command and expects `+OK`.
    pub(crate) fn tell(&self, command: &str) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "AUTH {}\r\n{command}\r\n", self.password)?;
        let mut answer = [0_u8; 10];
        stream.read_exact(&mut answer)?;
        if answer != *b"+OK\r\n+OK\r\n" {
            bail!("Redis answered {command} with {:?}", String::from_utf8_lossy(&answer));
        }
        Ok(())
    }
}

fn random_bytes() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    Ok(bytes)
}

/// An Ed25519 key as PKCS#8 (RFC 8410): a fixed head, then the 32 bytes of the seed.
fn token_key() -> anyhow::Result<String> {
    const HEAD: [u8; 16] =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let der = [HEAD.as_slice(), &random_bytes()?].concat();
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    Ok(format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"))
}

fn write_private(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut opened =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    Ok(opened.write_all(content)?)
}
