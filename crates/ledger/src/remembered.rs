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

/// What an account is known by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsOf {
    /// Of its row.
    pub(crate) writer: Writer,
    /// Of the grants that are used up it has those that ended after this.
    pub(crate) ended_after: Timestamp,
}

/// On the heap: from one batch to the next it changes hands, and not its place.
pub(crate) type Known = (Box<Account>, AsOf);
type Left = HashMap<(TenantId, CustomerId), Known>;

#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<Left>);

impl Remembered {
    /// Takes out the accounts of these marks that are remembered as they are, with all grants of usage that is no older than
    /// `ended_after`; and says who has written the others' rows. What is not brought back is read again.
    pub(crate) fn take(
        &self,
        tenant: TenantId,
        marks: &[Mark],
        ended_after: Timestamp,
    ) -> (Vec<Known>, BTreeMap<CustomerId, Writer>) {
        let mut left = self.locked();
        let mut found = Vec::with_capacity(marks.len());
        let mut others = BTreeMap::new();
        for mark in marks {
            let is_as_marked = |(account, as_of): &Known| {
                as_of.writer == mark.writer
                    && account.chain() == mark.chain
                    && as_of.ended_after <= ended_after
            };
            match left.remove(&(tenant, mark.customer)).filter(is_as_marked) {
                Some((account, as_of)) => found.push((account, AsOf { ended_after, ..as_of })),
                None => drop(others.insert(mark.customer, mark.writer)),
            }
        }
        (found, others)
    }

    fn locked(&self) -> MutexGuard<'_, Left> {
        // Each entry is whole by itself: so is the map, wherever somebody panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Remembers accounts that were locked for usage, as [`write`](crate::write) left those that it has changed. The same
    /// transaction writes nothing more of them after that: the row does not tell it from what `write` had written.
    pub fn remember(&self, tenant: TenantId, accounts: Accounts, writer: Option<Writer>) {
        let settled: Vec<Known> = accounts
            .into_each_as_of()
            .filter_map(|(mut account, mut as_of)| {
                if account.is_changed() || account.has_other_overflow() {
                    account.settle(as_of.ended_after);
                    as_of.writer = writer?;
                }
                Some((account, as_of))
            })
            .collect();
        let mut left = self.remembered.locked();
        if left.len() + settled.len() > ACCOUNTS_MAX {
            left.clear();
        }
        left.extend(
            settled.into_iter().map(|(account, as_of)| ((tenant, account.customer()), (account, as_of))),
        );
    }
}
