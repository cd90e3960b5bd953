//! Work that is asked for at the same time, or while as many calls are under way as may be, shares the next call. No timer: a
//! call begins as soon as its task runs, with all that has come until then.
//!
//! What can share a call has one key, and makes a lane. Whoever puts something into a lane that nobody is about to take is
//! given a [`Caller`], and makes it call in a task of its own: so one that goes away breaks none of the others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What waits, by what can share a call.
#[derive(Debug)]
pub struct Lanes<Key, Item> {
    lanes: Mutex<HashMap<Key, Lane<Item>>>,
    calls_max: usize,
    items_a_call: usize,
}

#[derive(Debug)]
struct Lane<Item> {
    waiting: Vec<Item>,
    calls: usize,
    /// How many of them have taken nothing yet, and will take some of what waits.
    about_to_take: usize,
}

impl<Key: Copy + Eq + Hash, Item> Lanes<Key, Item> {
    /// `calls_max`: calls of a lane at the same time. `items_a_call`: the most that share one.
    pub fn new(calls_max: usize, items_a_call: usize) -> Arc<Lanes<Key, Item>> {
        Arc::new(Lanes { lanes: Mutex::default(), calls_max, items_a_call })
    }

    /// Puts an item among those that wait. Where nobody is about to take it, and one more may call, this is the caller.
    #[must_use]
    pub fn wait(self: &Arc<Self>, key: Key, item: Item) -> Option<Caller<Key, Item>> {
        let mut lanes = self.locked();
        let lane =
            lanes.entry(key).or_insert_with(|| Lane { waiting: Vec::new(), calls: 0, about_to_take: 0 });
        lane.waiting.push(item);
        let is_taken = lane.waiting.len() <= lane.about_to_take * self.items_a_call;
        if is_taken || lane.calls == self.calls_max {
            return None;
        }
        lane.calls += 1;
        lane.about_to_take += 1;
        Some(Caller { lanes: self.clone(), key, state: State::New })
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Key, Lane<Item>>> {
        // Each change is one push or one replacement: a panic elsewhere leaves the lanes whole.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of those that call for a lane, until nothing waits there any more. Where it is dropped before that, and no other is there,
/// so is what waits.
#[derive(Debug)]
pub struct Caller<Key: Copy + Eq + Hash, Item> {
    lanes: Arc<Lanes<Key, Item>>,
    key: Key,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has taken nothing yet.
    New,
    Calls,
    Left,
}

impl<Key: Copy + Eq + Hash, Item> Caller<Key, Item> {
    pub fn key(&self) -> Key {
        self.key
    }

    /// What the next call is for. None where nothing waits: this one has left then, in the same step, so that an item which
    /// comes right after finds a caller missing.
    pub fn next_or_leave(&mut self) -> Option<Vec<Item>> {
        let mut lanes = self.lanes.locked();
        let lane = lanes.get_mut(&self.key)?;
        if self.state == State::New {
            self.state = State::Calls;
            lane.about_to_take -= 1;
        }
        if lane.waiting.is_empty() {
            self.state = State::Left;
            lane.calls -= 1;
            if lane.calls == 0 {
                lanes.remove(&self.key);
            }
            return None;
        }
        let rest = lane.waiting.split_off(lane.waiting.len().min(self.lanes.items_a_call));
        Some(std::mem::replace(&mut lane.waiting, rest))
    }

    /// Everything that waits.
    pub fn take_all(&mut self) -> Vec<Item> {
        self.lanes
            .locked()
            .get_mut(&self.key)
            .map(|lane| std::mem::take(&mut lane.waiting))
            .unwrap_or_default()
    }
}

impl<Key: Copy + Eq + Hash, Item> Drop for Caller<Key, Item> {
    fn drop(&mut self) {
        if self.state == State::Left {
            return;
        }
        let mut lanes = self.lanes.locked();
        let Some(lane) = lanes.get_mut(&self.key) else { return };
        lane.calls -= 1;
        lane.about_to_take -= usize::from(self.state == State::New);
        let abandoned = (lane.calls == 0).then(|| lanes.remove(&self.key));
        // What an item does when it is dropped is its own business, and not for under the lock.
        drop(lanes);
        drop(abandoned);
    }
}

#[cfg(test)]
mod tests {
    use super::Lanes;

    #[test]
    fn what_waits_while_one_calls_shares_the_next_call() {
        let lanes = Lanes::new(1, 2);
        let mut caller = lanes.wait("a", 1).expect("the first one calls");
        assert_eq!(caller.next_or_leave(), Some(vec![1]));
        for item in 2..=4 {
            assert!(lanes.wait("a", item).is_none(), "one calls already");
        }
        assert_eq!(caller.next_or_leave(), Some(vec![2, 3]), "no more than two share a call");
        assert_eq!(caller.next_or_leave(), Some(vec![4]));
        assert_eq!(caller.next_or_leave(), None);
        assert!(lanes.wait("a", 5).is_some(), "nobody calls any more");
    }

    #[test]
    fn what_comes_at_the_same_time_shares_a_call_and_what_is_too_much_for_it_has_another() {
        let lanes = Lanes::new(3, 2);
        let mut first = lanes.wait("a", 1).expect("nobody is about to take it");
        assert!(lanes.wait("a", 2).is_none(), "the first takes it along");
        let mut second = lanes.wait("a", 3).expect("too much for one");
        assert_eq!(first.next_or_leave(), Some(vec![1, 2]));
        assert!(lanes.wait("a", 4).is_none(), "the second takes it along");
        assert_eq!(second.next_or_leave(), Some(vec![3, 4]));
        let _third = lanes.wait("a", 5).expect("both call");
        assert!(lanes.wait("a", 6).is_none() && lanes.wait("a", 7).is_none(), "no more than three call");
        assert_eq!(first.take_all(), vec![5, 6, 7]);
    }

    #[test]
    fn lanes_have_callers_of_their_own() {
        let lanes = Lanes::new(1, 64);
        let mut one = lanes.wait("a", 1).expect("none calls for a");
        let mut other = lanes.wait("b", 2).expect("none calls for b");
        assert_eq!(other.next_or_leave(), Some(vec![2]));
        assert_eq!(one.next_or_leave(), Some(vec![1]));
    }

    #[test]
    fn a_caller_that_is_dropped_leaves_its_items_to_the_others_or_drops_them() {
        let lanes = Lanes::new(2, 1);
        let item = std::sync::Arc::new(());
        let first = lanes.wait("a", item.clone()).expect("none calls");
        let second = lanes.wait("a", item.clone()).expect("one more may call");
        drop(first);
        assert_eq!(std::sync::Arc::strong_count(&item), 3, "both wait for the other caller");
        drop(second);
        assert_eq!(std::sync::Arc::strong_count(&item), 1, "nobody answers them");
        assert!(lanes.wait("a", item).is_some(), "a caller is missing again");
    }
}
