//! Holds that are asked for while a call is under way share the next one: the call, not the data, is
//! what a hold costs Redis. No timer: a hold that finds nobody calling is sent at once.
//!
//! The calls are made by a task of their own, so a caller that goes away breaks none of the others. It
//! ends when nobody waits. On a cluster the holds of each slot are gathered by themselves.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use redis::cluster_routing::Slot;
use tokio::sync::oneshot;

use crate::hold::{HoldAnswer, HoldRequest};
use crate::{AccountKey, Away, CALL_MAX, Epoch, HotBalances};

/// The most holds in one call: past some dozens a call costs as much a hold as two, and takes longer.
const HOLDS_A_CALL: usize = 64;
/// How many calls are under way at once.
const CALLS_MAX: usize = 1;

/// One hold that is asked for, and who waits for its answer.
pub(crate) struct Asked {
    pub(crate) account: AccountKey,
    pub(crate) epoch: Epoch,
    pub(crate) request: HoldRequest,
    answer: oneshot::Sender<Result<HoldAnswer, Away>>,
}

impl Asked {
    pub(crate) fn answer(self, answer: Result<HoldAnswer, Away>) {
        // Nobody hears it where the caller has gone; the hold runs out by its time.
        let _ = self.answer.send(answer);
    }
}

/// What can share a call: everything, or on a cluster what lies in one slot.
type LaneKey = Option<Slot>;

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

    /// The next call's holds; none where nobody waits.
    fn next(&self, key: LaneKey) -> Vec<Asked> {
        let mut lanes = self.lanes();
        let Some(lane) = lanes.get_mut(&key) else { return Vec::new() };
        let rest = lane.waiting.split_off(lane.waiting.len().min(HOLDS_A_CALL));
        std::mem::replace(&mut lane.waiting, rest)
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
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut lanes = self.hot.0.gathered.lanes();
        if let Some(lane) = lanes.get_mut(&self.key) {
            lane.calls -= 1;
            if lane.calls == 0 {
                // Those that still wait, where it did not come to the end, hear that nobody answers.
                lanes.remove(&self.key);
            }
        }
    }
}

impl Sender {
    async fn send_all(self) {
        loop {
            let holds = self.hot.0.gathered.next(self.key);
            if holds.is_empty() {
                return;
            }
            if let Err(away) = self.hot.send(holds).await {
                // Their calls would only wait as long once more.
                for asked in std::iter::repeat_with(|| self.hot.0.gathered.next(self.key))
                    .take_while(|holds| !holds.is_empty())
                    .flatten()
                {
                    asked.answer(Err(away.clone()));
                }
            }
        }
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
        let asked = Asked { account, epoch, request: request.clone(), answer };
        let key = self.0.markers.slot(account);
        if self.0.gathered.wait(key, asked) {
            tokio::spawn(Sender { hot: self.clone(), key }.send_all());
        }
        let answer = answered.await.unwrap_or_else(|_| Err(Away("the call was given up".to_owned())));
        if begun.elapsed() > CALL_MAX {
            return Err(Away(format!("no answer within {} ms", CALL_MAX.as_millis())));
        }
        answer
    }
}
