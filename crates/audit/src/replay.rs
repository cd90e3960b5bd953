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
use domain::id::{CustomerId, GrantId, TenantId};
use domain::policy::{LateRules, LateUsage};
use domain::{Credits, Refusal, TenantScope};
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
    event: Option<Event>,
    reported: BTreeSet<Invariant>,
}

/// The event whose transfers are being replayed.
struct Event {
    cause: Uuid,
    facts: EventFacts,
    /// Those that explain all of its transfers so far.
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct GrantState {
    terms: GrantTerms,
    is_issued: bool,
    remaining: i64,
    /// Expired and not given back since.
    expired: i64,
}

/// What is known of an event that chose its grants, as far as it is stored.
#[derive(Debug, Clone, Copy)]
struct EventFacts {
    /// The charge instant (R-19a) lies between these.
    instant_min: Timestamp,
    instant_max: Timestamp,
    /// The receipt lies between these.
    receipt_min: Timestamp,
    receipt_max: Timestamp,
    recorded_at: Timestamp,
    is_captured: bool,
}

/// By which rule an event chose its grants (R-19a, R-32).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Grants that are effective when it is recorded and expire after its charge instant.
    Open,
    /// It lies in a cycle that had ended when it was recorded: the grants of then, and what of them has
    /// expired since.
    Closed { cycle_end: Timestamp },
    /// The same, past the grace: as if it had happened when it was recorded.
    Late,
    /// The same, in a tenant that absorbs it.
    Nobody,
}

/// Replays a tenant's accounts.
pub(crate) struct Replay {
    tenant: TenantId,
    late: LateRules,
    checks_chain: bool,
    account: Option<AccountState>,
    pub(crate) findings: Vec<Finding>,
}

impl Replay {
    pub(crate) fn new(scope: &TenantScope, checks_chain: bool) -> Replay {
        let late = scope.policies.late_rules();
        Replay { tenant: scope.tenant, late, checks_chain, account: None, findings: Vec::new() }
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
            let found = account.replay(self, row);
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
        let new = |terms| GrantState { terms, is_issued: false, remaining: 0, expired: 0 };
        self.grants.entry(grant.id).or_insert_with(|| new(grant));
    }

    fn replay(&mut self, of: &Replay, row: &TransferRow) -> Vec<Wrong> {
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
        if of.checks_chain {
            wrong.extend(self.follow_chain(of.tenant, row, &transfer));
        }
        // Before the draw is taken: what was there when it was made.
        if transfer.cause.kind == CauseKind::Usage && transfer.credit == Book::Spent {
            wrong.extend(self.check_draw(of.late, row, &transfer));
        }
        self.post(&transfer);
        wrong.extend(self.check_balances(&transfer));
        wrong
    }

