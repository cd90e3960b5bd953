//! `tollgate unpark`

use std::process::ExitCode;

use audit::Unparked;
use domain::id::{CustomerId, TenantId};

use crate::commands::verify::table;
use crate::config;
use crate::wiring::{For, Services};

/// Let a parked account spend again, once nothing is wrong with it, and charge the usage that was kept
///
/// Verifies the account first, and refuses while anything is wrong: repair it, with `tollgate rebuild` where the
/// balances alone are wrong, or from a backup.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The tenant's id (ten_...)
    #[arg(long)]
    tenant: TenantId,
    /// The customer's id (cus_...)
    #[arg(long)]
    customer: CustomerId,
    #[command(flatten)]
    common: config::Common,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    config::start_logging()?;
    let services = Services::new(&args.common.settings()?, For::Checks)?;
    let scope = services.tenants.scope(args.tenant).await?;
    match services.audit().unpark(&scope, args.customer).await? {
        Unparked::Charged(kept) => {
            println!(
                "{} may spend again. {} events were charged, {} Credits.",
                args.customer, kept.events, kept.credits
            );
            Ok(ExitCode::SUCCESS)
        }
        Unparked::NotParked => {
            println!("{} is not parked.", args.customer);
            Ok(ExitCode::SUCCESS)
        }
        Unparked::StillDamaged(findings) => {
            println!("{}", table(&findings));
            anyhow::bail!("{} stays parked: {} findings", args.customer, findings.len())
        }
    }
}
