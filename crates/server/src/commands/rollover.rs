//! `tollgate rollover`

use domain::TenantScope;
use domain::id::TenantId;
use indicatif::{ProgressBar, ProgressStyle};
use subscriptions::{BATCH, Charge, Migration, Next, PlannedRollover, Progress};

use crate::config;
use crate::wiring::{For, Services};

/// Close the cycles that are over and open the next ones, or print what that would do
///
/// Of one tenant or of all: expires what is left, opens the next cycles, invoices and collects them. A
/// worker does this by itself each minute. Safe to run at any time, also twice at once: each cycle is
/// closed once.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One tenant's id (ten_...); all tenants where left out
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Print what would happen and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: config::Common,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    config::start_logging()?;
    let services = Services::new(&args.common.settings()?, For::Jobs)?;
    let tenants = match args.tenant {
        Some(tenant) => vec![tenant],
        None => services.subscriptions.tenants_with_due_work().await?,
    };
    if tenants.is_empty() {
        println!("Nothing is due.");
    }
    for tenant in tenants {
        let scope = services.tenants.scope(tenant).await?;
        if args.dry_run {
            print_plan(&scope, &services.subscriptions.plan_rollover(&scope).await?);
        } else {
            roll_over(&services, &scope).await?;
        }
    }
    Ok(())
}

fn print_plan(scope: &TenantScope, planned: &[PlannedRollover]) {
    println!("{} at {}: {} cycles to close. Nothing is written.", scope.tenant, scope.now, planned.len());
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["subscription", "closes", "Credits expired", "carried over", "then"]);
    for plan in planned {
        let closes = format!("{} at {}", plan.closes.number, plan.closes.end.format("%F %T"));
        table.add_row([
            plan.subscription.to_string(),
            closes,
            plan.credits_expired.to_string(),
            plan.credits_carried.to_string(),
            describe(&plan.next),
        ]);
    }
    println!("{table}");
}

fn describe(next: &Next) -> String {
    match next {
        Next::Ends { reason } => format!("ends, {}", reason.name()),
        Next::Opens(opening) => {
            let skipped = match opening.skipped.len() {
                0 => String::new(),
                count => format!("{count} skipped, "),
            };
            let (number, end) = (opening.cycle.number, opening.cycle.end.format("%F %T"));
            let price = match opening.charge {
                Charge::Renewal(price) => format!("for {price}"),
                Charge::Paid => "paid with its year".to_owned(),
            };
            let migration = match opening.migration {
                None => String::new(),
                Some(Migration::From(before)) => {
                    format!(", moves from version {before} to {}", opening.catalog_version)
                }
                Some(Migration::NotSold) => ", not sold by the newest version: stays on its own".to_owned(),
            };
            format!("{skipped}{number} opens until {end}: {} {price}{migration}", opening.plan.code)
        }
    }
}

/// Rolls one tenant over, batch by batch, and says how far it is.
async fn roll_over(services: &Services, scope: &TenantScope) -> anyhow::Result<()> {
    let due = services.subscriptions.plan_rollover(scope).await?.len();
    let bar = ProgressBar::new(u64::try_from(due)?)
        .with_style(ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} cycles, {eta} left")?)
        .with_message(scope.tenant.to_string());
    let mut total = Progress::default();
    loop {
        let progress = services.subscriptions.roll_over(scope, BATCH).await?;
        if progress.is_zero() {
            break;
        }
        total.add(&progress);
        bar.set_position(u64::try_from(total.cycles_closed)?);
    }
    bar.finish_and_clear();
    println!(
        "{}: {} cycles closed, {} opened, {} skipped, {} subscriptions ended, {} Credits expired.",
        scope.tenant,
        total.cycles_closed,
        total.cycles_opened,
        total.cycles_skipped,
        total.subscriptions_ended,
        total.credits_expired
    );
    Ok(())
}
