//! Accounts as this server left them last: usage of a customer seldom has to read the account and its grants again.
//!
//! Whoever changes anything of an account writes its row, under the row's lock. So while the lock is held, a row that was written last by
//! the transaction that left the account so, and has the same link of the chain, is that of the same account, whoever
//! else had it in between. That is what the lock answers; all else of the row, and the grants, need not be read. What was
//! left by a transaction that was rolled back is no row's, and so nobody's.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::Timestamp;
use domain::account::Account;
use domain::id::{CustomerId, TenantId};

use crate::store::Mark;
use crate::{Accounts, Ledger};

/// A kilobyte or so of each: where there are more, it begins anew.
const ACCOUNTS_MAX: usize = 16_384;

/// The transaction that wrote rows of accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writer(pub(crate) u32);

#[derive(Debug)]
struct Left {
    account: Account,
    writer: Writer,
    /// Of the grants that are used up it has those that ended after this.
    ended_after: Timestamp,
}

#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<HashMap<(TenantId, CustomerId), Left>>);

impl Remembered {
    /// The accounts of these marks that are remembered as they are, with all grants of usage that is no older than `ended_after`;
    /// and whose are not.
    pub(crate) fn find(
        &self,
        tenant: TenantId,
        marks: &[Mark],
        ended_after: Timestamp,
    ) -> (BTreeMap<CustomerId, Account>, Vec<CustomerId>) {
        let left = self.locked();
        let mut found = BTreeMap::new();
        let mut others = Vec::new();
        for mark in marks {
            let left = left.get(&(tenant, mark.customer)).filter(|left| {
                left.writer == mark.writer
                    && left.account.chain() == mark.chain
                    && left.ended_after <= ended_after
            });
            match left {
                Some(left) => drop(found.insert(mark.customer, left.account.clone())),
                None => others.push(mark.customer),
            }
        }
        (found, others)
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<(TenantId, CustomerId), Left>> {
        // Each entry is whole by itself: so is the map, wherever somebody panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Remembers accounts that were locked for usage, as [`write`](crate::write) left those that it has changed. The same
    /// transaction writes nothing more of them after that: the row does not tell it from what `write` had written.
    pub fn remember(&self, tenant: TenantId, accounts: Accounts, writer: Option<Writer>) {
        let (Some(writer), Some(ended_after)) = (writer, accounts.ended_after()) else { return };
        let changed = accounts.into_each().filter(Account::is_changed);
        let settled: Vec<Account> = changed.map(|account| account.settled(ended_after)).collect();
        let mut left = self.remembered.locked();
        if left.len() + settled.len() > ACCOUNTS_MAX {
            left.clear();
        }
        for account in settled {
            left.insert((tenant, account.customer()), Left { account, writer, ended_after });
        }
    }
}
