//! What happened: grants and transfers, page by page.

use db::Result;
use domain::account::{Book, Cause, CauseKind, Transfer};
use domain::grant::Grant;
use domain::id::{CustomerId, GrantId, TenantId};
use domain::{Refusal, TenantScope, Timestamp};
use uuid::Uuid;

use crate::as_of::{AsOf, point};
use crate::{Ledger, store};

/// A grant with what it was issued for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRow {
    pub grant: Grant,
    /// The purchase, or the adjustment, or whatever else is the cause of its transfer.
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

    /// Transfers in the order of their versions, those above `after_version` and up to a point in the past
    /// if one is given; at most `limit`. Refused as [`Ledger::balance_as_of`] is.
    pub async fn transfers(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        as_of: Option<AsOf>,
        after_version: i64,
        limit: i64,
    ) -> Result<Vec<TransferRow>> {
        let tenant = scope.tenant;
        self.db
            .transaction(tenant, async |tx| {
                let up_to = match as_of {
                    Some(as_of) => point(tx, scope, customer, as_of).await?.0,
                    None => {
                        check_customer(tx, tenant, customer).await?;
                        i64::MAX
                    }
                };
                store::transfers_page(tx, tenant, customer, (after_version, up_to), limit).await
            })
            .await
    }
}

/// A grant and whose it is; none where there is none.
pub async fn grant(
    tx: &mut db::Connection,
    tenant: TenantId,
    grant: GrantId,
) -> Result<Option<(CustomerId, GrantRow)>> {
    store::grant(tx, tenant, grant).await
}

/// The transfers that charged an event, in their order: the last of them is `last_version`, and each grant that it
/// drew on has at most two.
pub async fn charged(
    tx: &mut db::Connection,
    tenant: TenantId,
    customer: CustomerId,
    event: Uuid,
    (draws, last_version): (usize, i64),
) -> Result<Vec<Transfer>> {
    let most = i64::try_from(draws).unwrap_or(i64::MAX / 2) * 2;
    let cause = Cause { kind: CauseKind::Usage, id: event };
    let versions = (last_version - most, last_version);
    store::transfers_of_cause(tx, tenant, customer, cause, versions).await
}

/// The transfers that revoked Credits for a refund or a dispute and that none has reversed.
pub async fn revoked(
    tx: &mut db::Connection,
    tenant: TenantId,
    customer: CustomerId,
    cause: Cause,
) -> Result<Vec<Transfer>> {
    let of_cause = store::transfers_of_cause(tx, tenant, customer, cause, (0, i64::MAX)).await?;
    let is_reversed = |version: i64| of_cause.iter().any(|other| other.reverses == Some(version));
    let revoked = of_cause.iter().filter(|of| of.credit == Book::Revoked && !is_reversed(of.version));
    Ok(revoked.cloned().collect())
}

pub(crate) async fn check_customer(
    tx: &mut db::Connection,
    tenant: TenantId,
    customer: CustomerId,
) -> Result<()> {
    if store::has_account(tx, tenant, customer).await? {
        Ok(())
    } else {
        Err(Refusal::NotFound { what: "customer" }.into())
    }
}
