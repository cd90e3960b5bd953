//! `tollgate rebuild`

use std::process::ExitCode;

use audit::Rebuilt;
use domain::id::TenantId;

use crate::commands::verify::spinner;
use crate::config;
use crate::wiring::{For, Services};

/// Recompute every balance from the transfers, print what differs, and write it
///
/// Books, and each grant's spent, expired, revoked and remaining. Nothing is written to an account whose transfers
/// are not whole: versions without a hole, an unbroken chain, a last one that the account knows. Exits with 1 where
/// something differs and was not written.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One tenant's id (ten_...); all tenants where left out
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Print what differs and write nothing
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    common: config::Common,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    config::start_logging()?;
    let services = Services::new(&args.common.settings()?, For::Checks)?;
    let audit = services.audit();
    let tenants = match args.tenant {
        Some(tenant) => vec![tenant],
        None => services.tenants.list().await?.into_iter().map(|tenant| tenant.id).collect(),
    };
    let bar = spinner()?;
    let mut left_over = false;
    for tenant in tenants {
        let scope = services.tenants.scope(tenant).await?;
        let on_step = |step: &str| bar.set_message(format!("{tenant}: {step}"));
        let rebuilt = audit.rebuild(&scope, args.check, &on_step).await?;
        bar.suspend(|| print(tenant, &rebuilt));
        left_over |= rebuilt.differences.iter().any(|differs| !rebuilt.written.contains(&differs.customer));
    }
    bar.finish_and_clear();
    Ok(if left_over { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(tenant: TenantId, rebuilt: &Rebuilt) {
    let Rebuilt { accounts, differences, written, projected, refused } = rebuilt;
    if !differences.is_empty() {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["customer", "table", "column", "stored", "recomputed"]);
        for differs in differences {
            table.add_row([
                differs.customer.to_string(),
                differs.table.clone(),
                differs.key.clone(),
                differs.stored.clone(),
                differs.recomputed.clone(),
            ]);
        }
        println!("{table}");
    }
    for (customer, why) in refused {
        println!("{customer} was not written: its transfers are not whole ({why}).");
    }
    println!(
        "{tenant}: {accounts} accounts recomputed, {} values differ, {} accounts written, {projected} projections loaded.",
        differences.len(),
        written.len()
    );
}
