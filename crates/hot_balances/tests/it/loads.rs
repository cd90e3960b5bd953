//! Loads, in whatever order the calls of several servers arrive.

use hot_balances::{FillHolds, Filled, Ticket};

use crate::support::{FIRST, Given, balance, new_account, on_one_redis_and_on_a_cluster};

on_one_redis_and_on_a_cluster! {
    whatever_the_order_no_balance_is_here_that_is_older_than_what_was_published
}

const SCHEDULES: u64 = 150;
const STEPS: u64 = 60;

/// Numbers that a seed decides.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// A load under way, and the revision that it has read, once it has.
struct Load {
    ticket: Ticket,
    read: Option<i64>,
}

/// What PostgreSQL has, and who is about to do what with it.
struct Around {
    committed: i64,
    /// The latest revision that its publisher knows to be told.
    published: i64,
    loads: Vec<Load>,
    taken: u32,
}

async fn whatever_the_order_no_balance_is_here_that_is_older_than_what_was_published(mut given: Given) {
    let mut taken = 0;
    for seed in 0..SCHEDULES {
        given.account = new_account();
        let mut dice = Dice(seed);
        let mut around = Around { committed: 1, published: 0, loads: Vec::new(), taken: 0 };
        for step in 0..STEPS {
            around.step(&given, &mut dice).await;
            let here = given.hot.peek(FIRST, &[given.account]).await.unwrap().remove(0);
            let revision = here.map_or(i64::MAX, |here| here.projection.revision);
            assert!(around.published <= revision, "seed {seed}, step {step}: {revision}");
        }
        // And it can be loaded after all that.
        let load = Load { ticket: given.begin_load(given.account).await, read: Some(around.committed) };
        assert_eq!(fill(&given, &load).await, Filled::Done, "seed {seed}");
        taken += around.taken;
    }
    assert!(taken > 300, "{taken} loads brought something");
}

impl Around {
    async fn step(&mut self, given: &Given, dice: &mut Dice) {
        match dice.below(16) {
            0..=1 => {
                let ticket = given.begin_load(given.account).await;
                self.loads.push(Load { ticket, read: None });
            }
            2..=5 if !self.loads.is_empty() => {
                let load = dice.below(self.loads.len());
                self.loads[load].read.get_or_insert(self.committed);
            }
            6..=9 if !self.loads.is_empty() => {
                // It stays: a call may come twice, and the second time much later.
                let load = &self.loads[dice.below(self.loads.len())];
                if load.read.is_some() && fill(given, load).await == Filled::Done {
                    self.taken += 1;
                }
            }
            10..=13 => {
                // Of several changes any may be told first, and what was told may be told again.
                self.committed += i64::try_from(dice.below(2)).unwrap();
                let revision = self.committed - i64::try_from(dice.below(3)).unwrap();
                if revision > 0 {
                    given.publish(&balance(revision, 1_000), &[]).await;
                    self.published = self.published.max(revision);
                }
            }
            14 => drop(given.hot.drop_projection(given.account, FIRST).await.unwrap()),
            15 => drop(given.redis::<i64>(&["DEL", &given.key("balance:1")]).await),
            _ => {}
        }
    }
}

async fn fill(given: &Given, load: &Load) -> Filled {
    let read = balance(load.read.unwrap_or_default(), 1_000);
    given.end_load(given.account, &load.ticket, &read, FillHolds::All(&[])).await
}
