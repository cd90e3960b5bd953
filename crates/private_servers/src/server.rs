//! What both servers have in common: being launched and waited for.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Setup;
use crate::error::Error;
use crate::process::{self, Process};

/// How long a server may take until it answers. Recovery after a kill is the slow case.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How long a server that runs may take to answer before it counts as hung.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// For messages.
    pub(crate) name: &'static str,
    /// The log's name in the caller's folder.
    pub(crate) log: &'static str,
}

/// Starts `command`, records its process, and waits until the server is `ready`. The record comes
/// first: if we are killed while waiting, the keeper knows what to stop.
pub(crate) fn launch(
    setup: &Setup,
    kind: Kind,
    mut command: Command,
    record: impl FnOnce(Process) -> Result<(), Error>,
    ready: impl Fn() -> bool,
) -> Result<(), Error> {
    let log = setup.places.dir.join(kind.log);
    let (process, mut child) = process::launch(&mut command, &log)?;
    record(process)?;
    let outcome = wait_until(ready, &mut child);
    process::reap_in_background(child);
    outcome.or_else(|reason| {
        process.stop(Signal::KILL)?;
        Err(Error::DidNotStart { server: kind.name, reason, tail: process::tail(&log), log })
    })
}

fn wait_until(ready: impl Fn() -> bool, child: &mut Child) -> Result<(), String> {
    let asked = Instant::now();
    while asked.elapsed() < START_PATIENCE {
        match child.try_wait() {
            Ok(Some(status)) => return Err(status.to_string()),
            Ok(None) if ready() => return Ok(()),
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(format!("no answer within {} seconds", START_PATIENCE.as_secs()))
}

/// Whether `process` lives and is, or soon gets, `ready`.
pub(crate) fn is_up(process: Process, ready: impl Fn() -> bool) -> bool {
    let asked = Instant::now();
    while process.is_alive() && asked.elapsed() < ANSWER_PATIENCE {
        if ready() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
