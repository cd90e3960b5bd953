//! Who asks, and what they may.

use std::sync::Arc;

use domain::id::{ApiKeyId, CustomerId};
use domain::{Refusal, TenantScope};

/// What an API key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Read whatever the tenant has.
    Read,
    /// Authorize requests and report usage.
    Usage,
    /// Report usage that is older than the window of event times.
    Backfill,
    /// Create customers, sell and change subscriptions, pay invoices.
    Billing,
    /// Publish versions of the catalogue.
    Catalog,
    /// Everything, the test clock and the other scopes included.
    Admin,
}

impl Scope {
    pub const ALL: [Scope; 6] =
        [Scope::Read, Scope::Usage, Scope::Backfill, Scope::Billing, Scope::Catalog, Scope::Admin];

    pub fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Usage => "usage",
            Scope::Backfill => "backfill",
            Scope::Billing => "billing",
            Scope::Catalog => "catalog",
            Scope::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = Refusal;

    fn from_str(name: &str) -> Result<Self, Refusal> {
        Scope::ALL
            .into_iter()
            .find(|scope| scope.name() == name)
            .ok_or_else(|| Refusal::invalid_field("/scopes", "unknown-scope"))
    }
}

/// By what right a request acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// An API key of the tenant, with these scopes.
    Key(Arc<[Scope]>),
    /// A token that lets one customer read its own affairs.
    Customer(CustomerId),
}

/// Proof of valid credentials: the tenant that a request acts for, and what it may do there.
#[derive(Debug, Clone)]
pub struct Principal {
    pub scope: TenantScope,
    pub access: Access,
    /// The key that it is; none for a customer's token.
    pub key: Option<ApiKeyId>,
}

impl Principal {
    /// Refused with `insufficient-scope` unless a key carries `needed`, or `admin`, which implies
    /// all. No scope but `admin` implies another, and a customer's token has none.
    pub fn require(&self, needed: Scope) -> Result<(), Refusal> {
        match &self.access {
            Access::Key(scopes) if scopes.contains(&needed) || scopes.contains(&Scope::Admin) => Ok(()),
            Access::Key(_) | Access::Customer(_) => Err(Refusal::InsufficientScope { needed: needed.name() }),
        }
    }

    /// Whether this customer's affairs may be read: with a key of scope `read`, or the customer's
    /// own token. To a token every other customer is unknown, whether it exists or not.
    pub fn may_read_customer(&self, customer: CustomerId) -> Result<(), Refusal> {
        match &self.access {
            Access::Key(_) => self.require(Scope::Read),
            Access::Customer(own) if *own == customer => Ok(()),
            Access::Customer(_) => Err(Refusal::NotFound { what: "customer" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use domain::calendar::Zone;
    use domain::id::TenantId;
    use domain::scope::TenantMode;

    fn principal(access: Access) -> Principal {
        let scope = TenantScope {
            tenant: TenantId::from_uuid(uuid::Uuid::from_u128(1)),
            mode: TenantMode::Live,
            zone: Zone::UTC,
            now: domain::time::parse_rfc3339("2026-01-31T10:00:00Z").unwrap(),
            policies: Arc::default(),
        };
        Principal { scope, access, key: None }
    }

    #[test]
    fn only_admin_implies_another_scope() {
        for held in Scope::ALL {
            let key = principal(Access::Key(Arc::new([held])));
            for needed in Scope::ALL {
                let allowed = held == needed || held == Scope::Admin;
                let answer =
                    if allowed { Ok(()) } else { Err(Refusal::InsufficientScope { needed: needed.name() }) };
                assert_eq!(key.require(needed), answer, "{held:?} for {needed:?}");
            }
        }
        assert!(principal(Access::Key(Arc::new([]))).require(Scope::Read).is_err());
        assert!(
            principal(Access::Key(Arc::new([Scope::Usage, Scope::Billing]))).require(Scope::Read).is_err()
        );
    }

    #[test]
    fn a_customer_reads_its_own_affairs_and_knows_no_other() {
        let customer = |n| CustomerId::from_uuid(uuid::Uuid::from_u128(n));
        let token = principal(Access::Customer(customer(1)));
        assert_eq!(token.may_read_customer(customer(1)), Ok(()));
        assert_eq!(token.may_read_customer(customer(2)), Err(Refusal::NotFound { what: "customer" }));
        for scope in Scope::ALL {
            assert!(token.require(scope).is_err(), "{scope:?}");
            let may_read = matches!(scope, Scope::Read | Scope::Admin);
            assert_eq!(
                principal(Access::Key(Arc::new([scope]))).may_read_customer(customer(1)).is_ok(),
                may_read
            );
        }
    }

    #[test]
    fn a_scope_has_one_name() {
        for scope in Scope::ALL {
            assert_eq!(scope.name().parse(), Ok(scope));
        }
        assert!("Read".parse::<Scope>().is_err());
    }
}
