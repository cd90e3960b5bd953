//! Webhooks on a real database, sent to a real socket.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::Utc;
use db::{Db, Error};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, SmallInt, Text};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use domain::calendar::Zone;
use domain::id::{EndpointId, EventId, TenantId};
use domain::scope::TenantMode;
use domain::{Refusal, TenantScope};
use outbox::NewEvent;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use scheduler::{NewJob, Options, Worker};
use serde_json::{Value, json};
use testkit::Stores;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;
use webhooks::{AllowList, WebhookKey, Webhooks, jobs};

const SECRET: &[u8] = b"the tests' own secret, 32 bytes..";
const PATIENCE: Duration = Duration::from_secs(20);

/// What a receiver does with a request.
enum Reply {
    Answer(String),
    /// Says nothing.
    Hang,
    /// Answers 200, and never stops.
    Endless,
}

fn status(code: u16) -> Reply {
    Reply::Answer(format!("HTTP/1.1 {code} X\r\ncontent-length: 0\r\n\r\n"))
}

struct Request {
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Somebody else's server, on the loopback.
struct Receiver {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    /// Replies as it is told, one after another, and then with 200.
    async fn start(replies: impl IntoIterator<Item = Reply>) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let replies = Arc::new(Mutex::new(replies.into_iter().collect::<VecDeque<_>>()));
        let log = seen.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, replies) = (log.clone(), replies.clone());
                tokio::spawn(async move {
                    let _ = serve(stream, &seen, &replies).await;
                });
            }
        });
        Receiver { address, seen }
    }

    fn url(&self) -> String {
        format!("http://{}/hook?x=1", self.address)
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn event_ids(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|request| request.header("webhook-id").to_owned()).collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Request>>,
    replies: &Mutex<VecDeque<Reply>>,
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
    assert_eq!(lines.next(), Some("POST /hook?x=1 HTTP/1.1"));
    let headers: HeaderMap = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
        .collect();
    let length: usize = headers["content-length"].to_str().unwrap().parse().unwrap();
    while bytes.len() < head_end + length {
        stream.read_buf(&mut bytes).await?;
    }
    seen.lock().unwrap().push(Request { headers, body: bytes[head_end..].to_vec() });
    let reply = replies.lock().unwrap().pop_front().unwrap_or_else(|| status(200));
    match reply {
        Reply::Answer(text) => stream.write_all(text.as_bytes()).await,
        Reply::Hang => {
            sleep(Duration::from_secs(60)).await;
            Ok(())
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n").await?;
            loop {
                stream.write_all(&[b'x'; 4_096]).await?;
            }
        }
    }
}

/// One row of `webhook_deliveries`.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Nullable<SmallInt>)]
    last_status: Option<i16>,
    #[diesel(sql_type = Nullable<Text>)]
    last_error: Option<String>,
    /// Seconds until the next attempt.
    #[diesel(sql_type = Nullable<BigInt>)]
    due_in: Option<i64>,
}

struct Given {
    stores: Stores,
    db: Db,
    webhooks: Arc<Webhooks>,
    /// Stops the worker when dropped.
    _stop: watch::Sender<bool>,
}

fn webhooks(db: &Db, secret: &[u8], allowed: &str) -> Arc<Webhooks> {
    let key = WebhookKey::derive(secret).unwrap();
    Arc::new(Webhooks::new(db.clone(), key, allowed.parse::<AllowList>().unwrap()))
}

/// Does the jobs until the sender is dropped.
fn work(db: &Db, webhooks: &Arc<Webhooks>) -> watch::Sender<bool> {
    let (sender, receiver) = watch::channel(false);
    let options = Options { poll_every: Duration::from_millis(20), ..Options::default() };
    let mut worker = Worker::new(db.clone(), options);
    for (kind, handler) in jobs::handlers(webhooks) {
        worker = worker.on(kind, handler);
    }
    tokio::spawn(worker.run(receiver));
    sender
}

/// The loopback is allowed.
async fn given() -> Given {
    let stores = Stores::fresh().await;
    let db = stores.db();
    let webhooks = webhooks(&db, SECRET, "127.0.0.1, ::1");
    let stop = work(&db, &webhooks);
    Given { stores, db, webhooks, _stop: stop }
}

impl Given {
    async fn change(&self, sql: &str) {
        self.stores.superuser().await.batch_execute(sql).await.unwrap();
    }

