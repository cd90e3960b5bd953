//! The peers that `pgbench` drives: pgledger's transfer function, and its own simple update.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::compare::Turn;
use crate::cpu::{Cpu, Processes};
use crate::store;
use crate::world::World;

const CLIENTS: &str = "32";
const THREADS: &str = "2";
/// Rows of the simple update: 100,000 a step.
const SCALE: &str = "20";
const PGLEDGER_ACCOUNTS: i64 = 10_000;
/// Between two different accounts at random.
const PGLEDGER_SCRIPT: &str = "\\set a random(1, 10000)\n\\set b 1 + (:a + random(0, 9998)) % 10000\n\
     select id from pgledger_create_transfer((select account from bench_accounts where n = :a),\n\
     (select account from bench_accounts where n = :b), 1);\n";

/// Something that pgbench runs.
pub(crate) struct Peer {
    url: String,
    script: Vec<String>,
    processes: Processes,
}

impl Peer {
    /// pgledger, out of these files, in a database of its own on the product's server.
    pub(crate) async fn pgledger(world: &World, files: &[PathBuf]) -> anyhow::Result<Peer> {
        let url = database(world, "pgledger").await?;
        let mut admin = store::connect(&url).await?;
        for file in files {
            let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            store::execute(&mut admin, &text).await.with_context(|| file.display().to_string())?;
        }
        store::make_pgledger_accounts(&mut admin, PGLEDGER_ACCOUNTS).await?;
        let script = world.write("pgledger.pgbench", PGLEDGER_SCRIPT)?;
        Ok(Peer { url, script: vec!["-f".to_owned(), script], processes: world.processes(None) })
    }

    /// pgbench's own tables and its script of three statements.
    pub(crate) async fn simple_update(world: &World) -> anyhow::Result<Peer> {
        let url = database(world, "pgbench").await?;
        run(&["-i", "-q", "-s", SCALE, &url])?;
        Ok(Peer { url, script: vec!["-N".to_owned()], processes: world.processes(None) })
    }

    /// Lets 32 clients run the script. The CPU time is the server's, without pgbench's own.
    pub(crate) fn take_turn(&self, window: Duration) -> anyhow::Result<Turn> {
        let seconds = window.as_secs().to_string();
        let mut arguments = vec!["-n", "-M", "prepared", "-c", CLIENTS, "-j", THREADS, "-T", &seconds];
        arguments.extend(self.script.iter().map(String::as_str));
        arguments.push(&self.url);
        let before = Cpu::now(self.processes)?;
        let output = run(&arguments)?;
        let cpu = Cpu::now(self.processes)?.since(before);
        let count = after(&output, "actually processed: ")?.parse()?;
        let per_second = after(&output, "tps = ")?.parse()?;
        Ok(Turn { per_second, ..Turn::new(count, window, cpu) })
    }
}

async fn database(world: &World, name: &str) -> anyhow::Result<String> {
    let mut admin = store::connect(&world.postgres_url("postgres")).await?;
    store::execute(&mut admin, &format!("create database {name}")).await?;
    Ok(world.postgres_url(name))
}

fn run(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("pgbench").args(arguments).output().context("cannot run pgbench")?;
    ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// The word that follows `label`.
fn after<'a>(output: &'a str, label: &str) -> anyhow::Result<&'a str> {
    let rest = output.split_once(label).map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split([' ', '/', '\n']).next())
        .with_context(|| format!("pgbench says no {label:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pgbench_says_how_much_it_did() {
        let output = "number of transactions actually processed: 2529/2600\nlatency average = 1 ms\n\
             tps = 1263.9 (without initial connection time)\n";
        assert_eq!(after(output, "actually processed: ").unwrap(), "2529");
        assert_eq!(after(output, "tps = ").unwrap(), "1263.9");
        assert!(after(output, "nothing of it").is_err());
    }
}
