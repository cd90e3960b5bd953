//! The books of every account: they sum to zero and come of the transfers (I-1 to I-5).

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::{BOOKS, Findings};
use crate::store::{AccountRow, Books, GrantRow, TransferRow};

/// Balances of an account's books by name, credits less debits.
type Balances = BTreeMap<String, i64>;

/// What one grant's transfers come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct OfGrant {
    issued: i64,
    spent: i64,
    expired: i64,
    revoked: i64,
}

/// Checks every account, every grant, and every prefix of the transfers.
pub(crate) fn check_books(books: &Books, findings: &mut Findings) {
    let mut of_grants: HashMap<Uuid, OfGrant> = HashMap::new();
    let none = Vec::new();
    for account in &books.accounts {
        let transfers = books.transfers.get(&account.customer).unwrap_or(&none);
        check_account(account, transfers, &mut of_grants, findings);
    }
    let owners = books.transfers.keys();
    for owner in owners {
        let is_known = books.accounts.iter().any(|account| account.customer == *owner);
        findings.expect(BOOKS, is_known, || format!("transfers of no account: {owner}"));
    }
    for grant in &books.grants {
        let GrantRow { amount, spent, expired, revoked, remaining, .. } = *grant;
        let moved = of_grants.get(&grant.grant).copied().unwrap_or_default();
        let stored = OfGrant { issued: amount, spent, expired, revoked };
        let is_whole = amount == spent + expired + revoked + remaining && remaining >= 0;
        findings.expect(BOOKS, moved == stored && is_whole, || format!("{moved:?} is not that of {grant:?}"));
    }
    for account in &books.accounts {
        let own = books.grants.iter().filter(|grant| grant.customer == account.customer);
        let left: i64 = own.map(|grant| grant.remaining).sum();
        findings.expect(BOOKS, left == account.available, || format!("grants have {left} left: {account:?}"));
    }
}

fn check_account(
    account: &AccountRow,
    transfers: &[TransferRow],
    of_grants: &mut HashMap<Uuid, OfGrant>,
    findings: &mut Findings,
) {
    let mut balances = Balances::new();
    let mut expected_version = 0;
    for transfer in transfers {
        let TransferRow { version, debit, credit, grant, credits, .. } = transfer;
        expected_version += 1;
        let is_next = *version == expected_version && *credits > 0 && debit != credit;
        findings.expect(BOOKS, is_next, || format!("not version {expected_version}: {transfer:?}"));
        expected_version = *version;
        *balances.entry(debit.clone()).or_default() -= credits;
        *balances.entry(credit.clone()).or_default() += credits;
        let available = balances.get("available").copied().unwrap_or_default();
        let mut grant_left = 0;
        if let Some(grant) = grant {
            let moved = of_grants.entry(*grant).or_default();
            match (debit.as_str(), credit.as_str()) {
                ("issued", _) => moved.issued += credits,
                (_, "spent") => moved.spent += credits,
                (_, "expired") => moved.expired += credits,
                (_, "revoked") => moved.revoked += credits,
                _ => findings.expect(BOOKS, false, || format!("a strange transfer: {transfer:?}")),
            }
            grant_left = moved.issued - moved.spent - moved.expired - moved.revoked;
        }
        findings
            .expect(BOOKS, available >= 0 && grant_left >= 0, || format!("below zero after {transfer:?}"));
    }
    let AccountRow { issued, available, spent, expired, revoked, overage, version, .. } = *account;
    let stored = [
        ("issued", issued),
        ("available", available),
        ("spent", spent),
        ("expired", expired),
        ("revoked", revoked),
        ("overage", overage),
    ];
    let moved = |book: &str| balances.get(book).copied().unwrap_or_default();
    let is_right = stored.iter().all(|(book, balance)| moved(book) == *balance);
    let sum: i64 = stored.iter().map(|(_, balance)| balance).sum();
    findings.expect(BOOKS, is_right && sum == 0 && version == expected_version, || {
        format!("{account:?}, but its transfers come to {balances:?} at version {expected_version}")
    });
}
