//! The load generator: keep-alive connections in one thread, driven by the kernel's readiness alone.
//!
//! It writes a request's bytes and reads of the answer what it must: the status, the length, the body.
//! It costs as little as it can, since it shares the cores with what it measures, and it costs both
//! sides the same.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::requests::{Random, Requests};

/// Latencies are told up to this; longer ones count as this long.
const LATENCY_US_MAX: u64 = 60_000_000;
/// How long answers that are still out at the end are waited for.
const DRAIN: Duration = Duration::from_secs(5);

/// When requests are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Each connection sends its next request when the last is answered.
    Closed,
    /// So many a second, whatever is answered. A latency counts from when the request was due.
    Open { per_second: u64 },
    /// Each connection as in `Closed`, this many requests in all, and none of them is timed.
    Count(u64),
}

/// One run of load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) pace: Pace,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
}

/// What came of it.
pub(crate) struct Answered {
    /// Requests answered within the window.
    pub(crate) count: u64,
    pub(crate) elapsed: Duration,
    /// Microseconds.
    pub(crate) latency: Histogram<u64>,
    /// Answers that were not what was asked for, over the whole run.
    pub(crate) wrong: u64,
    pub(crate) first_wrong: Option<String>,
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    /// What the kernel has not taken yet of a request.
    unsent: Vec<u8>,
    /// The request that is out, and since when it was due.
    out: Option<(u64, Instant)>,
}

/// Runs a load to its end; `begin` is called when the warm-up is over.
pub(crate) fn run(
    load: &Load,
    requests: &mut dyn Requests,
    begin: impl FnOnce(),
) -> anyhow::Result<Answered> {
    run_until(load, requests, begin, || false)
}

/// The same, or until it is told to stop, where that is earlier.
pub(crate) fn run_until(
    load: &Load,
    requests: &mut dyn Requests,
    begin: impl FnOnce(),
    is_stopped: impl Fn() -> bool,
) -> anyhow::Result<Answered> {
    let mut run = Run::open(load)?;
    let mut begin = Some(begin);
    let started = Instant::now();
    let (mut window_start, mut window_end) = (started + load.warm_up, started + load.warm_up + load.window);
    let mut arrivals = match load.pace {
        Pace::Open { per_second } => Some(Arrivals::new(started, per_second)),
        Pace::Closed | Pace::Count(_) => None,
    };
    let mut left = match load.pace {
        Pace::Count(count) => count,
        Pace::Closed | Pace::Open { .. } => u64::MAX,
    };
    let mut idle: VecDeque<usize> = (0..run.connections.len()).collect();
    let mut answered = Answered {
        count: 0,
        elapsed: load.window,
        latency: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?,
        wrong: 0,
        first_wrong: None,
    };
    loop {
        let now = Instant::now();
        if now >= window_start
            && let Some(begin) = begin.take()
        {
            begin();
            window_start = Instant::now();
            window_end = window_start + load.window;
        }
        let is_done = left == 0 && idle.len() == run.connections.len();
        if now >= window_end || is_done || is_stopped() {
            answered.elapsed = now.saturating_duration_since(window_start).min(load.window);
            break;
        }
        while let Some(&index) = idle.front().filter(|_| left > 0) {
            let due = match &mut arrivals {
                Some(arrivals) => match arrivals.take_due(now) {
                    Some(due) => due,
                    None => break,
                },
                None => Instant::now(),
            };
            idle.pop_front();
            left = left.saturating_sub(1);
            run.send(index, requests, due)?;
        }
        let wake =
            arrivals.as_ref().filter(|_| !idle.is_empty()).map_or(window_end, |a| a.next.min(window_end));
        let wake = if begin.is_some() { wake.min(window_start) } else { wake };
        for index in run.ready(wake)? {
            let Some((id, due, status, body_at)) = run.receive(index)? else { continue };
            let at = Instant::now();
            let connection = &mut run.connections[index];
            if !requests.is_right(id, status, &connection.received[body_at..]) {
                answered.wrong += 1;
                let text = String::from_utf8_lossy(&connection.received).into_owned();
                answered.first_wrong.get_or_insert(text);
            }
            connection.received.clear();
            if begin.is_none() && at < window_end {
                answered.count += 1;
                let micros = u64::try_from((at - due).as_micros()).unwrap_or(LATENCY_US_MAX);
                answered.latency.record(micros.clamp(1, LATENCY_US_MAX))?;
            }
            if arrivals.is_none() && left > 0 && at < window_end {
                left = left.saturating_sub(1);
                run.send(index, requests, at)?;
            } else {
                idle.push_back(index);
            }
        }
    }
    run.drain(requests, &mut answered)?;
    Ok(answered)
}

/// When requests of an open loop are due: the gaps are random, from nothing to twice the mean.
struct Arrivals {
    next: Instant,
    mean_gap_ns: u64,
    random: Random,
}

impl Arrivals {
    fn new(start: Instant, per_second: u64) -> Arrivals {
        Arrivals { next: start, mean_gap_ns: 1_000_000_000 / per_second.max(1), random: Random::new(7) }
    }

