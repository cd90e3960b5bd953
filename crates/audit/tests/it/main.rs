//! The audit on real stores.

mod corruption;
mod kinds;
mod lively;
mod million;
mod repair;
