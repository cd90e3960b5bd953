//! Changes what pays the renewals.

use db::Result;
use domain::id::SubscriptionId;
use domain::subscription::Status;
use domain::{Refusal, TenantScope};
use idempotency::RequestKey;
use serde_json::json;

use crate::view::{SubscriptionView, one};
use crate::{Subscriptions, event, is_repeat, promotion, store};

impl Subscriptions {
    /// Sets the method that later payments are made with; one in flight keeps its own. Refused:
    /// `not-found`, `unknown-payment-method`, `subscription-ended`, and `promotion-used` where an unpaid
    /// first cycle's discount would go to a card that has had one.
    pub async fn set_payment_method(
        &self,
        scope: &TenantScope,
        subscription: SubscriptionId,
        method: &str,
        request: &RequestKey,
    ) -> Result<SubscriptionView> {
        let tenant = scope.tenant;
        let fingerprint = self.fingerprint(scope, method).await?;
        self.db
            .transaction(tenant, async |tx| {
                let is_repeat = is_repeat(tx, scope, request).await?;
                let mut subscription = store::subscriptions::lock(tx, tenant, subscription).await?;
                if is_repeat || subscription.payment_method == method {
                    return one(tx, scope, subscription).await;
                }
                if !subscription.status.is_live() {
                    return Err(Refusal::SubscriptionEnded.into());
                }
                if subscription.status == Status::Incomplete {
                    // It is what pays the first cycle from now on, discount included.
                    let invoice = store::purchases::first_cycle(tx, tenant, subscription.id).await?.invoice;
                    let fingerprint = fingerprint.as_deref();
                    promotion::move_to_card(tx, scope, &subscription, invoice, fingerprint).await?;
                }
                method.clone_into(&mut subscription.payment_method);
                store::subscriptions::update(tx, tenant, &subscription).await?;
                event::emit(tx, scope, event::PAYMENT_METHOD_SET, &subscription, json!({})).await?;
                one(tx, scope, subscription).await
            })
            .await
    }
}
