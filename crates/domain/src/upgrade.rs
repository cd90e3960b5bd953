//! What an upgrade costs and grants (R-13, R-14, R-14a).

use crate::calendar::Cycle;
use crate::catalog::Plan;
use crate::money::{Currency, DiscountBps, Money, divide_half_even};
use crate::policy::{UpgradeDiscount, UpgradePricing};
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
    pub currency: Currency,
}

/// Prices an upgrade of `old` to `new` at `now`. A lower plan is refused with
/// `downgrade-within-cycle` and the cycle's end, an equal one with `not-an-upgrade`.
pub fn price(
    old: &Plan,
    new: &Plan,
    upgraded: UpgradedCycle,
    discount_policy: UpgradeDiscount,
    pricing_policy: UpgradePricing,
    now: Timestamp,
) -> Result<UpgradePrice, Refusal> {
    if new.rank < old.rank {
        return Err(Refusal::DowngradeWithinCycle { effective_at: upgraded.cycle.end });
    }
    if new.rank == old.rank {
        return Err(Refusal::NotAnUpgrade);
    }
    let discount = match discount_policy {
        UpgradeDiscount::Carry => upgraded.discount,
        UpgradeDiscount::None => DiscountBps::NONE,
    };
    let old_price = discount.apply(old.price(upgraded.currency)?);
    let new_price = discount.apply(new.price(upgraded.currency)?);
    match pricing_policy {
        UpgradePricing::FullDifference => Ok(UpgradePrice {
            amount: new_price.minus_floor_zero(old_price),
            credits: new.credits_per_cycle.minus_floor_zero(old.credits_per_cycle),
        }),
        UpgradePricing::Prorated => {
            let share = Share::remaining(upgraded.cycle, now);
            Ok(UpgradePrice {
                amount: share.of_money(new_price)?.minus_floor_zero(share.of_money(old_price)?),
                credits: share
                    .of_credits_floor(new.credits_per_cycle)?
                    .minus_floor_zero(share.of_credits_floor(old.credits_per_cycle)?),
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
