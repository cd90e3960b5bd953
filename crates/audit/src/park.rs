//! Parks accounts that something is wrong with, and lets them spend again once nothing is.

use std::collections::BTreeMap;

use db::{Connection, Result};
use domain::id::CustomerId;
use domain::{Refusal, TenantScope};
use outbox::NewEvent;
use serde_json::json;
use usage::ChargedKept;

use crate::finding::Finding;
use crate::verify::What;
use crate::{Audit, store};

/// An account was parked: `data` names the customer, the reason and how many findings there are.
pub const ACCOUNT_PARKED: &str = "account.parked";
/// An account may spend again.
pub const ACCOUNT_UNPARKED: &str = "account.unparked";

/// A reason is for people; the rest is in the log.
const REASON_CHARS_MAX: usize = 500;

/// What came of asking that an account may spend again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unparked {
    /// It may, and the usage that was kept is charged.
    Charged(ChargedKept),
    /// Something is still wrong with it: it stays parked.
    StillDamaged(Vec<Finding>),
    NotParked,
}

impl Audit {
    /// Parks the accounts of the scope's tenant that these findings name, each with its event in one
    /// transaction, and returns those that were not parked before.
    pub async fn park(&self, scope: &TenantScope, findings: &[Finding]) -> Result<Vec<CustomerId>> {
        let mut damaged: BTreeMap<CustomerId, Vec<&Finding>> = BTreeMap::new();
        for finding in findings {
            if let Some((tenant, customer)) = finding.damaged_account()
                && tenant == scope.tenant
            {
                damaged.entry(customer).or_default().push(finding);
            }
        }
        let mut parked = Vec::new();
        for (customer, findings) in damaged {
            for finding in &findings {
                tracing::error!(tenant = %scope.tenant, %customer, %finding, "an invariant is broken");
            }
            if self.park_one(scope, customer, &findings).await? {
                parked.push(customer);
            }
        }
        crate::metric::count_parked(parked.len());
        Ok(parked)
    }

    async fn park_one(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        findings: &[&Finding],
    ) -> Result<bool> {
        let (tenant, now) = (scope.tenant, scope.now);
        let Some(first) = findings.first() else { return Ok(false) };
        let reason: String = first.to_string().chars().take(REASON_CHARS_MAX).collect();
        let park = async |tx: &mut Connection| {
            let (is_new, accounts) = ledger::park(tx, scope, customer, &reason).await?;
            if is_new {
                let payload = json!({"customer": customer, "reason": reason, "findings": findings.len()});
                let event = NewEvent { kind: ACCOUNT_PARKED, subject: customer.to_string(), payload };
                outbox::emit(tx, tenant, event, now).await?;
            }
            Ok((is_new, accounts))
        };
        match self.db.transaction(tenant, park).await {
            Ok((is_new, accounts)) => {
                self.ledger.publish(tenant, &accounts, now).await?;
                Ok(is_new)
            }
            // A row that names a customer without an account damages none.
            Err(db::Error::Refused(Refusal::NotFound { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Checks a parked account once more; where nothing is wrong with it, lets it spend, and charges the
    /// usage that was kept; also that which an earlier try had left. Refused: `not-found`.
    pub async fn unpark(&self, scope: &TenantScope, customer: CustomerId) -> Result<Unparked> {
        let (tenant, now) = (scope.tenant, scope.now);
        let reason = self.db.transaction(tenant, async |tx| store::parked_reason(tx, tenant, customer).await);
        if reason.await?.ok_or(Refusal::NotFound { what: "customer" })?.is_none() {
            // What was kept, where an earlier try died before it had charged that.
            let kept = self.usage.charge_kept(scope, customer).await?;
            let is_none = kept == ChargedKept::default();
            return Ok(if is_none { Unparked::NotParked } else { Unparked::Charged(kept) });
        }
        let what = What { customer: Some(customer), without_chain: false };
        let findings = self.verify(scope, what, &|_| {}).await?;
        let damage: Vec<Finding> = findings.into_iter().filter(|finding| finding.is_damage).collect();
        if !damage.is_empty() {
            return Ok(Unparked::StillDamaged(damage));
        }
        let unpark = async |tx: &mut Connection| {
            let (is_changed, accounts) = ledger::unpark(tx, scope, customer).await?;
            if is_changed {
                let payload = json!({"customer": customer});
                let event = NewEvent { kind: ACCOUNT_UNPARKED, subject: customer.to_string(), payload };
                outbox::emit(tx, tenant, event, now).await?;
            }
            Ok(accounts)
        };
        let accounts = self.db.transaction(tenant, unpark).await?;
        self.ledger.publish(tenant, &accounts, now).await?;
        Ok(Unparked::Charged(self.usage.charge_kept(scope, customer).await?))
    }

    /// How many accounts are parked, of all tenants together.
    pub async fn parked_count(&self) -> Result<i64> {
        self.db.all_tenants_transaction(async |tx| store::parked_count_all_tenants(tx).await).await
    }
}
