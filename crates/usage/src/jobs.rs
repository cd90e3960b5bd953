//! The jobs: the partitions of the coming months are opened ahead, and usage without a rate is charged once there
//! is one. Run twice they do no harm.

use db::Result;
use scheduler::{Handler, Slot, Tick, handler};
use tenants::Tenants;

use crate::{Usage, store};

/// Opens the partitions of usage: payload {slot}.
pub const OPEN_MONTHS: &str = "open_usage_months";
/// Looks for rates of usage that has none, where a catalogue was published: payload {slot}.
pub const RERATE: &str = "rerate_usage";

/// What the clock enqueues.
pub const TICKS: [Tick; 2] = [
    Tick { kind: OPEN_MONTHS, schedule: "0 17 * * * *", slot: Slot::Hour },
    Tick { kind: RERATE, schedule: "20 * * * * *", slot: Slot::Minute },
];

/// All kinds with their handlers.
pub fn handlers(usage: &Usage, tenants: &Tenants) -> Vec<(&'static str, Handler)> {
    let opening = usage.clone();
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
