//! Private PostgreSQL and Redis servers for development and tests, without containers.
//!
//! [`PrivateServers::start`] finds the servers' programs on this machine, or fetches them, and
//! runs one PostgreSQL and one Redis for a folder. They listen on 127.0.0.1 only, on free ports,
//! with a random password; the system's own servers are never touched. A first start takes a few
//! seconds, most of it `initdb`; later ones take a fraction of one.
//!
//! # Sharing
//!
//! Processes that start servers for the same folder share them (a test runner starts a process
//! per test). Three files of the folder are locked with flock(2), which the kernel undoes when a
//! process ends, however it ends:
//!
//! | file | held | by |
//! | --- | --- | --- |
//! | `users.lock` | shared, for its life | every user process, once per [`PrivateServers`] |
//! | `start.lock` | exclusive, for a moment | whoever starts, stops or attaches |
//! | `keeper.lock` | exclusive, for its life | the keeper |
//!
//! A user takes `start.lock`, then `users.lock`, and reads `servers.json`. Servers recorded there
//! that run and answer are used; others are started and recorded. A process is recognised by its
//! number and its start time, so that a number used again is never mistaken and killed.
//!
//! # Stopping
//!
//! The keeper, a shell script in a session of its own, waits until it can have `users.lock` to
//! itself: no user is left. It lingers for 1.5 seconds, so that a run of several test programs
//! keeps its servers, then takes `start.lock`, looks again, and stops them. A user who arrives
//! during the linger wins; one who arrives later waits for `start.lock` and starts anew. So
//! dropping [`PrivateServers`], leaving `main`, a panic and `kill -9` all come to the same.
//! [`PrivateServers::stop`] is for those who will not wait.
//!
//! The servers have sessions of their own as well: Ctrl-C in a terminal reaches the program,
//! which drains while its servers still run. Neither servers nor keeper hold the program's
//! output streams, or a CI job that reads them to the end would hang.
//!
//! # Root
//!
//! PostgreSQL refuses to run as root. For root it runs as `postgres` or `nobody`; where that
//! account cannot reach the folder, the cluster lies under `/var/tmp` (see `places.rs`).
//!
//! # Limits
//!
//! Linux only: /proc, flock(2) on a local file system, and util-linux's `setsid` and `flock`.
//! [`Options::durable`] is decided by the process that starts the servers, not by later ones.

mod account;
mod error;
mod fetch;
mod find;
mod keeper;
mod lone_redis;
mod places;
mod port;
mod postgres;
mod process;
mod redis;
mod server;
mod state;

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use error::Error;
pub use lone_redis::LoneRedis;

use error::Doing;
use find::Programs;
use places::Places;
use process::Process;
use state::{Server, State, open_lock};

/// Starts that are tried before the error is reported: a free port may be taken by somebody else
/// before the server gets it, and after a kill PostgreSQL's last children hold its shared memory
/// for a moment.
const START_ATTEMPTS: u32 = 4;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(500);

/// How long [`PrivateServers::stop`] looks for other users. The keeper may hold `users.lock` for
/// a moment when we let go of it, so one look is not enough.
const OTHER_USERS_PATIENCE: Duration = Duration::from_millis(500);

/// What a caller wants.
pub struct Options {
    /// A git-ignored folder for the servers' files, such as `.tollgate/dev`; created when missing.
    /// Each folder has servers of its own. Fetched programs go to `bin` beside it.
    pub dir: PathBuf,
    /// Whether data survive a power cut. `false`, for tests, is several times faster.
    pub durable: bool,
    /// Called with one line of plain text, without a line end, when a step begins that takes
    /// seconds or that the person at the terminal should know of.
    pub progress: Arc<dyn Fn(&str) + Send + Sync>,
}

/// Running servers. They run for as long as some process holds one of these for their folder,
/// and 1.5 seconds longer.
pub struct PrivateServers {
    setup: Setup,
    password: String,
    /// Our shared lock on `users.lock`.
    users: File,
    /// The servers as we last saw them.
    state: Mutex<State>,
}

/// What is needed to start a server.
pub(crate) struct Setup {
    pub(crate) places: Places,
    pub(crate) durable: bool,
    /// Settings of PostgreSQL beside ours; the last of a name counts.
    pub(crate) postgres_settings: Vec<String>,
    pub(crate) progress: Arc<dyn Fn(&str) + Send + Sync>,
}

impl PrivateServers {
    /// Attaches to the servers of `options.dir`, or starts those that do not run. Returns when
    /// both answer. Blocks for milliseconds when they run, seconds when the cluster has to be
    /// created, minutes when programs have to be fetched.
    ///
    /// # Errors
    /// [`Error::Missing`], whose last line is the command to type, when a server's programs are
    /// neither here nor to be had; [`Error::DidNotStart`] with the end of the server's log; other
    /// variants for a folder that cannot be used.
    pub fn start(options: Options) -> Result<Self, Error> {
        Self::start_tuned(options, &[])
    }

