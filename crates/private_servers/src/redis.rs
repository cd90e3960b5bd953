//! The private Redis, or Valkey. It keeps nothing on disk: it comes back empty.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::Setup;
use crate::error::Error;
use crate::places::write_secret;
use crate::process::{Process, detached};
use crate::server::{self, Kind};

/// How Redis is asked to end.
pub(crate) const STOP: Signal = Signal::TERM;

pub(crate) const KIND: Kind = Kind { name: "Redis", log: "redis.log" };

/// Starts Redis on `port` and calls `record` with the new process before waiting for it.
pub(crate) fn start(
    setup: &Setup,
    program: &Path,
    password: &str,
    port: u16,
    record: impl FnOnce(Process) -> Result<(), Error>,
) -> Result<(), Error> {
    // A file that only we can read: every account can read command lines.
    let settings = setup.places.dir.join("redis.conf");
    write_secret(
        &settings,
        &format!(
            "bind 127.0.0.1\nport {port}\nprotected-mode yes\nrequirepass {password}\n\
             save \"\"\nappendonly no\nlazyfree-lazy-expire yes\ndaemonize no\n"
        ),
    )?;
    let mut command = detached(program, None);
    command.arg(&settings).current_dir(&setup.places.dir);
    server::launch(setup, KIND, command, record, || answers(port, password))
}

/// Whether the Redis on `port` takes our password and answers.
pub(crate) fn answers(port: u16, password: &str) -> bool {
    let ask = || {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "AUTH {password}\r\nPING\r\n")?;
        let mut answer = [0_u8; 12];
        stream.read_exact(&mut answer)?;
        Ok::<bool, std::io::Error>(answer == *b"+OK\r\n+PONG\r\n")
    };
    ask().unwrap_or(false)
}
