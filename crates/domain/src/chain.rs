//! The hash chain over an account's transfers: an edited, removed or inserted row breaks it.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::account::Transfer;
use crate::id::{CustomerId, TenantId};

/// The SHA-256 that a transfer adds to its account's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link(pub [u8; 32]);

impl Link {
    /// What the first transfer follows.
    pub const START: Link = Link([0; 32]);

    /// The link of `transfer`, which follows the transfer with this one. The text is the same that the
    /// database's `transfer_link` makes.
    pub fn next(&self, tenant: TenantId, customer: CustomerId, transfer: &Transfer) -> Link {
        let Transfer { version, debit, credit, grant, credits, cause, event_time, recorded_at, reverses } =
            transfer;
        let mut hyphenated = Uuid::encode_buffer();
        let grant = grant.map_or("", |grant| grant.uuid().as_hyphenated().encode_lower(&mut hyphenated));
        let mut text = String::with_capacity(320);
        text.extend(self.0.into_iter().flat_map(hex));
        let _ = write!(
            text,
            "|{}|{}|{version}|{}|{}|{grant}|{}|{}|{}|{}|{}|{}",
            tenant.uuid(),
            customer.uuid(),
            debit.name(),
            credit.name(),
            credits.get(),
            cause.kind.name(),
            cause.id,
            event_time.timestamp_micros(),
            recorded_at.timestamp_micros(),
            reverses.map(|version| version.to_string()).unwrap_or_default(),
        );
        Link(Sha256::digest(text.as_bytes()).into())
    }
}

/// The two digits of a byte. Each charge makes a link, of thirty-two bytes: the formatter is not called for every one of them.
fn hex(byte: u8) -> [char; 2] {
    [byte >> 4, byte & 15].map(|digit| char::from(if digit < 10 { b'0' + digit } else { b'a' - 10 + digit }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Book, Cause, CauseKind};
    use crate::fixtures::{at, credits, grant_id};

    #[test]
    fn a_link_is_the_hash_of_a_text_that_anybody_can_write_down() {
        let (tenant, customer) =
            (TenantId::from_uuid(Uuid::from_u128(1)), CustomerId::from_uuid(Uuid::from_u128(2)));
        let transfer = Transfer {
            version: 1,
            debit: Book::Issued,
            credit: Book::Available,
            grant: Some(grant_id(3)),
            credits: credits(60_000_000),
            cause: Cause { kind: CauseKind::Purchase, id: Uuid::from_u128(4) },
            event_time: at("2026-01-31T10:00:00Z"),
            recorded_at: at("2026-01-31T10:00:00.000001Z"),
            reverses: None,
        };
        let before = "0123456789abcdef".repeat(4);
        let text = format!(
            "{before}|00000000-0000-0000-0000-000000000001|00000000-0000-0000-0000-000000000002|1|issued\
            |available|00000000-0000-0000-0000-000000000003|60000000|purchase\
            |00000000-0000-0000-0000-000000000004|1769853600000000|1769853600000001|"
        );
        let before = Link([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef].repeat(4).try_into().unwrap());
        let link = before.next(tenant, customer, &transfer);
        assert_eq!(link, Link(Sha256::digest(text.as_bytes()).into()));
        let other = Transfer { credits: credits(60_000_001), ..transfer };
        assert_ne!(before.next(tenant, customer, &other), link);
        assert_ne!(Link::START.next(tenant, customer, &transfer), link);
    }
}
