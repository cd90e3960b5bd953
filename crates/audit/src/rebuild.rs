//! Recomputes every balance from the transfers alone: the books, and each grant's spent, expired, revoked
//! and remaining. On a sound database nothing differs.
//!
//! What differs is written where the transfers are whole: versions from 1 on without a hole, an unbroken
//! chain, and a last one that the account's head knows by version and link. The head itself is never
//! written: it is the witness that no transfer is missing at the end.

use std::collections::BTreeSet;

use db::{Connection, Result};
use domain::TenantScope;
use domain::id::CustomerId;
use ledger::Refill;
use uuid::Uuid;

use crate::finding::{Finding, Invariant};
use crate::verify::{OnStep, What};
use crate::{Audit, store};

/// Accounts a page.
const PAGE: i64 = 200;

/// A stored value that is not what the transfers add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub customer: CustomerId,
    pub table: String,
    pub key: String,
    pub stored: String,
    pub recomputed: String,
}

/// What came of a rebuild.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuilt {
    pub accounts: u64,
    pub differences: Vec<Difference>,
    pub written: BTreeSet<CustomerId>,
    /// Accounts that were loaded into Redis anew; 0 where Redis is away.
    pub projected: u64,
    /// Accounts whose transfers are not whole, with the reason: nothing was written.
    pub refused: Vec<(CustomerId, Finding)>,
}

impl Audit {
    /// Compares all accounts of a tenant with their transfers; unless `is_check` writes what differs, and
    /// loads all projections anew.
    pub async fn rebuild(&self, scope: &TenantScope, is_check: bool, on_step: OnStep<'_>) -> Result<Rebuilt> {
        let tenant = scope.tenant;
        let mut rebuilt = Rebuilt::default();
        let mut after = Uuid::nil();
        loop {
            on_step(&format!("{} accounts", rebuilt.accounts));
            let (customers, differences) = self
                .db
                .snapshot(tenant, async |tx| {
                    let customers = store::accounts_page(tx, tenant, after, PAGE).await?;
                    let differences = store::differences(tx, tenant, &customers).await?;
                    Ok((customers, differences))
                })
                .await?;
            let Some(last) = customers.last() else { break };
            after = last.uuid();
            rebuilt.accounts += u64::try_from(customers.len()).unwrap_or_default();
            let differing: BTreeSet<CustomerId> =
                differences.iter().map(|difference| difference.customer).collect();
            rebuilt.differences.extend(differences);
            for customer in differing.into_iter().filter(|_| !is_check) {
                match self.rebuild_one(scope, customer).await? {
                    None => rebuilt.written.insert(customer),
                    Some(why) => {
                        rebuilt.refused.push((customer, why));
                        false
                    }
                };
            }
        }
        if !is_check {
            rebuilt.projected = self.ledger.refill(scope, Refill::All).await?;
        }
        Ok(rebuilt)
    }

    /// Why the account was not written, if it was not.
    async fn rebuild_one(&self, scope: &TenantScope, customer: CustomerId) -> Result<Option<Finding>> {
        let tenant = scope.tenant;
        // Damage done between this and the lock is found by the next verification.
        let what = What { customer: Some(customer), without_chain: false };
        let findings = self.verify(scope, what, &|_| {}).await?;
        if let Some(why) = findings.into_iter().find(speaks_against_the_transfers) {
            return Ok(Some(why));
        }
        let write = async |tx: &mut Connection| {
            store::lock_account(tx, tenant, customer).await?;
            store::write_sums(tx, tenant, customer).await
        };
        self.db.transaction(tenant, write).await?;
        self.ledger.republish(scope, customer).await?;
        Ok(None)
    }
}

/// Whether a finding says that transfers are missing, edited or impossible: no balance is made of those.
fn speaks_against_the_transfers(finding: &Finding) -> bool {
    let is_about_rows =
        finding.table == "transfers" && [1, 3, 5, 7].map(Invariant).contains(&finding.invariant);
    let is_about_the_head = finding.table == "credit_accounts"
        && matches!((finding.invariant, finding.key.as_str()), (Invariant(3), "version") | (Invariant(7), _));
    is_about_rows || is_about_the_head
}
