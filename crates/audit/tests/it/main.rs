//! The audit on real stores.

// The futures of whole services are nested deeply.
#![recursion_limit = "256"]

mod corruption;
mod kinds;
mod lively;
mod million;
mod repair;
