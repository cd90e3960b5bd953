//! The configuration, from flags and the environment. Nobody else reads the environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use url::Url;
use webhooks::AllowList;

use crate::secrets::Secrets;

/// Where PostgreSQL is.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Postgres {
    /// PostgreSQL 15 or newer: postgres://user:password@host:port/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) database_url: String,
}

/// Where both stores are.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Stores {
    #[command(flatten)]
    pub(crate) postgres: Postgres,
    /// Redis 7 or newer, or Valkey: redis://:password@host:port, or redis-cluster://:password@host:port,host:port
    #[arg(long, env = "REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) redis_url: String,
}

/// The files that hold secrets. Never the secrets themselves: flags and the environment of a
/// process can be read by others.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct SecretFiles {
    /// A file of at least 32 random bytes: signs the balances in Redis, seals webhook secrets. The same on every server
    #[arg(long, env = "TOLLGATE_SECRET_FILE", value_name = "FILE")]
    pub(crate) secret_file: PathBuf,
    /// An Ed25519 private key (PKCS#8, PEM); signs customers' tokens. The same on every server
    #[arg(long, env = "TOLLGATE_TOKEN_KEY_FILE", value_name = "FILE")]
    pub(crate) token_key_file: PathBuf,
}

/// What every long-running or writing command needs.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Common {
    #[command(flatten)]
    pub(crate) stores: Stores,
    #[command(flatten)]
    pub(crate) secret_files: SecretFiles,
    /// Networks that webhooks may be sent to although they are not public: 10.1.0.0/16,127.0.0.1
    #[arg(long, env = "TOLLGATE_WEBHOOK_ALLOW", default_value = "", value_name = "NETWORKS")]
    pub(crate) webhook_allow: AllowList,
    #[command(flatten)]
    pub(crate) stripe: StripeApi,
}

/// Where Stripe's API is.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct StripeApi {
    /// Stripe's API, for tenants that have an account there; another address is for tests
    #[arg(long, env = "TOLLGATE_STRIPE_API", default_value = "https://api.stripe.com", value_name = "URL")]
    pub(crate) stripe_api: Url,
}

/// A configuration that has been read.
pub(crate) struct Settings {
    pub(crate) stores: Stores,
    pub(crate) secrets: Secrets,
    pub(crate) webhook_allow: AllowList,
    pub(crate) stripe_api: Url,
}

impl Common {
    /// Reads the secrets too.
    pub(crate) fn settings(self) -> anyhow::Result<Settings> {
        let SecretFiles { secret_file, token_key_file } = &self.secret_files;
        let secrets = Secrets::read(secret_file, token_key_file)?;
        let (webhook_allow, stripe_api) = (self.webhook_allow, self.stripe.stripe_api);
        Ok(Settings { stores: self.stores, secrets, webhook_allow, stripe_api })
    }
}

/// Where the API listens.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Listen {
    /// The address of the API; put a proxy with TLS before it
    #[arg(long, env = "TOLLGATE_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
}

/// Where what is counted can be read.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct MetricsListen {
    /// An address for /metrics (Prometheus), reached by whoever watches and nobody else; nothing is counted without
    #[arg(long, env = "TOLLGATE_METRICS_LISTEN", value_name = "ADDRESS")]
    pub(crate) metrics_listen: Option<SocketAddr>,
}

/// Servers of the user's own for `dev`: both, or neither.
pub(crate) fn own_servers() -> anyhow::Result<Option<(String, String)>> {
    match (std::env::var("DATABASE_URL"), std::env::var("REDIS_URL")) {
        (Ok(database_url), Ok(redis_url)) => Ok(Some((database_url, redis_url))),
        (Err(_), Err(_)) => Ok(None),
        _ => anyhow::bail!("set both DATABASE_URL and REDIS_URL to use your own servers, or neither"),
    }
}

/// Logs to standard error: text on a terminal, JSON otherwise. `RUST_LOG` chooses what; by default
/// warnings, and Tollgate's own notices.
pub(crate) fn start_logging() -> anyhow::Result<()> {
    use std::io::IsTerminal;
    use tracing_subscriber::EnvFilter;
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) => EnvFilter::try_new(directives).context("RUST_LOG is not a list of directives")?,
        // The HTTP parser would log every broken request of any client as an error of ours.
        Err(_) => EnvFilter::new("warn,tollgate=info,actix_http=off"),
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        logs.init();
    } else {
        logs.json().init();
    }
    Ok(())
}
