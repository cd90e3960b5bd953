//! Rules of the account, as properties of any history, against the model.

use proptest::prelude::*;

use super::*;
use crate::model::{Fate, ModelAccount, ModelUsage};

#[derive(Debug, Clone)]
enum Step {
    Issue {
        source: usize,
        amount: usize,
        begins_in: i64,
        lasts: Option<i64>,
    },
    Charge(ChargeStep),
    Expire,
    Revoke,
    /// Of the charges that were not voided before one, counted from the last.
    Void {
        ago: usize,
    },
}

#[derive(Debug, Clone)]
struct ChargeStep {
    cost: usize,
    began_ago: i64,
    received_ago: i64,
    is_captured: bool,
    absorbs_past_grace: bool,
}

impl ChargeStep {
    const GRACE: i64 = 3;

    fn charge_instant(&self, now: i64) -> i64 {
        now - self.received_ago - self.began_ago
    }

    fn event(&self, number: u128, now: i64) -> EventCost {
        let cost = i64::try_from(self.cost).unwrap();
        let event = event(cost, self.charge_instant(now), now - self.received_ago);
        let cause = Cause { kind: CauseKind::Usage, id: Uuid::from_u128(number) };
        let past_grace = if self.absorbs_past_grace { LateUsage::Absorb } else { LateUsage::Current };
        let late = LateRules { grace: Duration::seconds(Self::GRACE), past_grace };
        EventCost { is_captured: self.is_captured, late, cause, ..event }
    }

    fn for_model(&self, now: i64) -> ModelUsage {
        ModelUsage {
            charge_instant: self.charge_instant(now),
            received: now - self.received_ago,
            is_captured: self.is_captured,
            grace: Self::GRACE,
            absorbs_past_grace: self.absorbs_past_grace,
        }
    }
}

/// The step, how many seconds after the one before, and whether the account is written after it.
fn steps() -> impl Strategy<Value = Vec<(i64, bool, Step)>> {
    let issue = (0usize..6, 0usize..12, -3i64..3, prop::option::weighted(0.8, 1i64..12))
        .prop_map(|(source, amount, begins_in, lasts)| Step::Issue { source, amount, begins_in, lasts });
    let charge = (0usize..20, 0i64..6, 0i64..4, any::<bool>(), prop::bool::weighted(0.2)).prop_map(
        |(cost, began_ago, received_ago, is_captured, absorbs_past_grace)| {
            Step::Charge(ChargeStep { cost, began_ago, received_ago, is_captured, absorbs_past_grace })
        },
    );
    let void = (0usize..3).prop_map(|ago| Step::Void { ago });
    let step =
        prop_oneof![4 => issue, 6 => charge, 3 => Just(Step::Expire), 1 => Just(Step::Revoke), 3 => void];
    // Time passes, stands, or goes back by a little: who gets the lock first is chance.
    prop::collection::vec((-2i64..5, any::<bool>(), step), 1..40)
}

/// The step of the charge that a step voids, in the order of the steps, if there is one left.
fn voided_steps(steps: &[(i64, bool, Step)]) -> Vec<Option<u128>> {
    let mut charges = Vec::new();
    let mut voided = Vec::new();
    for ((_, _, step), number) in steps.iter().zip(1..) {
        voided.push(match step {
            Step::Charge(_) => {
                charges.push(number);
                None
            }
            Step::Void { ago } if *ago < charges.len() => Some(charges.remove(charges.len() - 1 - ago)),
            _ => None,
        });
    }
    voided
}

/// The transfers that charged the event of a step.
fn charged_by(number: u128, history: &[Transfer], account: &Account) -> Vec<Transfer> {
    let since = account.journal().iter().map(|posted| &posted.transfer);
    let cause = Cause { kind: CauseKind::Usage, id: Uuid::from_u128(number) };
    history.iter().chain(since).filter(|transfer| transfer.cause == cause).cloned().collect()
}

fn void(account: &mut Account, number: u128, history: &[Transfer], now: i64) -> Voided {
    let charged = charged_by(number, history, account);
    let event = Uuid::from_u128(number);
    account.void(&Void { event, charged: &charged }, after(now)).unwrap()
}

