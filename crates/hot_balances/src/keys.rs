//! The names of the keys.

use std::collections::HashMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::id::{CustomerId, TenantId};
use redis::cluster_routing::Slot;

use crate::mac::MacKey;

/// A span of time in which Redis was up without a break, as the ledger counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub i64);

/// One account's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountKey {
    pub tenant: TenantId,
    pub customer: CustomerId,
}

impl AccountKey {
    /// What the names of one account's keys begin with: a cluster keeps them in one slot. Both ids in base64: so a balance's
    /// name is not longer than a line of the processor's cache, of which Redis has to fetch one for each account.
    pub fn tag(self) -> String {
        let mut tag = String::new();
        self.write_tag(&mut tag);
        tag
    }

    fn write_tag(self, name: &mut String) {
        name.push('{');
        URL_SAFE_NO_PAD.encode_string(self.tenant.uuid(), name);
        name.push(':');
        URL_SAFE_NO_PAD.encode_string(self.customer.uuid(), name);
        name.push('}');
    }

    /// The name of its balance in an epoch.
    pub(crate) fn balance(self, epoch: Epoch) -> String {
        let mut name = String::new();
        self.write_balance(epoch, &mut name);
        name
    }

    pub(crate) fn write_balance(self, epoch: Epoch, name: &mut String) {
        self.write_tag(name);
        // A `String` takes whatever is written.
        let _ = write!(name, ":balance:{}", epoch.0);
    }

    /// Of its other keys those that are read without a script.
    pub(crate) fn holds(self, epoch: Epoch) -> String {
        format!("{}:holds", self.balance(epoch))
    }

    pub(crate) fn live(self, epoch: Epoch) -> String {
        format!("{}:live", self.balance(epoch))
    }

    pub(crate) fn slot(self) -> Slot {
        Slot::for_key(self.tag())
    }
}

/// The keys that say which epoch Redis is in: one, or one in each slot of a cluster. Installations
/// that share a Redis tell them apart by their secrets.
pub(crate) enum Markers {
    One(String),
    PerSlot(HashMap<Slot, String>),
}

/// Which layout of keys the scripts of this version know. Servers of two versions have markers of their own: what one of
/// them has begun is lost to the other, and PostgreSQL decides for as long as both run. What a killed server of an earlier
/// version had granted and not recorded, no later one finds.
const LAYOUT: u32 = 6;

/// How many slots a cluster has.
const SLOTS: usize = 16_384;

impl Markers {
    pub(crate) fn one(mac_key: &MacKey) -> Markers {
        Markers::One(format!("tollgate:epoch:{LAYOUT}:{}", namespace(mac_key)))
    }

    pub(crate) fn per_slot(mac_key: &MacKey) -> Markers {
        let namespace = namespace(mac_key);
        let mut names = HashMap::with_capacity(SLOTS);
        // Numbers fall into slots like dice: after some 200,000 of them each slot has got one.
        for tag in 0_u64.. {
            if names.len() == SLOTS {
                break;
            }
            let slot = Slot::for_key(tag.to_string());
            names.entry(slot).or_insert_with(|| format!("tollgate:epoch:{LAYOUT}:{namespace}:{{{tag}}}"));
        }
        Markers::PerSlot(names)
    }

    /// The marker that goes with this account's keys.
    pub(crate) fn of(&self, account: AccountKey) -> &str {
        match self {
            Markers::One(name) => name,
            Markers::PerSlot(names) => &names[&account.slot()],
        }
    }

    /// What can share calls, as its accounts lie in one slot: on a single Redis all of it.
    pub(crate) fn by_slot<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        account: impl Fn(&T) -> AccountKey,
    ) -> impl Iterator<Item = Vec<T>> {
        let mut of_slots: HashMap<Option<Slot>, Vec<T>> = HashMap::new();
        for item in items {
            of_slots.entry(self.slot(account(&item))).or_default().push(item);
        }
        of_slots.into_values()
    }

    /// The account's slot, where that matters.
    pub(crate) fn slot(&self, account: AccountKey) -> Option<Slot> {
        match self {
            Markers::One(_) => None,
            Markers::PerSlot(_) => Some(account.slot()),
        }
    }
}

fn namespace(mac_key: &MacKey) -> String {
    format!("{:032x}", u128::from_be_bytes(mac_key.sign(&[b"the marker's name"])))
}
