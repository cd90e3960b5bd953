//! Charges usage that had no rate, once the catalogue has a line for it.

use db::{Error, Result};
use domain::{Refusal, TenantScope};
use uuid::Uuid;

use crate::charge_kept::{ChargedKept, WhyKept};
use crate::record::latest_version;
use crate::{Usage, store};

/// Customers that are looked up together.
const PAGE: i64 = 100;

impl Usage {
    /// Looks for a rate for all of a tenant's events that have none, where a version was published since that was
    /// last done; charges those that have one now. An account that is parked is left out: its usage is tried
    /// with the next version, or charged when it is un-parked.
    pub async fn rerate(&self, scope: &TenantScope) -> Result<ChargedKept> {
        let tenant = scope.tenant;
        let history = self.parts.catalogs.history(tenant).await?;
        let latest_version = latest_version(&history);
        let (mut sum, mut after) = (ChargedKept::default(), Uuid::nil());
        loop {
            let page = self
                .parts
                .db
                .transaction(tenant, async |tx| {
                    store::customers_without_rate(tx, tenant, latest_version, after, PAGE).await
                })
                .await?;
            let Some(last) = page.last() else { return Ok(sum) };
            after = last.uuid();
            for customer in page {
                match self.charge_all(scope, &history, customer, WhyKept::NoRate { latest_version }).await {
                    Ok(charged) => {
                        sum.events += charged.events;
                        sum.credits = sum.credits.plus(charged.credits)?;
                    }
                    Err(Error::Refused(Refusal::AccountParked)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
}
