//! Applies an event: finds what it is about, and lets what it says take effect.

use db::{Error, Result};
use domain::dispute::DisputeReport;
use domain::id::TenantId;
use domain::invoice::PaymentStatus;
use domain::refund::RefundReport;
use domain::{Currency, Money, Refusal, TenantScope, Timestamp};
use invoices::Payment;
use payments::{Collected, Taken};
use provider_accounts::Credentials;
use stripe::{
    CallError, DisputeNotice, DisputeState, Event, Intent, MethodNotice, Notice, RefundNotice,
    RefundOfIntent, read_event,
};
use subscriptions::ListedRefund;

use crate::receive::alert;
use crate::reread::call_failed;
use crate::{ProviderEvents, Settled, State, store};

/// A payment of ours, or why an event is about none.
enum Found {
    Payment(Payment),
    Parked(Settled),
}

impl ProviderEvents {
    /// Applies an event that waits; one that was settled stays so.
    pub(crate) async fn apply(&self, tenant: TenantId, event_id: &str) -> Result<()> {
        let waiting =
            self.db.transaction(tenant, async |tx| store::waiting(tx, tenant, event_id).await).await?;
        let Some(body) = waiting else { return Ok(()) };
        let event = read_event(&body).map_err(|error| Error::Fault(Box::new(error)))?;
        // After the event: what comes of it is not recorded at an instant before it was stored.
        let scope = self.tenants.scope(tenant).await?;
        let settled = self.applied(&scope, &event).await?;
        self.db
            .transaction(tenant, async |tx| {
                let is_first = store::settle(tx, tenant, event_id, &settled).await?;
                if is_first && settled.state == State::Parked {
                    let reason = settled.reason.as_deref();
                    alert(tx, tenant, event_id, &event.kind, reason, scope.now).await?;
                }
                Ok(())
            })
            .await
    }

    async fn applied(&self, scope: &TenantScope, event: &Event) -> Result<Settled> {
        match event.notice() {
            Ok(Notice::Payment { intent, collected }) => self.payment(scope, &intent, collected).await,
            Ok(Notice::Refund(notice)) => self.refund(scope, &notice, event.created_at).await,
            Ok(Notice::Dispute(notice)) => self.dispute(scope, &notice, event.created_at).await,
            Ok(Notice::Method(notice)) => self.method(scope, notice, event).await,
            Ok(Notice::Ignored) => Ok(Settled::ignored()),
            Err(unreadable) => Ok(Settled::parked(unreadable.to_string(), None)),
        }
    }

    /// How a payment stands.
    async fn payment(&self, scope: &TenantScope, intent: &Intent, told: Collected) -> Result<Settled> {
        let payment = match self.find(scope, intent).await? {
            Found::Payment(payment) => payment,
            Found::Parked(settled) => return Ok(settled),
        };
        let told = self.accounts.success_instant(scope, told);
        match self.subscriptions.apply_payment(scope, payment.id, &told).await {
            Ok(_) => {}
            Err(Error::Refused(refusal)) => return Ok(Settled::parked(refusal.code(), Some(payment))),
            Err(error) => return Err(error),
        }
        let is_other = told.taken.as_ref().is_some_and(|taken| !taken.is(payment.amount));
        if is_other {
            return Ok(Settled::parked("another-amount", Some(payment)));
        }
        Ok(Settled::applied(Some(payment)))
    }

