//! What did it use? Counts each event once, charges it, and says why it cost that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use db::{Connection, Error, Result};
use domain::account::Draw;
use domain::catalog::CatalogHistory;
use domain::cycle_rates::{Used, cost_in_force, depends_on_cycle};
use domain::hold::{self, Capture, Fingerprint, Hold, HoldEnd, NoHold, capture};
use domain::id::{CustomerId, ExternalId, TenantId};
use domain::policy::{DearerRates, LateRules};
use domain::rating::{NoCost, Rated, Rates, Unrated};
use domain::usage::{EventContent, Outcome, RawContent, TokenCounts, UsageSource, event_identity};
use domain::usage_format::{Call, Quarantined, Reason, UsageFormat, normalise_text};
use domain::{Credits, Refusal, TenantScope, Timestamp};
use futures_util::try_join;
use ledger::{Accounts, Changing, EndedHolds, FoundHold, Looked, News, Writer};
use uuid::Uuid;

use crate::alerts::Before;
use crate::calls::CallReceipt;
use crate::charge::ToCharge;
use crate::cycle_rates;
use crate::gather::Request;
use crate::hours::{HourKey, Hours};
use crate::payg::{PaygShare, PaygTerms, pays_by_the_token};
use crate::store::payg::NewShare;
use crate::{Parts, Usage, overdraft, store};

/// The database drops nothing that is younger than 35 days, and its clock may differ from ours.
const SURELY_KEPT: TimeDelta = TimeDelta::days(34);

/// So many events are worth two more round trips, in case one of them is not new.
const TAKEN_FOR_NEW_MIN: usize = 64;

/// What a gateway reports after a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageEvent {
    /// With `id`, what makes the event count once: a CloudEvents URI-reference.
    pub source: Arc<str>,
    pub id: Arc<str>,
    pub customer: CustomerId,
    pub model: ExternalId,
    pub usage: Reported,
    pub outcome: Outcome,
    pub usage_source: UsageSource,
    /// When the request ran; the server's time where it is left out.
    pub time: Option<Timestamp>,
    /// The authorization that it captures.
    pub authorization: Option<ExternalId>,
    /// The customer's own key that the request was made with; no part of the content.
    pub api_key: Option<ExternalId>,
    /// Where it is sent again from quarantine, when it was first received: that decides which cycle pays.
    pub first_received_at: Option<Timestamp>,
    /// Whether it may be older than the window of event times.
    pub is_backfill: bool,
}

/// What an event says that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// The kinds, by themselves.
    Counts(TokenCounts),
    /// A vendor's usage object as it was received, and whose it is.
    Raw { format: UsageFormat, json: String },
}

impl From<TokenCounts> for Reported {
    fn from(counts: TokenCounts) -> Self {
        Reported::Counts(counts)
    }
}

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventResult {
    /// Counted and charged now.
    Accepted(Arc<Receipt>),
    /// Counted before, with this receipt; nothing was changed.
    Duplicate(Arc<Receipt>),
    /// Its id was used for other content, which stays.
    Conflict,
    /// Kept, and charged once there is a rate for it.
    Unrated(Arc<Receipt>),
    /// Kept as it was sent, and not understood. Nothing was counted under its id.
    Quarantined(Quarantined),
    /// Invalid by itself; not stored.
    Rejected(Refusal),
}

/// Why an event cost what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub credits: Credits,
    /// What no grant paid for.
    pub overage: Credits,
    /// What of that is billed in money, where the customer pays by the token.
    pub payg: Option<PaygShare>,
    /// Why it has no price yet.
    pub unrated_reason: Option<Unrated>,
    pub catalog_version: Option<u32>,
    pub band_prompt_tokens_max: Option<u64>,
    pub rates: Rates,
    /// Of an event of several calls each by itself: then there is no band and no rate of the whole.
    pub calls: Vec<CallReceipt>,
    pub draws: Vec<Draw>,
    /// Why the event was charged without a hold; `None` where it captured one.
    pub no_hold: Option<NoHold>,
    pub balance_after: Credits,
    /// The account's version after the event.
    pub version: i64,
}

impl Usage {
    /// Records events and answers one result for each, in order: all that are not rejected are committed when this
    /// returns. On an error those of a customer are all committed, or none is; sent again, what was is answered as it was.
    pub async fn record(&self, scope: &TenantScope, events: Vec<UsageEvent>) -> Result<Vec<EventResult>> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.gatherer.send(scope.clone(), events).await
    }
}

