//! The names of the keys.

use std::collections::HashMap;
use std::fmt::Write;

use domain::id::{CustomerId, TenantId};
use redis::cluster_routing::Slot;
use uuid::Uuid;

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
    /// What the keys of one account have in common: a cluster keeps them in one slot.
    fn tag(self) -> String {
        // Each request names its account: written without the detour of formatting, and with room for the rest of a key.
        let mut tag = String::with_capacity(128);
        let mut hex = Uuid::encode_buffer();
        tag.push('{');
        tag.push_str(self.tenant.uuid().simple().encode_lower(&mut hex));
        tag.push(':');
        tag.push_str(self.customer.uuid().simple().encode_lower(&mut hex));
        tag.push('}');
        tag
    }

    /// The name of its balance in an epoch.
    pub(crate) fn balance(self, epoch: Epoch) -> String {
        let mut name = self.tag();
        // A `String` takes whatever is written.
        let _ = write!(name, ":balance:{}", epoch.0);
        name
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
/// them has begun is lost to the other, and PostgreSQL decides for as long as both run.
const LAYOUT: u32 = 4;

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

    /// The account's slot, where that matters.
    pub(crate) fn slot(&self, account: AccountKey) -> Option<Slot> {
        match self {
            Markers::One(_) => None,
            Markers::PerSlot(_) => Some(account.slot()),
        }
    }
}

fn namespace(mac_key: &MacKey) -> String {
    format!("{:032x}", u128::from_be_bytes(mac_key.sign(b"the marker's name")))
}
