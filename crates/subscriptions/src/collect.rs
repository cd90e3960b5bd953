//! The calls to the payment provider: outside every transaction, under the payment's id.

use db::{Connection, Error, Result};
use domain::id::{CustomerId, InvoiceId};
use domain::invoice::{PaymentReport, PaymentStatus};
use domain::{Refusal, TenantScope};
use futures_util::{StreamExt, stream};
use invoices::Payment;
use ledger::Accounts;
use payments::{Collect, Collected, ProviderError};

use crate::Subscriptions;
use crate::roll_over::{BATCH, COLLECTED_AT_ONCE};

impl Subscriptions {
    /// What all methods of a card have in common, where the provider tells. Refused:
    /// `unknown-payment-method`, and `card-data-refused` for what looks like a card's number.
    pub(crate) async fn fingerprint(&self, scope: &TenantScope, method: &str) -> Result<Option<String>> {
        if domain::card::contains_card_number(method) {
            return Err(Refusal::CardDataRefused.into());
        }
        match self.provider.fingerprint(scope.tenant, scope.mode, method).await {
            Ok(fingerprint) => Ok(fingerprint),
            Err(ProviderError::UnknownMethod) => Err(Refusal::UnknownPaymentMethod.into()),
            Err(error @ (ProviderError::RefundRefused(_) | ProviderError::Unavailable(_))) => {
                Err(unavailable(error))
            }
        }
    }

    /// Takes a payment and applies what the provider says.
    pub(crate) async fn collect(&self, scope: &TenantScope, payment: &Payment) -> Result<PaymentStatus> {
        let request = self.request(scope, payment).await?;
        let answer = self.provider.collect(&request).await;
        let collected = collected(scope, answer)?;
        self.apply_payment(scope, payment.id, &collected).await
    }

    /// Has the provider give a payment up and applies what it says: only `canceled` and `failed`
    /// mean that no money will come (R-10a).
    pub(crate) async fn give_up(&self, scope: &TenantScope, payment: &Payment) -> Result<PaymentStatus> {
        let request = self.request(scope, payment).await?;
        let answer = self.provider.cancel(&request).await;
        let collected = collected(scope, answer)?;
        self.apply_payment(scope, payment.id, &collected).await
    }

    /// Collects what an invoice has in flight, and says whether there was anything. A provider that
    /// does not answer leaves the payment undecided: the job that was stored with it asks again.
    pub(crate) async fn collect_in_flight(&self, scope: &TenantScope, invoice: InvoiceId) -> Result<bool> {
        let tenant = scope.tenant;
        let in_flight =
            self.db.transaction(tenant, async |tx| invoices::in_flight(tx, tenant, invoice).await).await?;
        let Some(payment) = in_flight else { return Ok(false) };
        match self.collect(scope, &payment).await {
            Err(Error::Unavailable(reason)) => {
                tracing::warn!(payment = %payment.id, reason, "a payment was not collected yet");
                Ok(true)
            }
            answer => answer.map(|_| true),
        }
    }

    /// Collects what was stored by now and not collected: another request may be ahead of this one, and what it has
    /// stored is not collected at an earlier instant. Whether the provider has decided any of it.
    pub(crate) async fn collect_uncollected(&self, scope: &TenantScope) -> Result<bool> {
        let tenant = scope.tenant;
        let mut after = None;
        let mut any_decided = false;
        loop {
            let page = self
                .db
                .transaction(tenant, async |tx| {
                    invoices::uncollected(tx, tenant, scope.now, after, BATCH).await
                })
                .await?;
            let Some(last) = page.last() else { return Ok(any_decided) };
            after = Some(last.id);
            let decided = stream::iter(page)
                .map(|payment| async move {
                    match self.collect(scope, &payment).await {
                        Ok(status) => !status.is_undecided(),
                        // Its job tries again.
                        Err(error) => {
                            tracing::warn!(payment = %payment.id, %error, "a payment was not collected yet");
                            false
                        }
                    }
                })
                .buffer_unordered(COLLECTED_AT_ONCE);
            any_decided |= decided.fold(false, async |any, is_decided| any | is_decided).await;
        }
    }

    async fn request(&self, scope: &TenantScope, payment: &Payment) -> Result<Collect> {
        let (tenant, invoice) = (scope.tenant, payment.invoice);
        let invoice =
            self.db.transaction(tenant, async |tx| invoices::find(tx, tenant, invoice).await).await?;
        Ok(Collect {
            tenant,
            customer: invoice.customer,
            invoice: invoice.id,
            payment: payment.id,
            amount: payment.amount,
            method: payment.method.clone(),
            provider_ref: payment.provider_ref.clone(),
            now: scope.now,
        })
    }

    /// The fifth beat, where there is anything to publish.
    pub(crate) async fn publish(&self, scope: &TenantScope, accounts: Option<Accounts>) -> Result<()> {
        match accounts {
            Some(accounts) => self.ledger.publish(scope.tenant, &accounts, scope.now).await,
            None => Ok(()),
        }
    }
}

/// What the fifth beat publishes. Where this try has changed nothing, the account as it stands: an earlier try may have
/// died between its commit and its publishing, and who hears of the change may count on it.
pub(crate) async fn to_publish(
    tx: &mut Connection,
    scope: &TenantScope,
    customer: CustomerId,
    changed: Option<Accounts>,
) -> Result<Accounts> {
    match changed {
        Some(accounts) => Ok(accounts),
        None => ledger::lock(tx, scope.tenant, &[customer]).await,
    }
}

/// A method that the provider does not know any more took nothing: the payment has failed.
fn collected(
    scope: &TenantScope,
    answer: std::result::Result<Collected, ProviderError>,
) -> Result<Collected> {
    match answer {
        Ok(collected) => Ok(collected),
        Err(ProviderError::UnknownMethod) => Ok(Collected {
            failure_code: Some(Refusal::UnknownPaymentMethod.code().to_owned()),
            ..Collected::plain(PaymentReport::Failed, scope.now)
        }),
        Err(error @ (ProviderError::RefundRefused(_) | ProviderError::Unavailable(_))) => {
            Err(unavailable(error))
        }
    }
}

pub(crate) fn unavailable(error: ProviderError) -> Error {
    Error::Unavailable(error.to_string())
}
