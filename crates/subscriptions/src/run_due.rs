//! Does all that is due by a tenant's clock: gives up unpaid purchases, tries unpaid renewals again,
//! rolls cycles over, expires grants. Whatever was due and was not done is due still, so a run that died is cured by the next.

use db::{Locked, Result};
use domain::TenantScope;
use domain::id::{CustomerId, InvoiceId, PurchaseId, TenantId};
use domain::subscription::Event;

use crate::cancel::expire;
use crate::roll_over::{BATCH, Progress};
use crate::subscription::PurchaseKind;
use crate::{Subscriptions, purchase, sale, store};

impl Subscriptions {
    /// Runs until nothing is due any more that is not in another process' hands. What the provider
    /// leaves undecided stays for another run.
    pub async fn run_due(&self, scope: &TenantScope) -> Result<Progress> {
        self.run_all(scope, Locked::Skip).await
    }

    pub(crate) async fn run_all(&self, scope: &TenantScope, locked: Locked) -> Result<Progress> {
        self.give_up_overdue(scope).await?;
        self.retry_due(scope).await?;
        // After the tries: where the last one has ended a subscription, no cycle of its customer runs any more.
        self.invoice_due_usage(scope).await?;
        let mut total = Progress::default();
        loop {
            let progress = self.roll_batch(scope, BATCH, locked, None).await?;
            if progress.is_zero() {
                self.top_up_all(scope).await?;
                return Ok(total);
            }
            total.add(&progress);
        }
    }

    /// The tenants that have anything due, each by its own clock.
    pub async fn tenants_with_due_work(&self) -> Result<Vec<TenantId>> {
        self.db
            .all_tenants_transaction(async |tx| store::due::tenants_with_due_work_all_tenants(tx).await)
            .await
    }

    /// Gives up the purchases whose time is over, as far as the provider agrees (R-10, R-10a,
    /// Each is looked at once, so one that stays pending does not hold the others up.
    pub(crate) async fn give_up_overdue(&self, scope: &TenantScope) -> Result<()> {
        let tenant = scope.tenant;
        let mut after = None;
        loop {
            let overdue = self
                .db
                .transaction(tenant, async |tx| {
                    store::purchases::overdue(tx, tenant, scope.now, after, BATCH).await
                })
                .await?;
            let Some((last, _)) = overdue.last() else { return Ok(()) };
            after = Some(*last);
            for (purchase, invoice) in overdue {
                self.give_up_purchase(scope, purchase, invoice).await?;
            }
        }
    }

    async fn give_up_purchase(
        &self,
        scope: &TenantScope,
        purchase: PurchaseId,
        invoice: InvoiceId,
    ) -> Result<()> {
        let tenant = scope.tenant;
        let in_flight =
            self.db.transaction(tenant, async |tx| invoices::in_flight(tx, tenant, invoice).await).await?;
        if let Some(payment) = in_flight
            && let Err(error) = self.give_up(scope, &payment).await
        {
            // Undecided still, so it is not ended below; the other purchases go on.
            tracing::warn!(payment = %payment.id, %error, "a payment could not be given up");
            return Ok(());
        }
        self.db.transaction(tenant, async |tx| end_overdue(tx, scope, purchase).await).await
    }
}

/// Ends a purchase that is still pending with nothing in flight. A renewal's is left to the
/// rollover, which ends the subscription with it.
async fn end_overdue(tx: &mut db::Connection, scope: &TenantScope, id: PurchaseId) -> Result<()> {
    let tenant = scope.tenant;
    if let Some(sale) = store::sales::find(tx, tenant, id).await? {
        return end_overdue_sale(tx, scope, id, sale.customer).await;
    }
    let subscription = store::purchases::find(tx, tenant, id).await?.subscription;
    let mut subscription = store::subscriptions::lock(tx, tenant, subscription).await?;
    let mut purchase = store::purchases::find(tx, tenant, id).await?;
    if !purchase.is_pending() || invoices::in_flight(tx, tenant, purchase.invoice).await?.is_some() {
        return Ok(());
    }
    match purchase.kind {
        PurchaseKind::FirstCycle => {
            expire(tx, scope, &mut subscription, Event::PurchaseEnded, "unpaid").await
        }
        PurchaseKind::Upgrade => purchase::end(tx, scope, &subscription, &mut purchase, "unpaid").await,
        PurchaseKind::Renewal => Ok(()),
    }
}

async fn end_overdue_sale(
    tx: &mut db::Connection,
    scope: &TenantScope,
    id: PurchaseId,
    customer: CustomerId,
) -> Result<()> {
    let tenant = scope.tenant;
    ledger::lock(tx, tenant, &[customer]).await?;
    let Some(mut sale) = store::sales::find(tx, tenant, id).await? else { return Ok(()) };
    if !sale.is_pending() || invoices::in_flight(tx, tenant, sale.invoice).await?.is_some() {
        return Ok(());
    }
    sale::end(tx, scope, &mut sale, "unpaid").await
}
