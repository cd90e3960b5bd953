//! Idempotency keys: a request that changes subscriptions, payments or grants may be sent again,
//! and has one effect (R-35b).
//!
//! # The walk of a request
//! 1. [`RequestKey::new`] reads the header and takes a fingerprint of the request.
//! 2. [`Idempotency::replay`] looks for the answer of an earlier try: there is one, send it.
//! 3. The verb's first transaction calls [`claim`] with the id of what it is about to create. `New`:
//!    it creates that. `Unfinished`: an earlier try created `fact` and died, or is still busy, so
//!    go on from there; every later step is idempotent on the fact's own state.
//! 4. [`Idempotency::remember`] keeps the answer, when it is one worth keeping (2xx and 402), before it is
//!    told: what was told once is told again.
//!
//! Two tries at once meet in step 3: the second waits for the first one's transaction, and then
//! either finds its fact or, if it was rolled back, a free key. So a request that was refused
//! before it created anything leaves no trace, and its key may be used for a corrected one.
//!
//! A key is good for 24 hours of the tenant's time; after that it is free, pruned or not. Each of
//! [`claim`], `replay` and `remember` is one statement.

mod claim;
mod prune;
mod remember;
mod replay;
mod request;
mod store;

pub use claim::{Claim, claim};
pub use remember::Answer;
pub use request::RequestKey;

use chrono::TimeDelta;

/// How long an answer is kept (R-35b).
const KEPT: TimeDelta = TimeDelta::hours(24);

/// The answers to earlier requests; cheap to clone.
#[derive(Clone)]
pub struct Idempotency {
    db: db::Db,
}

impl Idempotency {
    pub fn new(db: db::Db) -> Idempotency {
        Idempotency { db }
    }
}
