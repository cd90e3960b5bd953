//! What a tenant may set otherwise: every number that `rules.md` marks *policy*, with its default.

use chrono::Duration;
use serde::{Deserialize, Serialize};

use crate::calendar::AnchorKind;
use crate::exhaustion::Exhaustion;
use crate::rollover::RolloverPolicy;
use crate::tax::Tax;
use crate::{Credits, Timestamp};

/// The highest spend cap, in minor units.
pub const SPEND_CAP_MINOR_MAX: i64 = 1_000_000_000_000;

/// A tenant's settings. A field that is left out has the rule's default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policies {
    /// How long an unpaid first purchase stays open (R-10).
    pub incomplete_minutes: u32,
    /// How long an upgrade's payment may be pending (R-16).
    pub upgrade_pending_minutes: u32,
    /// How long an unpaid top-up stays open (R-10a).
    pub top_up_minutes: u32,
    /// How long a quote is good for (R-14a).
    pub quote_minutes: u32,
    pub upgrade_discount: UpgradeDiscount,
    pub upgrade_pricing: UpgradePricing,
    pub renewal_grant: RenewalGrant,
    pub catch_up: CatchUp,
    /// The days after a cycle's start on which an unpaid renewal is tried again, rising (R-22).
    pub dunning_days: Vec<u16>,
    pub dunning_end: DunningEnd,
    /// Where the cycles of new monthly subscriptions are cut (R-18); years always run from their activation.
    pub cycle_anchor: AnchorKind,
    /// What of a cycle's rest is carried into the next ones (R-20); nothing where left out.
    pub rollover: Option<RolloverPolicy>,
    /// Whether one card may use the first-cycle promotion for one customer only (R-11).
    pub promotion_once_per_fingerprint: bool,
    /// A hold's life without renewal (R-28).
    pub hold_minutes: u32,
    /// A hold's longest life, renewals included (R-28).
    pub hold_life_minutes_max: u32,
    /// The output that an estimate counts when a request asks for more (R-28).
    pub estimate_output_tokens_max: u64,
    /// How far in the past an event's time may lie.
    pub event_age_hours_max: u32,
    /// How far in the future an event's time may lie.
    pub event_ahead_minutes_max: u32,
    /// How long after a cycle's end its usage is still charged to it, counted to the receipt (R-32).
    pub late_grace_minutes: u32,
    pub late_usage: LateUsage,
    pub dearer_rates: DearerRates,
    /// The status that answers "out of Credits" (R-33a).
    pub out_of_credits_status: u16,
    /// What pays once the grants do not, where a customer is not set to anything else (R-30).
    pub exhaustion: Exhaustion,
    /// The most that a period's pay-as-you-go may come to, in minor units, where a customer has no other cap (R-30).
    pub spend_cap_minor: i64,
    /// The parts of a pool, in percent, at whose use somebody is told.
    pub alert_used_percents: Vec<u8>,
    /// The Credits at which somebody is told that no more are left.
    pub alert_credits_left: Vec<Credits>,
    /// Where a customer who ran out may upgrade (R-33a).
    pub upgrade_url: Option<String>,
    /// What every invoice is taxed with, from the next one on.
    pub tax: Tax,
}

impl Default for Policies {
    fn default() -> Self {
        Policies {
            incomplete_minutes: 23 * 60,
            upgrade_pending_minutes: 60,
            top_up_minutes: 23 * 60,
            quote_minutes: 10,
            upgrade_discount: UpgradeDiscount::Carry,
            upgrade_pricing: UpgradePricing::FullDifference,
            renewal_grant: RenewalGrant::OnPayment,
            catch_up: CatchUp::Skip,
            dunning_days: vec![1, 3, 5, 7],
            dunning_end: DunningEnd::Cancel,
            cycle_anchor: AnchorKind::Anniversary,
            rollover: None,
            promotion_once_per_fingerprint: true,
            hold_minutes: 15,
            hold_life_minutes_max: 120,
            estimate_output_tokens_max: 4_096,
            event_age_hours_max: 72,
            event_ahead_minutes_max: 5,
            late_grace_minutes: 60,
            late_usage: LateUsage::Current,
            dearer_rates: DearerRates::AtOnce,
            out_of_credits_status: 402,
            exhaustion: Exhaustion::Absorb,
            spend_cap_minor: 0,
            alert_used_percents: vec![50, 80, 95],
            alert_credits_left: Vec::new(),
            upgrade_url: None,
            tax: Tax::default(),
        }
    }
}

