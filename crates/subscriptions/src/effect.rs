//! What a paid purchase does to its subscription and its credit account: the decision alone, on
//! what is loaded and locked. Shared by payments, by invoices over nothing, and by the rollover.

use domain::account::{Account, Cause, CauseKind, NewGrant};
use domain::calendar::{Anchor, Cycle, Zone};
use domain::grant::GrantSource;
use domain::id::GrantId;
use domain::money::DiscountBps;
use domain::month_share::MonthShare;
use domain::subscription::{Event, Status, after};
use domain::term::Term;
use domain::{Credits, Refusal, Timestamp};

use crate::subscription::{Purchase, PurchaseEvent, PurchaseKind, Running, Subscription};

/// Whether the money of a purchase still buys anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Taken,
    /// What it was for is over: nothing was changed, and the money goes back (R-10a, R-14b).
    TooLate,
}

/// The instant that a success counts from: the provider's own, clamped to [purchase made, now]
///
pub fn success_instant(provider_says: Timestamp, made_at: Timestamp, now: Timestamp) -> Timestamp {
    domain::time::truncate_to_micros(provider_says).min(now).max(made_at)
}

/// Lets a purchase that was paid at `at` take effect, once.
pub fn take(
    subscription: &mut Subscription,
    purchase: &mut Purchase,
    account: &mut Account,
    zone: Zone,
    at: Timestamp,
    now: Timestamp,
) -> Result<Effect, Refusal> {
    if !purchase.is_pending() {
        return Ok(Effect::TooLate);
    }
    let effect = match purchase.kind {
        PurchaseKind::FirstCycle => activate(subscription, purchase, account, zone, at, now)?,
        PurchaseKind::Upgrade => upgrade(subscription, purchase, account, at, now)?,
        PurchaseKind::Renewal => renew(subscription, purchase, account, at, now)?,
    };
    if effect == Effect::Taken {
        purchase.status = purchase.status.after(PurchaseEvent::TookEffect);
        purchase.granted_at.get_or_insert(now);
    }
    Ok(effect)
}

/// What the payment of a purchase is to its subscription; none for an upgrade, which changes no status.
pub fn paid_event(kind: PurchaseKind) -> Option<Event> {
    match kind {
        PurchaseKind::FirstCycle => Some(Event::FirstPaid),
        PurchaseKind::Renewal => Some(Event::RenewalPaid),
        PurchaseKind::Upgrade => None,
    }
}

/// The cycle starts at the payment's instant, and the plan's Credits are granted.
fn activate(
    subscription: &mut Subscription,
    purchase: &Purchase,
    account: &mut Account,
    zone: Zone,
    at: Timestamp,
    now: Timestamp,
) -> Result<Effect, Refusal> {
    if subscription.status != Status::Incomplete {
        return Ok(Effect::TooLate);
    }
    let anchor = Anchor::of_kind(subscription.anchor_kind, at, zone);
    let cycle = anchor.cycle(0)?;
    issue(account, purchase, GrantSource::Plan, at, cycle.end, now)?;
    account.set_refills_at(Some(cycle.end));
    subscription.status = after(subscription.status, Event::FirstPaid)?;
    subscription.annual_from = (subscription.term == Term::Annual).then_some(cycle.number);
    subscription.running = Some(Running { anchor, cycle });
    Ok(Effect::Taken)
}

/// The plan changes and the Credit difference is granted, in the cycle it was bought for.
fn upgrade(
    subscription: &mut Subscription,
    purchase: &Purchase,
    account: &mut Account,
    at: Timestamp,
    now: Timestamp,
) -> Result<Effect, Refusal> {
    let Some(cycle) = subscription.cycle().filter(|cycle| cycle.number == purchase.cycle_number) else {
        return Ok(Effect::TooLate);
    };
    if subscription.status != Status::Active || cycle.end <= now {
        return Ok(Effect::TooLate);
    }
    issue(account, purchase, GrantSource::Upgrade, at, cycle.end, now)?;
    subscription.plan_code = purchase.plan_code.clone();
    subscription.catalog_version = purchase.catalog_version;
    // A later upgrade cancels a scheduled downgrade.
    subscription.scheduled_plan_code = None;
    Ok(Effect::Taken)
}

