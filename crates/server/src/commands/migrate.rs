//! `tollgate migrate`

use crate::config;

/// Bring the database to the newest schema
///
/// Safe to run at any time, also twice at once. Needs a role that may create tables, and on the first
/// run the role tollgate_app, unless that role is there already.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    postgres: config::Postgres,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let applied = db::migrate(&args.postgres.database_url).await?;
    println!("{applied} migrations applied; the schema is the newest.");
    Ok(())
}
