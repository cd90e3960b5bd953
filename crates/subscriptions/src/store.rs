//! All SQL about subscriptions: a file a noun.

pub mod cycles;
pub mod due;
pub mod dunnings;
pub mod payg;
pub mod promotions;
pub mod purchases;
pub mod quotes;
pub mod rollovers;
pub mod sales;
pub mod statuses;
pub mod subscriptions;

use db::{Error, Result};

/// The value of this name; a row with another one is broken.
fn by_name<T: Copy>(all: &[T], name: fn(T) -> &'static str, text: &str) -> Result<T> {
    all.iter()
        .copied()
        .find(|value| name(*value) == text)
        .ok_or_else(|| Error::broken(format!("a row holds the unknown name {text:?}")))
}

fn to_u32(number: i32) -> Result<u32> {
    u32::try_from(number).map_err(|_| Error::broken(format!("a row counts {number}")))
}

fn to_i32(number: u32) -> Result<i32> {
    i32::try_from(number).map_err(|_| domain::Refusal::AmountOverflow.into())
}
