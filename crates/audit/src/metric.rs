//! What is counted, for whoever watches (`/metrics`).

use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::finding::Finding;

const FINDINGS: &str = "tollgate_findings_total";
const PARKED_NOW: &str = "tollgate_accounts_parked";
const PARKED: &str = "tollgate_accounts_parked_total";
const RUNS: &str = "tollgate_verify_runs_total";
const FINISHED_AT: &str = "tollgate_verify_finished_at_seconds";

/// Says what each of them means; once a process.
pub fn describe() {
    describe_counter!(FINDINGS, "Rows found to break an invariant, by invariant");
    describe_gauge!(PARKED_NOW, "Accounts that are parked, as of the last verification");
    describe_counter!(PARKED, "Accounts that were parked by this process");
    describe_counter!(RUNS, "Tenants verified by this process, by result: clean, findings or failed");
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
    // More than a gauge can show exactly is as alarming as the most that it can.
    gauge!(PARKED_NOW).set(u32::try_from(accounts).unwrap_or(u32::MAX));
}

pub(crate) fn count_run(result: &'static str) {
    counter!(RUNS, "result" => result).increment(1);
    gauge!(FINISHED_AT).set(u32::try_from(chrono::Utc::now().timestamp()).unwrap_or(u32::MAX));
}
