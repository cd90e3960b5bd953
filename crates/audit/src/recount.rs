//! Computes cycles again from their anchor (I-18), and what each cycle cost and granted from the
//! catalogue (I-21).

use domain::calendar::{Anchor, AnchorKind, Cycle, Zone};
use domain::catalog::{CatalogHistory, Plan};
use domain::id::{CustomerId, PurchaseId, SubscriptionId, TenantId};
use domain::money::DiscountBps;
use domain::month_share::MonthShare;
use domain::policy::Policies;
use domain::term::{Term, YearLeft};
use domain::upgrade::{UpgradedCycle, price};
use domain::{Currency, Refusal, TenantScope};
use uuid::Uuid;

use crate::finding::{Finding, Invariant};
use crate::store::{CycleRow, PurchaseRow};

/// What is wrong with a cycle's bounds, by its anchor and number alone.
pub(crate) fn check_cycle(tenant: TenantId, row: &CycleRow) -> Option<Finding> {
    let expected = match cut(row) {
        Some(cycle) if (cycle.start, cycle.end) == (row.starts_at, row.ends_at) => return None,
        Some(cycle) => format!("from {} to {}, by the anchor", cycle.start, cycle.end),
        None => "a subscription with an anchor that it can be cut from".to_owned(),
    };
    let subscription = SubscriptionId::from_uuid(row.subscription_id);
    Some(Finding {
        invariant: Invariant(18),
        tenant: Some(tenant),
        customer: Some(CustomerId::from_uuid(row.customer_id)),
        table: "cycles".to_owned(),
        key: format!("{subscription}, number {}", row.number),
        found: format!("from {} to {}", row.starts_at, row.ends_at),
        expected,
        is_damage: true,
    })
}

fn cut(row: &CycleRow) -> Option<Cycle> {
    let zone: Zone = row.anchor_zone.as_deref()?.parse().ok()?;
    let kind = AnchorKind::ALL.into_iter().find(|kind| kind.name() == row.anchor_kind)?;
    Anchor::of_kind(kind, row.anchor_at?, zone).cycle(u32::try_from(row.number).ok()?).ok()
}

/// Follows the purchases of each cycle, from the first one up.
pub(crate) struct Prices<'a> {
    scope: &'a TenantScope,
    history: &'a CatalogHistory,
    reached: Option<Reached<'a>>,
}

/// The plan that was reached in a cycle, or in a year.
#[derive(Clone, Copy)]
struct Reached<'a> {
    subscription: Uuid,
    cycle_number: i32,
    /// The cycle that its term was paid with.
    paid_with: i32,
    plan: &'a Plan,
    /// The part of a month that its cycle covers.
    share: MonthShare,
}

