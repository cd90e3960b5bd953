//! What is counted, for whoever watches (`/metrics`).

use ledger::Swept;
use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::finding::Finding;

const FINDINGS: &str = "tollgate_findings_total";
const PARKED_NOW: &str = "tollgate_accounts_parked";
const PARKED: &str = "tollgate_accounts_parked_total";
const RUNS: &str = "tollgate_verify_runs_total";
const PROJECTIONS: &str = "tollgate_projections";
const PROJECTIONS_WRONG: &str = "tollgate_projections_wrong_total";
const SWEPT_AT: &str = "tollgate_sweep_finished_at_seconds";
const FINISHED_AT: &str = "tollgate_verify_finished_at_seconds";

/// Says what each of them means; once a process.
pub fn describe() {
    describe_counter!(FINDINGS, "Rows found to break an invariant, by invariant");
    describe_gauge!(PARKED_NOW, "Accounts that are parked, as of the last verification");
    describe_counter!(PARKED, "Accounts that were parked by this process");
    describe_counter!(RUNS, "Tenants verified by this process, by result: clean, findings or failed");
    describe_gauge!(
        PROJECTIONS,
        "Accounts by what Redis had of them at the last sweep: right, absent, stale or wrong"
    );
    describe_counter!(PROJECTIONS_WRONG, "Projections that a sweep of this process found wrong and dropped");
    describe_gauge!(SWEPT_AT, "When this process last finished a sweep, in Unix time");
    describe_gauge!(FINISHED_AT, "When this process last finished to verify a tenant, in Unix time");
}

pub(crate) fn count_findings(findings: &[Finding]) {
    for finding in findings {
        counter!(FINDINGS, "invariant" => finding.invariant.to_string()).increment(1);
    }
}

pub(crate) fn count_parked(accounts: usize) {
    counter!(PARKED).increment(u64::try_from(accounts).unwrap_or(u64::MAX));
}

pub(crate) fn show_parked(accounts: i64) {
    gauge!(PARKED_NOW).set(shown(accounts));
}

pub(crate) fn show_swept(swept: &Swept) {
    let Swept { accounts, absent, stale, wrong } = *swept;
    let right = accounts.saturating_sub(absent).saturating_sub(stale).saturating_sub(wrong);
    for (what, count) in [("right", right), ("absent", absent), ("stale", stale), ("wrong", wrong)] {
        gauge!(PROJECTIONS, "state" => what).set(shown(count));
    }
    counter!(PROJECTIONS_WRONG).increment(wrong);
    gauge!(SWEPT_AT).set(shown(chrono::Utc::now().timestamp()));
}

/// More than a gauge shows exactly is as telling as the most that it can.
fn shown(count: impl TryInto<u32>) -> u32 {
    count.try_into().unwrap_or(u32::MAX)
}

pub(crate) fn count_run(result: &'static str) {
    counter!(RUNS, "result" => result).increment(1);
    gauge!(FINISHED_AT).set(shown(chrono::Utc::now().timestamp()));
}
