//! Replays each account from its transfers alone, row by row: what a sum cannot show. The chain (I-7),
//! recording times (I-10), every prefix (I-5), which grant was drawn before which (I-15, I-16), and that
//! an expiry takes what was left (I-17).
//!
//! One finding an account and invariant: what comes after the first one is its consequence.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use domain::Timestamp;
use domain::account::{Book, Cause, CauseKind, Transfer};
use domain::chain::Link;
use domain::grant::Grant;
use domain::id::{CustomerId, GrantId, TenantId};
use domain::{Credits, Refusal};
use uuid::Uuid;

use crate::finding::{Finding, Invariant};
use crate::store::{GrantTerms, TransferRow};

/// How long after its receipt an event is recorded at the latest. An event's time within that of its
/// recording may lie before or after its receipt, which is not stored; so nothing that depends on which
/// is called wrong.
const RECORDING_MAX: TimeDelta = TimeDelta::seconds(10);

/// One account as of the transfers that were replayed.
struct AccountState {
    customer: Uuid,
    grants: BTreeMap<GrantId, GrantState>,
    available: i64,
    last_recorded_at: Option<Timestamp>,
    link: Link,
    /// The event whose transfers are being replayed, and the rules that explain all of them.
    event: Option<(Uuid, Vec<Rule>)>,
    reported: BTreeSet<Invariant>,
}

#[derive(Debug, Clone)]
struct GrantState {
    terms: Grant,
    remaining: i64,
    /// Expired and not given back since.
    expired: i64,
}

/// By which rule an event chose its grants (R-19a, R-32).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Grants that are effective when it is recorded and expire after this instant.
    Open { instant_min: Timestamp, instant_max: Timestamp },
    /// It lies in a cycle that had ended when it was recorded: the grants of then, and what of them has
    /// expired since.
    Closed { instant_min: Timestamp, instant_max: Timestamp, cycle_end: Timestamp },
}

/// Replays a tenant's accounts.
pub(crate) struct Replay {
    tenant: TenantId,
    checks_chain: bool,
    account: Option<AccountState>,
    pub(crate) findings: Vec<Finding>,
}

impl Replay {
    pub(crate) fn new(tenant: TenantId, checks_chain: bool) -> Replay {
        Replay { tenant, checks_chain, account: None, findings: Vec::new() }
    }

    /// Goes on with a page, in the order of customers and versions. `terms` are the grants of all
    /// customers of the page.
    pub(crate) fn page(&mut self, rows: &[TransferRow], terms: Vec<GrantTerms>) {
        let mut by_customer: BTreeMap<Uuid, Vec<GrantTerms>> = BTreeMap::new();
        for grant in terms {
            by_customer.entry(grant.customer).or_default().push(grant);
        }
        for row in rows {
            let mut account = match self.account.take() {
                Some(account) if account.customer == row.customer_id => account,
                Some(_) | None => AccountState::new(row.customer_id),
            };
            // An account may have been granted something since the page before.
            for grant in by_customer.remove(&row.customer_id).unwrap_or_default() {
                account.know(grant);
            }
            let found = account.replay(self.tenant, row, self.checks_chain);
            for (invariant, found, expected) in found {
                if account.reported.insert(invariant) {
                    self.findings.push(Finding {
                        invariant,
                        tenant: Some(self.tenant),
                        customer: Some(CustomerId::from_uuid(row.customer_id)),
                        table: "transfers".to_owned(),
                        key: format!("version {}", row.version),
                        found,
                        expected,
                        is_damage: true,
                    });
                }
            }
            self.account = Some(account);
        }
    }
}

/// An invariant, what was found, what was expected.
type Wrong = (Invariant, String, String);

impl AccountState {
    fn new(customer: Uuid) -> AccountState {
        AccountState {
            customer,
            grants: BTreeMap::new(),
            available: 0,
            last_recorded_at: None,
            link: Link::START,
            event: None,
            reported: BTreeSet::new(),
        }
    }

    fn know(&mut self, grant: GrantTerms) {
        self.grants.entry(grant.id).or_insert_with(|| GrantState {
            terms: Grant {
                id: grant.id,
                source: grant.source,
                priority: grant.priority,
                amount: Credits::ZERO,
                spent: Credits::ZERO,
                expired: Credits::ZERO,
                revoked: Credits::ZERO,
                effective_at: grant.effective_at,
                expires_at: grant.expires_at,
            },
            remaining: 0,
            expired: 0,
        });
    }

