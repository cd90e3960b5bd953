//! Gathers concurrent requests into shared batches: what arrives while batches are being written
//! waits for the next one, and no timer is involved.
//!
//! There are some lanes, each of which writes one batch at a time. A request goes whole, so that it is written wholly
//! or not at all: to the lane of its customer, so that of requests of one customer each no two batches of this server
//! wait for each other's locks; one of several customers to the lane that has the least to do. While Redis is told of a
//! batch, the next one of its lane is written already.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use db::{Error, Result};
use domain::TenantScope;
use domain::id::TenantId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::record::{EventResult, UsageEvent, publish, write_batch};
use crate::{BATCH_EVENTS_MAX, Parts};

/// Requests that may wait; one more is told to come back later.
const WAITING_REQUESTS_MAX: usize = 4_096;
/// Batches that are written at the same time.
const LANES: usize = 2;

/// One caller's events and where its answer goes.
pub(crate) struct Request {
    pub(crate) scope: TenantScope,
    pub(crate) events: Vec<UsageEvent>,
    _on_lane: OnLane,
    reply: oneshot::Sender<Result<Vec<EventResult>>>,
}

#[derive(Clone)]
pub(crate) struct Gatherer {
    lanes: Arc<[Lane; LANES]>,
}

struct Lane {
    requests: mpsc::Sender<Request>,
    /// Events that are not answered yet, whether or not somebody waits for that.
    events: Arc<AtomicUsize>,
}

/// Counts a request's events among those of its lane, until it is dropped.
struct OnLane {
    lane_events: Arc<AtomicUsize>,
    events: usize,
}

impl Gatherer {
    pub(crate) fn start(parts: Arc<Parts>) -> Gatherer {
        let lanes = std::array::from_fn(|_| {
            let (requests, waiting) = mpsc::channel(WAITING_REQUESTS_MAX);
            tokio::spawn(gather(parts.clone(), waiting));
            Lane { requests, events: Arc::default() }
        });
        Gatherer { lanes: Arc::new(lanes) }
    }

    /// Sends one caller's events and waits for their results, in order. The work goes on when the
    /// caller goes away: a transaction is never dropped half way.
    pub(crate) async fn send(&self, scope: TenantScope, events: Vec<UsageEvent>) -> Result<Vec<EventResult>> {
        let (reply, answer) = oneshot::channel();
        let lane = self.lane(&events);
        let _on_lane = OnLane::of(lane, events.len());
        lane.requests
            .try_send(Request { scope, events, _on_lane, reply })
            .map_err(|_| Error::Unavailable("too many usage requests are waiting".to_owned()))?;
        answer.await.map_err(|_| Error::broken("a batch of usage events was given up"))?
    }

    fn lane(&self, events: &[UsageEvent]) -> &Lane {
        let first = events.first().map(|event| event.customer);
        if events.iter().any(|event| Some(event.customer) != first) {
            let least = self.lanes.iter().min_by_key(|lane| lane.events.load(Ordering::Relaxed));
            return least.unwrap_or(&self.lanes[0]);
        }
        // By the random end of its id.
        let [.., random] = first.map_or([0; 16], |customer| customer.uuid().into_bytes());
        &self.lanes[usize::from(random) % LANES]
    }
}

impl OnLane {
    fn of(lane: &Lane, events: usize) -> OnLane {
        lane.events.fetch_add(events, Ordering::Relaxed);
        OnLane { lane_events: lane.events.clone(), events }
    }
}

impl Drop for OnLane {
    fn drop(&mut self) {
        self.lane_events.fetch_sub(self.events, Ordering::Relaxed);
    }
}

/// Ends when the last [`Gatherer`] is gone and everything that was sent is answered.
async fn gather(parts: Arc<Parts>, mut waiting: mpsc::Receiver<Request>) {
    let mut left_over = None;
    let mut telling: Option<JoinHandle<()>> = None;
    loop {
        let first = match left_over.take() {
            Some(request) => Some(request),
            None => waiting.recv().await,
        };
        let Some(first) = first else {
            if let Some(telling) = telling {
                let _ = telling.await;
            }
            return;
        };
        let (batch, rest) = fill_batch(first, &mut waiting);
        left_over = rest;
        for requests in by_tenant(batch).into_values() {
            let (written, is_written) = oneshot::channel();
            // In a task of its own: what goes wrong there ends no lane.
            let task = tokio::spawn(write_and_answer(parts.clone(), requests, written));
            // The transaction has ended, or the task has.
            let _ = is_written.await;
            // One batch of a lane is told at a time: where Redis is slow, writing waits for it.
            if let Some(earlier) = telling.replace(task) {
                let _ = earlier.await;
            }
        }
    }
}

/// Takes what waits, up to a batch's size; a request that no longer fits begins the next batch.
fn fill_batch(first: Request, waiting: &mut mpsc::Receiver<Request>) -> (Vec<Request>, Option<Request>) {
    let mut count = first.events.len();
    let mut batch = vec![first];
    while let Ok(request) = waiting.try_recv() {
        count += request.events.len();
        if count > BATCH_EVENTS_MAX {
            return (batch, Some(request));
        }
        batch.push(request);
    }
    (batch, None)
}

fn by_tenant(batch: Vec<Request>) -> BTreeMap<TenantId, Vec<Request>> {
    let mut tenants: BTreeMap<TenantId, Vec<Request>> = BTreeMap::new();
    for request in batch {
        tenants.entry(request.scope.tenant).or_default().push(request);
    }
    tenants
}

/// `written` is told, or dropped, once the transaction has ended.
async fn write_and_answer(parts: Arc<Parts>, requests: Vec<Request>, written: oneshot::Sender<()>) {
    let batch = write_batch(&parts, &requests).await;
    let _ = written.send(());
    let told = match batch {
        Ok(batch) => publish(&parts, batch).await,
        Err(error) => Err(error),
    };
    match told {
        Ok(results) => {
            let mut results = results.into_iter();
            for request in requests {
                let own = results.by_ref().take(request.events.len()).collect();
                // A caller that went away does not read its answer; the events are recorded.
                let _ = request.reply.send(Ok(own));
            }
        }
        Err(error) => {
            for request in requests {
                let _ = request.reply.send(Err(error.to_each()));
            }
        }
    }
}
