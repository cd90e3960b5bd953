//! Tells when a charge crosses a threshold of a balance, or a void raises it from nothing, in the same transaction
//! (I-26).

use db::{Connection, Result};
use domain::account::Account;
use domain::alert::{Level, alert};
use domain::{TenantScope, Timestamp};
use ledger::Accounts;

/// The balances of accounts before a batch is charged, or an event voided: in the accounts' order.
pub(crate) struct Before(Vec<Level>);

impl Before {
    pub(crate) fn of(accounts: &Accounts, now: Timestamp) -> Before {
        Before(accounts.iter().map(|account| level(account, now)).collect())
    }

    /// Emits at most one event an account, of the same accounts as they are now.
    pub(crate) async fn tell(
        &self,
        tx: &mut Connection,
        scope: &TenantScope,
        accounts: &Accounts,
        now: Timestamp,
    ) -> Result<()> {
        let charged = self.0.iter().zip(accounts.iter()).filter(|(_, account)| !account.journal().is_empty());
        for (before, account) in charged {
            let after = level(account, now);
            let Some(alert) = alert(*before, after, &scope.policies) else { continue };
            outbox::emit_alert(tx, scope.tenant, account, alert, now).await?;
        }
        Ok(())
    }
}

fn level(account: &Account, now: Timestamp) -> Level {
    account.level(account.last_recorded_at().max(now))
}