    fn replay(&mut self, tenant: TenantId, row: &TransferRow, checks_chain: bool) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        if let Some(last) = self.last_recorded_at.filter(|last| *last > row.recorded_at) {
            wrong.push((
                Invariant(10),
                format!("recorded at {}", row.recorded_at),
                format!("not before the version before it, at {last}"),
            ));
        }
        self.last_recorded_at = Some(row.recorded_at);
        // What cannot be read is no transfer of ours: I-1 names it.
        let Ok(transfer) = read(row) else { return wrong };
        if checks_chain {
            wrong.extend(self.follow_chain(tenant, row, &transfer));
        }
        // Before the draw is taken: what was there when it was made.
        if transfer.cause.kind == CauseKind::Usage && transfer.credit == Book::Spent {
            wrong.extend(self.check_draw(row, &transfer));
        }
        self.post(&transfer);
        wrong.extend(self.check_balances(&transfer));
        wrong
    }

    /// Each link is compared with the one that is stored before it, so that one edited row is one
    /// finding.
    fn follow_chain(&mut self, tenant: TenantId, row: &TransferRow, transfer: &Transfer) -> Option<Wrong> {
        let expected = self.link.next(tenant, CustomerId::from_uuid(row.customer_id), transfer);
        let stored = <[u8; 32]>::try_from(row.chain.as_slice()).map(Link);
        self.link = stored.unwrap_or(expected);
        (stored != Ok(expected)).then(|| {
            let what = "the hash of this row and the link before it";
            (Invariant(7), format!("link {}", hex(&row.chain)), format!("{}, {what}", hex(&expected.0)))
        })
    }

    fn post(&mut self, transfer: &Transfer) {
        let credits = transfer.credits.get();
        let grant = transfer.grant.and_then(|grant| self.grants.get_mut(&grant));
        let change = match (transfer.debit, transfer.credit) {
            (_, Book::Available) => credits,
            (Book::Available, _) => -credits,
            _ => 0,
        };
        self.available = self.available.saturating_add(change);
        let Some(grant) = grant else { return };
        grant.remaining = grant.remaining.saturating_add(change);
        if transfer.credit == Book::Expired {
            grant.expired = grant.expired.saturating_add(credits);
        } else if transfer.debit == Book::Expired {
            grant.expired = grant.expired.saturating_sub(credits);
        }
    }

    fn check_balances(&self, transfer: &Transfer) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        if self.available < 0 {
            let found = format!("leaves the account {} available", self.available);
            wrong.push((Invariant(5), found, "at least 0 at every version".to_owned()));
        }
        let Some((id, grant)) = transfer.grant.and_then(|id| Some((id, self.grants.get(&id)?))) else {
            return wrong;
        };
        if grant.remaining < 0 {
            let found = format!("leaves {id} {} remaining", grant.remaining);
            wrong.push((Invariant(5), found, "at least 0 at every version".to_owned()));
        }
        if transfer.cause.kind == CauseKind::Expiry && grant.remaining != 0 {
            let found = format!("leaves {id} {} remaining", grant.remaining);
            wrong.push((Invariant(17), found, "0: an expiry takes all that is left".to_owned()));
        }
        wrong
    }

    /// Whether some rule explains why this grant was drawn, or none was (I-15, I-16).
    fn check_draw(&mut self, row: &TransferRow, transfer: &Transfer) -> Option<Wrong> {
        let is_first = self.event.as_ref().is_none_or(|(event, _)| *event != row.cause_id);
        if is_first {
            self.event = Some((row.cause_id, self.rules(row)?));
        }
        let drawn = transfer.grant.and_then(|id| self.grants.get(&id));
        if transfer.grant.is_some() && drawn.is_none() {
            // A grant that is not this account's: I-28 names it.
            return None;
        }
        let (_, rules) = self.event.as_ref()?;
        let mut ineligible = None;
        let mut jumped = None;
        let mut explained = Vec::new();
        for rule in rules {
            if let Some(grant) = drawn.filter(|grant| !rule.may_draw(grant, row.recorded_at)) {
                ineligible = Some(grant);
                continue;
            }
            match self.before(*rule, drawn, row.recorded_at) {
                Some(grant) => jumped = Some(grant),
                None => explained.push(*rule),
            }
        }
        let wrong = match (explained.is_empty(), jumped, ineligible) {
            (false, _, _) => None,
            (true, Some(first), _) => Some((
                Invariant(15),
                match transfer.grant {
                    Some(id) => format!("draws on {id}"),
                    None => "is overage".to_owned(),
                },
                format!("{} first, with {} remaining", first.terms.id, first.remaining),
            )),
            (true, None, Some(grant)) => Some((
                Invariant(16),
                format!("draws on {} for an event at {}", grant.terms.id, row.event_time),
                format!(
                    "a grant that is effective when it is recorded and expires later; this one is from {} to {}",
                    grant.terms.effective_at,
                    grant.terms.expires_at.map_or("no end".to_owned(), |at| at.to_string()),
                ),
            )),
            // Known to be wrong since the event's first transfer.
            (true, None, None) => None,
        };
        self.event = Some((row.cause_id, explained));
        wrong
    }

    /// The rules that may have been used for a new event; none where its hold is not known.
    fn rules(&self, row: &TransferRow) -> Option<Vec<Rule>> {
        let recorded_at = row.recorded_at;
        let (instant_min, instant_max) = match (row.is_captured, row.hold_granted_at) {
            (Some(true), Some(granted_at)) => (granted_at, granted_at),
            (Some(true), None) | (None, _) => return None,
            // min(event time, receipt); the receipt lies shortly before the recording.
            (Some(false), _) => {
                let receipt_min = recorded_at - RECORDING_MAX;
                (row.event_time.min(receipt_min), row.event_time.min(recorded_at))
            }
        };
        let open = Rule::Open { instant_min, instant_max };
        let Some(cycle_end) = self.closed_cycle(instant_max, recorded_at) else { return Some(vec![open]) };
        let closed = Rule::Closed { instant_min, instant_max, cycle_end };
        // Past the grace it counts as if it had happened when it was recorded.
        let late = Rule::Open { instant_min: recorded_at, instant_max: recorded_at };
        Some(if row.is_captured == Some(true) { vec![closed, open] } else { vec![closed, late, open] })
    }

    /// The end of the cycle that an instant lies in, if it is over at `recorded_at`.
    fn closed_cycle(&self, instant: Timestamp, recorded_at: Timestamp) -> Option<Timestamp> {
        let plans = self.grants.values().filter(|grant| grant.terms.source.is_the_plans());
        plans
            .filter(|grant| grant.terms.effective_at <= instant)
            .filter_map(|grant| grant.terms.expires_at)
            .filter(|expiry| instant < *expiry && *expiry <= recorded_at)
            .max()
    }

    /// A grant that the rule has drawn on before `drawn`, and that had something left.
    fn before(
        &self,
        rule: Rule,
        drawn: Option<&GrantState>,
        recorded_at: Timestamp,
    ) -> Option<&GrantState> {
        let in_order = |grant: &&GrantState| {
            drawn.is_none_or(|drawn| grant.terms.burn_key() < drawn.terms.burn_key())
        };
        self.grants
            .values()
            .filter(in_order)
            .filter(|grant| rule.must_draw(grant, recorded_at))
            .min_by_key(|grant| grant.terms.burn_key())
    }
}

