//! Typed ids. Ours print as a prefix and 32 hex digits (`sub_0192...`); those that clients make
//! follow one published grammar. Two ids are equal only byte for byte.

use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Visitor;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Refusal;

/// A text that is not an id of the wanted type; callers answer it as they answer an unknown id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this type")]
pub struct MalformedId;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            pub const fn from_uuid(uuid: Uuid) -> Self {
                $name(uuid)
            }

            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}_{}", $prefix, self.0.simple())
            }
        }

        impl FromStr for $name {
            type Err = MalformedId;

            fn from_str(text: &str) -> Result<Self, MalformedId> {
                let hex = text
                    .strip_prefix($prefix)
                    .and_then(|rest| rest.strip_prefix('_'))
                    .filter(|hex| is_canonical_hex(hex))
                    .ok_or(MalformedId)?;
                Uuid::try_parse(hex).map($name).map_err(|_| MalformedId)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let form = concat!("not an id of the form ", $prefix, "_<32 hex digits>");
                deserializer.deserialize_str(OfText { otherwise: form, id: PhantomData })
            }
        }
    )+};
}

/// Reads an id from a text where it stands: no copy of it is made on the way.
struct OfText<Id> {
    /// What is said of a text that is none.
    otherwise: &'static str,
    id: PhantomData<Id>,
}

impl<Id: FromStr> Visitor<'_> for OfText<Id> {
    type Value = Id;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Id, E> {
        text.parse().map_err(|_| E::custom(self.otherwise))
    }
}

/// One spelling an id: 32 lower-case hex digits.
fn is_canonical_hex(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

ids! {
    /// A provider that sells token plans.
    TenantId = "ten";
    /// A tenant's API key (the row, never the secret).
    ApiKeyId = "key";
    /// A tenant's customer; also names the customer's credit account.
    CustomerId = "cus";
    SubscriptionId = "sub";
    /// Something bought: a first cycle, an upgrade, a renewal.
    PurchaseId = "pur";
    /// A locked upgrade price (R-14a).
    QuoteId = "quo";
    InvoiceId = "inv";
    /// One attempt to collect an invoice; also the idempotency key towards the payment provider.
    PaymentId = "pay";
    /// Money of a payment that goes back; also the idempotency key towards the payment provider.
    RefundId = "ref";
    /// A payment that the customer's bank wants back.
    DisputeId = "dsp";
    /// What is written for a refund as an invoice is for a purchase.
    CreditNoteId = "crn";
    GrantId = "gra";
    /// What an operator gave or took by hand.
    AdjustmentId = "adj";
    /// A run of a campaign.
    CampaignId = "cam";
    /// A run of the monthly rollover.
    RolloverId = "rol";
    /// A stored domain event.
    EventId = "evt";
    /// Where a tenant wants its events sent.
    EndpointId = "whe";
    /// A usage event that was not understood; of the event's own identity.
    QuarantineId = "qua";
}

/// An id made by a client: 1 to 128 of `[A-Za-z0-9._:-]`. Shared by its clones: a hold's goes to many hands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExternalId(Arc<str>);

impl ExternalId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ExternalId {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<Self, MalformedId> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
        let is_valid = (1..=128).contains(&text.len()) && text.bytes().all(allowed);
        is_valid.then(|| ExternalId(text.into())).ok_or(MalformedId)
    }
}

impl Serialize for ExternalId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ExternalId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let otherwise = "an id is 1 to 128 of [A-Za-z0-9._:-]";
        deserializer.deserialize_str(OfText { otherwise, id: PhantomData })
    }
}

impl std::fmt::Display for ExternalId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks a printable-ASCII text of 1 to `length_max` bytes, as an event's `source` and `id` are.
pub fn check_printable_ascii(text: &str, length_max: usize, pointer: &str) -> Result<(), Refusal> {
    let is_valid = (1..=length_max).contains(&text.len()) && text.bytes().all(|b| (0x21..=0x7e).contains(&b));
    if is_valid { Ok(()) } else { Err(Refusal::invalid_field(pointer, "not-printable-ascii")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let text = "sub_0192f0c1d2e37a4b8c9d0e1f2a3b4c5d";
        let id: SubscriptionId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        for bad in [
            "cus_0192f0c1d2e37a4b8c9d0e1f2a3b4c5d",
            "sub_0192F0C1D2E37A4B8C9D0E1F2A3B4C5D",
            "sub_0192f0c1-d2e3-7a4b-8c9d-0e1f2a3b4c5d",
            "sub_",
            "sub",
            "",
            "sub_0192f0c1d2e37a4b8c9d0e1f2a3b4c5\0",
        ] {
            assert_eq!(bad.parse::<SubscriptionId>(), Err(MalformedId), "{bad:?}");
        }
    }

    #[test]
    fn a_source_and_an_event_id_are_printable_ascii_of_their_length() {
        for good in ["x", "//gateway/eu-1?x=1#y", "!~", &"x".repeat(8)] {
            assert_eq!(check_printable_ascii(good, 8.max(good.len()), "/id"), Ok(()), "{good:?}");
        }
        for bad in ["", "caf\u{e9}", "a\tb", "a\0", "\u{7f}", "123456789"] {
            let refused = Err(Refusal::invalid_field("/id", "not-printable-ascii"));
            assert_eq!(check_printable_ascii(bad, 8, "/id"), refused, "{bad:?}");
        }
    }

    #[test]
    fn a_client_made_id_keeps_to_the_grammar() {
        assert!("req-1.2:3_A".parse::<ExternalId>().is_ok());
        for bad in ["", " a", "a b", "caf\u{e9}", "a/b", "\u{ff11}", "a\0"] {
            assert_eq!(bad.parse::<ExternalId>(), Err(MalformedId), "{bad:?}");
        }
        assert!("x".repeat(128).parse::<ExternalId>().is_ok());
        assert!("x".repeat(129).parse::<ExternalId>().is_err());
    }
}
