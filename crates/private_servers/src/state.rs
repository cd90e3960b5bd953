//! `servers.json`: which servers run for a folder, written and read under `start.lock`.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error};
use crate::process::Process;

/// The servers of one folder. `keeper.sh` reads the same file with `sed`: it is one line, with
/// the fields in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) postgres: Option<Server>,
    pub(crate) redis: Option<Server>,
}

/// A server that was started. It stays recorded when it is taken away on purpose, so that it
/// comes back on the same port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Server {
    pub(crate) port: u16,
    #[serde(flatten)]
    pub(crate) process: Process,
}

impl State {
    /// What is recorded. A file that cannot be understood, perhaps of another version, counts as
    /// nothing: the servers' own start-up finds leftovers.
    pub(crate) fn load(dir: &Path) -> Result<Self, Error> {
        let path = file(dir);
        match fs::read(&path) {
            Ok(json) => Ok(serde_json::from_slice(&json).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).doing(|| format!("cannot read {}", path.display())),
        }
    }

    /// Replaces the file as a whole, so that the keeper never reads half of it.
    pub(crate) fn save(&self, dir: &Path) -> Result<(), Error> {
        let json = serde_json::to_string(self).map_err(std::io::Error::from);
        let path = file(dir);
        let partial = path.with_extension("partial");
        json.and_then(|json| fs::write(&partial, json))
            .and_then(|()| fs::rename(&partial, &path))
            .doing(|| format!("cannot write {}", path.display()))
    }

    /// Forgets both servers.
    pub(crate) fn remove(dir: &Path) -> Result<(), Error> {
        let path = file(dir);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).doing(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join("servers.json")
}

/// Opens a lock file. The kernel drops its lock when the last descriptor is closed, which is also
/// when its owner is killed; our children do not inherit the descriptor (close-on-exec).
pub(crate) fn open_lock(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .doing(|| format!("cannot open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_the_shape_that_the_keeper_reads() {
        let server = |port, pid, started| Some(Server { port, process: Process { pid, started } });
        let state = State { postgres: server(1, 2, 3), redis: server(4, 5, 6) };
        let json = serde_json::to_string(&state).expect("plain data");
        assert_eq!(
            json,
            r#"{"postgres":{"port":1,"pid":2,"started":3},"redis":{"port":4,"pid":5,"started":6}}"#
        );
    }
}
