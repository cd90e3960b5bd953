//! `tollgate openapi`

use std::path::PathBuf;

use anyhow::Context;

/// Print the OpenAPI document, or write it to a file
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write it to this file instead
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let mut document = api::openapi().to_pretty_json()?;
    document.push('\n');
    match args.out {
        Some(file) => {
            std::fs::write(&file, document).with_context(|| format!("cannot write {}", file.display()))
        }
        None => {
            print!("{document}");
            Ok(())
        }
    }
}
