//! Lists that were paged to their end while others wrote (I-35).

use std::collections::{HashMap, HashSet};

use super::order::Seen;
use super::{Evidence, Findings, LISTS};
use crate::history::{AccountIndex, Answer, List, Micros, Operation, Request};
use crate::world::Customer;

pub(crate) fn check(evidence: &Evidence<'_>, seen: &[Vec<Seen>], findings: &mut Findings) {
    let rows = Rows::of(evidence);
    for operation in evidence.operations {
        let (Request::List(list), Some(Answer::Listed(ids))) = (&operation.request, &operation.answer) else {
            continue;
        };
        let mut times: HashMap<&str, u32> = HashMap::new();
        ids.iter().for_each(|id| *times.entry(id).or_default() += 1);
        let describe =
            |what: &str| format!("{what} in {list:?} of {:?}, {} rows", operation.account, ids.len());
        for (id, times) in &times {
            findings.expect(LISTS, *times == 1, || describe(&format!("{id} is there {times} times")));
        }
        let start = operation.started();
        match (list, operation.account) {
            (List::Ledger, Some(account)) => check_ledger(ids, &seen[account], start, findings, describe),
            (List::Customers(tenant), _) => {
                for id in rows.customers_before(evidence.customers, *tenant, start) {
                    findings.expect(LISTS, times.contains_key(id), || describe(&format!("{id} is missing")));
                }
            }
            (List::Invoices, Some(account)) => {
                for bought in rows.bought_before(account, start) {
                    let is_there = times.contains_key(bought.invoice.as_str());
                    findings.expect(LISTS, is_there, || describe(&format!("{bought:?} is missing")));
                }
            }
            (List::Subscriptions, Some(account)) => {
                for bought in rows.bought_before(account, start) {
                    let is_there = times.contains_key(bought.subscription.as_str());
                    findings.expect(LISTS, is_there, || describe(&format!("{bought:?} is missing")));
                }
            }
            (List::Grants, Some(account)) => {
                // Each paid purchase has a grant.
                let bought: HashSet<&str> = rows
                    .bought_before(account, start)
                    .filter(|bought| bought.is_paid)
                    .map(|bought| bought.invoice.as_str())
                    .collect();
                let is_whole = times.len() >= bought.len();
                findings.expect(LISTS, is_whole, || describe(&format!("{} purchases", bought.len())));
            }
            (_, None) => {}
        }
    }
}

/// Versions 1..n, and n at least what anybody had seen before.
fn check_ledger(
    ids: &[String],
    seen: &[Seen],
    start: Micros,
    findings: &mut Findings,
    describe: impl Fn(&str) -> String,
) {
    let mut expected = 0_i64;
    for id in ids {
        expected += 1;
        let version = id.parse::<i64>().ok();
        findings.expect(LISTS, version == Some(expected), || {
            describe(&format!("{id} in the place of {expected}"))
        });
    }
    let known = seen.iter().filter(|seen| seen.end < start).map(|seen| seen.highest).max().unwrap_or(0);
    findings.expect(LISTS, expected >= known, || {
        describe(&format!("{known} was there before, {expected} is the last"))
    });
}

/// A row that a client was told of, and when.
#[derive(Debug)]
struct Bought {
    told: Micros,
    subscription: String,
    invoice: String,
    is_paid: bool,
}

struct Rows {
    bought: HashMap<AccountIndex, Vec<Bought>>,
    /// Tenant, when it was told, id.
    visitors: Vec<(usize, Micros, String)>,
}

impl Rows {
    fn of(evidence: &Evidence<'_>) -> Rows {
        let mut rows = Rows { bought: HashMap::new(), visitors: Vec::new() };
        for Operation { request, account, answer, tries, .. } in evidence.operations {
            let told = tries.last().map_or(Micros::MAX, |last| last.ended);
            match (request, account, answer) {
                (_, Some(account), Some(Answer::Bought { subscription, invoice, is_paid, .. })) => {
                    let bought = Bought {
                        told,
                        subscription: subscription.clone(),
                        invoice: invoice.clone(),
                        is_paid: *is_paid,
                    };
                    rows.bought.entry(*account).or_default().push(bought);
                }
                (Request::CreateCustomer { tenant }, _, Some(Answer::Created { customer })) => {
                    rows.visitors.push((*tenant, told, customer.clone()));
                }
                _ => {}
            }
        }
        rows
    }

    fn bought_before(&self, account: AccountIndex, start: Micros) -> impl Iterator<Item = &Bought> {
        self.bought.get(&account).into_iter().flatten().filter(move |bought| bought.told < start)
    }

    /// Those that the run began with, and the visitors created since.
    fn customers_before<'a>(
        &'a self,
        customers: &'a [Customer],
        tenant: usize,
        start: Micros,
    ) -> impl Iterator<Item = &'a str> {
        let first =
            customers.iter().filter(move |customer| customer.tenant == tenant).map(|it| it.id.as_str());
        let visitors = self.visitors.iter().filter(move |(of, told, _)| *of == tenant && *told < start);
        first.chain(visitors.map(|(_, _, id)| id.as_str()))
    }
}
