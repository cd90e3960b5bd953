//! Remembers the keys of live tenants for a moment, so that a request costs no query.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use domain::id::ApiKeyId;

use crate::Scope;
use crate::settings::Settings;

/// How long a revoked key may still be good in another process (A-14 allows 5 seconds).
const KEPT: Duration = Duration::from_secs(2);
/// From this age on one request at a time looks again, before all of them have to.
const RENEWED_FROM: Duration = Duration::from_secs(1);
/// When so many keys are kept, those past their time are thrown out.
const SWEEP_AT: usize = 10_000;

/// A key as it was stored when it was looked up.
#[derive(Debug, Clone)]
pub(crate) struct StoredKey {
    pub(crate) id: ApiKeyId,
    pub(crate) secret_sha256: Vec<u8>,
    pub(crate) scopes: Arc<[Scope]>,
    pub(crate) settings: Settings,
}

struct Entry {
    key: Arc<StoredKey>,
    found_at: Instant,
    is_renewed: AtomicBool,
}

#[derive(Default)]
pub(crate) struct KeyCache {
    by_prefix: Mutex<HashMap<String, Entry>>,
}

impl KeyCache {
    /// A key looked up lately; `None` asks the caller to look it up.
    pub(crate) fn get(&self, prefix: &str) -> Option<Arc<StoredKey>> {
        let entries = self.locked();
        let entry = entries.get(prefix)?;
        let age = entry.found_at.elapsed();
        let is_to_renew = age >= RENEWED_FROM && !entry.is_renewed.swap(true, Ordering::Relaxed);
        (age < KEPT && !is_to_renew).then(|| entry.key.clone())
    }

    pub(crate) fn put(&self, prefix: &str, key: Arc<StoredKey>, found_at: Instant) {
        let mut entries = self.locked();
        if entries.len() >= SWEEP_AT {
            entries.retain(|_, entry| entry.found_at.elapsed() < KEPT);
        }
        let entry = Entry { key, found_at, is_renewed: AtomicBool::new(false) };
        entries.insert(prefix.to_owned(), entry);
    }

    /// Looked up in vain: whatever was known of it is over.
    pub(crate) fn drop_prefix(&self, prefix: &str) {
        self.locked().remove(prefix);
    }

    pub(crate) fn forget(&self, id: ApiKeyId) {
        self.locked().retain(|_, entry| entry.key.id != id);
    }

    /// A panic elsewhere leaves the map whole: every change to it is one call.
    fn locked(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.by_prefix.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
