//! Which tenant a request belongs to, and what of it every rule needs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::calendar::Zone;
use crate::id::TenantId;
use crate::policy::Policies;

/// Whether a tenant moves real money, or has a clock that can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantMode {
    Live,
    Test,
}

/// Proof that a request acts for one tenant, made by `tenants` alone from valid credentials or by
/// a job from a stored row, with the instant that the whole request calls `now`.
#[derive(Debug, Clone)]
pub struct TenantScope {
    pub tenant: TenantId,
    pub mode: TenantMode,
    /// Cuts calendar days and cycles only.
    pub zone: Zone,
    /// The tenant's `now`: the test clock's where one is set.
    pub now: Timestamp,
    pub policies: Arc<Policies>,
}