/// An event on its way through a batch.
pub(crate) struct Item<'a> {
    pub(crate) event: &'a UsageEvent,
    pub(crate) identity: Uuid,
    pub(crate) content: Uuid,
    pub(crate) event_time: Timestamp,
    /// When the hour began that it is summed up in.
    pub(crate) hour: Timestamp,
    /// When it was first received.
    pub(crate) received_at: Timestamp,
    /// When the request that brought it now was received.
    pub(crate) now: Timestamp,
    /// Whether its time lies in the accepted window; the repeat of one that did is still a repeat.
    pub(crate) is_in_time: bool,
    pub(crate) late: LateRules,
    /// The catalogue's latest version, whatever it is that rates the event.
    pub(crate) latest_version: u32,
    pub(crate) read: std::result::Result<Counted, Quarantined>,
}

impl Item<'_> {
    /// Whether it is understood and its time accepted.
    fn may_count(&self) -> bool {
        self.is_in_time && self.read.is_ok()
    }
}

/// A usage that is understood.
pub(crate) struct Counted {
    pub(crate) usage: TokenCounts,
    /// Where it is of several, or of one on another model than the event names; `usage` is their sum.
    pub(crate) calls: Vec<Call>,
    pub(crate) rated: std::result::Result<Rated, Unrated>,
    /// Where it may be cheaper by an earlier version, and that depends on when its cycle began: all versions.
    pub(crate) by_cycle: Option<Arc<CatalogHistory>>,
}

/// An event that is new, with its receipt: a row to be written.
pub(crate) struct Recorded<'a> {
    pub(crate) item: &'a Item<'a>,
    pub(crate) usage: TokenCounts,
    pub(crate) receipt: Arc<Receipt>,
}

/// An event that is kept in quarantine: a row to be written, and which result is its.
pub(crate) struct Kept<'a> {
    pub(crate) item: &'a Item<'a>,
    pub(crate) format: UsageFormat,
    pub(crate) json: &'a str,
    pub(crate) why: &'a Quarantined,
    result: usize,
}

/// A batch whose transaction is committed: its results, once Redis was told.
pub(crate) struct Committed {
    results: Vec<EventResult>,
    news: News,
}

/// What a batch's transaction leaves to be done after its commit.
struct Recordings {
    results: Vec<EventResult>,
    accounts: Accounts,
    writer: Option<Writer>,
    ended_holds: EndedHolds,
}

/// How a batch's transaction ended.
enum Written {
    Committed(Recordings),
    /// Nothing was written: a hold that the batch names may not be recorded yet.
    TooEarly(Changing),
}

/// Records the events of several requests of one tenant in one transaction, which is committed when this returns.
pub(crate) async fn write_batch(parts: &Parts, requests: &[Request]) -> Result<Committed> {
    let scope = requests.first().map(|request| &request.scope);
    let scope = scope.ok_or_else(|| Error::broken("a batch of no requests"))?;
    let checked = check(parts, requests).await?;
    let latest = requests.iter().map(|request| request.scope.now).max().unwrap_or(scope.now);
    for _ in 0..ledger::LOOKS_MAX {
        let written = parts
            .db
            .transaction(scope.tenant, async |tx| record_in(tx, parts, scope, &checked, latest).await)
            .await?;
        match written {
            Written::Committed(Recordings { results, accounts, writer, ended_holds }) => {
                let news = News::of(scope.tenant, &accounts, ended_holds, latest);
                parts.ledger.remember(scope.tenant, accounts, writer);
                return Ok(Committed { results, news });
            }
            Written::TooEarly(changing) => parts.ledger.until_changed(changing).await?,
        }
    }
    Err(ledger::still_changing())
}

/// Tells Redis of a batch, and hands out its results. Of two batches the later may be told first: what is older by its
/// accounts' versions changes nothing there.
pub(crate) async fn publish(parts: &Parts, batch: Committed) -> Result<Vec<EventResult>> {
    parts.ledger.publish_news(batch.news).await?;
    Ok(batch.results)
}

/// All that can be decided about each event by itself: its identity, its cost, or its rejection.
async fn check<'a>(
    parts: &Parts,
    requests: &'a [Request],
) -> Result<Vec<std::result::Result<Item<'a>, Refusal>>> {
    let mut checked = Vec::with_capacity(requests.iter().map(|request| request.events.len()).sum());
    for Request { scope, events, .. } in requests {
        let history = parts.catalogs.history(scope.tenant).await?;
        for event in events {
            checked.push(check_one(scope, &history, event));
        }
    }
    Ok(checked)
}

