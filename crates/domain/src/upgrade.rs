//! What an upgrade costs and grants (R-13, R-14, R-14a).

use crate::calendar::Cycle;
use crate::catalog::Plan;
use crate::money::{Currency, DiscountBps, Money, divide_half_even};
use crate::month_share::MonthShare;
use crate::policy::{UpgradeDiscount, UpgradePricing};
use crate::term::YearLeft;
use crate::{Credits, Refusal, Timestamp};

/// The price of a change to a higher plan within a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpgradePrice {
    pub amount: Money,
    pub credits: Credits,
}

/// The cycle that is being upgraded.
#[derive(Debug, Clone, Copy)]
pub struct UpgradedCycle {
    pub cycle: Cycle,
    /// The promotion that this cycle was bought with; [`DiscountBps::NONE`] at list price.
    pub discount: DiscountBps,
    /// The part of a month that it covers and costs.
    pub share: MonthShare,
    /// Of an annual subscription, what is left of its year (R-22b).
    pub year: Option<YearLeft>,
    /// When a lower plan could begin: where what was paid for ends.
    pub renews_at: Timestamp,
    pub currency: Currency,
}

impl UpgradedCycle {
    /// A whole cycle at list price, of a monthly subscription.
    pub fn at_list(cycle: Cycle, currency: Currency) -> UpgradedCycle {
        UpgradedCycle {
            cycle,
            discount: DiscountBps::NONE,
            share: MonthShare::WHOLE,
            year: None,
            renews_at: cycle.end,
            currency,
        }
    }
}

/// Prices an upgrade of `old` to `new` at `now`: the difference of both prices of this cycle, or, within a year, of
/// the annual prices for the cycles that are left. A lower plan is refused with
/// `downgrade-within-cycle` and the instant at which it could begin, an equal one with `not-an-upgrade`.
pub fn price(
    old: &Plan,
    new: &Plan,
    upgraded: UpgradedCycle,
    discount_policy: UpgradeDiscount,
    pricing_policy: UpgradePricing,
    now: Timestamp,
) -> Result<UpgradePrice, Refusal> {
    if new.rank < old.rank {
        return Err(Refusal::DowngradeWithinCycle { effective_at: upgraded.renews_at });
    }
    if new.rank == old.rank {
        return Err(Refusal::NotAnUpgrade);
    }
    if let Some(year) = upgraded.year {
        let (old_price, new_price) =
            (old.annual_price(upgraded.currency)?, new.annual_price(upgraded.currency)?);
        return Ok(UpgradePrice {
            amount: year.difference(old_price, new_price)?,
            credits: new.credits_per_cycle.minus_floor_zero(old.credits_per_cycle),
        });
    }
    let discount = match discount_policy {
        UpgradeDiscount::Carry => upgraded.discount,
        UpgradeDiscount::None => DiscountBps::NONE,
    };
    let price_of = |plan: &Plan| -> Result<Money, Refusal> {
        Ok(discount.apply(upgraded.share.of_money(plan.price(upgraded.currency)?)?))
    };
    let (old_price, new_price) = (price_of(old)?, price_of(new)?);
    let old_pool = upgraded.share.of_credits(old.credits_per_cycle)?;
    let new_pool = upgraded.share.of_credits(new.credits_per_cycle)?;
    match pricing_policy {
        UpgradePricing::FullDifference => Ok(UpgradePrice {
            amount: new_price.minus_floor_zero(old_price),
            credits: new_pool.minus_floor_zero(old_pool),
        }),
        UpgradePricing::Prorated => {
            let share = Share::remaining(upgraded.cycle, now);
            Ok(UpgradePrice {
                amount: share.of_money(new_price)?.minus_floor_zero(share.of_money(old_price)?),
                credits: share
                    .of_credits_floor(new_pool)?
                    .minus_floor_zero(share.of_credits_floor(old_pool)?),
            })
        }
    }
}

/// The part of a cycle that is left, as a fraction of microseconds (R-14a).
#[derive(Clone, Copy)]
struct Share {
    remaining: i128,
    total: i128,
}

impl Share {
    fn remaining(cycle: Cycle, now: Timestamp) -> Share {
        let (remaining, total) = cycle.remaining_micros(now);
        Share { remaining: remaining.into(), total: i128::from(total.max(1)) }
    }

    fn of_money(self, price: Money) -> Result<Money, Refusal> {
        let minor = divide_half_even(i128::from(price.amount_minor) * self.remaining, self.total);
        Money::new(i64::try_from(minor).map_err(|_| Refusal::AmountOverflow)?, price.currency)
    }

