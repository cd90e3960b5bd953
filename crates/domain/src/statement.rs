//! A cycle's statement: what the account had, what came, what went, and what it had then.
//!
//! It is summed up from the ledger's transfers, and what was spent by model from the usage events: two
//! records of the same Credits, which have to agree.

use crate::Credits;
use crate::account::Book;
use crate::grant::GrantSource;

/// Credits that moved between two books within a statement's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movement {
    pub debit: Book,
    pub credit: Book,
    /// Of the grant that they moved out of or into.
    pub source: Option<GrantSource>,
    pub credits: Credits,
}

/// What the usage of one model came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelUse {
    /// Empty for usage that is old enough to have been dropped.
    pub model: String,
    /// What grants paid for.
    pub spent: Credits,
    /// What none paid for.
    pub overage: Credits,
    /// What voids gave back to grants.
    pub voided: Credits,
    /// What no grant had paid for, and was voided.
    pub overage_voided: Credits,
}

/// What is summed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    /// What all grants had left before the first movement.
    pub opening: Credits,
    pub movements: Vec<Movement>,
    pub uses: Vec<ModelUse>,
    /// What all grants had left after the last one.
    pub closing: Credits,
}

/// opening + granted + taken back + voided + reinstated - spent - expired - revoked = closing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub opening: Credits,
    /// Only sources that granted something.
    pub granted: Vec<(GrantSource, Credits)>,
    /// What late usage took back from an expiry; it is in `spent` too.
    pub taken_back: Credits,
    /// What voids gave back, whenever it had been spent; what of it expired at once is in `expired` too.
    pub voided: Credits,
    /// What had been revoked for money that did not go back in the end; what of it expired at once is in `expired` too
    /// (R-22a, R-25b).
    pub reinstated: Credits,
    /// What was charged, also where it was voided since.
    pub spent: Credits,
    pub expired: Credits,
    pub revoked: Credits,
    pub closing: Credits,
    /// Usage that no grant paid for; it moves no balance.
    pub overage: Credits,
    /// Overage that was voided, whenever it had come about.
    pub overage_voided: Credits,
    /// Sums up to `spent`, `overage`, `voided` and `overage_voided`.
    pub uses: Vec<ModelUse>,
}

