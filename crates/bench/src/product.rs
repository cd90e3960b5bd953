//! Child processes: the product's server and the baseline's.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};

/// A running server, killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a program that says `... http://ADDRESS` in its first line. Its log goes to a file.
    pub(crate) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Server> {
        let log_file = std::fs::File::create(log)?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file).spawn()?;
        let mut server = Server { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let output = server.child.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let (_, address) = line.trim().rsplit_once("http://").with_context(|| {
            format!("it did not start: {}", std::fs::read_to_string(log).unwrap_or_default())
        })?;
        server.address = address.parse()?;
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The product's program: the one that was named, or the one that was built beside this one.
pub(crate) fn tollgate(named: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("tollgate");
    let path = named.unwrap_or(&beside);
    let advice = "build it first: cargo build --release --bin tollgate";
    ensure!(path.exists(), "{} is not there; {advice}", path.display());
    Ok(path.clone())
}
