//! Checks what is stored of a tenant, or of one customer, against the invariants.
//!
//! Each query, and each page of rows that is recomputed, runs on a snapshot of its own: it is about one
//! instant, so what others write meanwhile gives no false alarm, and no snapshot lives for longer than a
//! page. Memory is bounded by a page and by the findings.

use db::Result;
use domain::TenantScope;
use domain::id::CustomerId;
use uuid::Uuid;

use crate::finding::Finding;
use crate::recount::{Prices, check_cycle};
use crate::replay::Replay;
use crate::rerate::Rerate;
use crate::{Audit, store};

/// Rows a page.
const PAGE: i64 = 5_000;

/// What to check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct What {
    /// One customer; all where none.
    pub customer: Option<CustomerId>,
    /// Leaves the chain out: whoever forged a row may have forged the chain too, and every other check
    /// has to find it without.
    pub without_chain: bool,
}

/// Told what is being checked, as it begins.
pub type OnStep<'a> = &'a (dyn Fn(&str) + Send + Sync);

impl Audit {
    /// All that is wrong with a tenant, in the order of the invariants.
    pub async fn verify(&self, scope: &TenantScope, what: What, on_step: OnStep<'_>) -> Result<Vec<Finding>> {
        let (tenant, now) = (scope.tenant, scope.now);
        let mut findings = Vec::new();
        for check in store::OF_A_TENANT.into_iter().chain([store::LATE]) {
            if what.without_chain && check.name == store::I07_CHAIN_HEAD.name {
                continue;
            }
            on_step(&format!("{}, {}", check.invariant, check.name));
            let found = self
                .db
                .snapshot(tenant, async |tx| store::run(tx, tenant, check, what.customer, now).await)
                .await?;
            findings.extend(found);
        }
        findings.extend(self.replay(scope, what, on_step).await?);
        findings.extend(self.rerate(scope, what, on_step).await?);
        findings.extend(self.recount(scope, what, on_step).await?);
        findings.sort_by_key(|finding| finding.invariant);
        crate::metric::count_findings(&findings);
        Ok(findings)
    }

    /// What is wrong with the database as it is made, and rows of no tenant.
    pub async fn verify_installation(&self) -> Result<Vec<Finding>> {
        let now = chrono::Utc::now();
        let mut findings = Vec::new();
        for check in store::OF_THE_INSTALLATION {
            let found = async |tx: &mut db::Connection| store::run_all_tenants(tx, check, now).await;
            findings.extend(self.db.all_tenants_transaction(found).await?);
        }
        crate::metric::count_findings(&findings);
        Ok(findings)
    }

    /// I-5, I-7, I-10 and I-15 to I-17.
    async fn replay(&self, scope: &TenantScope, what: What, on_step: OnStep<'_>) -> Result<Vec<Finding>> {
        let tenant = scope.tenant;
        let mut replay = Replay::new(scope, !what.without_chain);
        let mut after = (Uuid::nil(), 0);
        let mut count = 0;
        loop {
            on_step(&format!("I-5 to I-17, {count} transfers replayed"));
            let (rows, terms) = self
                .db
                .snapshot(tenant, async |tx| {
                    let rows = store::transfers_page(tx, tenant, what.customer, after, PAGE).await?;
                    let mut customers: Vec<Uuid> = rows.iter().map(|row| row.customer_id).collect();
                    customers.dedup();
                    let terms = store::grant_terms(tx, tenant, &customers).await?;
                    Ok((rows, terms))
                })
                .await?;
            let Some(last) = rows.last() else { return Ok(replay.findings) };
            after = (last.customer_id, last.version);
            count += rows.len();
            replay.page(&rows, terms);
        }
    }

    /// I-14, and I-12 for the identities.
    async fn rerate(&self, scope: &TenantScope, what: What, on_step: OnStep<'_>) -> Result<Vec<Finding>> {
        let tenant = scope.tenant;
        let mut findings = Vec::new();
        let mut after = (Uuid::nil(), chrono::DateTime::UNIX_EPOCH, Uuid::nil());
        let mut count = 0;
        loop {
            on_step(&format!("I-14, {count} events rated again"));
            let (rows, published) = self
                .db
                .snapshot(tenant, async |tx| {
                    let rows = store::events_page(tx, tenant, what.customer, after, PAGE).await?;
                    Ok((rows, store::published(tx, tenant).await?))
                })
                .await?;
            let Some(last) = rows.last() else { return Ok(findings) };
            after = (last.customer_id, last.event_time, last.identity);
            count += rows.len();
            // Read after the page, so that it has every version that the page was rated by.
            let history = self.fresh_history(scope, &published).await?;
            let rerate = Rerate { tenant, history: &history, published: &published };
            findings.extend(rows.iter().flat_map(|row| rerate.check(row)));
            findings.truncate(usize::try_from(store::FINDINGS_MAX).unwrap_or(usize::MAX));
        }
    }

    /// I-18 for the bounds, and I-21.
    async fn recount(&self, scope: &TenantScope, what: What, on_step: OnStep<'_>) -> Result<Vec<Finding>> {
        let tenant = scope.tenant;
        let mut findings = Vec::new();
        let mut after = (Uuid::nil(), -1);
        on_step("I-18, cycles cut again");
        loop {
            let rows = self
                .db
                .snapshot(tenant, async |tx| store::cycles_page(tx, tenant, what.customer, after, PAGE).await)
                .await?;
            let Some(last) = rows.last() else { break };
            after = (last.subscription_id, last.number);
            findings.extend(rows.iter().filter_map(|row| check_cycle(tenant, row)));
        }
        on_step("I-21, purchases priced again");
        let published = self.db.snapshot(tenant, async |tx| store::published(tx, tenant).await).await?;
        let history = self.fresh_history(scope, &published).await?;
        let mut prices = Prices::new(scope, &history);
        let mut after = (Uuid::nil(), -1, 0);
        loop {
            let rows = self
                .db
                .snapshot(tenant, async |tx| {
                    store::purchases_page(tx, tenant, what.customer, after, PAGE).await
                })
                .await?;
            let Some(last) = rows.last() else { return Ok(findings) };
            after = (last.subscription_id, last.cycle_number, last.invoice_number);
            findings.extend(rows.iter().filter_map(|row| prices.check(row)));
        }
    }

    /// The tenant's catalogue with at least these versions: what is served from memory may be a second
    /// behind.
    async fn fresh_history(
        &self,
        scope: &TenantScope,
        published: &[(u32, domain::Timestamp)],
    ) -> Result<std::sync::Arc<domain::catalog::CatalogHistory>> {
        let history = self.catalogs.history(scope.tenant).await?;
        match published.last() {
            Some((latest, _)) if history.version(*latest).is_none() => {
                catalog::Catalogs::new(self.db.clone()).history(scope.tenant).await
            }
            Some(_) | None => Ok(history),
        }
    }
}
