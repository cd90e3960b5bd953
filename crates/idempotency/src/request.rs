//! A request's key and the fingerprint of what it asks.

use domain::Refusal;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The `Idempotency-Key` of a request, and a digest of the request itself: the same key may come
/// again only with the same request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    key: String,
    fingerprint: [u8; 32],
}

const KEY_LENGTH_MAX: usize = 255;

impl RequestKey {
    /// From the header, as far as it was sent, and the request. Method and path are compared as
    /// they are; of the body neither the order of keys nor the spaces matter. Refused with
    /// `idempotency-key-missing` or `idempotency-key-invalid`.
    pub fn new(header: Option<&str>, method: &str, path: &str, body: &Value) -> Result<RequestKey, Refusal> {
        let key = header.ok_or(Refusal::IdempotencyKeyMissing)?;
        let is_valid =
            (1..=KEY_LENGTH_MAX).contains(&key.len()) && key.bytes().all(|b| (0x21..=0x7e).contains(&b));
        if !is_valid {
            return Err(Refusal::IdempotencyKeyInvalid);
        }
        let mut hasher = Sha256::new();
        add_part(&mut hasher, method.as_bytes());
        add_part(&mut hasher, path.as_bytes());
        add_value(&mut hasher, body);
        Ok(RequestKey { key: key.to_owned(), fingerprint: hasher.finalize().into() })
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn fingerprint(&self) -> &[u8] {
        &self.fingerprint
    }
}

/// The length goes first, so that no two lists of parts give the same bytes.
fn add_part(hasher: &mut Sha256, part: &[u8]) {
    add_length(hasher, part.len());
    hasher.update(part);
}

fn add_length(hasher: &mut Sha256, length: usize) {
    // usize is at most 64 bits wide on every platform there is.
    hasher.update(u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
}

/// A tag for the kind of value, then its content; an object's members sorted by key.
fn add_value(hasher: &mut Sha256, value: &Value) {
    match value {
        Value::Null => hasher.update(b"0"),
        Value::Bool(flag) => hasher.update(if *flag { b"t" } else { b"f" }),
        Value::Number(number) => {
            hasher.update(b"n");
            add_part(hasher, number.to_string().as_bytes());
        }
        Value::String(text) => {
            hasher.update(b"s");
            add_part(hasher, text.as_bytes());
        }
        Value::Array(items) => {
            hasher.update(b"a");
            add_length(hasher, items.len());
            items.iter().for_each(|item| add_value(hasher, item));
        }
        Value::Object(members) => {
            hasher.update(b"o");
            add_length(hasher, members.len());
            // Sorted here, so that it holds whatever order the map keeps.
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| key.as_str());
            for (key, member) in members {
                add_part(hasher, key.as_bytes());
                add_value(hasher, member);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(method: &str, path: &str, body: &str) -> RequestKey {
        RequestKey::new(Some("k"), method, path, &serde_json::from_str(body).unwrap()).unwrap()
    }

    #[test]
    fn the_order_of_keys_and_the_spaces_do_not_matter() {
        assert_eq!(
            of("POST", "/v1/subscriptions", r#"{"plan":"lite","x":{"a":1,"b":[true,null]}}"#),
            of("POST", "/v1/subscriptions", r#" { "x": {"b":[true, null], "a":1}, "plan":"lite" } "#),
        );
    }

    #[test]
    fn anything_else_does() {
        let original = of("POST", "/v1/a", r#"{"plan":"lite","n":[1,2]}"#);
        for other in [
            of("PATCH", "/v1/a", r#"{"plan":"lite","n":[1,2]}"#),
            of("POST", "/v1/b", r#"{"plan":"lite","n":[1,2]}"#),
            of("POST", "/v1/a", r#"{"plan":"Lite","n":[1,2]}"#),
            of("POST", "/v1/a", r#"{"plan":"lite","n":[2,1]}"#),
            of("POST", "/v1/a", r#"{"plan":"lite","n":["1",2]}"#),
            of("POST", "/v1/a", r#"{"plan":"lite","n":[1],"2":null}"#),
            of("POST", "/v1/a", r#"{"plan":"lite"}"#),
            of("POST", "/v1/a", "null"),
            of("POST/v1", "/a", r#"{"plan":"lite","n":[1,2]}"#),
        ] {
            assert_ne!(original, other);
        }
    }

    #[test]
    fn a_key_is_1_to_255_printable_ascii() {
        let check = |header: Option<&str>| RequestKey::new(header, "POST", "/", &json!({})).map(|_| ());
        assert_eq!(check(None), Err(Refusal::IdempotencyKeyMissing));
        for bad in ["", " ", "a b", "a\t", "caf\u{e9}", "\u{7f}", &"k".repeat(256)] {
            assert_eq!(check(Some(bad)), Err(Refusal::IdempotencyKeyInvalid), "{bad:?}");
        }
        for good in ["k", "~!", &"k".repeat(255)] {
            assert_eq!(check(Some(good)), Ok(()), "{good:?}");
        }
    }
}
