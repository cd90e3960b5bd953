//! Kills, freezes and empties what the run started, one fault after the other, and measures how long
//! until it serves again.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use fastrand::Rng;
use rustix::process::Signal;
use tokio::task::block_in_place;

use crate::client::Client;
use crate::history::{AccountIndex, Answer, EventAnswer, Micros};
use crate::http::SERVERS;
use crate::place::Place;
use crate::process::{Frozen, family, signal, wait_until_gone};
use crate::workload;
use crate::world::World;

/// A fault comes when at least so many requests wait for their answer.
pub const IN_FLIGHT_MIN: usize = 32;
/// How long is waited for them, and for anything to serve again, before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a server told to stop may take.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Of each kill's start: how many other faults follow, in percent.
const OTHERS_PERCENT: u32 = 35;

/// What is done to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    KillServer(usize),
    KillWorker,
    KillPostgres,
    /// Redis comes back empty.
    KillRedis,
    /// Redis comes back with balances of some seconds ago.
    KillRedisStale,
    EmptyRedis,
    FreezeServer(usize),
    FreezePostgres,
    FreezeRedis,
    /// SIGTERM: what was accepted is answered first.
    StopServer(usize),
}

impl Fault {
    pub fn name(self) -> &'static str {
        match self {
            Fault::KillServer(_) => "kill -9 of a server",
            Fault::KillWorker => "kill -9 of the worker",
            Fault::KillPostgres => "kill -9 of PostgreSQL",
            Fault::KillRedis => "kill -9 of Redis, back empty",
            Fault::KillRedisStale => "kill -9 of Redis, back stale",
            Fault::EmptyRedis => "FLUSHALL",
            Fault::FreezeServer(_) => "a server frozen",
            Fault::FreezePostgres => "PostgreSQL frozen",
            Fault::FreezeRedis => "Redis frozen",
            Fault::StopServer(_) => "a server stopped (SIGTERM)",
        }
    }

    /// Whether it is a `kill -9`.
    pub fn is_kill(self) -> bool {
        use Fault::{KillPostgres, KillRedis, KillRedisStale, KillServer, KillWorker};
        matches!(self, KillServer(_) | KillWorker | KillPostgres | KillRedis | KillRedisStale)
    }

    fn is_of_redis(self) -> bool {
        matches!(self, Fault::KillRedis | Fault::KillRedisStale | Fault::EmptyRedis | Fault::FreezeRedis)
    }
}

/// What is measured, and how long it may take (G-5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recovery {
    /// From the kill of a server until it is ready again.
    Server,
    /// From when PostgreSQL takes logins again until both servers have written.
    Postgres,
    /// From the kill of Redis until each server has authorized.
    Redis,
}

impl Recovery {
    /// What it may take at most.
    pub const BOUND: Duration = Duration::from_secs(5);

    /// What is aimed at on a machine that does nothing else.
    pub fn goal(self) -> Duration {
        match self {
            Recovery::Server | Recovery::Postgres => Recovery::BOUND,
            Recovery::Redis => Duration::from_secs(1),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Recovery::Server => "a killed server is ready again",
            Recovery::Postgres => "both servers write again after PostgreSQL takes logins",
            Recovery::Redis => "both servers have authorized after Redis was killed",
        }
    }
}

/// A fault that was made.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    pub fault: Fault,
    pub at: Micros,
    /// When both servers served again.
    pub until: Micros,
    /// Requests without an answer when it came.
    pub in_flight: usize,
    pub recovery: Option<(Recovery, Duration)>,
}

/// Makes the faults.
pub(crate) struct Supervisor {
    pub(crate) place: Place,
    pub(crate) client: Client,
    pub(crate) made: Vec<Made>,
    /// Servers that had to be killed although they were told to stop.
    pub(crate) slow_stops: u64,
    world: Arc<World>,
    /// The customer that shows whether a server serves.
    probe: AccountIndex,
    rng: Rng,
    kills: Vec<Fault>,
    others: Vec<Fault>,
}

