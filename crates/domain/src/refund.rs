//! Money that goes back: how much of a payment may, what that takes back of the Credits (R-22a), and
//! the life of one refund.

use crate::{Credits, Money, Refusal};

/// Where a refund is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundStatus {
    /// Stored; the provider may or may not have heard of it.
    Created,
    /// The provider has given the money back.
    Succeeded,
    /// The provider said that it never will, or that the bank has sent the money back. Its amount can be refunded
    /// again.
    Failed,
}

impl RefundStatus {
    pub const ALL: [RefundStatus; 3] = [RefundStatus::Created, RefundStatus::Succeeded, RefundStatus::Failed];

    pub fn name(self) -> &'static str {
        match self {
            RefundStatus::Created => "created",
            RefundStatus::Succeeded => "succeeded",
            RefundStatus::Failed => "failed",
        }
    }
}

/// What the provider says about a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundReport {
    Succeeded,
    Failed,
}

/// The state after a report. A bank may send money back that had gone, so what has succeeded can fail still. A refund
/// that failed has released its amount, so it cannot succeed after all.
pub fn refund_after(status: RefundStatus, report: RefundReport) -> RefundStatus {
    match (status, report) {
        (RefundStatus::Created | RefundStatus::Succeeded, RefundReport::Succeeded) => RefundStatus::Succeeded,
        (RefundStatus::Created | RefundStatus::Succeeded, RefundReport::Failed) => RefundStatus::Failed,
        (RefundStatus::Failed, RefundReport::Succeeded | RefundReport::Failed) => RefundStatus::Failed,
    }
}

/// Who wanted the money to go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundOrigin {
    /// The payment succeeded for something that was over (R-10a, R-14b).
    TooLate,
    /// An operator.
    Operator,
    /// An operator, with an immediate cancel.
    Cancel,
    /// The provider told of a refund that was not asked for here.
    Provider,
}

impl RefundOrigin {
    pub const ALL: [RefundOrigin; 4] =
        [RefundOrigin::TooLate, RefundOrigin::Operator, RefundOrigin::Cancel, RefundOrigin::Provider];

    pub fn name(self) -> &'static str {
        match self {
            RefundOrigin::TooLate => "too_late",
            RefundOrigin::Operator => "operator",
            RefundOrigin::Cancel => "cancel",
            RefundOrigin::Provider => "provider",
        }
    }
}

/// How much goes back: `asked` minor units, or the whole rest. `paid` is the payment's amount and
/// `returned` what has gone back of it. Refused: `invalid-field` where not above zero,
/// `already-refunded` where nothing is left, `refund-too-large` where less is left than asked for.
pub fn amount(asked_minor: Option<i64>, paid: Money, returned_minor: i64) -> Result<Money, Refusal> {
    if asked_minor.is_some_and(|asked| asked <= 0) {
        return Err(Refusal::invalid_field("/amount_minor", "out-of-range"));
    }
    let rest = Money {
        amount_minor: paid.amount_minor.saturating_sub(returned_minor).max(0),
        currency: paid.currency,
    };
    if rest.is_zero() {
        return Err(Refusal::AlreadyRefunded);
    }
    let amount_minor = asked_minor.unwrap_or(rest.amount_minor);
    if amount_minor > rest.amount_minor {
        return Err(Refusal::RefundTooLarge { rest });
    }
    Ok(Money { amount_minor, ..rest })
}

/// The grant that a payment paid for, as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bought {
    pub granted: Credits,
    /// Revoked before, by whatever cause.
    pub revoked: Credits,
    pub remaining: Credits,
}

/// What a refund does to the grant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Revocation {
    pub revoke: Credits,
    /// What should have been revoked and was not there any more: it stays spent, or has expired. Of all
    /// refunds of the payment so far.
    pub short: Credits,
}

/// What a payment of `paid_minor` loses of its grant once `refunded_minor` of it, all refunds added up,
/// have gone back (R-22a): target = floor(granted x refunded / paid); revoke min(target - revoked
/// before, remaining). What was spent stays spent.
pub fn revocation(bought: Bought, paid_minor: i64, refunded_minor: i64) -> Revocation {
    let target = lost(bought.granted, paid_minor, refunded_minor);
    let missing = target.minus_floor_zero(bought.revoked);
    let revoke = missing.min(bought.remaining);
    Revocation { revoke, short: missing.minus_floor_zero(revoke) }
}

/// What a refund takes once one before it has come to nothing, of a grant that what this one had taken is back in: as much as
/// it would have taken then, and no more than it `had` and that one has `given_back`. `loss` is by all that has gone back up
/// to it, `short` what it had found missing.
pub fn revocation_anew(
    loss: Revocation,
    had: Credits,
    given_back: Credits,
    short: Credits,
) -> Result<Revocation, Refusal> {
    let revoke = loss.revoke.min(had.plus(given_back)?);
    let missing = loss.revoke.plus(loss.short)?.minus_floor_zero(revoke);
    Ok(Revocation { revoke, short: short.min(missing) })
}

