//! Looks for programs that are already on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::account::{Account, drop_to};
use crate::error::Error;
use crate::places::Places;

pub(crate) const POSTGRES_OLDEST: u32 = 15;
pub(crate) const REDIS_OLDEST: u32 = 7;

/// Valkey is the fork of Redis 7; it speaks the same protocol and reads the same settings.
const REDIS_NAMES: [&str; 2] = ["redis-server", "valkey-server"];

/// The two programs of PostgreSQL that we run.
#[derive(Debug)]
pub(crate) struct Postgres {
    pub(crate) initdb: PathBuf,
    pub(crate) postgres: PathBuf,
    major: u32,
}

/// Everything that a start needs.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) postgres: Postgres,
    pub(crate) redis: PathBuf,
}

/// Both servers' programs, or `None` when one is not on this machine.
pub(crate) fn programs(places: &Places) -> Result<Option<Programs>, Error> {
    Ok(postgres(places)?.zip(redis(places)).map(|(postgres, redis)| Programs { postgres, redis }))
}

/// PostgreSQL's programs: from PATH, from Debian's folders (newest first), fetched earlier. A
/// cluster that exists already asks for the major version that made it.
pub(crate) fn postgres(places: &Places) -> Result<Option<Postgres>, Error> {
    let data = places.postgres_data();
    let data_major =
        fs::read_to_string(data.join("PG_VERSION")).ok().and_then(|version| leading_number(&version));
    let mut any_version = false;
    let found = path_folders()
        .into_iter()
        .chain(debian_folders())
        .chain(fetched_postgres_folders(&places.bin))
        .filter_map(|folder| postgres_in(&folder, places.account))
        .inspect(|_| any_version = true)
        .find(|found| data_major.is_none_or(|major| major == found.major));
    match data_major {
        Some(data_major) if found.is_none() && any_version => {
            Err(Error::OtherMajorVersion { data, data_major })
        }
        _ => Ok(found),
    }
}

/// The program of Redis or Valkey: from PATH, or fetched earlier.
pub(crate) fn redis(places: &Places) -> Option<PathBuf> {
    path_folders()
        .into_iter()
        .flat_map(|folder| REDIS_NAMES.map(|name| folder.join(name)))
        .chain(fetched_redis_files(&places.bin))
        .find(|program| redis_is_recent(program))
}

/// Folders below `bin` that hold a `postgres`.
pub(crate) fn fetched_postgres_folders(bin: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = files_named(bin, &["postgres"])
        .into_iter()
        .filter_map(|file| file.parent().map(Path::to_owned))
        .collect();
    // One package brings two major versions, in `pginstall` and `pginstall18`: the newer first.
    folders.sort();
    folders.reverse();
    folders
}

/// Files below `bin` that are called like a Redis.
pub(crate) fn fetched_redis_files(bin: &Path) -> Vec<PathBuf> {
    files_named(bin, &REDIS_NAMES)
}

/// PostgreSQL's programs in `folder` when they are recent and run under `account`: asking a
/// program for its version also proves that the account can reach and execute it.
pub(crate) fn postgres_in(folder: &Path, account: Option<Account>) -> Option<Postgres> {
    // The real folder, not a link's: initdb looks for `postgres` beside itself.
    let postgres = folder.join("postgres").canonicalize().ok()?;
    let initdb = folder.join("initdb").canonicalize().ok()?;
    version_line(&initdb, account)?;
    let line = version_line(&postgres, account)?;
    let major = leading_number(line.split_once("(PostgreSQL) ")?.1)?;
    (major >= POSTGRES_OLDEST).then_some(Postgres { initdb, postgres, major })
}

/// Whether `program` is a Redis or Valkey of a supported version that runs here.
pub(crate) fn redis_is_recent(program: &Path) -> bool {
    version_line(program, None)
        .and_then(|line| leading_number(line.split_once("v=")?.1))
        .is_some_and(|major| major >= REDIS_OLDEST)
}

/// The digits that `text` begins with, as a number.
pub(crate) fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

fn version_line(program: &Path, account: Option<Account>) -> Option<String> {
    if !program.is_file() {
        return None;
    }
    let mut command = Command::new(program);
    command.arg("--version");
    drop_to(&mut command, account);
    let output = command.output().ok().filter(|out| out.status.success())?;
    String::from_utf8(output.stdout).ok()
}

fn path_folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect()
}

/// Debian keeps the server's programs off PATH, in a folder per major version.
fn debian_folders() -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = entries(Path::new("/usr/lib/postgresql"))
        .filter_map(|folder| {
            let major = leading_number(folder.file_name()?.to_str()?)?;
            Some((major, folder.join("bin")))
        })
        .collect();
    versions.sort();
    versions.into_iter().rev().map(|(_, folder)| folder).collect()
}

fn files_named(folder: &Path, names: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in entries(&folder) {
            if entry.is_symlink() {
                continue;
            }
            let name = entry.file_name().and_then(|name| name.to_str());
            if entry.is_dir() {
                // A fetch that was killed left this; it is removed by the next fetch.
                if !name.is_some_and(|name| name.starts_with(".fetching")) {
                    folders.push(entry);
                }
            } else if name.is_some_and(|name| names.contains(&name)) {
                found.push(entry);
            }
        }
    }
    found
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}