/// The whole pool for the whole price, until the cycle's unchanged end.
fn renew(
    subscription: &mut Subscription,
    purchase: &Purchase,
    account: &mut Account,
    at: Timestamp,
    now: Timestamp,
) -> Result<Effect, Refusal> {
    let Some(cycle) = subscription.cycle().filter(|cycle| cycle.number == purchase.cycle_number) else {
        return Ok(Effect::TooLate);
    };
    // A cycle that was over when it was invoiced can still be paid (R-23, policy `bill`).
    let was_over_when_made = cycle.end <= purchase.created_at;
    if !subscription.status.is_live() || (cycle.end <= at && !was_over_when_made) {
        return Ok(Effect::TooLate);
    }
    if purchase.granted_at.is_none() {
        let effective_at = if cycle.contains(at) { at } else { cycle.start };
        issue(account, purchase, GrantSource::Plan, effective_at, cycle.end, now)?;
    }
    account.set_refills_at(refills_at(subscription));
    subscription.status = after(subscription.status, Event::RenewalPaid)?;
    Ok(Effect::Taken)
}

/// Grants a renewal's Credits before it is paid: the tenant trusts its customers (R-21, policy
/// `renewal_grant = on_invoice`). Effective from the cycle's start.
pub fn grant_on_invoice(
    subscription: &Subscription,
    purchase: &mut Purchase,
    account: &mut Account,
    now: Timestamp,
) -> Result<(), Refusal> {
    if let (Some(cycle), None) = (subscription.cycle(), purchase.granted_at) {
        issue(account, purchase, GrantSource::Plan, cycle.start, cycle.end, now)?;
        purchase.granted_at = Some(now);
    }
    Ok(())
}

/// When the pool of a subscription whose cycle is paid fills again: at the cycle's end, unless it
/// ends there (R-33a).
pub fn refills_at(subscription: &Subscription) -> Option<Timestamp> {
    let ends_there = subscription.cancel_at_cycle_end && subscription.is_last_of_term();
    subscription.cycle().filter(|_| !ends_there).map(|cycle| cycle.end)
}

/// Grants a cycle of a year what one purchase has paid for of its pool (R-22b).
pub fn grant_within_year(
    cycle: Cycle,
    credits: Credits,
    grant: GrantId,
    account: &mut Account,
    now: Timestamp,
) -> Result<(), Refusal> {
    let new = NewGrant {
        id: grant,
        source: GrantSource::Plan,
        credits,
        effective_at: cycle.start,
        expires_at: Some(cycle.end),
    };
    account.issue(new, Cause { kind: CauseKind::Cycle, id: grant.uuid() }, now)
}

/// Renews a subscription: it moves into the next cycle, at list price, and a year begins with it.
pub fn enter(subscription: &mut Subscription, running: Running, plan_code: String, catalog_version: u32) {
    subscription.running = Some(running);
    subscription.plan_code = plan_code;
    subscription.catalog_version = catalog_version;
    subscription.discount = DiscountBps::NONE;
    subscription.share = MonthShare::WHOLE;
    subscription.scheduled_plan_code = None;
    subscription.migrates = false;
    subscription.annual_from = (subscription.term == Term::Annual).then_some(running.cycle.number);
}