/// Does one step to the account, but a void; what a charge answered.
fn apply(account: &mut Account, step: &Step, number: u128, now: i64) -> Option<Charge> {
    match step {
        Step::Void { .. } => None,
        Step::Issue { source, amount, begins_in, lasts } => {
            let new = NewGrant {
                id: step_grant(number),
                source: GrantSource::ALL[*source],
                credits: credits(i64::try_from(*amount).unwrap()),
                effective_at: after(now + begins_in),
                expires_at: lasts.map(|lasts| after(now + begins_in + lasts)),
            };
            account.issue(new, cause(CauseKind::Purchase), after(now)).unwrap();
            None
        }
        Step::Charge(step) => Some(account.charge(&step.event(number, now), after(now)).unwrap()),
        Step::Expire => {
            account.expire(after(now)).unwrap();
            assert_eq!(account.expire(after(now)), Ok(vec![]), "twice is once");
            None
        }
        Step::Revoke => {
            account.revoke_the_plans(cause(CauseKind::Cancel), after(now)).unwrap();
            None
        }
    }
}

/// Ids in no order, so that they break ties against the order of issue.
fn step_grant(number: u128) -> GrantId {
    grant_id(number * 7_919 % 10_007)
}

fn apply_to_model(
    model: &mut ModelAccount,
    step: &Step,
    number: u128,
    now: i64,
) -> Option<Vec<Option<u128>>> {
    match step {
        Step::Issue { source, amount, begins_in, lasts } => {
            let (begins, ends) = (now + begins_in, lasts.map(|lasts| now + begins_in + lasts));
            if *amount > 0 {
                let id = step_grant(number).uuid().as_u128();
                model.issue(id, GrantSource::ALL[*source], *amount, (begins, ends), now);
            }
            None
        }
        Step::Charge(step) => Some(model.charge(step.cost, &step.for_model(now), now)),
        Step::Void { .. } => None,
        Step::Expire => {
            model.expire(now);
            None
        }
        Step::Revoke => {
            model.revoke_the_plans(now);
            None
        }
    }
}

/// A charge as the grant of each single Credit, `None` for overage.
fn one_by_one(charge: &Charge) -> Vec<Option<u128>> {
    let draws = charge.draws.iter().map(|draw| (Some(draw.grant.uuid().as_u128()), draw.credits));
    let with_overage = draws.chain([(None, charge.overage)]);
    with_overage.flat_map(|(grant, count)| (0..count.get()).map(move |_| grant)).collect()
}

/// The oldest charge instant of the transaction that begins with the first of these steps.
fn oldest_charge(steps: &[(i64, bool, Step)], mut now: i64) -> i64 {
    let mut oldest = i64::MAX / 2;
    for (passes, is_committed, step) in steps {
        now += passes;
        if let Step::Charge(step) = step {
            oldest = oldest.min(step.charge_instant(now));
        }
        if *is_committed {
            break;
        }
    }
    oldest.min(1_000_000)
}

/// The grants that had paid for what the transaction voids that begins with the first of these steps.
fn named_by_voids(
    steps: &[(i64, bool, Step)],
    voided: &[Option<u128>],
    history: &[Transfer],
) -> Vec<GrantId> {
    let mut named = Vec::new();
    for ((_, is_committed, _), voided) in steps.iter().zip(voided) {
        let of_event =
            history.iter().filter(|of| voided.is_some_and(|it| of.cause.id == Uuid::from_u128(it)));
        named.extend(of_event.filter_map(|transfer| transfer.grant));
        if *is_committed {
            break;
        }
    }
    named
}