fn check_one<'a>(
    scope: &TenantScope,
    history: &Arc<CatalogHistory>,
    event: &'a UsageEvent,
) -> std::result::Result<Item<'a>, Refusal> {
    let received_at = event.first_received_at.unwrap_or(scope.now);
    let event_time = event.time.unwrap_or(received_at);
    // By the event's own time, whatever is in force when it arrives.
    let rate = |usage: TokenCounts, calls: Vec<Call>| {
        let used = Used { model: event.model.as_str(), usage: &usage, calls: &calls };
        let rated = match cost_in_force(&used, history, event_time) {
            Ok(rated) => Ok(rated),
            Err(NoCost::Unrated(unrated)) => Err(unrated),
            Err(NoCost::Refused(refusal)) => return Err(refusal),
        };
        let keeps_rates = scope.policies.dearer_rates == DearerRates::NextCycle;
        let by_cycle = (keeps_rates && depends_on_cycle(&used, history, event_time)).then(|| history.clone());
        Ok(Counted { usage, calls, rated, by_cycle })
    };
    let read = match &event.usage {
        Reported::Counts(usage) => Ok(rate(*usage, Vec::new())?),
        // What is kept for an operator to look at is not refused for its numbers.
        Reported::Raw { format, json } => read_raw(*format, json).and_then(|(usage, calls)| {
            rate(usage, calls).map_err(|refusal| Quarantined {
                reason: Reason::CountTooLarge,
                message: format!("{usage:?}: {refusal}"),
            })
        }),
    };
    let content = match (&read, &event.usage) {
        (Err(_), Reported::Raw { format, json }) => RawContent {
            customer: event.customer,
            model: event.model.as_str(),
            usage_format: *format,
            usage: json,
            outcome: event.outcome,
            usage_source: event.usage_source,
            sent_time: event.time,
        }
        .digest(),
        (read, _) => EventContent {
            customer: event.customer,
            model: event.model.as_str(),
            usage: read.as_ref().map(|counted| counted.usage).unwrap_or_default(),
            calls: read.as_ref().map(|counted| counted.calls.as_slice()).unwrap_or_default(),
            outcome: event.outcome,
            usage_source: event.usage_source,
            sent_time: event.time,
        }
        .digest(),
    };
    Ok(Item {
        event,
        identity: Uuid::from_bytes(event_identity(scope.tenant, &event.source, &event.id)),
        content: Uuid::from_bytes(content),
        event_time,
        hour: scope.zone.hour_of(event_time),
        received_at,
        now: scope.now,
        is_in_time: scope.policies.accepts_event_time(event_time, received_at)
            || (event.is_backfill && event_time <= received_at),
        late: scope.policies.late_rules(),
        latest_version: latest_version(history),
        read,
    })
}

/// 0 where none was published.
pub(crate) fn latest_version(history: &CatalogHistory) -> u32 {
    history.latest().map_or(0, |catalog| catalog.version())
}

/// The kinds of a vendor's usage, and its calls where one has to be told from the whole.
fn read_raw(format: UsageFormat, json: &str) -> std::result::Result<(TokenCounts, Vec<Call>), Quarantined> {
    let calls = normalise_text(format, json)?;
    if let [only] = calls.as_slice()
        && only.model.is_none()
    {
        return Ok((only.usage, Vec::new()));
    }
    let sum = calls.iter().try_fold(TokenCounts::default(), |sum, call| sum.plus(&call.usage));
    let sum = sum.and_then(|sum| sum.check().map(|()| sum)).map_err(|refusal| Quarantined {
        reason: Reason::CountTooLarge,
        message: format!("the sum of {} calls: {refusal}", calls.len()),
    })?;
    Ok((sum, calls))
}