    async fn tenant(&self, mode: TenantMode) -> TenantScope {
        let tenant = TenantId::from_uuid(Uuid::now_v7());
        let name = if mode == TenantMode::Live { "live" } else { "test" };
        self.change(&format!(
            "insert into tenants (tenant_id, name, mode, zone, created_at)
             values ('{}', 'T', '{name}', 'UTC', now())",
            tenant.uuid()
        ))
        .await;
        TenantScope { tenant, mode, zone: Zone::UTC, now: Utc::now(), policies: Arc::default() }
    }

    async fn emit(&self, scope: &TenantScope, number: i64) -> EventId {
        self.db
            .transaction(scope.tenant, async |tx| {
                let event = NewEvent {
                    kind: "subscription.activated",
                    subject: format!("sub_{number}"),
                    payload: json!({ "number": number, "name": "caf\u{e9}" }),
                };
                outbox::emit(tx, scope.tenant, event, scope.now).await
            })
            .await
            .unwrap()
    }

    /// As a tick does.
    async fn tick(&self) {
        self.db
            .all_tenants_transaction(async |tx| {
                let key = Uuid::now_v7().to_string();
                let job = NewJob::due_at_once(jobs::PLAN_DELIVERIES, key, json!({}));
                scheduler::enqueue(tx, job, Utc::now()).await
            })
            .await
            .unwrap();
    }

    async fn count(&self, sql: &str) -> i64 {
        #[derive(QueryableByName)]
        struct Count {
            #[diesel(sql_type = BigInt)]
            count: i64,
        }
        let row: Count = diesel::sql_query(format!("select count(*) as count from {sql}"))
            .get_result(&mut self.stores.superuser().await)
            .await
            .unwrap();
        row.count
    }

