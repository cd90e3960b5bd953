//! Pages of lists: how many, and from where on.
//!
//! A cursor is opaque: where the page before ended, and a digest over that, the tenant, the list and
//! whose list it is. So a cursor that was edited, or is another list's, another customer's or another
//! tenant's, is no cursor of this list (400 `invalid-cursor`). The digest is no secret: a client that
//! makes a cursor of its own can only begin somewhere else in its own list.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::Refusal;
use domain::id::TenantId;
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};
use utoipa::IntoParams;

use crate::wire::{Page, code};

const DIGEST_LENGTH: usize = 8;

/// How many items a page has: 1 to 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit(u32);

impl Default for Limit {
    fn default() -> Self {
        Limit(50)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_plain = text.bytes().all(|b| b.is_ascii_digit());
        let limit = text.parse().ok().filter(|limit| is_plain && (1..=200).contains(limit));
        limit.map(Limit).ok_or_else(|| serde::de::Error::custom(code::OUT_OF_RANGE))
    }
}

/// The query of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// How many items at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    pub(crate) limit: Limit,
    /// The `next_cursor` of the page before; the first page without.
    pub(crate) cursor: Option<String>,
}

/// One list, of which pages are asked for.
pub(crate) struct List<'a> {
    pub(crate) tenant: TenantId,
    /// What kind of list.
    pub(crate) kind: &'static str,
    /// Whose: a customer's id, or empty.
    pub(crate) owner: &'a str,
}

impl List<'_> {
    /// Where the page begins: after this position, or at the list's beginning.
    pub(crate) fn after<P: FromStr>(&self, cursor: Option<&str>) -> Result<Option<P>, Refusal> {
        let Some(cursor) = cursor else { return Ok(None) };
        let position = self.position(cursor).ok_or(Refusal::InvalidCursor)?;
        position.parse().map(Some).map_err(|_| Refusal::InvalidCursor)
    }

    fn position(&self, cursor: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (digest, position) = bytes.split_at_checked(DIGEST_LENGTH)?;
        (digest == self.digest(position)).then(|| String::from_utf8(position.to_vec()).ok())?
    }

    fn cursor(&self, position: &str) -> String {
        let mut bytes = self.digest(position.as_bytes()).to_vec();
        bytes.extend_from_slice(position.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn digest(&self, position: &[u8]) -> [u8; DIGEST_LENGTH] {
        let mut hasher = Sha256::new();
        hasher.update(self.tenant.uuid().as_bytes());
        for part in [self.kind.as_bytes(), self.owner.as_bytes(), position] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let mut digest = [0; DIGEST_LENGTH];
        digest.copy_from_slice(&hasher.finalize()[..DIGEST_LENGTH]);
        digest
    }

    /// The page out of `items`, of which one more than the limit was asked for: it tells whether
    /// another page follows.
    pub(crate) fn page<I, T: From<I>>(
        &self,
        mut items: Vec<I>,
        limit: Limit,
        position: impl Fn(&I) -> String,
    ) -> Page<T> {
        let page_length = limit.0 as usize;
        let has_more = items.len() > page_length;
        items.truncate(page_length);
        let next_cursor = items.last().filter(|_| has_more).map(|last| self.cursor(&position(last)));
        Page { data: items.into_iter().map(T::from).collect(), next_cursor }
    }
}

impl Limit {
    /// One more than the page has.
    pub(crate) fn and_one(self) -> u32 {
        self.0 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    use crate::body::read_query;

    fn list(tenant: u128, kind: &'static str, owner: &'static str) -> List<'static> {
        List { tenant: TenantId::from_uuid(Uuid::from_u128(tenant)), kind, owner }
    }

    #[test]
    fn a_cursor_leads_back_to_where_it_was_made() {
        let ledger = list(1, "ledger", "cus_1");
        let cursor = ledger.cursor("42");
        assert_eq!(ledger.after::<i64>(Some(&cursor)), Ok(Some(42)));
        assert_eq!(ledger.after::<i64>(None), Ok(None));
    }

    #[test]
    fn a_cursor_of_another_list_is_none() {
        let cursor = list(1, "ledger", "cus_1").cursor("42");
        for other in [
            list(2, "ledger", "cus_1"),
            list(1, "grants", "cus_1"),
            list(1, "ledger", "cus_2"),
            list(1, "ledger", ""),
            list(1, "ledgercus_1", ""),
        ] {
            assert_eq!(other.after::<i64>(Some(&cursor)), Err(Refusal::InvalidCursor), "{}", other.kind);
        }
    }

    #[test]
    fn an_edited_cursor_is_none() {
        let ledger = list(1, "ledger", "cus_1");
        let cursor = ledger.cursor("42");
        for at in 0..cursor.len() {
            let mut edited = cursor.clone().into_bytes();
            edited[at] = if edited[at] == b'A' { b'B' } else { b'A' };
            let edited = String::from_utf8(edited).unwrap();
            assert_eq!(ledger.after::<i64>(Some(&edited)), Err(Refusal::InvalidCursor), "{edited}");
        }
        for none in ["", "42", "AAAA", &cursor[1..], &format!("{cursor}="), "\u{fffd}", "' OR 1=1--"] {
            assert_eq!(ledger.after::<i64>(Some(none)), Err(Refusal::InvalidCursor), "{none:?}");
        }
    }

    #[test]
    fn a_page_has_a_next_one_where_there_is_more() {
        let ledger = list(1, "ledger", "cus_1");
        let page = |items: Vec<i64>| ledger.page::<i64, i64>(items, Limit(2), i64::to_string);
        let full = page(vec![1, 2, 3]);
        assert_eq!(full.data, [1, 2]);
        assert_eq!(ledger.after::<i64>(full.next_cursor.as_deref()), Ok(Some(2)));
        assert_eq!(page(vec![1, 2]).next_cursor, None);
        assert_eq!(page(vec![]).next_cursor, None);
    }

    #[test]
    fn a_limit_is_1_to_200() {
        let limit = |query: &str| read_query::<PageQuery>(query).map(|query| query.limit.0).ok();
        assert_eq!(limit(""), Some(50));
        assert_eq!(limit("limit=1"), Some(1));
        assert_eq!(limit("limit=200"), Some(200));
        for bad in ["0", "201", "1000000", "-1", "+1", "1.5", "", "x", "4294967297"] {
            assert_eq!(limit(&format!("limit={bad}")), None, "{bad}");
        }
    }
}
