//! Holds that are asked for at the same time, or while calls are under way, share the next one: what a call
//! costs by itself is paid once.
//!
//! The holds of each runtime are gathered by themselves, so that no answer has to wake another thread of the web
//! server; those of each epoch as well, and on a cluster those of each slot.

use std::sync::Arc;
use std::time::Instant;

use lanes::{Caller, Lanes};
use redis::cluster_routing::Slot;
use tokio::runtime;
use tokio::sync::oneshot;

use crate::hold::{HoldAnswer, HoldRequest};
use crate::{AccountKey, Away, CALL_MAX, Epoch, HotBalances};

/// The most holds in one call: past a dozen a hold costs no less, and everybody waits for the whole call.
const HOLDS_A_CALL: usize = 64;
/// How many calls are under way at once: with one, Redis is idle while its answers are given out.
const CALLS_MAX: usize = 4;

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

pub(crate) type Gathered = Arc<Lanes<LaneKey, Asked>>;

pub(crate) fn gathered() -> Gathered {
    Lanes::new(CALLS_MAX, HOLDS_A_CALL)
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
        if let Some(caller) = self.0.gathered.wait(key, asked) {
            tokio::spawn(self.clone().send_all(caller));
        }
        let answer = answered.await.unwrap_or_else(|_| Err(Away("the call was given up".to_owned())));
        if begun.elapsed() > CALL_MAX {
            return Err(Away(format!("no answer within {} ms", CALL_MAX.as_millis())));
        }
        answer
    }

    async fn send_all(self, mut caller: Caller<LaneKey, Asked>) {
        let (_, epoch, _) = caller.key();
        while let Some(holds) = caller.next_or_leave() {
            if let Err(away) = self.send(epoch, holds).await {
                // Their calls would only wait as long once more.
                for asked in caller.take_all() {
                    asked.answer(Err(away.clone()));
                }
            }
        }
    }
}
