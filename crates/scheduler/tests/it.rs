//! The job queue on a real database: every job once, and none lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, DurationRound, SecondsFormat, TimeDelta, Utc};
use db::{Db, Error};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text};
use diesel_async::SimpleAsyncConnection;
use scheduler::{Handler, NewJob, Options, Slot, Tick, Ticker, Worker, enqueue, handler};
use serde_json::{Value, json};
use testkit::{LoneServers, Stores};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Longer than any of these tests.
const LONG_LEASE: Duration = Duration::from_secs(600);
const SHORT_LEASE: Duration = Duration::from_millis(600);

const OPTIONS: Options = Options {
    jobs_max: 4,
    poll_every: Duration::from_millis(20),
    lease: LONG_LEASE,
    failures_max: 2,
    cut_off_max: 3,
};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn job(kind: &'static str, key: &str) -> NewJob {
    NewJob::due_at_once(kind, key.to_owned(), json!({ "key": key }))
}

async fn add(db: &Db, kind: &'static str, key: &str) -> bool {
    db.all_tenants_transaction(async |tx| enqueue(tx, job(kind, key), at(0)).await).await.unwrap()
}

/// A job as it is stored.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
struct Stored {
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Bool)]
    is_leased: bool,
    #[diesel(sql_type = Nullable<Text>)]
    last_error: Option<String>,
    /// Seconds until it is due.
    #[diesel(sql_type = BigInt)]
    due_in: i64,
}

async fn stored(stores: &Stores, kind: &str) -> Vec<Stored> {
    stored_of_kinds(stores, &[kind]).await
}

async fn stored_of_kinds(stores: &Stores, kinds: &[&str]) -> Vec<Stored> {
    // Here only: its `load` hides the one of an atomic.
    use diesel_async::RunQueryDsl;
    diesel::sql_query(
        "select key, state, attempts, leased_until is not null as is_leased, last_error, \
             ceil(extract(epoch from run_at - now()))::bigint as due_in \
         from jobs where kind = any ($1) order by kind, key",
    )
    .bind::<Array<Text>, _>(kinds)
    .load(&mut stores.superuser().await)
    .await
    .unwrap()
}

async fn the_job(stores: &Stores, kind: &str) -> Stored {
    let [job] = &stored(stores, kind).await[..] else { panic!("one job of kind {kind}") };
    job.clone()
}

/// Asks until there is an answer.
async fn until<T>(ask: impl AsyncFn() -> Option<T>) -> T {
    let given_up_at = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < given_up_at, "waited in vain");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The kind's one job, once it is in this state.
async fn job_in(stores: &Stores, kind: &str, state: &str) -> Stored {
    until(async || Some(the_job(stores, kind).await).filter(|job| job.state == state)).await
}

async fn change(stores: &Stores, sql: &str) {
    stores.superuser().await.batch_execute(sql).await.unwrap();
}

/// A worker in a task of its own.
struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

fn start(worker: Worker) -> Running {
    let (stop, stopped) = watch::channel(false);
    Running { stop, task: tokio::spawn(worker.run(stopped)) }
}

impl Running {
    async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
    }

    /// As a process that is killed: nothing of it is written any more.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// A handler that a test holds at its start.
#[derive(Clone, Default)]
struct Gate {
    entered: Arc<Notify>,
    opened: Arc<Notify>,
}

impl Gate {
    /// Returns once more when a handler has come to the gate once more.
    async fn entered(&self) {
        tokio::time::timeout(Duration::from_secs(10), self.entered.notified()).await.expect("nobody came");
    }

    fn open(&self) {
        self.opened.notify_one();
    }

    /// Answers with `error` once the gate is opened, or well where that is empty.
    fn handler(&self, error: &'static str) -> Handler {
        let gate = self.clone();
        handler(move |_| {
            let gate = gate.clone();
            async move {
                gate.entered.notify_one();
                gate.opened.notified().await;
                if error.is_empty() { Ok(()) } else { Err(Error::broken(error)) }
            }
        })
    }
}

