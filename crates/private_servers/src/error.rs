//! What can go wrong. Every message is written for the person at the terminal.

use std::io;
use std::path::PathBuf;

/// The one line that puts both servers on a Debian or Ubuntu machine.
pub(crate) const INSTALL_LINE: &str =
    "sudo apt-get install -y --no-install-recommends postgresql redis-server";

/// Why private servers could not be found, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call to the operating system failed while doing `what`.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, as in "cannot create /x".
        what: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// No suitable program is on this machine and none could be fetched.
    /// The message ends with the one line to type.
    #[error("{what} not found{}. Type this line, then try again:\n{INSTALL_LINE}", tried_text(.tried))]
    Missing {
        /// The servers that are missing, for example "PostgreSQL 15 or newer".
        what: String,
        /// Each way that was tried, with the reason why it did not help.
        tried: Vec<String>,
    },
    /// A program that ends by itself (`initdb`, `apt-get`, ..) failed or is of no use here.
    #[error("{program}: {output}")]
    Program {
        /// The program's name.
        program: String,
        /// The end of what it wrote, or why it was not tried.
        output: String,
    },
    /// A server ended, or did not answer in time, while it was being started.
    #[error("{server} did not start ({reason}); its log, {}, ends with:\n{tail}", .log.display())]
    DidNotStart {
        /// "PostgreSQL" or "Redis".
        server: &'static str,
        /// How it was noticed.
        reason: String,
        /// The whole log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The data were made by another major version of PostgreSQL.
    #[error(
        "the data in {} belong to PostgreSQL {data_major}, which is not on this machine any more; \
         install it, or remove that folder to start afresh", .data.display()
    )]
    OtherMajorVersion {
        /// The data folder.
        data: PathBuf,
        /// The major version that made it.
        data_major: u32,
    },
    /// A folder under /var/tmp has our name but was not made by root.
    #[error("{} exists but is not a folder that only root can write; remove it", .0.display())]
    UnsafeFolder(PathBuf),
    /// The operating system gave no random bytes for a password.
    #[error("no random bytes for a password: {0}")]
    Random(getrandom::Error),
}

fn tried_text(tried: &[String]) -> String {
    if tried.is_empty() {
        return String::new();
    }
    format!(" and could not be fetched ({})", tried.join("; "))
}

/// Puts the words "what was being done" on an [`io::Error`].
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}
