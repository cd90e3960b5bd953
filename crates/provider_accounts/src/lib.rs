//! A tenant's account at the payment provider, and what that knows of the tenant's customers.
//!
//! # Who collects
//! [`ProviderAccounts`] is the [`PaymentProvider`](payments::PaymentProvider) of a server. In a test
//! tenant the methods `pm_sandbox_..` are the sandbox's; every other method is Stripe's, where the tenant
//! has credentials, and unknown where it has none. So a development server needs no account anywhere,
//! and a tenant may try both side by side.
//!
//! # The credentials
//! A secret key, and up to three secrets that Stripe's webhooks may be signed with, so that these can be
//! rotated without losing an event. They are set, never read back, and kept sealed with a key derived from
//! the installation's secret ([`CredentialKey`]), each bound to its tenant and its place: a dump of the
//! database can neither charge anybody nor forge an event. A key of the other mode than its tenant's is
//! refused: test tenants move no real money, live ones take no play money.
//!
//! # The walk of a payment
//! `subscriptions` asks outside of any transaction. Here the credentials are read, then Stripe's customer
//! for ours (made under a key of its own, the first time), then whether the method is saved for that
//! customer (saved now, if not); and then the charge, which is `stripe::take`'s. Three small reads and
//! one call; three calls the first time.
//!
//! What Stripe tells of saved methods and customers by webhook is taken in here too; it comes in any
//! order, so: a method that was detached stays so, a deleted customer stays so, and of default methods the
//! one of the latest event counts.

mod credentials;
mod customer;
mod key;
mod methods;
mod provider;
mod setup;
mod store;

use std::sync::Arc;

use db::{Db, Error};
use stripe::{CallError, Stripe};

pub use credentials::{AccountView, Credentials, NewCredentials};
pub use key::CredentialKey;
pub use methods::SavedMethod;

/// The accounts of all tenants; cheap to clone.
#[derive(Clone)]
pub struct ProviderAccounts {
    db: Db,
    key: Arc<CredentialKey>,
    stripe: Stripe,
}

impl ProviderAccounts {
    /// `key` seals the credentials and must be the same in every process.
    pub fn new(db: Db, key: CredentialKey, stripe: Stripe) -> ProviderAccounts {
        ProviderAccounts { db, key: Arc::new(key), stripe }
    }

    /// Stripe's API itself, for whoever has the [`Credentials`].
    pub fn stripe(&self) -> &Stripe {
        &self.stripe
    }
}

/// Stripe's own no to something that is right by our rules is a fault of the set-up; anything else may
/// work later.
fn call_failed(error: CallError) -> Error {
    match error {
        CallError::Unknown(reason) => Error::Unavailable(reason),
        CallError::Denied(denied) => Error::Fault(Box::new(denied)),
    }
}
