//! The jobs that this crate enqueues, and their handlers. Each builds a fresh scope, looks at what
//! is stored, and does what is left to do: run twice, it has the effect of one run.

use std::sync::Arc;

use db::{Error, Result};
use domain::TenantScope;
use domain::exhaustion::AUTO_TOP_UP_JOB;
use domain::id::{CustomerId, PaymentId, RefundId, RolloverId, TenantId};
use domain::invoice::PaymentStatus;
use invoices::Payment;
use scheduler::{Handler, NewJob, handler};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Subscriptions;

/// Collects a payment that nobody has collected: payload {tenant, payment}.
pub const COLLECT_PAYMENT: &str = "collect_payment";
/// Has the provider cancel a payment of something that has ended: payload {tenant, payment}.
pub const CANCEL_PAYMENT: &str = "cancel_payment";
/// Has the provider give money back: payload {tenant, refund}.
pub const REFUND_PAYMENT: &str = "refund_payment";
/// Does a run of the rollover: payload {tenant, rollover}.
pub const ROLLOVER: &str = "rollover";
/// Does what is due of one tenant: payload {tenant}.
pub const RUN_DUE: &str = "run_due";
/// Finds the tenants with anything due and enqueues a [`RUN_DUE`] for each: payload {slot}, the
/// tick that asked for it.
pub const FIND_DUE: &str = "find_due";

/// All kinds with their handlers.
pub fn handlers(subscriptions: &Arc<Subscriptions>) -> Vec<(&'static str, Handler)> {
    macro_rules! on {
        ($kind:expr, $verb:ident) => {{
            let subscriptions = subscriptions.clone();
            let work = move |payload| {
                let subscriptions = subscriptions.clone();
                async move { subscriptions.$verb(read(payload)?).await }
            };
            ($kind, handler(work))
        }};
    }
    vec![
        on!(COLLECT_PAYMENT, collect_payment),
        on!(CANCEL_PAYMENT, cancel_payment),
        on!(REFUND_PAYMENT, refund_payment),
        on!(ROLLOVER, rollover_job),
        on!(RUN_DUE, run_due_job),
        on!(FIND_DUE, find_due),
        on!(AUTO_TOP_UP_JOB, auto_top_up_job),
    ]
}

/// A job about a payment, due at once, once a payment and kind.
pub(crate) fn for_payment(kind: &'static str, tenant: TenantId, payment: PaymentId) -> NewJob {
    NewJob::due_at_once(kind, payment.to_string(), json!({"tenant": tenant, "payment": payment}))
}

/// The job that asks for a refund, due at once, once a refund.
pub(crate) fn for_refund(tenant: TenantId, refund: RefundId) -> NewJob {
    let payload = json!({"tenant": tenant, "refund": refund});
    NewJob::due_at_once(REFUND_PAYMENT, refund.to_string(), payload)
}

#[derive(Deserialize)]
struct OfPayment {
    tenant: TenantId,
    payment: PaymentId,
}

#[derive(Deserialize)]
struct OfRefund {
    tenant: TenantId,
    refund: RefundId,
}

#[derive(Deserialize)]
struct OfRollover {
    tenant: TenantId,
    rollover: RolloverId,
}

#[derive(Deserialize)]
struct OfCustomer {
    tenant: TenantId,
    customer: CustomerId,
}

#[derive(Deserialize)]
struct OfTenant {
    tenant: TenantId,
}

#[derive(Deserialize)]
struct OfSlot {
    slot: String,
}

fn read<T: DeserializeOwned>(payload: Value) -> Result<T> {
    serde_json::from_value(payload).map_err(|error| Error::Fault(Box::new(error)))
}

impl Subscriptions {
    async fn stored(&self, job: &OfPayment) -> Result<(TenantScope, Payment)> {
        let (tenant, id) = (job.tenant, job.payment);
        let payment = self.db.transaction(tenant, async |tx| invoices::payment(tx, tenant, id).await).await?;
        // After the payment: what comes of it is not recorded at an instant before it was made.
        let scope = self.tenants.scope(tenant).await?;
        Ok((scope, payment))
    }

    async fn collect_payment(&self, job: OfPayment) -> Result<()> {
        let (scope, payment) = self.stored(&job).await?;
        if payment.status == PaymentStatus::Created {
            self.collect(&scope, &payment).await?;
            return Ok(());
        }
        // Whoever collected it may have died before Redis was told.
        let (tenant, invoice) = (job.tenant, payment.invoice);
        let invoice =
            self.db.transaction(tenant, async |tx| invoices::find(tx, tenant, invoice).await).await?;
        self.ledger.republish(&scope, invoice.customer).await
    }

    async fn cancel_payment(&self, job: OfPayment) -> Result<()> {
        let (scope, payment) = self.stored(&job).await?;
        if payment.status.is_undecided() && self.give_up(&scope, &payment).await?.is_undecided() {
            return Err(Error::Unavailable(format!("the provider has not decided {}", payment.id)));
        }
        Ok(())
    }

    async fn refund_payment(&self, job: OfRefund) -> Result<()> {
        let scope = self.tenants.scope(job.tenant).await?;
        self.ask_refund(&scope, job.refund).await
    }

    async fn rollover_job(&self, job: OfRollover) -> Result<()> {
        let scope = self.tenants.scope(job.tenant).await?;
        self.run_rollover(&scope, job.rollover).await.map(drop)
    }

    async fn auto_top_up_job(&self, job: OfCustomer) -> Result<()> {
        let scope = self.tenants.scope(job.tenant).await?;
        self.top_up_automatically(&scope, job.customer).await?;
        // An earlier try may have died before Redis was told.
        self.ledger.republish(&scope, job.customer).await
    }

    async fn run_due_job(&self, job: OfTenant) -> Result<()> {
        let scope = self.tenants.scope(job.tenant).await?;
        self.run_due(&scope).await.map(drop)
    }

    async fn find_due(&self, job: OfSlot) -> Result<()> {
        for tenant in self.tenants_with_due_work().await? {
            let scope = self.tenants.scope(tenant).await?;
            let key = format!("{tenant}/{}", job.slot);
            let run = NewJob::due_at_once(RUN_DUE, key, json!({"tenant": tenant}));
            self.db
                .transaction(tenant, async |tx| scheduler::enqueue(tx, run.clone(), scope.now).await)
                .await?;
        }
        Ok(())
    }
}
