//! Batches of this server that share customers take turns. Their transactions would wait for each other's locks in any case;
//! but one that waits inside PostgreSQL has a connection meanwhile, and looks once more at each row that was written since it
//! began to wait.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::id::CustomerId;
use tokio::sync::Notify;

/// Whose turn it is.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    queue: Mutex<Queue>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    /// The numbers and customers of those that have their turn or wait for it, as they came.
    turns: Vec<(u64, BTreeSet<CustomerId>)>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'t> {
    turns: &'t Turns,
    number: u64,
}

impl Turns {
    /// Returns when none is left of those that came earlier and have a customer of these.
    pub(crate) async fn take(&self, customers: BTreeSet<CustomerId>) -> Turn<'_> {
        let turn = self.wait(customers);
        loop {
            // Listens before it looks: an end in between is heard.
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.queue().is_next(turn.number) {
                return turn;
            }
            ended.await;
        }
    }

    fn wait(&self, customers: BTreeSet<CustomerId>) -> Turn<'_> {
        let mut queue = self.queue();
        let number = queue.next;
        queue.next += 1;
        queue.turns.push((number, customers));
        Turn { turns: self, number }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Each change is one push or one removal: a panic elsewhere leaves the queue whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn is_next(&self, number: u64) -> bool {
        let Some(place) = self.turns.iter().position(|(other, _)| *other == number) else { return true };
        let (_, customers) = &self.turns[place];
        self.turns[..place].iter().all(|(_, earlier)| earlier.is_disjoint(customers))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.queue().turns.retain(|(number, _)| *number != self.number);
        self.turns.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use uuid::Uuid;

    use super::*;

    fn customers<const N: usize>(numbers: [u128; N]) -> BTreeSet<CustomerId> {
        numbers.map(|number| CustomerId::from_uuid(Uuid::from_u128(number))).into()
    }

    #[test]
    fn those_that_share_a_customer_go_one_after_the_other_and_others_at_once() {
        let turns = Turns::default();
        let first = turns.take(customers([1, 2])).now_or_never().expect("nobody came earlier");
        let mut second = Box::pin(turns.take(customers([2, 3])));
        assert!((&mut second).now_or_never().is_none(), "2 has the first");
        let other = turns.take(customers([4])).now_or_never().expect("none has 4");
        // Else those that came later could keep one waiting for ever.
        let mut third = Box::pin(turns.take(customers([3])));
        assert!((&mut third).now_or_never().is_none(), "3 is waited for by the second");

        drop(first);
        assert!((&mut third).now_or_never().is_none(), "the second comes before the third");
        let second = (&mut second).now_or_never().expect("the first has ended");
        drop(second);
        (&mut third).now_or_never().expect("the second has ended");
        drop(other);
    }

    #[test]
    fn one_that_is_given_up_while_it_waits_is_not_waited_for() {
        let turns = Turns::default();
        let _first = turns.take(customers([1])).now_or_never().expect("nobody came earlier");
        let mut second = Box::pin(turns.take(customers([1, 2])));
        assert!((&mut second).now_or_never().is_none());
        drop(second);
        turns.take(customers([2])).now_or_never().expect("only the first has its turn");
    }
}