async fn record_in(
    tx: &mut Connection,
    parts: &Parts,
    scope: &TenantScope,
    checked: &[std::result::Result<Item<'_>, Refusal>],
    now: Timestamp,
) -> Result<Written> {
    let tenant = scope.tenant;
    let named: Vec<(CustomerId, ExternalId)> = checked
        .iter()
        .flatten()
        .filter_map(|item| Some((item.event.customer, item.event.authorization.clone()?)))
        .collect();
    let customers: Vec<CustomerId> = checked.iter().flatten().map(|item| item.event.customer).collect();
    let oldest = oldest_charge(checked, now);
    let mut accounts = ledger::lock_for_usage(tx, &parts.ledger, tenant, &customers, oldest).await?;
    let before = Before::of(&accounts, now);
    let kept_from = kept_from(tx, checked).await?;
    // Under the accounts' locks: a hold ends in one way.
    let holds = match ledger::find_holds(tx, &parts.ledger, tenant, &named, now).await? {
        Looked::Found(holds) => holds,
        Looked::TooEarly(changing) => return Ok(Written::TooEarly(changing)),
    };

    let usable = checked.iter().map(|checked| match checked {
        Ok(item) if !accounts.contains(item.event.customer) => Err(Refusal::NotFound { what: "customer" }),
        // It may have been counted, and nobody knows any more.
        Ok(item) if kept_from.is_some_and(|kept_from| item.event_time < kept_from) => {
            Err(Refusal::EventTimeOutOfRange)
        }
        Ok(item) => match named_hold(&holds, item.event) {
            Some(FoundHold::Foreign) => Err(Refusal::AuthorizationForeign),
            _ => Ok(item),
        },
        Err(refusal) => Err(refusal.clone()),
    });
    let usable: Vec<std::result::Result<&Item<'_>, Refusal>> = usable.collect();

    let by_cycle = rated_by_cycle(tx, tenant, &usable).await?;
    let firsts = first_of_each_identity(&usable);
    // Only then is an answer of this batch looked for again.
    let has_repeats = firsts.len() < usable.iter().flatten().count();
    let in_time: Vec<&Item<'_>> = firsts.iter().copied().filter(|item| item.may_count()).collect();
    let new = insert_new(tx, tenant, &in_time).await?;
    let is_new = |item: &Item<'_>| item.may_count() && new.has(item.identity);
    let known: Vec<Uuid> = firsts.iter().filter(|item| !is_new(item)).map(|item| item.identity).collect();
    let mut answered = store::answered(tx, tenant, &known).await?;

    // Of customers who pay by the token; nobody else's batch asks for it.
    let payg = match accounts.iter().any(|account| pays_by_the_token(account, scope)) {
        true => Some(parts.catalogs.history(tenant).await?),
        false => None,
    };
    let mut ends = HoldEnds::default();
    let mut results = Vec::with_capacity(usable.len());
    let mut recorded = Vec::with_capacity(in_time.len());
    let mut kept = Vec::new();
    for (place, usable) in usable.iter().enumerate() {
        let item = match usable {
            Ok(item) => *item,
            Err(refusal) => {
                results.push(EventResult::Rejected(refusal.clone()));
                continue;
            }
        };
        let hold = ends.as_of_now(named_hold(&holds, item.event));
        if let Some((content, receipt)) = answered.get(&item.identity) {
            let is_same = *content == item.content;
            results.push(if is_same {
                EventResult::Duplicate(receipt.clone())
            } else {
                EventResult::Conflict
            });
            if is_same {
                ends.end(hold.as_ref(), HoldEnd::Released, now);
                ends.tell_again(hold.as_ref());
            }
            continue;
        }
        if !item.is_in_time {
            results.push(EventResult::Rejected(Refusal::EventTimeOutOfRange));
            continue;
        }
        let counted = match (&item.read, &item.event.usage) {
            (Ok(counted), _) => counted,
            (Err(why), Reported::Raw { format, json }) => {
                kept.push(Kept { item, format: *format, json, why, result: results.len() });
                results.push(EventResult::Quarantined(why.clone()));
                continue;
            }
            (Err(_), Reported::Counts(_)) => return Err(Error::broken("counts that are not understood")),
        };
        let account = accounts.get_mut(item.event.customer)?;
        let terms = |history| PaygTerms {
            scope,
            history,
            model: item.event.model.as_str(),
            usage: &counted.usage,
            calls: &counted.calls,
            event_time: item.event_time,
        };
        let payg = payg.as_deref().filter(|_| pays_by_the_token(account, scope)).map(terms);
        let to_charge = ToCharge {
            identity: item.identity,
            event_time: item.event_time,
            received_at: item.received_at,
            late: item.late,
            capture: captured(item, hold.as_ref()),
            rated: by_cycle.get(&place).unwrap_or(&counted.rated),
            calls: &counted.calls,
            payg,
        };
        let receipt = Arc::new(to_charge.charge(account, item.now));
        ends.end(hold.as_ref(), HoldEnd::Captured, now);
        if has_repeats {
            answered.insert(item.identity, (item.content, receipt.clone()));
        }
        results.push(match receipt.unrated_reason {
            None => EventResult::Accepted(receipt.clone()),
            Some(_) => EventResult::Unrated(receipt.clone()),
        });
        recorded.push(Recorded { item, usage: counted.usage, receipt });
    }

    let first = store::keep_in_quarantine(tx, tenant, &kept).await?;
    for Kept { item, result, .. } in &kept {
        // Other content under the id of one that waits: the first stays.
        if first.get(&item.identity).is_some_and(|content| *content != item.content) {
            results[*result] = EventResult::Conflict;
        }
    }
    // As the index has them by customer and time.
    recorded.sort_by_cached_key(|recorded| {
        (recorded.item.event.customer, recorded.item.event_time, recorded.item.identity)
    });
    // Before the accounts change: what refers to one looks at its row, which is locked already as it was read, and would
    // be locked once more as it is then.
    let hours = hours_of(&recorded)?;
    let ((), (), writer) = try_join!(
        store::insert_events(tx, tenant, &recorded, now),
        store::add_to_hours(tx, tenant, &hours),
        ledger::write(tx, tenant, &accounts, now),
    )?;
    store::payg::insert(tx, tenant, &shares_of(&recorded), now).await?;
    overdraft::have_topped_up(tx, scope, &accounts, now).await?;
    before.tell(tx, scope, &accounts, now).await?;
    ledger::end_holds(tx, tenant, &ends.captured, HoldEnd::Captured, now).await?;
    ledger::end_holds(tx, tenant, &ends.released, HoldEnd::Released, now).await?;
    let ended_holds = ends.by_customer();
    Ok(Written::Committed(Recordings { results, accounts, writer, ended_holds }))
}

/// Which of some identities were not there yet.
enum New {
    All,
    These(BTreeSet<Uuid>),
}

impl New {
    fn has(&self, identity: Uuid) -> bool {
        match self {
            New::All => true,
            New::These(these) => these.contains(&identity),
        }
    }
}

/// Inserts the identities that were not there yet. A large batch is taken for new as a whole first: without looking for each,
/// an insert costs half.
async fn insert_new(tx: &mut Connection, tenant: TenantId, items: &[&Item<'_>]) -> Result<New> {
    if items.len() >= TAKEN_FOR_NEW_MIN {
        db::savepoint(tx).await?;
        if store::insert_identities(tx, tenant, items).await? {
            return Ok(New::All);
        }
        db::back_to_savepoint(tx).await?;
    }
    Ok(New::These(store::insert_new_identities(tx, tenant, items).await?))
}

/// From when on usage is kept, where that may matter to a batch.
async fn kept_from(
    tx: &mut Connection,
    checked: &[std::result::Result<Item<'_>, Refusal>],
) -> Result<Option<Timestamp>> {
    // By the real time, as months are dropped; a month more recent than this is not dropped by any clock.
    let surely_kept = Utc::now() - SURELY_KEPT;
    if checked.iter().flatten().all(|item| item.event_time > surely_kept) {
        return Ok(None);
    }
    store::retention::hold_kept_from_all_tenants(tx).await
}

/// What events cost whose rate depends on when their cycle began, by their places. Under the accounts' locks: no cycle
/// is paid meanwhile.
async fn rated_by_cycle(
    tx: &mut Connection,
    tenant: TenantId,
    usable: &[std::result::Result<&Item<'_>, Refusal>],
) -> Result<BTreeMap<usize, std::result::Result<Rated, Unrated>>> {
    let mut events = BTreeMap::new();
    for (place, usable) in usable.iter().enumerate() {
        let Ok(Item { event, event_time, read: Ok(counted), .. }) = usable else { continue };
        if let Some(history) = &counted.by_cycle {
            let used = Used { model: event.model.as_str(), usage: &counted.usage, calls: &counted.calls };
            events.insert(place, (event.customer, *event_time, used, history.as_ref()));
        }
    }
    cycle_rates::rate_all(tx, tenant, events).await
}

fn shares_of<'r>(recorded: &'r [Recorded<'_>]) -> Vec<NewShare<'r>> {
    let shares = recorded.iter().filter_map(|recorded| {
        let (item, share) = (recorded.item, recorded.receipt.payg.as_ref()?);
        Some(NewShare {
            identity: item.identity,
            customer: item.event.customer,
            event_time: item.event_time,
            model: item.event.model.as_str(),
            share,
        })
    });
    shares.collect()
}

fn hours_of(recorded: &[Recorded<'_>]) -> Result<Hours> {
    let mut hours = Hours::default();
    for Recorded { item, usage, receipt } in recorded {
        let key = HourKey {
            customer: item.event.customer,
            hour: item.hour,
            model: item.event.model.clone(),
            band_prompt_tokens_max: receipt.band_prompt_tokens_max,
            api_key: item.event.api_key.clone(),
        };
        hours.add(key, *usage, receipt)?;
    }
    Ok(hours)
}

/// No event of the batch that is charged has an earlier charge instant (R-19a).
fn oldest_charge(checked: &[std::result::Result<Item<'_>, Refusal>], now: Timestamp) -> Timestamp {
    let in_time = checked.iter().flatten().filter(|item| item.is_in_time);
    let oldest = in_time.map(|item| match item.event.authorization {
        None => item.event_time.min(item.received_at),
        Some(_) => item.event_time.min(item.received_at - hold::LIFE_MAX),
    });
    oldest.min().unwrap_or(now)
}

fn named_hold<'h>(
    holds: &'h BTreeMap<(CustomerId, ExternalId), FoundHold>,
    event: &UsageEvent,
) -> Option<&'h FoundHold> {
    holds.get(&(event.customer, event.authorization.clone()?))
}

/// The event of each identity that is to be recorded if any is: the first that is understood and whose time is
/// accepted, or the first of all. In the order of identities: two batches that share some insert them in the same order and
/// cannot wait for each other in a circle.
fn first_of_each_identity<'a>(usable: &[std::result::Result<&'a Item<'a>, Refusal>]) -> Vec<&'a Item<'a>> {
    let mut items: Vec<&Item<'_>> = usable.iter().flatten().copied().collect();
    items.sort_by_key(|item| item.identity);
    let same = items.chunk_by(|one, next| one.identity == next.identity);
    same.filter_map(|same| same.iter().find(|item| item.may_count()).or(same.first()).copied()).collect()
}

/// What the event finds of the hold that it names.
fn captured(item: &Item<'_>, hold: Option<&FoundHold>) -> Capture {
    match hold {
        None => Capture::None(NoHold::NotNamed),
        Some(FoundHold::Own(known)) => capture(&known.hold, known.end, item.now),
        Some(FoundHold::Unknown | FoundHold::Foreign) => Capture::None(NoHold::Unknown),
    }
}

/// The holds that a batch ends, each once.
#[derive(Default)]
struct HoldEnds {
    captured: Vec<(Hold, Fingerprint)>,
    released: Vec<(Hold, Fingerprint)>,
    seen: BTreeMap<(CustomerId, ExternalId), HoldEnd>,
}

impl HoldEnds {
    /// What an event finds that comes after others of its batch: they may have ended the hold.
    fn as_of_now(&self, found: Option<&FoundHold>) -> Option<FoundHold> {
        let mut found = found?.clone();
        if let FoundHold::Own(known) = &mut found
            && let Some(end) = self.seen.get(&(known.hold.customer, known.hold.id.clone()))
        {
            known.end = Some(*end);
        }
        Some(found)
    }

    fn end(&mut self, found: Option<&FoundHold>, end: HoldEnd, now: Timestamp) {
        let Some(FoundHold::Own(known)) = found else { return };
        let is_live = known.end.is_none() && known.hold.expires_at > now;
        if !is_live {
            return;
        }
        self.seen.insert((known.hold.customer, known.hold.id.clone()), end);
        let hold = (known.hold.clone(), known.fingerprint);
        match end {
            HoldEnd::Captured => self.captured.push(hold),
            HoldEnd::Released => self.released.push(hold),
        }
    }

    /// A repeat's first try may have ended the hold and died before Redis was told.
    fn tell_again(&mut self, found: Option<&FoundHold>) {
        if let Some(FoundHold::Own(known)) = found
            && let Some(end) = known.end
        {
            self.seen.insert((known.hold.customer, known.hold.id.clone()), end);
        }
    }

    /// For Redis: what this batch has ended, and what it was sent again for.
    fn by_customer(self) -> EndedHolds {
        let mut ended = EndedHolds::new();
        for ((customer, id), end) in self.seen {
            ended.entry(customer).or_default().push((id, end));
        }
        ended
    }
}
