//! Who asks, and for which tenant: tenants and their settings, customers, API keys and customer
//! tokens. Everything else starts from the [`domain::TenantScope`] that is made here.
//!
//! # The walk of a request
//! [`Tenants::authenticate`] takes what follows `Authorization: Bearer` and answers with a
//! [`Principal`]: the tenant's scope, whose `now` is the request's one instant, and what the
//! credential may do. The tenant comes from the key's row or from a token that we signed, never from
//! anything else that the client sends. Whatever is wrong, the refusal is the same.
//!
//! - An **API key** (`tg_live_...`, `tg_test_...`) speaks for the tenant, within its scopes. It is shown
//!   once; stored are its public prefix and the SHA-256 of the whole. A key of the other mode than its
//!   tenant's is refused.
//! - A **customer token** lets one customer read its own affairs for a day at most: a JWT signed with
//!   Ed25519. It is good for real time, in tenants with a test clock too: moving that clock neither
//!   ends nor revives a token.
//!
//! A job or a command, which nobody authenticates, asks for [`Tenants::scope`]. A test tenant whose
//! clock was set lives at that instant until it is set again; all others live in real time,
//! cut to microseconds.
//!
//! # Round trips
//! A key of a live tenant is looked up once in a while and remembered for at most two seconds, which
//! is how long a revoked one may still be good in another process. A key of a test tenant, whose
//! clock may move any moment, costs one query a request, and so does a token. Every other verb is one
//! short transaction.

mod api_key;
mod authenticate;
mod create_customer;
mod create_tenant;
mod customers;
mod issue_key;
mod key_cache;
mod mint_customer_token;
mod name;
mod principal;
mod revoke_key;
mod set_clock;
mod settings;
mod store;
mod token;

pub use create_customer::{Customer, NewCustomer};
pub use create_tenant::{NewTenant, Tenant};
pub use issue_key::IssuedKey;
pub use mint_customer_token::CustomerToken;
pub use principal::{Access, Principal, Scope};
pub use revoke_key::ApiKeyInfo;
pub use token::TokenKey;

use std::sync::Arc;

use db::Db;

/// Tenants and who speaks for them; cheap to clone, and all clones share what they remember.
#[derive(Clone)]
pub struct Tenants {
    db: Db,
    token_key: Arc<TokenKey>,
    keys: Arc<key_cache::KeyCache>,
}

impl Tenants {
    /// `token_key` signs the customer tokens and must be the same in every process.
    pub fn new(db: Db, token_key: TokenKey) -> Tenants {
        Tenants { db, token_key: Arc::new(token_key), keys: Arc::default() }
    }
}
