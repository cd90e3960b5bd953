//! Stripe: asked to collect an amount, and listened to. Plans, cycles, discounts and renewals are
//! Tollgate's own; Stripe has a customer for each of ours, saved payment methods, payment intents that
//! are confirmed off session, and refunds.
//!
//! # How it is called
//! A request is one of the async-stripe crates' typed ones; sending it and reading its answer is done
//! here ([`Stripe`]). Their own client would read an answer as a whole object of one version of Stripe's
//! API, and call an answer with one field more or less an error after the money has moved. Here only the
//! few fields that Tollgate needs are read, and connections are kept.
//!
//! # What is never guessed
//! A call that timed out, was cut off, was answered with 5xx, 409 or 429, or in words we do not know, is
//! [`CallError::Unknown`]: it may have taken money. [`Stripe::take`] then asks again with the same key,
//! which is the payment's id, and looks the payment up by the metadata that it was made with; nothing
//! here ever starts a second charge for one payment. Stripe forgets a key after a day or more, so a
//! payment that is older than [`KEY_GOOD_FOR`] is looked up before it is asked for.
//!
//! # What the customer has to do
//! A bank may ask for the customer (3-D Secure). Stripe says so by the status `requires_action`, or,
//! for a charge without the customer, by declining it with `authentication_required`; both are
//! `RequiresAction` here, with the client secret that the storefront goes on with.
//!
//! # What comes in
//! [`verify`] checks the signature of a webhook over its raw body; [`read_event`] reads the few fields
//! that matter, whatever the version of the API that the event was written in.
//!
//! Secrets are [`Secret`]s: they have no `Display`, and their `Debug` shows nothing.

mod client;
mod event;
mod intent;
mod list_events;
mod method;
mod refund;
mod secret;
mod setup;
mod signature;
mod take;

pub use client::{CallError, Denied, Options, Stripe};
pub use event::{
    DisputeNotice, DisputeState, Event, MethodNotice, Notice, RefundNotice, Unreadable, read_event,
};
pub use intent::Intent;
pub use list_events::EventPage;
pub use method::Method;
pub use refund::RefundOfIntent;
pub use secret::{KeyMode, Secret, key_mode};
pub use setup::{CheckoutPage, SetupSecret};
pub use signature::{BadSignature, TOLERANCE, verify};
pub use take::{Charge, KEY_GOOD_FOR};
