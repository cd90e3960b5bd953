//! The job: once a day, and when a worker starts, the partitions of the coming months are opened. Run twice it
//! does no harm.

use db::Result;
use scheduler::{Handler, Slot, Tick, handler};

use crate::Usage;

/// Opens the partitions of usage: payload {slot}.
pub const OPEN_MONTHS: &str = "open_usage_months";

/// What the clock enqueues.
pub const TICKS: [Tick; 1] = [Tick { kind: OPEN_MONTHS, schedule: "0 17 * * * *", slot: Slot::Hour }];

/// All kinds with their handlers.
pub fn handlers(usage: &Usage) -> Vec<(&'static str, Handler)> {
    let usage = usage.clone();
    let open = handler(move |_| {
        let usage = usage.clone();
        async move { usage.open_ahead().await }
    });
    vec![(OPEN_MONTHS, open)]
}

impl Usage {
    async fn open_ahead(&self) -> Result<()> {
        let opened = self.open_months(chrono::Utc::now()).await?;
        if opened > 0 {
            tracing::info!(opened, "partitions of usage were opened");
        }
        Ok(())
    }
}
