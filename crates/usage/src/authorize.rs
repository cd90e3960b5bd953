//! May this request start?

use db::{Error, Result};
use domain::cycle_rates::{Asked, cost_in_cycle, cost_in_force, depends_on_cycle};
use domain::exhaustion::Exhaustion;
use domain::hold::{Hold, expires_at, request_fingerprint};
use domain::id::{CustomerId, ExternalId};
use domain::policy::DearerRates;
use domain::rating::{Estimate, NoCost, Unrated};
use domain::usage::TokenCounts;
use domain::{Credits, Refusal, TenantScope, Timestamp};
use ledger::{Decision, Granted, HoldRequest, Short};

use crate::Usage;
use crate::overdraft::PaysFor;

/// A request that a gateway is about to forward.
#[derive(Debug, Clone)]
pub struct AuthorizeRequest {
    /// Made by the client: the same id and request answer the same hold.
    pub id: ExternalId,
    pub customer: CustomerId,
    pub model: ExternalId,
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
    /// Holds a request's estimated cost. Without enough Credits it may start all the same where the customer pays by the token
    /// and is below the spend cap, or a top-up buys itself: then all that is left is held. Refused: `insufficient_quota` with what is needed and
    /// left, `not-rated`, `amount-overflow`, `authorization-reused`, `authorization-ended`, `account-parked`,
    /// `subscription-suspended`, `not-found`.
    pub async fn authorize(&self, scope: &TenantScope, request: AuthorizeRequest) -> Result<Authorized> {
        let asked = Asked {
            model: request.model.as_str(),
            prompt: &request.prompt,
            output_tokens_max: request.output_tokens_max,
            estimate_output_tokens_max: scope.policies.estimate_output_tokens_max,
        };
        let estimate = match self.estimate(scope, Some(request.customer), &asked).await {
            // A model that is sold for money alone: nothing of it is held in Credits.
            Err(Error::Refused(Refusal::NotRated { reason })) if reason == Unrated::NoCreditRate.code() => {
                None
            }
            estimate => Some(estimate?),
        };
        let fingerprint =
            request_fingerprint(request.customer, asked.model, &request.prompt, request.output_tokens_max);
        let wanted = HoldRequest {
            id: request.id,
            full: estimate.as_ref().map_or(Credits::ZERO, |estimate| estimate.full),
            prompt_only: estimate.as_ref().map_or(Credits::ZERO, |estimate| estimate.prompt_only),
            now: scope.now,
            expires_at: expires_at(scope.now, scope.policies.hold_minutes),
            fingerprint,
        };
        let Some(estimate) = estimate else {
            let granted = self.hold_in_money(scope, request.customer, &asked, &wanted).await?;
            let (estimate, max_output_tokens) = (Estimate::NOTHING, None);
            return Ok(Authorized {
                hold: granted.hold,
                version: granted.version,
                estimate,
                max_output_tokens,
            });
        };
        let granted = match self.parts.ledger.hold(scope, request.customer, &wanted).await? {
            Decision::Granted(granted) => granted,
            Decision::OutOfCredits(Short { out, exhaustion }) => {
                // What Redis says of the customer tells those who have nothing but Credits: a refusal of theirs costs no query.
                if exhaustion.unwrap_or(scope.policies.exhaustion) == Exhaustion::Absorb {
                    return Err(Refusal::OutOfCredits(out).into());
                }
                // Boxed: hardly one request runs it.
                let without = Box::pin(self.hold_without_credits(
                    scope,
                    request.customer,
                    &asked,
                    &wanted,
                    PaysFor::Credits,
                ));
                let granted = without.await?.ok_or(Refusal::OutOfCredits(out))?;
                let (hold, version, max_output_tokens) = (granted.hold, granted.version, None);
                return Ok(Authorized { hold, version, estimate, max_output_tokens });
            }
        };
        let held = granted.hold.credits;
        // Less than the prompt, or nothing, is held only where something else pays the rest: the repeat of such a request
        // is answered as the first one was.
        let is_paid_otherwise = held < estimate.prompt_only || held.is_zero();
        let is_partial = held < estimate.full && !is_paid_otherwise;
        let max_output_tokens = if is_partial { estimate.output_tokens_paid_by(held) } else { None };
        Ok(Authorized { hold: granted.hold, version: granted.version, estimate, max_output_tokens })
    }

    /// Starts a request of a model that has no Credit rate, where the customer pays by the token. Refused: `not-rated`.
    async fn hold_in_money(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        asked: &Asked<'_>,
        wanted: &HoldRequest,
    ) -> Result<Granted> {
        let without =
            Box::pin(self.hold_without_credits(scope, customer, asked, wanted, PaysFor::MoneyAlone));
        let reason = Unrated::NoCreditRate.code().to_owned();
        Ok(without.await?.ok_or(Refusal::NotRated { reason })?)
    }

    /// What a request would hold, without holding it, for a customer who is in no paid cycle.
    pub async fn price(
        &self,
        scope: &TenantScope,
        model: &str,
        prompt: &TokenCounts,
        output_tokens_max: Option<u64>,
    ) -> Result<Estimate> {
        let asked = Asked {
            model,
            prompt,
            output_tokens_max,
            estimate_output_tokens_max: scope.policies.estimate_output_tokens_max,
        };
        self.estimate(scope, None, &asked).await
    }

    async fn estimate(
        &self,
        scope: &TenantScope,
        customer: Option<CustomerId>,
        asked: &Asked<'_>,
    ) -> Result<Estimate> {
        let history = self.parts.catalogs.history(scope.tenant).await?;
        let keeps_rates = scope.policies.dearer_rates == DearerRates::NextCycle;
        let estimate = match customer {
            Some(customer) if keeps_rates && depends_on_cycle(asked, &history, scope.now) => {
                // Boxed: hardly one request runs it.
                let cycle_start = Box::pin(self.cycle_start(scope, customer)).await?;
                cost_in_cycle(asked, &history, cycle_start, scope.now)
            }
            Some(_) | None => cost_in_force(asked, &history, scope.now),
        };
        estimate.map_err(|no_cost| match no_cost {
            NoCost::Refused(refusal) => Error::Refused(refusal),
            NoCost::Unrated(unrated) => {
                Error::Refused(Refusal::NotRated { reason: unrated.code().to_owned() })
            }
        })
    }

    /// None also while PostgreSQL is away: a hold is then of the dearer rate, and what is charged is not.
    async fn cycle_start(&self, scope: &TenantScope, customer: CustomerId) -> Result<Option<Timestamp>> {
        let tenant = scope.tenant;
        let asked = [(customer, scope.now)];
        let starts = self
            .parts
            .db
            .transaction(tenant, async |tx| ledger::paid_cycle_starts(tx, tenant, &asked).await)
            .await;
        match starts {
            Ok(starts) => Ok(starts.into_iter().next().flatten()),
            Err(Error::Unavailable(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lets an authorization run on; see [`ledger::Ledger::renew`].
    pub async fn renew(&self, scope: &TenantScope, customer: CustomerId, id: &ExternalId) -> Result<Granted> {
        self.parts.ledger.renew(scope, customer, id).await
    }

    /// Releases an authorization without a charge; see [`ledger::Ledger::release`].
    pub async fn release(&self, scope: &TenantScope, customer: CustomerId, id: &ExternalId) -> Result<i64> {
        self.parts.ledger.release(scope, customer, id).await
    }
}