impl Supervisor {
    pub(crate) fn new(place: Place, client: Client, probe: AccountIndex, seed: u64) -> Supervisor {
        let (world, rng) = (client.world.clone(), Rng::with_seed(seed));
        let (made, kills, others) = (Vec::new(), Vec::new(), Vec::new());
        Supervisor { place, client, made, slow_stops: 0, world, probe, rng, kills, others }
    }

    pub(crate) fn kills_made(&self) -> u64 {
        let kills = self.made.iter().filter(|made| made.fault.is_kill());
        kills.fold(0, |count, _| count + 1)
    }

    /// Makes one kill, and now and then another fault before it.
    pub(crate) async fn step(&mut self) -> anyhow::Result<()> {
        if self.rng.u32(0..100) < OTHERS_PERCENT {
            let fault = self.next_other();
            self.make(fault).await?;
        }
        let fault = self.next_kill();
        self.make(fault).await
    }

    /// Drawn like cards: each kind comes once before any comes again, PostgreSQL and the servers twice.
    fn next_kill(&mut self) -> Fault {
        use Fault::{KillPostgres, KillRedis, KillRedisStale, KillServer, KillWorker};
        if self.kills.is_empty() {
            let mut first =
                [KillServer(0), KillPostgres, KillRedisStale, KillWorker, KillServer(1), KillRedis];
            let mut rest = [KillServer(0), KillServer(1), KillPostgres, KillServer(0), KillServer(1)];
            self.rng.shuffle(&mut first);
            self.rng.shuffle(&mut rest);
            // Taken from the end.
            self.kills.extend(rest);
            self.kills.extend(first);
        }
        self.kills.pop().unwrap_or(KillPostgres)
    }

    fn next_other(&mut self) -> Fault {
        use Fault::{EmptyRedis, FreezePostgres, FreezeRedis, FreezeServer, StopServer};
        if self.others.is_empty() {
            let server = self.rng.usize(0..SERVERS);
            let mut all = [EmptyRedis, FreezePostgres, FreezeRedis, FreezeServer(server), StopServer(server)];
            self.rng.shuffle(&mut all);
            self.others.extend(all);
        }
        self.others.pop().unwrap_or(EmptyRedis)
    }

    async fn make(&mut self, fault: Fault) -> anyhow::Result<()> {
        if fault == Fault::KillRedisStale {
            self.place.redis()?.tell("SAVE")?;
        }
        tokio::time::sleep(Duration::from_millis(self.rng.u64(200..1_200))).await;
        let in_flight = self.wait_for_load().await?;
        let at = self.world.site.now();
        if fault.is_of_redis() {
            self.world.redis_faults.lock().unwrap_or_else(PoisonError::into_inner).push(at);
        }
        let recovery = match fault {
            Fault::KillServer(server) => Some((Recovery::Server, self.kill_server(server).await?)),
            Fault::KillWorker => {
                block_in_place(|| {
                    self.place.worker.as_mut().map_or(Ok(()), |worker| worker.kill())?;
                    self.place.start_worker()
                })?;
                None
            }
            Fault::KillPostgres => Some((Recovery::Postgres, self.kill_postgres().await?)),
            Fault::KillRedis | Fault::KillRedisStale => {
                Some((Recovery::Redis, self.kill_redis(fault == Fault::KillRedisStale).await?))
            }
            Fault::EmptyRedis => {
                self.place.redis()?.tell("FLUSHALL")?;
                None
            }
            Fault::FreezeServer(server) => {
                let pid = self.place.servers[server].as_ref().map(|running| running.pid());
                self.freeze(&[pid.context("a server that runs")?]).await?;
                None
            }
            Fault::FreezePostgres => {
                let pids = family(self.place.stores()?.postgres_pid());
                self.freeze(&pids).await?;
                None
            }
            Fault::FreezeRedis => {
                let pid = self.place.stores()?.redis_pid();
                self.freeze(&[pid]).await?;
                None
            }
            Fault::StopServer(server) => {
                self.stop_server(server).await?;
                None
            }
        };
        self.wait_until_served().await?;
        self.made.push(Made { fault, at, until: self.world.site.now(), in_flight, recovery });
        Ok(())
    }