    /// As [`Self::start`], with further settings of PostgreSQL, each as `name=value`. Decided by the
    /// process that starts the servers, as [`Options::durable`] is.
    ///
    /// # Errors
    /// As [`Self::start`]; a setting that PostgreSQL refuses keeps it from starting.
    pub fn start_tuned(options: Options, postgres_settings: &[&str]) -> Result<Self, Error> {
        let setup = Setup {
            places: Places::prepare(&options.dir)?,
            durable: options.durable,
            postgres_settings: postgres_settings.iter().copied().map(str::to_owned).collect(),
            progress: options.progress,
        };
        let _start = lock_start(&setup)?;
        let users = open_lock(&setup.places.dir.join("users.lock"))?;
        users.lock_shared().doing(|| "cannot lock users.lock".to_owned())?;
        keeper::ensure(&setup.places)?;
        let password = password(&setup)?;
        let mut state = State::load(&setup.places.dir)?;
        if !is_postgres_alive(&state) && !is_redis_alive(&state) {
            // Nobody depends on the old ports, and somebody else may use them by now.
            state = State::default();
        }
        let servers = Self { setup, password, users, state: Mutex::new(state) };
        let mut programs = None;
        servers.ensure_redis(&mut programs)?;
        servers.ensure_postgres(&mut programs)?;
        Ok(servers)
    }

    /// The URL of a database for the cluster's superuser:
    /// `postgres://user:password@127.0.0.1:port/database`. The name is used as it is, without
    /// escaping; the database `postgres` always exists.
    pub fn postgres_url(&self, database: &str) -> String {
        let port = self.state().postgres.map_or(0, |server| server.port);
        let (user, password) = (postgres::SUPERUSER, &self.password);
        format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}")
    }

    /// The URL of Redis: `redis://:password@127.0.0.1:port`.
    pub fn redis_url(&self) -> String {
        let port = self.state().redis.map_or(0, |server| server.port);
        format!("redis://:{}@127.0.0.1:{port}", self.password)
    }

    /// The process number of PostgreSQL's main process, as this handle last saw it.
    pub fn postgres_pid(&self) -> u32 {
        self.state().postgres.map_or(0, |server| server.process.pid)
    }

    /// The process number of Redis, as this handle last saw it.
    pub fn redis_pid(&self) -> u32 {
        self.state().redis.map_or(0, |server| server.process.pid)
    }

    /// Takes PostgreSQL away: a fast shutdown, which cuts sessions off and keeps committed work,
    /// then a kill after ten seconds. Returns when it is gone. It is gone for every user of the
    /// folder, and the next process that attaches brings it back; a test that does this wants a
    /// folder of its own. To crash it instead, kill [`Self::postgres_pid`].
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn stop_postgres(&self) -> Result<(), Error> {
        let _start = lock_start(&self.setup)?;
        self.reload()?;
        stop_postgres(&self.setup.places, &self.state())
    }

    /// Brings PostgreSQL back on the same port and the same data, after [`Self::stop_postgres`]
    /// or a crash. Does nothing when it runs.
    ///
    /// # Errors
    /// As [`Self::start`]; also when another program has taken the port.
    pub fn start_postgres(&self) -> Result<(), Error> {
        let _start = lock_start(&self.setup)?;
        self.reload()?;
        self.ensure_postgres(&mut None)
    }

    /// Takes Redis away, as [`Self::stop_postgres`] does PostgreSQL.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn stop_redis(&self) -> Result<(), Error> {
        let _start = lock_start(&self.setup)?;
        self.reload()?;
        stop_redis(&self.state())
    }

    /// Brings Redis back on the same port, empty. Does nothing when it runs.
    ///
    /// # Errors
    /// As [`Self::start`]; also when another program has taken the port.
    pub fn start_redis(&self) -> Result<(), Error> {
        let _start = lock_start(&self.setup)?;
        self.reload()?;
        self.ensure_redis(&mut None)
    }

    /// Stops both servers now and returns `true` when they are gone; lets go of them and returns
    /// `false` when another process, or another handle, uses them.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn stop(self) -> Result<bool, Error> {
        let _start = lock_start(&self.setup)?;
        if !self.is_last_user()? {
            return Ok(false);
        }
        self.reload()?;
        let state = *self.state();
        stop_redis(&state)?;
        stop_postgres(&self.setup.places, &state)?;
        State::remove(&self.setup.places.dir)?;
        Ok(true)
    }

    /// As [`Self::stop`], and removes the folder with all data, wherever PostgreSQL's lie.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn remove(self) -> Result<bool, Error> {
        let folders = [self.setup.places.postgres_area.clone(), self.setup.places.dir.clone()];
        if !self.stop()? {
            return Ok(false);
        }
        for folder in folders.iter().filter(|folder| folder.exists()) {
            std::fs::remove_dir_all(folder).doing(|| format!("cannot remove {}", folder.display()))?;
        }
        Ok(true)
    }

    /// Turns our shared lock on `users.lock` into an exclusive one, if nobody else has a share.
    fn is_last_user(&self) -> Result<bool, Error> {
        let asked = Instant::now();
        loop {
            match self.users.try_lock() {
                Ok(()) => return Ok(true),
                Err(TryLockError::WouldBlock) if asked.elapsed() < OTHER_USERS_PATIENCE => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(error)) => {
                    return Err(error).doing(|| "cannot lock users.lock".to_owned());
                }
            }
        }
    }

    fn ensure_postgres(&self, programs: &mut Option<Programs>) -> Result<(), Error> {
        if is_postgres_up(&self.state()) {
            return Ok(());
        }
        stop_postgres(&self.setup.places, &self.state())?;
        let postgres = &find_or_fetch(&self.setup, programs)?.postgres;
        if self.setup.places.postgres_is_elsewhere() {
            (self.setup.progress)(&format!(
                "PostgreSQL's account cannot reach {}; the data are in {}.",
                self.setup.places.dir.display(),
                self.setup.places.postgres_area.display()
            ));
        }
        let port = self.state().postgres.map(|server| server.port);
        with_attempts(port, |port| {
            let record = |process| self.record(|state| &mut state.postgres, port, process);
            postgres::start(&self.setup, postgres, &self.password, port, record)
        })
    }

    fn ensure_redis(&self, programs: &mut Option<Programs>) -> Result<(), Error> {
        if is_redis_up(&self.state(), &self.password) {
            return Ok(());
        }
        stop_redis(&self.state())?;
        let redis = &find_or_fetch(&self.setup, programs)?.redis;
        let port = self.state().redis.map(|server| server.port);
        with_attempts(port, |port| {
            let record = |process| self.record(|state| &mut state.redis, port, process);
            redis::start(&self.setup, redis, &self.password, port, record)
        })
    }

    fn record(
        &self,
        which: impl FnOnce(&mut State) -> &mut Option<Server>,
        port: u16,
        process: Process,
    ) -> Result<(), Error> {
        let mut state = self.state();
        *which(&mut state) = Some(Server { port, process });
        state.save(&self.setup.places.dir)
    }

    /// Another process may have restarted a server since we looked.
    fn reload(&self) -> Result<(), Error> {
        *self.state() = State::load(&self.setup.places.dir)?;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is replaced as a whole, so a panic elsewhere cannot have left half of one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes `start.lock`; it is released when the file is dropped.
fn lock_start(setup: &Setup) -> Result<File, Error> {
    let lock = open_lock(&setup.places.dir.join("start.lock"))?;
    lock.lock().doing(|| "cannot lock start.lock".to_owned())?;
    Ok(lock)
}

/// The servers' password. When none is recorded, the folder is new or its owner has emptied it:
/// a cluster that lies elsewhere, with an unknown password, goes as well.
fn password(setup: &Setup) -> Result<String, Error> {
    if let Some(password) = setup.places.password()? {
        return Ok(password);
    }
    let state = State::load(&setup.places.dir)?;
    stop_redis(&state)?;
    stop_postgres(&setup.places, &state)?;
    postgres::remove_cluster(&setup.places)?;
    setup.places.create_password()
}

/// The programs on this machine, fetched when they are missing. Looked for at most once.
fn find_or_fetch<'a>(setup: &Setup, known: &'a mut Option<Programs>) -> Result<&'a Programs, Error> {
    let programs = match known.take() {
        Some(programs) => programs,
        None => match find::programs(&setup.places)? {
            Some(programs) => programs,
            None => fetch::fetch_missing(setup)?,
        },
    };
    Ok(known.insert(programs))
}

