//! The account that PostgreSQL runs under.
//!
//! PostgreSQL refuses to run as root. When we are root (a container, some CI machines), its
//! programs run as `postgres`, which Debian's package creates, or else as `nobody`.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Doing, Error};

/// An account other than the caller's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// The account to drop to, or `None` when we are not root and stay what we are.
    pub(crate) fn for_postgres() -> Result<Option<Self>, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = std::fs::read_to_string("/etc/passwd").doing(|| "cannot read /etc/passwd".to_owned())?;
        let found = Self::named("postgres", &passwd).or_else(|| Self::named("nobody", &passwd));
        // 65534 is what Linux itself calls the overflow user; it needs no entry anywhere.
        Ok(Some(found.unwrap_or(Self { uid: 65534, gid: 65534 })))
    }

    fn named(name: &str, passwd: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            match fields.as_slice() {
                [found, _, uid, gid, ..] if *found == name => {
                    Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
                }
                _ => None,
            }
        })
    }

    /// Whether this account can reach what is inside `folder`. Asked of the kernel, by running
    /// `test -x` as that account, because mode bits alone do not tell (ACLs, mounts).
    pub(crate) fn may_search(self, folder: &Path) -> Result<bool, Error> {
        let mut test = Command::new("test");
        test.arg("-x").arg(folder);
        drop_to(&mut test, Some(self));
        test.status()
            .map(|status| status.success())
            .doing(|| "cannot run test(1) as the account for PostgreSQL".to_owned())
    }
}

/// Lets `command` run under `account`, in a folder that every account can enter and without
/// our terminal's input.
pub(crate) fn drop_to(command: &mut Command, account: Option<Account>) {
    command.current_dir("/").stdin(Stdio::null());
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_from_passwd_lines() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\
                      postgres-old:x:7:8::/:/bin/sh\n\
                      postgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\n\
                      broken:x\n";
        assert_eq!(Account::named("postgres", passwd), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(Account::named("nobody", passwd), None);
    }
}
