//! The names of the keys.

use std::collections::HashMap;

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
    /// What the keys of one account have in common: a cluster keeps them in one slot.
    fn tag(self) -> String {
        format!("{{{}:{}}}", self.tenant.uuid().simple(), self.customer.uuid().simple())
    }

    pub(crate) fn keys(self, epoch: Epoch) -> AccountKeys {
        AccountKeys { tag: self.tag(), epoch }
    }

    pub(crate) fn slot(self) -> Slot {
        Slot::for_key(self.tag())
    }
}

/// One account's keys in one epoch.
pub(crate) struct AccountKeys {
    tag: String,
    epoch: Epoch,
}

impl AccountKeys {
    pub(crate) fn balance(&self) -> String {
        format!("{}:balance:{}", self.tag, self.epoch.0)
    }

    pub(crate) fn live(&self) -> String {
        format!("{}:live:{}", self.tag, self.epoch.0)
    }

    pub(crate) fn floor(&self) -> String {
        format!("{}:floor:{}", self.tag, self.epoch.0)
    }

    pub(crate) fn holds(&self) -> String {
        format!("{}:holds:{}", self.tag, self.epoch.0)
    }

    pub(crate) fn kept(&self) -> String {
        format!("{}:kept:{}", self.tag, self.epoch.0)
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
const LAYOUT: u32 = 2;

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
    mac_key.sign("the marker's name")
}
