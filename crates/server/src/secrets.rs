//! The secrets, read from files that nobody else may read.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail, ensure};

/// What signs balances and customers' tokens.
pub(crate) struct Secrets {
    /// Keys the MAC over projected balances.
    pub(crate) balance_secret: Vec<u8>,
    /// Ed25519, PKCS#8, PEM.
    pub(crate) token_key_pem: String,
}

const SECRET_BYTES_MIN: usize = 32;

impl Secrets {
    /// Refuses files that are missing, too short, or readable by everybody. Says which, never what
    /// is in them.
    pub(crate) fn read(secret_file: &Path, token_key_file: &Path) -> anyhow::Result<Secrets> {
        let balance_secret = read_private(secret_file)?;
        ensure!(
            balance_secret.len() >= SECRET_BYTES_MIN,
            "{} holds fewer than {SECRET_BYTES_MIN} bytes",
            secret_file.display()
        );
        let first = balance_secret[0];
        ensure!(
            balance_secret.iter().any(|byte| *byte != first),
            "{} holds one byte over and over, not a secret",
            secret_file.display()
        );
        let token_key_pem = String::from_utf8(read_private(token_key_file)?)
            .map_err(|_| anyhow::anyhow!("{} is not text", token_key_file.display()))?;
        Ok(Secrets { balance_secret, token_key_pem })
    }

    /// Reads the secrets of a development folder, making those that are missing.
    pub(crate) fn read_or_make(dir: &Path) -> anyhow::Result<Secrets> {
        let (secret_file, token_key_file) = (dir.join("secret"), dir.join("token-key.pem"));
        if !secret_file.exists() {
            let mut secret = [0; SECRET_BYTES_MIN];
            getrandom::fill(&mut secret).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
            write_private(&secret_file, &secret)?;
        }
        if !token_key_file.exists() {
            write_private(&token_key_file, tenants::TokenKey::generate()?.as_bytes())?;
        }
        Secrets::read(&secret_file, &token_key_file)
    }
}

/// What a file holds that not everybody may read.
pub(crate) fn read_private(file: &Path) -> anyhow::Result<Vec<u8>> {
    let metadata = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?;
    if metadata.permissions().mode() & 0o007 != 0 {
        bail!("{} can be read by everybody; chmod 600 it", file.display());
    }
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut opened = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("cannot write {}", file.display()))?;
    opened.write_all(content).with_context(|| format!("cannot write {}", file.display()))
}
