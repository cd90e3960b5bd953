//! The payment provider: what Tollgate asks of one, and the sandbox that is built in.
//!
//! A provider is asked outside every transaction, with the payment's id as the idempotency key:
//! asked again, it answers for the same payment and takes no money twice. What it answers is a
//! report, an ordinary input of the payment's state machine ([`domain::invoice::payment_after`]);
//! a provider that does not answer leaves the outcome unknown, and the payment undecided.
//!
//! # The sandbox
//! [`Sandbox`] moves no money and keeps no state: the payment method alone decides.
//!
//! | method | a payment with it | canceled later |
//! |---|---|---|
//! | `pm_sandbox_succeeds` | succeeds at once | has succeeded |
//! | `pm_sandbox_declines` | fails, `card_declined` | has failed |
//! | `pm_sandbox_pends` | stays pending for ever | is canceled |
//!
//! It gives everything back that it is asked for, at once.
//!
//! Each may end in `:CARD`, a made-up card (`pm_sandbox_succeeds:anna`), which gives the method the
//! fingerprint `sandbox:CARD`: two customers who name one card look like two customers with one
//! card. CARD is 1 to 128 of `[A-Za-z0-9._:-]`. Any other method is unknown.

mod provider;
mod sandbox;

pub use provider::{Collect, Collected, GiveBack, NextAction, PaymentProvider, ProviderError, Taken};
pub use sandbox::Sandbox;