    async fn wait_for_load(&self) -> anyhow::Result<usize> {
        let asked = Instant::now();
        loop {
            let in_flight = self.world.site.in_flight();
            if in_flight >= IN_FLIGHT_MIN {
                return Ok(in_flight);
            }
            if asked.elapsed() > PATIENCE {
                bail!("there are never {IN_FLIGHT_MIN} requests in flight: use more clients");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn kill_server(&mut self, server: usize) -> anyhow::Result<Duration> {
        let killed = Instant::now();
        block_in_place(|| {
            self.place.servers[server].as_mut().map_or(Ok(()), |running| running.kill())?;
            self.place.start_server(server, &self.world.site)
        })?;
        self.wait_until_ready(server).await?;
        Ok(killed.elapsed())
    }

    async fn stop_server(&mut self, server: usize) -> anyhow::Result<()> {
        let running = self.place.servers[server].as_mut();
        let ended = block_in_place(|| running.map_or(Ok(true), |running| running.terminate(DRAIN_MAX)))?;
        if !ended {
            self.slow_stops += 1;
        }
        block_in_place(|| self.place.start_server(server, &self.world.site))?;
        self.wait_until_ready(server).await
    }

    async fn kill_postgres(&mut self) -> anyhow::Result<Duration> {
        let stores = self.place.stores()?;
        let pids = family(stores.postgres_pid());
        for pid in &pids {
            signal(*pid, Signal::KILL)?;
        }
        block_in_place(|| {
            if !wait_until_gone(&pids, PATIENCE) {
                bail!("PostgreSQL does not die");
            }
            Ok(stores.start_postgres()?)
        })?;
        let accepts_logins = Instant::now();
        self.write_through_both().await?;
        Ok(accepts_logins.elapsed())
    }

    async fn kill_redis(&mut self, is_stale: bool) -> anyhow::Result<Duration> {
        let stores = self.place.stores()?;
        let pid = stores.redis_pid();
        let killed = Instant::now();
        signal(pid, Signal::KILL)?;
        let mut holds = Vec::new();
        for server in 0..SERVERS {
            self.client.only_server = Some(server);
            let hold = workload::probe_authorize(&mut self.client, self.probe).await;
            holds.push(hold.context("nobody authorizes")?);
        }
        self.client.only_server = None;
        let authorized = killed.elapsed();
        for hold in holds {
            let release = self.client.release(hold, self.probe);
            self.client.ask(&release, false).await;
        }
        let away = Duration::from_millis(self.rng.u64(0..1_000));
        tokio::time::sleep(away).await;
        let dump = self.place.redis_dump();
        block_in_place(|| {
            wait_until_gone(&[pid], PATIENCE);
            if !is_stale && dump.exists() {
                std::fs::remove_file(&dump)?;
            }
            stores.start_redis()?;
            if dump.exists() {
                std::fs::remove_file(&dump)?;
            }
            anyhow::Ok(())
        })?;
        Ok(authorized)
    }

    async fn freeze(&mut self, pids: &[u32]) -> anyhow::Result<()> {
        let _frozen = Frozen::new(pids)?;
        tokio::time::sleep(Duration::from_millis(self.rng.u64(200..3_000))).await;
        Ok(())
    }

    async fn wait_until_ready(&self, server: usize) -> anyhow::Result<()> {
        let asked = Instant::now();
        while !self.world.site.is_ready(server).await {
            if asked.elapsed() > PATIENCE {
                bail!("server {server} does not get ready");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Until both servers are ready and have written.
    pub(crate) async fn wait_until_served(&mut self) -> anyhow::Result<()> {
        for server in 0..SERVERS {
            self.wait_until_ready(server).await?;
        }
        self.write_through_both().await
    }

    async fn write_through_both(&mut self) -> anyhow::Result<()> {
        for server in 0..SERVERS {
            self.client.only_server = Some(server);
            let answer = workload::probe(&mut self.client, self.probe).await;
            let is_written = matches!(&answer, Some(Answer::Usage(results)) if
                matches!(results[..], [EventAnswer::Accepted(_) | EventAnswer::Duplicate(_)]));
            if !is_written {
                bail!("server {server} answers a good event with {answer:?}");
            }
        }
        self.client.only_server = None;
        Ok(())
    }
}
