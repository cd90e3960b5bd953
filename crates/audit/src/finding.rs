//! What a check found wrong.

use domain::id::{CustomerId, TenantId};

/// An invariant of the design, by number (`I-3`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Invariant(pub u8);

impl std::fmt::Display for Invariant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "I-{}", self.0)
    }
}

/// One row that breaks an invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub invariant: Invariant,
    /// None for what belongs to no tenant, such as a column's type.
    pub tenant: Option<TenantId>,
    /// Whose row it is, where it is a customer's.
    pub customer: Option<CustomerId>,
    pub table: String,
    /// The row's key within the tenant, for people.
    pub key: String,
    pub found: String,
    pub expected: String,
    /// False for work that is only late: nothing stored is wrong.
    pub is_damage: bool,
}

impl Finding {
    /// The account that this finding gives reason to park.
    pub fn damaged_account(&self) -> Option<(TenantId, CustomerId)> {
        if self.is_damage { self.tenant.zip(self.customer) } else { None }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Finding { invariant, table, key, found, expected, .. } = self;
        write!(f, "{invariant}: {table}, {key}: {found}; expected: {expected}")
    }
}
