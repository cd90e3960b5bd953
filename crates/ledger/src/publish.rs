//! The fifth beat: publish, after the commit.

use std::collections::BTreeMap;

use domain::Timestamp;
use domain::id::{CustomerId, ExternalId, TenantId};

use crate::{Accounts, Ledger, project};

impl Ledger {
    /// Tells Redis the committed balances. Never fails: what Redis does not hear is a cold or a
    /// late copy there, and the account is dropped before it is used again.
    pub async fn publish(&self, tenant: TenantId, accounts: &Accounts, now: Timestamp) {
        self.publish_captures(tenant, accounts, &BTreeMap::new(), now).await;
    }

    /// The same, and ends the holds that this change captured.
    pub async fn publish_captures(
        &self,
        tenant: TenantId,
        accounts: &Accounts,
        captured: &BTreeMap<CustomerId, Vec<ExternalId>>,
        now: Timestamp,
    ) {
        for account in accounts.iter() {
            let key = project::key(tenant, account);
            let ended = captured.get(&account.customer()).map(Vec::as_slice).unwrap_or_default();
            if let Err(away) = self.hot.publish(key, &project::projection(account, now), ended).await {
                tracing::debug!(%away, customer = %account.customer(), "a balance was not published");
                self.hot.strand(key);
            }
        }
    }
}