fn counting(runs: &Arc<AtomicU32>) -> Handler {
    let runs = runs.clone();
    handler(move |_| {
        runs.fetch_add(1, Ordering::Relaxed);
        async { Ok(()) }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_stored_once_per_kind_and_key_with_its_transaction() {
    let stores = Stores::fresh().await;
    let db = stores.db();
    let rolled_back = db
        .all_tenants_transaction(async |tx| {
            assert!(enqueue(tx, job("bill", "1"), at(0)).await?);
            Err::<(), _>(Error::broken("no"))
        })
        .await;
    rolled_back.unwrap_err();
    assert_eq!(stored(&stores, "bill").await, [], "rolled back with its transaction");

    let at_once = (0..10).map(|_| {
        let db = db.clone();
        tokio::spawn(async move { add(&db, "bill", "1").await })
    });
    let mut new = 0;
    for added in at_once.collect::<Vec<_>>() {
        new += u32::from(added.await.unwrap());
    }
    assert_eq!(new, 1, "10 at once, one stored");
    assert!(add(&db, "bill", "2").await, "another key");
    assert!(add(&db, "mail", "1").await, "another kind");

    let worker = start(Worker::new(db.clone(), OPTIONS).on("mail", counting(&Arc::default())));
    job_in(&stores, "mail", "done").await;
    worker.stop().await;
    assert!(!add(&db, "mail", "1").await, "a done job is still the same job");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_do_200_jobs_each_once() {
    let stores = Stores::fresh().await;
    stores
        .db()
        .all_tenants_transaction(async |tx| {
            for n in 0..200 {
                enqueue(tx, job("count", &format!("{n:03}")), at(0)).await?;
            }
            Ok(())
        })
        .await
        .unwrap();
    let done: Arc<Mutex<Vec<(usize, Value)>>> = Arc::default();
    let workers = [0, 1].map(|worker| {
        let done = done.clone();
        let count = handler(move |payload| {
            done.lock().unwrap().push((worker, payload));
            async { Ok(()) }
        });
        start(Worker::new(stores.db(), OPTIONS).on("count", count))
    });
    until(async || stored(&stores, "count").await.iter().all(|job| job.state == "done").then_some(())).await;
    for worker in workers {
        worker.stop().await;
    }
    let done = done.lock().unwrap().clone();
    let mut keys: Vec<&str> = done.iter().map(|(_, payload)| payload["key"].as_str().unwrap()).collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..200).map(|n| format!("{n:03}")).collect::<Vec<_>>(), "each once");
    for worker in [0, 1] {
        assert!(done.iter().any(|(by, _)| *by == worker), "worker {worker} did some");
    }
    assert!(stored(&stores, "count").await.iter().all(|job| job.attempts == 1 && !job.is_leased));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_or_panicking_job_is_tried_again_and_then_parked_with_its_error() {
    let stores = Stores::fresh().await;
    let (db, runs) = (stores.db(), Arc::new(AtomicU32::new(0)));
    for kind in ["fails", "panics", "recovers"] {
        add(&db, kind, "1").await;
    }
    let recovers = {
        let runs = runs.clone();
        handler(move |_| {
            let is_first = runs.fetch_add(1, Ordering::Relaxed) == 0;
            async move { if is_first { Err(Error::Unavailable("not yet".to_owned())) } else { Ok(()) } }
        })
    };
    let worker = Worker::new(db, OPTIONS)
        .on("fails", handler(|_| async { Err(Error::broken("the sky fell")) }))
        .on("panics", handler(|_| async { panic!("at the {}", "disco") }))
        .on("recovers", recovers);
    let worker = start(worker);

    let errors = [
        ("fails", "the sky fell"),
        ("panics", "panicked: at the disco"),
        ("recovers", "storage unavailable: not yet"),
    ];
    let kinds = errors.map(|(kind, _)| kind);
    let failed = until(async || {
        let failed = stored_of_kinds(&stores, &kinds).await;
        failed.iter().all(|job| job.last_error.is_some()).then_some(failed)
    })
    .await;
    for (job, (kind, error)) in failed.iter().zip(errors) {
        let waits = (job.state.as_str(), job.attempts, job.is_leased, job.last_error.as_deref());
        assert_eq!(waits, ("queued", 1, false, Some(error)), "{kind}");
        assert!((1..=2).contains(&job.due_in), "{kind} again in 2 seconds: {job:?}");
    }
    // The 2 seconds are over.
    change(&stores, "update jobs set run_at = now()").await;
    for (kind, error) in &errors[..2] {
        let parked = job_in(&stores, kind, "parked").await;
        assert_eq!((parked.attempts, parked.last_error.as_deref()), (2, Some(*error)));
    }
    let done = job_in(&stores, "recovers", "done").await;
    assert_eq!((done.attempts, done.last_error), (2, None));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_workers_job_is_taken_over_and_a_live_ones_is_not() {
    let stores = Stores::fresh().await;
    let options = Options { lease: SHORT_LEASE, ..OPTIONS };
    add(&stores.db(), "work", "1").await;
    let (first, second) = (Gate::default(), Gate::default());
    let dead = start(Worker::new(stores.db(), options).on("work", first.handler("")));
    first.entered().await;
    let took_over_in = Instant::now();
    dead.kill().await;

    let (live, idle_runs) = (second.clone(), Arc::new(AtomicU32::new(0)));
    let live = start(Worker::new(stores.db(), options).on("work", live.handler("")));
    second.entered().await;
    assert!(took_over_in.elapsed() > SHORT_LEASE / 2, "not before the lease was over");
    assert_eq!(the_job(&stores, "work").await.attempts, 2);

    // For longer than its lease the live worker works, and renews.
    let idle = start(Worker::new(stores.db(), options).on("work", counting(&idle_runs)));
    tokio::time::sleep(SHORT_LEASE * 2).await;
    second.open();
    let done = job_in(&stores, "work", "done").await;
    assert_eq!((done.attempts, idle_runs.load(Ordering::Relaxed)), (2, 0));
    live.stop().await;
    idle.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finishes_late_does_not_write_over_who_took_the_job_over() {
    let stores = Stores::fresh().await;
    add(&stores.db(), "work", "1").await;
    let (slow, quick) = (Gate::default(), Gate::default());
    // It has no place for the same job once more.
    let busy = Options { jobs_max: 1, ..OPTIONS };
    let slow_worker = start(Worker::new(stores.db(), busy).on("work", slow.handler("")));
    slow.entered().await;
    change(&stores, "update jobs set leased_until = now()").await;
    let quick_worker = start(Worker::new(stores.db(), OPTIONS).on("work", quick.handler("disk full")));
    quick.entered().await;

    slow.open();
    slow_worker.stop().await;
    let running = the_job(&stores, "work").await;
    assert_eq!((running.state.as_str(), running.attempts, running.is_leased), ("queued", 2, true));

    quick.open();
    quick_worker.stop().await;
    let failed = the_job(&stores, "work").await;
    assert_eq!((failed.is_leased, failed.last_error.as_deref()), (false, Some("disk full")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_its_worker_every_time_is_parked_at_last() {
    let stores = Stores::fresh().await;
    let runs = Arc::new(AtomicU32::new(0));
    add(&stores.db(), "deadly", "1").await;
    change(&stores, "update jobs set attempts = 3, leased_until = now() - interval '1 second'").await;
    let worker = start(Worker::new(stores.db(), OPTIONS).on("deadly", counting(&runs)));
    job_in(&stores, "deadly", "parked").await;
    assert_eq!(runs.load(Ordering::Relaxed), 0, "not tried a fourth time");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_cut_off_does_not_use_up_the_failures_that_a_job_may_have() {
    let stores = Stores::fresh().await;
    let runs = Arc::new(AtomicU32::new(0));
    add(&stores.db(), "work", "1").await;
    // Two attempts were cut off; two failures would park it.
    change(&stores, "update jobs set attempts = 2, leased_until = now() - interval '1 second'").await;
    let work = {
        let runs = runs.clone();
        handler(move |_| {
            let is_first = runs.fetch_add(1, Ordering::Relaxed) == 0;
            async move { if is_first { Err(Error::broken("no")) } else { Ok(()) } }
        })
    };
    let worker = start(Worker::new(stores.db(), OPTIONS).on("work", work));
    until(async || Some(the_job(&stores, "work").await).filter(|job| job.last_error.is_some())).await;
    change(&stores, "update jobs set run_at = now()").await;
    let done = job_in(&stores, "work", "done").await;
    assert_eq!((done.attempts, runs.load(Ordering::Relaxed)), (4, 2));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_before_its_time_or_of_an_unknown_kind_is_left_alone() {
    let stores = Stores::fresh().await;
    let db = stores.db();
    add(&db, "unknown", "1").await;
    let tomorrow = NewJob { run_at: Utc::now() + TimeDelta::days(1), ..job("later", "1") };
    db.all_tenants_transaction(async |tx| enqueue(tx, tomorrow.clone(), at(0)).await).await.unwrap();
    add(&db, "known", "1").await;
    let runs = Arc::new(AtomicU32::new(0));
    let worker = Worker::new(db, OPTIONS).on("known", counting(&runs)).on("later", counting(&runs));
    let worker = start(worker);
    job_in(&stores, "known", "done").await;
    worker.stop().await;
    for kind in ["unknown", "later"] {
        let job = the_job(&stores, kind).await;
        assert_eq!((job.state.as_str(), job.attempts, job.is_leased), ("queued", 0, false), "{kind}");
    }
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_told_to_stop_ends_the_running_job_and_begins_no_other() {
    let stores = Stores::fresh().await;
    let db = stores.db();
    for key in ["1", "2"] {
        add(&db, "work", key).await;
    }
    let gate = Gate::default();
    let one_at_a_time = Options { jobs_max: 1, ..OPTIONS };
    let mut worker = start(Worker::new(db, one_at_a_time).on("work", gate.handler("")));
    gate.entered().await;
    worker.stop.send(true).unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(200), &mut worker.task).await;
    assert!(waited.is_err(), "it waits for the running job");
    gate.open();
    worker.task.await.unwrap();
    let states: Vec<(String, i32)> =
        stored(&stores, "work").await.into_iter().map(|job| (job.state, job.attempts)).collect();
    assert_eq!(states, [("done".to_owned(), 1), ("queued".to_owned(), 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tickers_make_one_job_a_slot() {
    let stores = Stores::fresh().await;
    let hourly = |kind| Tick { kind, schedule: "* * * * * *", slot: Slot::Hour };
    let hour = |instant: DateTime<Utc>| {
        let slot = instant.duration_trunc(TimeDelta::hours(1)).unwrap();
        slot.to_rfc3339_opts(SecondsFormat::Secs, true)
    };
    let began = hour(Utc::now());
    let first = Ticker::start(stores.db(), &[hourly("shared"), hourly("first")]).await.unwrap();
    let second = Ticker::start(stores.db(), &[hourly("shared"), hourly("second")]).await.unwrap();
    // Two ticks of each: a cron expression ticks once a second at most.
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    first.stop().await.unwrap();
    second.stop().await.unwrap();
    let ended = hour(Utc::now());
    let mut keys = BTreeMap::new();
    for kind in ["shared", "first", "second"] {
        keys.insert(kind, stored(&stores, kind).await.into_iter().map(|job| job.key).collect::<Vec<_>>());
    }
    assert!(!keys["first"].is_empty() && !keys["second"].is_empty(), "both ticked: {keys:?}");
    // The hour may have turned meanwhile.
    assert!(keys["shared"] == [began.clone()] || keys["shared"] == [began, ended], "{keys:?}");

    let no_schedule = Tick { kind: "shared", schedule: "every now and then", slot: Slot::Hour };
    assert!(Ticker::start(stores.db(), &[no_schedule]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_outlives_its_database() {
    let lone = LoneServers::start("scheduler").await;
    let stores = lone.stores();
    let (db, gate) = (stores.db(), Gate::default());
    add(&db, "work", "1").await;
    let options = Options { jobs_max: 1, lease: SHORT_LEASE, ..OPTIONS };
    let worker = start(Worker::new(db.clone(), options).on("work", gate.handler("")));
    gate.entered().await;

    lone.servers().stop_postgres().unwrap();
    assert!(matches!(db.ping().await, Err(Error::Unavailable(_))));
    // It ends while nobody can write that down.
    gate.open();
    tokio::time::sleep(OPTIONS.poll_every * 5).await;
    lone.servers().start_postgres().unwrap();

    gate.entered().await;
    gate.open();
    let done = job_in(&stores, "work", "done").await;
    assert_eq!(done.attempts, 2, "run again when its lease was over");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_done_job_is_kept_for_seven_days_and_a_parked_one_until_someone_decides() {
    let stores = Stores::fresh().await;
    change(
        &stores,
        "insert into jobs (job_id, kind, key, payload, run_at, state, created_at, finished_at) \
         select gen_random_uuid(), 'old', state || ' ' || days, '{}', now(), state, now(), \
             now() - days * interval '1 day' \
         from unnest(array['done', 'parked']) state, unnest(array[6, 8]) days",
    )
    .await;
    let worker = start(Worker::new(stores.db(), OPTIONS));
    until(async || (stored(&stores, "old").await.len() < 4).then_some(())).await;
    worker.stop().await;
    let kept: Vec<String> = stored(&stores, "old").await.into_iter().map(|job| job.key).collect();
    assert_eq!(kept, ["done 6", "parked 6", "parked 8"]);
}
