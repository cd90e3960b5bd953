//! The payment provider of a server: the sandbox or Stripe, by tenant and method.

use db::Error;
use domain::TenantScope;
use domain::id::TenantId;
use domain::scope::TenantMode;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use payments::{Collect, Collected, GiveBack, PaymentProvider, ProviderError, Sandbox};
use stripe::{CallError, Charge};

use crate::{Credentials, ProviderAccounts, store};

impl PaymentProvider for ProviderAccounts {
    fn collect<'a>(&'a self, request: &'a Collect) -> BoxFuture<'a, Result<Collected, ProviderError>> {
        if Sandbox::owns(&request.method) {
            return Sandbox.collect(request);
        }
        async move {
            let credentials = self.needed(request.tenant).await?;
            let charge = self.charge(&credentials, request).await?;
            let is_saved = self.is_saved(request, &charge).await?;
            if !is_saved && request.provider_ref.is_none() {
                self.save(&credentials, request, &charge).await?;
            }
            let collected = self.stripe.take(&credentials.secret_key, &charge).await?;
            Ok(in_tenants_time(&credentials, request, collected))
        }
        .boxed()
    }

    fn cancel<'a>(&'a self, request: &'a Collect) -> BoxFuture<'a, Result<Collected, ProviderError>> {
        if Sandbox::owns(&request.method) {
            return Sandbox.cancel(request);
        }
        async move {
            let credentials = self.needed(request.tenant).await?;
            let charge = self.charge(&credentials, request).await?;
            let collected = self.stripe.give_up(&credentials.secret_key, &charge).await?;
            Ok(in_tenants_time(&credentials, request, collected))
        }
        .boxed()
    }

    fn refund<'a>(&'a self, request: &'a GiveBack) -> BoxFuture<'a, Result<(), ProviderError>> {
        // A success of Stripe's says which payment intent it is; one of the sandbox's says nothing.
        let Some(intent) = &request.provider_ref else { return Sandbox.refund(request) };
        async move {
            let credentials = self.needed(request.tenant).await?;
            let GiveBack { payment, refund, amount, .. } = *request;
            self.stripe.refund(&credentials.secret_key, intent, payment, refund, amount).await
        }
        .boxed()
    }

    fn fingerprint<'a>(
        &'a self,
        tenant: TenantId,
        mode: TenantMode,
        method: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, ProviderError>> {
        if Sandbox::owns(method) {
            return Sandbox.fingerprint(tenant, mode, method);
        }
        async move {
            // What cannot be a method is none, whether or not there is somebody to ask.
            if !Charge::takes(method) {
                return Err(ProviderError::UnknownMethod);
            }
            let credentials = self.needed(tenant).await?;
            let found =
                self.stripe.method(&credentials.secret_key, method).await.map_err(call_unavailable)?;
            found.map(|method| method.fingerprint).ok_or(ProviderError::UnknownMethod)
        }
        .boxed()
    }
}

impl ProviderAccounts {
    async fn needed(&self, tenant: TenantId) -> Result<Credentials, ProviderError> {
        self.credentials(tenant).await.map_err(unavailable)?.ok_or(ProviderError::UnknownMethod)
    }

    async fn charge(&self, credentials: &Credentials, request: &Collect) -> Result<Charge, ProviderError> {
        let Collect { tenant, customer, invoice, payment, amount, now, .. } = *request;
        let stripe_customer = self
            .stripe_customer(&credentials.secret_key, tenant, customer, now)
            .await
            .map_err(unavailable)?;
        let (method, intent) = (request.method.clone(), request.provider_ref.clone());
        Ok(Charge { tenant, customer, invoice, payment, amount, stripe_customer, method, intent, now })
    }

    async fn is_saved(&self, request: &Collect, charge: &Charge) -> Result<bool, ProviderError> {
        let tenant = request.tenant;
        self.db
            .transaction(tenant, async |tx| {
                store::is_saved(tx, tenant, request.customer, &charge.method).await
            })
            .await
            .map_err(unavailable)
    }

    /// Saves the method for the customer: one that is not can be charged while the customer looks on,
    /// and never again.
    async fn save(
        &self,
        credentials: &Credentials,
        request: &Collect,
        charge: &Charge,
    ) -> Result<(), ProviderError> {
        let saved = self
            .stripe
            .attach(&credentials.secret_key, &charge.method, &charge.stripe_customer)
            .await
            .map_err(call_unavailable)?
            .ok_or(ProviderError::UnknownMethod)?;
        let (tenant, customer) = (request.tenant, request.customer);
        self.db
            .transaction(tenant, async |tx| {
                store::save_method(tx, tenant, customer, &saved, request.now).await
            })
            .await
            .map_err(unavailable)
    }
}

/// A test tenant may live at another time than Stripe does: there a success counts from the tenant's
/// now.
fn in_tenants_time(credentials: &Credentials, request: &Collect, collected: Collected) -> Collected {
    if credentials.is_live { collected } else { Collected { at: request.now, ..collected } }
}

impl ProviderAccounts {
    /// When a success counts from that an event tells of.
    pub fn success_instant(&self, scope: &TenantScope, told: Collected) -> Collected {
        match scope.mode {
            TenantMode::Live => told,
            TenantMode::Test => Collected { at: scope.now, ..told },
        }
    }
}

fn unavailable(error: Error) -> ProviderError {
    ProviderError::Unavailable(error.to_string())
}

fn call_unavailable(error: CallError) -> ProviderError {
    ProviderError::Unavailable(error.to_string())
}
