//! The jobs: the partitions of the coming months are opened ahead, and usage without a rate is charged once there
//! is one. Run twice they do no harm.

use db::Result;
use scheduler::{Handler, Slot, Tick, handler};
use tenants::Tenants;

use crate::{MonthsKept, Usage, store};

/// Opens the partitions of usage: payload {slot}.
pub const OPEN_MONTHS: &str = "open_usage_months";
/// Drops the months of usage that are old enough: payload {slot}.
pub const DROP_MONTHS: &str = "drop_usage_months";
/// Looks for rates of usage that has none, where a catalogue was published: payload {slot}.
pub const RERATE: &str = "rerate_usage";

/// What the clock enqueues.
pub const TICKS: [Tick; 3] = [
    Tick { kind: OPEN_MONTHS, schedule: "0 17 * * * *", slot: Slot::Hour },
    Tick { kind: DROP_MONTHS, schedule: "0 37 * * * *", slot: Slot::Hour },
    Tick { kind: RERATE, schedule: "20 * * * * *", slot: Slot::Minute },
];

/// All kinds with their handlers. Usage is kept for ever without `months_kept`.
pub fn handlers(
    usage: &Usage,
    tenants: &Tenants,
    months_kept: Option<MonthsKept>,
) -> Vec<(&'static str, Handler)> {
    let (opening, dropping) = (usage.clone(), usage.clone());
    let (rating, tenants) = (usage.clone(), tenants.clone());
    vec![
        (
            OPEN_MONTHS,
            handler(move |_| {
                let usage = opening.clone();
                async move { usage.open_ahead().await }
            }),
        ),
        (
            DROP_MONTHS,
            handler(move |_| {
                let usage = dropping.clone();
                async move { usage.drop_old(months_kept).await }
            }),
        ),
        (
            RERATE,
            handler(move |_| {
                let (usage, tenants) = (rating.clone(), tenants.clone());
                async move { usage.rerate_all(&tenants).await }
            }),
        ),
    ]
}

impl Usage {
    async fn open_ahead(&self) -> Result<()> {
        let opened = self.open_months(chrono::Utc::now()).await?;
        if opened > 0 {
            tracing::info!(opened, "partitions of usage were opened");
        }
        Ok(())
    }

    async fn drop_old(&self, months_kept: Option<MonthsKept>) -> Result<()> {
        let Some(months_kept) = months_kept else { return Ok(()) };
        let dropped = self.drop_months(chrono::Utc::now(), months_kept).await?;
        if dropped > 0 {
            tracing::info!(dropped, "months of usage were dropped");
        }
        Ok(())
    }

    async fn rerate_all(&self, tenants: &Tenants) -> Result<()> {
        let due = self
            .parts
            .db
            .all_tenants_transaction(async |tx| store::tenants_to_rerate_all_tenants(tx).await)
            .await?;
        for tenant in due {
            let charged = self.rerate(&tenants.scope(tenant).await?).await?;
            tracing::info!(%tenant, events = charged.events, "usage that had no rate was charged");
        }
        Ok(())
    }
}
