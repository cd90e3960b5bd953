//! The first beat: lock and read.

use std::collections::{BTreeMap, BTreeSet};

use db::{Connection, Locked, Result};
use domain::account::Account;
use domain::id::{CustomerId, GrantId, TenantId};
use domain::{Refusal, Timestamp};

use crate::store;

/// Locked accounts, each with its grants, in id order.
#[derive(Debug, Clone, Default)]
pub struct Accounts(BTreeMap<CustomerId, Account>);

impl Accounts {
    /// The account of a customer that was locked; `not-found` where there is none.
    pub fn get_mut(&mut self, customer: CustomerId) -> Result<&mut Account> {
        Ok(self.0.get_mut(&customer).ok_or(Refusal::NotFound { what: "customer" })?)
    }

    pub fn contains(&self, customer: CustomerId) -> bool {
        self.0.contains_key(&customer)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        self.0.values()
    }
}

/// Locks the accounts of these customers until the transaction ends, always in id order, so that
/// no two callers wait for each other. Customers without an account are left out.
pub async fn lock(tx: &mut Connection, tenant: TenantId, customers: &[CustomerId]) -> Result<Accounts> {
    lock_with(tx, tenant, customers, Locked::Wait, None, &[]).await
}

/// The same, or without those that are locked.
pub(crate) async fn lock_unless(
    tx: &mut Connection,
    tenant: TenantId,
    customers: &[CustomerId],
    locked: Locked,
) -> Result<Accounts> {
    lock_with(tx, tenant, customers, locked, None, &[]).await
}

/// The same, with all grants that usage may be charged to whose charge instant is not before `oldest`:
/// those of a cycle that has ended since are among them, whatever is left of them.
pub async fn lock_for_usage(
    tx: &mut Connection,
    tenant: TenantId,
    customers: &[CustomerId],
    oldest: Timestamp,
) -> Result<Accounts> {
    lock_with(tx, tenant, customers, Locked::Wait, Some(oldest), &[]).await
}

/// The same for one customer, with the grants that had paid for what is voided, whatever became of them.
pub async fn lock_for_void(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    paid: &[GrantId],
    now: Timestamp,
) -> Result<Accounts> {
    lock_with(tx, tenant, &[customer], Locked::Wait, Some(now), paid).await
}

async fn lock_with(
    tx: &mut Connection,
    tenant: TenantId,
    customers: &[CustomerId],
    locked: Locked,
    ended_after: Option<Timestamp>,
    named: &[GrantId],
) -> Result<Accounts> {
    let distinct: BTreeSet<CustomerId> = customers.iter().copied().collect();
    let customers: Vec<CustomerId> = distinct.into_iter().collect();
    let heads = store::lock_accounts(tx, tenant, &customers, locked).await?;
    let mut grants = store::open_grants(tx, tenant, &customers, ended_after, named).await?;
    let mut accounts = BTreeMap::new();
    for head in heads {
        let open = grants.remove(&head.customer).unwrap_or_default();
        accounts.insert(head.customer, Account::new(head, open));
    }
    Ok(Accounts(accounts))
}
