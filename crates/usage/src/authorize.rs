//! May this request start?

use db::{Error, Result};
use domain::hold::{Hold, expires_at, request_fingerprint};
use domain::id::{CustomerId, ExternalId};
use domain::rating::{Estimate, NoCost, estimate};
use domain::usage::TokenCounts;
use domain::{Refusal, TenantScope};
use ledger::HoldRequest;

use crate::Usage;

/// A request that a gateway is about to forward.
#[derive(Debug, Clone)]
pub struct AuthorizeRequest {
    /// Made by the client: the same id and request answer the same hold.
    pub id: ExternalId,
    pub customer: CustomerId,
    pub model: String,
    /// The prompt, by kind; its output counts are not looked at.
    pub prompt: TokenCounts,
    /// What the request asks for at most; none if it does not say.
    pub output_tokens_max: Option<u64>,
}

/// A granted authorization.
#[derive(Debug, Clone)]
pub struct Authorized {
    pub hold: Hold,
    pub version: i64,
    pub estimate: Estimate,
    /// The most output that the held Credits pay for, where they are less than the estimate.
    pub max_output_tokens: Option<u64>,
}

impl Usage {
    /// Holds a request's estimated cost. Refused: `insufficient_quota` with what is needed and
    /// left, `not-rated`, `amount-overflow`, `authorization-reused`, `authorization-ended`, `account-parked`,
    /// `not-found`.
    pub async fn authorize(&self, scope: &TenantScope, request: AuthorizeRequest) -> Result<Authorized> {
        let estimate = self.price(scope, &request.model, &request.prompt, request.output_tokens_max).await?;
        let fingerprint =
            request_fingerprint(request.customer, &request.model, &request.prompt, request.output_tokens_max);
        let wanted = HoldRequest {
            id: request.id,
            full: estimate.full,
            prompt_only: estimate.prompt_only,
            now: scope.now,
            expires_at: expires_at(scope.now, scope.policies.hold_minutes),
            fingerprint,
        };
        let granted = self.parts.ledger.hold(scope, request.customer, &wanted).await?;
        let is_partial = granted.hold.credits < estimate.full;
        let max_output_tokens =
            if is_partial { estimate.output_tokens_paid_by(granted.hold.credits) } else { None };
        Ok(Authorized { hold: granted.hold, version: granted.version, estimate, max_output_tokens })
    }

    /// What a request would hold, without holding it.
    pub async fn price(
        &self,
        scope: &TenantScope,
        model: &str,
        prompt: &TokenCounts,
        output_tokens_max: Option<u64>,
    ) -> Result<Estimate> {
        let history = self.parts.catalogs.history(scope.tenant).await?;
        let catalog = history.at(scope.now);
        let estimate = estimate(
            catalog.map(|catalog| catalog.as_ref()),
            model,
            prompt,
            output_tokens_max,
            scope.policies.estimate_output_tokens_max,
            scope.now,
        );
        estimate.map_err(|no_cost| match no_cost {
            NoCost::Refused(refusal) => Error::Refused(refusal),
            NoCost::Unrated(unrated) => {
                Error::Refused(Refusal::NotRated { reason: unrated.code().to_owned() })
            }
        })
    }

    /// Releases an authorization without a charge; see [`ledger::Ledger::release`].
    pub async fn release(&self, scope: &TenantScope, customer: CustomerId, id: &ExternalId) -> Result<i64> {
        self.parts.ledger.release(scope, customer, id).await
    }
}
