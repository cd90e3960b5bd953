//! Gathers concurrent requests into shared batches: what arrives while batches are being written
//! waits for the next one, and no timer is involved.
//!
//! There are some lanes, each of which writes one batch at a time, and each customer has one of them: so two batches of this
//! server do not wait for each other's locks. A request of customers of several lanes is taken apart: what it says of one
//! customer is written wholly or not at all. While Redis is told of a batch, the next one of its lane is written already.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use db::{Error, Result};
use domain::TenantScope;
use domain::id::{CustomerId, TenantId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::record::{EventResult, UsageEvent, publish, write_batch};
use crate::{BATCH_EVENTS_MAX, Parts};

/// Requests that may wait in a lane; one more is told to come back later.
const WAITING_REQUESTS_MAX: usize = 4_096;
/// Batches that are written at the same time.
const LANES: usize = 2;

/// Events of one caller, of the customers of one lane, and where their answer goes.
pub(crate) struct Request {
    pub(crate) scope: TenantScope,
    pub(crate) events: Vec<UsageEvent>,
    reply: oneshot::Sender<Result<Vec<EventResult>>>,
}

#[derive(Clone)]
pub(crate) struct Gatherer {
    lanes: Arc<[mpsc::Sender<Request>; LANES]>,
}

impl Gatherer {
    pub(crate) fn start(parts: Arc<Parts>) -> Gatherer {
        let lanes = std::array::from_fn(|_| {
            let (requests, waiting) = mpsc::channel(WAITING_REQUESTS_MAX);
            tokio::spawn(gather(parts.clone(), waiting));
            requests
        });
        Gatherer { lanes: Arc::new(lanes) }
    }

    /// Sends one caller's events and waits for their results, in order. The work goes on when the
    /// caller goes away: a transaction is never dropped half way.
    pub(crate) async fn send(&self, scope: TenantScope, events: Vec<UsageEvent>) -> Result<Vec<EventResult>> {
        let lane_of_each = lanes_of(&events);
        let mut of_lanes: [Vec<UsageEvent>; LANES] =
            std::array::from_fn(|_| Vec::with_capacity(events.len()));
        for (event, lane) in events.into_iter().zip(&lane_of_each) {
            of_lanes[*lane].push(event);
        }
        let mut results: [_; LANES] = Default::default();
        for (results, answer) in results.iter_mut().zip(self.send_all(&scope, of_lanes)?) {
            if let Some(answer) = answer {
                *results = answer.await.map_err(|_| given_up())??.into_iter();
            }
        }
        lane_of_each.into_iter().map(|lane| results[lane].next().ok_or_else(given_up)).collect()
    }

    /// Sends each lane its events; nothing at all where one of the lanes is full.
    fn send_all(
        &self,
        scope: &TenantScope,
        of_lanes: [Vec<UsageEvent>; LANES],
    ) -> Result<Vec<Option<Answer>>> {
        let mut reserved = Vec::with_capacity(LANES);
        for (lane, events) in self.lanes.iter().zip(of_lanes) {
            let place = (!events.is_empty()).then(|| lane.try_reserve()).transpose();
            let place =
                place.map_err(|_| Error::Unavailable("too many usage requests are waiting".to_owned()))?;
            reserved.push((place, events));
        }
        let sent = reserved.into_iter().map(|(place, events)| {
            let (reply, answer) = oneshot::channel();
            place?.send(Request { scope: scope.clone(), events, reply });
            Some(answer)
        });
        Ok(sent.collect())
    }
}

type Answer = oneshot::Receiver<Result<Vec<EventResult>>>;

fn given_up() -> Error {
    Error::broken("a batch of usage events was given up")
}

/// Each event's lane: its customer's. Where an id is used for several customers, whose event counts is a matter of the order:
/// then one lane has all of them.
fn lanes_of(events: &[UsageEvent]) -> Vec<usize> {
    let mut customer_of: HashMap<(&str, &str), CustomerId> = HashMap::with_capacity(events.len());
    for UsageEvent { source, id, customer, .. } in events {
        if *customer_of.entry((source, id)).or_insert(*customer) != *customer {
            return vec![0; events.len()];
        }
    }
    events.iter().map(|event| lane_of(event.customer)).collect()
}

/// By the random end of its id.
fn lane_of(customer: CustomerId) -> usize {
    let [.., random] = customer.uuid().into_bytes();
    usize::from(random) % LANES
}

/// Ends when the last [`Gatherer`] is gone and everything that was sent is answered.
async fn gather(parts: Arc<Parts>, mut waiting: mpsc::Receiver<Request>) {
    let mut telling: Option<JoinHandle<()>> = None;
    while let Some(first) = waiting.recv().await {
        for requests in by_tenant(fill_batch(first, &mut waiting)).into_values() {
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
    if let Some(telling) = telling {
        let _ = telling.await;
    }
}

/// Takes what waits, until there are as many events as a request may have: so fewer than twice as many.
fn fill_batch(first: Request, waiting: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let mut count = first.events.len();
    let mut batch = vec![first];
    while count < BATCH_EVENTS_MAX
        && let Ok(request) = waiting.try_recv()
    {
        count += request.events.len();
        batch.push(request);
    }
    batch
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
        // Sums that are too large, and nothing of the batch is written. What a request says of the other lane's customers may be:
        // so its events are answered, and not the request.
        Err(Error::Refused(refusal)) => {
            for request in requests {
                let each = vec![EventResult::Rejected(refusal.clone()); request.events.len()];
                let _ = request.reply.send(Ok(each));
            }
        }
        Err(error) => {
            for request in requests {
                let _ = request.reply.send(Err(error.to_each()));
            }
        }
    }
}
