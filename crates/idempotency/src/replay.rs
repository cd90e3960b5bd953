//! Finds the answer of an earlier try.

use db::Result;
use domain::id::TenantId;
use domain::{Refusal, Timestamp};

use crate::{Answer, Idempotency, KEPT, RequestKey, store};

impl Idempotency {
    /// The answer that this very request got in the last 24 hours; `None` where it got none yet.
    /// Refused with `idempotency-key-reused` where the key stands for another request.
    pub async fn replay(
        &self,
        tenant: TenantId,
        request: &RequestKey,
        now: Timestamp,
    ) -> Result<Option<Answer>> {
        let stored = self
            .db
            .transaction(tenant, async |tx| store::find(tx, tenant, request.key(), now - KEPT).await)
            .await?;
        let Some(stored) = stored else { return Ok(None) };
        if stored.fingerprint != request.fingerprint() {
            return Err(Refusal::IdempotencyKeyReused.into());
        }
        stored.answer()
    }
}