/// Calls `start` with the recorded port, or with a new free one each time when none is recorded.
fn with_attempts(recorded: Option<u16>, start: impl Fn(u16) -> Result<(), Error>) -> Result<(), Error> {
    let mut attempt = 1;
    loop {
        let port = recorded.map_or_else(port::free, Ok)?;
        match start(port) {
            Err(Error::DidNotStart { .. }) if attempt < START_ATTEMPTS => {
                std::thread::sleep(ATTEMPT_PAUSE);
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

fn is_postgres_alive(state: &State) -> bool {
    state.postgres.is_some_and(|it| it.process.is_alive())
}

fn is_redis_alive(state: &State) -> bool {
    state.redis.is_some_and(|it| it.process.is_alive())
}

fn is_postgres_up(state: &State) -> bool {
    let answers = |it: Server| server::is_up(it.process, || postgres::accepts_logins(it.port));
    state.postgres.is_some_and(answers)
}

fn is_redis_up(state: &State, password: &str) -> bool {
    let answers = |it: Server| server::is_up(it.process, || redis::answers(it.port, password));
    state.redis.is_some_and(answers)
}

/// Stops the recorded PostgreSQL, and one that runs on our data without being recorded.
fn stop_postgres(places: &Places, state: &State) -> Result<(), Error> {
    if let Some(server) = state.postgres {
        server.process.stop(postgres::STOP)?;
    }
    match postgres::leftover(places)? {
        Some(process) => process.stop(postgres::STOP),
        None => Ok(()),
    }
}

fn stop_redis(state: &State) -> Result<(), Error> {
    match state.redis {
        Some(server) => server.process.stop(redis::STOP),
        None => Ok(()),
    }
}
