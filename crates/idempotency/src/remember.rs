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
    /// Keeps the answer with a claimed key. The first answer stays; a key that was never claimed,
    /// or was claimed by another request since, keeps nothing.
    pub async fn remember(&self, tenant: TenantId, request: &RequestKey, answer: &Answer) -> Result<()> {
        self.db.transaction(tenant, async |tx| store::set_answer(tx, tenant, request, answer).await).await
    }
}