/// floor(granted x refunded / paid).
fn lost(granted: Credits, paid_minor: i64, refunded_minor: i64) -> Credits {
    if paid_minor <= 0 {
        return Credits::ZERO;
    }
    let refunded = i128::from(refunded_minor.clamp(0, paid_minor));
    let target = i128::from(granted.get()) * refunded / i128::from(paid_minor);
    // It lies in [0, granted], so it fits where that fitted.
    i64::try_from(target).ok().and_then(|target| Credits::new(target).ok()).unwrap_or(granted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{credits, usd};
    use proptest::prelude::*;

    fn bought(granted: i64, revoked: i64, remaining: i64) -> Bought {
        Bought { granted: credits(granted), revoked: credits(revoked), remaining: credits(remaining) }
    }

    #[test]
    fn the_rules_own_example() {
        // Grant 100, spent 70, half refunded: revoke 30, shortfall 20.
        let half = revocation(bought(100, 0, 30), 600, 300);
        assert_eq!(half, Revocation { revoke: credits(30), short: credits(20) });
        // The other half: 100 should be gone, 30 are, and 70 stay spent.
        let whole = revocation(bought(100, 30, 0), 600, 600);
        assert_eq!(whole, Revocation { revoke: Credits::ZERO, short: credits(70) });
    }

    #[test]
    fn a_part_of_the_money_takes_the_same_part_of_the_credits_rounded_down() {
        let third = revocation(bought(100, 0, 100), 3, 1);
        assert_eq!(third, Revocation { revoke: credits(33), short: Credits::ZERO });
        let two_thirds = revocation(bought(100, 33, 67), 3, 2);
        assert_eq!(two_thirds.revoke, credits(33), "66 in all");
        assert_eq!(revocation(bought(100, 66, 34), 3, 3).revoke, credits(34), "and all of it in the end");
        assert_eq!(revocation(bought(100, 0, 100), 0, 0), Revocation::default(), "nothing was paid");
    }

    #[test]
    fn without_one_before_it_a_refund_takes_what_that_had_taken_of_its_part() {
        // Grant 100, spent 70: a half took the 30, the other half found nothing. Without the first: 30, and 20 are missing.
        let loss = revocation(bought(100, 0, 30), 600, 300);
        let anew = |had, given_back, short| {
            revocation_anew(loss, credits(had), credits(given_back), credits(short)).unwrap()
        };
        assert_eq!(anew(0, 30, 70), Revocation { revoke: credits(30), short: credits(20) });
        // What has come back to the grant by itself since is not taken: 10 of it the first had, and 5 this one.
        assert_eq!(anew(5, 10, 45), Revocation { revoke: credits(15), short: credits(35) });
        assert_eq!(anew(5, 10, 20).short, credits(20), "what was never missing does not become so");
    }

    #[test]
    fn what_a_cancel_has_revoked_is_not_missing() {
        // Grant 100, spent 70, canceled at once: the other 30 are gone before half of it is refunded.
        let half = revocation(bought(100, 30, 0), 600, 300);
        assert_eq!(half, Revocation { revoke: Credits::ZERO, short: credits(20) });
    }

    #[test]
    fn no_more_goes_back_than_is_left_of_the_payment() {
        assert_eq!(amount(None, usd(600), 0), Ok(usd(600)));
        assert_eq!(amount(None, usd(600), 250), Ok(usd(350)));
        assert_eq!(amount(Some(350), usd(600), 250), Ok(usd(350)));
        assert_eq!(amount(Some(351), usd(600), 250), Err(Refusal::RefundTooLarge { rest: usd(350) }));
        assert_eq!(amount(Some(1), usd(600), 600), Err(Refusal::AlreadyRefunded));
        assert_eq!(amount(None, usd(600), 700), Err(Refusal::AlreadyRefunded));
        for bad in [0, -1, i64::MIN] {
            let refused = Err(Refusal::invalid_field("/amount_minor", "out-of-range"));
            assert_eq!(amount(Some(bad), usd(600), 0), refused);
        }
    }

    #[test]
    fn what_failed_stays_and_what_succeeded_can_fail_still() {
        use {RefundReport as Report, RefundStatus as Status};
        for (status, outcomes) in [
            (Status::Created, [Status::Succeeded, Status::Failed]),
            (Status::Succeeded, [Status::Succeeded, Status::Failed]),
            (Status::Failed, [Status::Failed; 2]),
        ] {
            let after = [Report::Succeeded, Report::Failed].map(|report| refund_after(status, report));
            assert_eq!(after, outcomes, "{status:?}");
        }
    }

    #[test]
    fn who_asked_has_a_name_of_its_own() {
        let names = ["too_late", "operator", "cancel", "provider"];
        assert_eq!(RefundOrigin::ALL.map(RefundOrigin::name), names);
    }

    proptest! {
        #[test]
        fn refunds_in_any_parts_revoke_what_one_refund_of_their_sum_would(
            granted in 0i64..2_000_000_000, spent_share in 0i64..=1_000,
            paid in 1i64..1_000_000, parts in prop::collection::vec(0i64..400_000, 1..6)
        ) {
            let spent = granted * spent_share / 1_000;
            let (mut revoked, mut refunded, mut last) = (0, 0, Revocation::default());
            for part in parts {
                refunded = (refunded + part).min(paid);
                last = revocation(bought(granted, revoked, granted - spent - revoked), paid, refunded);
                revoked += last.revoke.get();
                prop_assert!(revoked + spent <= granted, "no more than there is");
            }
            let at_once = revocation(bought(granted, 0, granted - spent), paid, refunded);
            prop_assert_eq!(at_once.revoke.get(), revoked);
            prop_assert_eq!(at_once.short, last.short);
            let target = i128::from(granted) * i128::from(refunded) / i128::from(paid);
            prop_assert_eq!(i128::from(revoked + last.short.get()), target);
            prop_assert!(refunded < paid || revoked == granted - spent, "all that is unspent, at the end");
        }
    }
}
