//! What a tenant sells: plans, promotions, top-ups and a rate card, published together as versions
//! that never change, and served from memory.
//!
//! # The walk of a version
//! A catalogue file is TOML ([`parse`]; [`REFERENCE`] is one); a request brings the same document as JSON
//! ([`Catalogs::publish_once`]). [`Catalogs::publish`] checks it
//! and stores it as the tenant's next version under a lock of the tenant's row, so versions have
//! no holes and their effective instants rise. The rules read [`Catalogs::history`], which holds
//! every version of a tenant, because usage is rated by its own time and a subscription stays on
//! the version that it bought. A stored document is checked again when it is loaded.
//!
//! # Round trips
//! `history` is a look into memory; at most once a second and tenant it asks the database for
//! versions that it does not have yet, and only the request that asks waits. So a version that
//! another process published is served within a second. While the database is away it goes on
//! with what it has: nothing newer can have been published then.
//!
//! This crate computes no price and no cost: `domain` does, from what is served here.

mod history;
mod parse;
mod publish;
mod store;

pub use parse::{REFERENCE, parse};
pub use publish::Published;

use std::sync::Arc;

use db::Db;

/// The catalogues of all tenants; cheap to clone, and all clones share their memory.
#[derive(Clone)]
pub struct Catalogs {
    db: Db,
    memory: Arc<history::Memory>,
}

impl Catalogs {
    pub fn new(db: Db) -> Catalogs {
        Catalogs { db, memory: Arc::default() }
    }
}
