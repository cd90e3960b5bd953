//! Hot balances on real servers: every test runs on a single Redis and on a cluster of three masters.

mod accounts;
mod epochs;
mod holds;
mod loads;
mod support;