    fn of_credits_floor(self, credits: Credits) -> Result<Credits, Refusal> {
        let floor = i128::from(credits.get()) * self.remaining / self.total;
        Credits::new(i64::try_from(floor).map_err(|_| Refusal::AmountOverflow)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::calendar::{Anchor, Zone};
    use crate::fixtures::{at, cny, credits, reference, usd};
    use crate::model;
    use chrono::Duration;
    use proptest::prelude::*;

    /// April: 30 days, so a quarter of it is 7 days and a half.
    fn april() -> Cycle {
        Anchor::new(at("2026-04-01T00:00:00Z"), Zone::UTC).cycle(0).unwrap()
    }

    fn discounted(currency: Currency) -> UpgradedCycle {
        UpgradedCycle {
            discount: DiscountBps::new(8_800).unwrap(),
            ..UpgradedCycle::at_list(april(), currency)
        }
    }

    fn at_list(currency: Currency) -> UpgradedCycle {
        UpgradedCycle { discount: DiscountBps::NONE, ..discounted(currency) }
    }

    fn full(from: &str, to: &str, cycle: UpgradedCycle, policy: UpgradeDiscount) -> (Money, i64) {
        let catalog = reference();
        let (from, to) = (catalog.plan(from).unwrap(), catalog.plan(to).unwrap());
        let pricing = UpgradePricing::FullDifference;
        let price = price(from, to, cycle, policy, pricing, cycle.cycle.start).unwrap();
        (price.amount, price.credits.get())
    }

    fn prorated(from: &str, to: &str, cycle: UpgradedCycle, now: Timestamp) -> (Money, i64) {
        let catalog = reference();
        let (from, to) = (catalog.plan(from).unwrap(), catalog.plan(to).unwrap());
        let price = price(from, to, cycle, UpgradeDiscount::Carry, UpgradePricing::Prorated, now).unwrap();
        (price.amount, price.credits.get())
    }

    #[test]
    fn in_a_discounted_cycle_lite_to_max_costs_11_28_more_and_12_00_in_all() {
        let (amount, more) = full("lite", "max", discounted(Currency::Usd), UpgradeDiscount::Carry);
        assert_eq!(amount, usd(1_128), "12.00 less the 0.72 that was paid");
        assert_eq!(60_000_000 + more, 1_600_000_000);
    }

    #[test]
    fn in_a_discounted_cycle_standard_to_pro_costs_4_08() {
        let price = full("standard", "pro", discounted(Currency::Usd), UpgradeDiscount::Carry);
        assert_eq!(price, (usd(408), 500_000_000), "6.00 less 1.92");
        let price = full("standard", "pro", discounted(Currency::Cny), UpgradeDiscount::Carry);
        assert_eq!(price, (cny(2_760), 500_000_000), "39.48 less 11.88");
    }

    #[test]
    fn in_a_later_cycle_standard_to_pro_costs_the_list_difference() {
        for policy in [UpgradeDiscount::Carry, UpgradeDiscount::None] {
            let price = full("standard", "pro", at_list(Currency::Usd), policy);
            assert_eq!(price, (usd(3_400), 500_000_000));
        }
    }

    #[test]
    fn within_a_year_an_upgrade_pays_the_annual_difference_of_the_cycles_left() {
        for (cycles, minor) in [(12, 34_000), (9, 25_500), (1, 2_833)] {
            let year = UpgradedCycle { year: Some(YearLeft { cycles }), ..at_list(Currency::Usd) };
            for policy in [UpgradeDiscount::Carry, UpgradeDiscount::None] {
                assert_eq!(full("standard", "pro", year, policy), (usd(minor), 500_000_000), "{cycles}");
            }
            // A tenant that prorates months does not prorate years: they are, by cycles.
            assert_eq!(
                prorated("standard", "pro", year, at("2026-04-16T00:00:00Z")),
                (usd(minor), 500_000_000)
            );
        }
        let year = UpgradedCycle { year: Some(YearLeft { cycles: 9 }), ..at_list(Currency::Cny) };
        // 3,290.00 less 990.00, three quarters.
        assert_eq!(full("standard", "pro", year, UpgradeDiscount::Carry), (cny(172_500), 500_000_000));
    }

    #[test]
    fn in_half_a_month_an_upgrade_costs_and_grants_half() {
        let half = MonthShare::new(15, 30).unwrap();
        let of =
            |cycle| full("lite", "standard", UpgradedCycle { share: half, ..cycle }, UpgradeDiscount::Carry);
        assert_eq!(of(at_list(Currency::Usd)), (usd(500), 70_000_000), "8.00 less 3.00");
        assert_eq!(of(discounted(Currency::Usd)), (usd(60), 70_000_000), "0.96 less 0.36");
    }

    #[test]
    fn a_tenant_may_charge_the_list_difference_in_a_discounted_cycle_too() {
        let price = full("lite", "max", discounted(Currency::Usd), UpgradeDiscount::None);
        assert_eq!(price, (usd(9_400), 1_540_000_000));
    }

    #[test]
    fn a_lower_plan_is_refused_with_the_date_that_it_could_begin_and_an_equal_one_as_no_upgrade() {
        let catalog = reference();
        let plan = |code| catalog.plan(code).unwrap();
        let of = |from, to, pricing| {
            let cycle = discounted(Currency::Usd);
            price(plan(from), plan(to), cycle, UpgradeDiscount::Carry, pricing, cycle.cycle.start)
        };
        for pricing in [UpgradePricing::FullDifference, UpgradePricing::Prorated] {
            let effective_at = at("2026-05-01T00:00:00Z");
            assert_eq!(of("pro", "lite", pricing), Err(Refusal::DowngradeWithinCycle { effective_at }));
            assert_eq!(of("pro", "pro", pricing), Err(Refusal::NotAnUpgrade));
        }
    }

    #[test]
    fn an_upgrade_to_a_plan_that_is_not_sold_in_the_currency_is_refused() {
        let catalog = reference();
        let mut max = catalog.plan("max").unwrap().clone();
        max.prices_minor.remove(&Currency::Cny);
        let cycle = discounted(Currency::Cny);
        let refused = price(
            catalog.plan("lite").unwrap(),
            &max,
            cycle,
            UpgradeDiscount::Carry,
            UpgradePricing::FullDifference,
            cycle.cycle.start,
        );
        assert_eq!(refused, Err(Refusal::NoPriceInCurrency { currency: Currency::Cny }));
    }

    #[test]
    fn prorated_at_half_of_a_cycle_costs_and_grants_half() {
        let half = at("2026-04-16T00:00:00Z");
        assert_eq!(
            prorated("standard", "pro", at_list(Currency::Usd), half),
            (usd(1_700), 250_000_000),
            "25.00 less 8.00"
        );
    }

    #[test]
    fn prorated_rounds_each_price_half_to_even_and_each_pool_down() {
        // A sixteenth of 30 days is 45 hours: 6.00 x 1/16 is 37.5 cents, so 38, and 0.72 x 1/16 is
        // 4.5, so 4; the difference of 5.28 x 1/16 would have been 33.
        let sixteenth_left = at("2026-05-01T00:00:00Z") - Duration::hours(45);
        assert_eq!(
            prorated("lite", "pro", discounted(Currency::Usd), sixteenth_left),
            (usd(34), 43_750_000 - 3_750_000)
        );
        // A second of 2,592,000: 23.1 of lite's Credits, so 23, and 77.2 of standard's, so 77.
        let last_second = at("2026-05-01T00:00:00Z") - Duration::seconds(1);
        assert_eq!(prorated("lite", "standard", at_list(Currency::Usd), last_second), (usd(0), 77 - 23));
    }

    #[test]
    fn prorated_is_the_full_difference_at_the_start_and_nothing_at_the_end() {
        for cycle in [discounted(Currency::Usd), at_list(Currency::Cny)] {
            let whole = full("lite", "max", cycle, UpgradeDiscount::Carry);
            assert_eq!(prorated("lite", "max", cycle, cycle.cycle.start), whole);
            assert_eq!(prorated("lite", "max", cycle, cycle.cycle.start - Duration::seconds(1)), whole);
            let nothing = (Money { amount_minor: 0, currency: cycle.currency }, 0);
            assert_eq!(prorated("lite", "max", cycle, cycle.cycle.end), nothing);
            assert_eq!(prorated("lite", "max", cycle, cycle.cycle.end + Duration::seconds(1)), nothing);
        }
    }

    /// Plans of rising rank, with prices in both currencies and pools that do not fall.
    fn plans() -> impl Strategy<Value = Vec<Plan>> {
        let step = (1u32..5, 0i64..1_000_000_000, 0i64..20_000, 0i64..100_000);
        prop::collection::vec(step, 2..7).prop_map(|steps| {
            let (mut rank, mut pool, mut usd_minor, mut cny_minor) = (0, 0, 0, 0);
            let rising = steps.into_iter().map(|(ranks, more, more_usd, more_cny)| {
                rank += ranks;
                pool += more;
                usd_minor += more_usd;
                cny_minor += more_cny;
                Plan {
                    code: format!("plan-{rank}"),
                    name: String::new(),
                    rank,
                    credits_per_cycle: credits(pool),
                    prices_minor: BTreeMap::from([(Currency::Usd, usd_minor), (Currency::Cny, cny_minor)]),
                    annual_prices_minor: BTreeMap::new(),
                }
            });
            rising.collect()
        })
    }

    fn reference_or_random_plans() -> impl Strategy<Value = Vec<Plan>> {
        prop_oneof![1 => Just(reference().document().plans.clone()), 3 => plans()]
    }

    proptest! {
        #[test]
        fn what_is_paid_and_granted_within_a_cycle_depends_on_the_highest_plan_alone(
            plans in reference_or_random_plans(),
            // The plan that is bought, and which ones above it the customer stops at.
            bought in 0usize..2,
            stops in prop::collection::vec(any::<bool>(), 7),
            bps in prop_oneof![Just(8_800u16), Just(0), 0u16..=10_000],
            currency in prop_oneof![Just(Currency::Usd), Just(Currency::Cny)],
            carries in any::<bool>(),
            // The part of a calendar month that the cycle covers.
            days in 1u16..=30,
        ) {
            let is_bought_or_stop = |(index, _): &(usize, &Plan)| *index == bought || stops[*index];
            let path: Vec<&Plan> =
                plans.iter().enumerate().skip(bought).filter(is_bought_or_stop).map(|(_, plan)| plan).collect();
            let (bought, highest) = (path[0], path[path.len() - 1]);
            let discount = DiscountBps::new(bps).unwrap();
            let share = MonthShare::new(days, 30).unwrap();
            let cycle = UpgradedCycle { discount, share, ..UpgradedCycle::at_list(april(), currency) };
            let list = |plan: &Plan| share.of_money(plan.price(currency).unwrap()).unwrap();
            let policy = if carries { UpgradeDiscount::Carry } else { UpgradeDiscount::None };

            let mut paid = discount.apply(list(bought)).amount_minor;
            let mut granted = share.of_credits(bought.credits_per_cycle).unwrap().get();
            for step in path.windows(2) {
                let pricing = UpgradePricing::FullDifference;
                let price = price(step[0], step[1], cycle, policy, pricing, april().start).unwrap();
                prop_assert_eq!(price.amount.currency, currency);
                paid += price.amount.amount_minor;
                granted += price.credits.get();
            }
            let minor = |plan| list(plan).amount_minor;
            let expected = model::paid_within_cycle(minor(bought), minor(highest), bps.into(), carries);
            prop_assert_eq!(paid, expected);
            prop_assert_eq!(granted, share.of_credits(highest.credits_per_cycle).unwrap().get());
        }

        #[test]
        fn prorated_lies_between_nothing_and_the_full_difference_and_falls_as_the_cycle_passes(
            plans in reference_or_random_plans(),
            bps in 0u16..=10_000,
            micros in prop::array::uniform2(0i64..=30 * 86_400_000_000),
        ) {
            let cycle = UpgradedCycle {
                discount: DiscountBps::new(bps).unwrap(),
                ..at_list(Currency::Usd)
            };
            let of = |pricing, now| {
                price(&plans[0], &plans[1], cycle, UpgradeDiscount::Carry, pricing, now).unwrap()
            };
            let [earlier, later] = [micros[0].min(micros[1]), micros[0].max(micros[1])]
                .map(|micros| of(UpgradePricing::Prorated, april().start + Duration::microseconds(micros)));
            let whole = of(UpgradePricing::FullDifference, april().start);
            prop_assert!(later.amount.amount_minor >= 0);
            prop_assert!(earlier.amount.amount_minor <= whole.amount.amount_minor);
            prop_assert!(earlier.credits <= whole.credits);
            // Each of the two prices and pools is rounded by itself, by less than one in all.
            prop_assert!(later.amount.amount_minor <= earlier.amount.amount_minor + 1);
            prop_assert!(later.credits.get() <= earlier.credits.get() + 1);
        }
    }
}
