//! Holds that are asked for while calls are under way share the next one, and what they have in common:
//! the call, and of one account the reading, the check and the writing of its balance. No timer: a hold
//! that finds nobody calling is sent at once.
//!
//! The calls are made by a task of their own, so a caller that goes away breaks none of the others. It
//! ends when nobody waits. The holds of each runtime are gathered by themselves, so that no answer has to
//! wake another thread of the web server; those of each epoch as well, and on a cluster those of each slot.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use redis::cluster_routing::Slot;
use tokio::runtime;
use tokio::sync::oneshot;

use crate::hold::{HoldAnswer, HoldRequest};
use crate::{AccountKey, Away, CALL_MAX, Epoch, HotBalances};

/// The most holds in one call: past a dozen a hold costs no less, and everybody waits for the whole call.
const HOLDS_A_CALL: usize = 64;
/// How many calls are under way at once: with one, Redis is idle while its answers are given out.
const CALLS_MAX: usize = 2;

/// One hold that is asked for, and who waits for its answer.
pub(crate) struct Asked {
    pub(crate) account: AccountKey,
    pub(crate) request: HoldRequest,
    answer: oneshot::Sender<Result<HoldAnswer, Away>>,
}

impl Asked {
    pub(crate) fn answer(self, answer: Result<HoldAnswer, Away>) {
        // Nobody hears it where the caller has gone; the hold runs out by its time.
        let _ = self.answer.send(answer);
    }
}

/// What can share a call: all that one runtime asks for in one epoch, or on a cluster what of it lies in one slot.
type LaneKey = (runtime::Id, Epoch, Option<Slot>);

#[derive(Default)]
struct Lane {
    waiting: Vec<Asked>,
    calls: usize,
}

#[derive(Default)]
pub(crate) struct Gathered(Mutex<HashMap<LaneKey, Lane>>);

impl Gathered {
    /// Puts a hold among those that wait; `true` where somebody has to send them.
    fn wait(&self, key: LaneKey, asked: Asked) -> bool {
        let mut lanes = self.lanes();
        let lane = lanes.entry(key).or_default();
        lane.waiting.push(asked);
        let needs_sender = lane.calls < CALLS_MAX;
        if needs_sender {
            lane.calls += 1;
        }
        needs_sender
    }

    /// The next call's holds. None where nobody waits: whoever asks has left then, in the same step, so
    /// that a hold which comes right after finds a sender missing.
    fn next_or_leave(&self, key: LaneKey) -> Option<Vec<Asked>> {
        let mut lanes = self.lanes();
        let lane = lanes.get_mut(&key)?;
        if lane.waiting.is_empty() {
            lane.calls -= 1;
            if lane.calls == 0 {
                lanes.remove(&key);
            }
            return None;
        }
        let rest = lane.waiting.split_off(lane.waiting.len().min(HOLDS_A_CALL));
        Some(std::mem::replace(&mut lane.waiting, rest))
    }

    /// Everything that waits.
    fn take_all(&self, key: LaneKey) -> Vec<Asked> {
        self.lanes().get_mut(&key).map(|lane| std::mem::take(&mut lane.waiting)).unwrap_or_default()
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<LaneKey, Lane>> {
        // Each change is one push or one replacement: a panic elsewhere leaves the lanes whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever sends a lane's holds, until it leaves: at the end, or because its runtime is shut down.
struct Sender {
    hot: HotBalances,
    key: LaneKey,
    has_left: bool,
}

impl Drop for Sender {
    fn drop(&mut self) {
        if self.has_left {
            return;
        }
        let mut lanes = self.hot.0.gathered.lanes();
        if let Some(lane) = lanes.get_mut(&self.key) {
            lane.calls -= 1;
            if lane.calls == 0 {
                // Those that still wait hear that nobody answers.
                lanes.remove(&self.key);
            }
        }
    }
}

impl Sender {
    async fn send_all(mut self) {
        let (_, epoch, _) = self.key;
        while let Some(holds) = self.hot.0.gathered.next_or_leave(self.key) {
            if let Err(away) = self.hot.send(epoch, holds).await {
                // Their calls would only wait as long once more.
                for asked in self.hot.0.gathered.take_all(self.key) {
                    asked.answer(Err(away.clone()));
                }
            }
        }
        self.has_left = true;
    }
}

impl HotBalances {
    /// Holds Credits, once per hold id. A grant is never answered later than [`CALL_MAX`].
    pub async fn hold(
        &self,
        account: AccountKey,
        epoch: Epoch,
        request: &HoldRequest,
    ) -> Result<HoldAnswer, Away> {
        let begun = Instant::now();
        let (answer, answered) = oneshot::channel();
        let asked = Asked { account, request: request.clone(), answer };
        let key = (runtime::Handle::current().id(), epoch, self.0.markers.slot(account));
        if self.0.gathered.wait(key, asked) {
            tokio::spawn(Sender { hot: self.clone(), key, has_left: false }.send_all());
        }
        let answer = answered.await.unwrap_or_else(|_| Err(Away("the call was given up".to_owned())));
        if begun.elapsed() > CALL_MAX {
            return Err(Away(format!("no answer within {} ms", CALL_MAX.as_millis())));
        }
        answer
    }
}
