//! Sets and reads a tenant's credentials.

use db::Result;
use domain::id::TenantId;
use domain::{Refusal, TenantScope, Timestamp};
use stripe::{Secret, key_mode};

use crate::key::Place;
use crate::{ProviderAccounts, store};

/// As many as a rotation needs, and one that went wrong.
const SIGNING_SECRETS_MAX: usize = 3;

/// Credentials to set, instead of those before.
#[derive(Debug, Clone)]
pub struct NewCredentials {
    pub secret_key: String,
    /// Any one of them may have signed a webhook.
    pub signing_secrets: Vec<String>,
    /// The provider's id of the account, where its events name one.
    pub account: Option<String>,
}

/// What is shown of them: never a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountView {
    pub account: Option<String>,
    pub is_live: bool,
    pub signing_secrets: usize,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
}

/// Credentials, opened.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub secret_key: Secret,
    pub signing_secrets: Vec<Secret>,
    pub account: Option<String>,
    pub is_live: bool,
    /// Up to when, in real time, the provider's list of events was looked through.
    pub reread_until: Timestamp,
}

impl ProviderAccounts {
    /// Sets the tenant's credentials for Stripe. Refused: `invalid-field` for a key that is none or of the
    /// other mode than the tenant, for signing secrets that are none, too many or twice the same, and for an
    /// account id that is none. What is wrong with it is never repeated.
    pub async fn set_credentials(&self, scope: &TenantScope, new: NewCredentials) -> Result<AccountView> {
        let tenant = scope.tenant;
        let mode = key_mode(&new.secret_key)
            .filter(|mode| mode.fits(scope.mode))
            .ok_or_else(|| Refusal::invalid_field("/secret_key", "not-a-key-of-this-mode"))?;
        check_signing_secrets(&new.signing_secrets)?;
        check_account(new.account.as_deref())?;
        let secret_key = self.key.seal(&Secret::new(new.secret_key), tenant, Place::SecretKey)?;
        let signing_secrets = new
            .signing_secrets
            .into_iter()
            .map(|secret| self.key.seal(&Secret::new(secret), tenant, Place::SigningSecret))
            .collect::<Result<Vec<_>>>()?;
        let sealed = store::Sealed {
            account: new.account,
            is_live: mode == stripe::KeyMode::Live,
            secret_key,
            signing_secrets,
        };
        self.db.transaction(tenant, async |tx| store::set(tx, tenant, &sealed).await).await
    }

    /// What is set; `None` where nothing is.
    pub async fn view(&self, tenant: TenantId) -> Result<Option<AccountView>> {
        self.db.transaction(tenant, async |tx| store::view(tx, tenant).await).await
    }

    /// The credentials, opened; `None` where none are set.
    pub async fn credentials(&self, tenant: TenantId) -> Result<Option<Credentials>> {
        let found = self.db.transaction(tenant, async |tx| store::sealed(tx, tenant).await).await?;
        let Some((sealed, reread_until)) = found else { return Ok(None) };
        let open = |sealed: &Vec<u8>| self.key.open(sealed, tenant, Place::SigningSecret);
        Ok(Some(Credentials {
            secret_key: self.key.open(&sealed.secret_key, tenant, Place::SecretKey)?,
            signing_secrets: sealed.signing_secrets.iter().map(open).collect::<Result<_>>()?,
            account: sealed.account,
            is_live: sealed.is_live,
            reread_until,
        }))
    }

    /// The tenants that have credentials.
    pub async fn tenants_with_an_account(&self) -> Result<Vec<TenantId>> {
        self.db.all_tenants_transaction(async |tx| store::tenants_all_tenants(tx).await).await
    }

    /// Notes that the provider's list of events was looked through up to `until`, in real time. It never
    /// moves back.
    pub async fn note_reread(&self, tenant: TenantId, until: Timestamp) -> Result<()> {
        self.db.transaction(tenant, async |tx| store::note_reread(tx, tenant, until).await).await
    }
}

fn check_signing_secrets(secrets: &[String]) -> std::result::Result<(), Refusal> {
    if secrets.is_empty() || secrets.len() > SIGNING_SECRETS_MAX {
        return Err(Refusal::invalid_field("/signing_secrets", "wrong-number"));
    }
    for (position, secret) in secrets.iter().enumerate() {
        let pointer = format!("/signing_secrets/{position}");
        let is_secret = secret.starts_with("whsec_")
            && (16..=200).contains(&secret.len())
            && secret.bytes().all(|b| b.is_ascii_graphic());
        if !is_secret {
            return Err(Refusal::invalid_field(&pointer, "not-a-signing-secret"));
        }
        if secrets[..position].contains(secret) {
            return Err(Refusal::invalid_field(&pointer, "repeated"));
        }
    }
    Ok(())
}

fn check_account(account: Option<&str>) -> std::result::Result<(), Refusal> {
    let is_account = |account: &str| {
        account.strip_prefix("acct_").is_some_and(|rest| {
            (1..=100).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric())
        })
    };
    if account.is_none_or(is_account) {
        Ok(())
    } else {
        Err(Refusal::invalid_field("/account", "not-an-account"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_secrets_are_one_to_three_different_ones() {
        let check = |secrets: &[&str]| {
            check_signing_secrets(&secrets.iter().map(|secret| (*secret).to_owned()).collect::<Vec<_>>())
        };
        let (a, b) = ("whsec_aaaaaaaaaaaa", "whsec_bbbbbbbbbbbb");
        assert_eq!(check(&[a]), Ok(()));
        assert_eq!(check(&[a, b]), Ok(()));
        for bad in [
            &[][..],
            &[a, a],
            &[a, "short"],
            &["whsec_with a space"],
            &[a, b, "whsec_cccccccccccc", "whsec_dddddddddddd"],
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_account_is_written_as_stripe_writes_it() {
        for good in [None, Some("acct_1Abc")] {
            assert_eq!(check_account(good), Ok(()));
        }
        for bad in ["", "acct_", "acct_1/2", "1Abc"] {
            assert!(check_account(Some(bad)).is_err(), "{bad:?}");
        }
    }
}