impl Policies {
    /// Whether an event of this time, received at `now`, lies in the window that is accepted.
    pub fn accepts_event_time(&self, event_time: Timestamp, now: Timestamp) -> bool {
        let oldest = now - Duration::hours(i64::from(self.event_age_hours_max));
        let newest = now + Duration::minutes(i64::from(self.event_ahead_minutes_max));
        (oldest..=newest).contains(&event_time)
    }

    /// What becomes of usage of a closed cycle (R-32).
    pub fn late_rules(&self) -> LateRules {
        LateRules {
            grace: Duration::minutes(i64::from(self.late_grace_minutes)),
            past_grace: self.late_usage,
        }
    }

    /// What is wrong with these settings, a sentence each; empty when they can be used.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |is_met: bool, problem: &str| {
            if !is_met {
                problems.push(problem.to_owned());
            }
        };
        require(self.incomplete_minutes > 0, "incomplete_minutes must be above 0");
        require(self.upgrade_pending_minutes > 0, "upgrade_pending_minutes must be above 0");
        require(self.top_up_minutes > 0, "top_up_minutes must be above 0");
        require(self.quote_minutes > 0, "quote_minutes must be above 0");
        // A month has at least 28 days, and no try is due at its end.
        let is_in_a_cycle = self.dunning_days.iter().all(|day| (1..28).contains(day));
        let is_rising = self.dunning_days.is_sorted_by(|one, next| one < next);
        require(is_in_a_cycle && is_rising, "dunning_days must be 1 to 27 each, and rise");
        require((1..=120).contains(&self.hold_minutes), "hold_minutes must be 1 to 120");
        require(self.late_grace_minutes <= 10_080, "late_grace_minutes must be at most 10080");
        require(
            (self.hold_minutes.min(120)..=120).contains(&self.hold_life_minutes_max),
            "hold_life_minutes_max must be hold_minutes to 120",
        );
        require(
            matches!(self.out_of_credits_status, 402 | 403 | 429),
            "out_of_credits_status must be 402, 403 or 429",
        );
        require(
            (0..=SPEND_CAP_MINOR_MAX).contains(&self.spend_cap_minor),
            "spend_cap_minor must be 0 to 1000000000000",
        );
        let has_right_percents = self.alert_used_percents.iter().all(|percent| (1..=99).contains(percent));
        require(has_right_percents, "alert_used_percents must be 1 to 99 each");
        let is_short = self.alert_used_percents.len() <= 10 && self.alert_credits_left.len() <= 10;
        require(is_short, "alert_used_percents and alert_credits_left must be at most 10 each");
        problems.extend(self.tax.problems().into_iter().map(str::to_owned));
        problems.extend(self.rollover.iter().flat_map(RolloverPolicy::problems));
        problems
    }
}

/// Between which prices an upgrade in a discounted cycle is the difference (R-14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeDiscount {
    /// Between discounted prices: what is paid depends only on the highest plan reached.
    Carry,
    /// Between list prices.
    None,
}

/// Whether an upgrade costs the whole difference or the remaining part of the cycle (R-14a).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradePricing {
    FullDifference,
    Prorated,
}

/// When a renewal's Credits are granted (R-21).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RenewalGrant {
    OnPayment,
    OnInvoice,
}

/// What pays for usage of a closed cycle that came after the grace (R-32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LateUsage {
    /// It is charged as if it had happened when it is recorded.
    Current,
    /// Nothing: all of it is overage.
    Absorb,
}

/// Whom a version of the rate card with a dearer rate applies to from its instant on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DearerRates {
    /// Everybody.
    AtOnce,
    /// Whoever is not in a cycle that was paid before. In such a one the rates stay that it began with, where they
    /// are the cheaper ones.
    NextCycle,
}

/// What becomes of usage of a closed cycle (R-32).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LateRules {
    /// How long after the cycle's end it may be received and still be charged to it.
    pub grace: Duration,
    pub past_grace: LateUsage,
}