impl Rule {
    /// Whether a draw on the grant can be right.
    fn may_draw(self, grant: &GrantState, recorded_at: Timestamp) -> bool {
        let Grant { effective_at, expires_at, .. } = grant.terms;
        match self {
            Rule::Open { instant_min, .. } => {
                effective_at <= recorded_at && expires_at.is_none_or(|expiry| instant_min < expiry)
            }
            Rule::Closed { instant_min, cycle_end, .. } => {
                effective_at < cycle_end && expires_at.is_none_or(|expiry| instant_min < expiry)
            }
        }
    }

    /// Whether the grant was eligible for certain, with something left to draw.
    fn must_draw(self, grant: &GrantState, recorded_at: Timestamp) -> bool {
        let Grant { effective_at, expires_at, .. } = grant.terms;
        match self {
            Rule::Open { instant_max, .. } => {
                grant.remaining > 0
                    && effective_at <= recorded_at
                    && expires_at.is_none_or(|expiry| instant_max < expiry)
            }
            Rule::Closed { instant_max, cycle_end, .. } => {
                grant.remaining + grant.expired > 0
                    && effective_at < cycle_end
                    && expires_at.is_none_or(|expiry| instant_max < expiry)
            }
        }
    }
}

fn read(row: &TransferRow) -> Result<Transfer, Refusal> {
    fn by_name<T: Copy>(all: &[T], name_of: fn(T) -> &'static str, name: &str) -> Result<T, Refusal> {
        let found = all.iter().copied().find(|value| name_of(*value) == name);
        found.ok_or(Refusal::NotFound { what: "transfer" })
    }
    Ok(Transfer {
        version: row.version,
        debit: by_name(&Book::ALL, Book::name, &row.debit)?,
        credit: by_name(&Book::ALL, Book::name, &row.credit)?,
        grant: row.grant_id.map(GrantId::from_uuid),
        credits: Credits::new(row.credits)?,
        cause: Cause {
            kind: by_name(&CauseKind::ALL, CauseKind::name, &row.cause_kind)?,
            id: row.cause_id,
        },
        event_time: row.event_time,
        recorded_at: row.recorded_at,
        reverses: row.reverses,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
