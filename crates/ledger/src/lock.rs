//! The first beat: lock and read.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DurationRound, TimeDelta};
use db::{Connection, Locked, Result};
use domain::account::{Account, AccountHead};
use domain::grant::Grant;
use domain::id::{CustomerId, GrantId, TenantId};
use domain::{Refusal, Timestamp};
use futures_util::try_join;

use crate::{Ledger, store};

/// Locked accounts, each with its grants, in id order.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    accounts: BTreeMap<CustomerId, Account>,
    /// Of the grants that are used up they have those that ended after this; none where none was looked for.
    ended_after: Option<Timestamp>,
}

impl Accounts {
    fn read(heads: Vec<AccountHead>, mut grants: BTreeMap<CustomerId, Vec<Grant>>) -> Accounts {
        let with_grants = heads.into_iter().map(|head| {
            let open = grants.remove(&head.customer).unwrap_or_default();
            (head.customer, Account::new(head, open))
        });
        Accounts { accounts: with_grants.collect(), ended_after: None }
    }

    /// The account of a customer that was locked; `not-found` where there is none.
    pub fn get_mut(&mut self, customer: CustomerId) -> Result<&mut Account> {
        Ok(self.accounts.get_mut(&customer).ok_or(Refusal::NotFound { what: "customer" })?)
    }

    pub fn contains(&self, customer: CustomerId) -> bool {
        self.accounts.contains_key(&customer)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    pub(crate) fn into_each(self) -> impl Iterator<Item = Account> {
        self.accounts.into_values()
    }

    pub(crate) fn ended_after(&self) -> Option<Timestamp> {
        self.ended_after
    }
}

/// Locks the accounts of these customers until the transaction ends, always in id order, so that
/// no two callers wait for each other. Customers without an account are left out.
pub async fn lock(tx: &mut Connection, tenant: TenantId, customers: &[CustomerId]) -> Result<Accounts> {
    lock_unless(tx, tenant, customers, Locked::Wait).await
}

/// The same, or without those that are locked.
pub(crate) async fn lock_unless(
    tx: &mut Connection,
    tenant: TenantId,
    customers: &[CustomerId],
    locked: Locked,
) -> Result<Accounts> {
    let customers = distinct(customers);
    let heads = store::lock_accounts(tx, tenant, &customers, locked).await?;
    Ok(Accounts::read(heads, store::open_grants(tx, tenant, &customers, None, &[]).await?))
}

/// The same, with all grants that usage may be charged to whose charge instant is not before `oldest`:
/// those of a cycle that has ended since are among them, whatever is left of them. What is remembered is not
/// read again.
pub async fn lock_for_usage(
    tx: &mut Connection,
    ledger: &Ledger,
    tenant: TenantId,
    customers: &[CustomerId],
    oldest: Timestamp,
) -> Result<Accounts> {
    // By the hour, so that what was read for one batch is enough for the next one.
    let ended_after = oldest.duration_trunc(TimeDelta::hours(1)).unwrap_or(oldest);
    let marks = store::lock_marks(tx, tenant, &distinct(customers)).await?;
    let (mut accounts, others) = ledger.remembered.find(tenant, &marks, ended_after);
    if !others.is_empty() {
        let tx: &Connection = tx;
        let (heads, grants) = try_join!(
            store::locked_accounts(tx, tenant, &others),
            store::open_grants(tx, tenant, &others, Some(ended_after), &[]),
        )?;
        accounts.extend(Accounts::read(heads, grants).accounts);
    }
    Ok(Accounts { accounts, ended_after: Some(ended_after) })
}

/// The same for one customer, with the grants that had paid for what is voided, whatever became of them.
pub async fn lock_for_void(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    paid: &[GrantId],
    now: Timestamp,
) -> Result<Accounts> {
    let heads = store::lock_accounts(tx, tenant, &[customer], Locked::Wait).await?;
    Ok(Accounts::read(heads, store::open_grants(tx, tenant, &[customer], Some(now), paid).await?))
}

fn distinct(customers: &[CustomerId]) -> Vec<CustomerId> {
    let distinct: BTreeSet<CustomerId> = customers.iter().copied().collect();
    distinct.into_iter().collect()
}
