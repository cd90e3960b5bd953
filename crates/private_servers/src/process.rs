//! Processes that outlive us: how they are started, recognised and stopped.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::account::{Account, drop_to};
use crate::error::{Doing, Error};

/// How long an asked process may take to end before it is killed. The keeper's script has the
/// same figure.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// One process, told apart from a later one that got the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Field 22 of /proc/PID/stat: clock ticks from boot to the process's start.
    pub(crate) started: u64,
}

impl Process {
    /// The process that has this number now.
    pub(crate) fn with_pid(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let started = start_ticks_unless_dead(&stat)?;
        Some(Self { pid, started })
    }

    /// Whether it still runs. A zombie, ended but not yet reaped by its parent, does not.
    pub(crate) fn is_alive(self) -> bool {
        Self::with_pid(self.pid) == Some(self)
    }

    /// Sends `signal`, waits for the end, and kills what has not ended in ten seconds.
    pub(crate) fn stop(self, signal: Signal) -> Result<(), Error> {
        self.signal(signal)?;
        if !self.ends_within(STOP_PATIENCE) {
            self.signal(Signal::KILL)?;
            self.ends_within(STOP_PATIENCE);
        }
        Ok(())
    }

    fn signal(self, signal: Signal) -> Result<(), Error> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        match pid.filter(|_| self.is_alive()) {
            None => Ok(()),
            Some(pid) => match kill_process(pid, signal) {
                Err(rustix::io::Errno::SRCH) => Ok(()),
                result => result
                    .map_err(std::io::Error::from)
                    .doing(|| format!("cannot signal process {}", self.pid)),
            },
        }
    }

    fn ends_within(self, patience: Duration) -> bool {
        let asked = Instant::now();
        while asked.elapsed() < patience {
            if !self.is_alive() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

/// Reads the start time out of a line of /proc/PID/stat. The second field, the name in brackets,
/// may itself hold spaces and brackets, so counting starts after the last bracket.
fn start_ticks_unless_dead(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    // The state was field 3; field 22 is the nineteenth after it.
    fields.nth(18)?.parse().ok()
}

/// A command for `program` in a session of its own: Ctrl-C in our terminal, or the end of our
/// process group, does not reach it. `setsid` replaces itself, so the process number is the
/// program's.
pub(crate) fn detached(program: &Path, account: Option<Account>) -> Command {
    let mut command = Command::new("setsid");
    command.arg(program);
    drop_to(&mut command, account);
    command
}

/// Starts a detached command that writes to `log`. None of our own output streams is handed
/// down: whoever reads them to their end would wait for as long as the server lives.
pub(crate) fn launch(command: &mut Command, log: &Path) -> Result<(Process, Child), Error> {
    let opened = || {
        if log.exists() {
            fs::rename(log, log.with_extension("log.old"))?;
        }
        let out = File::create(log)?;
        Ok((out.try_clone()?, out))
    };
    let (out, err) = opened().doing(|| format!("cannot write {}", log.display()))?;
    let child = command
        .stdout(out)
        .stderr(err)
        .spawn()
        .doing(|| "cannot run setsid (package util-linux)".to_owned())?;
    let process = Process::with_pid(child.id()).unwrap_or(Process { pid: child.id(), started: 0 });
    Ok((process, child))
}

/// Waits for a child's end in the background, so that it never stays a zombie of ours.
pub(crate) fn reap_in_background(mut child: Child) {
    std::thread::spawn(move || child.wait());
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    last_lines(&String::from_utf8_lossy(&bytes))
}

/// The last lines of a program's output.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let (_, last) = lines.split_at(lines.len().saturating_sub(12));
    last.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_after_the_name_and_a_zombie_is_dead() {
        let line = |state| format!("7 (a) b) {state} 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 99 5");
        assert_eq!(start_ticks_unless_dead(&line("S")), Some(4711));
        assert_eq!(start_ticks_unless_dead(&line("Z")), None);
    }

    #[test]
    fn a_recycled_number_is_another_process() {
        let me = Process::with_pid(std::process::id()).expect("we run");
        let predecessor = Process { started: me.started - 1, ..me };
        assert!(me.is_alive());
        assert!(!predecessor.is_alive());
        predecessor.stop(Signal::KILL).expect("nothing is signalled");
    }
}
