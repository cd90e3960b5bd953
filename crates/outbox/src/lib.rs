//! Domain events, stored in the transaction that caused them (I-26).
//!
//! An event exists exactly when its cause does: both commit or neither. This crate stores events
//! and nothing else; `webhooks` reads them and delivers. One statement, one round trip.

mod alert;
mod emit;
mod store;

pub use alert::{emit_alert, emit_recovered};
pub use emit::{NewEvent, emit};
