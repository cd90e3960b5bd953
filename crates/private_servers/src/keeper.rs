//! The keeper: a small shell script, in a session of its own, that stops the servers when the
//! last user process is gone, however it went. A shell and `flock` are on every Linux machine;
//! a second program of ours would have to be built and found by every test.

use std::fs::File;
use std::path::Path;

use crate::error::{Doing, Error};
use crate::places::Places;
use crate::process::{detached, launch, reap_in_background};
use crate::state::open_lock;

const SCRIPT: &str = include_str!("keeper.sh");

/// Makes sure that a keeper is on duty. The caller holds `start.lock`.
///
/// The keeper holds `keeper.lock` for its life. It takes it a moment after we return, and another
/// user may look in that moment: then there are two, and the second ends at once.
pub(crate) fn ensure(places: &Places) -> Result<(), Error> {
    let lock = open_lock(&places.dir.join("keeper.lock"))?;
    if !is_unheld(lock)? {
        return Ok(());
    }
    let mut command = detached(Path::new("/bin/sh"), None);
    command.args(["-c", SCRIPT, "tollgate-keeper"]).arg(&places.dir);
    let (_, child) = launch(&mut command, &places.dir.join("keeper.log"))?;
    reap_in_background(child);
    Ok(())
}

/// Takes the lock and drops it again at once.
fn is_unheld(lock: File) -> Result<bool, Error> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(error)) => Err(error).doing(|| "cannot lock keeper.lock".to_owned()),
    }
}
