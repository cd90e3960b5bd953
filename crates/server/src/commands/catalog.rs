//! `tollgate catalog`

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use domain::Refusal;
use domain::catalog::{Catalog, CatalogDocument};
use domain::id::TenantId;

use crate::config;
use crate::wiring::{For, Services};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Check a catalogue file and say everything that is wrong with it; touches no database
    Check(Check),
    /// Publish a catalogue file as a tenant's next version; the same file again changes nothing
    Load(Box<Load>),
    /// Print the reference catalogue, to begin one's own from
    Reference,
}

#[derive(clap::Args)]
pub(crate) struct Check {
    /// A catalogue in TOML
    file: PathBuf,
}

#[derive(clap::Args)]
pub(crate) struct Load {
    /// A catalogue in TOML
    file: PathBuf,
    /// The tenant's id (ten_...)
    #[arg(long)]
    tenant: TenantId,
    /// When it comes into force (RFC 3339); now where left out
    #[arg(long, value_name = "INSTANT")]
    effective_at: Option<String>,
    #[command(flatten)]
    common: config::Common,
}

pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Check(args) => check(&args.file),
        Command::Load(args) => load(*args).await,
        Command::Reference => {
            print!("{}", catalog::REFERENCE);
            Ok(())
        }
    }
}

fn check(file: &Path) -> anyhow::Result<()> {
    let document = read(file)?;
    println!(
        "{} is a valid catalogue: {} plans, {} models.",
        file.display(),
        document.plans.len(),
        document.models.len()
    );
    Ok(())
}

/// Reads and checks a file; the error lists every problem.
fn read(file: &Path) -> anyhow::Result<CatalogDocument> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let checked =
        catalog::parse(&text).and_then(|document| Catalog::new(1, chrono::DateTime::UNIX_EPOCH, document));
    match checked {
        Ok(checked) => Ok(checked.document().clone()),
        Err(Refusal::InvalidCatalog { problems }) => {
            bail!("{} is not a valid catalogue:\n  {}", file.display(), problems.join("\n  "))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

async fn load(args: Load) -> anyhow::Result<()> {
    let document = read(&args.file)?;
    config::start_logging()?;
    let services = Services::new(&args.common.settings()?, For::Jobs)?;
    let now = services.tenants.scope(args.tenant).await?.now;
    let effective_at = match &args.effective_at {
        None => now,
        Some(text) => domain::time::parse_rfc3339(text)
            .with_context(|| format!("{text:?} is no RFC 3339 instant with a zone"))?,
    };
    let published = services.catalogs.publish(args.tenant, document, effective_at, now).await?;
    println!("Version {} is in force from {}.", published.version(), published.effective_at().to_rfc3339());
    Ok(())
}