    async fn until_none(&self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.count(what).await > 0 {
            assert!(Instant::now() < deadline, "still there: {what}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ticks, and waits until all is done that is due.
    async fn run(&self) {
        self.tick().await;
        self.until_none("jobs where state = 'queued'").await;
        self.until_none("outbox where dispatched_at is null").await;
        assert_eq!(self.count("jobs where state = 'parked'").await, 0);
    }

    /// The pause is over. A new second as well: one job an endpoint and second.
    async fn make_due(&self) {
        self.change("update webhook_deliveries set due_at = now() where state = 'waiting'").await;
        sleep(Duration::from_millis(1_000)).await;
    }

    async fn deliveries(&self, endpoint: EndpointId) -> Vec<Row> {
        diesel::sql_query(format!(
            "select state, attempts, last_status, last_error,
                 extract(epoch from due_at - now())::bigint as due_in
             from webhook_deliveries where endpoint_id = '{}' order by event_id",
            endpoint.uuid()
        ))
        .load(&mut self.stores.superuser().await)
        .await
        .unwrap()
    }

    async fn delivery(&self, endpoint: EndpointId) -> Row {
        let rows = self.deliveries(endpoint).await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0].clone()
    }
}

fn delivered(attempts: i32) -> Row {
    Row { state: "delivered".to_owned(), attempts, last_status: Some(200), last_error: None, due_in: None }
}

fn dead(attempts: i32, last_status: Option<i16>, error: &str) -> Row {
    Row { state: "dead".to_owned(), attempts, last_status, last_error: Some(error.to_owned()), due_in: None }
}

fn reason(error: Error) -> &'static str {
    match error {
        Error::Refused(Refusal::UrlNotAllowed { reason }) => reason,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_arrives_once_and_the_stock_verifier_takes_it() {
    let given = given().await;
    let scope = given.tenant(TenantMode::Test).await;
    let receiver = Receiver::start([]).await;
    let endpoint = given.webhooks.create_endpoint(&scope, &receiver.url()).await.unwrap();
    let event = given.emit(&scope, 7).await;
    given.run().await;
    given.run().await;
    assert_eq!(given.delivery(endpoint.id).await, delivered(1));

    let seen = receiver.seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    let request = &seen[0];
    let verifier = standardwebhooks::Webhook::new(&endpoint.secret).unwrap();
    verifier.verify(&request.body, &request.headers).unwrap();
    let other = standardwebhooks::Webhook::new("whsec_plJ3nmyCDGBKInavdOK15jsl").unwrap();
    assert!(other.verify(&request.body, &request.headers).is_err());
    assert_eq!(request.header("webhook-id"), event.to_string());
    assert_eq!(request.header("content-type"), "application/json");
    assert!(request.header("user-agent").starts_with("Tollgate/"));
    let sent_at: i64 = request.header("webhook-timestamp").parse().unwrap();
    assert!((Utc::now().timestamp() - sent_at).abs() < 60, "real time");
    let body = request.json();
    assert_eq!(body["type"], "subscription.activated");
    assert_eq!(body["id"], event.to_string());
    assert_eq!(body["subject"], "sub_7");
    assert_eq!(body["data"], json!({ "number": 7, "name": "caf\u{e9}" }));
    let timestamp = domain::time::parse_rfc3339(body["timestamp"].as_str().unwrap());
    assert_eq!(timestamp, Some(domain::time::truncate_to_micros(scope.now)));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_endpoint_gets_each_event_of_its_own_tenant_once_whoever_works() {
    let given = given().await;
    let _second_worker = work(&given.db, &given.webhooks);
    let (ours, theirs) = (given.tenant(TenantMode::Test).await, given.tenant(TenantMode::Test).await);
    let (a, b, foreign) = (Receiver::start([]).await, Receiver::start([]).await, Receiver::start([]).await);
    for (scope, receiver) in [(&ours, &a), (&ours, &b), (&theirs, &foreign)] {
        given.webhooks.create_endpoint(scope, &receiver.url()).await.unwrap();
    }
    let disabled = given.webhooks.create_endpoint(&ours, &b.url()).await.unwrap();
    given.webhooks.disable_endpoint(&ours, disabled.id).await.unwrap();
    let mut events = Vec::new();
    for number in 0..30 {
        events.push(given.emit(&ours, number).await.to_string());
    }
    let their_event = given.emit(&theirs, 99).await.to_string();
    for _ in 0..4 {
        given.tick().await;
    }
    given.run().await;
    // Whoever found the endpoint leased left the rest to the next tick.
    while given.count("webhook_deliveries where state = 'waiting'").await > 0 {
        sleep(Duration::from_millis(500)).await;
        given.run().await;
    }
    for receiver in [&a, &b] {
        let mut seen = receiver.event_ids();
        seen.sort();
        assert_eq!(seen, events);
    }
    assert_eq!(foreign.event_ids(), [their_event]);
    assert_eq!(given.deliveries(disabled.id).await, []);
    assert_eq!(given.count("webhook_deliveries").await, 61);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_sent_again_until_it_arrives() {
    let given = given().await;
    let scope = given.tenant(TenantMode::Test).await;
    let garbage = Reply::Answer("SSH-2.0-x\r\n".to_owned());
    let receiver = Receiver::start([status(500), garbage, status(429)]).await;
    let endpoint = given.webhooks.create_endpoint(&scope, &receiver.url()).await.unwrap();
    given.emit(&scope, 1).await;
    given.run().await;
    let row = given.delivery(endpoint.id).await;
    assert_eq!((row.state.as_str(), row.attempts, row.last_status), ("waiting", 1, Some(500)));
    assert_eq!(row.last_error.as_deref(), Some("answered 500"));
    assert!((3..=6).contains(&row.due_in.unwrap()), "{row:?}");
    given.run().await;
    assert_eq!(receiver.count(), 1, "not before its time");

    for (attempts, last_status) in [(2, None), (3, Some(429))] {
        given.make_due().await;
        given.run().await;
        let row = given.delivery(endpoint.id).await;
        assert_eq!((row.state.as_str(), row.attempts, row.last_status), ("waiting", attempts, last_status));
    }
    given.make_due().await;
    given.run().await;
    assert_eq!(given.delivery(endpoint.id).await, delivered(4));
    let ids = receiver.event_ids();
    assert!(ids.len() == 4 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_arrives_is_dead_after_eight_attempts() {
    let given = given().await;
    let scope = given.tenant(TenantMode::Test).await;
    // Nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/");
    let endpoint = given.webhooks.create_endpoint(&scope, &url).await.unwrap();
    given.emit(&scope, 1).await;
    given.run().await;
    given.change("update webhook_deliveries set attempts = 7").await;
    given.make_due().await;
    given.run().await;
    let row = given.delivery(endpoint.id).await;
    assert_eq!(row, dead(8, None, row.last_error.as_deref().unwrap()));
    assert!(row.last_error.unwrap().contains("refused"));
    let still_there = given.webhooks.endpoints(&scope).await.unwrap();
    assert_eq!(still_there[0].disabled_at, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_gone_is_disabled_and_all_that_waits_for_it_is_dead() {
    let given = given().await;
    let scope = given.tenant(TenantMode::Test).await;
    let receiver = Receiver::start([status(500), status(410)]).await;
    let endpoint = given.webhooks.create_endpoint(&scope, &receiver.url()).await.unwrap();
    given.emit(&scope, 1).await;
    given.run().await;
    // The first waits for its second attempt when the second is told.
    sleep(Duration::from_millis(1_000)).await;
    given.emit(&scope, 2).await;
    given.run().await;
    let gone = "the endpoint is gone (410)";
    assert_eq!(given.deliveries(endpoint.id).await, [dead(1, Some(500), gone), dead(1, Some(410), gone)]);
    let listed = given.webhooks.endpoints(&scope).await.unwrap();
    assert!(listed[0].disabled_at.is_some());
    given.emit(&scope, 3).await;
    given.run().await;
    assert_eq!((receiver.count(), given.deliveries(endpoint.id).await.len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed() {
    let given = given().await;
    let scope = given.tenant(TenantMode::Test).await;
    let target = Receiver::start([]).await;
    let location = |code| {
        Reply::Answer(format!("HTTP/1.1 {code} X\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", target.url()))
    };
    let receiver = Receiver::start([location(302), location(307)]).await;
    let endpoint = given.webhooks.create_endpoint(&scope, &receiver.url()).await.unwrap();
    given.emit(&scope, 1).await;
    given.emit(&scope, 2).await;
    given.run().await;
    let rows = given.deliveries(endpoint.id).await;
    let mut errors: Vec<&str> = rows.iter().filter_map(|row| row.last_error.as_deref()).collect();
    errors.sort_unstable();
    assert_eq!(
        errors,
        ["answered 302; redirects are not followed", "answered 307; redirects are not followed"]
    );
    assert_eq!((receiver.count(), target.count()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_inside_when_it_is_sent_to_is_blocked() {
    let stores = Stores::fresh().await;
    let db = stores.db();
    // The endpoints were made when the loopback was allowed; for those who send it is not.
    let stop = work(&db, &webhooks(&db, SECRET, ""));
    let given = Given { stores, webhooks: webhooks(&db, SECRET, "127.0.0.1, ::1"), db, _stop: stop };
    let scope = given.tenant(TenantMode::Test).await;
    let receiver = Receiver::start([]).await;
    let mut endpoints = Vec::new();
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{}/hook?x=1", receiver.address.port());
        endpoints.push(given.webhooks.create_endpoint(&scope, &url).await.unwrap());
    }
    given.emit(&scope, 1).await;
    given.run().await;
    for endpoint in &endpoints {
        let row = given.delivery(endpoint.id).await;
        assert_eq!(
            (row.state.as_str(), row.attempts, row.last_status),
            ("waiting", 1, None),
            "{}",
            endpoint.url
        );
        let blocked = Some("blocked: the host is not on the public internet");
        assert_eq!(row.last_error.as_deref(), blocked, "{}", endpoint.url);
    }
    assert_eq!(receiver.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_resolved_and_sent_to_where_that_is_allowed() {
    let given = given().await;
    let scope = given.tenant(TenantMode::Test).await;
    let receiver = Receiver::start([]).await;
    let url = format!("http://localhost:{}/hook?x=1", receiver.address.port());
    let endpoint = given.webhooks.create_endpoint(&scope, &url).await.unwrap();
    given.emit(&scope, 1).await;
    given.run().await;
    assert_eq!(given.delivery(endpoint.id).await, delivered(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_url_makes_no_endpoint() {
    let given = given().await;
    let (test, live) = (given.tenant(TenantMode::Test).await, given.tenant(TenantMode::Live).await);
    let webhooks = &given.webhooks;
    let inside = webhooks.create_endpoint(&test, "http://169.254.169.254/latest").await;
    assert_eq!(reason(inside.err().unwrap()), "the host is not on the public internet");
    let plain = webhooks.create_endpoint(&live, "http://example.com").await;
    assert_eq!(reason(plain.err().unwrap()), "a live tenant's must be https");
    let user = webhooks.create_endpoint(&test, "https://user:pw@example.com").await;
    assert_eq!(reason(user.err().unwrap()), "it has a user name or a password");
    assert_eq!(given.count("webhook_endpoints").await, 0);
    let fine = webhooks.create_endpoint(&live, "https://EXAMPLE.com/hook").await.unwrap();
    assert_eq!(fine.url, "https://example.com/hook");
    assert!(fine.secret.starts_with("whsec_") && fine.secret.len() == 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_or_never_stops_holds_up_nobody_else() {
    let given = given().await;
    let scope = given.tenant(TenantMode::Test).await;
    let stuck = Receiver::start((0..40).map(|_| Reply::Hang)).await;
    let endless = Receiver::start([Reply::Endless]).await;
    let fine = Receiver::start([]).await;
    let stuck_endpoint = given.webhooks.create_endpoint(&scope, &stuck.url()).await.unwrap();
    for number in 0..20 {
        given.emit(&scope, number).await;
    }
    given.tick().await;
    given.until_none("outbox where dispatched_at is null").await;
    let endless_endpoint = given.webhooks.create_endpoint(&scope, &endless.url()).await.unwrap();
    let fine_endpoint = given.webhooks.create_endpoint(&scope, &fine.url()).await.unwrap();
    given.emit(&scope, 20).await;
    let started = Instant::now();
    given.tick().await;
    for endpoint in [fine_endpoint, endless_endpoint] {
        while given.deliveries(endpoint.id).await != [delivered(1)] {
            assert!(started.elapsed() < Duration::from_secs(8), "held up");
            sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(fine.count(), 1);
    assert_eq!(stuck.count(), 8, "one batch, however much waits");
    let timed_out = format!(
        "webhook_deliveries where endpoint_id = '{}' and attempts = 1 and last_error = 'timed out'",
        stuck_endpoint.id.uuid()
    );
    let all_recorded = async {
        while given.count(&timed_out).await < 8 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, all_recorded).await.expect("fifteen seconds are over");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_alone_does_not_hold_the_secret() {
    let given = given().await;
    let scope = given.tenant(TenantMode::Test).await;
    let receiver = Receiver::start([]).await;
    let endpoint = given.webhooks.create_endpoint(&scope, &receiver.url()).await.unwrap();
    given.emit(&scope, 1).await;
    let secret = endpoint.secret.trim_start_matches("whsec_");
    let held = format!(
        "webhook_endpoints where strpos(encode(sealed_secret, 'base64'), '{secret}') > 0
             or position(decode('{secret}', 'base64') in sealed_secret) > 0"
    );
    assert_eq!(given.count(&held).await, 0);
    // Another installation's secret opens nothing: then nothing is sent, rather than signed wrongly.
    let other = webhooks(&given.db, b"another installation's secret....", "127.0.0.1");
    let (_, deliver) =
        jobs::handlers(&other).into_iter().find(|(kind, _)| *kind == jobs::DELIVER_WEBHOOKS).unwrap();
    let plan = jobs::handlers(&other).into_iter().find(|(kind, _)| *kind == jobs::PLAN_DELIVERIES).unwrap().1;
    given.change("update webhook_endpoints set leased_until = now() + interval '1 hour'").await;
    plan(json!({})).await.unwrap();
    given.change("update webhook_endpoints set leased_until = null").await;
    let payload = json!({ "tenant": scope.tenant, "endpoint": endpoint.id });
    let error = deliver(payload).await.unwrap_err().to_string();
    assert!(error.contains("does not open"), "{error}");
    assert_eq!(receiver.count(), 0);
    assert_eq!(given.delivery(endpoint.id).await.attempts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_listed_and_disabled_by_their_own_tenant_only() {
    let given = given().await;
    let (ours, theirs) = (given.tenant(TenantMode::Test).await, given.tenant(TenantMode::Test).await);
    let webhooks = &given.webhooks;
    let first = webhooks.create_endpoint(&ours, "https://example.com/1").await.unwrap();
    let second = webhooks.create_endpoint(&ours, "https://example.com/2").await.unwrap();
    let urls = |endpoints: &[webhooks::Endpoint]| endpoints.iter().map(|e| e.url.clone()).collect::<Vec<_>>();
    let listed = webhooks.endpoints(&ours).await.unwrap();
    assert_eq!(urls(&listed), [first.url, second.url]);
    assert_eq!(listed[0].created_at, first.created_at);
    assert_eq!(webhooks.endpoints(&theirs).await.unwrap(), []);

    let foreign = webhooks.disable_endpoint(&theirs, first.id).await;
    assert!(matches!(foreign, Err(Error::Refused(Refusal::NotFound { what: "webhook endpoint" }))));
    let disabled = webhooks.disable_endpoint(&ours, first.id).await.unwrap();
    assert!(disabled.disabled_at.is_some());
    assert_eq!(webhooks.disable_endpoint(&ours, first.id).await.unwrap(), disabled, "it stays as it is");
    let listed = webhooks.endpoints(&ours).await.unwrap();
    assert_eq!((listed[0].disabled_at, listed[1].disabled_at), (disabled.disabled_at, None));
}
