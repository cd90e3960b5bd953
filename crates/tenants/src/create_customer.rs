//! Creates a customer.

use db::Result;
use domain::id::{CustomerId, ExternalId};
use domain::{TenantScope, Timestamp};
use uuid::Uuid;

use crate::{Tenants, name, store};

/// A customer to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCustomer {
    /// The tenant's own id of the customer, unique in the tenant.
    pub external_id: ExternalId,
    pub name: Option<String>,
}

/// A tenant's customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    pub id: CustomerId,
    pub external_id: ExternalId,
    pub name: Option<String>,
    pub created_at: Timestamp,
}

impl Tenants {
    /// Creates a customer with an empty credit account (R-35a). Refused with `invalid-field` or
    /// `customer-exists`.
    pub async fn create_customer(&self, scope: &TenantScope, new: NewCustomer) -> Result<Customer> {
        if let Some(name) = &new.name {
            name::check(name)?;
        }
        let customer = Customer {
            id: CustomerId::from_uuid(Uuid::now_v7()),
            external_id: new.external_id,
            name: new.name,
            created_at: scope.now,
        };
        self.db
            .transaction(scope.tenant, async |tx| {
                store::insert_customer(tx, scope.tenant, &customer).await?;
                ledger::open(tx, scope.tenant, customer.id, scope.now).await
            })
            .await?;
        Ok(customer)
    }
}