/// The records that a statement is made from do not agree: something is wrong with what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the statement does not add up: {0}")]
pub struct DoesNotAddUp(&'static str);

impl Statement {
    /// Sums up, and refuses to show what does not add up.
    pub fn of(entries: Entries) -> Result<Statement, DoesNotAddUp> {
        let Entries { opening, movements, uses, closing } = entries;
        let mut sums = [Credits::ZERO; 8];
        let mut granted: Vec<(GrantSource, Credits)> = Vec::new();
        for movement in &movements {
            let credits = movement.credits;
            let [taken_back, spent, expired, revoked, overage, voided, overage_voided, reinstated] =
                &mut sums;
            let sum = match (movement.debit, movement.credit, movement.source) {
                (Book::Issued, Book::Available, Some(source)) => grant_of(&mut granted, source),
                (Book::Expired, Book::Available, Some(_)) => taken_back,
                (Book::Available, Book::Spent, Some(_)) => spent,
                (Book::Available, Book::Expired, Some(_)) => expired,
                (Book::Available, Book::Revoked, Some(_)) => revoked,
                (Book::Overage, Book::Spent, None) => overage,
                (Book::Spent, Book::Available, Some(_)) => voided,
                (Book::Spent, Book::Overage, None) => overage_voided,
                (Book::Revoked, Book::Available, Some(_)) => reinstated,
                _ => return Err(DoesNotAddUp("a transfer between books that no rule makes")),
            };
            *sum = plus(*sum, credits)?;
        }
        let [taken_back, spent, expired, revoked, overage, voided, overage_voided, reinstated] = sums;
        let back = plus(plus(taken_back, voided)?, reinstated)?;
        let came = granted.iter().try_fold(plus(opening, back)?, |sum, (_, credits)| plus(sum, *credits))?;
        let went = plus(plus(spent, expired)?, revoked)?;
        if came.checked_minus(went) != Some(closing) {
            return Err(DoesNotAddUp("the balance is not what the movements leave"));
        }
        let of_uses = |of: fn(&ModelUse) -> Credits| {
            uses.iter().try_fold(Credits::ZERO, |sum, of_model| plus(sum, of(of_model)))
        };
        if (of_uses(|of| of.spent)?, of_uses(|of| of.overage)?) != (spent, overage) {
            return Err(DoesNotAddUp("the usage is not what was charged"));
        }
        if (of_uses(|of| of.voided)?, of_uses(|of| of.overage_voided)?) != (voided, overage_voided) {
            return Err(DoesNotAddUp("the voided usage is not what was given back"));
        }
        Ok(Statement {
            opening,
            granted,
            taken_back,
            voided,
            reinstated,
            spent,
            expired,
            revoked,
            closing,
            overage,
            overage_voided,
            uses,
        })
    }
}

fn grant_of(granted: &mut Vec<(GrantSource, Credits)>, source: GrantSource) -> &mut Credits {
    let index = granted.iter().position(|(other, _)| *other == source).unwrap_or_else(|| {
        granted.push((source, Credits::ZERO));
        granted.len() - 1
    });
    &mut granted[index].1
}

fn plus(sum: Credits, credits: Credits) -> Result<Credits, DoesNotAddUp> {
    sum.plus(credits).map_err(|_| DoesNotAddUp("a sum is larger than Tollgate counts"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::credits;

    fn moved(debit: Book, credit: Book, source: Option<GrantSource>, count: i64) -> Movement {
        Movement { debit, credit, source, credits: credits(count) }
    }

    fn used(model: &str, spent: i64, overage: i64) -> ModelUse {
        let (voided, overage_voided) = (Credits::ZERO, Credits::ZERO);
        ModelUse {
            model: model.to_owned(),
            spent: credits(spent),
            overage: credits(overage),
            voided,
            overage_voided,
        }
    }

    /// 10 + 100 + 50 + 7 - 60 - 30 - 77 = 0.
    fn lively() -> Entries {
        let plan = Some(GrantSource::Plan);
        Entries {
            opening: credits(10),
            movements: vec![
                moved(Book::Issued, Book::Available, plan, 100),
                moved(Book::Issued, Book::Available, Some(GrantSource::Upgrade), 50),
                moved(Book::Expired, Book::Available, plan, 7),
                moved(Book::Available, Book::Spent, plan, 25),
                moved(Book::Available, Book::Spent, Some(GrantSource::Promotion), 35),
                moved(Book::Available, Book::Expired, plan, 30),
                moved(Book::Available, Book::Revoked, plan, 77),
                moved(Book::Overage, Book::Spent, None, 9),
            ],
            uses: vec![used("a", 40, 9), used("b", 20, 0)],
            closing: credits(0),
        }
    }

    #[test]
    fn a_statement_sums_up_what_came_and_what_went() {
        let statement = Statement::of(lively()).unwrap();
        let granted = [(GrantSource::Plan, credits(100)), (GrantSource::Upgrade, credits(50))];
        assert_eq!(statement.granted, granted);
        let Statement { taken_back, spent, expired, revoked, overage, .. } = statement;
        assert_eq!([taken_back, spent, expired, revoked, overage], [7, 60, 30, 77, 9].map(credits));
    }

    #[test]
    fn a_cycle_without_a_movement_closes_as_it_opened() {
        let quiet = Entries { opening: credits(5), movements: vec![], uses: vec![], closing: credits(5) };
        assert_eq!(Statement::of(quiet.clone()).unwrap().closing, credits(5));
        assert!(Statement::of(Entries { closing: credits(4), ..quiet }).is_err());
    }

    /// `lively`, of whose 60 Credits 6 were voided, 4 of them for a grant that had ended, and 2 of the overage.
    fn with_voids() -> Entries {
        let plan = Some(GrantSource::Plan);
        let mut entries = lively();
        entries.movements.extend([
            moved(Book::Spent, Book::Available, plan, 6),
            moved(Book::Available, Book::Expired, plan, 4),
            moved(Book::Spent, Book::Overage, None, 2),
        ]);
        entries.uses[0].voided = credits(6);
        entries.uses[0].overage_voided = credits(2);
        Entries { closing: credits(2), ..entries }
    }

    #[test]
    fn a_void_is_shown_as_one_and_what_was_spent_stays_spent() {
        let statement = Statement::of(with_voids()).unwrap();
        let Statement { spent, voided, expired, overage, overage_voided, .. } = statement;
        assert_eq!([spent, voided, expired, overage, overage_voided], [60, 6, 34, 9, 2].map(credits));
        let mut wrong = with_voids();
        wrong.uses[0].voided = credits(5);
        assert!(Statement::of(wrong).is_err(), "the events say another sum");
    }

    #[test]
    fn what_was_reinstated_is_shown_beside_what_was_revoked() {
        let mut entries = lively();
        entries.movements.push(moved(Book::Revoked, Book::Available, Some(GrantSource::Plan), 70));
        let statement = Statement::of(Entries { closing: credits(70), ..entries }).unwrap();
        assert_eq!([statement.revoked, statement.reinstated], [77, 70].map(credits));
    }

    #[test]
    fn what_does_not_add_up_is_not_shown() {
        let wrong = [
            Entries { opening: credits(11), ..lively() },
            Entries { closing: credits(1), ..lively() },
            Entries { uses: vec![used("a", 41, 9), used("b", 20, 0)], ..lively() },
            Entries { uses: vec![used("a", 40, 8), used("b", 20, 0)], ..lively() },
            Entries { movements: vec![moved(Book::Spent, Book::Issued, None, 1)], ..lively() },
        ];
        for entries in wrong {
            assert!(Statement::of(entries.clone()).is_err(), "{entries:?}");
        }
    }
}