    fn take_due(&mut self, now: Instant) -> Option<Instant> {
        (self.next <= now).then(|| {
            let due = self.next;
            self.next += Duration::from_nanos(self.random.below(2 * self.mean_gap_ns + 1));
            due
        })
    }
}

struct Run {
    poll: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    events: Vec<epoll::Event>,
    /// A request's bytes, reused.
    bytes: Vec<u8>,
    /// What a read brings, reused.
    buffer: Vec<u8>,
}

/// What is read at a time: the whole of a small answer.
const READ_BYTES: usize = 64 << 10;

impl Run {
    fn open(load: &Load) -> anyhow::Result<Run> {
        let poll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for index in 0..load.connections {
            let stream = TcpStream::connect(load.address).context("cannot connect")?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&poll, &stream, EventData::new_u64(u64::try_from(index)?), EventFlags::IN)?;
            connections.push(Connection {
                stream,
                received: Vec::with_capacity(4_096),
                unsent: Vec::new(),
                out: None,
            });
        }
        let events = Vec::with_capacity(load.connections);
        Ok(Run { poll, connections, events, bytes: Vec::new(), buffer: vec![0; READ_BYTES] })
    }

    /// The connections that have something to read, waiting for one until `wake`.
    fn ready(&mut self, wake: Instant) -> anyhow::Result<Vec<usize>> {
        let wait = wake.saturating_duration_since(Instant::now());
        let wait = Timespec { tv_sec: i64::try_from(wait.as_secs())?, tv_nsec: wait.subsec_nanos().into() };
        self.events.clear();
        match epoll::wait(&self.poll, spare_capacity(&mut self.events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let index = |event: &epoll::Event| Ok(usize::try_from(event.data.u64())?);
        self.events.iter().map(index).collect()
    }

    fn send(&mut self, index: usize, requests: &mut dyn Requests, due: Instant) -> anyhow::Result<()> {
        self.bytes.clear();
        let id = requests.write_next(&mut self.bytes);
        let connection = &mut self.connections[index];
        connection.out = Some((id, due));
        // The kernel takes a few hundred bytes whole, of a large batch only the beginning.
        let written = connection.stream.write(&self.bytes)?;
        if written < self.bytes.len() {
            connection.unsent.extend_from_slice(&self.bytes[written..]);
            self.watch(index, EventFlags::IN | EventFlags::OUT)?;
        }
        Ok(())
    }

    fn send_rest(&mut self, index: usize) -> anyhow::Result<()> {
        let connection = &mut self.connections[index];
        match connection.stream.write(&connection.unsent) {
            Ok(written) => drop(connection.unsent.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if connection.unsent.is_empty() { self.watch(index, EventFlags::IN) } else { Ok(()) }
    }

    fn watch(&self, index: usize, flags: EventFlags) -> anyhow::Result<()> {
        let data = EventData::new_u64(u64::try_from(index)?);
        Ok(epoll::modify(&self.poll, &self.connections[index].stream, data, flags)?)
    }

    /// Reads what is there; once the answer is whole: whose it is, its status, where its body begins.
    fn receive(&mut self, index: usize) -> anyhow::Result<Option<(u64, Instant, u16, usize)>> {
        if !self.connections[index].unsent.is_empty() {
            self.send_rest(index)?;
        }
        let (connection, buffer) = (&mut self.connections[index], &mut self.buffer);
        match connection.stream.read(buffer) {
            Ok(0) => {
                let received = String::from_utf8_lossy(&connection.received);
                bail!("the server closed a connection, after {received:?}")
            }
            Ok(count) => connection.received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let Some((status, body_at)) = parse(&connection.received)? else { return Ok(None) };
        let (id, due) = connection.out.take().context("an answer that nobody asked for")?;
        Ok(Some((id, due, status, body_at)))
    }

    fn drain(&mut self, requests: &mut dyn Requests, answered: &mut Answered) -> anyhow::Result<()> {
        let until = Instant::now() + DRAIN;
        while self.connections.iter().any(|connection| connection.out.is_some()) {
            ensure!(Instant::now() < until, "requests were not answered in {DRAIN:?}");
            for index in self.ready(until)? {
                if let Some((id, _, status, body_at)) = self.receive(index)?
                    && !requests.is_right(id, status, &self.connections[index].received[body_at..])
                {
                    answered.wrong += 1;
                }
            }
        }
        Ok(())
    }
}

/// A whole answer's status and where its body begins; `None` while a part is missing.
fn parse(received: &[u8]) -> anyhow::Result<Option<(u16, usize)>> {
    let Some(head_end) = received.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&received[..head_end])?;
    let status = head.get(9..12).context("no status")?.parse()?;
    let length = head
        .lines()
        .find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")))
        .context("an answer without a length")?;
    let body_at = head_end + 4;
    let length: usize = length.1.trim().parse()?;
    Ok((received.len() >= body_at + length).then_some((status, body_at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let text = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nx: y\r\n\r\n{}";
        assert_eq!(parse(text).unwrap(), Some((201, text.len() - 2)));
        assert_eq!(parse(&text[..text.len() - 1]).unwrap(), None);
        assert_eq!(parse(&text[..20]).unwrap(), None);
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "an answer says how long it is");
    }
}
