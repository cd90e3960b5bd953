//! The private PostgreSQL.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::Setup;
use crate::account::drop_to;
use crate::error::{Doing, Error};
use crate::find;
use crate::places::{Places, write_secret};
use crate::process::{Process, detached, last_lines};
use crate::server::{self, Kind};

/// The cluster's only superuser.
pub(crate) const SUPERUSER: &str = "tollgate_root";

/// "Fast shutdown" in PostgreSQL's words: sessions are cut off, committed work is kept.
pub(crate) const STOP: Signal = Signal::INT;

pub(crate) const KIND: Kind = Kind { name: "PostgreSQL", log: "postgres.log" };

/// Starts PostgreSQL on `port` and calls `record` with the new process before waiting for it.
pub(crate) fn start(
    setup: &Setup,
    programs: &find::Postgres,
    password: &str,
    port: u16,
    record: impl FnOnce(Process) -> Result<(), Error>,
) -> Result<(), Error> {
    if !setup.places.postgres_data().exists() {
        (setup.progress)("Creating a PostgreSQL cluster.");
        create_cluster(&setup.places, programs, password)?;
    }
    let mut command = detached(&programs.postgres, setup.places.account);
    without_settings_from_outside(&mut command);
    command.arg("-D").arg(setup.places.postgres_data());
    for setting in settings(port, setup.durable).iter().chain(&setup.postgres_settings) {
        command.arg("-c").arg(setting);
    }
    server::launch(setup, KIND, command, record, || accepts_logins(port))
}

fn settings(port: u16, durable: bool) -> Vec<String> {
    let mut settings = vec![
        format!("port={port}"),
        "listen_addresses=127.0.0.1".to_owned(),
        "unix_socket_directories=".to_owned(),
        "max_connections=200".to_owned(),
        "shared_buffers=256MB".to_owned(),
        "timezone=UTC".to_owned(),
        "log_timezone=UTC".to_owned(),
        "logging_collector=off".to_owned(),
        "log_destination=stderr".to_owned(),
    ];
    if !durable {
        // A power cut may destroy the data. A killed server does not, and a commit still waits
        // for its turn in the log, so tests see the order of events that they would see live.
        settings.push("fsync=off".to_owned());
        settings.push("full_page_writes=off".to_owned());
    }
    settings
}

/// What the name of an unfinished cluster begins with; the number of its maker follows.
const PARTIAL_PREFIX: &str = "postgres-data.partial-";

/// Creates the cluster beside its final place and renames it, so that a killed `initdb` leaves
/// nothing that looks like a cluster. The `initdb` of a killed maker may go on for a moment,
/// hence a name of our own.
fn create_cluster(places: &Places, programs: &find::Postgres, password: &str) -> Result<(), Error> {
    remove_unfinished_clusters(places);
    let partial_name = format!("{PARTIAL_PREFIX}{}", std::process::id());
    let partial = places.postgres_area.join(partial_name);
    let password_file = places.postgres_area.join("initdb-password");
    remove_folder(&partial)?;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&partial)
        .doing(|| format!("cannot create {}", partial.display()))?;
    write_secret(&password_file, password)?;
    if let Some(account) = places.account {
        for path in [&partial, &password_file] {
            chown(path, Some(account.uid), Some(account.gid))
                .doing(|| format!("cannot change the owner of {}", path.display()))?;
        }
    }
    let made = run_initdb(places, programs, &partial, &password_file);
    let removed = fs::remove_file(&password_file);
    made?;
    removed.doing(|| format!("cannot remove {}", password_file.display()))?;
    let data = places.postgres_data();
    fs::rename(&partial, &data).doing(|| format!("cannot create {}", data.display()))
}

/// Removes what killed makers left. One that still grows is left to the next call.
fn remove_unfinished_clusters(places: &Places) {
    let entries = fs::read_dir(&places.postgres_area).into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|it| it.starts_with(PARTIAL_PREFIX)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn run_initdb(
    places: &Places,
    programs: &find::Postgres,
    data: &Path,
    password_file: &Path,
) -> Result<(), Error> {
    let mut command = Command::new(&programs.initdb);
    drop_to(&mut command, places.account);
    without_settings_from_outside(&mut command);
    command
        .arg("-D")
        .arg(data)
        .arg("--pwfile")
        .arg(password_file)
        .args(["-U", SUPERUSER, "--auth=scram-sha-256"])
        .args(["-E", "UTF8", "--locale=C"])
        .args(["--no-sync", "--no-instructions"]);
    let output = command.output().doing(|| format!("cannot run {}", programs.initdb.display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Program {
        program: "initdb".to_owned(),
        output: last_lines(&String::from_utf8_lossy(&output.stderr)),
    })
}

/// PGDATA, PGPORT, PGOPTIONS and the like are meant for some other server.
fn without_settings_from_outside(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG")) {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").env("TZ", "UTC");
}

/// Removes the cluster. The caller has stopped its server.
pub(crate) fn remove_cluster(places: &Places) -> Result<(), Error> {
    remove_folder(&places.postgres_data())
}

fn remove_folder(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// A server that runs on our data whether or not it is recorded; its `postmaster.pid` tells. A
/// `postmaster.pid` whose number now belongs to some other process is removed, or PostgreSQL
/// might refuse to start.
pub(crate) fn leftover(places: &Places) -> Result<Option<Process>, Error> {
    let data = places.postgres_data();
    let pid_file = data.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&pid_file) else {
        return Ok(None);
    };
    let process = find::leading_number(&text).and_then(Process::with_pid);
    let is_ours = |process: &Process| works_in(*process) == Some(data.clone());
    if let Some(process) = process.filter(is_ours) {
        return Ok(Some(process));
    }
    fs::remove_file(&pid_file).doing(|| format!("cannot remove {}", pid_file.display()))?;
    Ok(None)
}

/// A process's working folder, which for PostgreSQL is its data folder.
fn works_in(process: Process) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{}/cwd", process.pid)).ok()
}

/// Whether a login would be answered: the server asks for the password instead of saying that it
/// is still starting up.
pub(crate) fn accepts_logins(port: u16) -> bool {
    let ask = || {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(&startup_message())?;
        let mut kind = [0_u8; 1];
        stream.read_exact(&mut kind)?;
        Ok::<bool, std::io::Error>(kind == *b"R")
    };
    ask().unwrap_or(false)
}

/// The first message of PostgreSQL's protocol 3.0.
fn startup_message() -> Vec<u8> {
    const PROTOCOL_3_0: i32 = 3 << 16;
    let mut body = PROTOCOL_3_0.to_be_bytes().to_vec();
    for word in ["user", SUPERUSER, "database", "postgres", ""] {
        body.extend_from_slice(word.as_bytes());
        body.push(0);
    }
    let length = i32::try_from(body.len() + 4).expect("a few words");
    [length.to_be_bytes().as_slice(), &body].concat()
}
