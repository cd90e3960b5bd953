//! The commands, a file each.

pub(crate) mod catalog;
pub(crate) mod dev;
pub(crate) mod migrate;
pub(crate) mod openapi;
pub(crate) mod provider;
pub(crate) mod rebuild;
pub(crate) mod rollover;
pub(crate) mod serve;
pub(crate) mod tenant;
pub(crate) mod unpark;
pub(crate) mod verify;
pub(crate) mod worker;
