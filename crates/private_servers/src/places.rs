//! Where everything lies, and the password.
//!
//! ```text
//! .tollgate/                  parent of the caller's folder
//!   fetch.lock                held while programs are fetched
//!   bin/                      fetched programs, shared by dev and test
//!   dev/                      the caller's folder
//!     password                the password of both servers, mode 0600
//!     start.lock users.lock keeper.lock servers.json      see the crate's essay
//!     redis.conf              mode 0600, it holds the password
//!     postgres-data/          the cluster
//!     postgres.log redis.log keeper.log                   and the previous run's *.log.old
//! ```
//!
//! When we are root and PostgreSQL's account cannot reach the caller's folder (a clone below a
//! folder of mode 0700), `postgres-data` and `bin` lie under `/var/tmp/tollgate-HASH` instead,
//! HASH being that of the folder's (for `bin`: the parent's) absolute path. They are emptied when
//! the caller's folder is found anew; when it is deleted by hand they stay.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::account::Account;
use crate::error::{Doing, Error};

pub(crate) struct Places {
    /// The caller's folder, absolute.
    pub(crate) dir: PathBuf,
    /// The folder that holds `postgres-data`; usually `dir`.
    pub(crate) postgres_area: PathBuf,
    /// The folder of fetched programs.
    pub(crate) bin: PathBuf,
    /// The account for PostgreSQL's programs when it is not our own.
    pub(crate) account: Option<Account>,
}

impl Places {
    /// Creates the folder when it is missing and decides where PostgreSQL's files go.
    pub(crate) fn prepare(dir: &Path) -> Result<Self, Error> {
        let account = Account::for_postgres()?;
        fs::create_dir_all(dir).doing(|| format!("cannot create {}", dir.display()))?;
        let dir = dir.canonicalize().doing(|| format!("cannot resolve {}", dir.display()))?;
        // 0711 lets the other account pass through to its own data and see nothing else.
        let mode = if account.is_some() { 0o711 } else { 0o700 };
        set_mode(&dir, mode)?;
        let parent = dir.parent().unwrap_or(&dir).to_owned();
        let reachable = match account {
            None => true,
            Some(account) => account.may_search(&dir)?,
        };
        let (postgres_area, bin) = if reachable {
            (dir.clone(), parent.join("bin"))
        } else {
            (reachable_area(&dir)?, reachable_area(&parent)?.join("bin"))
        };
        Ok(Self { dir, postgres_area, bin, account })
    }

    pub(crate) fn postgres_data(&self) -> PathBuf {
        self.postgres_area.join("postgres-data")
    }

    /// Whether PostgreSQL's data could not be placed in the caller's folder.
    pub(crate) fn postgres_is_elsewhere(&self) -> bool {
        self.postgres_area != self.dir
    }

    /// The file that a fetch locks. It lies beside `bin`, whose content is replaced.
    pub(crate) fn fetch_lock(&self) -> PathBuf {
        self.bin.with_file_name("fetch.lock")
    }

    /// The recorded password; `None` when the folder is new, or was emptied by its owner.
    pub(crate) fn password(&self) -> Result<Option<String>, Error> {
        let path = self.password_file();
        match fs::read_to_string(&path) {
            Ok(password) => Ok(Some(password)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(|| format!("cannot read {}", path.display())),
        }
    }

    /// Makes up the password of 128 random bits, as hexadecimal digits, and records it.
    pub(crate) fn create_password(&self) -> Result<String, Error> {
        let mut bytes = [0_u8; 16];
        getrandom::fill(&mut bytes).map_err(Error::Random)?;
        let password: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        write_secret(&self.password_file(), &password)?;
        Ok(password)
    }

    fn password_file(&self) -> PathBuf {
        self.dir.join("password")
    }
}

/// Writes a file that only we can read. It appears whole or not at all.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), Error> {
    let partial = path.with_extension("partial");
    let write = || {
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)?
            .write_all(text.as_bytes())?;
        fs::rename(&partial, path)
    };
    write().doing(|| format!("cannot write {}", path.display()))
}

/// Gives `path` exactly these mode bits, whatever our umask is.
pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .doing(|| format!("cannot change the mode of {}", path.display()))
}

/// A folder that stands for `path` but that every account can pass through.
fn reachable_area(path: &Path) -> Result<PathBuf, Error> {
    let name = format!("tollgate-{:016x}", fnv1a_64(path.as_os_str().as_bytes()));
    let area = Path::new("/var/tmp").join(name);
    match fs::DirBuilder::new().mode(0o711).create(&area) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).doing(|| format!("cannot create {}", area.display()));
        }
        _ => {}
    }
    // Anyone can create names under /var/tmp. Only a real folder of root's that nobody else can
    // write may hold the data or, worse, programs that we run.
    let found = fs::symlink_metadata(&area).doing(|| format!("cannot inspect {}", area.display()))?;
    if !found.is_dir() || found.uid() != 0 || found.mode() & 0o022 != 0 {
        return Err(Error::UnsafeFolder(area));
    }
    set_mode(&area, 0o711)?;
    Ok(area)
}

/// FNV-1a: the same value in every release of Rust, which the standard hasher does not promise.
fn fnv1a_64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a_64(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a_64(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
