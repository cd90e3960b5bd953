//! Takes a key, in the transaction of the effect.

use db::{Connection, Result};
use domain::id::TenantId;
use domain::{Refusal, Timestamp};
use uuid::Uuid;

use crate::{KEPT, RequestKey, store};

/// What a key stands for once it is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The key was free: create the fact.
    New,
    /// An earlier try created this fact: go on from it.
    Unfinished { fact: Uuid },
}

/// Claims the key for `fact`, the id (never used before) of what the caller is about to create, and
/// holds it until the transaction ends; waits while another transaction holds it. Call it before
/// any other lock. Refused with `idempotency-key-reused` where the key stands for another request.
pub async fn claim(
    tx: &mut Connection,
    tenant: TenantId,
    request: &RequestKey,
    fact: Uuid,
    now: Timestamp,
) -> Result<Claim> {
    let held = store::take_or_lock(tx, tenant, request, fact, now, now - KEPT).await?;
    if held.fact_id == fact {
        Ok(Claim::New)
    } else if held.fingerprint == request.fingerprint() {
        Ok(Claim::Unfinished { fact: held.fact_id })
    } else {
        Err(Refusal::IdempotencyKeyReused.into())
    }
}
