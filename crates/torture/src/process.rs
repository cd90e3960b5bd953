//! The processes of a run: started by us, and killed by their number, never by name.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

/// A `tollgate` process of ours, killed when it is dropped.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Starts a command whose standard error goes to the end of `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> anyhow::Result<Running> {
        let log = File::options().create(true).append(true).open(log).context("no log file")?;
        let child = command.stdin(Stdio::null()).stderr(log).spawn().context("tollgate does not start")?;
        Ok(Running { child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it writes to standard output, to be read once.
    pub(crate) fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits for that; kills it after `patience`. Whether it ended by itself.
    pub(crate) fn terminate(&mut self, patience: Duration) -> anyhow::Result<bool> {
        signal(self.pid(), Signal::TERM)?;
        let asked = Instant::now();
        while asked.elapsed() < patience {
            if self.child.try_wait()?.is_some() {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill()?;
        Ok(false)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Best effort: it may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes that stand still until this is dropped, also when the run is given up meanwhile.
pub(crate) struct Frozen<'a>(&'a [u32]);

impl<'a> Frozen<'a> {
    pub(crate) fn new(pids: &'a [u32]) -> anyhow::Result<Frozen<'a>> {
        let frozen = Frozen(pids);
        pids.iter().try_for_each(|pid| signal(*pid, Signal::STOP))?;
        Ok(frozen)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        for pid in self.0 {
            // One that is gone cannot go on.
            let _ = signal(*pid, Signal::CONT);
        }
    }
}

/// Sends a signal; a process that is gone needs none.
pub(crate) fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process number")?;
    match kill_process(pid, signal) {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A process and its children: PostgreSQL's sessions are children of its main process.
pub(crate) fn family(parent: u32) -> Vec<u32> {
    let mut family = vec![parent];
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    family.extend(pids.filter(|pid| parent_of(*pid) == Some(parent)));
    family
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything; the state and the parent follow it.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Waits until none of these runs. A zombie, ended and not yet reaped, does not.
pub(crate) fn wait_until_gone(pids: &[u32], patience: Duration) -> bool {
    let asked = Instant::now();
    while pids.iter().any(|pid| runs(*pid)) {
        if asked.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X'])))
}

/// The `tollgate` binary beside our own, where no other was named.
pub(crate) fn tollgate_beside_us() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("where are we?")?;
    let places = own.ancestors().skip(1).take(2).map(|dir| dir.join("tollgate"));
    let found = places.into_iter().find(|path| path.is_file());
    found.context(
        "there is no tollgate beside this program: `cargo build -p tollgate`, or name it with --tollgate",
    )
}
