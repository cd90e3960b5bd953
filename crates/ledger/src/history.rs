//! What happened: grants and transfers, page by page.

use db::Result;
use domain::account::Transfer;
use domain::grant::Grant;
use domain::id::{CustomerId, GrantId};
use domain::{Refusal, TenantScope, Timestamp};
use uuid::Uuid;

use crate::{Ledger, store};

/// A grant with what it was issued for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRow {
    pub grant: Grant,
    pub purchase_id: Uuid,
    pub created_at: Timestamp,
}

/// A transfer as it was recorded.
pub type TransferRow = Transfer;

impl Ledger {
    /// Grants in the order they were made, those after `after`; at most `limit`.
    pub async fn grants(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        after: Option<GrantId>,
        limit: i64,
    ) -> Result<Vec<GrantRow>> {
        let tenant = scope.tenant;
        self.db
            .transaction(tenant, async |tx| {
                check_customer(tx, tenant, customer).await?;
                store::grants_page(tx, tenant, customer, after, limit).await
            })
            .await
    }

    /// Transfers in the order of their versions, those above `after_version`; at most `limit`.
    pub async fn transfers(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        after_version: i64,
        limit: i64,
    ) -> Result<Vec<TransferRow>> {
        let tenant = scope.tenant;
        self.db
            .transaction(tenant, async |tx| {
                check_customer(tx, tenant, customer).await?;
                store::transfers_page(tx, tenant, customer, after_version, limit).await
            })
            .await
    }
}

async fn check_customer(
    tx: &mut db::Connection,
    tenant: domain::id::TenantId,
    customer: CustomerId,
) -> Result<()> {
    if store::has_account(tx, tenant, customer).await? {
        Ok(())
    } else {
        Err(Refusal::NotFound { what: "customer" }.into())
    }
}