fn issue(
    account: &mut Account,
    purchase: &Purchase,
    source: GrantSource,
    effective_at: Timestamp,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<(), Refusal> {
    let grant = NewGrant {
        id: purchase.grant(),
        source,
        credits: purchase.credits,
        effective_at,
        expires_at: Some(expires_at),
    };
    account.issue(grant, Cause { kind: CauseKind::Purchase, id: purchase.id.uuid() }, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::PurchaseStatus;
    use domain::Currency;
    use domain::account::AccountHead;
    use domain::calendar::Cycle;
    use domain::id::{CustomerId, InvoiceId, PurchaseId, SubscriptionId, TenantId};
    use uuid::Uuid;

    fn at(text: &str) -> Timestamp {
        domain::time::parse_rfc3339(text).unwrap()
    }

    const MADE: &str = "2026-01-31T10:00:00Z";

    fn incomplete() -> Subscription {
        Subscription {
            id: SubscriptionId::from_uuid(Uuid::from_u128(1)),
            customer: CustomerId::from_uuid(Uuid::from_u128(2)),
            status: Status::Incomplete,
            plan_code: "standard".to_owned(),
            catalog_version: 1,
            currency: Currency::Usd,
            payment_method: "a card".to_owned(),
            term: Term::Monthly,
            annual_from: None,
            anchor_kind: domain::calendar::AnchorKind::Anniversary,
            discount: DiscountBps::NONE,
            share: MonthShare::WHOLE,
            running: None,
            cancel_at_cycle_end: false,
            scheduled_plan_code: None,
            migrates: false,
            is_suspended_by_dispute: false,
            created_at: at(MADE),
            ended_at: None,
        }
    }

    fn purchase(kind: PurchaseKind, cycle_number: u32, made: &str) -> Purchase {
        Purchase {
            id: PurchaseId::from_uuid(Uuid::from_u128(cycle_number.into())),
            kind,
            customer: CustomerId::from_uuid(Uuid::from_u128(2)),
            subscription: SubscriptionId::from_uuid(Uuid::from_u128(1)),
            cycle_number,
            plan_code: "pro".to_owned(),
            catalog_version: 2,
            credits: Credits::new(100).unwrap(),
            invoice: InvoiceId::from_uuid(Uuid::from_u128(3)),
            status: PurchaseStatus::Pending,
            granted_at: None,
            expires_at: at("2027-01-01T00:00:00Z"),
            created_at: at(made),
        }
    }

    fn account() -> Account {
        let customer = CustomerId::from_uuid(Uuid::from_u128(2));
        let tenant = TenantId::from_uuid(Uuid::from_u128(1));
        Account::new(AccountHead::opened(tenant, customer, at(MADE)), Vec::new())
    }

    /// A subscription in cycle `number`, from 31 January on.
    fn running(number: u32) -> Subscription {
        let anchor = Anchor::new(at(MADE), Zone::UTC);
        let running = Running { anchor, cycle: anchor.cycle(number).unwrap() };
        Subscription { status: Status::Active, running: Some(running), ..incomplete() }
    }

    fn only_grant(account: &Account) -> (Timestamp, Option<Timestamp>) {
        let grants: Vec<_> = account.issued_grants().collect();
        assert_eq!(grants.len(), 1);
        (grants[0].effective_at, grants[0].expires_at)
    }

    #[test]
    fn a_success_counts_from_the_providers_time_within_bounds() {
        let now = at("2026-01-31T12:00:00Z");
        for (says, counts) in [
            ("2026-01-31T11:00:00.1234569Z", "2026-01-31T11:00:00.123456Z"),
            ("2026-01-31T09:00:00Z", MADE),
            ("2026-01-31T13:00:00Z", "2026-01-31T12:00:00Z"),
        ] {
            assert_eq!(success_instant(at(says), at(MADE), now), at(counts), "{says}");
        }
    }

    #[test]
    fn the_first_payment_starts_the_cycle_once() {
        let (mut subscription, mut account) = (incomplete(), account());
        let mut bought = purchase(PurchaseKind::FirstCycle, 0, MADE);
        let (paid, now) = (at("2026-01-31T11:00:00Z"), at("2026-01-31T12:00:00Z"));
        let mut take = || take(&mut subscription, &mut bought, &mut account, Zone::UTC, paid, now).unwrap();
        assert_eq!(take(), Effect::Taken);
        assert_eq!(take(), Effect::TooLate);
        let end = at("2026-02-28T11:00:00Z");
        assert_eq!(subscription.status, Status::Active);
        assert_eq!(subscription.cycle(), Some(Cycle { number: 0, start: paid, end }));
        assert_eq!(only_grant(&account), (paid, Some(end)));
        assert_eq!(account.refills_at(), Some(end));
    }

    #[test]
    fn an_upgrade_is_for_its_own_cycle() {
        let now = at("2026-02-10T00:00:00Z");
        let mut subscription = running(0);
        subscription.scheduled_plan_code = Some("lite".to_owned());
        let (mut bought, mut account) = (purchase(PurchaseKind::Upgrade, 0, MADE), account());
        let effect = take(&mut subscription, &mut bought, &mut account, Zone::UTC, now, now).unwrap();
        assert_eq!(effect, Effect::Taken);
        assert_eq!((subscription.plan_code.as_str(), subscription.catalog_version), ("pro", 2));
        assert_eq!(subscription.scheduled_plan_code, None);
        assert_eq!(only_grant(&account), (now, Some(at("2026-02-28T10:00:00Z"))));

        for (subscription, now) in [
            (running(1), "2026-03-10T00:00:00Z"),
            (running(0), "2026-02-28T10:00:00Z"),
            (Subscription { status: Status::Canceled, ..running(0) }, "2026-02-10T00:00:00Z"),
            (Subscription { status: Status::PastDue, ..running(0) }, "2026-02-10T00:00:00Z"),
        ] {
            let (mut changed, mut account) = (subscription.clone(), self::account());
            let mut bought = purchase(PurchaseKind::Upgrade, 0, MADE);
            let effect = take(&mut changed, &mut bought, &mut account, Zone::UTC, at(now), at(now)).unwrap();
            assert_eq!(effect, Effect::TooLate, "{now}");
            assert_eq!((changed, account.journal().len(), bought.is_pending()), (subscription, 0, true));
        }
    }

    #[test]
    fn a_renewal_pays_the_whole_pool_until_the_unchanged_end() {
        let (start, end) = ("2026-02-28T10:00:00Z", "2026-03-31T10:00:00Z");
        // Made, paid and applied; the grant's start, or none where it came too late.
        for (made, paid, now, effective) in [
            (start, start, start, Some(start)),
            (start, "2026-03-03T10:00:00Z", "2026-03-03T10:00:00Z", Some("2026-03-03T10:00:00Z")),
            // Paid in time and heard of late.
            (start, "2026-03-31T09:59:59Z", "2026-03-31T10:00:05Z", Some("2026-03-31T09:59:59Z")),
            (start, end, end, None),
            // Invoiced when it was over already (policy `bill`).
            ("2026-05-01T00:00:00Z", "2026-05-01T00:00:00Z", "2026-05-01T00:00:00Z", Some(start)),
        ] {
            let mut subscription = Subscription { status: Status::PastDue, ..running(1) };
            let (mut bought, mut account) = (purchase(PurchaseKind::Renewal, 1, made), account());
            let effect =
                take(&mut subscription, &mut bought, &mut account, Zone::UTC, at(paid), at(now)).unwrap();
            match effective {
                Some(effective) => {
                    assert_eq!((effect, subscription.status), (Effect::Taken, Status::Active), "{paid}");
                    assert_eq!(only_grant(&account), (at(effective), Some(at(end))), "{paid}");
                }
                None => assert_eq!((effect, account.journal().len()), (Effect::TooLate, 0), "{paid}"),
            }
        }
    }

    #[test]
    fn a_renewal_granted_on_its_invoice_is_not_granted_again() {
        let now = at("2026-02-28T10:00:00Z");
        let mut subscription = Subscription { cancel_at_cycle_end: true, ..running(1) };
        let (mut bought, mut account) =
            (purchase(PurchaseKind::Renewal, 1, "2026-02-28T10:00:00Z"), account());
        grant_on_invoice(&subscription, &mut bought, &mut account, now).unwrap();
        grant_on_invoice(&subscription, &mut bought, &mut account, now).unwrap();
        take(&mut subscription, &mut bought, &mut account, Zone::UTC, now, now).unwrap();
        assert_eq!(only_grant(&account), (now, Some(at("2026-03-31T10:00:00Z"))));
        assert_eq!(account.refills_at(), None, "it ends there");
    }
}
