//! `tollgate verify`

use std::process::ExitCode;

use audit::{Finding, What};
use domain::id::{CustomerId, TenantId};
use indicatif::{ProgressBar, ProgressStyle};

use crate::config;
use crate::wiring::{For, Services};

/// Check what is stored against every invariant, name what is wrong, and park the accounts concerned
///
/// Safe at any time: it looks at snapshots. A worker does this by itself each hour. A parked account
/// authorizes nothing and keeps its usage until `tollgate unpark` finds nothing wrong with it any more. Exits with 1
/// where something was found.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One tenant's id (ten_...); all tenants where left out
    #[arg(long)]
    tenant: Option<TenantId>,
    /// One customer's id (cus_...)
    #[arg(long, requires = "tenant")]
    customer: Option<CustomerId>,
    /// Leave one check out: the hash chain over the transfers, which a forger may have written anew
    #[arg(long, value_name = "CHECK", value_parser = ["chain"])]
    without: Option<String>,
    /// Print what is wrong and park nothing
    #[arg(long)]
    no_park: bool,
    #[command(flatten)]
    common: config::Common,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    config::start_logging()?;
    let services = Services::new(&args.common.settings()?, For::Checks)?;
    let audit = services.audit();
    let what = What { customer: args.customer, without_chain: args.without.is_some() };
    let tenants = match args.tenant {
        Some(tenant) => vec![tenant],
        None => services.tenants.list().await?.into_iter().map(|tenant| tenant.id).collect(),
    };
    let bar = spinner()?;
    let mut all = if args.customer.is_none() { audit.verify_installation().await? } else { Vec::new() };
    let mut parked = Vec::new();
    for tenant in &tenants {
        let scope = services.tenants.scope(*tenant).await?;
        let on_step = |step: &str| bar.set_message(format!("{tenant}: {step}"));
        let findings = audit.verify(&scope, what, &on_step).await?;
        if !args.no_park {
            let newly_parked = audit.park(&scope, &findings).await?;
            parked.extend(newly_parked.into_iter().map(|customer| (*tenant, customer)));
        }
        all.extend(findings);
    }
    bar.finish_and_clear();
    if all.is_empty() {
        println!("{} tenants verified, and nothing is wrong.", tenants.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", table(&all));
    println!("{} findings.", all.len());
    for (tenant, customer) in parked {
        println!("Parked. Once it is repaired: tollgate unpark --tenant {tenant} --customer {customer}");
    }
    Ok(ExitCode::FAILURE)
}

/// Turns on standard error, where it is a terminal.
pub(crate) fn spinner() -> anyhow::Result<ProgressBar> {
    let bar =
        ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}")?);
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    Ok(bar)
}

pub(crate) fn table(findings: &[Finding]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["", "tenant", "customer", "table", "row", "found", "expected"]);
    for finding in findings {
        let Finding { invariant, tenant, customer, table: in_table, key, found, expected, .. } = finding;
        table.add_row([
            invariant.to_string(),
            tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
            customer.map(|customer| customer.to_string()).unwrap_or_default(),
            in_table.clone(),
            key.clone(),
            found.clone(),
            expected.clone(),
        ]);
    }
    table
}
