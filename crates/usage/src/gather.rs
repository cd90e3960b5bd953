//! Gathers concurrent requests into shared batches: what arrives while batches are being written waits for the next one. Half as
//! many batches cost a good deal less, and who was answered last is likely to be back at once: so the next batch waits for
//! them for a moment. Whoever is alone waits for nobody; nor does a request of few customers, as nobody knows which lane the
//! next one of its sender has.
//!
//! There are some lanes, each of which writes one batch at a time, and each customer has one of them: so two batches of this
//! server do not wait for each other's locks. A request of customers of several lanes is taken apart: what it says of one
//! customer is written wholly or not at all. While Redis is told of a batch, the next one of its lane is written already.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use db::{Error, Result};
use domain::TenantScope;
use domain::id::{CustomerId, TenantId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::record::{EventResult, UsageEvent, publish, write_batch};
use crate::{BATCH_EVENTS_MAX, Parts};

/// Requests that may wait in a lane; one more is told to come back later.
const WAITING_REQUESTS_MAX: usize = 4_096;
/// Batches that are written at the same time.
const LANES: usize = 2;
/// How long a batch waits for requests that are likely to come, or half as long as the last one took where that is less.
const WAIT_MAX: Duration = Duration::from_millis(10);

/// Events of one caller, of the customers of one lane, and where their answer goes.
pub(crate) struct Request {
    pub(crate) scope: TenantScope,
    pub(crate) events: Vec<UsageEvent>,
    /// The other lanes have events of its caller as well.
    is_in_all_lanes: bool,
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
        let is_in_all_lanes = of_lanes.iter().all(|events| !events.is_empty());
        let mut reserved = Vec::with_capacity(LANES);
        for (lane, events) in self.lanes.iter().zip(of_lanes) {
            let place = (!events.is_empty()).then(|| lane.try_reserve()).transpose();
            let place =
                place.map_err(|_| Error::Unavailable("too many usage requests are waiting".to_owned()))?;
            reserved.push((place, events));
        }
        let sent = reserved.into_iter().map(|(place, events)| {
            let (reply, answer) = oneshot::channel();
            place?.send(Request { scope: scope.clone(), events, is_in_all_lanes, reply });
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
    // How many requests a batch is to have, and how long it waits for them.
    let (mut expected, mut wait) = (1, Duration::ZERO);
    while let Some(first) = waiting.recv().await {
        let batch = fill_batch(first, &mut waiting, expected, wait).await;
        let likely_back = batch.iter().filter(|request| request.is_in_all_lanes).count();
        let begun = Instant::now();
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
        expected = likely_back + waiting.len();
        wait = WAIT_MAX.min(begun.elapsed() / 2);
    }
    if let Some(telling) = telling {
        let _ = telling.await;
    }
}

/// Takes what waits, and waits for as many requests as are expected, until there are as many events as a request may have: so
/// fewer than twice as many.
async fn fill_batch(
    first: Request,
    waiting: &mut mpsc::Receiver<Request>,
    expected: usize,
    wait: Duration,
) -> Vec<Request> {
    let until = Instant::now() + wait;
    let mut count = first.events.len();
    let mut batch = vec![first];
    while count < BATCH_EVENTS_MAX {
        let request = match waiting.try_recv() {
            Ok(request) => request,
            Err(_) if batch.len() >= expected => break,
            Err(_) => match timeout_at(until, waiting.recv()).await {
                Ok(Some(request)) => request,
                Ok(None) | Err(_) => break,
            },
        };
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

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use domain::calendar::Zone;
    use domain::scope::TenantMode;
    use futures_util::FutureExt;
    use uuid::Uuid;

    use super::*;

    fn request() -> Request {
        let scope = TenantScope {
            tenant: TenantId::from_uuid(Uuid::nil()),
            mode: TenantMode::Live,
            zone: Zone::UTC,
            now: DateTime::UNIX_EPOCH,
            policies: Arc::default(),
        };
        Request { scope, events: Vec::new(), is_in_all_lanes: true, reply: oneshot::channel().0 }
    }

    #[tokio::test]
    async fn a_batch_waits_for_as_many_requests_as_are_expected_and_not_for_long() {
        let (requests, mut waiting) = mpsc::channel(8);
        let alone = fill_batch(request(), &mut waiting, 1, WAIT_MAX).now_or_never();
        assert_eq!(alone.expect("nobody is waited for").len(), 1);

        for _ in 0..2 {
            requests.send(request()).await.unwrap();
        }
        let all_there = fill_batch(request(), &mut waiting, 1, WAIT_MAX).now_or_never();
        assert_eq!(all_there.expect("what waits is taken").len(), 3);

        let another = async {
            tokio::task::yield_now().await;
            requests.send(request()).await.unwrap();
        };
        let (batch, ()) = tokio::join!(fill_batch(request(), &mut waiting, 2, WAIT_MAX), another);
        assert_eq!(batch.len(), 2, "it has come meanwhile");

        let given_up = fill_batch(request(), &mut waiting, 2, WAIT_MAX).await;
        assert_eq!(given_up.len(), 1, "nobody came");
    }
}
