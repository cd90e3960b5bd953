//! What a payment has paid for: found by its invoice, and locked in the order in which whoever applies
//! the payment locks it. A subscription's comes before its invoice, and its account after; of what was
//! bought without one the account comes first.

use db::{Connection, Result};
use domain::TenantScope;
use domain::id::{CustomerId, GrantId, InvoiceId};
use ledger::Accounts;

use crate::event::About;
use crate::store;
use crate::subscription::Subscription;

/// Whom an invoice was issued to, and the one grant that it pays for; usage that was paid for has none.
pub(crate) struct PaidFor {
    pub(crate) customer: CustomerId,
    /// None of what was bought without one.
    pub(crate) subscription: Option<Subscription>,
    pub(crate) grant: GrantId,
    accounts: Option<Accounts>,
}

impl PaidFor {
    /// Locks what comes before the invoice. Refused: `not-found`.
    pub(crate) async fn lock(
        tx: &mut Connection,
        scope: &TenantScope,
        invoice: InvoiceId,
    ) -> Result<PaidFor> {
        let tenant = scope.tenant;
        match store::subscriptions::lock_by_invoice(tx, tenant, invoice).await? {
            Some(subscription) => {
                let grant = store::purchases::of_invoice(tx, tenant, invoice).await?.grant();
                let customer = subscription.customer;
                Ok(PaidFor { customer, subscription: Some(subscription), grant, accounts: None })
            }
            None => {
                let sale = store::sales::of_invoice(tx, tenant, invoice).await?;
                let (customer, grant) = (sale.customer, GrantId::from_uuid(sale.id.uuid()));
                let accounts = ledger::lock_for_void(tx, tenant, customer, &[grant], scope.now).await?;
                Ok(PaidFor { customer, subscription: None, grant, accounts: Some(accounts) })
            }
        }
    }

    /// The same, unlocked: for who only tells of it.
    pub(crate) async fn find(
        tx: &mut Connection,
        scope: &TenantScope,
        invoice: InvoiceId,
    ) -> Result<PaidFor> {
        let tenant = scope.tenant;
        match store::subscriptions::of_invoice(tx, tenant, invoice).await? {
            Some(subscription) => {
                let grant = store::purchases::of_invoice(tx, tenant, invoice).await?.grant();
                let customer = subscription.customer;
                Ok(PaidFor { customer, subscription: Some(subscription), grant, accounts: None })
            }
            None => {
                let sale = store::sales::of_invoice(tx, tenant, invoice).await?;
                let (customer, grant) = (sale.customer, GrantId::from_uuid(sale.id.uuid()));
                Ok(PaidFor { customer, subscription: None, grant, accounts: None })
            }
        }
    }

    /// The locked account with the grant, whatever became of that. Once, after the invoice's lock.
    pub(crate) async fn accounts(&mut self, tx: &mut Connection, scope: &TenantScope) -> Result<Accounts> {
        match self.accounts.take() {
            Some(accounts) => Ok(accounts),
            None => ledger::lock_for_void(tx, scope.tenant, self.customer, &[self.grant], scope.now).await,
        }
    }

    pub(crate) fn about(&self) -> About<'_> {
        match &self.subscription {
            Some(subscription) => About::Subscription(subscription),
            None => About::Customer(self.customer),
        }
    }
}
