//! `tollgate provider`

use std::path::PathBuf;

use anyhow::{Context, bail};
use domain::Refusal;
use domain::id::TenantId;
use provider_accounts::NewCredentials;

use crate::config;
use crate::secrets::read_private;
use crate::wiring::{For, Services};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Set a tenant's credentials for Stripe, in place of those before
    Set(Set),
    /// Show a tenant's account, without its secrets
    Show(Show),
}

/// The secrets are read from files: flags and the environment of a process can be read by others.
#[derive(clap::Args)]
pub(crate) struct Set {
    /// The tenant's id (ten_...)
    #[arg(long)]
    tenant: TenantId,
    /// A file with the secret key (sk_... or rk_...), of the tenant's own mode
    #[arg(long, value_name = "FILE")]
    secret_key_file: PathBuf,
    /// A file with what Stripe signs webhooks with (whsec_...), one a line; up to 3 while one is being replaced
    #[arg(long, value_name = "FILE")]
    signing_secrets_file: PathBuf,
    /// Stripe's id of the account (acct_...), where its events name one
    #[arg(long)]
    account: Option<String>,
    #[command(flatten)]
    common: config::Common,
}

#[derive(clap::Args)]
pub(crate) struct Show {
    /// The tenant's id (ten_...)
    #[arg(long)]
    tenant: TenantId,
    #[command(flatten)]
    common: config::Common,
}

pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Set(args) => set(args).await,
        Command::Show(args) => show(args).await,
    }
}

fn services(common: config::Common) -> anyhow::Result<Services> {
    config::start_logging()?;
    Services::new(&common.settings()?, For::Jobs)
}

async fn set(args: Set) -> anyhow::Result<()> {
    let text = |file: &PathBuf| -> anyhow::Result<String> {
        String::from_utf8(read_private(file)?).map_err(|_| anyhow::anyhow!("{} is not text", file.display()))
    };
    let secret_key = text(&args.secret_key_file)?.trim().to_owned();
    let signing_secrets = text(&args.signing_secrets_file)?.split_whitespace().map(str::to_owned).collect();
    let services = services(args.common)?;
    let scope = services.tenants.scope(args.tenant).await?;
    let new = NewCredentials { secret_key, signing_secrets, account: args.account };
    match services.provider_accounts.set_credentials(&scope, new).await {
        Err(db::Error::Refused(Refusal::InvalidFields(fields))) => {
            let wrong = fields.iter().map(|field| format!("{}: {}", field.pointer, field.code));
            bail!("refused: {}", wrong.collect::<Vec<_>>().join(", "))
        }
        set => set?,
    };
    println!("Set. Have Stripe send its events to /v1/webhooks/stripe/{}.", args.tenant);
    Ok(())
}

async fn show(args: Show) -> anyhow::Result<()> {
    let services = services(args.common)?;
    let view = services.provider_accounts.view(args.tenant).await?;
    let view = view.with_context(|| format!("{} has no account at a payment provider", args.tenant))?;
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["provider", "mode", "account", "signing secrets", "changed"]);
    let mode = if view.is_live { "live" } else { "test" };
    let (secrets, changed) = (view.signing_secrets.to_string(), view.changed_at.to_rfc3339());
    table.add_row(["stripe".into(), mode.into(), view.account.unwrap_or_default(), secrets, changed]);
    println!("{table}");
    Ok(())
}
