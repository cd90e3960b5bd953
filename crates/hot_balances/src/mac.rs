//! Tells a balance that Tollgate published from one that was set by hand.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

#[derive(Clone)]
pub(crate) struct MacKey(Hmac<Sha256>);

impl MacKey {
    pub(crate) fn new(secret: &[u8]) -> MacKey {
        // HMAC takes a key of any length: longer ones are hashed first.
        MacKey(Hmac::new_from_slice(secret).unwrap_or_else(|_| unreachable!("HMAC takes any key")))
    }

    /// The first 16 bytes, in hex.
    pub(crate) fn sign(&self, text: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(text.as_bytes());
        let mut first = [0; 16];
        first.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        format!("{:032x}", u128::from_be_bytes(first))
    }

    pub(crate) fn is_signed(&self, text: &str, signature: &str) -> bool {
        self.sign(text) == signature
    }
}