    /// Each link is compared with the one that is stored before it, so that one edited row is one
    /// finding.
    fn follow_chain(&mut self, tenant: TenantId, row: &TransferRow, transfer: &Transfer) -> Option<Wrong> {
        let expected = self.link.next(tenant, CustomerId::from_uuid(row.customer_id), transfer);
        let stored = <[u8; 32]>::try_from(row.chain.as_slice()).map(Link).ok();
        self.link = stored.unwrap_or(expected);
        (stored != Some(expected)).then(|| {
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
        grant.is_issued |= transfer.debit == Book::Issued;
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
    fn check_draw(&mut self, late: LateRules, row: &TransferRow, transfer: &Transfer) -> Option<Wrong> {
        if self.event.as_ref().is_none_or(|event| event.cause != row.cause_id) {
            let facts = EventFacts::of(row)?;
            let rules = self.rules(&facts, late);
            self.event = Some(Event { cause: row.cause_id, facts, rules });
        }
        let drawn = transfer.grant.and_then(|id| self.grants.get(&id));
        if transfer.grant.is_some() && drawn.is_none() {
            // A grant that is not this account's: I-28 names it.
            return None;
        }
        let event = self.event.as_ref()?;
        let mut ineligible = None;
        let mut passed_over = None;
        let mut explained = Vec::new();
        for rule in &event.rules {
            if let Some(grant) = drawn.filter(|grant| !event.facts.may_draw(*rule, grant, late)) {
                ineligible = Some(grant);
                continue;
            }
            match self.first_before(*rule, &event.facts, late, drawn) {
                Some(grant) => passed_over = Some(grant),
                None => explained.push(*rule),
            }
        }
        let wrong = match (explained.is_empty(), passed_over, ineligible) {
            (true, Some(first), _) => {
                let found = transfer.grant.map_or("is overage".to_owned(), |id| format!("draws on {id}"));
                let expected = format!("{} first, with {} to draw", first.terms.id, first.unspent());
                Some((Invariant(15), found, expected))
            }
            (true, None, Some(grant)) => Some((
                Invariant(16),
                format!("draws on {} for an event of {}", grant.terms.id, row.event_time),
                format!(
                    "a grant that was good for it; this one is from {} to {}",
                    grant.terms.effective_at,
                    grant.terms.expires_at.map_or("no end".to_owned(), |at| at.to_string()),
                ),
            )),
            // Explained, or known to be wrong since the event's first transfer.
            (false, _, _) | (true, None, None) => None,
        };
        if let Some(event) = &mut self.event {
            event.rules = explained;
        }
        wrong
    }

    /// The rules that may have been used for an event; none where it is not known which.
    fn rules(&self, facts: &EventFacts, late: LateRules) -> Vec<Rule> {
        let cycle_end = self.closed_cycle(facts.instant_max, facts.recorded_at);
        if cycle_end != self.closed_cycle(facts.instant_min, facts.recorded_at) {
            return Vec::new();
        }
        let Some(cycle_end) = cycle_end else { return vec![Rule::Open] };
        let past_grace = match late.past_grace {
            LateUsage::Current => Rule::Late,
            LateUsage::Absorb => Rule::Nobody,
        };
        let mut rules = Vec::new();
        if facts.may_reach_back_to(cycle_end, late) {
            rules.push(Rule::Closed { cycle_end });
        }
        if !facts.must_reach_back_to(cycle_end, late) {
            rules.push(past_grace);
        }
        rules
    }

    /// The end of the cycle that an instant lies in, if it is over at `recorded_at`.
    fn closed_cycle(&self, instant: Timestamp, recorded_at: Timestamp) -> Option<Timestamp> {
        let plans = self.grants.values().filter(|grant| grant.is_issued && grant.terms.source.is_the_plans());
        let around = plans.filter(|grant| grant.terms.effective_at <= instant);
        let ends = around.filter_map(|grant| grant.terms.expires_at).filter(|expiry| instant < *expiry);
        ends.max().filter(|end| *end <= recorded_at)
    }

    /// The first grant that the rule draws on before `drawn`, with something to draw.
    fn first_before(
        &self,
        rule: Rule,
        facts: &EventFacts,
        late: LateRules,
        drawn: Option<&GrantState>,
    ) -> Option<&GrantState> {
        self.grants
            .values()
            .filter(|grant| drawn.is_none_or(|drawn| grant.burn_key() < drawn.burn_key()))
            .filter(|grant| facts.must_draw(rule, grant, late))
            .min_by_key(|grant| grant.burn_key())
    }
}

impl GrantState {
    /// The order of R-25.
    fn burn_key(&self) -> (i16, bool, Option<Timestamp>, Timestamp, GrantId) {
        let GrantTerms { priority, expires_at, effective_at, id, .. } = self.terms;
        (priority, expires_at.is_none(), expires_at, effective_at, id)
    }

    /// What remains, and what had expired and can be taken back.
    fn unspent(&self) -> i64 {
        self.remaining.saturating_add(self.expired)
    }

    fn ends_after(&self, instant: Timestamp) -> bool {
        self.terms.expires_at.is_none_or(|expiry| instant < expiry)
    }
}

impl EventFacts {
    /// None where its event, or the hold that it captured, is not there.
    fn of(row: &TransferRow) -> Option<EventFacts> {
        let (is_captured, event_recorded_at) = row.is_captured.zip(row.event_recorded_at)?;
        let receipt_max = event_recorded_at.min(row.recorded_at);
        let receipt_min = event_recorded_at - RECORDING_MAX;
        let (instant_min, instant_max) = match (is_captured, row.hold_granted_at) {
            (true, granted_at) => (granted_at?, granted_at?),
            (false, _) => (row.event_time.min(receipt_min), row.event_time.min(receipt_max)),
        };
        let recorded_at = row.recorded_at;
        Some(EventFacts { instant_min, instant_max, receipt_min, receipt_max, recorded_at, is_captured })
    }

    fn may_reach_back_to(&self, end: Timestamp, late: LateRules) -> bool {
        self.is_captured || self.receipt_min <= end + late.grace
    }

    fn must_reach_back_to(&self, end: Timestamp, late: LateRules) -> bool {
        self.is_captured || self.receipt_max <= end + late.grace
    }

    /// Whether a draw on the grant can be right.
    fn may_draw(&self, rule: Rule, grant: &GrantState, late: LateRules) -> bool {
        let effective_at = grant.terms.effective_at;
        match rule {
            Rule::Open => {
                let is_over = grant.terms.expires_at.filter(|expiry| *expiry <= self.recorded_at);
                effective_at <= self.recorded_at
                    && grant.ends_after(self.instant_min)
                    && is_over.is_none_or(|end| self.may_reach_back_to(end, late))
            }
            Rule::Closed { cycle_end } => effective_at < cycle_end && grant.ends_after(self.instant_min),
            Rule::Late => effective_at <= self.recorded_at && grant.ends_after(self.recorded_at),
            Rule::Nobody => false,
        }
    }

    /// Whether the grant was good for it for certain, with something to draw.
    fn must_draw(&self, rule: Rule, grant: &GrantState, late: LateRules) -> bool {
        let effective_at = grant.terms.effective_at;
        if !grant.is_issued || grant.unspent() <= 0 {
            return false;
        }
        match rule {
            Rule::Open => {
                let is_over = grant.terms.expires_at.filter(|expiry| *expiry <= self.recorded_at);
                effective_at <= self.recorded_at
                    && grant.ends_after(self.instant_max)
                    && is_over.is_none_or(|end| self.must_reach_back_to(end, late))
            }
            Rule::Closed { cycle_end } => effective_at < cycle_end && grant.ends_after(self.instant_max),
            Rule::Late => effective_at <= self.recorded_at && grant.ends_after(self.recorded_at),
            Rule::Nobody => false,
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
        cause: Cause { kind: by_name(&CauseKind::ALL, CauseKind::name, &row.cause_kind)?, id: row.cause_id },
        event_time: row.event_time,
        recorded_at: row.recorded_at,
        reverses: row.reverses,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
