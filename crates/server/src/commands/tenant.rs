//! `tollgate tenant`

use std::path::PathBuf;

use anyhow::Context;
use domain::id::{ApiKeyId, TenantId};
use domain::scope::TenantMode;
use tenants::{NewTenant, Scope};

use crate::config;
use crate::wiring::{For, Services};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Create a tenant: a company that sells token plans
    Create(Create),
    /// List the tenants
    List(List),
    /// Issue an API key; it is shown this once
    IssueKey(IssueKey),
    /// List a tenant's API keys, without their secrets
    Keys(Keys),
    /// Revoke an API key; no server accepts it 5 seconds later
    RevokeKey(RevokeKey),
}

#[derive(clap::Args)]
pub(crate) struct Create {
    #[arg(long)]
    name: String,
    /// A test tenant has a clock that can be set, and moves no real money
    #[arg(long, value_enum)]
    mode: Mode,
    /// IANA time zone that its cycles are cut in
    #[arg(long, default_value = "UTC", value_name = "ZONE")]
    zone: String,
    /// A JSON file of settings that differ from the rules' defaults
    #[arg(long, value_name = "FILE")]
    policies: Option<PathBuf>,
    #[command(flatten)]
    common: config::Common,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Mode {
    Live,
    Test,
}

#[derive(clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    common: config::Common,
}

#[derive(clap::Args)]
pub(crate) struct IssueKey {
    /// The tenant's id (ten_...)
    #[arg(long)]
    tenant: TenantId,
    /// What the key is for, to tell it from others
    #[arg(long)]
    name: String,
    /// read, usage, billing or admin; repeat it for several. admin includes the others
    #[arg(long = "scope", required = true, value_name = "SCOPE", value_parser = parse_scope)]
    scopes: Vec<Scope>,
    #[command(flatten)]
    common: config::Common,
}

fn parse_scope(name: &str) -> Result<Scope, String> {
    name.parse().map_err(|_| "one of: read, usage, billing, admin".to_owned())
}

#[derive(clap::Args)]
pub(crate) struct Keys {
    /// The tenant's id (ten_...)
    #[arg(long)]
    tenant: TenantId,
    #[command(flatten)]
    common: config::Common,
}

#[derive(clap::Args)]
pub(crate) struct RevokeKey {
    /// The tenant's id (ten_...)
    #[arg(long)]
    tenant: TenantId,
    /// The key's id (key_...)
    #[arg(long)]
    key: ApiKeyId,
    #[command(flatten)]
    common: config::Common,
}

pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create(args) => create(args).await,
        Command::List(args) => list(args).await,
        Command::IssueKey(args) => issue_key(args).await,
        Command::Keys(args) => keys(args).await,
        Command::RevokeKey(args) => revoke_key(args).await,
    }
}

fn services(common: config::Common) -> anyhow::Result<Services> {
    config::start_logging()?;
    Services::new(&common.settings()?, For::Jobs)
}

async fn create(args: Create) -> anyhow::Result<()> {
    let policies = match &args.policies {
        None => Default::default(),
        Some(file) => {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            serde_json::from_str(&text).with_context(|| format!("{} is not a policy file", file.display()))?
        }
    };
    let new = NewTenant {
        name: args.name,
        mode: match args.mode {
            Mode::Live => TenantMode::Live,
            Mode::Test => TenantMode::Test,
        },
        zone: args.zone.parse().map_err(|_| anyhow::anyhow!("{} is no IANA time zone", args.zone))?,
        policies,
    };
    println!("{}", services(args.common)?.tenants.create(new).await?);
    Ok(())
}

async fn list(args: List) -> anyhow::Result<()> {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["id", "name", "mode", "zone", "test clock"]);
    for tenant in services(args.common)?.tenants.list().await? {
        let mode = match tenant.mode {
            TenantMode::Live => "live",
            TenantMode::Test => "test",
        };
        let clock = tenant.clock_at.map(|at| at.to_rfc3339()).unwrap_or_default();
        table.add_row([tenant.id.to_string(), tenant.name, mode.into(), tenant.zone.name().into(), clock]);
    }
    println!("{table}");
    Ok(())
}

async fn issue_key(args: IssueKey) -> anyhow::Result<()> {
    let key = services(args.common)?.tenants.issue_key(args.tenant, &args.name, &args.scopes).await?;
    eprintln!("{} is shown this once:", key.id);
    println!("{}", key.secret);
    Ok(())
}

async fn keys(args: Keys) -> anyhow::Result<()> {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["id", "prefix", "name", "scopes", "created", "revoked"]);
    for key in services(args.common)?.tenants.keys(args.tenant).await? {
        let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.name()).collect();
        let revoked = key.revoked_at.map(|at| at.to_rfc3339()).unwrap_or_default();
        let created = key.created_at.to_rfc3339();
        table.add_row([key.id.to_string(), key.prefix, key.name, scopes.join(","), created, revoked]);
    }
    println!("{table}");
    Ok(())
}

async fn revoke_key(args: RevokeKey) -> anyhow::Result<()> {
    services(args.common)?.tenants.revoke_key(args.tenant, args.key).await?;
    println!("{} is revoked.", args.key);
    Ok(())
}
