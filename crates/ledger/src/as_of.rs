//! The past: what an account was at a version or at an instant, from its transfers alone.

use db::{Connection, Result};
use domain::grant::is_live;
use domain::id::CustomerId;
use domain::{Credits, Refusal, TenantScope, Timestamp};

use crate::history::check_customer;
use crate::{Ledger, store};

/// A point in an account's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// After all that was recorded by then.
    Instant(Timestamp),
    /// After the transfer of this version.
    Version(i64),
}

/// A customer's Credits as of a point in the past. What was held then is not recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastBalance {
    /// The last version by then; 0 before the first transfer.
    pub version: i64,
    pub at: Timestamp,
    /// What the grants that were live then had left.
    pub settled: Credits,
    /// All that those grants had been made with, less what was revoked by then.
    pub granted: Credits,
    /// When the first of them with anything left was to end.
    pub expires_next_at: Option<Timestamp>,
    /// Usage until then that no grant paid for.
    pub overage: Credits,
}

/// What a grant's transfers up to a version come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PastGrant {
    pub(crate) effective_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) granted: Credits,
    pub(crate) remaining: Credits,
}

impl Ledger {
    /// The balance as of a point in the past. Refused: `not-found`; `invalid-field` for an instant that is
    /// to come, or a version that the account does not have.
    pub async fn balance_as_of(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        as_of: AsOf,
    ) -> Result<PastBalance> {
        let tenant = scope.tenant;
        self.db
            .transaction(tenant, async |tx| {
                let (version, at) = point(tx, scope, customer, as_of).await?;
                let grants = store::past_grants(tx, tenant, customer, version).await?;
                let overage = store::past_overage(tx, tenant, customer, version).await?;
                let live = grants.iter().filter(|grant| is_live(grant.effective_at, grant.expires_at, at));
                let live: Vec<&PastGrant> = live.collect();
                let sum = |of: fn(&PastGrant) -> Credits| {
                    live.iter().try_fold(Credits::ZERO, |sum, grant| sum.plus(of(grant)))
                };
                let ends = live.iter().filter(|grant| !grant.remaining.is_zero());
                Ok(PastBalance {
                    version,
                    at,
                    settled: sum(|grant| grant.remaining)?,
                    granted: sum(|grant| grant.granted)?,
                    expires_next_at: ends.filter_map(|grant| grant.expires_at).min(),
                    overage,
                })
            })
            .await
    }
}

/// The version and the instant of a point in the past.
pub(crate) async fn point(
    tx: &mut Connection,
    scope: &TenantScope,
    customer: CustomerId,
    as_of: AsOf,
) -> Result<(i64, Timestamp)> {
    let tenant = scope.tenant;
    check_customer(tx, tenant, customer).await?;
    match as_of {
        AsOf::Instant(at) if at > scope.now => Err(Refusal::invalid_field("at", "in-the-future").into()),
        AsOf::Instant(at) => Ok((store::version_at(tx, tenant, customer, at).await?, at)),
        AsOf::Version(version) => {
            let recorded_at = store::recorded_at(tx, tenant, customer, version).await?;
            let at = recorded_at.ok_or(Refusal::invalid_field("version", "out-of-range"))?;
            Ok((version, at))
        }
    }
}
