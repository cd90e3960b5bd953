//! What moved between two cuts through an account's history: a cycle's statement is summed up from it.

use db::{Connection, Result};
use domain::id::{CustomerId, TenantId};
use domain::statement::Movement;
use domain::{Credits, TenantScope, Timestamp};

use crate::history::check_customer;
use crate::{Ledger, store};

/// An instant at which one cycle ends and the next begins, and when that was done.
///
/// It cuts the history after the expiry or the cancel that ended the cycle, however late that was booked; where
/// nothing was left to expire, before the first transfer that was recorded at the instant or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    pub at: Timestamp,
    /// When the cycle before was closed: what ended it is booked by then.
    pub done_at: Timestamp,
}

/// What moved after one version up to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movements {
    /// The first movement is the version after it.
    pub after_version: i64,
    pub to_version: i64,
    /// What all grants had left at either version.
    pub opening: Credits,
    pub closing: Credits,
    pub movements: Vec<Movement>,
}

impl Ledger {
    /// What moved from one cut to another, or until now, by books and by the grant's source. What was cut
    /// off stays as it is: the ledger only grows behind it. Refused: `not-found`.
    pub async fn movements(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        from: Cut,
        to: Option<Cut>,
    ) -> Result<Movements> {
        let tenant = scope.tenant;
        self.db
            .transaction(tenant, async |tx| {
                check_customer(tx, tenant, customer).await?;
                let to_version = match to {
                    Some(cut) => store::version_of_cut(tx, tenant, customer, cut).await?,
                    None => store::version(tx, tenant, customer).await?,
                };
                let after_version = store::version_of_cut(tx, tenant, customer, from).await?.min(to_version);
                Ok(Movements {
                    after_version,
                    to_version,
                    opening: left_at(tx, tenant, customer, after_version).await?,
                    closing: left_at(tx, tenant, customer, to_version).await?,
                    movements: store::movements(tx, tenant, customer, after_version, to_version).await?,
                })
            })
            .await
    }
}

async fn left_at(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    version: i64,
) -> Result<Credits> {
    let grants = store::past_grants(tx, tenant, customer, version).await?;
    Ok(grants.iter().try_fold(Credits::ZERO, |sum, grant| sum.plus(grant.remaining))?)
}
