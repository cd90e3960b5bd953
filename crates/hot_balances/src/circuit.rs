//! Leaves Redis alone for a moment after it was away, and remembers whom that concerned.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::{AWAY_PAUSE, AccountKey, Away};

#[derive(Default)]
pub(crate) struct Circuit {
    away_until: Mutex<Option<Instant>>,
    is_open: AtomicBool,
    stranded: Mutex<HashSet<AccountKey>>,
    has_stranded: AtomicBool,
}

impl Circuit {
    /// Refuses while the pause runs; after it, lets calls try again.
    pub(crate) fn check(&self) -> Result<(), Away> {
        if !self.is_open.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut away_until = lock(&self.away_until);
        match *away_until {
            Some(until) if Instant::now() < until => Err(Away("it was away a moment ago".to_owned())),
            _ => {
                *away_until = None;
                self.is_open.store(false, Ordering::Release);
                Ok(())
            }
        }
    }

    pub(crate) fn open(&self, why: String) -> Away {
        let mut away_until = lock(&self.away_until);
        if away_until.is_none() {
            tracing::warn!(why, "Redis is away; deciding in PostgreSQL");
        }
        *away_until = Some(Instant::now() + AWAY_PAUSE);
        self.is_open.store(true, Ordering::Release);
        Away(why)
    }

    pub(crate) fn strand(&self, account: AccountKey) {
        lock(&self.stranded).insert(account);
        self.has_stranded.store(true, Ordering::Release);
    }

    pub(crate) fn is_stranded(&self, account: AccountKey) -> bool {
        self.has_stranded.load(Ordering::Acquire) && lock(&self.stranded).contains(&account)
    }

    pub(crate) fn unstrand(&self, account: AccountKey) {
        let mut stranded = lock(&self.stranded);
        stranded.remove(&account);
        if stranded.is_empty() {
            self.has_stranded.store(false, Ordering::Release);
        }
    }
}

/// A panic elsewhere leaves these values whole: each is replaced in one step.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