    /// The payment that an intent was made for: by what it was made with, else by its id.
    async fn find(&self, scope: &TenantScope, intent: &Intent) -> Result<Found> {
        let tenant = scope.tenant;
        let named = intent.payment();
        if named.is_some() && intent.tenant() != Some(tenant) {
            return Ok(Found::Parked(Settled::parked("another-tenant", None)));
        }
        let found = self
            .db
            .transaction(tenant, async |tx| match named {
                Some(payment) => match invoices::payment(tx, tenant, payment).await {
                    Ok(payment) => Ok(Some(payment)),
                    Err(Error::Refused(Refusal::NotFound { .. })) => Ok(None),
                    Err(error) => Err(error),
                },
                None => invoices::payment_by_provider_ref(tx, tenant, &intent.id).await,
            })
            .await?;
        let Some(payment) = found else {
            return Ok(Found::Parked(Settled::parked("unknown-payment", None)));
        };
        if intent.invoice().is_some_and(|invoice| invoice != payment.invoice) {
            return Ok(Found::Parked(Settled::parked("another-invoice", Some(payment))));
        }
        if payment.provider_ref.as_ref().is_some_and(|known| *known != intent.id) {
            // Two charges for one payment: the first counts, and somebody has to look.
            return Ok(Found::Parked(Settled::parked("another-charge", Some(payment))));
        }
        Ok(Found::Payment(payment))
    }

    /// The payment of an intent that is only named, told of its success first where that has not come yet.
    async fn find_paid(&self, scope: &TenantScope, intent: &str) -> Result<Found> {
        let tenant = scope.tenant;
        let known = self
            .db
            .transaction(tenant, async |tx| invoices::payment_by_provider_ref(tx, tenant, intent).await)
            .await?;
        if let Some(payment) = known
            && matches!(payment.status, PaymentStatus::Succeeded | PaymentStatus::Refunded)
        {
            return Ok(Found::Payment(payment));
        }
        let Some(intent) = self.ask(scope, intent).await? else {
            return Ok(Found::Parked(Settled::parked("unknown-payment", None)));
        };
        let told = intent.told(scope.now).map_err(|error| Error::Unavailable(error.to_string()))?;
        let settled = self.payment(scope, &intent, told).await?;
        if settled.state == State::Parked {
            return Ok(Found::Parked(settled));
        }
        self.find(scope, &intent).await
    }

    /// A payment intent as it stands at Stripe now; none where there is none of this name.
    async fn ask(&self, scope: &TenantScope, intent: &str) -> Result<Option<Intent>> {
        let Credentials { secret_key, .. } = self.credentials(scope).await?;
        match self.accounts.stripe().intent(&secret_key, intent).await {
            Ok(intent) => Ok(Some(intent)),
            Err(CallError::Denied(_)) => Ok(None),
            Err(error @ CallError::Unknown(_)) => Err(call_failed(error)),
        }
    }

    async fn credentials(&self, scope: &TenantScope) -> Result<Credentials> {
        let found = self.accounts.credentials(scope.tenant).await?;
        found.ok_or_else(|| Error::broken(format!("{} has an event and no credentials", scope.tenant)))
    }

    /// What of a payment has gone back, or has not after all: all its refunds as Stripe lists them now.
    async fn refund(&self, scope: &TenantScope, notice: &RefundNotice, at: Timestamp) -> Result<Settled> {
        let payment = match self.find_paid(scope, &notice.intent).await? {
            Found::Payment(payment) => payment,
            Found::Parked(settled) => return Ok(settled),
        };
        let Credentials { secret_key, .. } = self.credentials(scope).await?;
        let refunds = self.accounts.stripe().refunds(&secret_key, &notice.intent).await;
        let listed: Option<Vec<ListedRefund>> =
            refunds.map_err(call_failed)?.into_iter().map(listed).collect();
        let Some(listed) = listed else {
            return Ok(Settled::parked("another-currency", Some(payment)));
        };
        let applied = self.subscriptions.apply_refunds(scope, payment.id, &listed, at).await;
        settled(applied, payment)
    }

    /// A dispute was opened, won or lost.
    async fn dispute(&self, scope: &TenantScope, notice: &DisputeNotice, at: Timestamp) -> Result<Settled> {
        let payment = match self.find_paid(scope, &notice.intent).await? {
            Found::Payment(payment) => payment,
            Found::Parked(settled) => return Ok(settled),
        };
        let Some(disputed) = money(&notice.disputed) else {
            return Ok(Settled::parked("another-currency", Some(payment)));
        };
        let report = match notice.state {
            DisputeState::Opened => DisputeReport::Opened,
            DisputeState::Won => DisputeReport::Won,
            DisputeState::Lost => DisputeReport::Lost,
        };
        let applied =
            self.subscriptions.apply_dispute(scope, payment.id, &notice.dispute, report, disputed, at).await;
        settled(applied, payment)
    }

