//! The first beat: lock and read.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DurationRound, TimeDelta};
use db::{Connection, Locked, Result};
use domain::account::{Account, AccountHead};
use domain::grant::Grant;
use domain::id::{CustomerId, GrantId, TenantId};
use domain::{Refusal, Timestamp};
use futures_util::try_join;

use crate::remembered::{AsOf, Known};
use crate::{Ledger, store};

/// Locked accounts, each with its grants, in id order.
#[derive(Debug, Default)]
pub struct Accounts(BTreeMap<CustomerId, LockedAccount>);

#[derive(Debug)]
struct LockedAccount {
    account: Box<Account>,
    /// Where it was locked for usage.
    as_of: Option<AsOf>,
}

impl Accounts {
    fn read(heads: Vec<AccountHead>, grants: BTreeMap<CustomerId, Vec<Grant>>) -> Accounts {
        let mut accounts = Accounts::default();
        for account in with_grants(heads, grants) {
            accounts.insert(account, None);
        }
        accounts
    }

    fn insert(&mut self, account: Box<Account>, as_of: Option<AsOf>) {
        self.0.insert(account.customer(), LockedAccount { account, as_of });
    }

    /// The account of a customer that was locked; `not-found` where there is none.
    pub fn get_mut(&mut self, customer: CustomerId) -> Result<&mut Account> {
        let locked = self.0.get_mut(&customer).ok_or(Refusal::NotFound { what: "customer" })?;
        Ok(&mut locked.account)
    }

    pub fn contains(&self, customer: CustomerId) -> bool {
        self.0.contains_key(&customer)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        self.0.values().map(|locked| locked.account.as_ref())
    }

    /// Those that were locked for usage.
    pub(crate) fn into_each_as_of(self) -> impl Iterator<Item = Known> {
        self.0.into_values().filter_map(|LockedAccount { account, as_of }| Some((account, as_of?)))
    }
}

fn with_grants(
    heads: Vec<AccountHead>,
    mut grants: BTreeMap<CustomerId, Vec<Grant>>,
) -> impl Iterator<Item = Box<Account>> {
    heads.into_iter().map(move |head| {
        let open = grants.remove(&head.customer).unwrap_or_default();
        Box::new(Account::new(head, open))
    })
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
    let (found, others) = ledger.remembered.take(tenant, &marks, ended_after);
    let mut accounts = Accounts::default();
    for (account, as_of) in found {
        accounts.insert(account, Some(as_of));
    }
    if !others.is_empty() {
        let customers: Vec<CustomerId> = others.keys().copied().collect();
        let tx: &Connection = tx;
        let (heads, grants) = try_join!(
            store::locked_accounts(tx, tenant, &customers),
            store::open_grants(tx, tenant, &customers, Some(ended_after), &[]),
        )?;
        for account in with_grants(heads, grants) {
            let writer = others.get(&account.customer()).copied();
            accounts.insert(account, writer.map(|writer| AsOf { writer, ended_after }));
        }
    }
    Ok(accounts)
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
