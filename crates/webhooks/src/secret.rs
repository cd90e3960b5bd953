//! An endpoint's signing secret: made, shown once, kept sealed, used.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{hkdf, hmac, rand};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use db::{Error, Result};
use domain::id::{EndpointId, EventId, TenantId};

const SECRET_BYTES: usize = 32;
const PREFIX: &str = "whsec_";
/// What the derived key is for: the installation's secret keys other things too.
const PURPOSE: &[u8] = b"tollgate webhook secrets 1";

/// The key that the endpoints' secrets are sealed with in the database.
pub struct WebhookKey(RandomizedNonceKey);

impl WebhookKey {
    /// Derives the key (HKDF-SHA256) from the installation's secret, at least 32 random bytes.
    pub fn derive(installation_secret: &[u8]) -> Result<WebhookKey> {
        let failed = |_| Error::broken("the webhook key could not be derived");
        let mut key = [0; 32];
        hkdf::Salt::none(hkdf::HKDF_SHA256)
            .extract(installation_secret)
            .expand(&[PURPOSE], &AES_256_GCM)
            .and_then(|derived| derived.fill(&mut key))
            .map_err(failed)?;
        RandomizedNonceKey::new(&AES_256_GCM, &key).map(WebhookKey).map_err(failed)
    }

    /// The secret as it is stored: nonce, ciphertext, tag. It opens in this row only.
    pub(crate) fn seal(&self, secret: &Secret, tenant: TenantId, endpoint: EndpointId) -> Result<Vec<u8>> {
        let mut text = secret.0.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(row(tenant, endpoint), &mut text)
            .map_err(|_| Error::broken("a webhook secret could not be sealed"))?;
        Ok([nonce.as_ref().as_slice(), &text].concat())
    }

    pub(crate) fn open(&self, sealed: &[u8], tenant: TenantId, endpoint: EndpointId) -> Result<Secret> {
        let broken = || {
            Error::broken(format!("the secret of {endpoint} does not open: another installation's secret?"))
        };
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or_else(broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
        let mut text = text.to_vec();
        let secret = self.0.open_in_place(nonce, row(tenant, endpoint), &mut text).map_err(|_| broken())?;
        (&*secret).try_into().map(Secret).map_err(|_| broken())
    }
}

/// The row that a sealed secret belongs to.
fn row(tenant: TenantId, endpoint: EndpointId) -> Aad<[u8; 32]> {
    let mut row = [0; 32];
    row[..16].copy_from_slice(tenant.uuid().as_bytes());
    row[16..].copy_from_slice(endpoint.uuid().as_bytes());
    Aad::from(row)
}

/// What an endpoint's messages are signed with.
pub(crate) struct Secret([u8; SECRET_BYTES]);

impl Secret {
    pub(crate) fn random() -> Result<Secret> {
        let mut secret = [0; SECRET_BYTES];
        rand::fill(&mut secret).map_err(|_| Error::broken("no random bytes"))?;
        Ok(Secret(secret))
    }

    /// As its owner gets to see it.
    pub(crate) fn text(&self) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(self.0))
    }

    /// The value of `webhook-signature`. `timestamp` is in seconds of real time since 1970.
    pub(crate) fn signature(&self, event: EventId, timestamp: i64, body: &str) -> String {
        signature(&self.0, &event.to_string(), timestamp, body)
    }
}

fn signature(secret: &[u8], id: &str, timestamp: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn tenant(n: u128) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(n))
    }

    fn endpoint(n: u128) -> EndpointId {
        EndpointId::from_uuid(Uuid::from_u128(n))
    }

    #[test]
    fn a_sealed_secret_opens_in_its_row_with_its_key_and_whole_only() {
        let key = WebhookKey::derive(&[7; 32]).unwrap();
        let secret = Secret::random().unwrap();
        let sealed = key.seal(&secret, tenant(1), endpoint(1)).unwrap();
        assert_eq!(sealed.len(), 60);
        assert!(!sealed.windows(8).any(|part| secret.0.windows(8).any(|plain| plain == part)));
        let again = WebhookKey::derive(&[7; 32]).unwrap();
        assert_eq!(again.open(&sealed, tenant(1), endpoint(1)).unwrap().0, secret.0);
        assert_ne!(key.seal(&secret, tenant(1), endpoint(1)).unwrap(), sealed, "a nonce each");

        let other = WebhookKey::derive(&[8; 32]).unwrap();
        assert!(other.open(&sealed, tenant(1), endpoint(1)).is_err());
        assert!(key.open(&sealed, tenant(2), endpoint(1)).is_err());
        assert!(key.open(&sealed, tenant(1), endpoint(2)).is_err());
        assert!(key.open(&sealed[..59], tenant(1), endpoint(1)).is_err());
        assert!(key.open(&[], tenant(1), endpoint(1)).is_err());
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert!(key.open(&flipped, tenant(1), endpoint(1)).is_err(), "byte {at}");
        }
    }

    /// Against the reference signer, over a body that is not ASCII.
    #[test]
    fn a_signature_is_the_one_of_standard_webhooks() {
        let secret = Secret::random().unwrap();
        let reference = standardwebhooks::Webhook::new(&secret.text()).unwrap();
        let event = EventId::from_uuid(Uuid::from_u128(1));
        for body in ["", "{}", "{\"name\":\"caf\u{e9}\"}"] {
            let expected = reference.sign(&event.to_string(), 1_731_705_121, body.as_bytes()).unwrap();
            assert_eq!(secret.signature(event, 1_731_705_121, body), expected);
        }
    }

    /// The example that the specification's own libraries are tested with.
    #[test]
    fn the_published_example_signs_to_the_published_signature() {
        let secret = BASE64_STANDARD.decode("plJ3nmyCDGBKInavdOK15jsl").unwrap();
        let body = r#"{"event_type":"ping","data":{"success":true}}"#;
        let signed = signature(&secret, "msg_loFOjxBNrRLzqYUf", 1_731_705_121, body);
        assert_eq!(signed, "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=");
    }
}