proptest! {
    #[test]
    fn any_history_moves_the_credits_that_the_model_moves_and_replays_to_the_same_state(
        steps in steps()
    ) {
        let mut stored = Stored::empty();
        let mut oldest = oldest_charge(&steps, 0);
        let mut account = stored.load(oldest);
        let mut model = ModelAccount::new(0);
        let mut now = 0;
        let voided = voided_steps(&steps);
        let mut drawn_by: BTreeMap<u128, Vec<Option<u128>>> = BTreeMap::new();
        for (index, (passes, is_committed, step)) in steps.iter().enumerate() {
            now += passes;
            let number = u128::try_from(index).unwrap() + 1;
            let charge = apply(&mut account, step, number, now);
            let drawn = apply_to_model(&mut model, step, number, now);
            prop_assert_eq!(charge.as_ref().map(one_by_one), drawn.clone());
            drawn_by.extend(drawn.map(|drawn| (number, drawn)));
            if let Some(of) = voided[index] {
                let void = void(&mut account, of, &stored.history, now);
                let drawn = &drawn_by[&of];
                let spendable = model.void(drawn, now);
                let overage = drawn.iter().filter(|grant| grant.is_none()).count();
                let expected = [drawn.len() - overage, spendable, overage];
                let parts = [void.returned, void.spendable, void.overage];
                prop_assert_eq!(parts.map(|part| usize::try_from(part.get()).unwrap()), expected);
                prop_assert_eq!(void.version, account.version());
            }
            if let Some(charge) = charge {
                prop_assert_eq!(charge.version, account.version());
            }
            for instant in [now - 2, now, now + 5] {
                let available = usize::try_from(account.available(after(instant)).get()).unwrap();
                prop_assert_eq!(available, model.available(instant));
                let changes_at = account.valid_until(after(instant));
                let constant_to = changes_at.map_or(after(instant + 20), |at| at - Duration::seconds(1));
                prop_assert_eq!(account.available(after(instant)), account.available(constant_to));
            }
            if *is_committed {
                stored.write(&account);
                stored.check();
                // Who has written the account knows it as whoever reads it.
                let (mut known, read) = (account.clone(), stored.load(oldest));
                known.settle(after(oldest));
                prop_assert_eq!((&known.grants, known.version()), (&read.grants, read.version()));
                let rest = &steps[index + 1..];
                let named = named_by_voids(rest, &voided[index + 1..], &stored.history);
                oldest = oldest_charge(rest, now);
                account = stored.load_with(oldest, &named);
            }
        }
        stored.write(&account);
        stored.check();
        prop_assert_eq!(stored.books.overage, -i64::try_from(model.overage).unwrap());
        prop_assert_eq!(stored.grants.len(), model.grants.len());
        for expected in &model.grants {
            let grant = &stored.grants[&grant_id(expected.id)];
            let parts = [grant.spent, grant.expired, grant.revoked, grant.remaining()]
                .map(|part| usize::try_from(part.get()).unwrap());
            let [spent, expired, revoked] =
                [Fate::Spent, Fate::Expired, Fate::Revoked].map(|fate| expected.count(fate));
            prop_assert_eq!(parts, [spent, expired, revoked, expected.remaining()]);
        }
    }

    #[test]
    fn usage_costs_the_same_whether_or_not_the_expiry_was_booked_before(
        steps in steps(), is_booked in prop::collection::vec(any::<bool>(), 40)
    ) {
        // Given two accounts with one history, when one of them books expiries at other moments, then
        // every charge draws alike, and once all is booked both have the same books.
        let [mut now_and_then, mut rarely] = [Stored::empty().load(0), Stored::empty().load(0)];
        let mut now = 0;
        let voided = voided_steps(&steps);
        for (index, (passes, _, step)) in steps.iter().enumerate() {
            // Time stands or passes: an expiry is booked at the instant that a charge is recorded at.
            now += passes.max(&0);
            let number = u128::try_from(index).unwrap() + 1;
            if is_booked[index] {
                now_and_then.expire(after(now)).unwrap();
            }
            let charges = [&mut now_and_then, &mut rarely].map(|account| apply(account, step, number, now));
            let [first, second] = charges.map(|charge| charge.map(|it| (it.draws, it.overage, it.balance_after)));
            prop_assert_eq!(first, second);
            if let Some(of) = voided[index] {
                let voids = [&mut now_and_then, &mut rarely].map(|account| void(account, of, &[], now));
                let [first, second] = voids.map(|it| (it.returned, it.spendable, it.overage, it.balance_after));
                prop_assert_eq!(first, second);
            }
        }
        for account in [&mut now_and_then, &mut rarely] {
            account.expire(after(now)).unwrap();
        }
        prop_assert_eq!(now_and_then.books(), rarely.books());
    }

    #[test]
    fn a_book_never_leaves_its_range(moves in prop::collection::vec((0usize..6, 0usize..6, any::<u64>()), 1..20)) {
        let mut books = Books::default();
        for (debit, credit, amount) in moves {
            let amount = credits(i64::try_from(amount >> 11).unwrap());
            let before = books;
            if debit != credit && books.post(Book::ALL[debit], Book::ALL[credit], amount).is_err() {
                prop_assert_eq!(books, before);
            }
            prop_assert_eq!(books.sum(), 0);
            for book in Book::ALL {
                prop_assert!(books.of(book).abs() <= Credits::MAX.get());
            }
        }
    }
}
