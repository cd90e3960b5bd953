//! Every billing rule of Tollgate as a pure function: state and `now` in, decision out.
//!
//! Nothing here can read a clock, draw a random number, await, or touch a database: the crates
//! that could do so are not among its dependencies. The shells (`ledger`, `usage`,
//! `subscriptions`, ...) load state, call one function of this crate, and save what it decided.
//!
//! Where a rule lives: amounts in [`credits`] and [`money`], days and cycles in [`calendar`],
//! what is sold in [`catalog`], what a vendor's usage object counts in [`usage_format`], what a request
//! costs in [`rating`], which grant pays in
//! [`account`], the life of a subscription in [`subscription`], what follows a failed renewal in [`dunning`], what is
//! paid at once in [`term`], what a month that has begun costs in [`month_share`], what is carried in [`rollover`], of an invoice and its payments in
//! [`invoice`], its number in [`numbering`], its [`tax`], of money that goes back in [`refund`] and [`dispute`], what a plan would cost in [`advice`],
//! what pays without Credits in [`exhaustion`] and [`payg`],
//! and every expected "no" in [`refusal`]. [`model`] is none of them: it is what tests
//! compare them with.

pub mod account;
pub mod advice;
pub mod alert;
pub mod calendar;
pub mod card;
pub mod catalog;
pub mod chain;
pub mod credits;
pub mod cycle_rates;
pub mod dispute;
pub mod dunning;
pub mod exhaustion;
pub mod grant;
pub mod hold;
pub mod id;
pub mod invoice;
pub mod model;
pub mod money;
pub mod month_share;
pub mod numbering;
pub mod payg;
pub mod policy;
pub mod rating;
pub mod refund;
pub mod refusal;
pub mod rollover;
pub mod scope;
pub mod statement;
pub mod subscription;
pub mod tax;
pub mod term;
pub mod time;
pub mod upgrade;
pub mod usage;
pub mod usage_format;

#[cfg(test)]
mod fixtures;

pub use credits::Credits;
pub use money::{Currency, Money};
pub use refusal::Refusal;
pub use scope::TenantScope;
pub use time::Timestamp;