/// What the failure of an unpaid renewal's last try does (R-22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DunningEnd {
    /// The subscription is canceled at once.
    Cancel,
    /// It stays past due, and its customer can pay until the cycle's end, when it is canceled.
    CycleEnd,
}

/// What becomes of a cycle that is over before it could be opened (R-23).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    Skip,
    Bill,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tax::TaxMode;

    #[test]
    fn what_a_tenant_leaves_out_is_as_the_rules_say() {
        let policies: Policies = serde_json::from_str("{}").unwrap();
        assert_eq!(policies, Policies::default());
        assert_eq!(policies.problems(), Vec::<String>::new());
        let json = serde_json::to_string(&policies).unwrap();
        assert_eq!(serde_json::from_str::<Policies>(&json).unwrap(), policies);
        assert_eq!(
            (policies.incomplete_minutes, policies.quote_minutes, policies.hold_minutes),
            (1_380, 10, 15)
        );
        let late = LateRules { grace: Duration::hours(1), past_grace: LateUsage::Current };
        assert_eq!(policies.late_rules(), late);
        assert_eq!((policies.estimate_output_tokens_max, policies.out_of_credits_status), (4_096, 402));
    }

    #[test]
    fn a_setting_reads_as_it_is_written() {
        let json = r#"{ "upgrade_discount": "none", "upgrade_pricing": "prorated", "renewal_grant": "on_invoice",
            "catch_up": "bill", "dunning_days": [2, 9], "dunning_end": "cycle_end", "late_usage": "absorb",
            "dearer_rates": "next_cycle", "cycle_anchor": "calendar_month",
            "rollover": { "share_bps": 5000, "cap_credits": 1000, "cycles": 2 },
            "tax": { "rate_bps": 1300, "mode": "inclusive", "name": "VAT" } }"#;
        let policies: Policies = serde_json::from_str(json).unwrap();
        assert_eq!(
            policies,
            Policies {
                upgrade_discount: UpgradeDiscount::None,
                upgrade_pricing: UpgradePricing::Prorated,
                renewal_grant: RenewalGrant::OnInvoice,
                catch_up: CatchUp::Bill,
                dunning_days: vec![2, 9],
                dunning_end: DunningEnd::CycleEnd,
                cycle_anchor: AnchorKind::CalendarMonth,
                rollover: Some(RolloverPolicy {
                    share_bps: 5_000,
                    cap_credits: Some(Credits::new(1_000).unwrap()),
                    cycles: 2,
                }),
                late_usage: LateUsage::Absorb,
                dearer_rates: DearerRates::NextCycle,
                tax: Tax { rate_bps: 1_300, mode: TaxMode::Inclusive, name: "VAT".to_owned() },
                ..Policies::default()
            }
        );
        assert!(serde_json::from_str::<Policies>(r#"{ "hold_minute": 15 }"#).is_err(), "no such setting");
    }

    #[test]
    fn every_unusable_setting_is_said() {
        let fine = Policies::default;
        for (policies, problem) in [
            (Policies { incomplete_minutes: 0, ..fine() }, "incomplete_minutes must be above 0"),
            (Policies { upgrade_pending_minutes: 0, ..fine() }, "upgrade_pending_minutes must be above 0"),
            (Policies { quote_minutes: 0, ..fine() }, "quote_minutes must be above 0"),
            (Policies { dunning_days: vec![0, 3], ..fine() }, "dunning_days must be 1 to 27 each, and rise"),
            (Policies { dunning_days: vec![28], ..fine() }, "dunning_days must be 1 to 27 each, and rise"),
            (Policies { dunning_days: vec![3, 3], ..fine() }, "dunning_days must be 1 to 27 each, and rise"),
            (Policies { hold_minutes: 0, ..fine() }, "hold_minutes must be 1 to 120"),
            (Policies { hold_minutes: 121, ..fine() }, "hold_minutes must be 1 to 120"),
            (Policies { late_grace_minutes: 10_081, ..fine() }, "late_grace_minutes must be at most 10080"),
            (
                Policies { tax: Tax { rate_bps: 10_001, ..Tax::default() }, ..fine() },
                "tax.rate_bps must be 0 to 10000",
            ),
            (
                Policies { out_of_credits_status: 200, ..fine() },
                "out_of_credits_status must be 402, 403 or 429",
            ),
        ] {
            assert_eq!(policies.problems(), [problem]);
        }
    }
}
