//! The audit on real stores.

mod corruption;
mod lively;
