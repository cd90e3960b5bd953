//! What this crate tells the world, in the transaction that caused it (I-26).

use db::{Connection, Result};
use domain::calendar::Cycle;
use domain::id::CustomerId;
use domain::{Credits, TenantScope};
use invoices::Payment;
use outbox::NewEvent;
use serde_json::{Value, json};

use crate::subscription::{Purchase, Subscription};

pub const CREATED: &str = "subscription.created";
pub const ACTIVATED: &str = "subscription.activated";
pub const UPGRADED: &str = "subscription.upgraded";
pub const RENEWED: &str = "subscription.renewed";
/// A try to collect a renewal has failed: when the next one follows, or that none does.
pub const RENEWAL_FAILED: &str = "subscription.renewal_failed";
pub const PAST_DUE: &str = "subscription.past_due";
pub const SUSPENDED: &str = "subscription.suspended";
pub const RESUMED: &str = "subscription.resumed";
pub const CANCELED: &str = "subscription.canceled";
pub const EXPIRED: &str = "subscription.expired";
pub const CANCEL_SET: &str = "subscription.cancel_set";
pub const CANCEL_WITHDRAWN: &str = "subscription.cancel_withdrawn";
pub const DOWNGRADE_SCHEDULED: &str = "subscription.downgrade_scheduled";
pub const DOWNGRADE_WITHDRAWN: &str = "subscription.downgrade_withdrawn";
pub const MIGRATION_SCHEDULED: &str = "subscription.migration_scheduled";
pub const MIGRATION_WITHDRAWN: &str = "subscription.migration_withdrawn";
pub const MIGRATED: &str = "subscription.migrated";
pub const PAYMENT_METHOD_SET: &str = "subscription.payment_method_set";
const CYCLE_CLOSED: &str = "cycle.closed";
pub const CYCLE_OPENED: &str = "cycle.opened";
pub const CYCLE_SKIPPED: &str = "cycle.skipped";
pub const INVOICE_ISSUED: &str = "invoice.issued";
pub const INVOICE_PAID: &str = "invoice.paid";
pub const INVOICE_VOIDED: &str = "invoice.voided";
pub const PAYMENT_CREATED: &str = "payment.created";
/// The customer has to do something: 3-D Secure, or a page of the provider's.
pub const PAYMENT_REQUIRES_ACTION: &str = "payment.requires_action";
/// The provider took another amount or currency than was asked for: an operator has to look.
pub const PAYMENT_MISMATCHED: &str = "payment.mismatched";
pub const PAYMENT_PENDING: &str = "payment.pending";
pub const PAYMENT_FAILED: &str = "payment.failed";
pub const PAYMENT_CANCELED: &str = "payment.canceled";
pub const PAYMENT_REFUNDED: &str = "payment.refunded";
pub const TOP_UP_GRANTED: &str = "top_up.granted";
pub const REFUND_CREATED: &str = "refund.created";
pub const REFUND_SUCCEEDED: &str = "refund.succeeded";
pub const REFUND_FAILED: &str = "refund.failed";
pub const CREDIT_NOTE_ISSUED: &str = "credit_note.issued";
pub const DISPUTE_OPENED: &str = "dispute.opened";
pub const DISPUTE_WON: &str = "dispute.won";
pub const DISPUTE_LOST: &str = "dispute.lost";
pub const CREDITS_GRANTED: &str = "credits.granted";
pub const CREDITS_CARRIED: &str = "credits.carried";
pub const CREDITS_EXPIRED: &str = "credits.expired";

/// Whom an event is about: its subject.
#[derive(Debug, Clone, Copy)]
pub enum About<'a> {
    Subscription(&'a Subscription),
    /// Of what a customer has, or buys, without a subscription.
    Customer(CustomerId),
}

impl About<'_> {
    /// Emits an event about it, and `details` (an object).
    pub async fn emit(
        self,
        tx: &mut Connection,
        scope: &TenantScope,
        kind: &'static str,
        details: Value,
    ) -> Result<()> {
        let customer = match self {
            About::Subscription(subscription) => return emit(tx, scope, kind, subscription, details).await,
            About::Customer(customer) => customer,
        };
        let mut payload = json!({"customer": customer});
        if let (Value::Object(payload), Value::Object(details)) = (&mut payload, details) {
            payload.extend(details);
        }
        let event = NewEvent { kind, subject: customer.to_string(), payload };
        outbox::emit(tx, scope.tenant, event, scope.now).await?;
        Ok(())
    }
}

/// Emits an event about a subscription: who and what it is, and `details` (an object).
pub async fn emit(
    tx: &mut Connection,
    scope: &TenantScope,
    kind: &'static str,
    subscription: &Subscription,
    details: Value,
) -> Result<()> {
    let mut payload = json!({
        "subscription": subscription.id,
        "customer": subscription.customer,
        "status": subscription.status.name(),
        "plan": subscription.plan_code,
    });
    if let (Value::Object(payload), Value::Object(details)) = (&mut payload, details) {
        payload.extend(details);
    }
    let event = NewEvent { kind, subject: subscription.id.to_string(), payload };
    outbox::emit(tx, scope.tenant, event, scope.now).await?;
    Ok(())
}

/// Emits that a cycle was closed, at its end or later, and what of the customer's Credits expired with it. One that is closed
/// before its end is a part of a cancel, which says so itself.
pub async fn emit_cycle_closed(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &Subscription,
    cycle: Cycle,
    expired: Credits,
) -> Result<()> {
    if cycle.end > scope.now {
        return Ok(());
    }
    emit(tx, scope, CYCLE_CLOSED, subscription, json!({"cycle": cycle, "credits_expired": expired})).await
}

/// Emits that grants of a customer expired without a cycle's end.
pub async fn emit_credits_expired(
    tx: &mut Connection,
    scope: &TenantScope,
    customer: CustomerId,
    credits: Credits,
) -> Result<()> {
    if credits.is_zero() {
        return Ok(());
    }
    let details = json!({"credits_expired": credits});
    About::Customer(customer).emit(tx, scope, CREDITS_EXPIRED, details).await
}

/// What an event about a payment says of it.
pub fn payment(payment: &Payment) -> Value {
    json!({
        "invoice": payment.invoice,
        "payment": payment.id,
        "amount": payment.amount,
        "failure_code": payment.failure_code,
    })
}

/// What an event about a purchase says of it.
pub fn purchase(purchase: &Purchase) -> Value {
    json!({
        "purchase": purchase.id,
        "kind": purchase.kind.name(),
        "cycle": purchase.cycle_number,
        "plan": purchase.plan_code,
        "credits": purchase.credits,
        "invoice": purchase.invoice,
    })
}