    /// What a customer can pay with.
    async fn method(&self, scope: &TenantScope, notice: MethodNotice, event: &Event) -> Result<Settled> {
        let accounts = &self.accounts;
        match notice {
            MethodNotice::Attached { method, stripe_customer } => {
                let Some(customer) = accounts.customer_of(scope, &stripe_customer).await? else {
                    return Ok(not_ours());
                };
                accounts.note_saved(scope, customer, &method).await?;
            }
            MethodNotice::Detached { method, stripe_customer } => {
                let customer = match &stripe_customer {
                    Some(stripe_customer) => accounts.customer_of(scope, stripe_customer).await?,
                    None => None,
                };
                accounts.note_detached(scope, customer, &method).await?;
            }
            MethodNotice::SetUp { stripe_customer, method } => {
                return self.set_up(scope, &stripe_customer, &method).await;
            }
            MethodNotice::CheckedOut { stripe_customer, setup_intent } => {
                let Credentials { secret_key, .. } = self.credentials(scope).await?;
                let saved = accounts.stripe().saved_by(&secret_key, &setup_intent).await;
                return match saved.map_err(call_failed)? {
                    Some(method) => self.set_up(scope, &stripe_customer, &method).await,
                    None => Ok(Settled::parked("nothing-saved", None)),
                };
            }
            MethodNotice::CustomerUpdated { stripe_customer, default_method } => {
                let told = (event.created_at, event.id.as_str());
                accounts.note_default(scope, &stripe_customer, default_method.as_deref(), told).await?;
            }
            MethodNotice::CustomerDeleted { stripe_customer } => {
                accounts.note_deleted(scope, &stripe_customer).await?;
            }
        }
        Ok(Settled::applied(None))
    }

    /// A method that was saved, as it stands now: it may have been detached since.
    async fn set_up(&self, scope: &TenantScope, stripe_customer: &str, method: &str) -> Result<Settled> {
        let Some(customer) = self.accounts.customer_of(scope, stripe_customer).await? else {
            return Ok(not_ours());
        };
        let Credentials { secret_key, .. } = self.credentials(scope).await?;
        let found = self.accounts.stripe().method(&secret_key, method).await.map_err(call_failed)?;
        if let Some(method) = found.filter(|method| method.customer.as_deref() == Some(stripe_customer)) {
            self.accounts.note_saved(scope, customer, &method).await?;
        }
        Ok(Settled::applied(None))
    }
}

/// Of one of the provider's customers that is none of ours.
fn not_ours() -> Settled {
    Settled { state: State::Ignored, reason: Some("no-customer-of-ours".to_owned()), payment: None }
}

fn settled(applied: Result<()>, payment: Payment) -> Result<Settled> {
    match applied {
        Ok(()) => Ok(Settled::applied(Some(payment))),
        // Its success is being applied at this moment.
        Err(Error::Refused(Refusal::InvoiceNotPaid)) => {
            Err(Error::Unavailable(format!("{} is not paid yet", payment.id)))
        }
        Err(Error::Refused(refusal)) => Ok(Settled::parked(refusal.code(), Some(payment))),
        Err(error) => Err(error),
    }
}

/// A refund of Stripe's, where it is in a currency of ours.
fn listed(refund: RefundOfIntent) -> Option<ListedRefund> {
    let failure_code = refund.failure();
    let report = if failure_code.is_some() { RefundReport::Failed } else { RefundReport::Succeeded };
    let (ours, amount) = (refund.refund(), money(&refund.amount())?);
    Some(ListedRefund { provider_ref: refund.id, refund: ours, amount, report, failure_code })
}

/// What was taken, where that is a currency of ours.
fn money(taken: &Taken) -> Option<Money> {
    let currency: Currency = taken.currency.parse().ok()?;
    Money::new(taken.amount_minor, currency).ok()
}
