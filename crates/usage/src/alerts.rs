//! Tells when a charge crosses a threshold of a balance, or a void raises it from nothing, in the same transaction
//! (I-26).

use std::collections::BTreeMap;

use db::{Connection, Result};
use domain::account::Account;
use domain::alert::{Alert, Level, alert};
use domain::id::CustomerId;
use domain::{TenantScope, Timestamp};
use ledger::Accounts;
use outbox::NewEvent;
use serde_json::json;

pub const DROPPED: &str = "balance.dropped";
pub const DEPLETED: &str = "balance.depleted";
pub const RECOVERED: &str = "balance.recovered";

/// The balances before a batch is charged, or an event voided.
pub(crate) struct Before(BTreeMap<CustomerId, Level>);

impl Before {
    pub(crate) fn of(accounts: &Accounts, now: Timestamp) -> Before {
        Before(accounts.iter().map(|account| (account.customer(), level(account, now))).collect())
    }

    /// Emits at most one event an account.
    pub(crate) async fn tell(
        &self,
        tx: &mut Connection,
        scope: &TenantScope,
        accounts: &Accounts,
        now: Timestamp,
    ) -> Result<()> {
        for account in accounts.iter().filter(|account| !account.journal().is_empty()) {
            let after = level(account, now);
            let before = self.0.get(&account.customer());
            let Some(alert) = before.and_then(|before| alert(*before, after, &scope.policies)) else {
                continue;
            };
            let (kind, threshold) = match alert {
                Alert::UsedPercent(percent) => (DROPPED, json!({"used_percent": percent})),
                Alert::Left(credits) => (DROPPED, json!({"credits_left": credits})),
                Alert::Depleted => (DEPLETED, json!(null)),
                Alert::Recovered => (RECOVERED, json!(null)),
            };
            let payload = json!({
                "customer": account.customer(),
                "threshold": threshold,
                "available": after.available,
                "limit": after.limit,
                "account_version": account.version(),
            });
            let event = NewEvent { kind, subject: account.customer().to_string(), payload };
            outbox::emit(tx, scope.tenant, event, now).await?;
        }
        Ok(())
    }
}

fn level(account: &Account, now: Timestamp) -> Level {
    account.level(account.last_recorded_at().max(now))
}
