//! What pays once the grants do not.

use serde::{Deserialize, Serialize};

use crate::payg::Pico;
use crate::policy::Policies;
use crate::{Credits, Currency, Refusal, Timestamp};

/// Buys the top-up that a customer is set to, if it may: payload {tenant, customer}. Enqueued by whoever
/// empties an account, in the transaction that does.
pub const AUTO_TOP_UP_JOB: &str = "auto_top_up";

/// What becomes of usage that no grant covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exhaustion {
    /// Nobody pays: it is recorded as overage, and no request starts without Credits.
    #[default]
    Absorb,
    /// It is billed at pay-as-you-go prices, up to the customer's spend cap.
    Payg,
    /// A top-up buys itself, so often a cycle.
    #[serde(rename = "topup")]
    TopUp,
}

impl Exhaustion {
    pub const ALL: [Exhaustion; 3] = [Exhaustion::Absorb, Exhaustion::Payg, Exhaustion::TopUp];

    pub fn name(self) -> &'static str {
        match self {
            Exhaustion::Absorb => "absorb",
            Exhaustion::Payg => "payg",
            Exhaustion::TopUp => "topup",
        }
    }
}

/// How a customer's account goes on without Credits, as far as charging needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow {
    /// As set for the customer; the tenant's policy where none.
    pub exhaustion: Option<Exhaustion>,
    pub currency: Currency,
    /// The customer's; the tenant's policy where none.
    pub spend_cap_minor: Option<i64>,
    /// What is not invoiced yet.
    pub accrued: Pico,
    /// When that is invoiced, unless a cycle ends before; none while nothing is accrued.
    pub due_at: Option<Timestamp>,
    /// With so many Credits left a top-up buys itself; none where the customer is set to none.
    pub top_up_at: Option<Credits>,
    /// None buys itself before.
    pub top_up_blocked_until: Option<Timestamp>,
}

impl Overflow {
    /// A new customer's.
    pub const NONE: Overflow = Overflow {
        exhaustion: None,
        currency: Currency::Usd,
        spend_cap_minor: None,
        accrued: Pico::ZERO,
        due_at: None,
        top_up_at: None,
        top_up_blocked_until: None,
    };

    pub fn exhaustion(&self, policies: &Policies) -> Exhaustion {
        self.exhaustion.unwrap_or(policies.exhaustion)
    }

    /// What may still be accrued under the spend cap.
    pub fn room(&self, policies: &Policies) -> Result<Pico, Refusal> {
        let cap_minor = self.spend_cap_minor.unwrap_or(policies.spend_cap_minor);
        Ok(Pico::of_minor(cap_minor, self.currency)?.minus_floor_zero(self.accrued))
    }

    /// Whether a top-up would buy itself at `now` if the Credits ran out.
    pub fn tops_up(&self, policies: &Policies, now: Timestamp) -> bool {
        self.exhaustion(policies) == Exhaustion::TopUp
            && self.top_up_at.is_some()
            && self.top_up_blocked_until.is_none_or(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{at, credits};

    #[test]
    fn the_customers_setting_stands_before_the_tenants_policy() {
        assert_eq!(Exhaustion::ALL.map(Exhaustion::name), ["absorb", "payg", "topup"]);
        let policies = Policies { exhaustion: Exhaustion::Payg, ..Policies::default() };
        assert_eq!(Overflow::NONE.exhaustion(&policies), Exhaustion::Payg);
        let own = Overflow { exhaustion: Some(Exhaustion::Absorb), ..Overflow::NONE };
        assert_eq!(own.exhaustion(&policies), Exhaustion::Absorb);
    }

    #[test]
    fn what_may_be_accrued_is_the_spend_cap_less_what_is() {
        let policies = Policies { spend_cap_minor: 300, ..Policies::default() };
        // 3.00 of the policy or 5.00 of the customer, of which 4.00 are accrued.
        let accrued = Pico::of_minor(400, Currency::Usd).unwrap();
        let room = |spend_cap_minor, accrued| {
            let overflow = Overflow { spend_cap_minor, accrued, ..Overflow::NONE };
            overflow.room(&policies).unwrap().round_to_minor(Currency::Usd).unwrap()
        };
        assert_eq!((room(None, Pico::ZERO), room(Some(500), Pico::ZERO)), (300, 500));
        assert_eq!((room(None, accrued), room(Some(500), accrued)), (0, 100));
    }

    #[test]
    fn a_top_up_buys_itself_where_one_is_set_and_none_is_held_off() {
        let (now, policies) = (at("2026-03-01T00:00:00Z"), Policies::default());
        let blocked = |second| Some(now + chrono::TimeDelta::seconds(second));
        for (exhaustion, top_up_at, top_up_blocked_until, expected) in [
            (Exhaustion::TopUp, Some(credits(5)), None, true),
            (Exhaustion::TopUp, Some(credits(5)), blocked(0), true),
            (Exhaustion::TopUp, Some(credits(5)), blocked(1), false),
            (Exhaustion::TopUp, None, None, false),
            (Exhaustion::Payg, Some(credits(5)), None, false),
            (Exhaustion::Absorb, None, blocked(1), false),
        ] {
            let set =
                Overflow { exhaustion: Some(exhaustion), top_up_at, top_up_blocked_until, ..Overflow::NONE };
            assert_eq!(set.tops_up(&policies, now), expected, "{set:?}");
        }
    }
}
