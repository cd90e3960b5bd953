//! Keeps an answer for the retries of its request.

use db::Result;
use domain::id::TenantId;
use serde_json::Value;

use crate::{Idempotency, RequestKey, store};

/// What a request was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Idempotency {
    /// Keeps the answer with a claimed key, and returns what the request is to be answered with: the
    /// first answer stays, so where two tries ran at once the second learns the first one's. A key that
    /// was never claimed, or was claimed by another request since, keeps nothing.
    ///
    /// # Errors
    /// Where it could not be kept: then it must not be told, or a repeat might be told another.
    pub async fn remember(&self, tenant: TenantId, request: &RequestKey, answer: Answer) -> Result<Answer> {
        let kept = self
            .db
            .transaction(tenant, async |tx| store::set_answer(tx, tenant, request, &answer).await)
            .await?;
        Ok(kept.unwrap_or(answer))
    }
}
