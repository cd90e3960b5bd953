//! A slow and obvious reference of the rules, for tests to compare the product with.
//!
//! It is written apart: it calls no rule of this crate, and a test (`tests/it/tidy.rs`) forbids it to
//! import one. Every amount in it is a plain number (Credits, minor units, microseconds since 1970),
//! every list is searched from its beginning, and nothing is kept that could be counted again.
//!
//! [`Model`] is a tenant as the outside sees it: it takes a [`Command`] and says the [`Answer`] that
//! Tollgate must give over HTTP. It covers customers, subscriptions by the month and by the year with their payments, retries, upgrades
//! and cancels, top-ups, also those that buy themselves, refunds, disputes and suspensions, what the provider tells, what is given by hand or by campaigns, holds, usage and
//! its voids, cycles with what they carry over, what is paid by the token, accounts that are parked over another amount, and the test clock.

pub mod account;
mod apart;
pub mod calendar;
pub mod command;
pub mod holds;
#[cfg(test)]
mod one_by_one;
mod payg;
mod provider;
mod rates;
mod reads;
mod sales;
mod subscriptions;
pub mod tenant;
mod top_ups;
mod usage;

pub use command::{Answer, Ask, AutoTopUp, Command, Event, Fact, Noun, Plain, Whom};
#[cfg(test)]
pub(crate) use one_by_one::{Fate, ModelAccount, ModelUsage};
pub use rates::{ModelBand, ModelCost, cost, discounted, paid_within_cycle};
pub use tenant::{
    Model, ModelCatalog, ModelPlan, ModelPolicies, ModelPromotion, ModelRates, ModelRollover, ModelTopUp,
};
pub use usage::Counted;
