//! The text of an API key: `tg_live_<prefix>_<secret>_<checksum>`, or `tg_test_...`.
//!
//! The prefix is public and finds the row. The secret has 256 random bits, so a plain SHA-256 of
//! the key is safe to store: nobody can try that many. The checksum tells a typing error from a
//! key that is not known, without a query.

use db::{Error, Result};
use domain::scope::TenantMode;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const PREFIX_LENGTH: usize = 16;
/// 43 of 62 characters: 256 bits.
const SECRET_LENGTH: usize = 43;
const CHECKSUM_LENGTH: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// How every API key begins.
pub(crate) const START: &str = "tg_";

/// A text that looks like a key.
pub(crate) struct ApiKey<'a> {
    pub(crate) mode: TenantMode,
    pub(crate) prefix: &'a str,
    checksum: &'a str,
    text: &'a str,
}

/// A new key; the text is shown once and never stored.
pub(crate) struct NewApiKey {
    pub(crate) prefix: String,
    pub(crate) text: String,
}

impl<'a> ApiKey<'a> {
    /// Takes a text apart; `None` if no key looks so.
    pub(crate) fn parse(text: &'a str) -> Option<ApiKey<'a>> {
        let (mode, rest) = [TenantMode::Live, TenantMode::Test]
            .into_iter()
            .find_map(|mode| Some((mode, text.strip_prefix(start_of(mode))?)))?;
        let mut parts = rest.split('_');
        let (prefix, secret, checksum) = (parts.next()?, parts.next()?, parts.next()?);
        let looks_so = parts.next().is_none()
            && is_random_text(prefix, PREFIX_LENGTH)
            && is_random_text(secret, SECRET_LENGTH)
            && checksum.len() == CHECKSUM_LENGTH;
        looks_so.then_some(ApiKey { mode, prefix, checksum, text })
    }

    /// Whether it was written by us, and not mistyped.
    pub(crate) fn has_right_checksum(&self) -> bool {
        let body = self.text.get(..self.text.len() - CHECKSUM_LENGTH - 1);
        body.is_some_and(|body| checksum_of(body) == self.checksum)
    }

    /// Whether this is the key of which `secret_sha256` was stored, in a time that does not tell.
    pub(crate) fn is_of(&self, secret_sha256: &[u8]) -> bool {
        digest_of(self.text).ct_eq(secret_sha256).into()
    }
}

impl NewApiKey {
    pub(crate) fn random(mode: TenantMode) -> Result<NewApiKey> {
        let prefix = random_text(PREFIX_LENGTH)?;
        let secret = random_text(SECRET_LENGTH)?;
        let body = format!("{}{prefix}_{secret}", start_of(mode));
        let text = format!("{body}_{}", checksum_of(&body));
        Ok(NewApiKey { prefix, text })
    }

    /// What is stored instead of the key.
    pub(crate) fn secret_sha256(&self) -> [u8; 32] {
        digest_of(&self.text)
    }
}

fn start_of(mode: TenantMode) -> &'static str {
    match mode {
        TenantMode::Live => "tg_live_",
        TenantMode::Test => "tg_test_",
    }
}

fn is_random_text(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn random_text(length: usize) -> Result<String> {
    let mut text = String::with_capacity(length);
    let mut bytes = [0; 64];
    while text.len() < length {
        getrandom::fill(&mut bytes).map_err(|error| Error::broken(format!("no random bytes: {error}")))?;
        // Bytes past the last multiple of 62 are dropped, so that every character is as likely.
        let drawn = bytes.iter().filter(|byte| **byte < 248).map(|byte| ALPHABET[usize::from(byte % 62)]);
        text.extend(drawn.take(length - text.len()).map(char::from));
    }
    Ok(text)
}

fn digest_of(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn checksum_of(body: &str) -> String {
    let digest = digest_of(body);
    let number = u32::from_be_bytes([0, digest[0], digest[1], digest[2]]);
    format!("{number:0CHECKSUM_LENGTH$x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_whole_text() {
        for mode in [TenantMode::Live, TenantMode::Test] {
            let new = NewApiKey::random(mode).unwrap();
            let other = NewApiKey::random(mode).unwrap();
            let parsed = ApiKey::parse(&new.text).unwrap();
            assert_eq!((parsed.mode, parsed.prefix), (mode, new.prefix.as_str()));
            assert!(parsed.is_of(&new.secret_sha256()));
            assert!(!parsed.is_of(&other.secret_sha256()));
            assert!(!parsed.is_of(&[]));
        }
    }

    #[test]
    fn every_changed_or_missing_character_shows() {
        let text = NewApiKey::random(TenantMode::Live).unwrap().text;
        let is_right = |text: &str| ApiKey::parse(text).is_some_and(|key| key.has_right_checksum());
        assert!(is_right(&text));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(!is_right(&changed), "{changed}");
            let missing = format!("{}{}", &text[..at], &text[at + 1..]);
            assert!(!is_right(&missing), "{missing}");
        }
        for bad in [
            "",
            "tg_",
            "tg_live_",
            "tg_live___",
            "tg_live_\u{e9}_\u{e9}_\u{e9}",
            &format!("{text}_"),
            &format!(" {text}"),
        ] {
            assert!(ApiKey::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_test_key_is_no_live_key() {
        let text = NewApiKey::random(TenantMode::Test).unwrap().text;
        let renamed = text.replacen("tg_test_", "tg_live_", 1);
        assert!(!ApiKey::parse(&renamed).unwrap().has_right_checksum());
    }
}
