//! Answers: allowed for the request, the same for the same key, and with their effect stored (I-31).

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use super::{AT_REST, EXPECTED, Evidence, FAULTS, Findings, PURCHASES, REFUSED, SAME_ANSWER};
use crate::history::{AccountIndex, Answer, Operation, Outcome, Request, Why};
use crate::rates::credits_of;
use crate::store::Books;
use crate::world::Customer;

pub(crate) fn check(evidence: &Evidence<'_>, findings: &mut Findings) {
    let mut first: HashMap<(u32, &str, u8), &Answer> = HashMap::new();
    for operation in evidence.operations {
        for a_try in &operation.tries {
            let is_fault = a_try.outcome == Outcome::Unknown(Why::Fault);
            findings.expect(FAULTS, !is_fault, || describe(operation));
        }
        let Some(answer) = &operation.answer else { continue };
        findings.expect(EXPECTED, is_allowed(operation, answer), || describe(operation));
        let Some(kind) = kept_kind(&operation.request) else { continue };
        // A refusal is not kept: a repeat may be granted.
        if matches!(answer, Answer::Refused { .. })
            && !first.contains_key(&(operation.client, &operation.key, kind))
        {
            continue;
        }
        let before = first.entry((operation.client, &operation.key, kind)).or_insert(answer);
        findings.expect(SAME_ANSWER, is_same(before, answer), || {
            format!("{before:?}, then {}", describe(operation))
        });
    }
    check_purchases(evidence, findings);
}

/// Which requests are answered again as they were, and told apart under the same key.
fn kept_kind(request: &Request) -> Option<u8> {
    Some(match request {
        Request::Authorize { .. } => 0,
        Request::Release { .. } => 1,
        Request::Subscribe { .. } => 2,
        Request::Upgrade { .. } => 3,
        Request::CancelAtOnce => 4,
        Request::CancelAtEnd => 5,
        Request::WithdrawCancel => 6,
        // Events are compared one by one; reads are never the same.
        Request::Usage(_) | Request::Balance | Request::List(_) | Request::CreateCustomer { .. } => {
            return None;
        }
    })
}

fn is_same(before: &Answer, now: &Answer) -> bool {
    match (before, now) {
        (Answer::Held { digest: before, .. }, Answer::Held { digest: now, .. })
        | (Answer::Bought { digest: before, .. }, Answer::Bought { digest: now, .. })
        | (Answer::Subscription { digest: before, .. }, Answer::Subscription { digest: now, .. }) => {
            before == now
        }
        (Answer::Released { .. }, Answer::Released { .. }) => true,
        _ => false,
    }
}

fn is_allowed(operation: &Operation, answer: &Answer) -> bool {
    let (status, code) = match answer {
        Answer::Refused { status, code } => (*status, code.as_str()),
        Answer::Strange(_) => return false,
        _ => return true,
    };
    match (&operation.request, status, code) {
        (Request::Authorize { .. }, 402, "insufficient_quota") => true,
        (Request::Subscribe { .. }, 409, "already-subscribed") => true,
        (Request::Upgrade { .. }, 409, code) => {
            ["not-an-upgrade", "downgrade-within-cycle", "subscription-ended", "upgrade-pending"]
                .contains(&code)
        }
        (Request::CancelAtOnce | Request::CancelAtEnd, 409, "subscription-ended") => true,
        (Request::WithdrawCancel, 409, "nothing-scheduled" | "subscription-ended") => true,
        // Its own earlier try made it.
        (Request::CreateCustomer { .. }, 409, "customer-exists") => operation.was_unknown(),
        _ => false,
    }
}

fn describe(operation: &Operation) -> String {
    let Operation { client, key, request, account, tries, answer, .. } = operation;
    let request = match request {
        Request::Usage(events) => format!("usage of {}", events.len()),
        other => format!("{other:?}"),
    };
    format!("client {client} {key}, account {account:?}: {request} was answered {answer:?}; tries: {tries:?}")
}

