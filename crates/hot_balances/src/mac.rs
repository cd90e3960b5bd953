//! Tells a balance that Tollgate published from one that was set by hand.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The first 16 bytes of what HMAC gives.
pub(crate) type Signature = [u8; 16];

#[derive(Clone)]
pub(crate) struct MacKey(Hmac<Sha256>);

impl MacKey {
    pub(crate) fn new(secret: &[u8]) -> MacKey {
        // HMAC takes a key of any length: longer ones are hashed first.
        MacKey(Hmac::new_from_slice(secret).unwrap_or_else(|_| unreachable!("HMAC takes any key")))
    }

    /// The parts of a message one after the other.
    pub(crate) fn sign(&self, message: &[&[u8]]) -> Signature {
        let mut signature = Signature::default();
        let length = signature.len();
        signature.copy_from_slice(&self.of(message).finalize().into_bytes()[..length]);
        signature
    }

    pub(crate) fn is_signed(&self, message: &[&[u8]], signature: &Signature) -> bool {
        self.of(message).verify_truncated_left(signature).is_ok()
    }

    fn of(&self, message: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in message {
            mac.update(part);
        }
        mac
    }
}