impl<'a> Prices<'a> {
    pub(crate) fn new(scope: &'a TenantScope, history: &'a CatalogHistory) -> Prices<'a> {
        Prices { scope, history, reached: None }
    }

    /// What is wrong with the next purchase, in the order of subscriptions, cycles and purchases.
    pub(crate) fn check(&mut self, row: &PurchaseRow) -> Option<Finding> {
        // An upgrade within a year is one from what the year, or an upgrade in any of its cycles, has reached.
        let is_upgrade = row.kind == "upgrade";
        let from = self.reached.filter(|reached| {
            reached.subscription == row.subscription_id
                && (reached.cycle_number == row.cycle_number || is_upgrade && row.term == "annual")
        });
        let plan = u32::try_from(row.catalog_version)
            .ok()
            .and_then(|version| self.history.version(version))
            .and_then(|catalog| catalog.plan(&row.plan_code).ok());
        let expected = match plan {
            Some(plan) => {
                let share = from.map_or_else(|| share(row), |from| from.share);
                self.reached = Some(Reached {
                    subscription: row.subscription_id,
                    cycle_number: row.cycle_number,
                    paid_with: from.map_or(row.cycle_number, |from| from.paid_with),
                    plan,
                    share,
                });
                match expected(&self.scope.policies, self.discount(row), from, plan, share, row) {
                    Ok(offers) if offers.contains(&(row.total_minor, row.credits)) => return None,
                    Ok(offers) => {
                        let offers =
                            offers.iter().map(|(minor, credits)| format!("{minor} for {credits} Credits"));
                        format!("{}, by the catalogue", offers.collect::<Vec<_>>().join(", or "))
                    }
                    Err(refusal) => format!("a purchase that is not refused with {}", refusal.code()),
                }
            }
            None => format!("a plan of catalogue version {}", row.catalog_version),
        };
        Some(Finding {
            invariant: Invariant(21),
            tenant: Some(self.scope.tenant),
            customer: Some(CustomerId::from_uuid(row.customer_id)),
            table: "purchases".to_owned(),
            key: PurchaseId::from_uuid(row.purchase_id).to_string(),
            found: format!(
                "{} {} of {}: {} {} for {} Credits",
                row.kind, row.cycle_number, row.plan_code, row.total_minor, row.currency, row.credits
            ),
            expected,
            is_damage: true,
        })
    }

    /// The promotion that the first cycle was bought with.
    fn discount(&self, row: &PurchaseRow) -> DiscountBps {
        let promotion = row.promotion_code.as_deref().filter(|_| row.cycle_number == 0);
        promotion
            .and_then(|code| {
                let versions = (1..=self.history.latest()?.version()).rev();
                let catalogs = versions.filter_map(|version| self.history.version(version));
                catalogs.filter_map(|catalog| catalog.promotion(code).ok()).next()
            })
            .map_or(DiscountBps::NONE, |promotion| promotion.first_cycle_discount_bps)
    }
}

/// What a purchase of `plan` may have cost in minor units, and its Credits, after `from` in the same cycle or year: one
/// price, or, of an upgrade that is priced by the time that is left, one for each instant at which it may have been.
fn expected(
    policies: &Policies,
    discount: DiscountBps,
    from: Option<Reached>,
    plan: &Plan,
    share: MonthShare,
    row: &PurchaseRow,
) -> Result<Vec<(i64, i64)>, Refusal> {
    let currency: Currency = row.currency.parse()?;
    let is_annual = row.term == Term::Annual.name();
    let term = if is_annual { Term::Annual } else { Term::Monthly };
    let Some(from) = from else {
        let amount = discount.apply(share.of_money(term.price(plan, currency)?)?);
        return Ok(vec![(amount.amount_minor, share.of_credits(plan.credits_per_cycle)?.get())]);
    };
    let cycle = Cycle { number: to_u32(row.cycle_number)?, start: row.starts_at, end: row.ends_at };
    let year = if is_annual { Some(YearLeft::of(to_u32(from.paid_with)?, cycle)) } else { None };
    let upgraded = UpgradedCycle { discount, year, share, ..UpgradedCycle::at_list(cycle, currency) };
    let priced_at = std::iter::once(&row.created_at).chain(&row.quoted_at);
    let offers = priced_at.map(|at| {
        // Refused where the rank does not rise.
        let price =
            price(from.plan, plan, upgraded, policies.upgrade_discount, policies.upgrade_pricing, *at)?;
        Ok((price.amount.amount_minor, price.credits.get()))
    });
    let mut offers = offers.collect::<Result<Vec<_>, Refusal>>()?;
    offers.dedup();
    Ok(offers)
}

fn to_u32(number: i32) -> Result<u32, Refusal> {
    u32::try_from(number).map_err(|_| Refusal::AmountOverflow)
}

/// The part of a month that the cycle of its first purchase covers: what was left of it when that was made.
fn share(row: &PurchaseRow) -> MonthShare {
    let is_part = row.cycle_number == 0 && row.anchor_kind == AnchorKind::CalendarMonth.name();
    let zone = row.anchor_zone.as_deref().and_then(|zone| zone.parse().ok());
    zone.filter(|_| is_part).map_or(MonthShare::WHOLE, |zone: Zone| MonthShare::left(zone, row.created_at))
}