/// What was bought is stored, paid and granted once; and nothing else was granted.
fn check_purchases(evidence: &Evidence<'_>, findings: &mut Findings) {
    let books = evidence.books;
    let mut grants: HashMap<Uuid, Vec<i64>> = HashMap::new();
    for transfer in books.transfers.values().flatten().filter(|transfer| transfer.cause_kind == "purchase") {
        grants.entry(transfer.cause_id).or_default().push(transfer.credits);
    }
    for purchase in &books.purchases {
        let granted = grants.remove(&purchase.purchase).unwrap_or_default();
        let is_right = match purchase.status.as_str() {
            "applied" => granted == [purchase.credits],
            _ => granted.is_empty(),
        };
        findings.expect(PURCHASES, is_right, || format!("granted {granted:?} for {purchase:?}"));
    }
    findings.expect(PURCHASES, grants.is_empty(), || format!("granted for no purchase: {grants:?}"));

    let applied: HashMap<Uuid, i64> = books
        .purchases
        .iter()
        .filter(|purchase| purchase.status == "applied")
        .map(|purchase| (purchase.invoice, purchase.credits))
        .collect();
    let paid: HashSet<Uuid> = books
        .invoices
        .iter()
        .filter(|invoice| invoice.status == "paid")
        .map(|invoice| invoice.invoice)
        .collect();
    let status: HashMap<Uuid, &str> =
        books.subscriptions.iter().map(|row| (row.subscription, row.status.as_str())).collect();
    let mut bought: BTreeMap<Uuid, (u32, &str)> = BTreeMap::new();
    for operation in evidence.operations {
        match &operation.answer {
            Some(Answer::Bought { invoice, subscription, is_paid, .. }) => {
                let (Some(invoice), Some(subscription)) = (uuid_of(invoice), uuid_of(subscription)) else {
                    findings.expect(PURCHASES, false, || describe(operation));
                    continue;
                };
                let is_stored = status.contains_key(&subscription) && (!is_paid || paid.contains(&invoice));
                let credits = applied.get(&invoice).copied();
                let is_granted = match operation.request {
                    // Pending: the provider, or a worker, decides later.
                    _ if !is_paid => true,
                    Request::Subscribe { plan } => credits == credits_of(plan),
                    _ => credits.is_some(),
                };
                findings.expect(PURCHASES, is_stored && is_granted, || describe(operation));
                let own = (operation.client, operation.key.as_str());
                let buyer = *bought.entry(invoice).or_insert(own);
                findings.expect(PURCHASES, buyer == own, || {
                    format!("sold to {buyer:?} as well: {}", describe(operation))
                });
            }
            Some(Answer::Subscription { subscription, .. }) if operation.request == Request::CancelAtOnce => {
                let ended = uuid_of(subscription).and_then(|id| status.get(&id).copied());
                findings.expect(PURCHASES, ended == Some("canceled"), || describe(operation));
            }
            _ => {}
        }
    }
    check_nothing_else_was_bought(evidence, &applied, &bought, findings);
}

fn check_nothing_else_was_bought(
    evidence: &Evidence<'_>,
    applied: &HashMap<Uuid, i64>,
    bought: &BTreeMap<Uuid, (u32, &str)>,
    findings: &mut Findings,
) {
    let accounts = evidence.accounts();
    let is_purchase = |operation: &&Operation| {
        matches!(operation.request, Request::Subscribe { .. } | Request::Upgrade { .. })
            && operation.answer.is_none()
    };
    let unanswered: HashSet<AccountIndex> =
        evidence.operations.iter().filter(is_purchase).filter_map(|operation| operation.account).collect();
    for invoice in &evidence.books.invoices {
        let is_open = accounts.get(&invoice.customer).is_some_and(|account| unanswered.contains(account));
        let is_known = bought.contains_key(&invoice.invoice) || is_open;
        findings.expect(REFUSED, is_known || !applied.contains_key(&invoice.invoice), || {
            format!("nobody was told that this was bought: {invoice:?}")
        });
    }
}

/// `inv_` or another prefix, and the 32 digits of a UUID.
fn uuid_of(id: &str) -> Option<Uuid> {
    Uuid::parse_str(id.rsplit('_').next()?).ok()
}

/// While nothing is under way, balances are as they are stored.
pub(crate) fn check_balances(
    customers: &[Customer],
    balances: &[(AccountIndex, Answer)],
    books: &Books,
    findings: &mut Findings,
) {
    for (account, answer) in balances {
        let Answer::Balance { version, settled, held, available } = answer else { continue };
        let row = books.accounts.iter().find(|row| Some(row.customer) == customers[*account].uuid());
        let is_right = row.is_some_and(|row| row.version == *version && row.available == *settled)
            && *available == (settled - held).max(0);
        findings.expect(AT_REST, is_right, || format!("account {account}: {answer:?}, stored {row:?}"));
    }
}
