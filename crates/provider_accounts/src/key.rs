//! The key that credentials are sealed with.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf;
use db::{Error, Result};
use domain::id::TenantId;
use stripe::Secret;

/// What the derived key is for: the installation's secret keys other things too.
const PURPOSE: &[u8] = b"tollgate provider credentials 1";

/// Seals what Stripe is called and answered with, as `webhooks` seals what we sign with.
pub struct CredentialKey(RandomizedNonceKey);

/// Where in a tenant's row a sealed secret belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    SecretKey,
    SigningSecret,
}

impl CredentialKey {
    /// Derives the key (HKDF-SHA256) from the installation's secret, at least 32 random bytes.
    pub fn derive(installation_secret: &[u8]) -> Result<CredentialKey> {
        let failed = |_| Error::broken("the credential key could not be derived");
        let mut key = [0; 32];
        hkdf::Salt::none(hkdf::HKDF_SHA256)
            .extract(installation_secret)
            .expand(&[PURPOSE], &AES_256_GCM)
            .and_then(|derived| derived.fill(&mut key))
            .map_err(failed)?;
        RandomizedNonceKey::new(&AES_256_GCM, &key).map(CredentialKey).map_err(failed)
    }

    /// The secret as it is stored: nonce, ciphertext, tag. It opens for this tenant and place only.
    pub(crate) fn seal(&self, secret: &Secret, tenant: TenantId, place: Place) -> Result<Vec<u8>> {
        let mut text = secret.reveal().as_bytes().to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(bound_to(tenant, place), &mut text)
            .map_err(|_| Error::broken("a credential could not be sealed"))?;
        Ok([nonce.as_ref().as_slice(), &text].concat())
    }

    pub(crate) fn open(&self, sealed: &[u8], tenant: TenantId, place: Place) -> Result<Secret> {
        let broken = || {
            Error::broken(format!("a credential of {tenant} does not open: another installation's secret?"))
        };
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or_else(broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
        let mut text = text.to_vec();
        let secret = self.0.open_in_place(nonce, bound_to(tenant, place), &mut text).map_err(|_| broken())?;
        String::from_utf8(secret.to_vec()).map(Secret::new).map_err(|_| broken())
    }
}

fn bound_to(tenant: TenantId, place: Place) -> Aad<[u8; 17]> {
    let mut bound = [0; 17];
    bound[..16].copy_from_slice(tenant.uuid().as_bytes());
    bound[16] = match place {
        Place::SecretKey => 1,
        Place::SigningSecret => 2,
    };
    Aad::from(bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_sealed_credential_opens_for_its_tenant_and_place_whole_and_with_its_key_only() {
        let tenant = |n| TenantId::from_uuid(Uuid::from_u128(n));
        let key = CredentialKey::derive(&[7; 32]).unwrap();
        let secret = Secret::new("sk_test_0123456789".to_owned());
        let sealed = key.seal(&secret, tenant(1), Place::SecretKey).unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"012345"));
        let again = CredentialKey::derive(&[7; 32]).unwrap();
        assert_eq!(again.open(&sealed, tenant(1), Place::SecretKey).unwrap(), secret);
        assert_ne!(key.seal(&secret, tenant(1), Place::SecretKey).unwrap(), sealed, "a nonce each");

        let other = CredentialKey::derive(&[8; 32]).unwrap();
        assert!(other.open(&sealed, tenant(1), Place::SecretKey).is_err());
        assert!(key.open(&sealed, tenant(2), Place::SecretKey).is_err());
        assert!(key.open(&sealed, tenant(1), Place::SigningSecret).is_err());
        assert!(key.open(&sealed[..sealed.len() - 1], tenant(1), Place::SecretKey).is_err());
        assert!(key.open(&[], tenant(1), Place::SecretKey).is_err());
    }
}
