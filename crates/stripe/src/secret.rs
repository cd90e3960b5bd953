//! Keys and signing secrets, which are shown to nobody.

use domain::scope::TenantMode;

/// A secret text: a secret key of Stripe's, or what its webhooks are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// For a header, a MAC or a seal; never for a log.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a secret key says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyMode {
    Live,
    Test,
}

impl KeyMode {
    /// Whether a tenant of this mode may use it: test keys move no real money.
    pub fn fits(self, mode: TenantMode) -> bool {
        matches!((self, mode), (KeyMode::Live, TenantMode::Live) | (KeyMode::Test, TenantMode::Test))
    }
}

/// The mode of a secret or restricted key (`sk_test_...`, `rk_live_...`); `None` for what is none.
pub fn key_mode(key: &str) -> Option<KeyMode> {
    let rest = key.strip_prefix("sk_").or_else(|| key.strip_prefix("rk_"))?;
    let (mode, rest) = match rest.split_once('_')? {
        ("live", rest) => (KeyMode::Live, rest),
        ("test", rest) => (KeyMode::Test, rest),
        _ => return None,
    };
    let is_plain =
        (8..=240).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    is_plain.then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_its_mode() {
        assert_eq!(key_mode("sk_test_0123456789"), Some(KeyMode::Test));
        assert_eq!(key_mode("rk_live_0123456789"), Some(KeyMode::Live));
        for bad in [
            "",
            "sk_test_",
            "pk_test_0123456789",
            "sk_prod_0123456789",
            "sk_test_01234567\r\n",
            "whsec_0123456789",
        ] {
            assert_eq!(key_mode(bad), None, "{bad:?}");
        }
        assert!(KeyMode::Test.fits(TenantMode::Test) && !KeyMode::Test.fits(TenantMode::Live));
        assert!(KeyMode::Live.fits(TenantMode::Live) && !KeyMode::Live.fits(TenantMode::Test));
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret::new("sk_test_0123456789".to_owned())), "Secret(..)");
    }
}
